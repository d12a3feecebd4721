//! Every driver call × every wrong outcome × every way to take and give back a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::driver::Driver;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};
use distributed_lock_core::{DriverProvider, Handle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Call, OPERATION_TIMEOUT, Outcome, Script, Store, TICK, When, scripted};
use crate::runtimes::run_paused;

/// Runs every scenario with every fault, each on a store of its own, and tells all that failed.
///
/// Each call ends in its bound and with the right kind of error; once healed, another process gets
/// the lock within a second and the retries' own period, and nothing is left in the store.
pub fn every_call_with_every_outcome<S: Store>(store: impl Fn() -> S) {
    let (mut cases, mut struck, mut failed) = (0, 0, Vec::new());
    for scenario in Scenario::ALL {
        for fault in Fault::all() {
            let case = Case { scenario, fault };
            cases += 1;
            match catch_unwind(AssertUnwindSafe(|| run_paused(case.run(store())))) {
                Ok(strikes) => struck += u64::from(strikes > 0),
                Err(cause) => failed.push((case, reason(&*cause))),
            }
        }
    }
    println!("{cases} cases of driver calls gone wrong; in {struck} the fault took effect");
    for (case, reason) in &failed {
        println!("{case:?}: {reason}");
    }
    assert!(failed.is_empty(), "{} of {cases} cases failed", failed.len());
    assert!(struck > cases / 10, "only {struck} of {cases} faults took effect");
}

/// What a process does while its driver fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Takes a free lock, holds it for two extensions and releases it.
    Release,
    /// Takes a free lock and drops its handle.
    Drop,
    /// Takes a free lock and draws its token.
    Token,
    /// Is dropped while it tries to take a free lock.
    CancelledTry,
    /// Waits for a holder and gets the lock.
    Wait,
    /// Waits for a holder until its timeout.
    Timeout,
    /// Is dropped while it waits.
    CancelledWait,
    /// Is dropped just after the holder released.
    CancelledGrant,
}

impl Scenario {
    const ALL: [Self; 8] = [
        Self::Release,
        Self::Drop,
        Self::Token,
        Self::CancelledTry,
        Self::Wait,
        Self::Timeout,
        Self::CancelledWait,
        Self::CancelledGrant,
    ];

    fn is_contended(self) -> bool {
        matches!(self, Self::Wait | Self::Timeout | Self::CancelledWait | Self::CancelledGrant)
    }
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    call: Call,
    when: When,
    outcome: Outcome,
    /// How the first withdrawal ends, where there may be something to withdraw.
    undoing: Outcome,
}

impl Fault {
    fn all() -> impl Iterator<Item = Self> {
        let whens = [When::Nth(1), When::Nth(2), When::From(1), When::From(2)];
        Call::ALL.into_iter().flat_map(move |call| {
            Outcome::WRONG.into_iter().flat_map(move |outcome| {
                let effect = matches!(outcome, Outcome::ReplyLost | Outcome::SilentAfter);
                let wrong =
                    if effect && call == Call::TryAcquire { &Outcome::WRONG[..] } else { &[] };
                let undoing = std::iter::once(Outcome::Ok).chain(wrong.iter().copied());
                undoing.flat_map(move |undoing| {
                    whens.into_iter().map(move |when| Self { call, when, outcome, undoing })
                })
            })
        })
    }

    fn hits_the_first(self, call: Call) -> bool {
        self.call == call && matches!(self.when, When::Nth(1) | When::From(1))
    }
}

#[derive(Debug, Clone, Copy)]
struct Case {
    scenario: Scenario,
    fault: Fault,
}

const NAME: &str = "faulty";

/// How long the other process holds a contended lock: less than a fallback period, so that the
/// waiter's second try is the one that is granted.
const HELD_FOR: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_millis(2500);

impl Case {
    /// Plays the case; returns how many calls were spoiled.
    async fn run<S: Store>(self, store: S) -> u64 {
        let clock = TokioClock::default();
        let (failing, script) = scripted(&store, clock);
        let (healthy, _) = scripted(&store, clock);
        let play = async {
            self.play(&failing, &healthy, &script).await;
            // What goes on in the background meets the fault, too.
            sleep(OPERATION_TIMEOUT + TICK).await;
            script.heal();
            let recovery = self.recover(&failing, &healthy).await;
            nothing_left(&store, recovery).await;
            let failures = failing.shutdown().await;
            assert!(failures.is_empty(), "the shutdown left {failures:?}");
        };
        // Nothing here waits that long; only a hang does.
        timeout(Duration::from_secs(600), play).await.expect("it hangs");
        script.struck()
    }

