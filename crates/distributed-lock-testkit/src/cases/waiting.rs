//! Waiting and its end: the release, or the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::time::Instant;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{HANDED_OVER_WITHIN, SLACK, WATCHED_FOR, within};
use crate::polled::start_waiting;
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused};

/// A waiter, in the holder's process or another, has the lock after its release and not before.
pub fn a_waiter_gets_it_after_the_release_and_not_before(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "hand-over").await;
        for waiting in [here.clone(), there] {
            let held = granted(here.try_acquire_lock(&name).await);
            let released = Arc::new(AtomicBool::new(false));
            let (lock, seen) = (waiting.create_lock(&name), Arc::clone(&released));
            let mut waiter = start_waiting(async move {
                let handle = lock.acquire(None).await.expect("an endless wait");
                assert!(seen.load(Ordering::SeqCst), "granted before the release");
                handle
            });
            assert!(
                tokio::time::timeout(WATCHED_FOR, &mut waiter).await.is_err(),
                "ended while the lock was held"
            );
            released.store(true, Ordering::SeqCst);
            held.release().await.expect("a clean release");
            let handle = within(HANDED_OVER_WITHIN, "the hand-over", waiter).await;
            handle.expect("the waiter").release().await.expect("a clean release");
        }
    });
}

/// A timeout of zero is one try: it gets a free lock, and does not wait for a held one.
pub fn zero_is_one_try(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "zero").await;
        let zero = Some(Duration::ZERO);
        let held = here.acquire_lock(&name, zero).await.expect("a free lock");
        for process in [&here, &there] {
            let try_once = process.acquire_lock(&name, zero);
            let bound = backend.operation_timeout() + SLACK;
            let result = within(bound, "one try", try_once).await;
            assert_error!(result, LockError::Timeout(Duration::ZERO));
        }
        held.release().await.expect("a clean release");
    });
}

/// A free lock is had with any timeout, however short or long.
pub fn a_free_lock_is_had_with_any_timeout(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "any timeout").await;
        for timeout in TIMEOUTS {
            let handle = here.acquire_lock(&name, timeout).await;
            let handle = handle.unwrap_or_else(|error| panic!("{timeout:?}: {error:?}"));
            handle.release().await.expect("a clean release");
        }
    });
}

/// A held lock is waited for with any timeout: the tiny ones end at once, the huge ones with the
/// release.
pub fn a_held_lock_is_waited_for_with_any_timeout(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "any wait").await;
        for timeout in TIMEOUTS {
            for waiting in [&here, &there] {
                let held = granted(here.try_acquire_lock(&name).await);
                let lock = waiting.create_lock(&name);
                if timeout.is_some_and(|timeout| timeout < Duration::from_secs(1)) {
                    let bound = backend.operation_timeout() + SLACK;
                    let result = within(bound, "a tiny wait", lock.acquire(timeout)).await;
                    assert_error!(result, LockError::Timeout(told) if Some(told) == timeout);
                    held.release().await.expect("a clean release");
                } else {
                    let waiter = start_waiting(async move { lock.acquire(timeout).await });
                    held.release().await.expect("a clean release");
                    let handle = within(HANDED_OVER_WITHIN, "a huge wait", waiter).await;
                    let handle = handle.expect("the waiter").expect("a free lock");
                    handle.release().await.expect("a clean release");
                }
            }
        }
    });
}

/// "Held" is `Ok(None)`, "could not" is an error, and they are never mixed up.
pub fn held_and_failed_are_told_apart(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "held or failed").await;
        let too_long = "x".repeat(1025);
        let held = granted(here.try_acquire_lock(&name).await);
        for process in [&here, &there] {
            refused(process.try_acquire_lock(&name).await);
            let failed = process.try_acquire_lock(&too_long).await;
            assert_error!(failed, LockError::InvalidName(_));
            let failed = process.acquire_lock(&too_long, None).await;
            assert_error!(failed, LockError::InvalidName(_));
        }
        held.release().await.expect("a clean release");
    });
}

/// `Timeout` carries the caller's own duration, and comes no earlier than that and no later than
/// one operation timeout after it.
pub fn a_timeout_is_on_time(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "on time").await;
        let held = granted(here.try_acquire_lock(&name).await);
        for timeout in [1, 30, 120].map(Duration::from_millis) {
            for process in [&here, &there] {
                let began = Instant::now();
                let result = process.acquire_lock(&name, Some(timeout)).await;
                let took = began.elapsed();
                assert_error!(result, LockError::Timeout(told) if told == timeout);
                assert!(took >= timeout, "gave up after {took:?} of {timeout:?}");
                let bound = timeout + backend.operation_timeout() + SLACK;
                assert!(took <= bound, "took {took:?}, at most {bound:?} were promised");
            }
        }
        held.release().await.expect("a clean release");
    });
}

/// `try_acquire` does not wait for a holder, nor for those who do.
pub fn a_try_never_waits(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "try").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let lock = there.create_lock(&name);
        let waiter = start_waiting(async move { lock.acquire(None).await });
        for process in [&here, &there] {
            let bound = backend.operation_timeout() + SLACK;
            refused(within(bound, "a try", process.try_acquire_lock(&name)).await);
        }
        held.release().await.expect("a clean release");
        let handle = waiter.await.expect("the waiter").expect("an endless wait");
        handle.release().await.expect("a clean release");
    });
}

/// Nothing, as little as can be said, as much as can be said, and for ever.
const TIMEOUTS: [Option<Duration>; 4] =
    [Some(Duration::ZERO), Some(Duration::from_nanos(1)), Some(Duration::MAX), None];
