//! The generic provider and its locks; the backends' types are newtypes of these.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::driver::Driver;
use crate::engine::{Engine, Options};
use crate::error::{LockError, LockResult};
use crate::guarantees::Guarantees;
use crate::handle::Handle;
use crate::holder::Holder;
use crate::lock_name::LockName;
use crate::mode::Mode;
use crate::timeout::Deadline;
use crate::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockProvider, Provider,
    ReaderWriterLockProvider, SemaphoreProvider,
};

/// A provider over any [`Driver`]. Clones share everything.
pub struct DriverProvider<D: Driver> {
    engine: Arc<Engine<D>>,
}

impl<D: Driver> DriverProvider<D> {
    /// A provider that uses `driver`. Starts no task.
    pub fn new(driver: D, options: Options) -> Self {
        Self { engine: Engine::new(driver, options) }
    }

    /// The driver.
    #[must_use]
    pub fn driver(&self) -> &D {
        &self.engine.driver
    }

    fn resource(&self, name: &str, mode: Mode) -> Resource<D> {
        Resource {
            engine: Arc::clone(&self.engine),
            name: Arc::from(name),
            mode,
            key: OnceLock::new(),
        }
    }
}

impl<D: Driver> Clone for DriverProvider<D> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<D: Driver> fmt::Debug for DriverProvider<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guarantees = self.engine.driver.guarantees();
        f.debug_struct("DriverProvider").field("guarantees", &guarantees).finish_non_exhaustive()
    }
}

impl<D: Driver> LockProvider for DriverProvider<D> {
    type Lock = Lock<D>;

    fn create_lock(&self, name: &str) -> Lock<D> {
        Lock(self.resource(name, Mode::Exclusive))
    }
}

impl<D: Driver> ReaderWriterLockProvider for DriverProvider<D> {
    type Lock = ReaderWriterLock<D>;

    fn create_reader_writer_lock(&self, name: &str) -> ReaderWriterLock<D> {
        let write = self.resource(name, Mode::Exclusive);
        ReaderWriterLock { read: self.resource(name, Mode::Shared), write }
    }
}

impl<D: Driver> SemaphoreProvider for DriverProvider<D> {
    type Semaphore = Semaphore<D>;

    fn create_semaphore(&self, name: &str, max_count: u32) -> Semaphore<D> {
        Semaphore { permit: self.resource(name, Mode::Permit { max: max_count }), max_count }
    }
}

impl<D: Driver> Provider for DriverProvider<D> {
    fn guarantees(&self) -> Guarantees {
        self.engine.driver.guarantees()
    }

    async fn shutdown(&self) -> Vec<(String, LockError)> {
        self.engine.shutdown().await
    }

    fn native_key(&self, name: &str) -> LockResult<String> {
        let key = self.engine.driver.resolve(LockName::parse(name)?, Mode::Exclusive)?;
        Ok(key.to_string())
    }

    async fn holder(&self, name: &str, mode: Mode) -> LockResult<Option<Holder>> {
        let key = self.engine.driver.resolve(LockName::parse(name)?, mode)?;
        self.engine.request(self.engine.driver.holder(&key)).await
    }
}

/// A name in one mode, resolved when it is first used.
struct Resource<D: Driver> {
    engine: Arc<Engine<D>>,
    name: Arc<str>,
    mode: Mode,
    key: OnceLock<D::Key>,
}

impl<D: Driver> Resource<D> {
    fn key(&self) -> LockResult<&D::Key> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        if self.mode == (Mode::Permit { max: 0 }) {
            return Err(LockError::Config("max_count must be at least 1".into()));
        }
        let key = self.engine.driver.resolve(LockName::parse(&self.name)?, self.mode)?;
        Ok(self.key.get_or_init(|| key))
    }

    async fn acquire(&self, timeout: Option<Duration>) -> LockResult<Handle<D>> {
        let deadline = Deadline::after(timeout);
        let handle = self.engine.acquire(&self.name, self.key()?, self.mode, deadline).await?;
        handle.ok_or_else(|| LockError::Timeout(timeout.unwrap_or(Duration::MAX)))
    }

    async fn try_acquire(&self) -> LockResult<Option<Handle<D>>> {
        let now = Deadline::after(Some(Duration::ZERO));
        self.engine.acquire(&self.name, self.key()?, self.mode, now).await
    }
}

impl<D: Driver> Clone for Resource<D> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            name: Arc::clone(&self.name),
            mode: self.mode,
            key: self.key.clone(),
        }
    }
}

/// A mutex on any backend.
pub struct Lock<D: Driver>(Resource<D>);

impl<D: Driver> DistributedLock for Lock<D> {
    type Handle = Handle<D>;

    fn name(&self) -> &str {
        &self.0.name
    }

    async fn acquire(&self, timeout: Option<Duration>) -> LockResult<Handle<D>> {
        self.0.acquire(timeout).await
    }

    async fn try_acquire(&self) -> LockResult<Option<Handle<D>>> {
        self.0.try_acquire().await
    }
}

/// A reader-writer lock on any backend.
pub struct ReaderWriterLock<D: Driver> {
    read: Resource<D>,
    write: Resource<D>,
}

impl<D: Driver> DistributedReaderWriterLock for ReaderWriterLock<D> {
    type ReadHandle = Handle<D>;
    type WriteHandle = Handle<D>;

    fn name(&self) -> &str {
        &self.read.name
    }

    async fn acquire_read(&self, timeout: Option<Duration>) -> LockResult<Handle<D>> {
        self.read.acquire(timeout).await
    }

    async fn try_acquire_read(&self) -> LockResult<Option<Handle<D>>> {
        self.read.try_acquire().await
    }

    async fn acquire_write(&self, timeout: Option<Duration>) -> LockResult<Handle<D>> {
        self.write.acquire(timeout).await
    }

    async fn try_acquire_write(&self) -> LockResult<Option<Handle<D>>> {
        self.write.try_acquire().await
    }
}

/// A semaphore on any backend.
pub struct Semaphore<D: Driver> {
    permit: Resource<D>,
    max_count: u32,
}

impl<D: Driver> DistributedSemaphore for Semaphore<D> {
    type Handle = Handle<D>;

    fn name(&self) -> &str {
        &self.permit.name
    }

    fn max_count(&self) -> u32 {
        self.max_count
    }

    async fn acquire(&self, timeout: Option<Duration>) -> LockResult<Handle<D>> {
        self.permit.acquire(timeout).await
    }

    async fn try_acquire(&self) -> LockResult<Option<Handle<D>>> {
        self.permit.try_acquire().await
    }
}

impl<D: Driver> Clone for Lock<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Driver> Clone for ReaderWriterLock<D> {
    fn clone(&self) -> Self {
        Self { read: self.read.clone(), write: self.write.clone() }
    }
}

impl<D: Driver> Clone for Semaphore<D> {
    fn clone(&self) -> Self {
        Self { permit: self.permit.clone(), max_count: self.max_count }
    }
}

impl<D: Driver> fmt::Debug for Lock<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lock").field(&self.0.name).finish()
    }
}

impl<D: Driver> fmt::Debug for ReaderWriterLock<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReaderWriterLock").field(&self.read.name).finish()
    }
}

impl<D: Driver> fmt::Debug for Semaphore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Semaphore").field(&self.permit.name).field(&self.max_count).finish()
    }
}