    async fn play<D: Driver>(
        self,
        failing: &DriverProvider<D>,
        healthy: &DriverProvider<D>,
        script: &Script,
    ) {
        let Fault { call, when, outcome, undoing } = self.fault;
        let holder = if self.scenario.is_contended() { Some(hold(healthy).await) } else { None };
        script.spoil(Call::Withdraw, When::Nth(1), undoing);
        script.spoil(call, when, outcome);
        let releases = matches!(self.scenario, Scenario::Wait | Scenario::CancelledGrant);
        let holder = holder.map(|held| release_after(held, releases.then_some(HELD_FOR)));
        match self.scenario {
            Scenario::Release | Scenario::Wait => {
                if let Some(held) = self.acquire(failing).await {
                    if let Some(cadence) = failing.driver().extension_cadence() {
                        sleep(cadence * 5 / 2).await;
                    }
                    assert!(!held.is_lost(), "lost before its lease ended");
                    self.release(held).await;
                }
            }
            Scenario::Drop => drop(self.acquire(failing).await),
            Scenario::Token => {
                if let Some(held) = self.acquire(failing).await {
                    self.draw_token(&held, script).await;
                    self.release(held).await;
                }
            }
            Scenario::Timeout => drop(self.acquire(failing).await),
            Scenario::CancelledTry => self.cancel(failing, OPERATION_TIMEOUT / 3).await,
            Scenario::CancelledWait => self.cancel(failing, HELD_FOR).await,
            Scenario::CancelledGrant => {
                self.cancel(failing, HELD_FOR + OPERATION_TIMEOUT / 3).await
            }
        }
        if let Some(holder) = holder {
            holder.abort();
            // Aborted, or over already: the lock is given back either way.
            let _ = holder.await;
        }
    }

    /// Acquires, in time and with the result that this case must have.
    async fn acquire<D: Driver>(self, failing: &DriverProvider<D>) -> Option<Handle<D>> {
        let began = Instant::now();
        let result = failing.acquire_lock(NAME, Some(PATIENCE)).await;
        let took = began.elapsed();
        assert!(took <= PATIENCE + OPERATION_TIMEOUT + TICK, "the acquire took {took:?}");
        let got = kind(&result);
        let expected = self.expected_of_acquire();
        assert!(expected.contains(&got), "the acquire was {got:?}, not one of {expected:?}");
        if self.fault.hits_the_first(Call::TryAcquire) {
            assert!(took <= OPERATION_TIMEOUT + TICK, "unreachable, and told after {took:?}");
        }
        result.ok()
    }

