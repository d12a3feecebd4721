//! The service is away, or refuses for the moment, while callers wait or hold.

use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::driver::Driver;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider, LockProviderExt};
use tokio::time::{Instant, sleep};

use super::{Call, OPERATION_TIMEOUT, Outcome, Script, Store, TICK, When, scripted};
use crate::polled::start_waiting;
use crate::runtimes::run_paused;
use crate::verdicts::assert_error;

/// How a service is away.
const AWAY: [Outcome; 3] = [Outcome::Cut, Outcome::SilentBefore, Outcome::RefusedForNow];

const OUTAGE: Duration = Duration::from_secs(3);

fn strike(script: &Script, outcome: Outcome) {
    for call in [Call::TryAcquire, Call::Wait] {
        script.spoil(call, When::From(1), outcome);
    }
}

/// Six tasks wait behind a holder or behind waiters of their own process, or behind another's; the
/// service is away for a while, and the holder's lock ends meanwhile. All six get the lock. A newcomer
/// gets the error within an operation timeout, and those that wait ask once a fallback period.
pub fn waits_survive_an_outage<S: Store>(store: impl Fn() -> S) {
    for outcome in AWAY {
        for holder_is_own in [true, false] {
            run_paused(survive(store(), outcome, holder_is_own));
        }
    }
}

async fn survive<S: Store>(store: S, outcome: Outcome, holder_is_own: bool) {
    let clock = TokioClock::default();
    let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
    let holder = if holder_is_own { &here } else { &there };
    let held = holder.acquire_lock("restarted", None).await.expect("a free lock");
    let waiters: Vec<_> = (0..6)
        .map(|_| {
            let lock = here.create_lock("restarted");
            start_waiting(async move {
                let handle = lock.acquire(Some(Duration::from_secs(60))).await?;
                handle.release().await
            })
        })
        .collect();
    sleep(OPERATION_TIMEOUT).await;
    strike(&script, outcome);
    held.release().await.expect("a clean release");
    sleep(OPERATION_TIMEOUT).await;
    let (began, before) = (Instant::now(), script.calls(Call::TryAcquire));
    let newcomer = here.acquire_lock("new", Some(Duration::from_secs(60))).await;
    let told = began.elapsed();
    assert!(told <= OPERATION_TIMEOUT + TICK, "{outcome:?}: a newcomer was told after {told:?}");
    match outcome {
        Outcome::RefusedForNow => {
            assert_error!(newcomer, error @ LockError::Backend(_) if error.is_retryable())
        }
        _ => assert_error!(newcomer, LockError::Connection(_)),
    }
    sleep(OUTAGE).await;
    let asked = u128::from(script.calls(Call::TryAcquire) - before);
    let periods = began.elapsed().as_millis() / here.driver().fallback_period().as_millis();
    // One for the newcomer, and one that was under way.
    assert!(asked <= periods + 2, "{outcome:?}: {asked} requests in {periods} fallback periods");
    script.heal();
    for waiter in waiters {
        let result = waiter.await.expect("the waiter");
        result.unwrap_or_else(|error| {
            panic!("{outcome:?}, own holder {holder_is_own}: a wait ended with {error:?}")
        });
    }
    assert_eq!(store.left(), 0, "{outcome:?}: left in the store");
}

/// A task waits without end behind one that times out while the service is away.
pub fn a_wait_behind_one_that_times_out_goes_on<S: Store>(store: impl Fn() -> S) {
    for outcome in AWAY {
        run_paused(async {
            let (store, clock) = (store(), TokioClock::default());
            let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
            let held = there.acquire_lock("behind", None).await.expect("a free lock");
            let lock = here.create_lock("behind");
            let short = start_waiting(async move { lock.acquire(Some(OUTAGE / 3)).await });
            let lock = here.create_lock("behind");
            let endless = start_waiting(async move { lock.acquire(None).await });
            sleep(OPERATION_TIMEOUT).await;
            strike(&script, outcome);
            script.spoil(Call::Withdraw, When::From(1), outcome);
            sleep(OUTAGE).await;
            assert!(short.await.expect("the first task").is_err(), "acquired while it was held");
            assert!(!endless.is_finished(), "{outcome:?}: an endless wait ended");
            script.heal();
            held.release().await.expect("a clean release");
            let handle = endless.await.expect("the second task").expect("an endless wait");
            handle.release().await.expect("a clean release");
        });
    }
}

/// Renewals that are refused for the moment end no hold while its lease lasts; when it has run out, the
/// loss names the server's last word.
pub fn holds_survive_refusals_that_pass<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let store = store();
        let (here, script) = scripted(&store, TokioClock::default());
        let Some(cadence) = here.driver().extension_cadence() else { return };
        let held = here.acquire_lock("renewed", None).await.expect("a free lock");
        script.spoil(Call::Extend, When::From(1), Outcome::RefusedForNow);
        sleep(cadence * 2).await;
        assert!(!held.is_lost(), "lost by a refusal that passes");
        script.heal();
        sleep(cadence * 10).await;
        assert!(!held.is_lost(), "lost though it was renewed again");
        script.spoil(Call::Extend, When::From(1), Outcome::RefusedForNow);
        sleep(cadence * 10).await;
        assert!(held.is_lost(), "held though it was not renewed");
        assert_error!(held.release().await, LockError::LockLost(reason)
            if reason.contains("refused for now by the script"));
    });
}
