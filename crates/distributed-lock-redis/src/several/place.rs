//! What an attempt has sent to several servers before it is granted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distributed_lock_core::AttemptToken;

use super::Several;
use crate::key::RedisKey;
use crate::mailbox::Letterbox;
use crate::redlock::sent::{Effect, LinkId, SentRequests};
use crate::redlock::servers::{ServerId, ServerSet};

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
            requests.is_undone();
            self.several.collect_later(requests, requests.asked());
        }
    }
}

/// What one round asks every server for, and what has become of that.
#[derive(Debug)]
pub(super) struct RoundRequests {
    pub(super) key: RedisKey,
    /// A permit is a mutex with a number.
    pub(super) slot: Option<u32>,
    pub(super) code: &'static str,
    pub(super) owner: String,
    /// The attempt, if it waits in the queues.
    pub(super) waiter: Option<AttemptToken>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: SentRequests,
    stage: Stage,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Stage {
    #[default]
    Asking,
    Decided,
    Undone,
}

impl RoundRequests {
    pub(super) fn new(
        (key, slot): (RedisKey, Option<u32>),
        (code, owner): (&'static str, String),
        waiter: Option<AttemptToken>,
    ) -> Self {
        Self { key, slot, code, owner, waiter, state: Mutex::default() }
    }

    /// The queue positions of an attempt that waits on these servers, without any vote.
    pub(super) fn in_queues(
        key: (RedisKey, Option<u32>),
        waiter: AttemptToken,
        servers: ServerSet,
    ) -> Self {
        let this = Self::new(key, ("x", waiter.to_string()), Some(waiter));
        {
            let mut state = this.state();
            state.stage = Stage::Decided;
            for server in servers.iter() {
                state.sent.answered(server, LinkId(0), Effect::NoVote);
            }
        }
        this
    }

    /// A request is about to leave on a link. It must not if this says no.
    pub(super) fn may_leave(&self, server: ServerId, link: LinkId) -> bool {
        let mut state = self.state();
        let may = state.stage == Stage::Asking;
        if may {
            state.sent.leaves(server, link);
        }
        may
    }

    /// The server has answered the last request on this link.
    pub(super) fn is_answered(&self, server: ServerId, link: LinkId, effect: Effect) {
        self.state().sent.answered(server, link, effect);
    }

    /// The round has a result: no more requests of it leave.
    pub(super) fn is_decided(&self) {
        self.state().stage = Stage::Decided;
    }

    /// From here on no server is asked again either.
    pub(super) fn is_undone(&self) {
        self.state().stage = Stage::Undone;
    }

    /// Whether a server without a vote may be asked for it, now that the lock is held. The request may
    /// cross those that undo it.
    pub(super) fn may_be_asked_again(&self, server: ServerId) -> bool {
        let mut state = self.state();
        let may = state.stage != Stage::Undone;
        if may {
            state.sent.leaves_unordered(server);
        }
        may
    }

    /// The server has answered a request of [`may_be_asked_again`](Self::may_be_asked_again).
    pub(super) fn is_answered_again(&self, server: ServerId, effect: Effect) {
        self.state().sent.answered_unordered(server, effect);
    }

    /// The servers that requests have left for.
    pub(super) fn asked(&self) -> ServerSet {
        self.state().sent.asked()
    }

    /// Where there may be a vote, or will be.
    pub(super) fn may_be_on(&self) -> ServerSet {
        self.state().sent.may_have_votes()
    }

    /// The servers that a request may still arrive at.
    pub(super) fn unanswered(&self) -> ServerSet {
        self.state().sent.unanswered()
    }

    /// Whether a request may come to a server after one that leaves on this link now.
    pub(super) fn may_come_after(&self, server: ServerId, link: LinkId) -> bool {
        self.state().sent.may_arrive_after(server, link)
    }

    pub(super) fn waiter(&self) -> String {
        self.waiter.map(|token| token.to_string()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use distributed_lock_core::{LockName, Mode};

    use super::*;

    const ONE: ServerId = ServerId(0);

    #[test]
    fn nothing_leaves_after_the_result_but_what_is_asked_again() {
        let key = RedisKey::new("", LockName::parse("name").unwrap(), Mode::Exclusive).unwrap();
        let requests = RoundRequests::new((key, None), ("x", "owner".into()), None);
        let link = LinkId(7);
        assert!(requests.may_leave(ONE, link));
        requests.is_decided();
        assert!(!requests.may_leave(ONE, link) && !requests.may_leave(ServerId(1), link));
        assert!(requests.may_be_asked_again(ServerId(1)));
        assert!(requests.may_come_after(ServerId(1), link));
        requests.is_undone();
        assert!(!requests.may_be_asked_again(ONE));
    }
}
