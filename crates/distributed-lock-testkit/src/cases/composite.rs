//! Several locks at once: `acquire_all`.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider, ProviderExt};
use tokio::time::Instant;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{SLACK, WATCHED_FOR, assert_freed, within};
use crate::polled::Polled;
use crate::runtimes::run;
use crate::verdicts::{Unprotected, assert_error, assert_held, granted, refused, unique_name};

/// How often two tasks of one process ask for the same names.
const ROUNDS: u64 = 100;

/// The same between two processes, where each hand-over may take longer.
const ROUNDS_BETWEEN_PROCESSES: u64 = 25;

/// Two tasks of one process that ask for the same names in opposite orders never wait for each other
/// in a circle, and have them one at a time.
pub fn opposite_orders_never_deadlock_in_one_process(backend: &impl Backend) {
    run(async {
        let here = backend.connect().await;
        opposite_orders([here.clone(), here], ROUNDS).await;
    });
}

/// The same for two processes.
pub fn opposite_orders_never_deadlock_between_processes(backend: &impl Backend) {
    run(async {
        let processes = [backend.connect().await, backend.connect().await];
        opposite_orders(processes, ROUNDS_BETWEEN_PROCESSES).await;
    });
}

async fn opposite_orders(processes: [impl Provider; 2], rounds: u64) {
    let names: Vec<String> = (0..5).map(|_| unique_name("all")).collect();
    let protected = Arc::new(Unprotected::default());
    let mut tasks = Vec::new();
    for (number, process) in processes.into_iter().enumerate() {
        let (mut names, protected) = (names.clone(), Arc::clone(&protected));
        if number == 1 {
            names.reverse();
        }
        tasks.push(tokio::spawn(async move {
            for _ in 0..rounds {
                let held = process.acquire_all(&names, None).await.expect("an endless wait");
                held.guard(protected.visit()).await.expect("held locks");
                held.release().await.expect("a clean release");
            }
        }));
    }
    for task in tasks {
        task.await.expect("a task");
    }
    assert_eq!(protected.count(), rounds * 2);
}

/// A name that is given twice, or in two spellings, is one lock, and does not wait for itself.
pub fn one_lock_is_acquired_once(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "twice").await;
        let other = unique_name("twice");
        let [first, second] = backend.spellings().unwrap_or([name.clone(), name.clone()]);
        let names = [&name, &other, &first, &name, &second];
        let held = within(SLACK * 4, "no wait for oneself", here.acquire_all(names, None)).await;
        let held = held.expect("free locks");
        assert_eq!(held.len(), if first == name { 2 } else { 3 });
        assert!(!held.is_lost());
        for (name, handle) in held.iter() {
            assert_held(handle);
            refused(there.try_acquire_lock(name).await);
        }
        held.release().await.expect("a clean release");
        for name in names {
            granted(there.try_acquire_lock(name).await).release().await.expect("a clean release");
        }
    });
}

/// What was acquired when one name could not be had in time is given back, and the whole timeout is
/// in the error; so it is if the future is dropped half way, or the handles are.
pub fn all_or_nothing(backend: &impl Backend) {
    run(async {
        let (here, there, _) = two_processes(backend, "all or nothing").await;
        let names: Vec<String> = (0..5).map(|_| unique_name("all or nothing")).collect();
        let last = names.iter().max_by_key(|name| here.native_key(name).expect("a good name"));
        let name = last.expect("five names").clone();
        let held = granted(there.try_acquire_lock(&name).await);
        for timeout in [Duration::ZERO, WATCHED_FOR] {
            let began = Instant::now();
            let result = here.acquire_all(&names, Some(timeout)).await;
            assert_error!(result, LockError::Timeout(after) if after == timeout);
            let took = began.elapsed();
            let bound = timeout + backend.operation_timeout() + SLACK;
            assert!(took >= timeout && took <= bound, "{timeout:?} took {took:?}");
            assert_others_freed(&there, &names, &name, "a timeout").await;
        }
        let mut dropped = Polled::new(here.acquire_all(&names, None));
        while dropped.poll().is_pending() && began_to_wait(&there, &names, &name).await {
            dropped.woken(WATCHED_FOR).await;
        }
        drop(dropped);
        assert_others_freed(&there, &names, &name, "a drop").await;
        held.release().await.expect("a clean release");
        drop(here.acquire_all(&names, None).await.expect("free locks"));
        for name in &names {
            assert_freed(&there, name, "handles that were dropped").await;
        }
    });
}

/// Whether no lock but the one that is held elsewhere has been acquired yet.
async fn began_to_wait(there: &impl Provider, names: &[String], held: &str) -> bool {
    for name in names.iter().filter(|name| *name != held) {
        match there.try_acquire_lock(name).await.expect("a try") {
            Some(free) => free.release().await.expect("a clean release"),
            None => return false,
        }
    }
    true
}

async fn assert_others_freed(there: &impl Provider, names: &[String], held: &str, after: &str) {
    for name in names.iter().filter(|name| *name != held) {
        assert_freed(there, name, after).await;
    }
}
