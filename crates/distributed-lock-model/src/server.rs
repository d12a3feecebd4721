//! A modelled server: one lock, its expiry, and what was undone.

use distributed_lock_redis::redlock::round::OwnerId;

use crate::variant::Variant;

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
    Extend,
    Undo,
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    NotYours,
    Owner(OwnerId),
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Server {
    held: Option<(Attempt, u8)>,
    /// Rounds that were given up, sorted: a late request finds them.
    tombstones: Vec<Attempt>,
    /// Until when it is not to be counted, because it may have forgotten locks.
    pub(crate) new_until: u8,
}

impl Server {
    pub(crate) fn is_held_by(&self, client: u8) -> bool {
        self.held.is_some_and(|(attempt, _)| attempt.client == client)
    }

    /// What has run out is gone.
    pub(crate) fn on_time(&mut self, now: u8) {
        self.held = self.held.filter(|(_, ends)| *ends > now);
    }

    /// It comes back without its data.
    pub(crate) fn restart(&mut self, now: u8, guard: u8) {
        *self = Self { new_until: now + guard, ..Self::default() };
    }

    pub(crate) fn on(
        &mut self,
        variant: Variant,
        (now, expiry): (u8, u8),
        from: Attempt,
        question: Question,
    ) -> Reply {
        let is_own = self.held.is_some_and(|(attempt, _)| attempt == from);
        match question {
            Question::Acquire if self.tombstones.contains(&from) => Reply::Nothing,
            Question::Acquire => match self.held {
                Some((other, _)) if !is_own => {
                    Reply::Owner(OwnerId(u64::from(other.client) << 8 | u64::from(other.round)))
                }
                _ => {
                    self.held = Some((from, now + expiry));
                    Reply::Done
                }
            },
            Question::Extend if is_own => {
                self.held = Some((from, now + expiry));
                Reply::Done
            }
            Question::Undo => {
                if variant != Variant::LateRequestsTaken && !self.tombstones.contains(&from) {
                    self.tombstones.push(from);
                    self.tombstones.sort_unstable();
                }
                if is_own {
                    self.held = None;
                }
                Reply::Done
            }
            Question::Extend => Reply::NotYours,
        }
    }
}
