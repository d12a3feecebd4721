//! Giving a lock back.

use distributed_lock_core::traits::{LockHandle, LockProviderExt};

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{SLACK, assert_freed, within};
use crate::runtimes::{current_thread, multi_thread, run};
use crate::verdicts::{granted, refused};

/// `release` reports success, in bounded time, and then the lock is free for everybody at once.
pub fn a_release_is_reported_and_frees_at_once(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "release").await;
        for _ in 0..20 {
            for (holder, next) in [(&here, &there), (&here, &here)] {
                let held = granted(holder.try_acquire_lock(&name).await);
                let bound = backend.operation_timeout() + SLACK;
                within(bound, "the release", held.release()).await.expect("a clean release");
                let held = granted(next.try_acquire_lock(&name).await);
                held.release().await.expect("a clean release");
            }
        }
    });
}

/// After `drop(handle)` a try in the same process succeeds, every time: it waits for the release
/// that is under way.
pub fn a_try_after_a_drop_succeeds_in_the_same_process(backend: &impl Backend) {
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(async {
            let (here, there, name) = two_processes(backend, "drop and try").await;
            let mut held = granted(here.try_acquire_lock(&name).await);
            for _ in 0..100 {
                drop(held);
                held = granted(here.try_acquire_lock(&name).await);
            }
            refused(there.try_acquire_lock(&name).await);
            drop(held);
            assert_freed(&there, &name, "the last drop").await;
        });
    }
}

/// A clean release and a drop never look like a loss, neither at once nor when others hold.
pub fn a_clean_release_is_not_a_loss(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "no loss").await;
        let released = granted(here.try_acquire_lock(&name).await);
        let dropped_token;
        let released_token = released.lost_token().clone();
        released.release().await.expect("a clean release");
        {
            let dropped = granted(here.try_acquire_lock(&name).await);
            dropped_token = dropped.lost_token().clone();
        }
        assert_freed(&there, &name, "a drop").await;
        let next = granted(there.try_acquire_lock(&name).await);
        assert!(!released_token.is_cancelled(), "a clean release was signalled as a loss");
        assert!(!dropped_token.is_cancelled(), "a drop was signalled as a loss");
        next.release().await.expect("a clean release");
    });
}

/// The token that a handle gives away belongs to the caller: cancelling it loses nothing.
pub fn the_callers_token_is_the_callers(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "own token").await;
        let held = granted(here.try_acquire_lock(&name).await);
        held.lost_token().cancel();
        assert!(!held.is_lost(), "lost because the caller cancelled the token");
        refused(there.try_acquire_lock(&name).await);
        held.release().await.expect("a clean release");
    });
}
