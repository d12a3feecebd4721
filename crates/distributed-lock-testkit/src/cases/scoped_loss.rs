//! Loss of what `with_lock` and `acquire_all` hold.

use std::future::pending;
use std::sync::Arc;

use distributed_lock_core::HoldEnds;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider, ProviderExt};

use super::two_processes;
use crate::backend::Loses;
use crate::bounds::{SLACK, assert_freed, within};
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused, unique_name};

/// Loss ends the work where it waits: it is dropped, and the next holder has the lock to itself.
pub fn work_is_ended(backend: &impl Loses) {
    run(async {
        let (here, there, name) = two_processes(backend, "scoped loss").await;
        let native_key = here.native_key(&name).expect("a good name");
        let work_is_there = Arc::new(());
        let inside = Arc::clone(&work_is_there);
        let result = here.with_lock(&name, None, async |_| {
            let _inside = inside;
            backend.lose(&name, &native_key).await;
            pending::<()>().await;
        });
        let bound = here.guarantees().loss_told_within + SLACK * 3;
        assert_error!(within(bound, "the end of the work", result).await, LockError::LockLost(_));
        assert_eq!(Arc::strong_count(&work_is_there), 1, "the stopped work was not dropped");
        let next = granted(there.try_acquire_lock(&name).await);
        refused(here.try_acquire_lock(&name).await);
        assert!(!next.is_lost(), "the stopped work touched the next holder");
        next.release().await.expect("a clean release");
    });
}

/// The loss of one ends guarded work, is told by its name, and leaves the others to be released, except
/// where locks share a session and its end.
pub fn the_loss_of_one_of_many_is_told(backend: &impl Loses) {
    run(async {
        let (here, there, name) = two_processes(backend, "one of all").await;
        let names = [unique_name("one of all"), name.clone(), unique_name("one of all")];
        let held = here.acquire_all(&names, None).await.expect("free locks");
        let native_key = here.native_key(&name).expect("a good name");
        let bound = here.guarantees().loss_told_within + SLACK * 2;
        let guarded = held.guard(pending::<()>());
        let told = async { tokio::join!(guarded, backend.lose(&name, &native_key)) };
        let (result, ()) = within(bound, "the end of guarded work", told).await;
        let lost_alone = here.guarantees().hold_ends != HoldEnds::WithSession;
        let names_the_lost = |reason: &String| {
            let mut lost = names.iter().filter(|each| !lost_alone || **each == name);
            lost.any(|each| reason.contains(each.as_str()))
        };
        assert_error!(result, LockError::LockLost(reason) if names_the_lost(&reason));
        assert!(held.is_lost());
        for (each, handle) in held.iter() {
            assert_eq!(handle.is_lost(), each == name || !lost_alone, "{each}");
        }
        let late = held.guard(async { unreachable!("polled after the loss") });
        assert_error!(late.await, LockError::LockLost(_));
        assert_error!(held.release().await, LockError::LockLost(reason) if names_the_lost(&reason));
        for name in &names {
            assert_freed(&there, name, "the release of what was left").await;
        }
    });
}
