//! Waiting is pushed, and what polling there is, is counted.

use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::driver::Driver;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::time::{Instant, sleep};

use super::{Call, OPERATION_TIMEOUT, Outcome, Store, TICK, When, scripted};
use crate::polled::start_waiting;
use crate::runtimes::run_paused;
use crate::verdicts::assert_error;

/// One waiting task, or a hundred of one process together, ask the server no more than once in a
/// fallback period; and all get the lock when it is free.
pub fn attempts_while_waiting_are_counted<S: Store>(store: impl Fn() -> S) {
    const WATCHED: Duration = Duration::from_secs(10);
    for tasks in [1, 100] {
        run_paused(async {
            let (store, clock) = (store(), TokioClock::default());
            let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
            let held = there.acquire_lock("waited for", None).await.expect("a free lock");
            let waiters: Vec<_> = (0..tasks)
                .map(|_| {
                    let lock = here.create_lock("waited for");
                    start_waiting(async move {
                        let handle = lock.acquire(None).await.expect("an endless wait");
                        handle.release().await.expect("a clean release");
                    })
                })
                .collect();
            sleep(OPERATION_TIMEOUT).await;
            let established = script.calls(Call::TryAcquire);
            sleep(WATCHED).await;
            let attempts = u128::from(script.calls(Call::TryAcquire) - established);
            let periods = WATCHED.as_millis() / here.driver().fallback_period().as_millis();
            println!("{tasks} waiting: {attempts} attempts in {periods} fallback periods");
            assert!(attempts <= periods, "{attempts} attempts in {periods} fallback periods");
            held.release().await.expect("a clean release");
            for waiter in waiters {
                waiter.await.expect("every waiter gets it");
            }
        });
    }
}

/// A waiter whose wake-ups are all lost has the lock within one fallback period of its release.
pub fn a_lost_wake_up_costs_one_fallback_period<S: Store>(store: impl Fn() -> S) {
    for outcome in [Outcome::SilentBefore, Outcome::SilentAfter, Outcome::Cut] {
        run_paused(async {
            let (store, clock) = (store(), TokioClock::default());
            let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
            let held = there.acquire_lock("unheard", None).await.expect("a free lock");
            script.spoil(Call::Wait, When::From(1), outcome);
            let lock = here.create_lock("unheard");
            let waiter = start_waiting(async move { lock.acquire(None).await });
            sleep(here.driver().fallback_period() * 5 / 2).await;
            held.release().await.expect("a clean release");
            let released = Instant::now();
            let handle = waiter.await.expect("the waiter").expect("an endless wait");
            let took = released.elapsed();
            let bound = here.driver().fallback_period() + TICK;
            assert!(took <= bound, "{outcome:?}: got it after {took:?}, not within {bound:?}");
            handle.release().await.expect("a clean release");
        });
    }
}

/// A thousand tasks with one deadline, which passes while the request of the first is under way, all time
/// out: one more request answers them all. One after another they would have no time.
pub fn tasks_with_one_deadline_all_time_out<S: Store>(store: impl Fn() -> S) {
    const TASKS: usize = 1_000;
    const GIVEN: Duration = Duration::from_millis(50);
    run_paused(async {
        let (store, clock) = (store(), TokioClock::default());
        let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
        let held = there.acquire_lock("one deadline", None).await.expect("a free lock");
        script.spoil(Call::TryAcquire, When::From(1), Outcome::Late(OPERATION_TIMEOUT * 6 / 10));
        let waiters: Vec<_> = (0..TASKS)
            .map(|_| {
                let lock = here.create_lock("one deadline");
                start_waiting(async move { lock.acquire(Some(GIVEN)).await.map(drop) })
            })
            .collect();
        for waiter in waiters {
            let result = waiter.await.expect("a task that waits");
            assert_error!(result, LockError::Timeout(GIVEN));
        }
        // The first began before the deadline; the second is the last try of all others.
        assert_eq!(script.calls(Call::TryAcquire), 2, "requests for {TASKS} tasks");
        held.release().await.expect("a clean release");
    });
}
