//! One provider, used from several runtimes.

use distributed_lock_core::traits::{
    DistributedLock, LockHandle, LockProvider, LockProviderExt, Provider,
};
use tokio::runtime::Runtime;

use super::Held;
use crate::backend::Backend;
use crate::bounds::{HANDED_OVER_WITHIN, assert_freed, within};
use crate::polled::start_waiting;
use crate::runtimes::{current_thread, multi_thread};
use crate::verdicts::{assert_held, granted, refused, unique_name};

/// The first runtime has ended; the provider, its lock and its handle go on in the second.
pub fn after_the_first_ended(backend: &impl Backend) {
    for first in [current_thread(), multi_thread()] {
        let (here, held, name) = first_use(backend, &first);
        drop(first);
        second_use(backend, &here, held, &name);
    }
}

/// The first runtime lives, but nobody drives it.
pub fn while_the_first_is_not_driven(backend: &impl Backend) {
    let first = current_thread();
    let (here, held, name) = first_use(backend, &first);
    second_use(backend, &here, held, &name);
    drop(first);
    // And once more when it has ended after all.
    let second = multi_thread();
    second.block_on(assert_freed(&here, &name, "the end of the first runtime"));
}

/// Both are driven, and hand the lock back and forth.
pub fn while_both_are_driven(backend: &impl Backend) {
    let (first, second) = (multi_thread(), multi_thread());
    let (here, mut held, name) = first_use(backend, &first);
    for runtime in [&second, &first, &second] {
        let lock = here.create_lock(&name);
        let waiter = {
            let _context = runtime.enter();
            start_waiting(async move { lock.acquire(None).await })
        };
        held = runtime.block_on(async {
            held.release().await.expect("a clean release");
            let handle = within(HANDED_OVER_WITHIN, "the hand-over", waiter).await;
            handle.expect("the waiter").expect("an endless wait")
        });
    }
    first.block_on(held.release()).expect("a clean release");
}

fn first_use<B: Backend>(backend: &B, first: &Runtime) -> (B::Provider, Held<B::Provider>, String) {
    let name = unique_name("second runtime");
    first.block_on(async {
        let here = backend.connect().await;
        let held = granted(here.try_acquire_lock(&name).await);
        (here, held, name.clone())
    })
}

/// Everything that a provider is for, on a new runtime.
fn second_use<B: Backend>(backend: &B, here: &B::Provider, held: Held<B::Provider>, name: &str) {
    let second = multi_thread();
    second.block_on(async {
        let there = backend.connect().await;
        assert_held(&held);
        refused(there.try_acquire_lock(name).await);
        let lock = here.create_lock(name);
        let waiter = start_waiting(async move { lock.acquire(None).await });
        held.release().await.expect("a clean release");
        let handle = within(HANDED_OVER_WITHIN, "the hand-over", waiter).await;
        drop(handle.expect("the waiter").expect("an endless wait"));
        let handle = granted(here.try_acquire_lock(name).await);
        refused(there.try_acquire_lock(name).await);
        drop(handle);
        assert_freed(&there, name, "a drop in the second runtime").await;
        let native = here.native_key(name).expect("a good name");
        assert_eq!(native, there.native_key(name).expect("a good name"));
    });
}
