//! What a round comes to, whatever is answered in whatever order.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const EXPIRY: Duration = Duration::from_millis(1_000);

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

const LINK: LinkId = LinkId(0);

/// A round whose requests have left, each server's on its first link.
fn begun(servers: u8) -> Round {
    let timing = Timing::new(EXPIRY, EXPIRY / 10, EXPIRY / 20);
    let mut round = Round::new(Quorum::of(servers), timing);
    let all = Quorum::of(servers).all();
    let commands = round.on(at(0), RoundEvent::Begin(all));
    assert_eq!(commands.len(), usize::from(servers) + 1);
    assert_eq!(commands.last(), Some(&RoundCommand::WakeAt(at(50))));
    for server in all.iter() {
        assert_eq!(round.on_link(LinkEvent::Ask(server, LINK)), Some(LinkCommand::Ask));
    }
    round
}

/// Delivers an event, and the answer on the link that brings it.
fn deliver(round: &mut Round, now: Moment, event: RoundEvent) -> Vec<RoundCommand> {
    let answered = |server, effect| LinkEvent::Answered(server, LINK, effect);
    let link = match event {
        RoundEvent::Granted(server) => Some(answered(server, Effect::MayHaveVoted)),
        RoundEvent::Refused(server, _) => Some(answered(server, Effect::NoVote)),
        RoundEvent::Begin(_) | RoundEvent::Unknown(_) | RoundEvent::Tick => None,
    };
    assert_eq!(link.and_then(|event| round.on_link(event)), None);
    round.on(now, event)
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
    assert_eq!(deliver(&mut round, at(1), RoundEvent::Granted(ServerId(0))), []);
    let won = deliver(&mut round, at(5), RoundEvent::Granted(ServerId(2)));
    let Some(Verdict::Granted(lease)) = verdict(&won) else { panic!("{won:?}") };
    // From the request on; a hundredth of the lease and 2 ms are kept for drift.
    assert_eq!(lease.deadline(), at(988));
    assert_eq!(deliver(&mut round, at(9), RoundEvent::Granted(ServerId(1))), []);
    let undone = round.end(RoundEnd::Whole);
    assert_eq!(undone.len(), 3);
}

#[test]
fn half_the_servers_are_not_a_majority() {
    let mut round = begun(4);
    for server in 0..2 {
        assert_eq!(deliver(&mut round, at(1), RoundEvent::Granted(ServerId(server))), []);
    }
    assert_eq!(deliver(&mut round, at(2), RoundEvent::Unknown(ServerId(2))), []);
    let lost = deliver(&mut round, at(3), RoundEvent::Unknown(ServerId(3)));
    assert_eq!(verdict(&lost), Some(Verdict::TooFew));
    let undone = |server| lost.contains(&RoundCommand::Undo(ServerId(server)));
    assert!((0..4).all(undone), "{lost:?}");
}

#[test]
fn too_slow_is_refused_and_given_back() {
    let mut round = begun(3);
    assert_eq!(deliver(&mut round, at(10), RoundEvent::Granted(ServerId(0))), []);
    let slow = deliver(&mut round, at(889), RoundEvent::Granted(ServerId(1)));
    assert_eq!(verdict(&slow), Some(Verdict::TooSlow));
    assert_eq!(slow.len(), 4);
}

#[test]
fn one_owner_on_a_majority_holds_it_and_several_split_it() {
    let refused = |server, owner| RoundEvent::Refused(ServerId(server), OwnerId(owner));
    let mut round = begun(5);
    assert_eq!(deliver(&mut round, at(1), refused(0, 7)), []);
    assert_eq!(deliver(&mut round, at(1), refused(1, 7)), []);
    assert_eq!(verdict(&deliver(&mut round, at(1), refused(2, 7))), Some(Verdict::Held));
    let mut round = begun(5);
    assert_eq!(deliver(&mut round, at(1), RoundEvent::Granted(ServerId(4))), []);
    assert_eq!(deliver(&mut round, at(1), refused(0, 7)), []);
    assert_eq!(deliver(&mut round, at(1), refused(1, 7)), []);
    let split = deliver(&mut round, at(1), refused(2, 8));
    assert_eq!(verdict(&split), Some(Verdict::Split));
    let undo = |server| RoundCommand::Undo(ServerId(server));
    assert_eq!(split[1..], [undo(3), undo(4)]);
}

#[test]
fn a_silent_minority_is_waited_for_only_so_long() {
    let mut round = begun(3);
    assert_eq!(deliver(&mut round, at(1), RoundEvent::Granted(ServerId(0))), []);
    let named = RoundEvent::Refused(ServerId(1), OwnerId(7));
    assert_eq!(deliver(&mut round, at(1), named), []);
    assert_eq!(deliver(&mut round, at(49), RoundEvent::Tick), []);
    assert_eq!(verdict(&deliver(&mut round, at(50), RoundEvent::Tick)), Some(Verdict::Split));
}

proptest! {
    /// Whatever is answered in whatever order, there is one verdict, it is true, and a server that
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
            for command in deliver(&mut round, at(now), event) {
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
            if verdict(&deliver(&mut round, at(1), answer(server, kind))).is_some() {
                return Ok(());
            }
            let ends = (0..4).map(|kind| {
                let (mut round, mut end) = (round.clone(), None);
                for silent in round.tally.pending().iter() {
                    end = end.or(verdict(&deliver(&mut round, at(1), answer(silent, kind))));
                }
                end.map(|verdict| std::mem::discriminant(&verdict))
            });
            let ends: Vec<_> = ends.collect();
            prop_assert!(ends.iter().all(Option::is_some));
            prop_assert!(ends.iter().any(|end| *end != ends[0]), "{round:?}");
        }
        prop_assert!(false, "no verdict although all have answered");
    }

    /// A round that has ended has no verdict any more, and is undone wherever it may be granted,
    /// whatever is answered later.
    #[test]
    fn a_round_that_has_ended_is_undone_everywhere(
        servers in 1_u8..8,
        answers in prop::collection::vec((0_u8..8, 0_u8..3), 0..12),
        abandoned_after in 0_usize..12,
    ) {
        let mut round = begun(servers);
        let (mut undone, mut refused_by) = (ServerSet::NONE, ServerSet::NONE);
        let mut has_spoken = ServerSet::NONE;
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
            if matches!(event, RoundEvent::Refused(..)) {
                refused_by.insert(server);
            }
            for command in deliver(&mut round, at(1), event) {
                match command {
                    RoundCommand::Undo(server) => prop_assert!(undone.insert(server)),
                    RoundCommand::Resolve(_) => {}
                    RoundCommand::Ask(_) | RoundCommand::WakeAt(_) => prop_assert!(false),
                }
            }
        }
        let may_have_votes = round.end(RoundEnd::Whole);
        let not_refused = Quorum::of(servers).all().without(refused_by);
        prop_assert_eq!(may_have_votes, not_refused);
        prop_assert!(not_refused.without(undone.or(may_have_votes)).is_empty());
        for server in Quorum::of(servers).all().iter() {
            prop_assert_eq!(deliver(&mut round, at(3), RoundEvent::Granted(server)), []);
            prop_assert_eq!(round.on_link(LinkEvent::Ask(server, LINK)), None);
        }
    }
}
