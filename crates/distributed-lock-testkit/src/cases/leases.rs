//! Leases short enough to wait for.

use std::time::Duration;

use distributed_lock_core::HoldEnds;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};
use tokio::runtime::Runtime;

use super::two_processes;
use crate::backend::Backend;
use crate::runtimes::{current_thread, multi_thread, run};
use crate::verdicts::{assert_error, assert_held, granted, unique_name};

/// A lease is renewed as long as its handle is held: nobody else gets the lock in one and a half times its length.
pub fn a_lease_is_renewed(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "renewal").await;
        let lease = lease_of(&here);
        let held = granted(here.try_acquire_lock(&name).await);
        let left = held.remaining().expect("a lease");
        assert!(left <= lease, "{left:?} left of {lease:?}");
        let outlived = there.acquire_lock(&name, Some(lease * 3 / 2)).await;
        assert_error!(outlived, LockError::Timeout(_));
        assert_held(&held);
        held.release().await.expect("a clean release");
    });
}

/// A lease that was taken on a runtime that has ended is renewed after the provider was used from
/// another.
pub fn a_lease_is_renewed_after_its_runtime_ended(backend: &impl Backend) {
    renewed_elsewhere(backend, drop);
}

/// The same, if the first runtime lives but nobody drives it.
pub fn a_lease_is_renewed_while_its_runtime_is_not_driven(backend: &impl Backend) {
    renewed_elsewhere(backend, |first| first);
}

fn renewed_elsewhere<T>(backend: &impl Backend, then: impl FnOnce(Runtime) -> T) {
    let (first, second) = (current_thread(), multi_thread());
    let name = unique_name("renewal elsewhere");
    let (here, held) = first.block_on(async {
        let here = backend.connect().await;
        let held = granted(here.try_acquire_lock(&name).await);
        (here, held)
    });
    let first = then(first);
    second.block_on(async {
        let another = granted(here.try_acquire_lock(&unique_name("renewal elsewhere")).await);
        let there = backend.connect().await;
        let outlived = there.acquire_lock(&name, Some(lease_of(&here) * 3 / 2)).await;
        assert_error!(outlived, LockError::Timeout(_));
        assert_held(&held);
        assert_held(&another);
        held.release().await.expect("a clean release");
    });
    drop(first);
}

pub(super) fn lease_of(provider: &impl Provider) -> Duration {
    match provider.guarantees().hold_ends {
        HoldEnds::WithLease(lease) => lease,
        other => panic!("cases for leases need leases, not {other:?}"),
    }
}
