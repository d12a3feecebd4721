//! One round of requests for a lock, from the first request until its votes are held or undone.
//!
//! Every server is asked at once, and a majority decides. The machine also knows where the round may
//! have votes, and which of its requests may still arrive: it commands what is undone, and where a
//! tombstone is needed.

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::Lease;

use super::sent::{Effect, LinkId, SentRequests};
use super::servers::{Quorum, ServerId, ServerSet};
use super::tally::{Answer, Tally};
use super::timing::Timing;

/// The owner that a server has named; equal for equal owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u64);

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoundEvent {
    /// It begins. Only the servers that can be reached are asked.
    Begin(ServerSet),
    /// A server has granted the lock.
    Granted(ServerId),
    /// A server has named another owner.
    Refused(ServerId, OwnerId),
    /// A server failed, or does not count: whether it has granted the lock is not known.
    Unknown(ServerId),
    /// Time has passed.
    Tick,
}

/// Why a round ends that was not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoundEnd {
    /// The attempt gives this round up: its future was dropped, or another round is about to begin.
    /// Its positions in the queues stay.
    Dropped,
    /// The hold is released, or the attempt withdrawn with its positions in the queues.
    Whole,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoundCommand {
    /// Ask this server.
    Ask(ServerId),
    /// Send [`RoundEvent::Tick`] at this moment, unless there is a verdict before.
    WakeAt(Moment),
    /// Tell the caller. Comes once; requests that are not answered yet go on.
    Resolve(Verdict),
    /// Undo the round on this server.
    Undo(ServerId),
}

/// What happens on a link to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkEvent {
    /// It can be used to ask for the server's vote.
    Ask(ServerId, LinkId),
    /// It can be used to ask for a vote that the held lock does not have.
    AskAgain(ServerId, LinkId),
    /// The last request on it was answered.
    Answered(ServerId, LinkId, Effect),
    /// A request of [`AskAgain`](Self::AskAgain) was answered.
    AnsweredAgain(ServerId, Effect),
    /// It can be used to undo the round.
    Undo(ServerId, LinkId),
}

/// What to send on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkCommand {
    /// A request for the server's vote, before anything else.
    Ask,
    /// A request that undoes the round.
    Undo {
        /// Whether it leaves a tombstone, because a request for the vote may arrive after it.
        tombstone: bool,
    },
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A majority has granted it, and enough of the lease is left.
    Granted(Lease),
    /// A majority has granted it, and too little of the lease is left.
    TooSlow,
    /// A majority has named the same owner.
    Held,
    /// Another owner was named, and none has a majority as far as is known.
    Split,
    /// Fewer than a majority have answered.
    TooFew,
}

impl std::hash::Hash for Verdict {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
    }
}

/// One round of requests.
///
/// It is resolved as soon as its outcome is certain. Whatever it asked for is undone wherever there
/// may be a vote, now or later, unless it was won; then when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Round {
    quorum: Quorum,
    timing: Timing,
    begun: Moment,
    tally: Tally,
    /// The owners that were named, sorted.
    owners: Vec<OwnerId>,
    sent: SentRequests,
    stage: Stage,
    has_positions: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Asking,
    Won,
    Over,
}

impl Round {
    /// A round that is about to begin.
    #[must_use]
    pub fn new(quorum: Quorum, timing: Timing) -> Self {
        let (tally, owners, sent) = (Tally::new(quorum), Vec::new(), SentRequests::default());
        let (begun, stage) = (Moment::from_nanos(0), Stage::Asking);
        Self { quorum, timing, begun, tally, owners, sent, stage, has_positions: false }
    }

    /// Its requests also take positions in the servers' queues, with or without a vote.
    #[must_use]
    pub fn in_queues(mut self) -> Self {
        self.has_positions = true;
        self
    }

    /// Positions in the queues of these servers, which were taken by earlier rounds, without a vote.
    #[must_use]
    pub fn of_positions(quorum: Quorum, timing: Timing, servers: ServerSet) -> Self {
        let mut this = Self { stage: Stage::Over, ..Self::new(quorum, timing).in_queues() };
        for server in servers.iter() {
            this.sent.answered(server, LinkId(0), Effect::NoVote);
        }
        this
    }

