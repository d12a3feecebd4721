//! Locks inside one process: for users' unit tests, and the reference for every other backend.
//!
//! Providers over one [`MemoryStore`] stand for processes that share a server. The store can be told
//! to lose a lock, to refuse, to hang and to answer late.

mod driver;
mod store;

use std::time::Duration;

#[doc(hidden)]
pub use driver::Detour;
pub use driver::MemoryDriver;
pub use store::{Behaviour, MemoryStore};

use crate::clock::Clock;
use crate::engine::Options;
use crate::error::LockError;
use crate::provider::DriverProvider;

crate::backend_types! {
    driver MemoryDriver;
    /// A provider of locks inside this process.
    provider MemoryLockProvider;
    /// A mutex inside this process.
    lock MemoryLock;
    /// A held [`MemoryLock`].
    handle MemoryLockHandle;
    /// A reader-writer lock inside this process.
    reader_writer_lock MemoryReaderWriterLock;
    /// The read side of a held [`MemoryReaderWriterLock`].
    read_handle MemoryReadLockHandle;
    /// The write side of a held [`MemoryReaderWriterLock`].
    write_handle MemoryWriteLockHandle;
    /// A semaphore inside this process.
    semaphore MemorySemaphore;
    /// A held permit of a [`MemorySemaphore`].
    semaphore_handle MemorySemaphoreHandle;
}

impl MemoryLockProvider {
    /// A provider over a store of its own, whose locks last until they are released.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A provider over the store of this name in this process.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::builder().store(MemoryStore::named(name)).build()
    }

    /// A provider with options.
    pub fn builder() -> MemoryLockProviderBuilder {
        MemoryLockProviderBuilder::default()
    }

    /// The store, whose switches make this provider fail.
    #[must_use]
    pub fn store(&self) -> &MemoryStore {
        &self.0.driver().store
    }
}

impl Default for MemoryLockProvider {
    fn default() -> Self {
        Self::new()
    }
}

/// Builds a [`MemoryLockProvider`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct MemoryLockProviderBuilder {
    store: Option<MemoryStore>,
    lease: Option<Duration>,
    options: Options,
}

impl MemoryLockProviderBuilder {
    /// Shares a store with other providers. Default: a new store.
    pub fn store(mut self, store: MemoryStore) -> Self {
        self.store = Some(store);
        self
    }

    /// Makes every lock a lease of this length, renewed every third of it. Default: no leases.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets how long one operation may take. Default: 2 s.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.operation_timeout(timeout);
        self
    }

    /// Keeps renewals on the library's own thread. Default: on the runtime in use.
    pub fn keeper_thread(mut self, on: bool) -> Self {
        self.options = self.options.keeper_thread(on);
        self
    }

    /// Ends every lease this long after it was asked for; its holder is told loss then. Default: it is
    /// renewed as long as it is held. Needs a [`lease`](Self::lease).
    pub fn max_hold(mut self, most: Duration) -> Self {
        self.options = self.options.max_hold(most);
        self
    }

    /// Whether leases are renewed while they are held. Default: they are. If not, each ends after its
    /// first term, and its holder is told loss then.
    pub fn auto_extend(mut self, on: bool) -> Self {
        self.options = self.options.auto_extend(on);
        self
    }

    /// Sets the clock of the leases. Default: the machine's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.options = self.options.clock(clock);
        self
    }

    /// Builds the provider. Options that cannot work are [`LockError::Config`] from every acquire.
    #[must_use]
    pub fn build(self) -> MemoryLockProvider {
        let clock = self.options.clock.clone();
        let mut driver = MemoryDriver::new(self.store.unwrap_or_default(), self.lease, clock);
        if let Err(LockError::Config(mistake)) = self.options.check(self.lease) {
            driver.mistake = Some(mistake);
        }
        MemoryLockProvider::over(DriverProvider::new(driver, self.options))
    }
}
