//! What locks tell [`tracing`] and [`metrics`].
//!
//! Nothing needs to be switched on: install a subscriber or a recorder, and it hears of every provider.
//! While nobody listens it costs a small part of the cheapest lock.
//!
//! # Metrics
//!
//! Every metric has the labels `backend` (`file`, `memory`, ...) and `mode` (`exclusive`, `shared`,
//! `permit`); names of locks are not labels, because there may be any number of them. Times are in
//! seconds.
//!
//! | metric | kind | more labels | what it says |
//! |---|---|---|---|
//! | `distributed_lock_acquires_total` | counter | `outcome`: `acquired`, `held`, `timeout`, `cancelled`, `error` | acquires that ended: with the lock; as a try of a held lock; at the deadline of a wait; dropped or shut down; otherwise |
//! | `distributed_lock_contended_total` | counter | | acquires that had to wait, in their process or at the backend |
//! | `distributed_lock_waiting_seconds` | histogram | | how long each of those waited, whatever came of it |
//! | `distributed_lock_holding_seconds` | histogram | | how long each lock was held, until its release, drop or loss |
//! | `distributed_lock_lost_total` | counter | | locks that were lost while they were held |
//! | `distributed_lock_renewals_total` | counter | `outcome`: `extended`, `refused`, `unknown` | renewals of leases; an unknown one is tried again |
//!
//! # Spans and events
//!
//! Their target is `distributed_lock`.
//!
//! | span | level | fields | around |
//! |---|---|---|---|
//! | `acquire` | debug | `lock`, `backend`, `mode`, `outcome` | an acquire or a try, waiting included |
//! | `release` | debug | `lock`, `backend`, `mode`, `outcome` | a release that its holder waits for |
//! | `extend` | trace | `backend`, `locks`, `outcome` | one request that renews so many leases |
//!
//! The outcomes of an acquire are those of its metric; a release is `released`, `lost` or `error`; an
//! extension `answered` or `error`. A loss is an event of level `warn` with the fields `lock`, `backend`,
//! `mode` and `reason`. Neither ever holds a password or an owner token.

use metrics::{KeyName, Unit};

/// Counts acquires that ended, by their outcome.
pub const ACQUIRES: &str = "distributed_lock_acquires_total";
/// Counts acquires that had to wait.
pub const CONTENDED: &str = "distributed_lock_contended_total";
/// How long those waited.
pub const WAITING: &str = "distributed_lock_waiting_seconds";
/// How long locks were held.
pub const HOLDING: &str = "distributed_lock_holding_seconds";
/// Counts locks that were lost.
pub const LOST: &str = "distributed_lock_lost_total";
/// Counts renewals of leases, by their outcome.
pub const RENEWALS: &str = "distributed_lock_renewals_total";

/// The target of spans, events and metrics.
pub(crate) const TARGET: &str = "distributed_lock";

/// Gives units and descriptions of all metrics to the recorder that is installed.
pub fn describe() {
    let counter = |name: &'static str, text: &'static str| {
        metrics::with_recorder(|recorder| {
            recorder.describe_counter(KeyName::from(name), Some(Unit::Count), text.into());
        });
    };
    let histogram = |name: &'static str, text: &'static str| {
        metrics::with_recorder(|recorder| {
            recorder.describe_histogram(KeyName::from(name), Some(Unit::Seconds), text.into());
        });
    };
    counter(ACQUIRES, "Acquires of locks that ended, by outcome");
    counter(CONTENDED, "Acquires of locks that had to wait");
    histogram(WAITING, "How long acquires of locks waited that had to");
    histogram(HOLDING, "How long locks were held");
    counter(LOST, "Locks that were lost while they were held");
    counter(RENEWALS, "Renewals of leases, by outcome");
}

/// What one uncontended acquire and release of a lock tell, without the lock: for benchmarks.
#[doc(hidden)]
pub use crate::instruments::Rehearsal;
