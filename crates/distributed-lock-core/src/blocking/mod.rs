//! The same locks for code that is not async.
//!
//! A blocking provider is built and driven on the library's own thread; whoever calls it only parks.
//! So it works without a runtime, on a thread made for blocking, and on a worker of an async runtime,
//! which it blocks: async code is better served by the async traits.
//!
//! ```
//! use distributed_lock_core::blocking;
//! use distributed_lock_core::memory::MemoryLockProvider;
//! use std::time::Duration;
//!
//! let provider = blocking::Provider::new(|| async { Ok(MemoryLockProvider::new()) })?;
//! let handle = provider.acquire_lock("report", Some(Duration::from_secs(5)))?;
//! assert!(provider.try_acquire_lock("report")?.is_none());
//! // A thread cannot be stopped from outside: ask between two steps.
//! assert!(!handle.is_lost());
//! handle.release()?;
//! # Ok::<(), distributed_lock_core::error::LockError>(())
//! ```
//!
//! Timeouts, errors and order are those of the [async traits](crate::traits). Many threads may use one
//! provider; its requests share the one library thread with those of all other blocking providers.
//! Called on that thread itself, which only a backend's own code can do, everything is
//! [`LockError::Config`] instead of waiting for itself.

mod handle;
mod library;
mod locks;

use std::future::Future;
use std::time::Duration;

pub use self::handle::{Handle, HeldLocks};
use self::library::{Owned, drive};
pub use self::locks::{Lock, ReaderWriterLock, Semaphore};
use crate::erased::DynLockProvider;
use crate::error::{LockError, LockResult};
use crate::guarantees::Guarantees;
use crate::traits::{
    self, DistributedLock, LockProvider, ProviderExt, ReaderWriterLockProvider, SemaphoreProvider,
};

/// What a held mutex of a provider is.
type Held<P> = Handle<<<P as LockProvider>::Lock as DistributedLock>::Handle>;

/// A provider for code that is not async. Clones share everything.
#[derive(Debug, Clone)]
pub struct Provider<P = DynLockProvider>(P);

impl<P: traits::Provider> Provider<P> {
    /// Builds a provider on the library's thread, by a closure that returns the future of one:
    /// `|| async { FileLockProvider::builder().build("/var/lib/app/locks") }`.
    ///
    /// # Errors
    /// Those of the closure's future. [`LockError::Backend`] if the thread cannot be started or the
    /// future panics.
    pub fn new<F>(build: impl FnOnce() -> F + Send + 'static) -> LockResult<Self>
    where
        F: Future<Output = LockResult<P>> + Send + 'static,
    {
        drive(async move { build().await }).map(Self)
    }

    /// The mutex of a name. Does no I/O.
    pub fn create_lock(&self, name: &str) -> Lock<<P as LockProvider>::Lock> {
        Lock::new(LockProvider::create_lock(&self.0, name))
    }

    /// The reader-writer lock of a name. Does no I/O.
    pub fn create_reader_writer_lock(
        &self,
        name: &str,
    ) -> ReaderWriterLock<<P as ReaderWriterLockProvider>::Lock> {
        ReaderWriterLock::new(self.0.create_reader_writer_lock(name))
    }

    /// The semaphore of a name. Does no I/O.
    pub fn create_semaphore(
        &self,
        name: &str,
        max_count: u32,
    ) -> Semaphore<<P as SemaphoreProvider>::Semaphore> {
        Semaphore::new(self.0.create_semaphore(name, max_count))
    }

    /// Acquires the mutex of a name. See [`DistributedLock::acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::acquire`].
    pub fn acquire_lock(&self, name: &str, timeout: Option<Duration>) -> LockResult<Held<P>> {
        self.create_lock(name).acquire(timeout)
    }

    /// Acquires the mutex of a name if it is free. See [`DistributedLock::try_acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::try_acquire`].
    pub fn try_acquire_lock(&self, name: &str) -> LockResult<Option<Held<P>>> {
        self.create_lock(name).try_acquire()
    }

    /// Acquires the mutex of a name, does some work and releases it.
    ///
    /// The work is not stopped when the lock is lost; it can ask [`Handle::is_lost`].
    ///
    /// # Errors
    /// As [`DistributedLock::acquire`], and then the work has not begun; or that of the release, which
    /// is [`LockError::LockLost`] if the lock was lost meanwhile, and then the work's result is gone.
    pub fn with_lock<T>(
        &self,
        name: &str,
        timeout: Option<Duration>,
        work: impl FnOnce(&Held<P>) -> T,
    ) -> LockResult<T> {
        let handle = self.acquire_lock(name, timeout)?;
        let result = work(&handle);
        handle.release()?;
        Ok(result)
    }

    /// Acquires the mutexes of several names, all or none. See [`ProviderExt::acquire_all`].
    ///
    /// # Errors
    /// As [`ProviderExt::acquire_all`].
    pub fn acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        timeout: Option<Duration>,
    ) -> LockResult<HeldLocks<<<P as LockProvider>::Lock as DistributedLock>::Handle>> {
        let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let provider = self.0.clone();
        drive(async move { provider.acquire_all(names, timeout).await }).map(HeldLocks::new)
    }

    /// What this provider promises with the options in use.
    pub fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    /// What the backend calls the mutex of this name. See [`Provider::native_key`].
    ///
    /// # Errors
    /// [`LockError::InvalidName`].
    ///
    /// [`Provider::native_key`]: traits::Provider::native_key
    pub fn native_key(&self, name: &str) -> LockResult<String> {
        self.0.native_key(name)
    }

    /// Ends the provider and its clones. See [`Provider::shutdown`].
    ///
    /// # Errors
    /// [`LockError::Backend`] if the library's thread cannot be started.
    ///
    /// [`Provider::shutdown`]: traits::Provider::shutdown
    pub fn shutdown(&self) -> LockResult<Vec<(String, LockError)>> {
        let provider = self.0.clone();
        drive(async move { Ok(provider.shutdown().await) })
    }
}
