//! Counting the answers to one question that all servers were asked.

use super::servers::{Quorum, ServerId, ServerSet};

/// What a server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It did what it was asked.
    Yes,
    /// It refused, for a reason that is about the lock.
    No,
    /// Nobody can say whether it did.
    Unknown,
}

/// The answers so far. A server that is silent at first may still answer after it was taken for
/// unknown; what it says then counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tally {
    quorum: Quorum,
    yes: ServerSet,
    no: ServerSet,
    unknown: ServerSet,
}

impl Tally {
    /// Before the first answer.
    #[must_use]
    pub fn new(quorum: Quorum) -> Self {
        let none = ServerSet::NONE;
        Self { quorum, yes: none, no: none, unknown: none }
    }

    /// Takes an answer. A server that has said yes or no has said so.
    pub fn count(&mut self, server: ServerId, answer: Answer) {
        if self.yes.or(self.no).contains(server) {
            return;
        }
        self.unknown.remove(server);
        match answer {
            Answer::Yes => self.yes.insert(server),
            Answer::No => self.no.insert(server),
            Answer::Unknown => self.unknown.insert(server),
        };
    }

    /// Takes everybody who is silent for unknown.
    pub fn give_up_waiting(&mut self) {
        self.unknown = self.unknown.or(self.pending());
    }

    /// Who has said yes.
    #[must_use]
    pub fn yes(&self) -> ServerSet {
        self.yes
    }

    /// Who has said no.
    #[must_use]
    pub fn no(&self) -> ServerSet {
        self.no
    }

    /// Who has not said anything.
    #[must_use]
    pub fn pending(&self) -> ServerSet {
        self.quorum.all().without(self.yes).without(self.no).without(self.unknown)
    }

    /// Who has not said yes or no.
    #[must_use]
    pub fn undecided(&self) -> ServerSet {
        self.unknown.or(self.pending())
    }

    /// A majority has said yes.
    #[must_use]
    pub fn is_won(&self) -> bool {
        self.quorum.has(self.yes)
    }

    /// So many have said no that there is no majority left to say yes, ever.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.quorum.has(self.quorum.all().without(self.no))
    }

    /// Those who are still silent cannot make it a majority.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        !self.quorum.has(self.yes.or(self.pending()))
    }

    /// A majority has said yes or no.
    #[must_use]
    pub fn is_informed(&self) -> bool {
        self.quorum.has(self.yes.or(self.no))
    }

    /// Those who are still silent cannot make it an informed one.
    #[must_use]
    pub fn is_uninformed(&self) -> bool {
        !self.quorum.has(self.yes.or(self.no).or(self.pending()))
    }
}
