//! Giving back on every server what was held or asked for.

use distributed_lock_core::clock::Moment;
use distributed_lock_core::unanswered::LATEST_ARRIVAL;

use super::servers::{Quorum, ServerId, ServerSet};
use super::tally::{Answer, Tally};
use super::timing::Timing;

/// What happens while votes are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReleaseEvent {
    /// A server has given the vote back.
    Undone(ServerId),
    /// A server had no vote.
    HadNone(ServerId),
    /// A server failed, did not answer, or could not be reached.
    Failed(ServerId),
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReleaseCommand {
    /// Undo it on this server later, when the server answers, but not after this moment.
    UndoLater(ServerId, Moment),
    /// The result. It comes once; servers that have not answered are still waited for.
    Resolve(Undone),
}

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

/// The end of a hold or of a round on all servers.
///
/// The result is known when a majority has answered. Every server that was asked is undone in the end:
/// it has confirmed it, or is left to [`ReleaseCommand::UndoLater`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuorumRelease {
    tally: Tally,
    timing: Timing,
    /// Where a request may still arrive, and begin a lease then.
    late: ServerSet,
    is_resolved: bool,
}

impl QuorumRelease {
    /// On these servers; the others were never asked. A request may still arrive at those of `late`.
    #[must_use]
    pub fn of(quorum: Quorum, timing: Timing, servers: ServerSet, late: ServerSet) -> Self {
        let mut tally = Tally::new(quorum);
        for server in quorum.all().without(servers).iter() {
            tally.count(server, Answer::No);
        }
        Self { tally, timing, late, is_resolved: false }
    }

    /// The servers that have not confirmed it.
    #[must_use]
    pub fn left(&self) -> ServerSet {
        self.tally.undecided()
    }

    /// Takes one event and says what to do.
    pub fn on(&mut self, now: Moment, event: ReleaseEvent) -> Vec<ReleaseCommand> {
        let later = match event {
            ReleaseEvent::Undone(server) => {
                self.tally.count(server, Answer::Yes);
                None
            }
            ReleaseEvent::HadNone(server) => {
                self.tally.count(server, Answer::No);
                None
            }
            ReleaseEvent::Failed(server) => {
                self.tally.count(server, Answer::Unknown);
                let until = match self.late.contains(server) {
                    true => self.timing.all_over(now.after(LATEST_ARRIVAL)),
                    false => self.timing.all_over(now),
                };
                let is_left = self.left().contains(server);
                is_left.then_some(ReleaseCommand::UndoLater(server, until))
            }
        };
        later.into_iter().chain(self.result().map(ReleaseCommand::Resolve)).collect()
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
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_nanos(0);

    fn timing() -> Timing {
        let second = Duration::from_secs(1);
        Timing::new(second, second / 10, second / 20)
    }

    fn everywhere(servers: u8) -> QuorumRelease {
        let quorum = Quorum::of(servers);
        QuorumRelease::of(quorum, timing(), quorum.all(), ServerSet::NONE)
    }

    fn result(commands: &[ReleaseCommand]) -> Option<Undone> {
        commands.iter().find_map(|command| match command {
            ReleaseCommand::Resolve(undone) => Some(*undone),
            ReleaseCommand::UndoLater(..) => None,
        })
    }

    #[test]
    fn a_majority_decides_and_the_rest_is_undone_later() {
        let mut release = everywhere(3);
        assert_eq!(release.on(NOW, ReleaseEvent::Undone(ServerId(0))), []);
        let until = timing().all_over(NOW);
        let later = ReleaseCommand::UndoLater(ServerId(2), until);
        assert_eq!(release.on(NOW, ReleaseEvent::Failed(ServerId(2))), [later]);
        let released = release.on(NOW, ReleaseEvent::Undone(ServerId(1)));
        assert_eq!(released, [ReleaseCommand::Resolve(Undone::Released)]);
        assert_eq!(release.left().iter().collect::<Vec<_>>(), [ServerId(2)]);
        assert_eq!(release.on(NOW, ReleaseEvent::HadNone(ServerId(2))), []);
        assert!(release.left().is_empty());
    }

    #[test]
    fn without_a_majority_it_is_not_released() {
        let mut gone = everywhere(3);
        assert_eq!(gone.on(NOW, ReleaseEvent::HadNone(ServerId(0))), []);
        assert_eq!(result(&gone.on(NOW, ReleaseEvent::HadNone(ServerId(1)))), Some(Undone::Gone));
        let mut unknown = everywhere(3);
        assert_eq!(unknown.on(NOW, ReleaseEvent::Undone(ServerId(0))), []);
        assert_eq!(unknown.on(NOW, ReleaseEvent::HadNone(ServerId(1))), []);
        let failed = unknown.on(NOW, ReleaseEvent::Failed(ServerId(2)));
        assert_eq!(result(&failed), Some(Undone::Unknown));
    }

    #[test]
    fn row_49_where_a_request_may_still_arrive_it_is_undone_for_longer() {
        let quorum = Quorum::of(3);
        let late = [ServerId(1)].into_iter().collect();
        let mut release = QuorumRelease::of(quorum, timing(), quorum.all(), late);
        let mut until = |server| match release.on(NOW, ReleaseEvent::Failed(server))[0] {
            ReleaseCommand::UndoLater(_, until) => until,
            command => panic!("{command:?}"),
        };
        let (soon, late) = (until(ServerId(0)), until(ServerId(1)));
        assert!(late.since(soon) >= LATEST_ARRIVAL);
    }

    proptest! {
        /// The result comes once and says what a majority says; a server that has not confirmed it is
        /// left, and was commanded to be undone later.
        #[test]
        fn the_result_is_what_was_answered_and_the_silent_are_left(
            servers in 1_u8..8,
            answers in prop::collection::vec((0_u8..8, 0_u8..3), 0..16),
        ) {
            let quorum = Quorum::of(servers);
            let mut release = everywhere(servers);
            let (mut yes, mut no, mut later) = (ServerSet::NONE, ServerSet::NONE, ServerSet::NONE);
            let mut results = Vec::new();
            let silent = (0..servers).map(|server| (server, 2));
            for (server, kind) in answers.into_iter().chain(silent) {
                let server = ServerId(server % servers);
                let event = match kind {
                    0 => {
                        if !no.contains(server) { yes.insert(server); }
                        ReleaseEvent::Undone(server)
                    }
                    1 => {
                        if !yes.contains(server) { no.insert(server); }
                        ReleaseEvent::HadNone(server)
                    }
                    _ => ReleaseEvent::Failed(server),
                };
                for command in release.on(NOW, event) {
                    match command {
                        ReleaseCommand::Resolve(undone) => results.push((undone, yes, no)),
                        ReleaseCommand::UndoLater(server, _) => { later.insert(server); }
                    }
                }
            }
            let [(undone, had_it, had_not)] = results[..] else { panic!("{results:?}") };
            let expected = if quorum.has(had_it) {
                Undone::Released
            } else if !quorum.has(quorum.all().without(had_not)) {
                Undone::Gone
            } else {
                Undone::Unknown
            };
            prop_assert_eq!(undone, expected);
            prop_assert_eq!(release.left(), quorum.all().without(yes).without(no));
            prop_assert!(release.left().without(later).is_empty());
        }
    }
}