    /// When it began.
    #[must_use]
    pub fn begun(&self) -> Moment {
        self.begun
    }

    /// The servers that a request may still arrive at.
    #[must_use]
    pub fn unanswered(&self) -> ServerSet {
        self.sent.unanswered()
    }

    /// The servers that have granted it.
    #[must_use]
    pub fn granted(&self) -> ServerSet {
        self.tally.yes()
    }

    /// Takes one event of a link and says what to send on it, if anything.
    pub fn on_link(&mut self, event: LinkEvent) -> Option<LinkCommand> {
        match event {
            LinkEvent::Ask(server, link) if self.stage == Stage::Asking => {
                self.sent.leaves(server, link);
                Some(LinkCommand::Ask)
            }
            // Sent by a task of its own, whose order beside the others is not known.
            LinkEvent::AskAgain(server, _) if self.stage == Stage::Won => {
                self.sent.leaves_unordered(server);
                Some(LinkCommand::Ask)
            }
            LinkEvent::Ask(..) | LinkEvent::AskAgain(..) => None,
            LinkEvent::Answered(server, link, effect) => {
                self.sent.answered(server, link, effect);
                None
            }
            LinkEvent::AnsweredAgain(server, effect) => {
                self.sent.answered_unordered(server, effect);
                None
            }
            LinkEvent::Undo(server, link) => {
                let tombstone = self.sent.may_arrive_after(server, link);
                Some(LinkCommand::Undo { tombstone })
            }
        }
    }

    /// Takes one event and says what to do.
    pub fn on(&mut self, now: Moment, event: RoundEvent) -> Vec<RoundCommand> {
        let mut commands = Vec::new();
        match event {
            RoundEvent::Begin(reachable) => {
                self.begun = now;
                commands.extend(reachable.iter().map(RoundCommand::Ask));
                commands.push(RoundCommand::WakeAt(now.after(self.timing.patience)));
                for server in self.quorum.all().without(reachable).iter() {
                    self.tally.count(server, Answer::Unknown);
                }
            }
            RoundEvent::Granted(server) => self.tally.count(server, Answer::Yes),
            RoundEvent::Refused(server, owner) => {
                if self.tally.undecided().contains(server) {
                    self.owners.push(owner);
                    self.owners.sort_unstable();
                }
                self.tally.count(server, Answer::No);
            }
            RoundEvent::Unknown(server) => self.tally.count(server, Answer::Unknown),
            RoundEvent::Tick if now >= self.begun.after(self.timing.patience) => {
                self.tally.give_up_waiting();
            }
            RoundEvent::Tick => {}
        }
        if let (Stage::Asking, Some(verdict)) = (self.stage, self.verdict(now)) {
            commands.push(RoundCommand::Resolve(verdict));
            match verdict {
                Verdict::Granted(_) => self.stage = Stage::Won,
                _ => commands.extend(self.end(RoundEnd::Dropped).iter().map(RoundCommand::Undo)),
            }
        }
        commands
    }

    fn verdict(&self, now: Moment) -> Option<Verdict> {
        let tally = &self.tally;
        if tally.is_won() {
            return Some(match self.timing.is_enough(self.begun, now) {
                true => Verdict::Granted(self.timing.lease(self.begun)),
                false => Verdict::TooSlow,
            });
        }
        if self.most_votes() >= self.quorum.majority() {
            return Some(Verdict::Held);
        }
        if tally.is_uninformed() {
            return Some(Verdict::TooFew);
        }
        (tally.is_out_of_reach() && tally.is_informed()).then_some(Verdict::Split)
    }

    /// How many servers have named the owner that most have named.
    fn most_votes(&self) -> usize {
        self.owners.chunk_by(|one, other| one == other).map(<[_]>::len).max().unwrap_or(0)
    }

    /// Ends the round, and says on which servers it must be undone. No more requests for votes leave
    /// from here on.
    pub fn end(&mut self, end: RoundEnd) -> ServerSet {
        self.stage = Stage::Over;
        match end {
            RoundEnd::Whole if self.has_positions => self.sent.asked(),
            RoundEnd::Whole | RoundEnd::Dropped => self.sent.may_have_votes(),
        }
    }
}

#[cfg(test)]
mod tests;
