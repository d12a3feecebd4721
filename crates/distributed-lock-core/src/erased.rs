//! Erased types that implement the same traits, so that generic code takes them too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::background::BoxFuture;
use crate::error::{LockError, LockResult};
use crate::guarantees::Guarantees;
use crate::holder::Holder;
use crate::mode::Mode;
use crate::token::FencingToken;
use crate::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    Provider, ReaderWriterLockProvider, SemaphoreProvider,
};

type Acquired<'a> = BoxFuture<'a, LockResult<DynHandle>>;
type Tried<'a> = BoxFuture<'a, LockResult<Option<DynHandle>>>;

/// Any provider, chosen at run time. Clones share it.
#[derive(Clone)]
pub struct DynLockProvider(Arc<dyn ErasedProvider>);

impl DynLockProvider {
    /// Erases a provider's type.
    pub fn new(provider: impl Provider) -> Self {
        Self(Arc::new(provider))
    }
}

/// A mutex of any provider.
#[derive(Clone)]
pub struct DynLock(Arc<dyn ErasedLock>);

/// A reader-writer lock of any provider.
#[derive(Clone)]
pub struct DynReaderWriterLock(Arc<dyn ErasedReaderWriterLock>);

/// A semaphore of any provider.
#[derive(Clone)]
pub struct DynSemaphore(Arc<dyn ErasedSemaphore>);

/// A held lock of any provider.
#[must_use = "the lock is released as soon as its handle is dropped"]
pub struct DynHandle(Box<dyn ErasedHandle>);

impl DynHandle {
    fn new(handle: impl LockHandle) -> Self {
        Self(Box::new(handle))
    }
}

impl LockProvider for DynLockProvider {
    type Lock = DynLock;

    fn create_lock(&self, name: &str) -> DynLock {
        self.0.create_lock(name)
    }
}

impl ReaderWriterLockProvider for DynLockProvider {
    type Lock = DynReaderWriterLock;

    fn create_reader_writer_lock(&self, name: &str) -> DynReaderWriterLock {
        self.0.create_reader_writer_lock(name)
    }
}

impl SemaphoreProvider for DynLockProvider {
    type Semaphore = DynSemaphore;

    fn create_semaphore(&self, name: &str, max_count: u32) -> DynSemaphore {
        self.0.create_semaphore(name, max_count)
    }
}

impl Provider for DynLockProvider {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    async fn shutdown(&self) -> Vec<(String, LockError)> {
        self.0.shutdown().await
    }

    fn native_key(&self, name: &str) -> LockResult<String> {
        self.0.native_key(name)
    }

    async fn holder(&self, name: &str, mode: Mode) -> LockResult<Option<Holder>> {
        self.0.holder(name, mode).await
    }
}

impl DistributedLock for DynLock {
    type Handle = DynHandle;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn acquire(&self, timeout: Option<Duration>) -> LockResult<DynHandle> {
        self.0.acquire(timeout).await
    }

    async fn try_acquire(&self) -> LockResult<Option<DynHandle>> {
        self.0.try_acquire().await
    }
}

impl DistributedReaderWriterLock for DynReaderWriterLock {
    type ReadHandle = DynHandle;
    type WriteHandle = DynHandle;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn acquire_read(&self, timeout: Option<Duration>) -> LockResult<DynHandle> {
        self.0.acquire_read(timeout).await
    }

    async fn try_acquire_read(&self) -> LockResult<Option<DynHandle>> {
        self.0.try_acquire_read().await
    }

    async fn acquire_write(&self, timeout: Option<Duration>) -> LockResult<DynHandle> {
        self.0.acquire_write(timeout).await
    }

    async fn try_acquire_write(&self) -> LockResult<Option<DynHandle>> {
        self.0.try_acquire_write().await
    }
}

impl DistributedSemaphore for DynSemaphore {
    type Handle = DynHandle;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn max_count(&self) -> u32 {
        self.0.max_count()
    }

    async fn acquire(&self, timeout: Option<Duration>) -> LockResult<DynHandle> {
        self.0.acquire(timeout).await
    }

    async fn try_acquire(&self) -> LockResult<Option<DynHandle>> {
        self.0.try_acquire().await
    }
}

