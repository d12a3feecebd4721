//! The conformance suite of `distributed-lock`: it proves that a backend keeps the promises.
//!
//! # Your backend, tested
//!
//! Say how to start one more "process" over the same data, and let [`conformance!`] make the tests:
//! one of each case, for your own types and for the erased ones.
//!
//! ```
//! use distributed_lock_core::memory::{MemoryLockProvider, MemoryStore};
//! use distributed_lock_testkit::{Backend, Loses, conformance};
//!
//! #[derive(Default)]
//! struct Mine(MemoryStore);
//!
//! impl Backend for Mine {
//!     type Provider = MemoryLockProvider;
//!
//!     async fn connect(&self) -> MemoryLockProvider {
//!         MemoryLockProvider::builder().store(self.0.clone()).build()
//!     }
//! }
//!
//! // Only for the cases `with loss`.
//! impl Loses for Mine {
//!     async fn lose(&self, name: &str, _native_key: &str) {
//!         self.0.lose(name);
//!     }
//! }
//!
//! conformance!(mine: Mine::default(), with readers_writer, with semaphore, with fencing, with loss);
//!
//! # fn main() {
//! // Every case is a function, too.
//! distributed_lock_testkit::cases::exclusion::it_is_not_re_entrant(&Mine::default());
//! # }
//! ```
//!
//! # What is where
//!
//! | module | what it proves |
//! |---|---|
//! | [`cases`] | what users see of any provider: exclusion, waiting, drops, cancellation, loss, ... |
//! | [`faults`] | what the engine makes of a [`Driver`](distributed_lock_core::driver::Driver) whose every call fails in every way, on a paused clock |
//! | `worker`, `nemesis`, `chaos` (Unix) | what other processes see of it while they are killed, stopped and robbed of what their locks stand on |
//! | [`history`] | what happened in several processes, and whether it was allowed: ten invariants |
//! | [`bugs`] | that the invariants catch what they are for: wrong drivers |
//! | [`worker`], [`nemesis`], [`chaos`] | what holds between processes that are killed and stopped, while their files are removed |
//! | `neighbour` (Linux) | another user who swaps what is in and above a lock directory |
//! | [`listening`] | what locks tell: a recorder of metrics and a subscriber of traces |
//! | `servers` (Linux) | PostgreSQL, pgbouncer and Redis of a test's own, which may break them and shift their clocks |
//! | `proxy` (Linux) | a link to a server that delays, loses, cuts and refuses, and counts |
//! | `walk` (Linux) | what a driver's own requests do at real Redis servers when they arrive late, twice or never, in simulated time |
//! | [`bounds`] | how long things may take |
//!
//! A case fails by a panic that names the broken promise. No case sleeps "to be sure": it waits for
//! the event, for at most as long as is promised, and [`bounds::SLACK`].
#![expect(clippy::expect_used, clippy::print_stdout, reason = "it is for tests only")]

mod as_mutex;
mod backend;
mod bare;
pub mod bounds;
pub mod bugs;
pub mod cases;
#[cfg(unix)]
pub mod chaos;
mod conformance;
pub mod faults;
pub mod history;
pub mod listening;
#[cfg(target_os = "linux")]
pub mod neighbour;
#[cfg(unix)]
pub mod nemesis;
pub mod outage;
mod polled;
#[cfg(target_os = "linux")]
pub mod proxy;
mod runtimes;
#[cfg(target_os = "linux")]
pub mod servers;
mod verdicts;
#[cfg(target_os = "linux")]
pub mod walk;
#[cfg(unix)]
pub mod worker;

pub use as_mutex::{
    OnePermit, OnePermitProvider, OnePermits, WriteLock, WriteLockProvider, WriteLocks,
};
pub use backend::{Backend, Erased, HoldLimit, Limits, Loses};
