//! When a command has to end because its lock does.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use distributed_lock::DynHandle;
use distributed_lock::prelude::*;

use crate::warnings;

/// How long a command may take to end after `SIGTERM`, if no lease says less.
const GRACE: Duration = Duration::from_secs(5);
/// How often the lease is looked at: it goes on while a suspended machine's timers do not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Watches a held lock for its loss, and for the approaching end of a lease that is not extended.
///
/// A lease is given up while a part of it is left, so that the command is gone before the lock can
/// have passed on: `SIGTERM` when a quarter of it is left, at most [`GRACE`], and `SIGKILL` when a
/// fifth of that is.
#[derive(Debug)]
pub(crate) struct LossWatch {
    /// What was left of the lease at the start, which is most of it.
    lease: Option<Duration>,
}

impl LossWatch {
    pub(crate) fn new(handle: &DynHandle) -> Self {
        Self { lease: handle.remaining() }
    }

    /// Waits until the command must end, and says why.
    ///
    /// Calls `extended` again and again with the time in which the command may run, if there is a limit.
    pub(crate) async fn loss(&self, handle: &DynHandle, extended: impl Fn(Duration)) -> String {
        loop {
            let pause = match (self.lease, handle.remaining()) {
                (Some(lease), Some(left)) => {
                    extended(left.saturating_sub(kill_at(lease)));
                    let spare = left.saturating_sub(term_at(lease));
                    if spare.is_zero() && !handle.is_lost() {
                        return with_refusal(format!(
                            "its lease was not extended and ends in {left:.1?}"
                        ));
                    }
                    spare.min(LOOK_AGAIN)
                }
                _ => Duration::MAX,
            };
            let held = tokio::time::timeout(pause, handle.guard(pending::<Infallible>())).await;
            if held.is_ok() || handle.is_lost() {
                return reason(handle).await;
            }
        }
    }

    /// How long the command may take from now to end by itself.
    pub(crate) fn grace(&self, handle: &DynHandle) -> Duration {
        match (self.lease, handle.remaining()) {
            (Some(lease), Some(left)) => left.saturating_sub(kill_at(lease)).min(GRACE),
            _ => GRACE,
        }
    }
}

/// What is left of the lease when `SIGTERM` is due.
fn term_at(lease: Duration) -> Duration {
    (lease / 4).min(GRACE)
}

/// What is left of the lease when `SIGKILL` is due.
fn kill_at(lease: Duration) -> Duration {
    term_at(lease) / 5
}

async fn reason(handle: &DynHandle) -> String {
    // A lost lock's token is refused at once, with the reason of the loss.
    with_refusal(match handle.fencing_token().await {
        Err(LockError::LockLost(reason)) => reason,
        _ => "the lock service says so".to_owned(),
    })
}

/// Adds what the service answered to the last extension, if it did not extend.
fn with_refusal(reason: String) -> String {
    match warnings::last_refusal() {
        Some(refusal) if !reason.contains(&refusal) => format!("{reason}; last answer: {refusal}"),
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use distributed_lock::{DynLockProvider, MemoryLockProvider};
    use distributed_lock_core::{clock::ManualClock, memory::Behaviour};

    use super::*;

    async fn held(provider: &MemoryLockProvider) -> DynHandle {
        DynLockProvider::new(provider.clone()).acquire_lock("x", None).await.unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_lost_lock_is_told_with_the_reason() {
        let provider = MemoryLockProvider::new();
        let handle = held(&provider).await;
        let watch = LossWatch::new(&handle);
        assert_eq!(watch.grace(&handle), GRACE);
        provider.store().lose("x");
        assert!(!watch.loss(&handle, |_| {}).await.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_lease_is_given_up_while_some_of_it_is_left() {
        let clock = ManualClock::default();
        let lease = Duration::from_secs(30);
        let provider = MemoryLockProvider::builder().lease(lease).clock(clock.clone()).build();
        let handle = held(&provider).await;
        let watch = LossWatch::new(&handle);
        provider.store().behave(Behaviour::Hang);
        clock.advance(Duration::from_secs(25));
        assert!(watch.loss(&handle, |_| {}).await.contains("not extended"));
        assert!(!handle.is_lost());
        assert_eq!(watch.grace(&handle), Duration::from_secs(4));
        clock.advance(Duration::from_secs(5));
        assert!(watch.loss(&handle, |_| {}).await.contains("ran out"));
        assert_eq!(watch.grace(&handle), Duration::ZERO);
    }

    #[test]
    fn short_leases_are_given_up_in_time_too() {
        assert_eq!(term_at(Duration::from_secs(1)), Duration::from_millis(250));
        assert_eq!(kill_at(Duration::from_secs(1)), Duration::from_millis(50));
        assert_eq!(term_at(Duration::MAX), GRACE);
    }
}
