//! What one round has sent to each server, on which link, and what was answered.

use super::servers::{ServerId, ServerSet};

/// A connection to one server. It keeps the order of its requests; two links keep none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What an answer says about the server's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The server has given its vote, or failed half way and may have.
    MayHaveVoted,
    /// The request has left no vote.
    NoVote,
}

/// The requests of one round that ask for votes.
///
/// An answer on a link answers every earlier request on that link, and says nothing of another link:
/// a request there may still arrive and be granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SentRequests {
    sent: Vec<Sent>,
    voted: ServerSet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sent {
    server: ServerId,
    /// `None`: a request that another task sends, so its order is not known.
    link: Option<LinkId>,
    /// How many were not answered.
    unanswered: u32,
}

impl SentRequests {
    /// A request leaves for a server on a link.
    pub fn leaves(&mut self, server: ServerId, link: LinkId) {
        self.entry(server, Some(link)).unanswered += 1;
    }

    /// A request leaves for a server, and nobody knows its order among the others.
    pub fn leaves_unordered(&mut self, server: ServerId) {
        self.entry(server, None).unanswered += 1;
    }

    /// The last request on a link was answered, and with it all before it on the same link.
    pub fn answered(&mut self, server: ServerId, link: LinkId, effect: Effect) {
        self.entry(server, Some(link)).unanswered = 0;
        self.has(server, effect);
    }

    /// One request without a known order was answered.
    pub fn answered_unordered(&mut self, server: ServerId, effect: Effect) {
        let sent = self.entry(server, None);
        sent.unanswered = sent.unanswered.saturating_sub(1);
        self.has(server, effect);
    }

    fn has(&mut self, server: ServerId, effect: Effect) {
        if effect == Effect::MayHaveVoted {
            self.voted.insert(server);
        }
    }

    fn entry(&mut self, server: ServerId, link: Option<LinkId>) -> &mut Sent {
        let is_it = |sent: &Sent| (sent.server, sent.link) == (server, link);
        let index = self.sent.iter().position(is_it).unwrap_or_else(|| {
            self.sent.push(Sent { server, link, unanswered: 0 });
            self.sent.len() - 1
        });
        &mut self.sent[index]
    }

    /// The servers that a request has left for.
    #[must_use]
    pub fn asked(&self) -> ServerSet {
        self.sent.iter().map(|sent| sent.server).collect()
    }

    /// The servers that a request may still arrive at.
    #[must_use]
    pub fn unanswered(&self) -> ServerSet {
        self.sent.iter().filter(|sent| sent.unanswered > 0).map(|sent| sent.server).collect()
    }

    /// The servers where there may be a vote, now or later.
    #[must_use]
    pub fn may_have_votes(&self) -> ServerSet {
        self.voted.or(self.unanswered())
    }

    /// Whether a request may arrive at a server after one that leaves on this link now.
    #[must_use]
    pub fn may_arrive_after(&self, server: ServerId, link: LinkId) -> bool {
        let is_late =
            |sent: &Sent| sent.server == server && sent.unanswered > 0 && sent.link != Some(link);
        self.sent.iter().any(is_late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ServerId = ServerId(0);
    const L7: LinkId = LinkId(7);
    const L8: LinkId = LinkId(8);

    #[test]
    fn an_answered_request_does_not_arrive_again() {
        let mut sent = SentRequests::default();
        sent.leaves(ONE, L7);
        // Unanswered, it arrives before the next request on its link, and at any time beside another.
        assert!(!sent.may_arrive_after(ONE, L7));
        assert!(sent.may_arrive_after(ONE, L8));
        sent.answered(ONE, L7, Effect::MayHaveVoted);
        assert!(!sent.may_arrive_after(ONE, L8));
        assert!(sent.may_have_votes().contains(ONE));
    }

    #[test]
    fn row_49_an_answer_on_a_second_link_is_none_on_the_first() {
        for effect in [Effect::MayHaveVoted, Effect::NoVote] {
            let mut sent = SentRequests::default();
            sent.leaves(ONE, L7);
            sent.leaves(ONE, L8);
            sent.answered(ONE, L8, effect);
            assert!(sent.may_arrive_after(ONE, L8), "{effect:?}");
            assert!(sent.may_have_votes().contains(ONE), "{effect:?}");
            assert!(sent.unanswered().contains(ONE), "{effect:?}");
            sent.answered(ONE, L7, Effect::NoVote);
            assert!(!sent.may_arrive_after(ONE, L8), "{effect:?}");
            let may_have_voted = effect == Effect::MayHaveVoted;
            assert_eq!(sent.may_have_votes().contains(ONE), may_have_voted);
        }
    }

    #[test]
    fn what_another_task_sends_comes_before_nothing() {
        let mut sent = SentRequests::default();
        sent.leaves_unordered(ONE);
        sent.leaves_unordered(ONE);
        sent.answered_unordered(ONE, Effect::NoVote);
        // One of the two may still be on its way.
        assert!(sent.may_arrive_after(ONE, L7));
        sent.answered_unordered(ONE, Effect::NoVote);
        assert!(!sent.may_arrive_after(ONE, L7) && sent.may_have_votes().is_empty());
    }
}
