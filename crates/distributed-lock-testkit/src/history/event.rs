//! What is logged.

use std::time::Duration;

use distributed_lock_core::Mode;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by the one clock of all who log: `CLOCK_MONOTONIC` since boot, see
    /// [`now`](super::now).
    pub at: Duration,
    /// The worker; for a fault whom it strikes, or any other name for everybody.
    pub who: String,
    /// Numbers one acquire, hold and release of a worker; 0 for faults and deaths.
    pub attempt: u64,
    /// The name of the lock; for a fault, empty for all of them.
    pub lock: String,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The worker is about to ask for the lock.
    Invoke {
        /// How.
        mode: Mode,
        /// How long it will wait: zero is one try, `None` for ever.
        deadline: Option<Duration>,
    },
    /// It was told that it holds.
    Acquired {
        /// The fencing token, if it knows it.
        token: Option<u64>,
    },
    /// It was told that others hold: a timeout, or a try that was refused.
    Refused,
    /// Nobody knows what became of the request: not held.
    Failed {
        /// What it was told.
        error: String,
    },
    /// A resource that compares tokens has answered. Log it while the resource is locked against
    /// other writers, or the order of the log is not that of the writes.
    Wrote {
        /// The token that came with the write.
        token: u64,
        /// What the resource said.
        accepted: bool,
    },
    /// The worker is about to release; from here on it relies on nothing.
    ReleaseInvoked,
    /// It was told that the lock is released.
    Released,
    /// Nobody knows what became of the release.
    ReleaseFailed {
        /// What it was told.
        error: String,
    },
    /// The worker was told that its lock is lost.
    Lost,
    /// The nemesis has killed this worker: everything of it ends here.
    Died,
    /// Logged by the nemesis just before it strikes: from here on the holds that it strikes may be
    /// gone, and the holders be told later.
    FaultEndsHold {
        /// The row of the fault matrix.
        row: u8,
    },
    /// Any other fault, logged just before it strikes: it explains losses after it, and what a
    /// worker that it strikes by name does late. The kind `quiet` says that all faults have ended.
    Fault {
        /// Which fault.
        kind: String,
    },
}

impl What {
    /// The end of all faults so far.
    #[must_use]
    pub fn quiet() -> Self {
        Self::Fault { kind: "quiet".to_owned() }
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self, Self::Fault { kind } if kind == "quiet")
    }
}
