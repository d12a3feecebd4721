//! Locks that are taken away from their holder, by backends that can be made to do so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};
use tokio::time::Instant;

use super::{Held, two_processes};
use crate::backend::{Backend, Loses};
use crate::bounds::{SLACK, assert_freed, within};
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused};

/// Whoever loses a lock is told within the bound that the provider states, by token and by question,
/// and its release says so.
pub fn a_loss_is_told_in_time(backend: &impl Loses) {
    run(async {
        let (here, _, name) = two_processes(backend, "loss").await;
        let held = granted(here.try_acquire_lock(&name).await);
        lose(backend, &here, &held, &name).await;
        assert!(held.is_lost(), "the token says lost, the handle does not");
        assert_error!(held.release().await, LockError::LockLost(_));
    });
}

/// The release and the drop of a lost lock do not touch the next holder's.
pub fn a_stale_release_is_harmless(backend: &impl Loses) {
    run(async {
        let (here, there, name) = two_processes(backend, "stale release").await;
        for released in [true, false] {
            let stale = granted(here.try_acquire_lock(&name).await);
            lose(backend, &here, &stale, &name).await;
            let next = granted(there.try_acquire_lock(&name).await);
            if released {
                assert_error!(stale.release().await, LockError::LockLost(_));
            } else {
                drop(stale);
            }
            // Asks the server behind whatever the stale handle left to do in this process.
            refused(here.try_acquire_lock(&name).await);
            refused(there.try_acquire_lock(&name).await);
            assert!(!next.is_lost(), "a stale release touched the next holder");
            next.release().await.expect("a clean release");
        }
    });
}

/// Guarded work ends with `LockLost`: its future is dropped and not polled again, also if the caller
/// has cancelled the token that the handle gives away.
pub fn guarded_work_is_stopped(backend: &impl Loses) {
    run(async {
        let (here, _, name) = two_processes(backend, "guarded loss").await;
        for cancelled in [false, true] {
            let held = granted(here.try_acquire_lock(&name).await);
            if cancelled {
                held.lost_token().cancel();
            }
            let late_polls = Arc::new(AtomicU32::new(0));
            let (counted, lock) = (Arc::clone(&late_polls), &held);
            let guarded = held.guard(std::future::poll_fn(move |_| {
                counted.fetch_add(u32::from(lock.is_lost()), Ordering::SeqCst);
                Poll::<()>::Pending
            }));
            let stopped = async { tokio::join!(guarded, lose(backend, &here, &held, &name)) };
            let bound = here.guarantees().loss_told_within + SLACK * 2;
            let (result, ()) = within(bound, "the end of guarded work", stopped).await;
            let reason = held.loss_reason().expect("a lost lock");
            assert_error!(result, LockError::LockLost(why) if why == reason);
            assert_eq!(late_polls.load(Ordering::SeqCst), 0, "polled after the loss");
            assert_eq!(Arc::strong_count(&late_polls), 1, "the stopped work was not dropped");
            let late = held.guard(async { unreachable!("polled after the loss") });
            assert_error!(late.await, LockError::LockLost(why) if why == reason);
            assert_error!(held.release().await, LockError::LockLost(why) if why == reason);
        }
    });
}

/// A lost lock can be acquired again by the same process while the lost handle is still out, and
/// the lost handle stays lost.
pub fn it_can_be_acquired_again_while_the_lost_handle_is_out(backend: &impl Loses) {
    run(async {
        let (here, there, name) = two_processes(backend, "again").await;
        let lost = granted(here.try_acquire_lock(&name).await);
        lose(backend, &here, &lost, &name).await;
        let again = granted(here.try_acquire_lock(&name).await);
        assert!(lost.is_lost() && !again.is_lost());
        refused(there.try_acquire_lock(&name).await);
        drop(lost);
        refused(there.try_acquire_lock(&name).await);
        again.release().await.expect("a clean release");
        assert_freed(&there, &name, "a lost lock that was acquired again").await;
    });
}

/// A local waiter gets the lock when its own process loses it.
pub fn a_local_waiter_goes_on(backend: &impl Loses) {
    run(async {
        let (here, _, name) = two_processes(backend, "loss and waiter").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let (process, waited) = (here.clone(), name.clone());
        let waiter =
            crate::polled::start_waiting(async move { process.acquire_lock(&waited, None).await });
        lose(backend, &here, &held, &name).await;
        let next = within(crate::bounds::HANDED_OVER_WITHIN, "the waiter", waiter).await;
        let next = next.expect("the waiter").expect("an endless wait");
        drop(held);
        next.release().await.expect("a clean release");
    });
}

/// The token of a lost lock is not to be had, also if it was drawn before.
pub fn a_lost_lock_has_no_token(backend: &impl Loses) {
    run(async {
        let (here, _, name) = two_processes(backend, "lost token").await;
        for drawn_before in [true, false] {
            let held = granted(here.try_acquire_lock(&name).await);
            if drawn_before {
                held.fencing_token().await.expect("a token of a held lock");
            }
            lose(backend, &here, &held, &name).await;
            assert_error!(held.fencing_token().await, LockError::LockLost(_));
        }
    });
}

/// Takes the lock away, and waits until its holder was told.
async fn lose<B: Loses>(
    backend: &B,
    holder: &B::Provider,
    held: &Held<<B as Backend>::Provider>,
    name: &str,
) {
    let native_key = holder.native_key(name).expect("a good name");
    let bound = holder.guarantees().loss_told_within + SLACK;
    backend.lose(name, &native_key).await;
    let began = Instant::now();
    within(bound, "being told of the loss", held.lost_token().cancelled()).await;
    assert!(began.elapsed() <= bound + SLACK);
}
