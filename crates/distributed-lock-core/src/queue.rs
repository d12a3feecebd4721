//! The local queue: order among the tasks of one provider.
//!
//! Each native key has a [`Line`]. Whoever wants the key takes a [`Ticket`], whose [`Stage`] says
//! where it stands. At most one ticket of a line waits at the server, so a thousand waiting tasks
//! cost the server what one costs, and nothing that a session may do twice is ever asked twice.
//!
//! A ticket that tries is refused only by what is decided: a local holder, or an earlier waiter. What
//! is under way — somebody's first request, a release, a withdrawal — is waited for, so that "held"
//! never means "could not find out".

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::mode::Mode;

/// Whether a ticket stays in line when it cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Stays until it is admitted.
    Waits,
    /// Is refused as soon as it is decided that somebody else comes first.
    Tries,
}

/// Where a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In line, not yet admitted.
    Queued,
    /// Turned away: somebody else holds or comes first.
    Refused,
    /// Admitted: its request is on the way, the outcome open.
    Trying,
    /// The one ticket of its line that waits at the server.
    Waiting,
    /// Holds the lock.
    Held,
    /// Gives the lock back; `since` numbers the start of that.
    Releasing { since: u64 },
    /// Has left the line.
    Gone,
}

/// The tickets for one key.
#[derive(Debug, Default)]
struct Line {
    /// All that have not left.
    tickets: usize,
    /// Those not yet admitted, in order of arrival.
    queued: BTreeMap<u64, Queued>,
    /// Those turned away since they queued.
    refused: BTreeSet<u64>,
    /// How many of the queued only try.
    tries: usize,
    /// Whether somebody waits at the server.
    waiting: bool,
    trying: usize,
    trying_exclusive: usize,
    held: usize,
    held_exclusive: usize,
    /// Releases under way: when each began, and its mode.
    releasing: BTreeMap<u64, Mode>,
}

#[derive(Debug)]
struct Queued {
    mode: Mode,
    patience: Patience,
    waker: Option<Waker>,
}

/// What a queued ticket may do now.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Admit,
    /// Not yet known: something is under way.
    Open,
    /// Somebody holds or comes first.
    Behind,
}

/// See the module's documentation.
///
/// The map is locked before a line, never the other way round; only joining and leaving need it.
#[derive(Debug)]
pub(crate) struct LocalQueue<K> {
    lines: Mutex<HashMap<K, Arc<Mutex<Line>>>>,
    /// Numbers tickets and releases, so that "began before I came" is a comparison.
    next: AtomicU64,
}

