//! Nobody else holds it: across processes, tasks, lock objects and acquisitions.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::task::JoinSet;

use super::two_processes;
use crate::backend::Backend;
use crate::runtimes::run;
use crate::verdicts::{Unprotected, assert_error, assert_held, granted, refused, unique_name};

/// Tasks of two processes that take one lock in turn never overlap, and all get it.
pub fn two_processes_never_overlap(backend: &impl Backend) {
    const TASKS: u64 = 4;
    const ROUNDS: u64 = 20;
    run(async {
        let (here, there, name) = two_processes(backend, "overlap").await;
        let counter = Arc::new(Unprotected::default());
        let mut tasks = JoinSet::new();
        for process in [here, there] {
            for _ in 0..TASKS {
                let lock = process.create_lock(&name);
                let counter = Arc::clone(&counter);
                tasks.spawn(async move {
                    for _ in 0..ROUNDS {
                        let handle = lock.acquire(None).await.expect("an endless wait");
                        counter.visit().await;
                        assert_held(&handle);
                        handle.release().await.expect("a clean release");
                    }
                });
            }
        }
        tasks.join_all().await;
        assert_eq!(counter.count(), 2 * TASKS * ROUNDS, "a count was lost");
    });
}

/// The task that holds it does not get it again: not by the same lock object, another one, a clone
/// of the provider or another process.
pub fn it_is_not_re_entrant(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "re-entrancy").await;
        let lock = here.create_lock(&name);
        let held = granted(lock.try_acquire().await);
        refused(lock.try_acquire().await);
        refused(here.create_lock(&name).try_acquire().await);
        refused(here.clone().try_acquire_lock(&name).await);
        refused(there.try_acquire_lock(&name).await);
        let brief = Duration::from_millis(30);
        assert_error!(lock.acquire(Some(brief)).await, LockError::Timeout(_));
        assert_held(&held);
        held.release().await.expect("a clean release");
    });
}

/// Locks of different names do not know each other.
pub fn names_are_independent(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "independence").await;
        let other = unique_name("independence");
        let first = granted(here.try_acquire_lock(&name).await);
        let second = granted(here.try_acquire_lock(&other).await);
        second.release().await.expect("a clean release");
        let second = granted(there.try_acquire_lock(&other).await);
        refused(there.try_acquire_lock(&name).await);
        refused(here.try_acquire_lock(&other).await);
        first.release().await.expect("a clean release");
        second.release().await.expect("a clean release");
    });
}

/// A lock says the name that it was made with.
pub fn a_lock_knows_its_name(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "its name").await;
        assert_eq!(here.create_lock(&name).name(), name);
    });
}
