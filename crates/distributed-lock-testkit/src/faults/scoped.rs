//! Work under a lock whose server fails it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use distributed_lock_core::clock::{ManualClock, TokioClock};
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockProviderExt, Provider, ProviderExt};
use distributed_lock_core::{DynLockProvider, HoldEnds};

use super::{Call, OPERATION_TIMEOUT, Outcome, Script, Store, TICK, When, process, scripted};
use crate::polled::Polled;
use crate::runtimes::run_paused;
use crate::verdicts::{assert_error, granted};

/// A release that fails is what `with_lock` and `HeldLocks` return, in the time of one failure, and
/// what they leave is released in the background.
pub fn a_failed_release_is_returned<S: Store>(store: impl Fn() -> S) {
    for outcome in [Outcome::Cut, Outcome::Refused, Outcome::SilentBefore] {
        run_paused(async {
            let store = store();
            let (here, script) = scripted(&store, TokioClock::default());
            script.spoil(Call::Release, When::Nth(1), outcome);
            failed(here.with_lock("one", None, async |_| 7).await, outcome);
            let all = here.acquire_all(["a", "b", "c"], None).await.expect("free locks");
            script.spoil(Call::Release, When::Nth(script.calls(Call::Release) + 1), outcome);
            let released = tokio::time::timeout(OPERATION_TIMEOUT + TICK, all.release()).await;
            failed(released.expect("in time"), outcome);
            for name in ["one", "a", "b", "c"] {
                let free = here.acquire_lock(name, Some(Duration::from_secs(2))).await;
                drop(free.expect("released in the background"));
            }
            assert!(here.shutdown().await.is_empty());
            assert_eq!(store.left(), 0, "{outcome:?}: something stayed behind");
        });
    }
}

/// An acquire that fails half way gives back what it had.
pub fn acquire_all_gives_back_what_it_had<S: Store>(store: impl Fn() -> S) {
    for outcome in Outcome::WRONG {
        run_paused(async {
            let store = store();
            let (here, script) = scripted(&store, TokioClock::default());
            script.spoil(Call::TryAcquire, When::Nth(3), outcome);
            let failure = here.acquire_all(["a", "b", "c", "d"], None).await;
            failed(failure.map(drop), outcome);
            for name in ["a", "b", "c", "d"] {
                drop(granted(here.try_acquire_lock(name).await));
            }
            assert!(here.shutdown().await.is_empty());
            assert_eq!(store.left(), 0, "{outcome:?}: something stayed behind");
        });
    }
}

fn failed<T>(result: Result<T, LockError>, outcome: Outcome) {
    match outcome {
        Outcome::Refused | Outcome::RefusedForNow => {
            assert_error!(result, LockError::Backend(_))
        }
        _ => assert_error!(result, LockError::Connection(_)),
    }
}

/// No poll of the work starts at or after its lease's deadline, by the clock alone: no task has run
/// since the last one. For stores with leases.
pub fn no_poll_starts_after_the_deadline<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let (store, clock) = (store(), ManualClock::default());
        let here = process(&store, &Script::default(), clock.clone());
        polls_until_the_deadline(&here, &clock).await;
        polls_until_the_deadline(&DynLockProvider::new(here), &clock).await;
    });
}

async fn polls_until_the_deadline(provider: &impl Provider, clock: &ManualClock) {
    let HoldEnds::WithLease(lease) = provider.guarantees().hold_ends else {
        panic!("cases for leases need leases")
    };
    let polls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&polls);
    let mut work = Polled::new(provider.with_lock("deadline", None, async |_| {
        std::future::poll_fn(|_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Poll::<()>::Pending
        })
        .await;
    }));
    assert!(work.poll().is_pending());
    clock.advance(lease - Duration::from_nanos(1));
    assert!(work.poll().is_pending(), "stopped while the lock was held");
    clock.advance(Duration::from_nanos(1));
    let Poll::Ready(result) = work.poll() else { panic!("the work goes on") };
    assert_error!(result, LockError::LockLost(_));
    assert_eq!(polls.load(Ordering::SeqCst), 2, "polled after the deadline");
}
