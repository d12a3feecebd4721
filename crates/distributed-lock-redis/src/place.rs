//! What an attempt has at the server before it is granted.

use distributed_lock_core::clock::Moment;
use distributed_lock_core::unanswered::Unanswered;

use crate::link::Link;
use crate::mailbox::Letterbox;
use crate::several::QuorumPlace;

/// Which requests were made and not answered, and the position in the queue.
#[derive(Debug, Default)]
pub struct RedisPlace {
    /// By the numbers of the links that they left on.
    unanswered: Unanswered<u64>,
    has_asked: bool,
    /// Behind all others when the last try was refused.
    position: Option<u64>,
    waiting: Option<Waiting>,
    /// What it has on several servers.
    pub(crate) on_each: QuorumPlace,
}

#[derive(Debug)]
struct Waiting {
    letterbox: Letterbox,
    /// When the hold that it waits for runs out, if it is the first.
    runs_out: Option<Moment>,
}

impl RedisPlace {
    /// A request is about to leave on the link of this number.
    pub(crate) fn asks_on(&mut self, link: u64) {
        self.has_asked = true;
        self.unanswered.sent(link);
    }

    /// The server has answered the last request on this link. What it granted belongs to the grant, what
    /// it refused has no effect.
    pub(crate) fn is_answered(&mut self, link: u64) {
        self.unanswered.answered(&link);
    }

    /// Everything that was asked for is undone, or finds a tombstone.
    pub(crate) fn is_undone(&mut self) {
        *self = Self::default();
    }

    /// Whether a request was ever made.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// From now on requests take the position in the queue.
    pub(crate) fn waits_with(&mut self, letterbox: Letterbox) {
        self.waiting = Some(Waiting { letterbox, runs_out: None });
    }

    pub(crate) fn letterbox(&self) -> Option<&Letterbox> {
        self.waiting.as_ref().map(|waiting| &waiting.letterbox)
    }

    pub(crate) fn has_position(&self) -> bool {
        self.position.is_some()
    }

    /// The position as the acquire script takes it: nothing while it only tries.
    pub(crate) fn position(&self) -> String {
        let position = self.position.filter(|_| self.waiting.is_some());
        position.map(|position| position.to_string()).unwrap_or_default()
    }

    /// The server says which position it has, or would have.
    pub(crate) fn stands_at(&mut self, position: u64, runs_out: Option<Moment>) {
        self.position = Some(position);
        if let Some(waiting) = &mut self.waiting {
            waiting.runs_out = runs_out;
        }
    }

    /// When it should ask again without a message; said once.
    pub(crate) fn take_runs_out(&mut self) -> Option<Moment> {
        self.waiting.as_mut().and_then(|waiting| waiting.runs_out.take())
    }

    /// Whether there is something at the server, or may be.
    pub(crate) fn has_something(&self) -> bool {
        self.waiting.is_some() || self.has_unanswered()
    }

    /// The requests that may still take effect.
    pub(crate) fn unanswered(&self) -> Unanswered<u64> {
        self.unanswered.clone()
    }

    /// Whether a request may still take effect.
    pub(crate) fn has_unanswered(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Whether a request may come to the server after one that leaves on this link now.
    pub(crate) fn may_come_after(&self, link: &Link) -> bool {
        self.unanswered.may_follow(&link.number)
    }
}
