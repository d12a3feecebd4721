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
#[derive(Debug)]
enum Stage {
    /// In line, not yet admitted.
    Queued { patience: Patience, waker: Option<Waker> },
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
}

#[derive(Debug)]
struct Member {
    mode: Mode,
    stage: Stage,
}

/// The tickets for one key, in order of arrival.
#[derive(Debug, Default)]
struct Line {
    members: HashMap<u64, Member>,
    queued: BTreeSet<u64>,
    /// How many of the queued only try.
    tries: usize,
    waiting: Option<u64>,
    trying: usize,
    trying_exclusive: usize,
    held: usize,
    held_exclusive: usize,
    /// Releases under way: when each began, and its mode.
    releasing: BTreeMap<u64, Mode>,
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

#[derive(Debug)]
struct State<K> {
    lines: HashMap<K, Line>,
    /// Numbers tickets and releases, so that "began before I came" is a comparison.
    next: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct LocalQueue<K> {
    state: Mutex<State<K>>,
}

impl<K: Clone + Eq + Hash> LocalQueue<K> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { lines: HashMap::new(), next: 0 }) })
    }

    /// Joins the line for a key; admitted at once if nobody is in the way.
    pub(crate) fn join(self: &Arc<Self>, key: K, mode: Mode, patience: Patience) -> Ticket<K> {
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        let line = state.lines.entry(key.clone()).or_default();
        let verdict =
            if line.queued.is_empty() { line.verdict(id, mode, 0) } else { Verdict::Open };
        let stage = Stage::Queued { patience, waker: None };
        line.members.insert(id, Member { mode, stage });
        line.queued.insert(id);
        line.tries += usize::from(patience == Patience::Tries);
        if verdict == Verdict::Admit {
            line.admit(id);
        } else {
            line.advance();
        }
        drop(state);
        Ticket { queue: Arc::clone(self), key, id }
    }

    /// The state is never left half changed, so a panic elsewhere does not poison it.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// What a ticket may do while `trying_ahead` others are trying: those that come to an empty line
    /// and do not exclude each other go together, those that queued go one by one.
    fn verdict(&self, id: u64, mode: Mode, trying_ahead: usize) -> Verdict {
        if self.waiting.is_some() {
            return Verdict::Behind;
        }
        let (held, trying) = match mode {
            Mode::Exclusive => (self.held, self.trying),
            Mode::Shared => (self.held_exclusive, self.trying_exclusive),
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
        while let Some(&id) = self.queued.first() {
            let Some(Member { mode, stage: Stage::Queued { patience, .. } }) =
                self.members.get(&id)
            else {
                self.queued.remove(&id);
                continue;
            };
            match (self.verdict(id, *mode, self.trying), patience) {
                (Verdict::Admit, _) => self.admit(id),
                (Verdict::Open, _) => return,
                (Verdict::Behind, Patience::Tries) => drop(self.unqueue(id, Stage::Refused)),
                (Verdict::Behind, Patience::Waits) => return self.refuse_tries(),
            }
        }
    }

    fn admit(&mut self, id: u64) {
        if let Some(mode) = self.unqueue(id, Stage::Trying) {
            self.trying += 1;
            self.trying_exclusive += usize::from(mode == Mode::Exclusive);
        }
    }

    /// The head waits, so it comes before everybody behind it.
    fn refuse_tries(&mut self) {
        let only_tries = |id: &u64| {
            let stage = self.members.get(id).map(|member| &member.stage);
            matches!(stage, Some(Stage::Queued { patience: Patience::Tries, .. }))
        };
        if self.tries > 0 {
            let refused: Vec<u64> = self.queued.iter().copied().filter(only_tries).collect();
            for id in refused {
                self.unqueue(id, Stage::Refused);
            }
        }
    }

    /// Takes a ticket out of the queue into another stage and wakes its task.
    fn unqueue(&mut self, id: u64, stage: Stage) -> Option<Mode> {
        self.queued.remove(&id);
        let member = self.members.get_mut(&id)?;
        if let Stage::Queued { patience, waker } = std::mem::replace(&mut member.stage, stage) {
            self.tries -= usize::from(patience == Patience::Tries);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Some(member.mode)
    }

    /// Undoes what a ticket's stage counts for; the caller gives it a new stage or removes it.
    fn uncount(&mut self, id: u64) {
        let Some(Member { mode, stage }) = self.members.get(&id) else { return };
        let exclusive = usize::from(*mode == Mode::Exclusive);
        match stage {
            Stage::Queued { patience, .. } => {
                self.tries -= usize::from(*patience == Patience::Tries);
                self.queued.remove(&id);
            }
            Stage::Refused => {}
            Stage::Trying => {
                self.trying -= 1;
                self.trying_exclusive -= exclusive;
            }
            Stage::Waiting => self.waiting = None,
            Stage::Held => {
                self.held -= 1;
                self.held_exclusive -= exclusive;
            }
            Stage::Releasing { since } => drop(self.releasing.remove(since)),
        }
    }
}

/// A place in a line; dropping it leaves the line, whatever the stage.
#[derive(Debug)]
pub(crate) struct Ticket<K: Clone + Eq + Hash> {
    queue: Arc<LocalQueue<K>>,
    key: K,
    id: u64,
}

impl<K: Clone + Eq + Hash> Ticket<K> {
    pub(crate) fn id(&self) -> u64 {
        self.id
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
        self.with(|line| match &mut line.members.get_mut(&self.id)?.stage {
            Stage::Queued { waker, .. } => {
                *waker = Some(context.waker().clone());
                Some(Poll::Pending)
            }
            Stage::Refused => Some(Poll::Ready(false)),
            _ => Some(Poll::Ready(true)),
        })
        .flatten()
        .unwrap_or(Poll::Ready(false))
    }

    /// From now on the ticket only tries.
    pub(crate) fn stop_waiting(&self) {
        self.with(|line| {
            if let Some(Member { stage: Stage::Queued { patience, .. }, .. }) =
                line.members.get_mut(&self.id)
                && *patience == Patience::Waits
            {
                *patience = Patience::Tries;
                line.tries += 1;
                line.advance();
            }
        });
    }

    /// Trying → Waiting. Returns `false`, and goes back in line, if another task waits already.
    pub(crate) fn wait_at_server(&self) -> bool {
        self.with(|line| {
            if line.waiting.is_none() {
                self.change(line, Stage::Waiting);
                line.waiting = Some(self.id);
            } else {
                self.change(line, Stage::Queued { patience: Patience::Waits, waker: None });
                line.queued.insert(self.id);
            }
            line.advance();
            line.waiting == Some(self.id)
        })
        .unwrap_or(false)
    }

    /// Trying or Waiting → Held.
    pub(crate) fn held(&self) {
        self.with(|line| {
            if let Some(mode) = self.change(line, Stage::Held) {
                line.held += 1;
                line.held_exclusive += usize::from(mode == Mode::Exclusive);
            }
            line.advance();
        });
    }

    /// Held → Releasing: those who try now wait for the outcome.
    pub(crate) fn releasing(&self) {
        let mut state = self.queue.lock();
        state.next += 1;
        let since = state.next;
        if let Some(line) = state.lines.get_mut(&self.key)
            && let Some(mode) = self.change(line, Stage::Releasing { since })
        {
            line.releasing.insert(since, mode);
        }
    }

    /// Leaves the line. Later calls do nothing.
    pub(crate) fn leave(&self) {
        let mut state = self.queue.lock();
        let Some(line) = state.lines.get_mut(&self.key) else { return };
        line.uncount(self.id);
        line.members.remove(&self.id);
        line.advance();
        if line.members.is_empty() {
            state.lines.remove(&self.key);
        }
    }

    fn change(&self, line: &mut Line, stage: Stage) -> Option<Mode> {
        line.uncount(self.id);
        let member = line.members.get_mut(&self.id)?;
        member.stage = stage;
        Some(member.mode)
    }

    fn with<T>(&self, then: impl FnOnce(&mut Line) -> T) -> Option<T> {
        self.queue.lock().lines.get_mut(&self.key).map(then)
    }
}

impl<K: Clone + Eq + Hash> Drop for Ticket<K> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
