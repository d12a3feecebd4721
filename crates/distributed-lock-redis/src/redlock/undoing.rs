//! Giving back on every server what was held or asked for.

use super::servers::{Quorum, ServerId, ServerSet};
use super::tally::{Answer, Tally};

/// What a release came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undone {
    /// A majority had it and has given it back.
    Released,
    /// So many did not have it any more that no majority has.
    Gone,
    /// Fewer than a majority have answered.
    Unknown,
}

/// The end of a hold or a round on all servers.
///
/// The result is known when a majority has answered; the others are asked until they have
/// answered, or until what they hold has run out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Undoing {
    tally: Tally,
    is_resolved: bool,
}

impl Undoing {
    /// On every server.
    #[must_use]
    pub fn everywhere(quorum: Quorum) -> Self {
        Self { tally: Tally::new(quorum), is_resolved: false }
    }

    /// Who has not confirmed it.
    #[must_use]
    pub fn left(&self) -> ServerSet {
        self.tally.undecided()
    }

    /// A server has answered; the result comes once, as soon as it is certain.
    pub fn on_answer(&mut self, server: ServerId, answer: Answer) -> Option<Undone> {
        self.tally.count(server, answer);
        self.result()
    }

    /// Nobody waits any longer for those who are silent.
    pub fn on_patience_over(&mut self) -> Option<Undone> {
        self.tally.give_up_waiting();
        self.result()
    }

    fn result(&mut self) -> Option<Undone> {
        if self.is_resolved {
            return None;
        }
        let result = if self.tally.is_won() {
            Undone::Released
        } else if self.tally.is_refused() {
            Undone::Gone
        } else if self.tally.pending().is_empty() {
            Undone::Unknown
        } else {
            return None;
        };
        self.is_resolved = true;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_majority_decides_and_the_rest_is_still_asked() {
        let mut undoing = Undoing::everywhere(Quorum::of(3));
        assert_eq!(undoing.on_answer(ServerId(0), Answer::Yes), None);
        assert_eq!(undoing.on_answer(ServerId(2), Answer::Unknown), None);
        assert_eq!(undoing.on_answer(ServerId(1), Answer::Yes), Some(Undone::Released));
        assert_eq!(undoing.left().iter().collect::<Vec<_>>(), [ServerId(2)]);
        assert_eq!(undoing.on_answer(ServerId(2), Answer::No), None);
        assert!(undoing.left().is_empty());
    }

    #[test]
    fn without_a_majority_it_is_not_released() {
        let mut gone = Undoing::everywhere(Quorum::of(3));
        assert_eq!(gone.on_answer(ServerId(0), Answer::No), None);
        assert_eq!(gone.on_answer(ServerId(1), Answer::No), Some(Undone::Gone));
        let mut unknown = Undoing::everywhere(Quorum::of(3));
        assert_eq!(unknown.on_answer(ServerId(0), Answer::Yes), None);
        assert_eq!(unknown.on_answer(ServerId(1), Answer::No), None);
        assert_eq!(unknown.on_patience_over(), Some(Undone::Unknown));
    }

    proptest! {
        /// The result comes once and says what a majority says; who has not confirmed it is left.
        #[test]
        fn the_result_is_what_was_answered_and_the_silent_are_left(
            servers in 1_u8..8,
            answers in prop::collection::vec((0_u8..8, 0_u8..3), 0..16),
        ) {
            let quorum = Quorum::of(servers);
            let mut undoing = Undoing::everywhere(quorum);
            let (mut yes, mut no) = (ServerSet::NONE, ServerSet::NONE);
            let mut results = Vec::new();
            for (server, kind) in answers {
                let server = ServerId(server % servers);
                let answer = [Answer::Yes, Answer::No, Answer::Unknown][usize::from(kind)];
                match answer {
                    Answer::Yes if !no.contains(server) => _ = yes.insert(server),
                    Answer::No if !yes.contains(server) => _ = no.insert(server),
                    _ => {}
                }
                results.extend(undoing.on_answer(server, answer).map(|undone| (undone, yes, no)));
            }
            results.extend(undoing.on_patience_over().map(|undone| (undone, yes, no)));
            let [(undone, had_it, had_not)] = results[..] else { panic!("{results:?}") };
            let expected = if quorum.has(had_it) {
                Undone::Released
            } else if !quorum.has(quorum.all().without(had_not)) {
                Undone::Gone
            } else {
                Undone::Unknown
            };
            prop_assert_eq!(undone, expected);
            prop_assert_eq!(undoing.left(), quorum.all().without(yes).without(no));
        }
    }
}
