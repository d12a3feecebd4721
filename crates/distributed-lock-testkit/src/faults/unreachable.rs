//! A server that does not answer: calls end in time, say so, and never guess.

use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::error::{LockError, NoAnswer};
use distributed_lock_core::traits::{
    DistributedLock, LockHandle, LockProvider, LockProviderExt, Provider,
};
use tokio::time::Instant;

use super::{Call, OPERATION_TIMEOUT, Outcome, Store, TICK, When, scripted};
use crate::polled::start_waiting;
use crate::runtimes::run_paused;
use crate::verdicts::{assert_error, assert_held, granted, refused};

/// A try that gets no answer is `Connection` after one operation timeout, with the duration as its
/// typed source; a refusal is `Backend` at once. Neither leaves anything behind.
pub fn a_try_ends_in_time_with_the_right_error<S: Store>(store: impl Fn() -> S) {
    for outcome in Outcome::WRONG {
        run_paused(async {
            let store = store();
            let (here, script) = scripted(&store, TokioClock::default());
            script.spoil(Call::TryAcquire, When::Nth(1), outcome);
            let began = Instant::now();
            let result = here.try_acquire_lock("tried").await;
            let took = began.elapsed();
            match outcome {
                Outcome::Refused | Outcome::RefusedForNow => {
                    assert_error!(result, LockError::Backend(_))
                }
                Outcome::SilentBefore | Outcome::SilentAfter => {
                    assert_error!(result, LockError::Connection(source)
                        if source.downcast_ref() == Some(&NoAnswer(OPERATION_TIMEOUT)));
                    assert!(took <= OPERATION_TIMEOUT + TICK, "told after {took:?}");
                }
                _ => assert_error!(result, LockError::Connection(_)),
            }
            granted(here.try_acquire_lock("tried").await).release().await.expect("a release");
            assert_eq!(store.left(), 0, "{outcome:?}: the failed try left something");
        });
    }
}

/// A try that comes while another task's request is unanswered waits for it: it gets the lock if
/// that fails, or says `Connection` in time; it is never told "held" when nobody holds.
pub fn a_try_behind_what_is_under_way_does_not_guess<S: Store>(store: impl Fn() -> S) {
    for outcome in [Outcome::SilentBefore, Outcome::SilentAfter] {
        run_paused(async {
            let store = store();
            let (here, script) = scripted(&store, TokioClock::default());
            script.spoil(Call::TryAcquire, When::Nth(1), outcome);
            let lock = here.create_lock("unanswered");
            let first = start_waiting(async move { lock.try_acquire().await });
            let began = Instant::now();
            let second = here.try_acquire_lock("unanswered").await;
            let took = began.elapsed();
            assert!(took <= OPERATION_TIMEOUT + TICK, "told after {took:?}");
            match second {
                Ok(Some(handle)) => handle.release().await.expect("a clean release"),
                Ok(None) => panic!("{outcome:?}: refused, and nobody held it"),
                Err(error) => assert_error!(Err::<(), _>(error), LockError::Connection(_)),
            }
            assert_error!(first.await.expect("the first task"), LockError::Connection(_));
        });
    }
}

/// A try after a drop waits for a release that is slow, and after one operation timeout says that it
/// could not find out; a drop itself takes no time at all.
pub fn a_try_after_a_drop_waits_for_the_release<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let store = store();
        let (here, script) = scripted(&store, TokioClock::default());
        let held = granted(here.try_acquire_lock("dropped").await);
        script.spoil(Call::Release, When::Nth(1), Outcome::Late(OPERATION_TIMEOUT / 2));
        let began = Instant::now();
        drop(held);
        assert_eq!(began.elapsed(), Duration::ZERO, "a drop waited");
        let held = granted(here.try_acquire_lock("dropped").await);
        assert!(began.elapsed() >= OPERATION_TIMEOUT / 2, "it did not wait for the release");
        script.spoil(Call::Release, When::From(2), Outcome::SilentBefore);
        let began = Instant::now();
        drop(held);
        match here.try_acquire_lock("dropped").await {
            // The store says so itself, once the release was given up for the time being.
            Ok(None) => assert!(began.elapsed() >= OPERATION_TIMEOUT, "it did not wait"),
            other => assert_error!(other, LockError::Connection(_)),
        }
        let took = began.elapsed();
        assert!(took <= OPERATION_TIMEOUT + TICK, "told after {took:?}");
    });
}

/// A shutdown while the server is silent ends within two operation timeouts, tells every holder, and
/// names what could not be released; what was lost by then is not waited for.
pub fn a_shutdown_ends_in_time_and_says_what_is_left<S: Store>(store: impl Fn() -> S) {
    for outcome in [Outcome::SilentBefore, Outcome::Cut, Outcome::Refused] {
        run_paused(async {
            let (store, clock) = (store(), TokioClock::default());
            let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
            let held = granted(here.try_acquire_lock("left").await);
            let others = granted(there.try_acquire_lock("waited for").await);
            let lock = here.create_lock("waited for");
            let waiter = start_waiting(async move { lock.acquire(None).await });
            script.spoil(Call::Release, When::From(1), outcome);
            script.spoil(Call::Withdraw, When::From(1), outcome);
            let began = Instant::now();
            let failures = here.shutdown().await;
            let took = began.elapsed();
            assert!(took <= OPERATION_TIMEOUT * 2 + TICK, "the shutdown took {took:?}");
            let names: Vec<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["left"], "{outcome:?}");
            for (_, error) in failures {
                match outcome {
                    Outcome::Refused => assert_error!(Err::<(), _>(error), LockError::Backend(_)),
                    _ => assert_error!(Err::<(), _>(error), LockError::Connection(_)),
                }
            }
            assert!(held.is_lost() && held.lost_token().is_cancelled(), "the holder was not told");
            assert_error!(held.release().await, LockError::LockLost(_));
            assert_error!(waiter.await.expect("the waiter"), LockError::Cancelled);
            refused(there.try_acquire_lock("waited for").await);
            assert_held(&others);
            others.release().await.expect("a clean release");
        });
    }
}
