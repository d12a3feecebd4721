//! First come, first served, inside a process.

use std::sync::{Arc, Mutex};

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::task::JoinSet;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{HANDED_OVER_WITHIN, within};
use crate::polled::start_waiting;
use crate::runtimes::run;
use crate::verdicts::{Unprotected, granted};

/// Waiting tasks are served in the order in which they came, whether the lock was held by their own
/// process or another; those who gave up are passed over.
pub fn tasks_are_served_in_order_of_arrival(backend: &impl Backend) {
    const WAITERS: usize = 20;
    run(async {
        let (here, there, name) = two_processes(backend, "order").await;
        for holder in [&here, &there] {
            let held = granted(holder.try_acquire_lock(&name).await);
            let served = Arc::new(Mutex::new(Vec::new()));
            let mut waiters = Vec::new();
            for number in 0..WAITERS {
                let (lock, served) = (here.create_lock(&name), Arc::clone(&served));
                waiters.push(start_waiting(async move {
                    let handle = lock.acquire(None).await.expect("an endless wait");
                    served.lock().expect("not poisoned").push(number);
                    handle.release().await.expect("a clean release");
                }));
            }
            // The first waits at the server, the others do not.
            for gives_up in [0, 7] {
                waiters[gives_up].abort();
                let ended = (&mut waiters[gives_up]).await;
                assert!(ended.is_err_and(|error| error.is_cancelled()), "it had nothing to do");
            }
            held.release().await.expect("a clean release");
            for (number, waiter) in waiters.into_iter().enumerate() {
                if number != 0 && number != 7 {
                    within(HANDED_OVER_WITHIN, "its turn", waiter).await.expect("a waiter");
                }
            }
            let expected: Vec<usize> = (0..WAITERS).filter(|n| *n != 0 && *n != 7).collect();
            assert_eq!(*served.lock().expect("not poisoned"), expected);
        }
    });
}

/// Five hundred tasks on one name all get it, and never two at once.
pub fn five_hundred_tasks_all_get_it(backend: &impl Backend) {
    const TASKS: u64 = 500;
    run(async {
        let (here, _, name) = two_processes(backend, "five hundred").await;
        let counter = Arc::new(Unprotected::default());
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (lock, counter) = (here.create_lock(&name), Arc::clone(&counter));
            tasks.spawn(async move {
                let handle = lock.acquire(None).await.expect("an endless wait");
                counter.visit().await;
                handle.release().await.expect("a clean release");
            });
        }
        tasks.join_all().await;
        assert_eq!(counter.count(), TASKS, "a count was lost");
    });
}
