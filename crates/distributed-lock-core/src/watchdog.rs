//! Acquires and releases whose task has stopped polling them.
//!
//! A pending acquire may have a request, a queue position or even the lock at the backend. If its task
//! does not poll it any more (the future was polled once and then left alone, or synchronous code blocks
//! the runtime), everybody else would wait for it without end. So a pending acquire lives in a shared
//! [`Slot`], and a task on the library thread looks after all of a provider: an admitted acquire that is
//! not polled for about an operation timeout is dropped, which withdraws it like any cancellation. When
//! its task polls it again, it starts anew at the tail. A release is looked after in the same way: dropped,
//! it is finished in the background.
//!
//! The pattern is known as "futurelock" (Oxide Computer, RFD 609).

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::background::{BoxFuture, library_runtime};
use crate::claim::Claim;
use crate::timeout::require_runtime;
use crate::timers::{Timer, Timers};

/// The shortest time without a poll after which an acquire counts as left alone: a loaded machine must
/// not cost a healthy task its position.
const SHORTEST_LIMIT: Duration = Duration::from_millis(500);

/// So many rounds without a poll: an acquire counts as left alone.
const ROUNDS: u32 = 3;

/// So many rounds without a poll: the tasks behind it are asked to show that they run.
const SUSPICIOUS_ROUNDS: u32 = 2;

/// How long the task on the library thread stays when nothing is pending, so that a busy provider does
/// not start it again and again.
const STAYS_FOR: Duration = Duration::from_secs(10);

/// Looks after the pending acquires of one provider.
pub(crate) struct Watchdog<K: Clone + Eq + Hash> {
    /// Pause between two rounds. A pending acquire that is admitted is polled at least as often.
    round: Duration,
    timers: Timers,
    state: Mutex<State<K>>,
    next: AtomicU64,
}

struct State<K: Clone + Eq + Hash> {
    pending: HashMap<u64, Pending<K>>,
    is_running: bool,
}

struct Pending<K: Clone + Eq + Hash> {
    claim: Arc<Claim<K>>,
    slot: Arc<dyn Abandon>,
    /// How often it had been polled at the last round, and for how many rounds that has not changed.
    polls: u32,
    rounds: u32,
    /// How often it had been polled when it was last asked to show that its task runs.
    polls_when_asked: Option<u32>,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Watchdog<K> {
    pub(crate) fn new(operation_timeout: Duration, timers: Timers) -> Arc<Self> {
        let limit = (operation_timeout / 4 * 3).max(SHORTEST_LIMIT);
        let state = State { pending: HashMap::new(), is_running: false };
        let (state, next) = (Mutex::new(state), AtomicU64::new(0));
        Arc::new(Self { round: limit / ROUNDS, timers, state, next })
    }

    /// Runs an acquire or a release; `None` if it was abandoned because its task did not poll it for too long.
    ///
    /// What is ready at once costs nothing here.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        claim: &Arc<Claim<K>>,
        mut work: BoxFuture<'static, T>,
    ) -> Option<T> {
        let first = poll_fn(|context| {
            let polled = work.as_mut().poll(context);
            Poll::Ready((polled, polled_by(context)))
        });
        let waker = match first.await {
            (Poll::Ready(result), _) => return Some(result),
            (Poll::Pending, waker) => waker,
        };
        let slot = Arc::new(Slot {
            polls: AtomicU32::new(1),
            state: Mutex::new(SlotState { work: Some(work), waker: Some(waker) }),
        });
        let _registration = self.register(claim, Arc::clone(&slot) as _);
        let mut is_polled = true;
        let mut heartbeat = None;
        poll_fn(|context| {
            if !std::mem::take(&mut is_polled)
                && let Poll::Ready(result) = slot.poll(context)
            {
                return Poll::Ready(result);
            }
            self.beat(claim, &mut heartbeat, context);
            Poll::Pending
        })
        .await
    }

    /// Has an admitted acquire polled once a round, so that its task is seen to run.
    fn beat(&self, claim: &Claim<K>, heartbeat: &mut Option<Timer>, context: &mut Context<'_>) {
        if !claim.ticket.is_obstacle() || require_runtime().is_err() {
            *heartbeat = None;
            return;
        }
        let timer = heartbeat.get_or_insert_with(|| self.timers.set(Instant::now() + self.round));
        while pin!(&mut *timer).poll(context).is_ready() {
            timer.reset(Instant::now() + self.round);
        }
    }

