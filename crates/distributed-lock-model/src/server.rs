//! A modelled server: one lock, its expiry, its counter, and what was undone.

use distributed_lock_redis::redlock::round::OwnerId;

use crate::variant::{Bounds, Variant};

/// Which round of which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) client: u8,
    pub(crate) round: u8,
}

/// What a client asks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Question {
    Acquire,
    /// For a vote that a held lock does not have.
    AcquireAgain,
    Extend,
    Undo {
        tombstone: bool,
    },
    /// To step the counter, for this try of a draw.
    Step(u8),
    /// To raise the counter to a number, for this try of a draw.
    Raise(u8, u64),
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    NotYours,
    Owner(OwnerId),
    Counted(u64),
    Behind,
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Server {
    /// The owners and when they end, sorted: one, or any number of readers.
    held: Vec<(Attempt, u8)>,
    /// Rounds that were given up, sorted: a late request finds them.
    tombstones: Vec<Attempt>,
    /// Until when it is not to be counted, because it may have forgotten locks.
    pub(crate) new_until: u8,
    /// What it counts, and who has brought it there.
    counter: (u64, Option<Attempt>),
    /// By how much its clock is ahead of the others'.
    ahead: u8,
}

impl Server {
    pub(crate) fn new(ahead: u8) -> Self {
        Self { ahead, ..Self::default() }
    }

    pub(crate) fn is_held_by(&self, client: u8) -> bool {
        self.held.iter().any(|(attempt, _)| attempt.client == client)
    }

    /// What has run out is gone.
    pub(crate) fn on_time(&mut self, now: u8) {
        self.held.retain(|(_, ends)| *ends > now);
    }

    /// It comes back without its data.
    pub(crate) fn restart(&mut self, now: u8, guard: u8) {
        *self = Self { new_until: now + guard, ahead: self.ahead, ..Self::default() };
    }

    /// Its clock jumps over every expiry.
    pub(crate) fn jump(&mut self, expiry: u8) {
        self.ahead += expiry;
        self.held.clear();
    }

    fn lasts(&mut self, owner: Attempt, until: u8) {
        self.held.retain(|(other, _)| *other != owner);
        self.held.push((owner, until));
        self.held.sort_unstable();
    }

    pub(crate) fn on(
        &mut self,
        variant: Variant,
        (now, bounds): (u8, &Bounds),
        from: Attempt,
        question: Question,
    ) -> Reply {
        let is_own = self.held.iter().any(|(owner, _)| *owner == from);
        match question {
            Question::Acquire | Question::AcquireAgain if self.tombstones.contains(&from) => {
                Reply::Nothing
            }
            Question::Acquire | Question::AcquireAgain => match self.held.first() {
                Some((other, _)) if !is_own && !bounds.are_readers => {
                    Reply::Owner(OwnerId(u64::from(other.client) << 8 | u64::from(other.round)))
                }
                _ => {
                    self.lasts(from, now + bounds.expiry);
                    Reply::Done
                }
            },
            Question::Undo { tombstone } => {
                let leaves = tombstone && variant != Variant::LateRequestsTaken;
                if leaves && !self.tombstones.contains(&from) {
                    self.tombstones.push(from);
                    self.tombstones.sort_unstable();
                }
                self.held.retain(|(owner, _)| *owner != from);
                if is_own { Reply::Done } else { Reply::NotYours }
            }
            Question::Extend | Question::Step(_) | Question::Raise(..) if !is_own => {
                Reply::NotYours
            }
            Question::Extend => {
                self.lasts(from, now + bounds.expiry);
                Reply::Done
            }
            Question::Step(_) => {
                let next = (self.counter.0 + 1).max(u64::from(now + self.ahead));
                self.counter = (next, Some(from));
                Reply::Counted(next)
            }
            Question::Raise(_, number) if self.counter.0 < number => {
                self.counter = (number, Some(from));
                Reply::Counted(number)
            }
            Question::Raise(_, number) if self.counter == (number, Some(from)) => {
                Reply::Counted(number)
            }
            Question::Raise(..) => Reply::Behind,
        }
    }
}
