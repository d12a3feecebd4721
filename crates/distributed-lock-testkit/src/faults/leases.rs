//! Leases: how they are extended, and how they end. For stores with leases.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use distributed_lock_core::clock::{ManualClock, TokioClock};
use distributed_lock_core::driver::Driver;
use distributed_lock_core::error::{LateGrant, LockError};
use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use distributed_lock_core::{DriverProvider, HoldEnds, Options};
use tokio::time::{Instant, sleep, timeout};

use super::{Call, FaultyDriver, Outcome, Script, Store, TICK, When, process, scripted};
use crate::polled::{Polled, start_waiting};
use crate::runtimes::run_paused;
use crate::verdicts::{assert_error, assert_held};

/// Ten thousand leases are extended in no more requests than ten, taken all at once or one after
/// another.
pub fn extensions_do_not_grow_with_the_leases<S: Store>(store: impl Fn() -> S) {
    for at_once in [true, false] {
        let few = extensions(store(), 10, at_once);
        let many = extensions(store(), 10_000, at_once);
        println!("extensions of 10 leases: {few}, of 10,000: {many}; taken at once: {at_once}");
        assert!(few >= 5, "{few} extensions in five cadences");
        assert!(many <= few, "{many} extensions of many leases, {few} of few");
    }
}

/// An extension that fails now and then is tried again, and the lease goes on.
pub fn a_failed_extension_is_not_a_loss<S: Store>(store: impl Fn() -> S) {
    for outcome in Outcome::WRONG {
        run_paused(async {
            let store = store();
            let (here, script) = scripted(&store, TokioClock::default());
            let held = here.acquire_lock("kept", None).await.expect("a free lock");
            for _ in 0..3 {
                let next = script.calls(Call::Extend) + 1;
                script.spoil(Call::Extend, When::Nth(next), outcome);
                sleep(lease_of(here.driver())).await;
                assert_held(&held);
            }
            assert_eq!(script.struck(), 3, "{outcome:?}: a fault missed");
            held.release().await.expect("a clean release");
        });
    }
}

/// A server that does not answer past the lease: the holder is told by the deadline and not before
/// it, its guarded work ends then, and nobody else has the lock sooner.
pub fn a_lease_that_runs_out_is_told_in_time<S: Store>(store: impl Fn() -> S) {
    for outcome in [Outcome::SilentBefore, Outcome::Cut, Outcome::Refused] {
        run_paused(async {
            let (store, clock) = (store(), TokioClock::default());
            let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
            let lease = lease_of(here.driver());
            let taken = Instant::now();
            let held = here.acquire_lock("runs out", None).await.expect("a free lock");
            script.spoil(Call::Extend, When::From(1), outcome);
            let lock = there.create_lock("runs out");
            let next = start_waiting(async move { (lock.acquire(None).await, Instant::now()) });
            let guarded = timeout(lease * 2, held.guard(pending::<()>())).await;
            assert_error!(guarded.expect("told in time"), LockError::LockLost(_));
            let told = taken.elapsed();
            assert!(told >= lease && told <= lease + TICK, "told after {told:?} of {lease:?}");
            assert!(held.is_lost() && held.lost_token().is_cancelled(), "{outcome:?}: not told");
            assert_eq!(held.remaining(), Some(Duration::ZERO));
            let (next, granted) = next.await.expect("the waiter");
            let next = next.expect("an endless wait");
            assert!(granted - taken >= lease, "somebody had it before its lease ended");
            assert_error!(held.release().await, LockError::LockLost(_));
            script.heal();
            assert_held(&next);
            next.release().await.expect("a clean release");
        });
    }
}

