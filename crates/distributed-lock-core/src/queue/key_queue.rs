//! The queue for one key, as a plain state: no locks, no tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use super::WaitMode;
use crate::mode::Mode;

/// Where a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the queue, not yet admitted.
    Queued,
    /// Refused: another ticket holds or comes first.
    Refused,
    /// Admitted: its request is on the way, the outcome open.
    Trying,
    /// The one ticket of its key that waits at the server.
    Waiting,
    /// Holds the lock.
    Held,
    /// Its release or withdrawal is under way; `since` numbers the start of that.
    Ending { since: u64 },
    /// Has left the queue.
    Gone,
}

/// The tickets for one key.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    /// All that have not left.
    pub(super) tickets: usize,
    /// Those not yet admitted, in order of arrival.
    queued: BTreeMap<u64, Queued>,
    /// Those of the queued that only try.
    tries: BTreeSet<u64>,
    /// Those refused since they queued.
    refused: BTreeSet<u64>,
    /// Whether a ticket waits at the server.
    waiting: bool,
    trying: usize,
    trying_exclusive: usize,
    held: usize,
    held_exclusive: usize,
    /// Releases and withdrawals under way: when each began, and its mode.
    ending: BTreeMap<u64, Mode>,
    /// Tasks to be woken once the queue is unlocked.
    pub(super) woken: Vec<Waker>,
}

#[derive(Debug)]
struct Queued {
    mode: Mode,
    wait_mode: WaitMode,
    /// From when on it only tries, if it does.
    tries_since: u64,
    waker: Option<Waker>,
}

/// What a queued ticket may do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// Not yet known: a request, a release or a withdrawal is under way.
    Open,
    /// Another ticket holds or comes first.
    Behind,
}

impl KeyQueue {
    pub(super) fn join(&mut self, id: u64, mode: Mode, wait_mode: WaitMode) -> Stage {
        self.tickets += 1;
        if self.queued.is_empty() && self.admission(id, (mode, wait_mode), 0) == Admission::Admitted
        {
            self.count_trying(mode);
            return Stage::Trying;
        }
        self.enqueue(id, mode, wait_mode);
        self.advance();
        Stage::Queued
    }

    fn enqueue(&mut self, id: u64, mode: Mode, wait_mode: WaitMode) {
        self.queued.insert(id, Queued { mode, wait_mode, tries_since: id, waker: None });
        if wait_mode == WaitMode::Tries {
            self.tries.insert(id);
        }
    }

    /// What a ticket may do while `trying_ahead` others are trying: those that come to an empty queue
    /// and do not exclude each other go together, those that queued go one by one. So do those that
    /// wait for permits: a release between the answers of two would serve the later one first.
    pub(super) fn admission(
        &self,
        id: u64,
        (mode, wait_mode): (Mode, WaitMode),
        trying_ahead: usize,
    ) -> Admission {
        if self.waiting {
            return Admission::Behind;
        }
        let (held, trying) = match mode {
            Mode::Exclusive => (self.held, self.trying),
            Mode::Shared => (self.held_exclusive, self.trying_exclusive),
            Mode::Permit { .. } if wait_mode == WaitMode::Waits => (0, self.trying),
            Mode::Permit { .. } => (0, 0),
        };
        if held > 0 {
            return Admission::Behind;
        }
        let ending = match mode {
            Mode::Exclusive => !self.ending.is_empty(),
            Mode::Shared => self.ending.values().any(|mode| *mode == Mode::Exclusive),
            // Only those that began before this ticket came: a stream of releases delays no permit.
            Mode::Permit { .. } => self.ending.range(..id).next().is_some(),
        };
        if trying > 0 || trying_ahead > 0 || ending { Admission::Open } else { Admission::Admitted }
    }

