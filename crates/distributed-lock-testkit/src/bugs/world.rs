//! A server in memory and its clients, who log what they do, on a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::memory::{MemoryDriver, MemoryStore};
use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    ReaderWriterLockProvider, SemaphoreProvider,
};
use distributed_lock_core::{DriverProvider, Handle, Mode};
use tokio::time::sleep;

use super::{Bug, Buggy, Ledger, Link, Queue, Queued};
use crate::faults::{FaultyDriver, Script};
use crate::history::{Event, Recorder, What};
use crate::runtimes::run_paused;

/// Runs a schedule in a world of its own, and returns its history; it takes no time and is the same
/// each time.
pub fn rehearse(
    bug: Option<Bug>,
    options: Options,
    schedule: impl AsyncFnOnce(&World),
) -> Vec<Event> {
    run_paused(async {
        let clock = TokioClock::default();
        let world = World {
            bug,
            options,
            clock,
            store: MemoryStore::new(),
            queue: Queue::new(PLACE_EXPIRY),
            ledger: Ledger::default(),
            greatest: Arc::default(),
            log: Recorder::by_clock(clock),
        };
        schedule(&world).await;
        world.log.events()
    })
}

/// Longer than any waiter is silent.
const PLACE_EXPIRY: Duration = Duration::from_secs(1);

/// What locks in a [`World`] are like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a lease is, if locks are leases.
    pub lease: Option<Duration>,
    /// How long one operation may take.
    pub operation_timeout: Duration,
}

/// One server that serves waiters in order, a resource that compares tokens, and a log.
#[derive(Debug)]
pub struct World {
    bug: Option<Bug>,
    options: Options,
    clock: TokioClock,
    store: MemoryStore,
    queue: Queue<String>,
    ledger: Ledger<Queued<MemoryDriver>>,
    /// The greatest token that the resource has seen.
    greatest: Arc<AtomicU64>,
    log: Recorder,
}

impl World {
    /// A worker in a process of its own.
    #[must_use]
    pub fn worker(&self, name: &'static str) -> Worker {
        self.worker_ahead(name, Duration::ZERO)
    }

    /// A worker in a process of its own, whose clock is ahead.
    #[must_use]
    pub fn worker_ahead(&self, name: &'static str, ahead: Duration) -> Worker {
        let (script, link, clock) = (Script::default(), Link::default(), Arc::new(self.clock));
        let driver = MemoryDriver::new(self.store.clone(), self.options.lease, clock.clone());
        let driver = Queued::new(driver, &self.queue, self.bug);
        let driver = Buggy::new(driver, self.bug, &self.ledger, clock).over(&link).ahead(ahead);
        let driver = FaultyDriver::new(driver, script.clone());
        let options = distributed_lock_core::Options::default()
            .operation_timeout(self.options.operation_timeout)
            .clock(self.clock);
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
}

type Client = FaultyDriver<Buggy<Queued<MemoryDriver>>>;

/// Somebody who acquires, writes to the resource, releases, and logs it all. Clones are the same
/// worker.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What goes wrong with its requests.
    pub script: Script,
    /// How long its requests take.
    pub link: Link,
    name: &'static str,
    provider: DriverProvider<Client>,
    log: Recorder,
    greatest: Arc<AtomicU64>,
    attempts: Arc<AtomicU64>,
}

impl Worker {
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
    ) -> LockResult<Handle<Client>> {
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
