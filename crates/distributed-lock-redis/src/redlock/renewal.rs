//! Extending a held lock: once on every server, decided by a majority of all of them.

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::Lease;

use super::servers::{Quorum, ServerId, ServerSet};
use super::tally::{Answer, Tally};
use super::timing::Timing;

/// What an extension came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// A majority has extended it.
    Extended(Lease),
    /// So many servers know nothing of the lock that it cannot be extended any more.
    Refused,
    /// It may be extended or not: tried again until the lease runs out.
    Unknown,
}

/// One extension on all servers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Renewal {
    timing: Timing,
    sent: Moment,
    tally: Tally,
    is_resolved: bool,
}

impl Renewal {
    /// An extension whose first request is about to leave, to every server.
    #[must_use]
    pub fn begin(quorum: Quorum, timing: Timing, now: Moment) -> Self {
        Self { timing, sent: now, tally: Tally::new(quorum), is_resolved: false }
    }

    /// When the servers that are silent are given up.
    #[must_use]
    pub fn wake_at(&self) -> Moment {
        self.sent.after(self.timing.patience)
    }

    /// Who has not answered.
    #[must_use]
    pub fn pending(&self) -> ServerSet {
        self.tally.pending()
    }

    /// Who has said that it has no vote to extend. Once the others have extended the lock it may be
    /// asked for one as in a round, with the same owner: it then counts from the next extension on. An
    /// extension itself only counts votes that were not lost, else a lock that somebody else has had
    /// meanwhile would go on.
    #[must_use]
    pub fn missing(&self) -> ServerSet {
        self.tally.no()
    }

    /// A server has answered; the result comes once, as soon as it is certain.
    pub fn on_answer(&mut self, server: ServerId, answer: Answer) -> Option<Renewed> {
        self.tally.count(server, answer);
        self.result()
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Moment) -> Option<Renewed> {
        if now >= self.wake_at() {
            self.tally.give_up_waiting();
        }
        self.result()
    }

    fn result(&mut self) -> Option<Renewed> {
        if self.is_resolved {
            return None;
        }
        let result = if self.tally.is_won() {
            Renewed::Extended(self.timing.lease(self.sent))
        } else if self.tally.is_refused() {
            Renewed::Refused
        } else if self.tally.is_out_of_reach() {
            Renewed::Unknown
        } else {
            return None;
        };
        self.is_resolved = true;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn begun(servers: u8) -> Renewal {
        let second = Duration::from_secs(1);
        let timing = Timing::new(second, second / 10, second / 20);
        Renewal::begin(Quorum::of(servers), timing, Moment::from_nanos(0))
    }

    #[test]
    fn two_of_five_are_not_enough_however_many_had_granted_it() {
        let mut renewal = begun(5);
        for (server, answer) in [(0, Answer::Yes), (1, Answer::Yes), (2, Answer::No)] {
            assert_eq!(renewal.on_answer(ServerId(server), answer), None);
        }
        assert_eq!(renewal.on_answer(ServerId(3), Answer::No), None);
        assert_eq!(renewal.on_answer(ServerId(4), Answer::No), Some(Renewed::Refused));
    }

    #[test]
    fn silence_is_doubt() {
        let mut renewal = begun(3);
        assert_eq!(renewal.on_answer(ServerId(0), Answer::No), None);
        assert_eq!(renewal.on_answer(ServerId(1), Answer::Yes), None);
        assert_eq!(renewal.on_tick(Moment::from_nanos(49_999_999)), None);
        assert_eq!(renewal.on_tick(renewal.wake_at()), Some(Renewed::Unknown));
        assert_eq!(renewal.on_answer(ServerId(2), Answer::Yes), None);
    }

    proptest! {
        #[test]
        fn what_it_comes_to_is_what_was_answered(
            servers in 1_u8..8,
            answers in prop::collection::vec(0_u8..3, 8),
        ) {
            let mut renewal = begun(servers);
            let kinds = [Answer::Yes, Answer::No, Answer::Unknown];
            let answers: Vec<_> = answers.iter().map(|kind| kinds[usize::from(*kind)]).collect();
            let results: Vec<_> = Quorum::of(servers).all().iter()
                .filter_map(|server| renewal.on_answer(server, answers[usize::from(server.0)]))
                .collect();
            let count = |wanted| {
                answers[..usize::from(servers)].iter().filter(|answer| **answer == wanted).count()
            };
            let (majority, all) = (Quorum::of(servers).majority(), usize::from(servers));
            let expected = if count(Answer::Yes) >= majority {
                matches!(results[..], [Renewed::Extended(_)])
            } else if all - count(Answer::No) < majority {
                // Enough of them may have failed to say so before the rest refused.
                matches!(results[..], [Renewed::Refused | Renewed::Unknown])
            } else {
                results == [Renewed::Unknown]
            };
            prop_assert!(expected, "{results:?} of {answers:?}");
        }
    }
}