impl<K: Clone + Eq + Hash> LocalQueue<K> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { lines: Mutex::new(HashMap::new()), next: AtomicU64::new(0) })
    }

    /// Joins the line for a key; admitted at once if nobody is in the way.
    pub(crate) fn join(self: &Arc<Self>, key: K, mode: Mode, patience: Patience) -> Ticket<K> {
        let id = self.number();
        let mut lines = lock(&self.lines);
        let line = Arc::clone(lines.entry(key.clone()).or_default());
        let stage = lock(&line).join(id, mode, patience);
        drop(lines);
        Ticket { queue: Arc::clone(self), line, key, id, mode, stage: Mutex::new(stage) }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// No lock is held over code that may panic half way, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn join(&mut self, id: u64, mode: Mode, patience: Patience) -> Stage {
        self.tickets += 1;
        if self.queued.is_empty() && self.verdict(id, (mode, patience), 0) == Verdict::Admit {
            self.count_trying(mode);
            return Stage::Trying;
        }
        self.enqueue(id, mode, patience);
        self.advance();
        Stage::Queued
    }

    fn enqueue(&mut self, id: u64, mode: Mode, patience: Patience) {
        self.queued.insert(id, Queued { mode, patience, waker: None });
        self.tries += usize::from(patience == Patience::Tries);
    }

    /// What a ticket may do while `trying_ahead` others are trying: those that come to an empty line
    /// and do not exclude each other go together, those that queued go one by one. So do those that
    /// wait for permits: a release between the answers of two would serve the later one first.
    fn verdict(&self, id: u64, (mode, patience): (Mode, Patience), trying_ahead: usize) -> Verdict {
        if self.waiting {
            return Verdict::Behind;
        }
        let (held, trying) = match mode {
            Mode::Exclusive => (self.held, self.trying),
            Mode::Shared => (self.held_exclusive, self.trying_exclusive),
            Mode::Permit { .. } if patience == Patience::Waits => (0, self.trying),
            Mode::Permit { .. } => (0, 0),
        };
        if held > 0 {
            return Verdict::Behind;
        }
        let releasing = match mode {
            Mode::Exclusive => !self.releasing.is_empty(),
            Mode::Shared => self.releasing.values().any(|mode| *mode == Mode::Exclusive),
            // Only those that began before this ticket came: a stream of releases holds up nobody.
            Mode::Permit { .. } => self.releasing.range(..id).next().is_some(),
        };
        if trying > 0 || trying_ahead > 0 || releasing { Verdict::Open } else { Verdict::Admit }
    }

    /// Moves the head of the line on as far as it goes and turns away those that only try.
    fn advance(&mut self) {
        while let Some((&id, head)) = self.queued.first_key_value() {
            let (mode, patience) = (head.mode, head.patience);
            match (self.verdict(id, (mode, patience), self.trying), patience) {
                (Verdict::Admit, _) => {
                    self.unqueue(id);
                    self.count_trying(mode);
                }
                (Verdict::Open, _) => return,
                (Verdict::Behind, Patience::Tries) => self.refuse(id),
                (Verdict::Behind, Patience::Waits) => return self.refuse_tries(),
            }
        }
    }

    /// The head waits, so it comes before everybody behind it.
    fn refuse_tries(&mut self) {
        if self.tries > 0 {
            let tries = self.queued.iter().filter(|(_, q)| q.patience == Patience::Tries);
            let tries: Vec<u64> = tries.map(|(id, _)| *id).collect();
            tries.into_iter().for_each(|id| self.refuse(id));
        }
    }

    fn refuse(&mut self, id: u64) {
        self.refused.insert(id);
        self.unqueue(id);
    }

    /// Takes a ticket out of the queue and wakes its task.
    fn unqueue(&mut self, id: u64) {
        if let Some(Queued { patience, waker, .. }) = self.queued.remove(&id) {
            self.tries -= usize::from(patience == Patience::Tries);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn count_trying(&mut self, mode: Mode) {
        self.trying += 1;
        self.trying_exclusive += usize::from(mode == Mode::Exclusive);
    }

    /// Undoes what a stage counts for.
    fn uncount(&mut self, id: u64, mode: Mode, stage: Stage) {
        let exclusive = usize::from(mode == Mode::Exclusive);
        match stage {
            Stage::Queued => self.unqueue(id),
            Stage::Refused => drop(self.refused.remove(&id)),
            Stage::Trying => {
                self.trying -= 1;
                self.trying_exclusive -= exclusive;
            }
            Stage::Waiting => self.waiting = false,
            Stage::Held => {
                self.held -= 1;
                self.held_exclusive -= exclusive;
            }
            Stage::Releasing { since } => drop(self.releasing.remove(&since)),
            Stage::Gone => {}
        }
    }
}

/// A place in a line; dropping it leaves the line, whatever the stage.
#[derive(Debug)]
pub(crate) struct Ticket<K: Clone + Eq + Hash> {
    queue: Arc<LocalQueue<K>>,
    line: Arc<Mutex<Line>>,
    key: K,
    id: u64,
    mode: Mode,
    /// As the ticket knows it, read and changed while the line is locked; a ticket that queued asks
    /// the line what became of it.
    stage: Mutex<Stage>,
}

impl<K: Clone + Eq + Hash> Ticket<K> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Completes with `true` once the ticket is admitted, with `false` once it is refused.
    ///
    /// Dropping the future changes nothing; the ticket keeps its place.
    pub(crate) async fn admitted(&self) -> bool {
        poll_fn(|context| self.poll_admitted(context)).await
    }

    /// Whether the ticket is admitted or refused already.
    pub(crate) fn verdict(&self) -> Option<bool> {
        match self.poll_admitted(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(verdict) => Some(verdict),
            Poll::Pending => None,
        }
    }

    fn poll_admitted(&self, context: &mut Context<'_>) -> Poll<bool> {
        if *lock(&self.stage) == Stage::Trying {
            return Poll::Ready(true);
        }
        let mut line = lock(&self.line);
        let stage = self.stage_in(&line);
        if let Some(queued) = line.queued.get_mut(&self.id) {
            queued.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(!matches!(stage, Stage::Refused | Stage::Gone))
    }

    /// From now on the ticket only tries.
    pub(crate) fn stop_waiting(&self) {
        let mut line = lock(&self.line);
        if let Some(queued) = line.queued.get_mut(&self.id)
            && queued.patience == Patience::Waits
        {
            queued.patience = Patience::Tries;
            line.tries += 1;
            line.advance();
        }
    }

    /// Trying → Waiting. Returns `false`, and goes back in line, if others may come first: one who
    /// waits already, who came earlier, or whose request is still open.
    pub(crate) fn wait_at_server(&self) -> bool {
        let mut line = lock(&self.line);
        let is_next = line.queued.first_key_value().is_none_or(|(first, _)| *first > self.id);
        let waits = is_next && !line.waiting && line.trying == 1;
        if waits {
            self.change(&mut line, Stage::Waiting);
            line.waiting = true;
        } else {
            self.change(&mut line, Stage::Queued);
            line.enqueue(self.id, self.mode, Patience::Waits);
        }
        line.advance();
        waits
    }

    /// Trying or Waiting → Held.
    pub(crate) fn held(&self) {
        let mut line = lock(&self.line);
        if self.change(&mut line, Stage::Held) {
            line.held += 1;
            line.held_exclusive += usize::from(self.mode == Mode::Exclusive);
        }
        line.advance();
    }

    /// Held → Releasing: those who try now wait for the outcome.
    pub(crate) fn releasing(&self) {
        let since = self.queue.number();
        let mut line = lock(&self.line);
        if self.change(&mut line, Stage::Releasing { since }) {
            line.releasing.insert(since, self.mode);
        }
    }

    /// Leaves the line. Later calls do nothing.
    pub(crate) fn leave(&self) {
        if *lock(&self.stage) == Stage::Gone {
            return;
        }
        let mut lines = lock(&self.queue.lines);
        let mut line = lock(&self.line);
        if self.change(&mut line, Stage::Gone) {
            line.tickets -= 1;
            line.advance();
            if line.tickets == 0 {
                lines.remove(&self.key);
            }
        }
    }

    /// Gives the ticket another stage; `false` if it has left.
    fn change(&self, line: &mut Line, stage: Stage) -> bool {
        let before = self.stage_in(line);
        if before == Stage::Gone {
            return false;
        }
        line.uncount(self.id, self.mode, before);
        *lock(&self.stage) = stage;
        true
    }

    fn stage_in(&self, line: &Line) -> Stage {
        match *lock(&self.stage) {
            Stage::Queued if line.queued.contains_key(&self.id) => Stage::Queued,
            Stage::Queued if line.refused.contains(&self.id) => Stage::Refused,
            Stage::Queued => Stage::Trying,
            stage => stage,
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Ticket<K> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