    /// Moves the head of the queue on as far as it goes and refuses those that only try.
    pub(super) fn advance(&mut self) {
        while let Some((&id, head)) = self.queued.first_key_value() {
            let (mode, wait_mode) = (head.mode, head.wait_mode);
            match (self.admission(id, (mode, wait_mode), self.trying), wait_mode) {
                (Admission::Admitted, _) => {
                    self.unqueue(id);
                    self.count_trying(mode);
                }
                (Admission::Open, _) => return,
                (Admission::Behind, WaitMode::Tries) => self.refuse(id),
                // The head waits, so it comes before every other.
                (Admission::Behind, WaitMode::Waits) => {
                    let tries = std::mem::take(&mut self.tries);
                    return tries.into_iter().for_each(|id| self.refuse(id));
                }
            }
        }
    }

    /// The backend has refused a request of this mode that began at `began`: those that only tried by
    /// then have their answer, too.
    pub(super) fn refuse_tries(&mut self, mode: Mode, began: u64) {
        let answered = |queued: &Queued| {
            let same = queued.mode == mode;
            let stricter = mode == Mode::Shared && queued.mode == Mode::Exclusive;
            queued.tries_since < began && (same || stricter)
        };
        let tries = self.tries.iter().filter(|id| self.queued.get(id).is_some_and(answered));
        let tries: Vec<u64> = tries.copied().collect();
        tries.into_iter().for_each(|id| self.refuse(id));
    }

    fn refuse(&mut self, id: u64) {
        self.refused.insert(id);
        self.unqueue(id);
    }

    /// Takes a ticket out of the queue; its task is woken once the queue is unlocked.
    fn unqueue(&mut self, id: u64) {
        if let Some(queued) = self.queued.remove(&id) {
            self.tries.remove(&id);
            self.woken.extend(queued.waker);
        }
    }

    /// Has a queued ticket's task woken from now on; `Err` with the waker if it is not queued. Returns
    /// the waker that it had.
    pub(super) fn set_waker(&mut self, id: u64, waker: Waker) -> Result<Option<Waker>, Waker> {
        match self.queued.get_mut(&id) {
            Some(queued) => Ok(queued.waker.replace(waker)),
            None => Err(waker),
        }
    }

    /// From `since` on the queued ticket only tries.
    pub(super) fn stop_waiting(&mut self, id: u64, since: u64) {
        if let Some(queued) = self.queued.get_mut(&id)
            && queued.wait_mode == WaitMode::Waits
        {
            queued.wait_mode = WaitMode::Tries;
            queued.tries_since = since;
            self.tries.insert(id);
            self.advance();
        }
    }

    fn count_trying(&mut self, mode: Mode) {
        self.trying += 1;
        self.trying_exclusive += usize::from(mode == Mode::Exclusive);
    }

    /// Trying → Waiting, or back to the queue if others may come first: one that waits already, that
    /// came earlier, or whose request is still open. `true` if it waits.
    pub(super) fn wait_at_server(&mut self, id: u64, mode: Mode, before: Stage) -> bool {
        let is_next = self.queued.first_key_value().is_none_or(|(first, _)| *first > id);
        let waits = is_next && !self.waiting && self.trying == 1;
        self.leave_stage(id, mode, before);
        if waits {
            self.waiting = true;
        } else {
            self.enqueue(id, mode, WaitMode::Waits);
        }
        self.advance();
        waits
    }

    /// Trying or Waiting → Held.
    pub(super) fn hold(&mut self, mode: Mode) {
        self.held += 1;
        self.held_exclusive += usize::from(mode == Mode::Exclusive);
    }

    /// A release or a withdrawal begins.
    pub(super) fn begin_end(&mut self, since: u64, mode: Mode) {
        self.ending.insert(since, mode);
    }

    /// Undoes what a stage counts for.
    pub(super) fn leave_stage(&mut self, id: u64, mode: Mode, stage: Stage) {
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
            Stage::Ending { since } => drop(self.ending.remove(&since)),
            Stage::Gone => {}
        }
    }

    /// Where a ticket stands that thinks that it is queued.
    pub(super) fn stage_of_queued(&self, id: u64) -> Stage {
        if self.queued.contains_key(&id) {
            Stage::Queued
        } else if self.refused.contains(&id) {
            Stage::Refused
        } else {
            Stage::Trying
        }
    }
}
