//! Handles that are dropped wherever a handle can be dropped.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use distributed_lock_core::traits::{DistributedLock, LockProvider, LockProviderExt};
use tokio::runtime::Runtime;

use super::{Held, two_processes};
use crate::backend::Backend;
use crate::bounds::assert_freed;
use crate::polled::start_waiting;
use crate::runtimes::{current_thread, multi_thread, run};
use crate::verdicts::{granted, refused, unique_name};

/// In a task, on a runtime that goes on.
pub fn in_a_runtime(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "drop in a runtime").await;
        drop(granted(here.try_acquire_lock(&name).await));
        assert_freed(&there, &name, "a drop in a task").await;
    });
}

/// Many at once: none is forgotten.
pub fn many_at_once(backend: &impl Backend) {
    run(async {
        let (here, there, _) = two_processes(backend, "many drops").await;
        let names: Vec<String> = (0..50).map(|_| unique_name("many drops")).collect();
        let mut handles = Vec::new();
        for name in &names {
            handles.push(granted(here.try_acquire_lock(name).await));
        }
        drop(handles);
        for name in &names {
            assert_freed(&there, name, "a drop among many").await;
        }
    });
}

/// On a thread without a runtime, while the runtime that acquired it lives.
pub fn outside_any_runtime(backend: &impl Backend) {
    dropped(backend, "outside", |held, runtime| {
        drop(held);
        runtime
    });
}

/// On a thread without a runtime, after the runtime that acquired it ended.
pub fn after_its_runtime_ended(backend: &impl Backend) {
    dropped(backend, "after its runtime", |held, runtime| {
        drop(runtime);
        drop(held);
    });
}

/// By the end of a runtime, as part of a task that it drops.
pub fn while_its_runtime_ends(backend: &impl Backend) {
    dropped(backend, "with its runtime", |held, runtime| {
        runtime.spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
    });
}

/// As the last thing that a runtime does before nobody drives it any more.
pub fn in_a_runtime_that_is_then_not_driven(backend: &impl Backend) {
    dropped(backend, "then not driven", |held, runtime| {
        runtime.block_on(async { drop(held) });
        runtime
    });
}

/// While a panic unwinds, on a thread without a runtime.
pub fn in_a_panic(backend: &impl Backend) {
    dropped(backend, "panic", |held, runtime| {
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _held = held;
            resume_unwind(Box::new("meant to panic"));
        }));
        assert!(unwound.is_err_and(|cause| cause.is::<&str>()), "it was the test's own panic");
        runtime
    });
}

/// By a task that panics.
pub fn in_a_task_that_panics(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "task panic").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let task = tokio::spawn(async move {
            let _held = held;
            tokio::task::yield_now().await;
            resume_unwind(Box::new("meant to panic"));
        });
        assert!(task.await.is_err_and(|error| error.is_panic()), "the task was to panic");
        assert_freed(&there, &name, "a task's panic").await;
    });
}

/// A waiter whose runtime ends leaves nothing behind, wherever it waited.
pub fn a_waiter_with_its_runtime(backend: &impl Backend) {
    let observer = multi_thread();
    for (runtime, local) in [(current_thread(), true), (multi_thread(), false)] {
        let (here, there, name) = runtime.block_on(two_processes(backend, "waiter's runtime"));
        let third = observer.block_on(backend.connect());
        let holder = if local { &here } else { &third };
        let held = observer.block_on(async { granted(holder.try_acquire_lock(&name).await) });
        runtime.block_on(async {
            for process in [&here, &here, &there] {
                let lock = process.create_lock(&name);
                drop(start_waiting(async move { lock.acquire(None).await }));
            }
            tokio::task::yield_now().await;
        });
        drop(runtime);
        observer.block_on(async {
            refused(third.try_acquire_lock(&name).await);
            drop(held);
            assert_freed(&third, &name, "the end of the waiters' runtime").await;
        });
    }
}

/// Takes a lock on a runtime of each kind, does `then`, and sees it freed from another runtime and
/// process while what `then` returned still lives.
fn dropped<B: Backend, T>(backend: &B, case: &str, then: impl Fn(Held<B::Provider>, Runtime) -> T) {
    let observer = multi_thread();
    for runtime in [current_thread(), multi_thread()] {
        let there = observer.block_on(backend.connect());
        let name = unique_name(case);
        let (here, held) = runtime.block_on(async {
            let here = backend.connect().await;
            let held = granted(here.try_acquire_lock(&name).await);
            (here, held)
        });
        observer.block_on(async { refused(there.try_acquire_lock(&name).await) });
        let left = then(held, runtime);
        observer.block_on(assert_freed(&there, &name, case));
        observer.block_on(assert_freed(&here, &name, case));
        drop(left);
    }
}
