//! The local queue: order among the tasks of one provider.
//!
//! Each native key has a [`KeyQueue`]. An acquire takes a [`Ticket`], whose [`Stage`] says where it
//! stands. At most one ticket of a key waits at the server, so a thousand waiting tasks cost the server
//! what one costs, and a re-entrant session never gets two requests for one key.
//!
//! A ticket that tries is refused only by what is decided: a local holder, or an earlier waiter. What
//! is under way (a first request, a release, a withdrawal) is waited for, so that "held" never means
//! "could not find out".

// Named in full, so that the file can be a module of another crate, too.
#[path = "queue/key_queue.rs"]
mod key_queue;

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::mode::Mode;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use key_queue::{KeyQueue, Stage};

/// Whether a ticket stays in the queue when it cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// Stays until it is admitted.
    Waits,
    /// Is refused as soon as it is decided that another comes first.
    Tries,
}

/// See the module's documentation.
///
/// The map is locked before a key's queue, never the other way round; only joining and leaving need
/// it. Tasks are woken when both are unlocked: a waker is other people's code.
#[derive(Debug)]
pub(crate) struct LocalQueue<K> {
    keys: Mutex<HashMap<K, Arc<Mutex<KeyQueue>>>>,
    /// Numbers tickets, requests and releases, so that "began before I came" is a comparison.
    next: AtomicU64,
}

impl<K: Clone + Eq + Hash> LocalQueue<K> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(HashMap::new()), next: AtomicU64::new(0) })
    }

    /// Joins the queue for a key; admitted at once if nothing is in the way.
    pub(crate) fn join(self: &Arc<Self>, key: K, mode: Mode, wait_mode: WaitMode) -> Ticket<K> {
        let id = self.number();
        let mut keys = lock(&self.keys);
        let tickets = Arc::clone(keys.entry(key.clone()).or_default());
        let mut locked = lock(&tickets);
        let stage = locked.join(id, mode, wait_mode);
        let woken = unlock(locked);
        drop(keys);
        wake(woken);
        Ticket { queue: Arc::clone(self), tickets, key, id, mode, stage: Mutex::new(stage) }
    }

    /// Whether it has forgotten every key.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.keys).is_empty()
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// No code that may panic half way runs while a mutex is locked, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unlocks a key's queue; what it returns is to be [woken](wake).
fn unlock(mut locked: MutexGuard<'_, KeyQueue>) -> Vec<Waker> {
    std::mem::take(&mut locked.woken)
}

fn wake(woken: Vec<Waker>) {
    woken.into_iter().for_each(Waker::wake);
}

/// One acquire in the queue of its key; dropping it leaves the queue, whatever the stage.
#[derive(Debug)]
pub(crate) struct Ticket<K: Clone + Eq + Hash> {
    queue: Arc<LocalQueue<K>>,
    tickets: Arc<Mutex<KeyQueue>>,
    key: K,
    id: u64,
    mode: Mode,
    /// As the ticket knows it, read and changed while the key's queue is locked; a ticket that queued
    /// asks the queue what became of it.
    stage: Mutex<Stage>,
}

