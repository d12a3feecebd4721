//! Loss of what `with_lock` and `acquire_all` hold.

use std::future::pending;
use std::sync::Arc;

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

/// The loss of one ends guarded work and is told by name, and the others are released. Others may be
/// lost with it, where they share a session.
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
        within(bound, "being told of the loss", async {
            let (_, lost) = held.iter().find(|(each, _)| *each == name).expect("its handle");
            lost.lost_token().cancelled().await;
        })
        .await;
        assert!(held.is_lost());
        let lost: Vec<&str> = held.iter().filter(|(_, h)| h.is_lost()).map(|(n, _)| n).collect();
        assert!(lost.contains(&&*name), "{name} is not among {lost:?}");
        let names_one = |reason: &str| names.iter().any(|name| reason.contains(&**name));
        assert_error!(result, LockError::LockLost(reason) if names_one(&reason));
        let late = held.guard(async { unreachable!("polled after the loss") });
        assert_error!(late.await, LockError::LockLost(_));
        assert_error!(held.release().await, LockError::LockLost(reason) if names_one(&reason));
        for name in &names {
            assert_freed(&there, name, "the release of what was left").await;
        }
    });
}