/// A lease that has run out is lost by the clock at the question, though no task has run since: no
/// poll of guarded work starts, no token is drawn, no release succeeds.
pub fn a_lease_is_lost_by_the_clock_alone<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let (store, clock) = (store(), ManualClock::default());
        let here = process(&store, &Script::default(), clock.clone());
        let held = here.acquire_lock("stopped", None).await.expect("a free lock");
        let polls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&polls);
        let mut guarded = Polled::new(held.guard(std::future::poll_fn(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Poll::<()>::Pending
        })));
        assert!(guarded.poll().is_pending());
        clock.advance(lease_of(here.driver()) - Duration::from_nanos(1));
        assert!(guarded.poll().is_pending(), "stopped while it was held");
        assert_held(&held);
        assert_eq!(held.remaining(), Some(Duration::from_nanos(1)));
        clock.advance(Duration::from_nanos(1));
        let Poll::Ready(result) = guarded.poll() else { panic!("guarded work goes on") };
        assert_error!(result, LockError::LockLost(_));
        assert_eq!(polls.load(Ordering::SeqCst), 2, "polled after the deadline");
        drop(guarded);
        assert!(held.is_lost() && held.lost_token().is_cancelled(), "not told");
        assert_eq!(held.remaining(), Some(Duration::ZERO));
        assert_error!(held.fencing_token().await, LockError::LockLost(_));
        assert_error!(held.release().await, LockError::LockLost(_));
    });
}

/// A lease counts from before its request: a late reply leaves less of it, and one that comes after
/// its end is no grant at all.
pub fn a_late_grant_has_less_of_its_lease<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let (store, clock, script) = (store(), TokioClock::default(), Script::default());
        let driver = store.driver(Arc::new(clock));
        let lease = lease_of(&driver);
        let options = Options::default().operation_timeout(lease * 3).clock(clock);
        let here = DriverProvider::new(FaultyDriver::new(driver, script.clone()), options);
        script.spoil(Call::TryAcquire, When::Nth(1), Outcome::Late(lease / 2));
        let held = here.acquire_lock("late", None).await.expect("a late grant");
        let left = held.remaining().expect("a lease");
        assert!(left <= lease / 2, "{left:?} left of {lease:?} after half of it");
        held.release().await.expect("a clean release");
        script.spoil(Call::TryAcquire, When::Nth(2), Outcome::Late(lease * 2));
        let result = here.acquire_lock("late", None).await;
        assert_error!(result, LockError::Connection(source) if source.is::<LateGrant>());
        script.heal();
        let held = here.acquire_lock("late", Some(Duration::from_secs(1))).await;
        held.expect("a free lock").release().await.expect("a clean release");
        assert_eq!(store.left(), 0, "the late grant was not given back");
    });
}

/// A lock that was released, dropped or lost is extended no more.
pub fn what_is_given_back_is_extended_no_more<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let store = store();
        let (here, script) = scripted(&store, TokioClock::default());
        let lease = lease_of(here.driver());
        let released = here.acquire_lock("released", None).await.expect("a free lock");
        let dropped = here.acquire_lock("dropped", None).await.expect("a free lock");
        sleep(lease).await;
        released.release().await.expect("a clean release");
        drop(dropped);
        let before = script.calls(Call::Extend);
        assert!(before > 0, "they were not extended while they were held");
        sleep(lease * 2).await;
        assert_eq!(script.calls(Call::Extend), before, "what was given back is extended");
        let lost = here.acquire_lock("lost", None).await.expect("a free lock");
        script.spoil(Call::Extend, When::From(1), Outcome::Cut);
        sleep(lease + TICK).await;
        assert!(lost.is_lost(), "not told");
        let before = script.calls(Call::Extend);
        sleep(lease * 2).await;
        assert_eq!(script.calls(Call::Extend), before, "what was lost is extended");
    });
}

/// How many requests it takes to keep so many leases for five cadences.
fn extensions<S: Store>(store: S, leases: u32, at_once: bool) -> u64 {
    let requests = Cell::new(0);
    run_paused(async {
        let (here, script) = scripted(&store, TokioClock::default());
        let cadence = here.driver().extension_cadence().expect("leases");
        let pause = if at_once { Duration::ZERO } else { cadence / leases };
        let mut held = Vec::new();
        let began = Instant::now();
        for number in 0..leases {
            // Exact on average, though timers round to a millisecond.
            if !at_once {
                tokio::time::sleep_until(began + pause * number).await;
            }
            let name = format!("lease {number}");
            held.push(here.acquire_lock(&name, None).await.expect("a free lock"));
        }
        let before = script.calls(Call::Extend);
        sleep(cadence * 5 + TICK).await;
        requests.set(script.calls(Call::Extend) - before);
        held.iter().for_each(assert_held);
    });
    requests.get()
}

pub(super) fn lease_of(driver: &impl Driver) -> Duration {
    match driver.guarantees().hold_ends {
        HoldEnds::WithLease(lease) => lease,
        other => panic!("cases for leases need leases, not {other:?}"),
    }
}