    fn register(
        self: &Arc<Self>,
        claim: &Arc<Claim<K>>,
        slot: Arc<dyn Abandon>,
    ) -> Registration<K> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let pending = Pending {
            claim: Arc::clone(claim),
            polls: slot.polls(),
            slot: Arc::clone(&slot),
            rounds: 0,
            polls_when_asked: None,
        };
        let mut state = self.lock();
        state.pending.insert(id, pending);
        let is_running = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if !is_running {
            match library_runtime() {
                Some(library) => drop(library.spawn(watch(Arc::downgrade(self), self.round))),
                None => self.lock().is_running = false,
            }
        }
        Registration { watchdog: Arc::clone(self), slot, id }
    }

    /// One round; `false` if nothing is pending.
    fn look(&self) -> bool {
        let mut state = self.lock();
        let mut left_alone = Vec::new();
        for (id, pending) in &mut state.pending {
            let polls = pending.slot.polls();
            if polls != pending.polls || !pending.claim.ticket.is_obstacle() {
                pending.polls = polls;
                pending.rounds = 0;
            } else {
                pending.rounds += 1;
                if pending.rounds >= SUSPICIOUS_ROUNDS {
                    left_alone.push(*id);
                }
            }
        }
        let mut asked = Vec::new();
        let mut abandoned = Vec::new();
        for id in left_alone {
            let Some(first) = state.pending.get(&id) else { continue };
            let (claim, is_certain) = (Arc::clone(&first.claim), first.rounds >= ROUNDS);
            if is_certain {
                abandoned.push(Arc::clone(&first.slot));
            }
            for (other, behind) in &mut state.pending {
                if *other == id || !behind.claim.ticket.is_beside(&claim.ticket) {
                    continue;
                }
                let polls = behind.slot.polls();
                match behind.polls_when_asked {
                    Some(before) if is_certain && before == polls => {
                        abandoned.push(Arc::clone(&behind.slot));
                    }
                    Some(before) if before == polls => {}
                    _ => {
                        behind.polls_when_asked = Some(polls);
                        asked.push(Arc::clone(&behind.slot));
                    }
                }
            }
        }
        let is_empty = state.pending.is_empty();
        drop(state);
        // What follows runs other people's code, without the mutex.
        asked.iter().for_each(|slot| slot.wake());
        abandoned.iter().for_each(|slot| slot.abandon());
        !is_empty
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn polled_by(context: &Context<'_>) -> Waker {
    context.waker().clone()
}

async fn watch<K: Clone + Eq + Hash + Send + Sync + 'static>(
    watchdog: Weak<Watchdog<K>>,
    round: Duration,
) {
    let mut empty_since = Instant::now();
    loop {
        tokio::time::sleep(round).await;
        let Some(watchdog) = watchdog.upgrade() else { return };
        if watchdog.look() {
            empty_since = Instant::now();
        } else if empty_since.elapsed() > STAYS_FOR {
            let mut state = watchdog.lock();
            if state.pending.is_empty() {
                state.is_running = false;
                return;
            }
        }
    }
}

/// A pending acquire is looked after until this is dropped.
struct Registration<K: Clone + Eq + Hash + Send + Sync + 'static> {
    watchdog: Arc<Watchdog<K>>,
    slot: Arc<dyn Abandon>,
    id: u64,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Drop for Registration<K> {
    fn drop(&mut self) {
        self.watchdog.lock().pending.remove(&self.id);
        // Now, though the watchdog may look at the slot at this moment.
        self.slot.close();
    }
}

/// Where a pending acquire is, so that its task and the watchdog can reach it.
struct Slot<T> {
    polls: AtomicU32,
    state: Mutex<SlotState<T>>,
}

struct SlotState<T> {
    /// `None` once it has ended or was abandoned.
    work: Option<BoxFuture<'static, T>>,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    /// Ready with `None` if it was abandoned.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = &mut state.work else { return Poll::Ready(None) };
        let Poll::Ready(result) = Pin::new(work).poll(context) else {
            let is_current = |waker: &Waker| waker.will_wake(context.waker());
            if !state.waker.as_ref().is_some_and(is_current) {
                state.waker = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        state.work = None;
        Poll::Ready(Some(result))
    }
}

/// What the watchdog does with a pending acquire, whatever its result.
trait Abandon: Send + Sync {
    fn polls(&self) -> u32;
    /// Wakes its task, which shows that it runs by polling.
    fn wake(&self);
    /// Drops the work, unless it is being polled at this moment.
    fn abandon(&self);
    /// Drops the work, if any is left.
    fn close(&self);
}

impl<T: Send> Abandon for Slot<T> {
    fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        let state = self.state.try_lock();
        let waker = state.ok().and_then(|state| state.waker.clone());
        waker.iter().for_each(Waker::wake_by_ref);
    }

    fn abandon(&self) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let (work, waker) = (state.work.take(), state.waker.take());
        drop(state);
        if work.is_some() {
            tracing::debug!("an acquire or a release that its task does not poll is dropped");
        }
        drop(work);
        // A task that runs again after all starts anew.
        waker.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (state.work.take(), state.waker.take());
        drop(state);
        drop(left);
    }
}
