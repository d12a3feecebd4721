//! One round of requests for a lock: every server is asked at once, and a majority decides.

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::Lease;

use super::servers::{Quorum, ServerId, ServerSet};
use super::tally::{Answer, Tally};
use super::timing::Timing;

/// Whom a server has named as the owner; equal for equal owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u64);

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoundEvent {
    /// It begins.
    Begin,
    /// A server has granted the lock.
    Granted(ServerId),
    /// A server has named another owner.
    Refused(ServerId, OwnerId),
    /// A server failed, or does not count: nobody can say whether it has granted the lock.
    Unknown(ServerId),
    /// Time has passed.
    Tick,
    /// Nobody wants the lock any more.
    Abandoned,
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
    /// Undo the round on this server. If its request was not answered yet, in such a way that the
    /// request finds it if it arrives later.
    Undo(ServerId),
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
/// It is resolved as soon as its outcome is certain. Whatever it asked for is undone on *all*
/// servers unless it was won: a request without an answer may have been granted, and a grant may be
/// on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Round {
    quorum: Quorum,
    timing: Timing,
    sent: Moment,
    tally: Tally,
    /// Who was named, sorted.
    owners: Vec<OwnerId>,
    stage: Stage,
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
    pub fn new(quorum: Quorum, timing: Timing, now: Moment) -> Self {
        let (tally, owners) = (Tally::new(quorum), Vec::new());
        Self { quorum, timing, sent: now, tally, owners, stage: Stage::Asking }
    }

    /// When its first request was sent.
    #[must_use]
    pub fn sent(&self) -> Moment {
        self.sent
    }

    /// Who may still grant it: their requests were not answered.
    #[must_use]
    pub fn undecided(&self) -> ServerSet {
        self.tally.undecided()
    }

    /// Who has not said anything.
    #[must_use]
    pub fn pending(&self) -> ServerSet {
        self.tally.pending()
    }

    /// Who has granted it.
    #[must_use]
    pub fn granted(&self) -> ServerSet {
        self.tally.yes()
    }

    /// Takes one event and says what to do.
    pub fn on(&mut self, now: Moment, event: RoundEvent) -> Vec<RoundCommand> {
        match event {
            RoundEvent::Begin => {
                self.sent = now;
                let wake = RoundCommand::WakeAt(now.after(self.timing.patience));
                let asks = self.quorum.all().iter().map(RoundCommand::Ask);
                return asks.chain([wake]).collect();
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
            RoundEvent::Tick if now >= self.sent.after(self.timing.patience) => {
                self.tally.give_up_waiting();
            }
            RoundEvent::Tick => {}
            RoundEvent::Abandoned => return self.end(None),
        }
        match self.stage {
            Stage::Asking => {
                self.verdict(now).map(|verdict| self.resolve(verdict)).unwrap_or_default()
            }
            Stage::Won | Stage::Over => Vec::new(),
        }
    }

    fn verdict(&self, now: Moment) -> Option<Verdict> {
        let tally = &self.tally;
        if tally.is_won() {
            return Some(match self.timing.is_enough(self.sent, now) {
                true => Verdict::Granted(self.timing.lease(self.sent)),
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

    /// How many servers have named the owner whom most have named.
    fn most_votes(&self) -> usize {
        self.owners.chunk_by(|one, other| one == other).map(<[_]>::len).max().unwrap_or(0)
    }

    fn resolve(&mut self, verdict: Verdict) -> Vec<RoundCommand> {
        if let Verdict::Granted(_) = verdict {
            self.stage = Stage::Won;
            return vec![RoundCommand::Resolve(verdict)];
        }
        self.end(Some(verdict))
    }

    /// Only who has said no has nothing to undo.
    fn end(&mut self, verdict: Option<Verdict>) -> Vec<RoundCommand> {
        if self.stage == Stage::Over {
            return Vec::new();
        }
        self.stage = Stage::Over;
        let resolve = verdict.map(RoundCommand::Resolve);
        let may_have_it = self.quorum.all().without(self.tally.no());
        resolve.into_iter().chain(may_have_it.iter().map(RoundCommand::Undo)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const EXPIRY: Duration = Duration::from_millis(1_000);

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn begun(servers: u8) -> Round {
        let timing = Timing::new(EXPIRY, EXPIRY / 10, EXPIRY / 20);
        let mut round = Round::new(Quorum::of(servers), timing, at(0));
        let commands = round.on(at(0), RoundEvent::Begin);
        assert_eq!(commands.len(), usize::from(servers) + 1);
        assert_eq!(commands.last(), Some(&RoundCommand::WakeAt(at(50))));
        round
    }

    fn verdict(commands: &[RoundCommand]) -> Option<Verdict> {
        commands.iter().find_map(|command| match command {
            RoundCommand::Resolve(verdict) => Some(*verdict),
            _ => None,
        })
    }

    #[test]
    fn a_majority_is_enough_and_the_others_are_not_waited_for() {
        let mut round = begun(3);
        assert_eq!(round.on(at(1), RoundEvent::Granted(ServerId(0))), []);
        let won = round.on(at(5), RoundEvent::Granted(ServerId(2)));
        let Some(Verdict::Granted(lease)) = verdict(&won) else { panic!("{won:?}") };
        // From the request on; a hundredth of the lease and 2 ms are kept for drift.
        assert_eq!(lease.deadline(), at(988));
        assert_eq!(round.on(at(9), RoundEvent::Granted(ServerId(1))), []);
        let undone = round.on(at(10), RoundEvent::Abandoned);
        assert_eq!(undone.len(), 3);
    }

    #[test]
    fn half_the_servers_are_not_a_majority() {
        let mut round = begun(4);
        for server in 0..2 {
            assert_eq!(round.on(at(1), RoundEvent::Granted(ServerId(server))), []);
        }
        assert_eq!(round.on(at(2), RoundEvent::Unknown(ServerId(2))), []);
        let lost = round.on(at(3), RoundEvent::Unknown(ServerId(3)));
        assert_eq!(verdict(&lost), Some(Verdict::TooFew));
        let undone = |server| lost.contains(&RoundCommand::Undo(ServerId(server)));
        assert!((0..4).all(undone), "{lost:?}");
    }

    #[test]
    fn too_slow_is_refused_and_given_back() {
        let mut round = begun(3);
        assert_eq!(round.on(at(10), RoundEvent::Granted(ServerId(0))), []);
        let slow = round.on(at(889), RoundEvent::Granted(ServerId(1)));
        assert_eq!(verdict(&slow), Some(Verdict::TooSlow));
        assert_eq!(slow.len(), 4);
    }

    #[test]
    fn one_owner_on_a_majority_holds_it_and_several_split_it() {
        let refused = |server, owner| RoundEvent::Refused(ServerId(server), OwnerId(owner));
        let mut round = begun(5);
        assert_eq!(round.on(at(1), refused(0, 7)), []);
        assert_eq!(round.on(at(1), refused(1, 7)), []);
        assert_eq!(verdict(&round.on(at(1), refused(2, 7))), Some(Verdict::Held));
        let mut round = begun(5);
        assert_eq!(round.on(at(1), RoundEvent::Granted(ServerId(4))), []);
        assert_eq!(round.on(at(1), refused(0, 7)), []);
        assert_eq!(round.on(at(1), refused(1, 7)), []);
        let split = round.on(at(1), refused(2, 8));
        assert_eq!(verdict(&split), Some(Verdict::Split));
        let undo = |server| RoundCommand::Undo(ServerId(server));
        assert_eq!(split[1..], [undo(3), undo(4)]);
    }

    #[test]
    fn a_silent_minority_is_waited_for_only_so_long() {
        let mut round = begun(3);
        assert_eq!(round.on(at(1), RoundEvent::Granted(ServerId(0))), []);
        let named = RoundEvent::Refused(ServerId(1), OwnerId(7));
        assert_eq!(round.on(at(1), named), []);
        assert_eq!(round.on(at(49), RoundEvent::Tick), []);
        assert_eq!(verdict(&round.on(at(50), RoundEvent::Tick)), Some(Verdict::Split));
    }

    proptest! {
        /// Whatever is answered in whatever order, there is one verdict, it is true, and whoever
        /// may have granted a round that was not won is asked to undo it.
        #[test]
        fn a_verdict_is_certain_and_nothing_is_left_behind(
            servers in 1_u8..8,
            answers in prop::collection::vec((0_u8..8, 0_u8..4, 0_u64..30), 0..40),
        ) {
            let mut round = begun(servers);
            let (mut now, mut verdicts) = (0, Vec::new());
            let (mut granted, mut named) = (ServerSet::NONE, ServerSet::NONE);
            let mut undone = ServerSet::NONE;
            let majority = Quorum::of(servers).majority();
            let all = answers.into_iter().map(Some).chain([None]);
            for answer in all {
                let event = match answer {
                    // In the end time passes for those who were silent.
                    None => {
                        now += 2_000;
                        RoundEvent::Tick
                    }
                    Some((server, kind, passed)) => {
                        now += passed;
                        let id = ServerId(server % servers);
                        let has_said = granted.or(named).contains(id);
                        match kind {
                            0 if !has_said => { granted.insert(id); RoundEvent::Granted(id) }
                            1 | 2 if !has_said => {
                                named.insert(id);
                                RoundEvent::Refused(id, OwnerId(u64::from(kind)))
                            }
                            3 => RoundEvent::Unknown(id),
                            _ => RoundEvent::Tick,
                        }
                    }
                };
                for command in round.on(at(now), event) {
                    match command {
                        RoundCommand::Resolve(verdict) => {
                            match verdict {
                                Verdict::Granted(lease) => {
                                    prop_assert!(granted.len() >= majority);
                                    prop_assert!(lease.deadline() >= at(now + 100));
                                }
                                Verdict::TooSlow => prop_assert!(granted.len() >= majority && now > 888),
                                Verdict::Held => prop_assert!(named.len() >= majority),
                                Verdict::Split => prop_assert!(!named.is_empty() && granted.len() < majority),
                                Verdict::TooFew => prop_assert!(granted.or(named).len() < majority),
                            }
                            verdicts.push(verdict);
                        }
                        RoundCommand::Undo(server) => prop_assert!(undone.insert(server)),
                        RoundCommand::Ask(_) | RoundCommand::WakeAt(_) => prop_assert!(false),
                    }
                }
            }
            prop_assert_eq!(verdicts.len(), 1);
            if !matches!(verdicts[0], Verdict::Granted(_)) {
                let may_have_it = Quorum::of(servers).all().without(named);
                prop_assert!(may_have_it.without(undone).is_empty());
            }
        }

        /// While there is no verdict, those who are silent can still make a difference.
        #[test]
        fn what_is_certain_is_not_waited_for(
            servers in 1_u8..8,
            answers in prop::collection::vec(0_u8..4, 8),
        ) {
            let mut round = begun(servers);
            let answer = |server, kind| match kind {
                0 => RoundEvent::Granted(server),
                1 | 2 => RoundEvent::Refused(server, OwnerId(u64::from(kind))),
                _ => RoundEvent::Unknown(server),
            };
            for server in Quorum::of(servers).all().iter() {
                let kind = answers[usize::from(server.0)];
                if verdict(&round.on(at(1), answer(server, kind))).is_some() {
                    return Ok(());
                }
                let ends = (0..4).map(|kind| {
                    let (mut round, mut end) = (round.clone(), None);
                    for silent in round.tally.pending().iter() {
                        end = end.or(verdict(&round.on(at(1), answer(silent, kind))));
                    }
                    end.map(|verdict| std::mem::discriminant(&verdict))
                });
                let ends: Vec<_> = ends.collect();
                prop_assert!(ends.iter().all(Option::is_some));
                prop_assert!(ends.iter().any(|end| *end != ends[0]), "{round:?}");
            }
            prop_assert!(false, "no verdict although all have answered");
        }

        /// An abandoned round has no verdict any more, and is undone once wherever it may be granted,
        /// whatever is answered later.
        #[test]
        fn an_abandoned_round_is_undone_everywhere(
            servers in 1_u8..8,
            answers in prop::collection::vec((0_u8..8, 0_u8..3), 0..12),
            abandoned_after in 0_usize..12,
        ) {
            let mut round = begun(servers);
            let (mut undone, mut refused_by) = (ServerSet::NONE, ServerSet::NONE);
            let (mut is_over, mut has_spoken) = (false, ServerSet::NONE);
            for (number, (server, kind)) in answers.into_iter().enumerate() {
                if number == abandoned_after {
                    break;
                }
                let server = ServerId(server % servers);
                let event = match kind {
                    _ if !has_spoken.insert(server) => RoundEvent::Tick,
                    0 => RoundEvent::Granted(server),
                    1 => RoundEvent::Refused(server, OwnerId(1)),
                    _ => RoundEvent::Unknown(server),
                };
                if matches!(event, RoundEvent::Refused(..)) && !is_over {
                    refused_by.insert(server);
                }
                for command in round.on(at(1), event) {
                    match command {
                        RoundCommand::Undo(server) => prop_assert!(undone.insert(server)),
                        RoundCommand::Resolve(verdict) => {
                            is_over = !matches!(verdict, Verdict::Granted(_));
                        }
                        RoundCommand::Ask(_) | RoundCommand::WakeAt(_) => prop_assert!(false),
                    }
                }
            }
            for command in round.on(at(2), RoundEvent::Abandoned) {
                let RoundCommand::Undo(server) = command else { panic!("{command:?}") };
                prop_assert!(undone.insert(server));
            }
            prop_assert!(Quorum::of(servers).all().without(refused_by).without(undone).is_empty());
            for server in Quorum::of(servers).all().iter() {
                prop_assert_eq!(round.on(at(3), RoundEvent::Granted(server)), []);
            }
            prop_assert_eq!(round.on(at(4), RoundEvent::Abandoned), []);
        }
    }
}
