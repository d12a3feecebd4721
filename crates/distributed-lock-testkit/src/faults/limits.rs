//! Leases that are not extended for ever: `max_hold` and `auto_extend(false)`. For stores with leases.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use distributed_lock_core::{DriverProvider, Options};
use tokio::time::{Instant, timeout};

use super::leases::lease_of;
use super::{Call, Faulty, FaultyDriver, OPERATION_TIMEOUT, Script, Store, TICK, process};
use crate::polled::start_waiting;
use crate::runtimes::run_paused;
use crate::verdicts::{assert_error, assert_held};

/// With `max_hold` a lease is extended no further than it needs: the holder is told then and not
/// before it, and others have the lock after that, at the end of the last lease.
pub fn max_hold_ends_a_lease<S: Store>(store: impl Fn() -> S) {
    for thirds in [1, 3, 5, 7] {
        run_paused(async {
            let store = store();
            let lease = lease_of(&store.driver(Arc::new(TokioClock::default())));
            let most = lease * thirds / 3;
            let extensions = ends_after(&store, lease, most, |o| o.max_hold(most)).await;
            // One for each third of a lease that the first did not last for, and none after those.
            assert_eq!(extensions, u64::from(thirds.saturating_sub(3)), "{thirds} thirds");
        });
    }
}

/// Without `auto_extend` a lease is never extended, and its holder is told at its end; `max_hold`
/// does not make it longer.
pub fn without_auto_extend_a_lease_ends_after_its_term<S: Store>(store: impl Fn() -> S) {
    for most in [None, Some(3)] {
        run_paused(async {
            let store = store();
            let lease = lease_of(&store.driver(Arc::new(TokioClock::default())));
            let options = |options: Options| match most {
                Some(leases) => options.auto_extend(false).max_hold(lease * leases),
                None => options.auto_extend(false),
            };
            assert_eq!(ends_after(&store, lease, lease, options).await, 0, "it was extended");
        });
    }
}

/// Holds a lock until it ends by itself, which must be after `most`; how often it was extended.
async fn ends_after<S: Store>(
    store: &S,
    lease: Duration,
    most: Duration,
    options: impl FnOnce(Options) -> Options,
) -> u64 {
    let (clock, script) = (TokioClock::default(), Script::default());
    let limits = options(Options::default().operation_timeout(OPERATION_TIMEOUT).clock(clock));
    let driver = FaultyDriver::new(store.driver(Arc::new(clock)), script.clone());
    let here: Faulty<S> = DriverProvider::new(driver, limits);
    let there = process(store, &Script::default(), clock);
    let taken = Instant::now();
    let held = here.acquire_lock("limited", None).await.expect("a free lock");
    assert_held(&held);
    assert!(held.remaining().is_some_and(|left| left <= most), "more than the limit remains");
    let lock = there.create_lock("limited");
    let next = start_waiting(async move { (lock.acquire(None).await, Instant::now()) });
    let guarded = timeout(most * 2, held.guard(pending::<()>())).await;
    assert_error!(guarded.expect("told in time"), LockError::LockLost(_));
    let told = taken.elapsed();
    assert!(told >= most && told <= most + TICK, "told after {told:?}, the limit is {most:?}");
    assert!(held.is_lost() && held.lost_token().is_cancelled(), "not told");
    let (next, granted) = next.await.expect("the waiter");
    let next = next.expect("an endless wait");
    assert!(granted - taken >= most, "somebody had it before its holder was told");
    assert!(granted - taken <= most + lease + TICK, "it outlived its last lease");
    assert_error!(held.release().await, LockError::LockLost(reason) if reason.contains("max_hold"));
    next.release().await.expect("a clean release");
    script.calls(Call::Extend)
}
