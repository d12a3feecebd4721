//! What an attempt has on several servers before it is granted.

use std::collections::BTreeMap;

use distributed_lock_core::AttemptToken;

use crate::link::Link;
use crate::mailbox::Letterbox;
use crate::redlock::servers::{ServerId, ServerSet};

/// The rounds that are not undone everywhere, and the boxes for messages of each server.
#[derive(Debug, Default)]
pub(crate) struct QuorumPlace {
    pub(super) rounds: Vec<Ballot>,
    pub(super) letterboxes: Vec<Letterbox>,
}

/// One round's votes.
#[derive(Debug, Clone)]
pub(crate) struct Ballot {
    pub(super) keys: Vec<String>,
    pub(super) code: &'static str,
    pub(super) owner: String,
    /// Where it may have a vote, or get one.
    pub(super) asked: ServerSet,
    /// Where a request of it may still arrive.
    pub(super) unanswered: ServerSet,
    /// The links on which requests have left, which keep their order.
    pub(super) links: BTreeMap<ServerId, u64>,
    /// The attempt, if it waits in the queues.
    pub(super) waiter: Option<AttemptToken>,
}

impl QuorumPlace {
    pub(crate) fn has_something(&self) -> bool {
        !self.rounds.is_empty() || !self.letterboxes.is_empty()
    }
}

impl Ballot {
    /// No link has this number.
    pub(super) const SEVERAL_LINKS: u64 = u64::MAX;

    /// Whether a request may come to a server after one that leaves on this link now.
    pub(super) fn may_come_after(&self, server: ServerId, link: &Link) -> bool {
        self.unanswered.contains(server) && self.links.get(&server) != Some(&link.number)
    }

    pub(super) fn waiter(&self) -> String {
        self.waiter.map(|token| token.to_string()).unwrap_or_default()
    }
}