impl LockHandle for DynHandle {
    async fn release(self) -> LockResult<()> {
        self.0.release().await
    }

    fn lost_token(&self) -> &CancellationToken {
        self.0.lost_token()
    }

    fn is_lost(&self) -> bool {
        self.0.is_lost()
    }

    fn remaining(&self) -> Option<Duration> {
        self.0.remaining()
    }

    async fn fencing_token(&self) -> LockResult<FencingToken> {
        self.0.fencing_token().await
    }

    fn loss_reason(&self) -> Option<String> {
        self.0.loss_reason()
    }

    fn loss_signal(&self) -> &CancellationToken {
        self.0.loss_signal()
    }

    #[cfg(unix)]
    fn keep_alive_fd(&self) -> LockResult<Option<std::os::fd::OwnedFd>> {
        self.0.keep_alive_fd()
    }
}

macro_rules! debug_as {
    ($($type:ident: $show:expr),* $(,)?) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&$show(&*self.0)).finish()
            }
        }
    )*};
}

debug_as! {
    DynLockProvider: |provider: &dyn ErasedProvider| provider.guarantees(),
    DynLock: |lock: &dyn ErasedLock| lock.name().to_owned(),
    DynReaderWriterLock: |lock: &dyn ErasedReaderWriterLock| lock.name().to_owned(),
    DynSemaphore: |semaphore: &dyn ErasedSemaphore| semaphore.name().to_owned(),
    DynHandle: |handle: &dyn ErasedHandle| handle.is_lost(),
}

trait ErasedProvider: Send + Sync {
    fn create_lock(&self, name: &str) -> DynLock;
    fn create_reader_writer_lock(&self, name: &str) -> DynReaderWriterLock;
    fn create_semaphore(&self, name: &str, max_count: u32) -> DynSemaphore;
    fn guarantees(&self) -> Guarantees;
    fn shutdown(&self) -> BoxFuture<'_, Vec<(String, LockError)>>;
    fn native_key(&self, name: &str) -> LockResult<String>;
    fn holder<'a>(&'a self, name: &'a str, mode: Mode)
    -> BoxFuture<'a, LockResult<Option<Holder>>>;
}

impl<P: Provider> ErasedProvider for P {
    fn create_lock(&self, name: &str) -> DynLock {
        DynLock(Arc::new(LockProvider::create_lock(self, name)))
    }

    fn create_reader_writer_lock(&self, name: &str) -> DynReaderWriterLock {
        let lock = ReaderWriterLockProvider::create_reader_writer_lock(self, name);
        DynReaderWriterLock(Arc::new(lock))
    }

    fn create_semaphore(&self, name: &str, max_count: u32) -> DynSemaphore {
        DynSemaphore(Arc::new(SemaphoreProvider::create_semaphore(self, name, max_count)))
    }

    fn guarantees(&self) -> Guarantees {
        Provider::guarantees(self)
    }

    fn shutdown(&self) -> BoxFuture<'_, Vec<(String, LockError)>> {
        Box::pin(Provider::shutdown(self))
    }

    fn native_key(&self, name: &str) -> LockResult<String> {
        Provider::native_key(self, name)
    }

    fn holder<'a>(
        &'a self,
        name: &'a str,
        mode: Mode,
    ) -> BoxFuture<'a, LockResult<Option<Holder>>> {
        Box::pin(Provider::holder(self, name, mode))
    }
}

trait ErasedLock: Send + Sync {
    fn name(&self) -> &str;
    fn acquire(&self, timeout: Option<Duration>) -> Acquired<'_>;
    fn try_acquire(&self) -> Tried<'_>;
}

impl<L: DistributedLock> ErasedLock for L {
    fn name(&self) -> &str {
        DistributedLock::name(self)
    }

    fn acquire(&self, timeout: Option<Duration>) -> Acquired<'_> {
        Box::pin(async move { DistributedLock::acquire(self, timeout).await.map(DynHandle::new) })
    }

    fn try_acquire(&self) -> Tried<'_> {
        Box::pin(async { Ok(DistributedLock::try_acquire(self).await?.map(DynHandle::new)) })
    }
}

