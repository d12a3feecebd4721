//! The end of a provider.

use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{
    DistributedLock, LockHandle, LockProvider, LockProviderExt, Provider,
};

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{SLACK, assert_freed, within};
use crate::polled::start_waiting;
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, unique_name};

/// A handle that is out is told loss, its lock is freed, and its own release says so.
pub fn handles_are_told_loss_and_their_locks_freed(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "shutdown").await;
        let other = unique_name("shutdown");
        let released = granted(here.try_acquire_lock(&name).await);
        let dropped = granted(here.try_acquire_lock(&other).await);
        end(backend, &here).await;
        for handle in [&released, &dropped] {
            assert!(handle.is_lost() && handle.lost_token().is_cancelled(), "it was not told");
        }
        let next = granted(there.try_acquire_lock(&name).await);
        assert_error!(released.release().await, LockError::LockLost(_));
        drop(dropped);
        assert!(!next.is_lost(), "a stale release touched the next holder");
        next.release().await.expect("a clean release");
        assert_freed(&there, &other, "the shutdown").await;
    });
}

/// Waiters, at the server and in the local queue, end with `Cancelled` and leave nothing behind.
pub fn waiters_are_cancelled(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "shutdown waiters").await;
        let held = granted(there.try_acquire_lock(&name).await);
        let waiters: Vec<_> = [None, None, Some(Duration::from_secs(50))]
            .into_iter()
            .map(|timeout| {
                let lock = here.create_lock(&name);
                start_waiting(async move { lock.acquire(timeout).await })
            })
            .collect();
        end(backend, &here).await;
        for waiter in waiters {
            let result = within(SLACK, "the end of a waiter", waiter).await.expect("the waiter");
            assert_error!(result, LockError::Cancelled);
        }
        held.release().await.expect("a clean release");
        assert_freed(&there, &name, "cancelled waiters").await;
    });
}

/// Afterwards nothing can be acquired, not by clones and not by lock objects made before.
pub fn nothing_is_acquired_afterwards(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "after shutdown").await;
        let (before, clone) = (here.create_lock(&name), here.clone());
        end(backend, &here).await;
        assert_error!(before.try_acquire().await, LockError::Cancelled);
        assert_error!(before.acquire(None).await, LockError::Cancelled);
        assert_error!(clone.try_acquire_lock(&name).await, LockError::Cancelled);
        assert_error!(here.acquire_lock(&name, Some(SLACK)).await, LockError::Cancelled);
        assert_freed(&there, &name, "refused acquires").await;
        // A second time changes nothing.
        end(backend, &clone).await;
    });
}

/// Drops and cancellations that are still under way are waited for.
pub fn what_is_under_way_is_waited_for(backend: &impl Backend) {
    run(async {
        let (here, there, _) = two_processes(backend, "busy shutdown").await;
        let names: Vec<String> = (0..10).map(|_| unique_name("busy shutdown")).collect();
        for name in &names {
            drop(granted(here.try_acquire_lock(name).await));
        }
        end(backend, &here).await;
        for name in &names {
            granted(there.try_acquire_lock(name).await).release().await.expect("a clean release");
        }
    });
}

/// Ends a provider, in time and with nothing to complain about.
async fn end<B: Backend>(backend: &B, provider: &B::Provider) {
    let bound = backend.operation_timeout() * 2 + SLACK;
    let failures = within(bound, "the shutdown", provider.shutdown()).await;
    assert!(failures.is_empty(), "could not be released: {failures:?}");
}
