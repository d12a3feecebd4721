//! A server in memory and its clients, who log what they do, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::memory::{MemoryDriver, MemoryStore};

use super::{Bug, Queue, Queued, Stage, Worker};
use crate::history::{Event, Recorder};
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
        let log = Recorder::by_clock(clock);
        let stage = Stage::new(bug, options.operation_timeout, Arc::new(clock), log);
        let (store, queue) = (MemoryStore::new(), Queue::new(PLACE_EXPIRY));
        let world = World { lease: options.lease, clock, store, queue, stage };
        schedule(&world).await;
        world.stage.events()
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
    lease: Option<Duration>,
    clock: TokioClock,
    store: MemoryStore,
    queue: Queue<String>,
    stage: Stage<Queued<MemoryDriver>>,
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
        let driver = MemoryDriver::new(self.store.clone(), self.lease, Arc::new(self.clock));
        let driver = Queued::new(driver, &self.queue);
        self.stage.worker(name, driver, |client| client.ahead(ahead))
    }

    /// Logs a fault that strikes everybody.
    pub fn fault(&self, kind: &str) {
        self.stage.fault(kind);
    }

    /// Logs that all faults have ended.
    pub fn is_quiet(&self) {
        self.stage.is_quiet();
    }
}
