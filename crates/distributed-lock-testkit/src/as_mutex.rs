//! Write locks and semaphores of one permit in the place of mutexes: they must pass the same cases.

use std::future::Future;
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockProvider, Provider,
    ReaderWriterLockProvider, SemaphoreProvider,
};
use distributed_lock_core::{Guarantees, Holder, Mode};

use crate::backend::Backend;

/// The same backend, with the write locks of its reader-writer locks for mutexes.
#[derive(Debug, Clone, Default)]
pub struct WriteLocks<B>(
    /// The backend whose write locks are used.
    pub B,
);

/// The same backend, with semaphores of one permit for mutexes.
#[derive(Debug, Clone, Default)]
pub struct OnePermits<B>(
    /// The backend whose semaphores are used.
    pub B,
);

/// The mutex that a write lock is.
#[derive(Debug)]
pub struct WriteLock<L>(L);

impl<L: DistributedReaderWriterLock> DistributedLock for WriteLock<L> {
    type Handle = L::WriteHandle;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn acquire(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<Self::Handle>> + Send {
        self.0.acquire_write(timeout)
    }

    fn try_acquire(&self) -> impl Future<Output = LockResult<Option<Self::Handle>>> + Send {
        self.0.try_acquire_write()
    }
}

/// The mutex that a semaphore of one permit is.
#[derive(Debug)]
pub struct OnePermit<S>(S);

impl<S: DistributedSemaphore> DistributedLock for OnePermit<S> {
    type Handle = S::Handle;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn acquire(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<Self::Handle>> + Send {
        self.0.acquire(timeout)
    }

    fn try_acquire(&self) -> impl Future<Output = LockResult<Option<Self::Handle>>> + Send {
        self.0.try_acquire()
    }
}

macro_rules! as_mutex {
    ($backend:ident, $provider:ident, |$inner:ident, $name:ident| $create:expr => $lock:ty) => {
        impl<B: Backend> Backend for $backend<B> {
            type Provider = $provider<B::Provider>;

            async fn connect(&self) -> Self::Provider {
                $provider(self.0.connect().await)
            }

            async fn try_connect(&self) -> LockResult<Self::Provider> {
                Ok($provider(self.0.try_connect().await?))
            }

            fn operation_timeout(&self) -> Duration {
                self.0.operation_timeout()
            }
        }

        #[doc = concat!("A provider of [`", stringify!($backend), "`].")]
        #[derive(Debug, Clone)]
        pub struct $provider<P>(P);

        impl<P: Provider> LockProvider for $provider<P> {
            type Lock = $lock;

            fn create_lock(&self, $name: &str) -> Self::Lock {
                let $inner = &self.0;
                $create
            }
        }

        impl<P: Provider> ReaderWriterLockProvider for $provider<P> {
            type Lock = <P as ReaderWriterLockProvider>::Lock;

            fn create_reader_writer_lock(&self, name: &str) -> Self::Lock {
                self.0.create_reader_writer_lock(name)
            }
        }

        impl<P: Provider> SemaphoreProvider for $provider<P> {
            type Semaphore = P::Semaphore;

            fn create_semaphore(&self, name: &str, max_count: u32) -> P::Semaphore {
                self.0.create_semaphore(name, max_count)
            }
        }

        impl<P: Provider> Provider for $provider<P> {
            fn guarantees(&self) -> Guarantees {
                self.0.guarantees()
            }

            fn shutdown(&self) -> impl Future<Output = Vec<(String, LockError)>> + Send {
                self.0.shutdown()
            }

            fn native_key(&self, name: &str) -> LockResult<String> {
                self.0.native_key(name)
            }

            fn holder(
                &self,
                name: &str,
                mode: Mode,
            ) -> impl Future<Output = LockResult<Option<Holder>>> + Send {
                self.0.holder(name, mode)
            }
        }
    };
}

as_mutex!(WriteLocks, WriteLockProvider, |provider, name| WriteLock(
    provider.create_reader_writer_lock(name)
) => WriteLock<<P as ReaderWriterLockProvider>::Lock>);

as_mutex!(OnePermits, OnePermitProvider, |provider, name| OnePermit(
    provider.create_semaphore(name, 1)
) => OnePermit<P::Semaphore>);
