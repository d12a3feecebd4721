//! What happened, and whether it may: the history of a run, checked against ten invariants.
//!
//! Everybody who takes part logs [`Event`]s by one clock: workers what they asked for and were told,
//! the nemesis what it is about to break. [`check`] reads the whole history at the end and returns
//! each [`Violation`] with a timeline of the attempts that are involved.
//!
//! A **hold** counts from its [`Acquired`](What::Acquired) to the earliest of
//! [`ReleaseInvoked`](What::ReleaseInvoked), [`Lost`](What::Lost), [`Died`](What::Died) and a
//! [`FaultEndsHold`](What::FaultEndsHold) that strikes it: what the holder believed, no less and no
//! more. An error is *unknown*: not held. So what is reported is wrong for certain, however late a
//! worker came to write its log.
//!
//! Who a fault strikes is said by its event: `who` is a worker's name, or anything else for all of
//! them; `lock` is a lock's name, or empty for all of them.
//!
//! ```
//! use std::time::Duration;
//! use distributed_lock_core::Mode;
//! use distributed_lock_testkit::history::{Invariant, Recorder, Rules, What, check};
//!
//! let log = Recorder::new();
//! for worker in ["ann", "bob"] {
//!     log.record(worker, 1, "till", What::Invoke { mode: Mode::Exclusive, deadline: None });
//!     log.record(worker, 1, "till", What::Acquired { token: None });
//! }
//! let violations = check(&log.events(), &Rules::default());
//! assert_eq!(violations[0].invariant, Invariant::OneExclusive);
//! ```

mod attempts;
mod calls;
mod event;
mod holds;
mod line;
mod losses;
mod order;
mod recorder;
mod rules;
mod timeline;
mod tokens;

use attempts::History;

pub use event::{Event, What};
pub use recorder::{Recorder, now};
pub use rules::{Invariant, Rules, Violation};

/// Checks a history, in any order, against the rules; nothing is returned if all is well.
///
/// # Panics
/// If it is not a history: an attempt goes on without its [`Invoke`](What::Invoke), or two have the
/// same worker and number.
#[must_use]
pub fn check(events: &[Event], rules: &Rules) -> Vec<Violation> {
    let history = History::read(events);
    let checks = [holds::check, tokens::check, order::check, calls::check, losses::check];
    let found = checks.into_iter().flat_map(|check| check(&history, rules));
    found.filter(|violation| rules.check.contains(&violation.invariant)).collect()
}
