//! The runtimes that cases run on.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use crate::bounds::{CASE_LIMIT, within};

/// Runs a case on a runtime of its own; a case that hangs fails.
pub(crate) fn run<T>(case: impl Future<Output = T>) -> T {
    multi_thread().block_on(within(CASE_LIMIT, "the whole case", case))
}

/// Runs a case on a clock that stands still while anybody has something to do and jumps to the next
/// timer when nobody has.
pub(crate) fn run_paused<T>(case: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(case)
}

/// A runtime with two workers, driven as long as it lives.
pub(crate) fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A runtime that is driven only by `block_on`.
pub(crate) fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
