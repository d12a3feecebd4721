//! Semaphores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use distributed_lock_core::TokenDurability;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{
    DistributedSemaphore, LockHandle, LockProviderExt, Provider, SemaphoreProvider,
};
use tokio::task::JoinSet;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::FREED_WITHIN;
use crate::polled::start_waiting;
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

/// Callers who do not agree on the number never hold more than the largest of them together.
pub fn differing_counts_never_exceed_the_largest(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "differing").await;
        let (small, large) = (here.create_semaphore(&name, 2), there.create_semaphore(&name, 4));
        for small_first in [true, false] {
            let mut held = Vec::new();
            for _ in 0..5 {
                let (first, second) = (small.try_acquire(), large.try_acquire());
                if small_first {
                    held.extend(first.await.expect("an answer"));
                    held.extend(second.await.expect("an answer"));
                } else {
                    held.extend(second.await.expect("an answer"));
                    held.extend(first.await.expect("an answer"));
                }
                assert!(held.len() <= 4, "{} holders of at most 4 permits", held.len());
            }
            assert_eq!(held.len(), 4, "the larger count has all its permits");
            refused(small.try_acquire().await);
            for permit in held {
                permit.release().await.expect("a clean release");
            }
        }
    });
}

/// However permits end, exactly all of them can be had afterwards; permits that are held at the same
/// time have different tokens.
pub fn all_permits_return(backend: &impl Backend) {
    const PERMITS: u32 = 5;
    run(async {
        let (here, there, name) = two_processes(backend, "return").await;
        let (mine, theirs) =
            (here.create_semaphore(&name, PERMITS), there.create_semaphore(&name, PERMITS));
        for round in 0..4 {
            let mut held = Vec::new();
            for number in 0..PERMITS {
                let process = if (number + round) % 2 == 0 { &mine } else { &theirs };
                held.push(process.acquire(Some(FREED_WITHIN)).await.expect("a permit is free"));
            }
            refused(theirs.try_acquire().await);
            refused(mine.try_acquire().await);
            if here.guarantees().tokens != TokenDurability::None {
                let mut tokens = Vec::new();
                for permit in &held {
                    tokens.push(permit.fencing_token().await.expect("a token of a held permit"));
                }
                tokens.sort_unstable();
                tokens.dedup();
                assert_eq!(tokens.len(), held.len(), "two permits with one token");
            }
            let waiting = here.create_semaphore(&name, PERMITS);
            let waiter = start_waiting(async move { waiting.acquire(None).await });
            waiter.abort();
            for (index, permit) in held.into_iter().enumerate() {
                if index % 2 == 0 {
                    permit.release().await.expect("a clean release");
                }
            }
        }
    });
}
