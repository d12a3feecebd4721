//! Guarded work while nothing goes wrong.

use std::future::{pending, poll_fn};
use std::task::Poll;

use distributed_lock_core::traits::{LockHandle, LockProviderExt};

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::WATCHED_FOR;
use crate::runtimes::run;
use crate::verdicts::{assert_held, granted};

/// Guarded work completes with its value, at once or after any number of polls.
pub fn guarded_work_completes_with_its_value(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "guard").await;
        let held = granted(here.try_acquire_lock(&name).await);
        assert_eq!(held.guard(async { 7 }).await.expect("a held lock"), 7);
        let mut polls = 0;
        let work = poll_fn(|context| {
            polls += 1;
            if polls == 50 {
                return Poll::Ready("done");
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(held.guard(work).await.expect("a held lock"), "done");
        assert_eq!(polls, 50, "each wake-up is one poll");
        held.release().await.expect("a clean release");
    });
}

/// Cancelling the caller's own token does not stop guarded work, and neither does waiting.
pub fn guarded_work_is_stopped_by_loss_only(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "guard goes on").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let ended = tokio::time::timeout(WATCHED_FOR, held.guard(pending::<()>())).await;
        assert!(ended.is_err(), "guarded work ended without a reason: {ended:?}");
        assert_held(&held);
        held.lost_token().cancel();
        let ended = tokio::time::timeout(WATCHED_FOR, held.guard(pending::<()>())).await;
        assert!(ended.is_err(), "the caller's token ended guarded work: {ended:?}");
        held.release().await.expect("a clean release");
    });
}
