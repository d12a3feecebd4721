//! Who keeps the log inside one process, and the clock of all logs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::clock::Clock;

use super::event::{Event, What};

/// The time that events are logged with: `CLOCK_MONOTONIC` since boot, the same in every process of
/// the machine.
#[must_use]
pub fn now() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let whole = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(whole, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(unix))]
    Duration::from_nanos(distributed_lock_core::clock::SystemClock.now().as_nanos())
}

/// Collects the events of one process. Clones write to the same log.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    log: Arc<Mutex<Vec<Event>>>,
    /// Stands in for [`now`].
    clock: Option<Arc<dyn Clock>>,
}

impl Recorder {
    /// An empty log by the clock of [`now`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty log by another clock, for runs on a paused runtime.
    #[must_use]
    pub fn by_clock(clock: impl Clock) -> Self {
        Self { log: Arc::default(), clock: Some(Arc::new(clock)) }
    }

    /// The time that the next event would be logged with.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.clock {
            Some(clock) => Duration::from_nanos(clock.now().as_nanos()),
            None => now(),
        }
    }

    /// Logs what happens now. Times in one log never go back.
    pub fn record(&self, who: &str, attempt: u64, lock: &str, what: What) {
        let mut log = self.lock();
        // Read under the lock, so that the order of the log is the order of its times.
        let at = self.now();
        log.push(Event { at, who: who.to_owned(), attempt, lock: lock.to_owned(), what });
    }

    /// Adds an event that was logged elsewhere.
    pub fn add(&self, event: Event) {
        self.lock().push(event);
    }

    /// Everything so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
