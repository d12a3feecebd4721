//! Runtimes without timers or I/O, and none at all: what needs them is `Config`, never a panic, and
//! leaves nothing behind.

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider, ProviderExt};
use distributed_lock_core::{Mode, blocking};
use tokio::runtime::Runtime;

use crate::backend::Backend;
use crate::bare::Bare;
use crate::bounds::{WATCHED_FOR, assert_freed};
use crate::runtimes::multi_thread;
use crate::verdicts::{granted, unique_name};

/// Building works or is refused, and what was built works in a proper runtime.
pub fn building(backend: &impl Backend) {
    for bare in Bare::all() {
        if let Some(provider) = unless_refused(&bare, bare.run(backend.try_connect())) {
            let name = unique_name("built in a bare runtime");
            let proper = multi_thread();
            proper.block_on(assert_freed(&provider, &name, bare.name));
        }
    }
}

/// A free lock is acquired and used, or refused.
pub fn using_a_free_lock(backend: &impl Backend) {
    let (proper, here, there) = processes(backend);
    for bare in Bare::all() {
        let names = [unique_name("bare"), unique_name("bare")];
        let name = &names[0];
        bare.run(async {
            let tried = unless_refused(&bare, here.try_acquire_lock(name).await);
            if let Some(held) = tried {
                let held = granted(Ok(held));
                assert_eq!(held.guard(async { 7 }).await.expect("a held lock"), 7);
                match held.fencing_token().await {
                    Err(LockError::Unsupported(_)) => {}
                    drawn => drop(unless_refused(&bare, drawn)),
                }
                unless_refused(&bare, held.release().await);
            }
            let waited = here.acquire_lock(name, Some(WATCHED_FOR)).await;
            drop(unless_refused(&bare, waited));
            let worked = here.with_lock(name, None, async |held| held.is_lost()).await;
            assert_ne!(unless_refused(&bare, worked), Some(true));
            if let Some(all) = unless_refused(&bare, here.acquire_all(&names, None).await) {
                assert_eq!(all.guard(async { 7 }).await.expect("held locks"), 7);
                unless_refused(&bare, all.release().await);
            }
            drop(unless_refused(&bare, here.holder(name, Mode::Exclusive).await));
        });
        for name in &names {
            proper.block_on(assert_freed(&there, name, bare.name));
        }
    }
}

/// A lock that another process holds, or this one, is refused in time.
pub fn waiting(backend: &impl Backend) {
    let (proper, here, there) = processes(backend);
    for bare in Bare::all() {
        for holder in [&here, &there] {
            let name = unique_name("bare wait");
            let held = proper.block_on(holder.acquire_lock(&name, None)).expect("a free lock");
            bare.run(async {
                match unless_refused(&bare, here.try_acquire_lock(&name).await) {
                    None | Some(None) => {}
                    Some(Some(_)) => panic!("{}: two holders", bare.name),
                }
                match here.acquire_lock(&name, Some(WATCHED_FOR)).await {
                    Err(LockError::Config(_)) => {}
                    Err(LockError::Timeout(after)) if bare.has_timers => {
                        assert_eq!(after, WATCHED_FOR)
                    }
                    other => panic!("{}: {:?}", bare.name, other.map(drop)),
                }
                if !bare.has_timers {
                    match here.acquire_lock(&name, None).await {
                        Err(LockError::Config(_)) => {}
                        other => panic!("{}: {:?}", bare.name, other.map(drop)),
                    }
                }
            });
            proper.block_on(held.release()).expect("a clean release");
            proper.block_on(assert_freed(&there, &name, bare.name));
        }
    }
}

/// A lock that was acquired in a proper runtime is guarded, released or dropped elsewhere.
pub fn ending_a_hold(backend: &impl Backend) {
    let (proper, here, there) = processes(backend);
    for bare in Bare::all() {
        let name = unique_name("bare release");
        let hold = || proper.block_on(here.acquire_lock(&name, None)).expect("a free lock");
        let held = hold();
        bare.run(async {
            assert_eq!(held.guard(async { 7 }).await.expect("a held lock"), 7);
            unless_refused(&bare, held.release().await);
        });
        proper.block_on(assert_freed(&there, &name, bare.name));
        let held = hold();
        bare.run(async { drop(held) });
        proper.block_on(assert_freed(&there, &name, bare.name));
    }
}

/// A shutdown releases what is held, wherever it is called.
pub fn shutting_down(backend: &impl Backend) {
    for bare in Bare::all() {
        let (proper, here, there) = processes(backend);
        let name = unique_name("bare shutdown");
        let held = proper.block_on(here.acquire_lock(&name, None)).expect("a free lock");
        let failed = bare.run(here.shutdown());
        assert!(failed.is_empty(), "{}: {failed:?}", bare.name);
        assert!(held.is_lost(), "{}: not notified", bare.name);
        proper.block_on(assert_freed(&there, &name, bare.name));
    }
}

/// The blocking types need nothing of the caller's runtime.
pub fn blocking_calls(backend: &impl Backend) {
    let (_proper, here, _) = processes(backend);
    for bare in Bare::all() {
        let name = unique_name("bare blocking");
        bare.run(async {
            let built = here.clone();
            let provider = blocking::Provider::new(|| async { Ok(built) }).expect("the thread");
            let held = provider.acquire_lock(&name, None).expect("a free lock");
            assert!(provider.try_acquire_lock(&name).expect("an answer").is_none());
            held.release().expect("a clean release");
            provider.with_lock(&name, None, |_| ()).expect("a clean release");
        });
    }
}

/// Two processes in a runtime that has everything.
fn processes<B: Backend>(backend: &B) -> (Runtime, B::Provider, B::Provider) {
    let proper = multi_thread();
    let (here, there) =
        proper.block_on(async { (backend.connect().await, backend.connect().await) });
    (proper, here, there)
}

/// What was done, unless this executor cannot do it.
fn unless_refused<T>(bare: &Bare, result: LockResult<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(LockError::Config(reason)) if reason.contains("runtime") => None,
        Err(other) => panic!("{}: {other:?}", bare.name),
    }
}
