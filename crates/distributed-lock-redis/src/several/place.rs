//! What an attempt has sent to several servers before it is granted.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distributed_lock_core::AttemptToken;
use distributed_lock_core::clock::Moment;

use super::Several;
use crate::key::RedisKey;
use crate::mailbox::Letterbox;
use crate::redlock::round::{LinkCommand, LinkEvent, Round, RoundCommand, RoundEnd, RoundEvent};
use crate::redlock::servers::ServerSet;

/// The rounds that are not undone everywhere, and the boxes for messages of each server.
#[derive(Debug, Default)]
pub(crate) struct QuorumPlace {
    pub(super) rounds: Vec<OpenRound>,
    pub(super) letterboxes: Vec<Letterbox>,
}

impl QuorumPlace {
    pub(crate) fn has_something(&self) -> bool {
        !self.rounds.is_empty() || self.is_waiting()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.letterboxes.is_empty()
    }
}

/// A round that is neither won nor undone. Dropped, it is undone in the background.
#[derive(Debug)]
pub(super) struct OpenRound {
    several: Arc<Several>,
    requests: Option<Arc<RoundRequests>>,
}

impl OpenRound {
    pub(super) fn new(several: &Arc<Several>, requests: &Arc<RoundRequests>) -> Self {
        Self { several: Arc::clone(several), requests: Some(Arc::clone(requests)) }
    }

    pub(super) fn requests(&self) -> Option<&Arc<RoundRequests>> {
        self.requests.as_ref()
    }

    /// It was won, and its hold answers for it; or it is undone, and what is left has been noted.
    pub(super) fn settle(mut self) {
        self.requests = None;
    }
}

impl Drop for OpenRound {
    fn drop(&mut self) {
        if let Some(requests) = &self.requests {
            let servers = requests.end(RoundEnd::Whole);
            self.several.undo_later(requests, servers);
        }
    }
}

/// What one round asks every server for, and the machine that says what has become of that.
#[derive(Debug)]
pub(super) struct RoundRequests {
    pub(super) key: RedisKey,
    /// A permit is a mutex with a number.
    pub(super) slot: Option<u32>,
    pub(super) code: &'static str,
    pub(super) owner: String,
    /// The attempt, if it waits in the queues.
    pub(super) waiter: Option<AttemptToken>,
    /// A request that takes the vote back has left, and its reply was lost with its link.
    pub(super) may_be_undone: AtomicBool,
    round: Mutex<Round>,
}

impl RoundRequests {
    pub(super) fn new(
        (key, slot): (RedisKey, Option<u32>),
        (code, owner): (&'static str, String),
        waiter: Option<AttemptToken>,
        round: Round,
    ) -> Self {
        let round = if waiter.is_some() { round.in_queues() } else { round };
        let may_be_undone = AtomicBool::new(false);
        Self { key, slot, code, owner, waiter, may_be_undone, round: Mutex::new(round) }
    }

    /// Tells the machine of an event.
    pub(super) fn on(&self, now: Moment, event: RoundEvent) -> Vec<RoundCommand> {
        self.round().on(now, event)
    }

    /// Tells the machine of an event of a link. What it says to send must be sent at once.
    pub(super) fn on_link(&self, event: LinkEvent) -> Option<LinkCommand> {
        self.round().on_link(event)
    }

    /// Ends the round, and says on which servers it must be undone.
    pub(super) fn end(&self, end: RoundEnd) -> ServerSet {
        self.round().end(end)
    }

    /// When it began.
    pub(super) fn begun(&self) -> Moment {
        self.round().begun()
    }

    /// The servers that a request may still arrive at.
    pub(super) fn unanswered(&self) -> ServerSet {
        self.round().unanswered()
    }

    pub(super) fn waiter(&self) -> String {
        self.waiter.map(|token| token.to_string()).unwrap_or_default()
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
