//! What listeners hear of leases.

use distributed_lock_core::error::LockError;
use distributed_lock_core::telemetry::RENEWALS;
use distributed_lock_core::traits::{LockHandle, LockProviderExt};

use super::leases::lease_of;
use super::telemetry::heard;
use super::two_processes;
use crate::backend::Backend;
use crate::verdicts::{assert_error, granted};

/// Renewals are counted.
pub fn renewals_are_counted(backend: &impl Backend) {
    let heard = heard(async {
        let (here, there, name) = two_processes(backend, "told renewal").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let outlived = there.acquire_lock(&name, Some(lease_of(&here))).await;
        assert_error!(outlived, LockError::Timeout(_));
        held.release().await.expect("a clean release");
    });
    let renewed = heard.meter.count(RENEWALS, ("outcome", "extended"));
    assert!(renewed >= 1, "{:?}", heard.meter.measured());
}
