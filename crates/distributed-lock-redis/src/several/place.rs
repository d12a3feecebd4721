//! What an attempt has on several servers before it is granted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distributed_lock_core::AttemptToken;

use super::vote::Vote;
use crate::key::RedisKey;
use crate::mailbox::Letterbox;
use crate::redlock::servers::{ServerId, ServerSet};

/// The rounds that are not undone everywhere, and the boxes for messages of each server.
#[derive(Debug, Default)]
pub(crate) struct QuorumPlace {
    pub(super) rounds: Vec<Arc<Ballot>>,
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

/// One round: what it asks every server for, and what has become of that.
#[derive(Debug)]
pub(super) struct Ballot {
    pub(super) key: RedisKey,
    /// A permit is a mutex with a number.
    pub(super) slot: Option<u32>,
    pub(super) code: &'static str,
    pub(super) owner: String,
    /// The attempt, if it waits in the queues.
    pub(super) waiter: Option<AttemptToken>,
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    /// On which link those of each server have left; links keep their order.
    links: Vec<(ServerId, SentOn)>,
    answered: ServerSet,
    /// Who has nothing of it.
    without: ServerSet,
    stage: Stage,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Stage {
    #[default]
    Asking,
    Decided,
    Undone,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum SentOn {
    Link(u64),
    Several,
}

impl Ballot {
    pub(super) fn new(
        (key, slot): (RedisKey, Option<u32>),
        (code, owner): (&'static str, String),
        waiter: Option<AttemptToken>,
    ) -> Self {
        Self { key, slot, code, owner, waiter, requests: Mutex::default() }
    }

    /// The places of one who waits in the queues of these, without any vote.
    pub(super) fn in_queues(
        key: (RedisKey, Option<u32>),
        waiter: AttemptToken,
        servers: ServerSet,
    ) -> Self {
        let links = servers.iter().map(|server| (server, SentOn::Several)).collect();
        let (answered, without, stage) = (servers, ServerSet::NONE, Stage::Decided);
        let requests = Mutex::new(Requests { links, answered, without, stage });
        let (code, owner) = ("x", waiter.to_string());
        Self { requests, ..Self::new(key, (code, owner), Some(waiter)) }
    }

    /// A request is about to leave on the link of this number. It must not if this says no.
    pub(super) fn may_leave(&self, server: ServerId, link: u64) -> bool {
        let mut requests = self.requests();
        if requests.stage != Stage::Asking {
            return false;
        }
        match requests.links.iter_mut().find(|(id, _)| *id == server) {
            Some((_, sent_on)) if *sent_on != SentOn::Link(link) => {
                *sent_on = SentOn::Several;
            }
            Some(_) => {}
            None => requests.links.push((server, SentOn::Link(link))),
        }
        true
    }

    /// The round has a result: no more requests of it leave.
    pub(super) fn is_decided(&self) {
        self.requests().stage = Stage::Decided;
    }

    /// From here on nobody is asked again either.
    pub(super) fn is_undone(&self) {
        self.requests().stage = Stage::Undone;
    }

    /// Whether a server without a vote may be asked for it, now that the lock is held. The request may
    /// cross those that undo it.
    pub(super) fn may_be_asked_again(&self, server: ServerId) -> bool {
        let mut requests = self.requests();
        if requests.stage == Stage::Undone {
            return false;
        }
        requests.links.retain(|(id, _)| *id != server);
        requests.links.push((server, SentOn::Several));
        requests.answered.remove(server);
        requests.without.remove(server);
        true
    }

    /// A server has answered, and with it all requests before on the same link.
    pub(super) fn is_answered(&self, server: ServerId, vote: &Vote) {
        let mut requests = self.requests();
        if !requests.links.contains(&(server, SentOn::Several)) {
            requests.answered.insert(server);
        }
        if !matches!(vote, Vote::Granted) {
            requests.without.insert(server);
        }
    }

    /// Whom requests have left to.
    pub(super) fn asked(&self) -> ServerSet {
        self.requests().links.iter().map(|(server, _)| *server).collect()
    }

    /// Where there may be a vote, or will be.
    pub(super) fn may_be_on(&self) -> ServerSet {
        self.asked().without(self.requests().without)
    }

    /// From whom nothing more is to come.
    pub(super) fn answered(&self) -> ServerSet {
        self.requests().answered
    }

    /// Whether a request may come to a server after one that leaves on this link now.
    pub(super) fn may_come_after(&self, server: ServerId, link: u64) -> bool {
        let requests = self.requests();
        let is_elsewhere =
            |(id, on): &(ServerId, SentOn)| *id == server && *on != SentOn::Link(link);
        !requests.answered.contains(server) && requests.links.iter().any(is_elsewhere)
    }

    pub(super) fn waiter(&self) -> String {
        self.waiter.map(|token| token.to_string()).unwrap_or_default()
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use distributed_lock_core::{LockName, Mode};

    use super::*;

    const ONE: ServerId = ServerId(0);

    fn ballot() -> Ballot {
        let key = RedisKey::new("", LockName::parse("name").unwrap(), Mode::Exclusive).unwrap();
        Ballot::new((key, None), ("x", "owner".into()), None)
    }

    #[test]
    fn what_was_answered_on_its_link_does_not_come_again() {
        let ballot = ballot();
        assert!(ballot.may_leave(ONE, 7));
        // Unanswered, it comes before what leaves on the same link, and nobody knows on another.
        assert!(!ballot.may_come_after(ONE, 7));
        assert!(ballot.may_come_after(ONE, 8));
        ballot.is_answered(ONE, &Vote::Granted);
        assert!(!ballot.may_come_after(ONE, 8));
    }

    #[test]
    fn the_answer_on_a_second_link_says_nothing_of_the_first() {
        let ballot = ballot();
        assert!(ballot.may_leave(ONE, 7) && ballot.may_leave(ONE, 8));
        ballot.is_answered(ONE, &Vote::Granted);
        assert!(ballot.may_come_after(ONE, 8));
        assert!(ballot.may_be_on().contains(ONE));
    }

    #[test]
    fn nothing_leaves_after_the_result_but_what_is_asked_again() {
        let ballot = ballot();
        assert!(ballot.may_leave(ONE, 7));
        ballot.is_decided();
        assert!(!ballot.may_leave(ONE, 7) && !ballot.may_leave(ServerId(1), 7));
        assert!(ballot.may_be_asked_again(ServerId(1)));
        assert!(ballot.may_come_after(ServerId(1), 7));
        ballot.is_undone();
        assert!(!ballot.may_be_asked_again(ONE));
    }
}
