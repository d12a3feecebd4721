//! The keeper: extends the leases of a provider in batches and tells loss when one runs out.
//!
//! One task for all leases, started by the first. What it does with each lease is decided by
//! [`LeaseMachine`].

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::background::{Home, Resident};
use crate::clock::Moment;
use crate::driver::{Driver, Extension, Lease};
use crate::engine::Engine;
use crate::error::LockResult;
use crate::hold::Hold;
use crate::instruments::extended;
use crate::lease::{LeaseCommand, LeaseEvent, LeaseMachine, extension_limit};

pub(crate) struct Keeper<D: Driver> {
    schedule: Arc<Schedule<D>>,
    resident: Resident,
}

struct Schedule<D: Driver> {
    leases: Mutex<Leases<D>>,
    /// Something earlier than what the keeper sleeps for was added.
    earlier: Notify,
}

struct Leases<D: Driver> {
    kept: HashMap<u64, Kept<D>>,
    /// When each lease wants attention.
    due: BTreeSet<(Moment, u64)>,
    /// When the keeper looks again at the latest. What it was to look for may be gone by then: a lease
    /// that is given back at once would otherwise wake it, and so would the next.
    looks_again: Option<Moment>,
    /// Those that have ended and were not told yet.
    ended: Vec<(Arc<Hold<D>>, Cow<'static, str>)>,
}

struct Kept<D: Driver> {
    hold: Arc<Hold<D>>,
    machine: LeaseMachine,
    due: Moment,
}

type Batch<D> = Vec<Arc<Hold<D>>>;
type Answer<D> = (Batch<D>, LockResult<Vec<Extension>>);

impl<D: Driver> Keeper<D> {
    pub(crate) fn new(home: Home, engine: Weak<Engine<D>>) -> Self {
        let leases = Leases {
            kept: HashMap::new(),
            due: BTreeSet::new(),
            looks_again: None,
            ended: Vec::new(),
        };
        let schedule = Arc::new(Schedule { leases: Mutex::new(leases), earlier: Notify::new() });
        let kept = Arc::clone(&schedule);
        let resident = Resident::new(home, move || {
            let (engine, schedule) = (engine.clone(), Arc::clone(&kept));
            Box::pin(keep(engine, schedule))
        });
        Self { schedule, resident }
    }

    /// Keeps a lease alive from now on, until its hold's limit.
    pub(crate) fn keep(&self, hold: &Arc<Hold<D>>, lease: Lease, cadence: Duration) {
        let machine = LeaseMachine::granted(lease, cadence).until(hold.claim.limit());
        let due = lease.sent().after(cadence).min(machine.deadline());
        let mut leases = self.schedule.lock();
        // What should have been by now the keeper has slept over, with the machine.
        let in_time = |next| lease.sent() < next && next <= due;
        let is_earlier = !leases.looks_again.is_some_and(in_time);
        if is_earlier {
            leases.looks_again = Some(due);
        }
        leases.due.insert((due, hold.id()));
        leases.kept.insert(hold.id(), Kept { hold: Arc::clone(hold), machine, due });
        drop(leases);
        self.resident.ensure();
        if is_earlier {
            self.schedule.earlier.notify_one();
        }
    }

