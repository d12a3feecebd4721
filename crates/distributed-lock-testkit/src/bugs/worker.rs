//! A client who logs what it does, and what it has in common with the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use distributed_lock_core::clock::Clock;
use distributed_lock_core::driver::Driver;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::memory::MemoryDriver;
use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    ReaderWriterLockProvider, SemaphoreProvider,
};
use distributed_lock_core::{DriverProvider, Handle, Mode, Options};
use tokio::time::sleep;

use super::{Bug, Buggy, Ledger, Link, Queued};
use crate::faults::{FaultyDriver, Script};
use crate::history::{Event, Recorder, What};

/// The clients of one server, of whom each has the same bug or none; a resource that compares
/// tokens; and a log.
#[derive(Debug)]
pub struct Stage<D: Driver> {
    bug: Option<Bug>,
    operation_timeout: Duration,
    clock: Arc<dyn Clock>,
    ledger: Ledger<D>,
    /// The greatest token that the resource has seen.
    greatest: Arc<AtomicU64>,
    log: Recorder,
}

impl<D: Driver> Stage<D> {
    /// Nobody is there yet. Leases go by `clock`.
    #[must_use]
    pub fn new(
        bug: Option<Bug>,
        operation_timeout: Duration,
        clock: Arc<dyn Clock>,
        log: Recorder,
    ) -> Self {
        let (ledger, greatest) = (Ledger::default(), Arc::default());
        Self { bug, operation_timeout, clock, ledger, greatest, log }
    }

    /// A worker in a process of its own, over this driver, which may be changed further.
    pub fn worker(
        &self,
        name: &'static str,
        driver: D,
        change: impl FnOnce(Buggy<D>) -> Buggy<D>,
    ) -> Worker<D> {
        let (script, link) = (Script::default(), Link::default());
        let driver = Buggy::new(driver, self.bug, &self.ledger, Arc::clone(&self.clock));
        let driver = FaultyDriver::new(change(driver.over(&link)), script.clone());
        let mut options = Options::default().operation_timeout(self.operation_timeout);
        options.clock = Arc::clone(&self.clock);
        let provider = DriverProvider::new(driver, options);
        let (log, greatest) = (self.log.clone(), Arc::clone(&self.greatest));
        Worker { name, provider, script, link, log, greatest, attempts: Arc::default() }
    }

    /// Logs a fault that strikes everybody.
    pub fn fault(&self, kind: &str) {
        self.log.record("nemesis", 0, "", What::Fault { kind: kind.to_owned() });
    }

    /// Logs that all faults have ended.
    pub fn is_quiet(&self) {
        self.log.record("nemesis", 0, "", What::quiet());
    }

    /// What happened so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.log.events()
    }
}

type Client<D> = FaultyDriver<Buggy<D>>;

/// Somebody who acquires, writes to the resource, releases, and logs it all. Clones are the same
/// worker.
#[derive(Debug)]
pub struct Worker<D: Driver = Queued<MemoryDriver>> {
    /// What goes wrong with its requests.
    pub script: Script,
    /// How long its requests take.
    pub link: Link,
    name: &'static str,
    provider: DriverProvider<Client<D>>,
    log: Recorder,
    greatest: Arc<AtomicU64>,
    attempts: Arc<AtomicU64>,
}

impl<D: Driver> Worker<D> {
    /// One acquire, `work` as long as the lock is held, one write, one release.
    ///
    /// # Cancel safety
    /// A dropped run has logged how far it came; log its end with [`tell`](Self::tell).
    pub async fn run(&self, lock: &str, mode: Mode, deadline: Option<Duration>, work: Duration) {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        let tell = |what| self.tell(attempt, lock, what);
        tell(What::Invoke { mode, deadline });
        let handle = match self.acquire(lock, mode, deadline).await {
            Ok(handle) => handle,
            Err(LockError::Timeout(_)) => return tell(What::Refused),
            Err(error) => return tell(What::Failed { error: error.to_string() }),
        };
        let token = match handle.fencing_token().await {
            Ok(token) => token.0,
            Err(error) => return tell(What::Failed { error: error.to_string() }),
        };
        if handle.is_lost() {
            return tell(What::Failed { error: "lost before it was used".to_owned() });
        }
        tell(What::Acquired { token: Some(token) });
        if handle.guard(sleep(work)).await.is_err() {
            return tell(What::Lost);
        }
        if !matches!(mode, Mode::Permit { .. }) {
            let accepted = self.greatest.fetch_max(token, Ordering::SeqCst) <= token;
            tell(What::Wrote { token, accepted });
        }
        tell(What::ReleaseInvoked);
        tell(match handle.release().await {
            Ok(()) => What::Released,
            Err(LockError::LockLost(_)) => What::Lost,
            Err(error) => What::ReleaseFailed { error: error.to_string() },
        });
    }

    /// Logs a fault that strikes this worker.
    pub fn fault(&self, kind: &str) {
        self.tell(0, "", What::Fault { kind: kind.to_owned() });
    }

    /// The number of its last attempt.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Logs something else.
    pub fn tell(&self, attempt: u64, lock: &str, what: What) {
        self.log.record(self.name, attempt, lock, what);
    }

    async fn acquire(
        &self,
        lock: &str,
        mode: Mode,
        deadline: Option<Duration>,
    ) -> LockResult<Handle<Client<D>>> {
        match mode {
            Mode::Exclusive => self.provider.create_lock(lock).acquire(deadline).await,
            Mode::Shared => {
                self.provider.create_reader_writer_lock(lock).acquire_read(deadline).await
            }
            Mode::Permit { max } => {
                self.provider.create_semaphore(lock, max).acquire(deadline).await
            }
        }
    }
}

impl<D: Driver> Clone for Worker<D> {
    fn clone(&self) -> Self {
        let Self { script, link, name, provider, log, greatest, attempts } = self;
        let (script, link, log) = (script.clone(), link.clone(), log.clone());
        let (greatest, attempts) = (Arc::clone(greatest), Arc::clone(attempts));
        Self { script, link, name, provider: provider.clone(), log, greatest, attempts }
    }
}