    fn expected_of_acquire(self) -> &'static [Kind] {
        let undisturbed: &[Kind] =
            if self.scenario == Scenario::Timeout { &[Kind::Timeout] } else { &[Kind::Success] };
        let Fault { call, when, outcome, .. } = self.fault;
        let refused = outcome == Outcome::Refused;
        let first = self.fault.hits_the_first(call);
        match (call, when) {
            (Call::TryAcquire, _) if first => spoiled(outcome),
            (Call::TryAcquire | Call::Wait, _) if !self.scenario.is_contended() => undisturbed,
            (Call::TryAcquire, _) if refused => &[Kind::Backend],
            (Call::TryAcquire, When::From(_)) if outcome == Outcome::RefusedForNow => {
                &[Kind::Timeout, Kind::Backend]
            }
            (Call::TryAcquire, When::From(_)) => &[Kind::Timeout, Kind::Connection],
            (Call::Wait, _) if refused && first => &[Kind::Backend],
            // A driver may need only one wait.
            (Call::Wait, _) if refused => &[Kind::Backend, Kind::Success, Kind::Timeout],
            _ => undisturbed,
        }
    }

    async fn release(self, held: impl LockHandle) {
        let began = Instant::now();
        let got = kind(&held.release().await);
        let took = began.elapsed();
        assert!(took <= OPERATION_TIMEOUT + TICK, "the release took {took:?}");
        let hit = self.fault.hits_the_first(Call::Release);
        let expected = if hit { spoiled(self.fault.outcome) } else { &[Kind::Success] };
        assert!(expected.contains(&got), "the release was {got:?}, not one of {expected:?}");
    }

    async fn draw_token(self, held: &impl LockHandle, script: &Script) {
        let began = Instant::now();
        let got = kind(&held.fencing_token().await);
        let took = began.elapsed();
        assert!(took <= OPERATION_TIMEOUT + TICK, "the token took {took:?}");
        // A token that came with the grant is not asked for.
        let asked = script.calls(Call::FencingToken) > 0;
        if asked && self.fault.hits_the_first(Call::FencingToken) {
            let expected = spoiled(self.fault.outcome);
            assert!(expected.contains(&got), "the token was {got:?}, not one of {expected:?}");
            assert!(!held.is_lost(), "lost because its token could not be drawn");
            script.heal();
            held.fencing_token().await.expect("a token once healed");
        } else {
            assert_eq!(got, Kind::Success, "the token");
        }
    }

    /// Drops an acquire after this time, or its handle if it was quicker.
    async fn cancel<D: Driver>(self, failing: &DriverProvider<D>, after: Duration) {
        if let Ok(result) = timeout(after, failing.acquire_lock(NAME, None)).await {
            let got = kind(&result);
            let mut expected = vec![Kind::Success];
            if matches!(self.fault.call, Call::TryAcquire | Call::Wait) {
                expected.extend(spoiled(self.fault.outcome));
            }
            assert!(expected.contains(&got), "the acquire was {got:?}, not one of {expected:?}");
        }
    }

    /// The lock is free for the other process within a second and the time that one more try of the
    /// clean-up takes, and then for the one that failed. Returns that time.
    async fn recover<D: Driver>(
        self,
        failing: &DriverProvider<D>,
        healthy: &DriverProvider<D>,
    ) -> Duration {
        let retry = failing.driver().fallback_period() + OPERATION_TIMEOUT;
        let recovery = Duration::from_secs(1) + retry;
        for (who, process) in [("another process", healthy), ("the process itself", failing)] {
            match process.acquire_lock(NAME, Some(recovery)).await {
                Ok(held) => held.release().await.expect("a clean release"),
                Err(error) => panic!("{who} cannot acquire once healed: {error:?}"),
            }
        }
        recovery
    }
}

/// The kinds of results that are told apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Success,
    Timeout,
    Connection,
    Backend,
    Other,
}

fn kind<T>(result: &LockResult<T>) -> Kind {
    match result {
        Ok(_) => Kind::Success,
        Err(LockError::Timeout(told)) if *told == PATIENCE => Kind::Timeout,
        Err(LockError::Connection(_)) => Kind::Connection,
        Err(LockError::Backend(_)) => Kind::Backend,
        Err(_) => Kind::Other,
    }
}

/// How a call that was spoiled in this way ends for the caller.
fn spoiled(outcome: Outcome) -> &'static [Kind] {
    match outcome {
        Outcome::Ok | Outcome::Late(_) => &[Kind::Success],
        Outcome::Refused | Outcome::RefusedForNow => &[Kind::Backend],
        _ => &[Kind::Connection],
    }
}

async fn hold<D: Driver>(process: &DriverProvider<D>) -> Handle<D> {
    process.acquire_lock(NAME, Some(Duration::ZERO)).await.expect("a free lock")
}

/// Holds a lock for this long, or until the task is aborted.
fn release_after(held: impl LockHandle, after: Option<Duration>) -> JoinHandle<()> {
    tokio::spawn(async move {
        sleep(after.unwrap_or(Duration::MAX)).await;
        held.release().await.expect("a clean release");
    })
}

async fn nothing_left(store: &impl Store, recovery: Duration) {
    let deadline = Instant::now() + recovery;
    while store.left() > 0 {
        assert!(Instant::now() < deadline, "{} left in the store", store.left());
        sleep(Duration::from_millis(10)).await;
    }
}

fn reason(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
