//! Futures dropped after every one of their polls leave nothing behind.

use std::task::Poll;
use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::time::Instant;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{FREED_WITHIN, OTHERS_GO_ON_WITHIN, assert_freed};
use crate::polled::Polled;
use crate::runtimes::run;
use crate::verdicts::granted;

/// Longer than any answer of a healthy backend makes a future wait for its next poll; only waits
/// for a lock that is held take longer, and are polled unwoken.
const PACE: Duration = Duration::from_millis(5);

/// More polls than any acquire needs.
const ENOUGH: usize = 10_000;

/// `acquire` of a free lock, dropped after its k-th poll, for every k until it completes.
pub fn an_acquire_of_a_free_lock(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cancel free").await;
        let lock = here.create_lock(&name);
        let mut cases = 0;
        for polls in 0..ENOUGH {
            let completed = poll_and_drop(lock.acquire(None), polls).await;
            assert_freed(&there, &name, &format!("acquire dropped after poll {polls}")).await;
            cases += 1;
            if completed {
                break;
            }
        }
        assert!((2..ENOUGH).contains(&cases), "it completes after at least one poll");
        println!("acquire of a free lock dropped: {cases} cases");
    });
}

/// `try_acquire`, of a free and of a held lock, dropped after its k-th poll, for every k.
pub fn a_try(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cancel try").await;
        let lock = here.create_lock(&name);
        let mut cases = 0;
        for is_held in [false, true] {
            for polls in 0..ENOUGH {
                let held =
                    if is_held { Some(granted(there.try_acquire_lock(&name).await)) } else { None };
                let completed = poll_and_drop(lock.try_acquire(), polls).await;
                drop(held);
                assert_freed(&there, &name, &format!("try dropped after poll {polls}")).await;
                cases += 1;
                if completed {
                    break;
                }
            }
        }
        assert!((4..ENOUGH).contains(&cases), "it completes after at least one poll");
        println!("try dropped: {cases} cases");
    });
}

/// `acquire` of a lock that another process holds, dropped after its k-th poll, for every k; the
/// holder releases before each of the polls in turn, the last of them never made.
pub fn an_acquire_that_another_process_makes_wait(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cancel wait").await;
        let cases = contended(&here, &there, &there, &name).await;
        println!("acquire of a lock held by another process dropped: {cases} cases");
    });
}

/// The same, held by the process that waits.
pub fn an_acquire_that_its_own_process_makes_wait(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cancel local wait").await;
        let cases = contended(&here, &here, &there, &name).await;
        println!("acquire of a lock held by the same process dropped: {cases} cases");
    });
}

/// A waiter that is dropped does not take with it the one behind.
pub fn the_waiter_behind_a_dropped_one_goes_on(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cancel ahead").await;
        let lock = here.create_lock(&name);
        for polls in 0..6 {
            // The dropped one may have been granted it, and may still be giving it back.
            let held = there
                .acquire_lock(&name, Some(OTHERS_GO_ON_WITHIN))
                .await
                .expect("it is free soon");
            let mut ahead = Polled::new(lock.acquire(None));
            let mut behind = Polled::new(lock.acquire(None));
            for _ in 0..polls {
                assert!(ahead.poll().is_pending(), "granted while it was held");
                assert!(behind.poll().is_pending(), "granted while it was held");
                ahead.woken(PACE).await;
            }
            held.release().await.expect("a clean release");
            drop(ahead);
            let mut completed = false;
            for _ in 0..ENOUGH {
                if let Poll::Ready(result) = behind.poll() {
                    result.expect("an endless wait").release().await.expect("a clean release");
                    completed = true;
                    break;
                }
                behind.woken(Duration::from_millis(100)).await;
            }
            assert!(completed, "the waiter behind is stuck");
            assert_freed(&there, &name, "both waiters").await;
        }
    });
}

/// `release`, dropped after its k-th poll, for every k: it is finished in the background.
pub fn a_release(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cancel release").await;
        let mut cases = 0;
        for polls in 0..ENOUGH {
            let held = granted(here.try_acquire_lock(&name).await);
            let completed = poll_and_drop(held.release(), polls).await;
            assert_freed(&there, &name, &format!("release dropped after poll {polls}")).await;
            assert_freed(&here, &name, &format!("release dropped after poll {polls}")).await;
            cases += 1;
            if completed {
                break;
            }
        }
        assert!((2..ENOUGH).contains(&cases), "it completes after at least one poll");
        println!("release dropped: {cases} cases");
    });
}

/// Polls so many times, each time when woken or after the pace, and drops it; whether it completed.
async fn poll_and_drop<T>(
    future: impl Future<Output = Result<T, impl std::fmt::Debug>>,
    polls: usize,
) -> bool {
    let mut future = Polled::new(future);
    for _ in 0..polls {
        if let Poll::Ready(result) = future.poll() {
            assert!(result.is_ok(), "failed without a fault: {:?}", result.err());
            return true;
        }
        future.woken(PACE).await;
    }
    false
}

/// How many tasks of the runtime live when the lock was waited for and nothing was cancelled.
async fn idle<P: LockProvider>(lock: &P::Lock, holds: &P, observes: &P, name: &str) -> usize {
    let held = granted(holds.try_acquire_lock(name).await);
    let (waited, released) = tokio::join!(lock.acquire(None), held.release());
    released.expect("a clean release");
    waited.expect("an endless wait").release().await.expect("a clean release");
    assert_freed(observes, name, "a hand-over").await;
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Fails if a second after the last cancellation more tasks live than in the beginning.
async fn assert_idle(idle: usize) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let deadline = Instant::now() + FREED_WITHIN;
    while tasks() > idle {
        assert!(Instant::now() < deadline, "{} tasks, {idle} in the beginning", tasks());
        tokio::time::sleep(PACE).await;
    }
}

async fn contended<P: LockProvider>(waits: &P, holds: &P, observes: &P, name: &str) -> usize {
    let lock = waits.create_lock(name);
    let idle = idle(&lock, holds, observes, name).await;
    let mut cases = 0;
    for release_before in 0..5 {
        for polls in release_before..ENOUGH {
            // A request that was dropped on its way may take the lock for a moment even now.
            let taken = holds.acquire_lock(name, Some(FREED_WITHIN)).await;
            let mut held = Some(taken.expect("free soon after a cancellation"));
            let mut waiter = Polled::new(lock.acquire(None));
            let mut completed = None;
            for poll in 0..=polls {
                if poll == release_before
                    && let Some(held) = held.take()
                {
                    held.release().await.expect("a clean release");
                }
                if poll == polls {
                    break;
                }
                if let Poll::Ready(result) = waiter.poll() {
                    assert!(held.is_none(), "granted while it was held");
                    completed = Some(result.expect("an endless wait"));
                    break;
                }
                waiter.woken(PACE).await;
            }
            let over = completed.is_some();
            drop(waiter);
            drop(completed);
            let what = format!("released before poll {release_before}, dropped after {polls}");
            assert_freed(observes, name, &what).await;
            cases += 1;
            if over {
                break;
            }
        }
    }
    assert!((10..ENOUGH).contains(&cases), "{cases} cases are not what was meant");
    assert_idle(idle).await;
    cases
}
