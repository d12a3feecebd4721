//! What listeners hear of a loss.

use distributed_lock_core::error::LockError;
use distributed_lock_core::telemetry::{HOLDING, LOST};
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};

use super::telemetry::{ALL, heard};
use super::two_processes;
use crate::backend::Loses;
use crate::bounds::{SLACK, within};
use crate::listening::Span;
use crate::verdicts::{assert_error, granted};

/// A loss is counted and told, once.
pub fn a_loss_is_told_once(backend: &impl Loses) {
    let heard = heard(async {
        let (here, _, name) = two_processes(backend, "told loss").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let native_key = here.native_key(&name).expect("a good name");
        backend.lose(&name, &native_key).await;
        let bound = here.guarantees().loss_told_within + SLACK;
        within(bound, "being told of the loss", held.lost_token().cancelled()).await;
        assert_error!(held.release().await, LockError::LockLost(_));
        name
    });
    assert_eq!((heard.meter.count(LOST, ALL), heard.meter.count(HOLDING, ALL)), (1, 1));
    let told = |event: &&Span| event.recorded.contains_key("reason");
    let events = heard.traces.events();
    let losses: Vec<_> = events.iter().filter(told).collect();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!(losses[0].recorded.get("lock").map(String::as_str), Some(&*heard.result));
}
