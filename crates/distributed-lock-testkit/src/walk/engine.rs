//! What the engine does with a driver, step by step, without its queue, its keeper and its handles:
//! those are decided by the walk.
//!
//! Each function is the counterpart of one in `distributed-lock-core`: [`acquire`] of
//! `PendingAcquire`'s tries and wait, [`undo`] of the repeated withdrawal, [`release`] of the release
//! and its repetition in the background, [`extend`] of one batch of the keeper.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_lock_core::HoldEnds;
use distributed_lock_core::clock::{Clock, Moment, TokioClock};
use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub(super) type Shared<D> = Arc<Mutex<Attempt<<D as Driver>::Key, <D as Driver>::Place>>>;

/// How long one request may take.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);

/// When to look again after a wake-up that brought nothing.
const SECOND_LOOK: Duration = Duration::from_millis(50);

async fn bounded<T>(limit: Duration, work: impl Future<Output = LockResult<T>>) -> LockResult<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(LockError::connection(NoAnswer(limit))),
    }
}

/// Tries once; then, if there is a time to wait, waits at the server until then.
pub(super) async fn acquire<D: Driver>(
    driver: Arc<D>,
    attempt: Shared<D>,
    waits: Option<Duration>,
) -> LockResult<Option<Granted<D::Grant>>> {
    let mut attempt = attempt.lock().await;
    let first = bounded(OPERATION_TIMEOUT, driver.try_acquire(&mut attempt)).await?;
    let Some(waits) = waits.filter(|_| first.is_none()) else { return Ok(first) };
    let deadline = Instant::now() + waits;
    let fallback = driver.fallback_period();
    let soon = fallback.min(SECOND_LOOK);
    let (mut until_look, mut until_repeat, mut has_failed) = (fallback, soon, false);
    loop {
        let woken = if has_failed {
            tokio::select! {
                () = sleep_until(deadline) => None,
                () = sleep(mem::replace(&mut until_repeat, fallback)) => None,
            }
        } else {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => None,
                woken = driver.wait(&mut attempt) => Some(woken),
                () = sleep(until_look) => None,
            }
        };
        if !has_failed && !matches!(woken, Some(Err(_))) {
            until_repeat = soon;
        }
        until_look = fallback;
        match woken {
            Some(Ok(WakeUp::Granted(granted))) => return Ok(Some(granted)),
            Some(Ok(WakeUp::TryAgain)) => until_look = soon,
            Some(Err(error)) if error.is_retryable() => {
                has_failed = true;
                continue;
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
        let is_last = Instant::now() >= deadline;
        match bounded(OPERATION_TIMEOUT, driver.try_acquire(&mut attempt)).await {
            Ok(None) if is_last || Instant::now() >= deadline => return Ok(None),
            Ok(None) => has_failed = false,
            Err(error) if error.is_retryable() && !is_last => has_failed = true,
            result => return result,
        }
    }
}

/// Withdraws an attempt until that succeeds. If no request of it can arrive any more, it ends with the
/// lease.
pub(super) async fn undo<D: Driver>(
    driver: Arc<D>,
    attempt: Shared<D>,
    answered: Arc<AtomicBool>,
    clock: TokioClock,
) -> LockResult<()> {
    let mut attempt = attempt.lock().await;
    let began = clock.now();
    let end = match driver.has_unanswered(&attempt) {
        true => Moment::NEVER,
        false => lease_end(&*driver, clock),
    };
    loop {
        let result = bounded(OPERATION_TIMEOUT, driver.withdraw(&mut attempt)).await;
        let is_late = clock.now().since(began) >= OPERATION_TIMEOUT;
        answered.fetch_or(result.is_ok() || is_late, Ordering::Relaxed);
        if result.is_ok() || clock.now() >= end {
            answered.store(true, Ordering::Relaxed);
            return result;
        }
        sleep(driver.fallback_period()).await;
    }
}

/// Releases a lock until that succeeds, it was lost, or a lease is over. Then requests of its attempt
/// that may still arrive are undone.
pub(super) async fn release<D: Driver>(
    driver: Arc<D>,
    grant: Arc<D::Grant>,
    (attempt, answered): (Shared<D>, Arc<AtomicBool>),
    clock: TokioClock,
) -> LockResult<()> {
    let end = lease_end(&*driver, clock);
    let released = loop {
        let result = bounded(OPERATION_TIMEOUT, driver.release(&grant)).await;
        answered.store(true, Ordering::Relaxed);
        let is_over = matches!(result, Ok(()) | Err(LockError::LockLost(_)));
        if is_over || clock.now() >= end {
            break result;
        }
        sleep(driver.fallback_period()).await;
    };
    let is_open = driver.has_unanswered(&*attempt.lock().await);
    if is_open {
        undo(driver, attempt, answered, clock).await?;
    }
    released
}

/// When a lease that was asked for by now has ended by itself.
fn lease_end<D: Driver>(driver: &D, clock: TokioClock) -> Moment {
    match driver.guarantees().hold_ends {
        HoldEnds::WithLease(lease) => clock.now().after(lease),
        _ => Moment::NEVER,
    }
}

/// Extends what a client holds, once.
pub(super) async fn extend<D: Driver>(
    driver: Arc<D>,
    grants: Vec<Arc<D::Grant>>,
) -> LockResult<Vec<Extension>> {
    let cadence = driver.extension_cadence().unwrap_or(Duration::MAX);
    let grants: Vec<&D::Grant> = grants.iter().map(|grant| &**grant).collect();
    bounded(OPERATION_TIMEOUT.min(cadence / 2), driver.extend(&grants)).await
}