trait ErasedReaderWriterLock: Send + Sync {
    fn name(&self) -> &str;
    fn acquire_read(&self, timeout: Option<Duration>) -> Acquired<'_>;
    fn try_acquire_read(&self) -> Tried<'_>;
    fn acquire_write(&self, timeout: Option<Duration>) -> Acquired<'_>;
    fn try_acquire_write(&self) -> Tried<'_>;
}

impl<L: DistributedReaderWriterLock> ErasedReaderWriterLock for L {
    fn name(&self) -> &str {
        DistributedReaderWriterLock::name(self)
    }

    fn acquire_read(&self, timeout: Option<Duration>) -> Acquired<'_> {
        let acquired = DistributedReaderWriterLock::acquire_read(self, timeout);
        Box::pin(async move { acquired.await.map(DynHandle::new) })
    }

    fn try_acquire_read(&self) -> Tried<'_> {
        let tried = DistributedReaderWriterLock::try_acquire_read(self);
        Box::pin(async move { Ok(tried.await?.map(DynHandle::new)) })
    }

    fn acquire_write(&self, timeout: Option<Duration>) -> Acquired<'_> {
        let acquired = DistributedReaderWriterLock::acquire_write(self, timeout);
        Box::pin(async move { acquired.await.map(DynHandle::new) })
    }

    fn try_acquire_write(&self) -> Tried<'_> {
        let tried = DistributedReaderWriterLock::try_acquire_write(self);
        Box::pin(async move { Ok(tried.await?.map(DynHandle::new)) })
    }
}

trait ErasedSemaphore: Send + Sync {
    fn name(&self) -> &str;
    fn max_count(&self) -> u32;
    fn acquire(&self, timeout: Option<Duration>) -> Acquired<'_>;
    fn try_acquire(&self) -> Tried<'_>;
}

impl<S: DistributedSemaphore> ErasedSemaphore for S {
    fn name(&self) -> &str {
        DistributedSemaphore::name(self)
    }

    fn max_count(&self) -> u32 {
        DistributedSemaphore::max_count(self)
    }

    fn acquire(&self, timeout: Option<Duration>) -> Acquired<'_> {
        let acquired = DistributedSemaphore::acquire(self, timeout);
        Box::pin(async move { acquired.await.map(DynHandle::new) })
    }

    fn try_acquire(&self) -> Tried<'_> {
        let tried = DistributedSemaphore::try_acquire(self);
        Box::pin(async move { Ok(tried.await?.map(DynHandle::new)) })
    }
}

trait ErasedHandle: Send + Sync {
    fn release(self: Box<Self>) -> BoxFuture<'static, LockResult<()>>;
    fn lost_token(&self) -> &CancellationToken;
    fn loss_reason(&self) -> Option<String>;
    fn loss_signal(&self) -> &CancellationToken;
    fn is_lost(&self) -> bool;
    fn remaining(&self) -> Option<Duration>;
    fn fencing_token(&self) -> BoxFuture<'_, LockResult<FencingToken>>;
    #[cfg(unix)]
    fn keep_alive_fd(&self) -> LockResult<Option<std::os::fd::OwnedFd>>;
}

impl<H: LockHandle> ErasedHandle for H {
    fn release(self: Box<Self>) -> BoxFuture<'static, LockResult<()>> {
        Box::pin(LockHandle::release(*self))
    }

    fn lost_token(&self) -> &CancellationToken {
        LockHandle::lost_token(self)
    }

    fn loss_reason(&self) -> Option<String> {
        LockHandle::loss_reason(self)
    }

    fn loss_signal(&self) -> &CancellationToken {
        LockHandle::loss_signal(self)
    }

    fn is_lost(&self) -> bool {
        LockHandle::is_lost(self)
    }

    fn remaining(&self) -> Option<Duration> {
        LockHandle::remaining(self)
    }

    fn fencing_token(&self) -> BoxFuture<'_, LockResult<FencingToken>> {
        Box::pin(LockHandle::fencing_token(self))
    }

    #[cfg(unix)]
    fn keep_alive_fd(&self) -> LockResult<Option<std::os::fd::OwnedFd>> {
        LockHandle::keep_alive_fd(self)
    }
}
