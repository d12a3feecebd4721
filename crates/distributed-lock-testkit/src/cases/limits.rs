//! Holds that end by themselves: `max_hold` and `auto_extend(false)`.

use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use tokio::time::Instant;

use super::leases::lease_of;
use crate::backend::{HoldLimit, Limits};
use crate::bounds::{HANDED_OVER_WITHIN, SLACK, within};
use crate::runtimes::run;
use crate::verdicts::{assert_error, assert_held, granted, refused, unique_name};

/// A hold is renewed until its `max_hold` and no longer: its holder is told then, and others have the
/// lock at most one lease later.
pub fn max_hold_ends_a_hold(backend: &impl Limits) {
    run(async {
        let lease = lease_of(&backend.connect().await);
        let most = lease * 3 / 2;
        ends_after(backend, HoldLimit::MaxHold(most), most, lease).await;
    });
}

/// Without renewal a hold ends with its first lease.
pub fn without_auto_extend_a_hold_ends_after_its_lease(backend: &impl Limits) {
    run(async {
        let lease = lease_of(&backend.connect().await);
        ends_after(backend, HoldLimit::NoExtension, lease, lease).await;
    });
}

async fn ends_after(backend: &impl Limits, limit: HoldLimit, most: Duration, lease: Duration) {
    let name = unique_name("limit");
    let (here, there) = (backend.connect_limited(limit).await, backend.connect().await);
    let began = Instant::now();
    let held = granted(here.try_acquire_lock(&name).await);
    assert_held(&held);
    refused(there.try_acquire_lock(&name).await);
    within(most + SLACK, "being told", held.lost_token().cancelled()).await;
    let told = began.elapsed();
    // A lease may be a little shorter than its term at the server, for clocks that drift.
    assert!(told >= most * 9 / 10, "told after {told:?}, it may be held for {most:?}");
    assert!(held.is_lost(), "the token says lost, the handle does not");
    assert_eq!(held.remaining(), Some(Duration::ZERO));
    let bound = lease + HANDED_OVER_WITHIN;
    let next = there.acquire_lock(&name, Some(bound)).await.expect("the next holder");
    assert_error!(held.release().await, LockError::LockLost(_));
    assert_held(&next);
    next.release().await.expect("a clean release");
}