    /// Forgets a lease that is released or lost.
    pub(crate) fn forget(&self, id: u64) {
        self.schedule.lock().forget(id);
    }
}

async fn keep<D: Driver>(engine: Weak<Engine<D>>, schedule: Arc<Schedule<D>>) {
    let mut extensions: JoinSet<Answer<D>> = JoinSet::new();
    if let Some(alive) = engine.upgrade() {
        // An earlier keeper may have ended with its runtime, and extensions with it.
        schedule.change(|leases| leases.forget_questions(alive.clock().now()));
    }
    loop {
        let Some(alive) = engine.upgrade() else { return };
        let now = alive.clock().now();
        let (batch, next) = schedule.change(|leases| leases.collect_due(now));
        if !batch.is_empty() {
            extensions.spawn(extend(Arc::clone(&alive), Arc::clone(&schedule), batch));
        }
        let pause = next.map(|next| next.since(now));
        drop(alive);
        tokio::select! {
            biased;
            Some(answer) = extensions.join_next() => {
                let Some(alive) = engine.upgrade() else { return };
                match answer {
                    Ok(answer) => {
                        let now = alive.clock().now();
                        schedule.change(|leases| leases.take_answer(now, answer));
                    }
                    // The driver panicked: its leases run out by their own deadline.
                    Err(error) => tracing::error!(%error, "extension ended abnormally"),
                }
            }
            () = schedule.earlier.notified() => {}
            () = sleep_or_forever(pause) => {}
        }
    }
}

async fn sleep_or_forever(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// One attempt for many leases. When it has taken so long that another is due, it goes on beside that
/// one for as long as the leases last: a slow answer is as good as a quick one.
async fn extend<D: Driver>(
    engine: Arc<Engine<D>>,
    schedule: Arc<Schedule<D>>,
    batch: Batch<D>,
) -> Answer<D> {
    let cadence = engine.driver.extension_cadence().unwrap_or(Duration::MAX);
    let limit = extension_limit(cadence, engine.options.operation_timeout);
    let grants: Vec<&D::Grant> = batch.iter().map(|hold| &hold.grant).collect();
    let span = engine.instruments.extending(grants.len());
    let extension = async {
        let mut asking = pin!(engine.driver.extend(&grants));
        let answered = async { Ok(asking.as_mut().await) };
        let silence = match engine.timers.bounded(limit, answered).await {
            Ok(result) => return result,
            Err(silence) => silence,
        };
        tracing::debug!(locks = grants.len(), error = %silence, "extension takes long");
        let now = engine.clock().now();
        let left = schedule.change(|leases| leases.take_silence(now, &batch));
        schedule.earlier.notify_one();
        let answered = async { Ok(asking.await) };
        engine.timers.bounded(left, answered).await.unwrap_or(Err(silence))
    };
    let result = extension.instrument(span.clone()).await;
    extended(&span, &result);
    for (index, hold) in batch.iter().enumerate() {
        let extension = result.as_ref().ok().and_then(|outcomes| outcomes.get(index));
        engine.instruments.renewed(hold.claim.ticket.mode(), extension);
    }
    if let Err(error) = &result {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::warn!(locks = grants.len(), error, "extension failed, will be tried again");
    }
    drop(grants);
    (batch, result)
}

impl<D: Driver> Schedule<D> {
    /// Changes the leases and then, unlocked, tells those that have ended by it.
    fn change<T>(&self, change: impl FnOnce(&mut Leases<D>) -> T) -> T {
        let mut leases = self.lock();
        let result = change(&mut leases);
        let ended = std::mem::take(&mut leases.ended);
        drop(leases);
        for (hold, reason) in ended {
            hold.claim.lose(&reason);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Leases<D>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Driver> Leases<D> {
    /// What to extend now, and when to look again; leases that have run out are told on the way.
    fn collect_due(&mut self, now: Moment) -> (Batch<D>, Option<Moment>) {
        let mut batch = Vec::new();
        if self.due.first().is_some_and(|(first, _)| *first <= now) {
            let near: Vec<u64> = self
                .due
                .iter()
                .map_while(|(due, id)| {
                    let ahead = self.kept.get(id).map_or(Duration::ZERO, |k| k.machine.reach());
                    (*due <= now.after(ahead)).then_some(*id)
                })
                .collect();
            batch.extend(near.into_iter().filter_map(|id| self.feed(id, now, LeaseEvent::Tick)));
        }
        let first = self.due.first().map(|(due, _)| *due);
        let promised = self.looks_again.filter(|at| *at > now);
        self.looks_again = first.into_iter().chain(promised).min();
        (batch, self.looks_again)
    }

    /// Whoever was asked will not answer.
    fn forget_questions(&mut self, now: Moment) {
        let asked = |kept: &&Kept<D>| kept.machine.is_asking();
        let asked: Vec<u64> = self.kept.values().filter(asked).map(|k| k.hold.id()).collect();
        for id in asked {
            self.feed(id, now, LeaseEvent::Unknown);
        }
    }

    /// An extension was not answered yet; another is sent when it is due. Returns for how long the last
    /// of its leases lasts.
    fn take_silence(&mut self, now: Moment, batch: &Batch<D>) -> Duration {
        for hold in batch {
            self.feed(hold.id(), now, LeaseEvent::Unknown);
        }
        let deadlines = batch.iter().filter_map(|hold| self.kept.get(&hold.id()));
        deadlines.map(|kept| kept.machine.deadline().since(now)).max().unwrap_or_default()
    }

    fn take_answer(&mut self, now: Moment, (batch, result): Answer<D>) {
        let (outcomes, failure) = match result {
            Ok(outcomes) => (outcomes, None),
            Err(error) => (Vec::new(), Some(error.chain())),
        };
        let mut outcomes = outcomes.into_iter();
        for hold in batch {
            let event = match outcomes.next() {
                Some(Extension::Extended(lease)) => {
                    hold.claim.set_failure(None);
                    LeaseEvent::Extended(lease)
                }
                Some(Extension::Refused(reason)) => {
                    // Told by the server's reason, which comes before the keeper's own.
                    self.ended.push((Arc::clone(&hold), reason.into()));
                    LeaseEvent::Refused
                }
                Some(Extension::Unknown(error)) => {
                    hold.claim.set_failure(Some(&error.chain()));
                    LeaseEvent::Unknown
                }
                None => {
                    hold.claim.set_failure(failure.as_deref());
                    LeaseEvent::Unknown
                }
            };
            self.feed(hold.id(), now, event);
        }
    }

    /// Gives one lease one event; returns it if it is to be extended.
    fn feed(&mut self, id: u64, now: Moment, event: LeaseEvent) -> Option<Arc<Hold<D>>> {
        let kept = self.kept.get_mut(&id)?;
        let command = kept.machine.on(now, event);
        let (due, extend) = match command {
            LeaseCommand::SleepUntil(due) => (due, None),
            LeaseCommand::Extend => (kept.machine.deadline(), Some(Arc::clone(&kept.hold))),
            LeaseCommand::Lose(end) => {
                self.ended.push((Arc::clone(&kept.hold), kept.hold.claim.end_reason(end)));
                self.forget(id);
                return None;
            }
        };
        kept.hold.claim.set_deadline(kept.machine.deadline());
        let before = std::mem::replace(&mut kept.due, due);
        self.due.remove(&(before, id));
        self.due.insert((due, id));
        extend
    }

    fn forget(&mut self, id: u64) {
        if let Some(kept) = self.kept.remove(&id) {
            self.due.remove(&(kept.due, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock, TokioClock};
    use crate::driver::Driver;
    use crate::engine::Options;
    use crate::handle::Handle;
    use crate::lock_name::LockName;
    use crate::memory::{MemoryDriver, MemoryStore};
    use crate::mode::Mode;
    use crate::timeout::Deadline;
    use crate::traits::LockHandle;

    const LEASE: Duration = Duration::from_secs(30);
    const CADENCE: Duration = Duration::from_secs(10);

    type Memory = Arc<Engine<MemoryDriver>>;

    fn engine(clock: impl Clock + Clone) -> Memory {
        let driver = MemoryDriver::new(MemoryStore::new(), Some(LEASE), Arc::new(clock.clone()));
        Engine::new(driver, Options::default().clock(clock))
    }

    async fn acquire(engine: &Memory, name: &str) -> Handle<MemoryDriver> {
        let key = engine.driver.resolve(LockName::parse(name).unwrap(), Mode::Exclusive).unwrap();
        let name = Arc::from(name);
        engine.acquire(&name, &key, Mode::Exclusive, Deadline::NEVER).await.unwrap().unwrap()
    }

    /// When the keeper looks again, once it has looked if it was told to.
    async fn looks_again(engine: &Memory) -> Option<Moment> {
        tokio::task::yield_now().await;
        engine.keeper.schedule.lock().looks_again
    }

    #[tokio::test(start_paused = true)]
    async fn leases_that_are_given_back_at_once_wake_it_once() {
        let engine = engine(TokioClock::default());
        acquire(&engine, "first").await.release().await.unwrap();
        let first = looks_again(&engine).await;
        assert!(first.is_some());
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(100)).await;
            acquire(&engine, "next").await.release().await.unwrap();
            assert_eq!(looks_again(&engine).await, first);
        }
        let kept = acquire(&engine, "kept").await;
        tokio::time::sleep(10 * LEASE).await;
        assert!(!kept.is_lost());
        assert!(kept.remaining().unwrap() >= LEASE - CADENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_slept_too_long_is_woken_for_the_next_lease() {
        let clock = ManualClock::default();
        let engine = engine(clock.clone());
        acquire(&engine, "first").await.release().await.unwrap();
        assert_eq!(looks_again(&engine).await, Some(clock.now().after(CADENCE)));
        // The machine was suspended: timers stopped, this clock did not.
        clock.advance(2 * LEASE);
        let _second = acquire(&engine, "second").await;
        let second = Some(clock.now().after(CADENCE));
        assert_eq!(looks_again(&engine).await, second);
        clock.advance(CADENCE / 2);
        let _third = acquire(&engine, "third").await;
        assert_eq!(looks_again(&engine).await, second);
        clock.advance(CADENCE / 2);
        tokio::time::sleep(CADENCE).await;
        assert_eq!(looks_again(&engine).await, Some(clock.now().after(CADENCE / 2)));
    }
}
