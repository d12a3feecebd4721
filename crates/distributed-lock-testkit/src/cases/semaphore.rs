//! Semaphores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{
    DistributedSemaphore, LockHandle, LockProviderExt, SemaphoreProvider,
};
use tokio::task::JoinSet;

use super::two_processes;
use crate::backend::Backend;
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused};

/// Exactly `max_count` permits are held at once, over all processes.
pub fn no_more_than_the_permits_are_held(backend: &impl Backend) {
    const PERMITS: u32 = 3;
    run(async {
        let (here, there, name) = two_processes(backend, "permits").await;
        let (mine, theirs) =
            (here.create_semaphore(&name, PERMITS), there.create_semaphore(&name, PERMITS));
        let first = granted(mine.try_acquire().await);
        let _second = granted(mine.try_acquire().await);
        let _third = granted(theirs.try_acquire().await);
        refused(mine.try_acquire().await);
        refused(theirs.try_acquire().await);
        first.release().await.expect("a clean release");
        let _fourth = granted(theirs.try_acquire().await);
        refused(mine.try_acquire().await);
    });
}

/// Many tasks of two processes all get a permit in the end, and never too many at once.
pub fn many_tasks_share_the_permits(backend: &impl Backend) {
    const PERMITS: u32 = 3;
    run(async {
        let (here, there, name) = two_processes(backend, "busy permits").await;
        let inside = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for process in [here, there] {
            for _ in 0..20 {
                let semaphore = process.create_semaphore(&name, PERMITS);
                let inside = Arc::clone(&inside);
                tasks.spawn(async move {
                    let permit = semaphore.acquire(None).await.expect("an endless wait");
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= PERMITS, "{now} holders of {PERMITS} permits");
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    permit.release().await.expect("a clean release");
                });
            }
        }
        assert_eq!(tasks.join_all().await.len(), 40);
    });
}

/// The semaphore of a name has nothing to do with its mutex.
pub fn it_is_separate_from_the_mutex(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "separate").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let permit = granted(there.create_semaphore(&name, 1).try_acquire().await);
        refused(here.create_semaphore(&name, 1).try_acquire().await);
        held.release().await.expect("a clean release");
        granted(here.try_acquire_lock(&name).await).release().await.expect("a clean release");
        permit.release().await.expect("a clean release");
    });
}

/// A semaphore without permits is a configuration mistake, not an endless wait.
pub fn no_permits_is_a_configuration_mistake(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "no permits").await;
        let none = here.create_semaphore(&name, 0);
        assert_error!(none.try_acquire().await, LockError::Config(_));
        assert_error!(none.acquire(None).await, LockError::Config(_));
    });
}
