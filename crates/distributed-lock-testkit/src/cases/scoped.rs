//! Work under a lock: `with_lock`.

use std::sync::atomic::{AtomicBool, Ordering};

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider, ProviderExt};
use tokio::task::JoinHandle;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{WATCHED_FOR, assert_freed};
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused};

/// The work runs while the lock is held, in a task, with what it captured by `&mut`; its result is
/// returned, and then the lock is free at once.
pub fn work_runs_under_its_lock(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "scoped").await;
        let (locked, other) = (name.clone(), there.clone());
        let work = tokio::spawn(async move {
            let mut seen = Vec::new();
            let result = here.with_lock(&locked, None, async |handle| {
                assert!(!handle.is_lost());
                refused(other.try_acquire_lock(&locked).await);
                tokio::task::yield_now().await;
                seen.push(handle.is_lost());
                seen.len()
            });
            (result.await, seen)
        });
        let (result, seen) = work.await.expect("the task");
        assert_eq!((result.expect("a clean release"), seen), (1, vec![false]));
        granted(there.try_acquire_lock(&name).await).release().await.expect("a clean release");
    });
}

/// What the acquire says is returned, and then the work has not begun.
pub fn without_the_lock_no_work_begins(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "scoped timeout").await;
        let held = granted(there.try_acquire_lock(&name).await);
        let begun = AtomicBool::new(false);
        let work = async |_: &_| begun.store(true, Ordering::SeqCst);
        let result = here.with_lock(&name, Some(WATCHED_FOR), work).await;
        assert_error!(result, LockError::Timeout(after) if after == WATCHED_FOR);
        held.release().await.expect("a clean release");
        assert_eq!(here.shutdown().await.len(), 0);
        let work = async |_: &_| begun.store(true, Ordering::SeqCst);
        assert_error!(here.with_lock(&name, None, work).await, LockError::Cancelled);
        assert!(!begun.load(Ordering::SeqCst), "it worked without its lock");
    });
}

/// Work that fails by its own account, panics or is dropped half way leaves the lock free.
pub fn however_work_ends_its_lock_is_free(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "scoped end").await;
        let failed = here.with_lock(&name, None, async |_| Err::<(), _>("failed")).await;
        assert_eq!(failed.expect("a clean release"), Err("failed"));
        assert_freed(&there, &name, "work that failed").await;
        let (process, locked) = (here.clone(), name.clone());
        let panics: JoinHandle<LockResult<()>> = tokio::spawn(async move {
            process.with_lock(&locked, None, async |_| panic!("meant to panic")).await
        });
        assert!(panics.await.is_err_and(|error| error.is_panic()), "the panic was swallowed");
        assert_freed(&there, &name, "work that panicked").await;
        let work = here.with_lock(&name, None, async |_| std::future::pending::<()>().await);
        let dropped = tokio::time::timeout(WATCHED_FOR, work).await;
        assert!(dropped.is_err(), "endless work ended: {dropped:?}");
        assert_freed(&there, &name, "work that was dropped").await;
    });
}
