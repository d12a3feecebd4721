//! Acquires whose task does not go on with them hold up no other for long.

use std::sync::mpsc;
use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{OTHERS_GO_ON_WITHIN, SLACK, WATCHED_FOR, within};
use crate::polled::Polled;
use crate::runtimes::{current_thread, run};
use crate::verdicts::{granted, unique_name};

/// An acquire that is polled once and then left alone, behind its own process, behind another, or of a
/// free lock: its own process goes on within an operation timeout, others within three fallback periods
/// and 3 s. Polled again, it gets the lock.
pub fn an_acquire_that_is_polled_once_holds_up_no_other(backend: &impl Backend) {
    run(async {
        tokio::join!(
            behind_its_own_process(backend),
            behind_another_process(backend),
            of_a_free_lock(backend),
            for_another_process(backend),
            a_release(backend),
        )
    });
}

/// A release that is polled once and then left alone.
async fn a_release(backend: &impl Backend) {
    let (here, there, name) = two_processes(backend, "release left alone").await;
    let held = granted(here.try_acquire_lock(&name).await);
    let mut alone = Polled::new(held.release());
    if alone.poll().is_pending() {
        let bound = Some(backend.operation_timeout() + SLACK);
        let next = here.acquire_lock(&name, bound).await;
        next.expect("the lock, in time").release().await.expect("a clean release");
        let next = there.acquire_lock(&name, Some(OTHERS_GO_ON_WITHIN)).await;
        next.expect("the lock, in time").release().await.expect("a clean release");
    }
}

async fn behind_its_own_process(backend: &impl Backend) {
    let (here, _, name) = two_processes(backend, "left behind its own").await;
    let held = granted(here.try_acquire_lock(&name).await);
    let locks: Vec<_> = (0..3).map(|_| here.create_lock(&name)).collect();
    let mut alone: Vec<_> = locks.iter().map(|lock| Polled::new(lock.acquire(None))).collect();
    for acquire in &mut alone {
        assert!(acquire.poll().is_pending(), "acquired while it was held");
    }
    let lock = here.create_lock(&name);
    let behind = tokio::spawn(async move { lock.acquire(Some(Duration::from_secs(30))).await });
    tokio::time::sleep(WATCHED_FOR).await;
    held.release().await.expect("a clean release");
    let bound = backend.operation_timeout() + SLACK;
    let next = within(bound, "the task behind three that are left alone", behind).await;
    let next = next.expect("the task").expect("the lock");
    next.release().await.expect("a clean release");
    for acquire in alone {
        let handle = acquire.finish().await.expect("polled again, it gets the lock");
        handle.release().await.expect("a clean release");
    }
}

async fn behind_another_process(backend: &impl Backend) {
    let (here, there, name) = two_processes(backend, "left behind another").await;
    let held = granted(there.try_acquire_lock(&name).await);
    let lock = here.create_lock(&name);
    let mut alone = Polled::new(lock.acquire(None));
    // Until it waits at the backend, and then no more.
    let established = Instant::now() + WATCHED_FOR;
    while Instant::now() < established {
        assert!(alone.poll().is_pending(), "acquired while it was held");
        alone.woken(WATCHED_FOR / 10).await;
    }
    held.release().await.expect("a clean release");
    let bound = backend.operation_timeout() + SLACK;
    let beside = here.acquire_lock(&name, Some(Duration::from_secs(30)));
    let beside = within(bound, "a task beside one that is left alone", beside).await;
    beside.expect("the lock").release().await.expect("a clean release");
    let handle = alone.finish().await.expect("polled again, it gets the lock");
    handle.release().await.expect("a clean release");
}

async fn of_a_free_lock(backend: &impl Backend) {
    let (here, there, name) = two_processes(backend, "left free").await;
    let lock = here.create_lock(&name);
    let mut alone = Polled::new(lock.acquire(None));
    if alone.poll().is_pending() {
        let next = there.acquire_lock(&name, Some(OTHERS_GO_ON_WITHIN)).await;
        next.expect("the lock, in time").release().await.expect("a clean release");
    }
}

/// As behind another process, and a third one waits.
async fn for_another_process(backend: &impl Backend) {
    let (here, there, name) = two_processes(backend, "left for another").await;
    let held = granted(there.try_acquire_lock(&name).await);
    let lock = here.create_lock(&name);
    let mut alone = Polled::new(lock.acquire(None));
    assert!(alone.poll().is_pending(), "acquired while it was held");
    tokio::time::sleep(WATCHED_FOR).await;
    assert!(alone.poll().is_pending(), "acquired while it was held");
    held.release().await.expect("a clean release");
    let next = there.acquire_lock(&name, Some(OTHERS_GO_ON_WITHIN)).await;
    next.expect("the lock, in time").release().await.expect("a clean release");
}

/// The same where synchronous code blocks the runtime of the waiting acquire.
pub fn an_acquire_whose_runtime_is_blocked_holds_up_no_other(backend: &impl Backend) {
    let name = &unique_name("blocked runtime");
    let (waits, is_waiting) = oneshot::channel();
    let (unblock, blocked) = mpsc::channel();
    let (hold, is_held) = mpsc::channel();
    std::thread::scope(|scope| {
        // A failure here drops these, which ends the other thread.
        let (hold, unblock) = (hold, unblock);
        let blocked_process = scope.spawn(move || {
            current_thread().block_on(async {
                let here = backend.connect().await;
                is_held.recv().expect("the test holds it");
                let lock = here.create_lock(name);
                let mut waiting = Polled::new(lock.acquire(None));
                let established = Instant::now() + 2 * WATCHED_FOR;
                while Instant::now() < established {
                    assert!(waiting.poll().is_pending(), "acquired while it was held");
                    waiting.woken(WATCHED_FOR / 10).await;
                }
                waits.send(()).expect("the test waits for this");
                // What synchronous code in a task does to its runtime.
                blocked.recv().expect("the test ends this");
                let handle = waiting.finish().await.expect("polled again, it gets the lock");
                handle.release().await.expect("a clean release");
            });
        });
        run(async {
            let there = backend.connect().await;
            let held = granted(there.try_acquire_lock(name).await);
            hold.send(()).expect("the blocked process waits for this");
            is_waiting.await.expect("it waits");
            held.release().await.expect("a clean release");
            let next = there.acquire_lock(name, Some(OTHERS_GO_ON_WITHIN)).await;
            next.expect("the lock, in time").release().await.expect("a clean release");
        });
        unblock.send(()).expect("the blocked process waits for this");
        blocked_process.join().expect("the blocked process");
    });
}

/// A try that comes while a wait of its process is being withdrawn, and the lock is free, waits for
/// that and gets the lock.
pub fn a_try_during_a_withdrawal_gets_the_free_lock(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "withdrawal").await;
        for round in 0..10 {
            let held = granted(there.try_acquire_lock(&name).await);
            let given_up = here.acquire_lock(&name, Some(Duration::from_millis(30))).await;
            assert!(given_up.is_err(), "acquired while it was held");
            held.release().await.expect("a clean release");
            match here.try_acquire_lock(&name).await.expect("an answer") {
                Some(handle) => handle.release().await.expect("a clean release"),
                None => panic!("round {round}: refused, though nothing holds or waits"),
            }
        }
    });
}
