//! Requests that arrive late, or twice: their effect is adopted by the attempt or undone, whatever path
//! the attempt has gone on by.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use distributed_lock_core::DriverProvider;
use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::error::LockError;
use distributed_lock_core::memory::{Detour, MemoryDriver};
use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use tokio::time::{Instant, sleep, timeout};

use super::{FaultyDriver, OPERATION_TIMEOUT, Store, TICK, scripted};
use crate::runtimes::run_paused;

const NAME: &str = "late";

/// How long the other process holds the lock first.
const HELD_FOR: Duration = Duration::from_millis(1500);

/// Longer than a lease and several fallback periods.
const WAITS_FOR: Duration = Duration::from_secs(10);

/// What the process does of which one request arrives late or twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Takes a free lock, holds it for a while and releases it.
    Free,
    /// Waits for a holder, gets the lock, holds it for a while and releases it.
    Wait,
    /// Waits for a holder until its timeout, or is dropped then.
    Timeout,
    Cancelled,
    /// Gets the lock and drops its handle.
    Drop,
}

/// Every request of every scenario, late by every delay, and executed twice.
///
/// Whatever arrives, two never hold; the call ends in its bound; and when everything has arrived, the
/// lock is free at once and nothing is left in the store.
pub fn every_request_late_and_twice<S: Store<Driver = MemoryDriver>>(store: impl Fn() -> S) {
    let scenarios =
        [Scenario::Free, Scenario::Wait, Scenario::Timeout, Scenario::Cancelled, Scenario::Drop];
    let delays = [
        OPERATION_TIMEOUT / 2,
        OPERATION_TIMEOUT + OPERATION_TIMEOUT / 2,
        HELD_FOR,
        HELD_FOR + OPERATION_TIMEOUT,
        2 * HELD_FOR,
        WAITS_FOR,
    ];
    let (mut cases, mut struck, mut failed) = (0, 0, Vec::new());
    for scenario in scenarios {
        for number in 1..=8 {
            for delay in delays {
                for detour in [Detour::Late(delay), Detour::Twice(delay)] {
                    cases += 1;
                    let case = || run_paused(play(store(), scenario, number, detour, delay));
                    match catch_unwind(AssertUnwindSafe(case)) {
                        Ok(happened) => struck += u32::from(happened),
                        Err(_) => failed.push((scenario, number, detour)),
                    }
                }
            }
        }
    }
    println!("{cases} cases of requests that arrive late or twice; {struck} took effect");
    assert!(failed.is_empty(), "{} of {cases} cases failed: {failed:?}", failed.len());
    assert!(struck > cases / 5, "only {struck} of {cases} took effect");
}

type Process = DriverProvider<FaultyDriver<MemoryDriver>>;

/// Plays one case; `true` if there was such a request.
async fn play<S: Store<Driver = MemoryDriver>>(
    store: S,
    scenario: Scenario,
    number: u64,
    detour: Detour,
    delay: Duration,
) -> bool {
    let clock = TokioClock::default();
    let ((late, _), (other, _)) = (scripted(&store, clock), scripted(&store, clock));
    let driver = late.driver().inner();
    driver.detour(number, detour);
    let acting = async {
        if scenario == Scenario::Free {
            hold_for_a_while(&late, Duration::ZERO).await;
            return;
        }
        let held = other.acquire_lock(NAME, Some(Duration::ZERO)).await.expect("a free lock");
        let waiting = async {
            match scenario {
                Scenario::Free | Scenario::Wait => hold_for_a_while(&late, WAITS_FOR).await,
                Scenario::Timeout => {
                    let given = HELD_FOR - OPERATION_TIMEOUT / 4;
                    let began = Instant::now();
                    let result = late.acquire_lock(NAME, Some(given)).await;
                    assert!(began.elapsed() <= given + OPERATION_TIMEOUT + TICK, "ended late");
                    drop(result);
                }
                Scenario::Cancelled => {
                    let waits = late.acquire_lock(NAME, None);
                    // Cut off with or without the lock.
                    let _ = timeout(HELD_FOR - OPERATION_TIMEOUT / 4, waits).await;
                }
                Scenario::Drop => drop(late.acquire_lock(NAME, Some(WAITS_FOR)).await),
            }
        };
        let holding = async {
            sleep(HELD_FOR).await;
            assert!(!held.is_lost(), "lost without a fault of its own");
            held.release().await.expect("a clean release");
        };
        tokio::join!(waiting, holding);
    };
    timeout(Duration::from_secs(600), acting).await.expect("it hangs");
    let happened = driver.requests() >= number;
    if !happened {
        return false;
    }
    // The last arrival, its answer, and what undoes it.
    sleep(delay + 2 * OPERATION_TIMEOUT + TICK).await;
    for process in [&other, &late] {
        let held = process.try_acquire_lock(NAME).await.expect("an answer");
        let held = held.expect("a free lock, when everything has arrived");
        held.release().await.expect("a clean release");
    }
    assert_eq!(store.left(), 0, "left in the store");
    true
}

/// Acquires, and sees to it that a second holder would be noticed: by the loss of the first.
async fn hold_for_a_while(process: &Process, waits_for: Duration) {
    let began = Instant::now();
    match process.acquire_lock(NAME, Some(waits_for)).await {
        Ok(held) => {
            sleep(HELD_FOR).await;
            assert!(!held.is_lost(), "lost without a reason");
            // An answer that is late is not an error of the lock.
            match held.release().await {
                Ok(()) | Err(LockError::Connection(_)) => {}
                Err(error) => panic!("the release failed: {error:?}"),
            }
        }
        // A newcomer whose first request is not answered.
        Err(LockError::Connection(_)) => {}
        Err(error) => panic!("not acquired: {error:?}"),
    }
    let bound = waits_for.max(HELD_FOR) + HELD_FOR + 3 * OPERATION_TIMEOUT + TICK;
    assert!(began.elapsed() <= bound, "it took {:?}", began.elapsed());
}