impl<K: Clone + Eq + Hash> Ticket<K> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether both are for one key.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tickets, &other.tickets)
    }

    /// Completes with `true` once the ticket is admitted, with `false` once it is refused.
    ///
    /// Dropping the future changes nothing; the ticket keeps its position.
    pub(crate) async fn admitted(&self) -> bool {
        poll_fn(|context| self.poll_admitted(context)).await
    }

    /// Whether the ticket is admitted or refused already.
    pub(crate) fn decision(&self) -> Option<bool> {
        let stage = *lock(&self.stage);
        let stage = match stage {
            Stage::Queued => self.stage_in(&lock(&self.tickets)),
            stage => stage,
        };
        (stage != Stage::Queued).then_some(!matches!(stage, Stage::Refused | Stage::Gone))
    }

    fn poll_admitted(&self, context: &mut Context<'_>) -> Poll<bool> {
        if let Some(decision) = self.decision() {
            return Poll::Ready(decision);
        }
        let waker = context.waker().clone();
        // What is left of wakers is dropped when the queue is unlocked.
        let set = lock(&self.tickets).set_waker(self.id, waker);
        match set {
            Ok(_) => Poll::Pending,
            Err(_) => self.decision().map_or(Poll::Pending, Poll::Ready),
        }
    }

    /// Whether others wait for what it does: a request or a release is under way, or it waits at the
    /// server.
    pub(crate) fn is_obstacle(&self) -> bool {
        let tickets = lock(&self.tickets);
        matches!(self.stage_in(&tickets), Stage::Trying | Stage::Waiting | Stage::Ending { .. })
    }

    /// From now on the ticket only tries.
    pub(crate) fn stop_waiting(&self) {
        let since = self.queue.number();
        let mut tickets = lock(&self.tickets);
        tickets.stop_waiting(self.id, since);
        wake(unlock(tickets));
    }

    /// A number for a request that begins now, for [`refused`](Self::refused).
    pub(crate) fn begin_request(&self) -> u64 {
        self.queue.number()
    }

    /// The backend has refused the request that began then. What only tried by then is refused, too:
    /// a thousand that stop waiting at one moment need one request.
    pub(crate) fn refused(&self, began: u64) {
        let mut tickets = lock(&self.tickets);
        tickets.refuse_tries(self.mode, began);
        wake(unlock(tickets));
    }

    /// Trying → Waiting. Returns `false`, and goes back to the queue, if others may come first.
    pub(crate) fn wait_at_server(&self) -> bool {
        let mut tickets = lock(&self.tickets);
        let before = self.stage_in(&tickets);
        if before == Stage::Gone {
            return false;
        }
        let waits = tickets.wait_at_server(self.id, self.mode, before);
        *lock(&self.stage) = if waits { Stage::Waiting } else { Stage::Queued };
        wake(unlock(tickets));
        waits
    }

    /// Trying or Waiting → Held.
    pub(crate) fn held(&self) {
        let mut tickets = lock(&self.tickets);
        if self.change(&mut tickets, Stage::Held) {
            tickets.hold(self.mode);
        }
        tickets.advance();
        wake(unlock(tickets));
    }

    /// Its release or withdrawal begins: those that try now wait for the outcome.
    pub(crate) fn ending(&self) {
        let since = self.queue.number();
        let mut tickets = lock(&self.tickets);
        if self.change(&mut tickets, Stage::Ending { since }) {
            tickets.begin_end(since, self.mode);
        }
        tickets.advance();
        wake(unlock(tickets));
    }

    /// Leaves the queue. Later calls do nothing.
    pub(crate) fn leave(&self) {
        if *lock(&self.stage) == Stage::Gone {
            return;
        }
        let mut keys = lock(&self.queue.keys);
        let mut tickets = lock(&self.tickets);
        if self.change(&mut tickets, Stage::Gone) {
            tickets.tickets -= 1;
            tickets.advance();
            if tickets.tickets == 0 {
                keys.remove(&self.key);
            }
        }
        let woken = unlock(tickets);
        drop(keys);
        wake(woken);
    }

    /// Gives the ticket another stage; `false` if it has left.
    fn change(&self, tickets: &mut KeyQueue, stage: Stage) -> bool {
        let before = self.stage_in(tickets);
        if before == Stage::Gone {
            return false;
        }
        tickets.leave_stage(self.id, self.mode, before);
        *lock(&self.stage) = stage;
        true
    }

    fn stage_in(&self, tickets: &KeyQueue) -> Stage {
        match *lock(&self.stage) {
            Stage::Queued => tickets.stage_of_queued(self.id),
            stage => stage,
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Ticket<K> {
    fn drop(&mut self) {
        self.leave();
    }
}
