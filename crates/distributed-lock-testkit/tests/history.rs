//! The checker, invariant by invariant: the smallest history that breaks exactly this one, and one
//! that only just does not.
#![expect(clippy::print_stdout, reason = "a test tells what it found")]

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_testkit::history::{Event, Invariant, Rules, What, check};

use Mode::{Exclusive, Shared};
use What::{Died, Lost, Refused, ReleaseInvoked, Released};

type Line<'a> = (u64, &'a str, u64, What);

const NEMESIS: &str = "nemesis";

fn rules() -> Rules {
    Rules {
        operation_timeout: Duration::from_millis(100),
        epsilon: Duration::from_millis(10),
        loss_told_within: Duration::from_millis(200),
        ordered: true,
        ..Rules::default()
    }
}

fn history(lines: &[Line<'_>]) -> Vec<Event> {
    let event = |(at, who, attempt, what): &Line<'_>| Event {
        at: Duration::from_millis(*at),
        who: (*who).to_owned(),
        attempt: *attempt,
        lock: "lock".to_owned(),
        what: what.clone(),
    };
    lines.iter().map(event).collect()
}

#[track_caller]
fn breaks(invariant: Invariant, lines: &[Line<'_>]) {
    let events = history(lines);
    let found = check(&events, &rules());
    for violation in &found {
        println!("{violation}");
    }
    let broken: Vec<Invariant> = found.iter().map(|violation| violation.invariant).collect();
    assert_eq!(broken, [invariant]);
    assert_eq!(check(&events, &rules().without(invariant)), []);
    let backwards: Vec<Event> = events.into_iter().rev().collect();
    assert_eq!(check(&backwards, &rules()).len(), 1, "the order of the lines changed something");
}

#[track_caller]
fn keeps(lines: &[Line<'_>]) {
    assert_eq!(check(&history(lines), &rules()), []);
}

fn asks(mode: Mode) -> What {
    What::Invoke { mode, deadline: None }
}

fn asks_for(mode: Mode, millis: u64) -> What {
    What::Invoke { mode, deadline: Some(Duration::from_millis(millis)) }
}

fn permit(max: u32) -> What {
    asks(Mode::Permit { max })
}

fn holds() -> What {
    What::Acquired { token: None }
}

fn token(token: u64) -> What {
    What::Acquired { token: Some(token) }
}

fn ends_hold() -> What {
    What::FaultEndsHold { row: 21 }
}

fn fault() -> What {
    What::Fault { kind: "slow".to_owned() }
}

fn accepted(token: u64) -> What {
    What::Wrote { token, accepted: true }
}

fn failed() -> What {
    What::Failed { error: "no answer".to_owned() }
}

#[test]
fn i1_two_exclusive_holds() {
    let begin = [(0, "a", 1, asks(Exclusive)), (1, "a", 1, holds()), (2, "b", 1, asks(Exclusive))];
    let with = |rest: &[Line<'static>]| [&begin[..], rest].concat();
    breaks(Invariant::OneExclusive, &with(&[(5, "b", 1, holds()), (6, "a", 1, ReleaseInvoked)]));
    keeps(&with(&[(5, "a", 1, ReleaseInvoked), (6, "b", 1, holds())]));
    // Each of these ends the first hold before the second starts.
    keeps(&with(&[(4, NEMESIS, 0, fault()), (5, "a", 1, Lost), (6, "b", 1, holds())]));
    keeps(&with(&[(5, "a", 0, Died), (6, "b", 1, holds())]));
    keeps(&with(&[(1, NEMESIS, 0, ends_hold()), (200, "b", 1, holds()), (201, "a", 1, Lost)]));
    // A fault that strikes the other worker by name does not.
    let struck = [(2, "b", 0, ends_hold()), (120, "b", 2, asks(Exclusive)), (121, "b", 2, holds())];
    breaks(Invariant::OneExclusive, &with(&struck));
    // An error is unknown, not held.
    keeps(&with(&[(5, "b", 1, failed()), (6, "a", 1, ReleaseInvoked)]));
}

#[test]
fn i1_at_one_time_ends_come_first() {
    let begin = [(0, "a", 1, asks(Exclusive)), (1, "a", 1, holds()), (2, "b", 1, asks(Exclusive))];
    let with = |rest: &[Line<'static>]| [&begin[..], rest].concat();
    keeps(&with(&[(5, "b", 1, holds()), (5, "a", 1, ReleaseInvoked), (5, "a", 1, Released)]));
    let no_time = [(5, "b", 1, holds()), (5, "b", 1, ReleaseInvoked), (5, "b", 1, Released)];
    let [early, late] = [5, 6].map(|at| (at, "a", 1, ReleaseInvoked));
    keeps(&with(&[&no_time[..], &[early]].concat()));
    let within = history(&with(&[&no_time[..], &[late]].concat()));
    assert_eq!(check(&within, &rules()).len(), 1);
}

#[test]
fn i1_a_grant_that_a_fault_may_have_overtaken_does_not_count() {
    let late = |fault: u64| {
        [
            (0, "a", 1, asks(Exclusive)),
            (fault, NEMESIS, 0, ends_hold()),
            (201, "b", 1, asks(Exclusive)),
            (202, "b", 1, holds()),
            (203, "a", 1, holds()),
            (204, "a", 1, Lost),
        ]
    };
    keeps(&late(100));
    breaks(Invariant::OneExclusive, &late(92));
    // A worker that is struck by name may be stopped before it hears of its grant.
    let mut stopped = late(1);
    stopped[1].1 = "a";
    keeps(&stopped);
}

#[test]
fn i2_a_writer_beside_a_reader() {
    let begin = [
        (0, "a", 1, asks(Shared)),
        (1, "a", 1, holds()),
        (2, "b", 1, asks(Shared)),
        (3, "b", 1, holds()),
        (4, "c", 1, asks(Exclusive)),
        (5, "a", 1, ReleaseInvoked),
        (6, "a", 1, Released),
    ];
    let with = |rest: &[Line<'static>]| [&begin[..], rest].concat();
    let over = (9, "b", 1, Released);
    let [early, late] = [7, 8].map(|at| (at, "b", 1, ReleaseInvoked));
    breaks(Invariant::ReadersOrWriter, &with(&[(7, "c", 1, holds()), late, over.clone()]));
    keeps(&with(&[early, (8, "c", 1, holds()), over]));
}

#[test]
fn i3_more_holds_than_permits() {
    let holders = |last: u32| {
        let mut lines = Vec::new();
        for (at, who, max) in [(0, "a", 2), (1, "b", 2), (2, "c", last)] {
            lines.extend([(at, who, 1, permit(max)), (at + 10, who, 1, holds())]);
        }
        lines
    };
    breaks(Invariant::PermitsBounded, &holders(2));
    breaks(Invariant::PermitsBounded, &holders(1));
    keeps(&holders(3));
    keeps(&holders(2)[..4]);
    // The mutex of the name is another resource.
    keeps(&[&holders(2)[..4], &[(20, "d", 1, asks(Exclusive)), (21, "d", 1, holds())]].concat());
}

#[test]
fn i4_tokens_that_do_not_increase() {
    let two = |first: Mode, second: Mode, tokens: [u64; 2]| {
        [
            (0, "a", 1, asks(first)),
            (1, "a", 1, token(tokens[0])),
            (2, "a", 1, ReleaseInvoked),
            (3, "a", 1, Released),
            (4, "b", 1, asks(second)),
            (5, "b", 1, token(tokens[1])),
        ]
    };
    let one = Mode::Permit { max: 1 };
    for (first, second) in
        [(Exclusive, Exclusive), (Exclusive, Shared), (Shared, Exclusive), (one, one)]
    {
        breaks(Invariant::TokensIncrease, &two(first, second, [7, 6]));
        breaks(Invariant::TokensIncrease, &two(first, second, [7, 7]));
        keeps(&two(first, second, [7, 8]));
    }
    keeps(&two(Shared, Shared, [7, 6]));
    breaks(Invariant::TokensIncrease, &two(Shared, Shared, [7, 7]));
    let three = Mode::Permit { max: 3 };
    keeps(&two(three, three, [7, 6]));
}

#[test]
fn i5_a_resource_that_accepts_an_old_token() {
    let writes = |second: What| {
        [
            (0, "a", 1, asks(Exclusive)),
            (1, "a", 1, token(1)),
            (2, NEMESIS, 0, ends_hold()),
            (3, "b", 1, asks(Exclusive)),
            (4, "b", 1, token(2)),
            (5, "b", 1, accepted(2)),
            (6, "a", 1, second),
            (7, "a", 1, Lost),
        ]
    };
    breaks(Invariant::ResourceFenced, &writes(accepted(1)));
    keeps(&writes(What::Wrote { token: 1, accepted: false }));
    keeps(&writes(accepted(2)));
}

/// `held` by c; `a` waits from 10, `b` from `later`; b gets it first.
fn overtaking(a: (&'static str, u64), b: (&'static str, u64), later: u64) -> Vec<Line<'static>> {
    vec![
        (0, "c", 1, asks(Exclusive)),
        (1, "c", 1, holds()),
        (10, a.0, a.1, asks(Exclusive)),
        (later, b.0, b.1, asks(Exclusive)),
        (200, "c", 1, ReleaseInvoked),
        (201, "c", 1, Released),
        (202, b.0, b.1, holds()),
        (230, b.0, b.1, ReleaseInvoked),
        (231, b.0, b.1, Released),
        (232, a.0, a.1, holds()),
    ]
}

#[test]
fn i6_an_overtaken_waiter() {
    breaks(Invariant::NotOvertaken, &overtaking(("a", 1), ("a", 2), 21));
    breaks(Invariant::NotOvertaken, &overtaking(("a", 1), ("b", 1), 21));
    // Who came first is not certain.
    keeps(&overtaking(("a", 1), ("a", 2), 20));
    keeps(&overtaking(("a", 1), ("b", 1), 20));
    // Without an order among workers, only those of one worker count.
    let unordered = Rules { ordered: false, ..rules() };
    let overtaken = |a, b| check(&history(&overtaking(a, b, 21)), &unordered).len();
    assert_eq!([overtaken(("a", 1), ("b", 1)), overtaken(("a", 1), ("a", 2))], [0, 1]);
}

#[test]
fn i6_what_is_no_overtaking() {
    // The waiter's place began when its worker's earlier attempt was out of the way.
    let mut behind_its_own = overtaking(("c", 2), ("b", 1), 21);
    keeps(&behind_its_own);
    // Somebody who only tries does not wait.
    behind_its_own[2] = (10, "a", 1, asks_for(Exclusive, 0));
    behind_its_own[9] = (11, "a", 1, Refused);
    keeps(&behind_its_own);
    // A stopped waiter is passed over, also by those of its own worker; others are not excused.
    let stopped =
        |who| [&overtaking(("a", 1), ("a", 2), 21)[..], &[(150, who, 0, fault())]].concat();
    keeps(&stopped("a"));
    breaks(Invariant::NotOvertaken, &stopped("c"));
}

#[test]
fn i6_a_place_may_be_lost_with_a_connection() {
    let mut failed_later = overtaking(("a", 1), ("b", 1), 21);
    failed_later[9].3 = failed();
    keeps(&failed_later);
    let general = |b| [&overtaking(("a", 1), b, 21)[..], &[(150, NEMESIS, 0, fault())]].concat();
    keeps(&general(("b", 1)));
    // The order in a worker does not depend on the server.
    breaks(Invariant::NotOvertaken, &general(("a", 2)));
}

#[test]
fn i6_first_tries_for_permits_go_side_by_side() {
    let permits = |later| {
        let mut lines = overtaking(("a", 1), ("a", 2), later);
        for index in [0, 2, 3] {
            lines[index].3 = permit(1);
        }
        lines
    };
    keeps(&permits(120));
    breaks(Invariant::NotOvertaken, &permits(121));
}

#[test]
fn i6_readers_may_join_those_of_their_own_worker() {
    let reading = |reader: &'static str| {
        [
            (0, reader, 1, asks(Shared)),
            (1, reader, 1, holds()),
            (10, "a", 1, asks(Exclusive)),
            (50, "b", 2, asks(Shared)),
            (51, "b", 2, holds()),
            (60, reader, 1, ReleaseInvoked),
            (61, reader, 1, Released),
            (62, "b", 2, ReleaseInvoked),
            (63, "b", 2, Released),
            (100, "a", 1, holds()),
        ]
    };
    keeps(&reading("b"));
    breaks(Invariant::NotOvertaken, &reading("c"));
}

#[test]
fn i6_a_place_may_serve_the_next_of_its_worker() {
    let gave_up = |asked: u64| {
        let before = [(asked, "b", 1, asks_for(Exclusive, 50)), (asked + 50, "b", 1, Refused)];
        [&overtaking(("a", 1), ("b", 2), 60)[..], &before].concat()
    };
    keeps(&gave_up(20));
    breaks(Invariant::NotOvertaken, &gave_up(21));
}

#[test]
fn i7_a_call_that_ends_late() {
    let acquire = |ends: u64| [(0, "a", 1, asks_for(Exclusive, 50)), (ends, "a", 1, Refused)];
    breaks(Invariant::CallsEnd, &acquire(161));
    keeps(&acquire(160));
    let release = |ends: u64, how: What| {
        [
            (0, "a", 1, asks(Exclusive)),
            (900, "a", 1, holds()),
            (1000, "a", 1, ReleaseInvoked),
            (ends, "a", 1, how),
        ]
    };
    breaks(Invariant::CallsEnd, &release(1111, Released));
    keeps(&release(1110, Released));
    keeps(&release(1110, What::ReleaseFailed { error: "no answer".to_owned() }));
}

#[test]
fn i7_a_call_that_does_not_end() {
    let with = |at: u64, who: &'static str, what: What| {
        [(0, "a", 1, asks_for(Exclusive, 50)), (at, who, 0, what)]
    };
    breaks(Invariant::CallsEnd, &with(161, NEMESIS, fault()));
    keeps(&with(160, NEMESIS, fault()));
    // Dead or stopped workers end nothing; that the server is slow is no excuse.
    keeps(&[&with(20, "a", Died)[..], &[(500, "a", 0, fault())]].concat());
    keeps(&[&with(20, "a", fault())[..], &[(500, NEMESIS, 0, fault())]].concat());
    breaks(
        Invariant::CallsEnd,
        &[&with(20, NEMESIS, fault())[..], &[(500, "b", 0, fault())]].concat(),
    );
}

#[test]
fn i7_a_release_is_excused_by_a_stop_that_began_after_it() {
    let stopped_again = |at: u64| {
        [
            (0, "a", 1, asks(Exclusive)),
            (1, "a", 1, holds()),
            (2, "a", 0, fault()),
            (3, "a", 1, ReleaseInvoked),
            (at, "a", 0, fault()),
            (500, "a", 1, Released),
        ]
    };
    keeps(&stopped_again(4));
    breaks(Invariant::CallsEnd, &stopped_again(501));
}

#[test]
fn i8_a_lock_that_nobody_gets_any_more() {
    let after = |at: u64| {
        [
            (0, "a", 1, asks(Exclusive)),
            (at, "a", 1, holds()),
            (50, NEMESIS, 0, What::quiet()),
            (51, "b", 1, asks_for(Exclusive, 0)),
            (52, "b", 1, Refused),
        ]
    };
    breaks(Invariant::AcquirableAfterQuiet, &after(49));
    keeps(&after(53));
    // The semaphore of a name does not stand in for its mutex.
    let semaphore = [(54, "b", 2, permit(1)), (55, "b", 2, holds())];
    breaks(Invariant::AcquirableAfterQuiet, &[&after(49)[..], &semaphore].concat());
}

#[test]
fn i9_a_loss_that_is_told_late() {
    let told = |at: u64, who: &'static str, number: u64, what: What| {
        [
            (0, "a", 1, asks(Exclusive)),
            (1, "a", 1, holds()),
            (10, NEMESIS, 0, ends_hold()),
            (at, who, number, what),
        ]
    };
    breaks(Invariant::LossTold, &told(221, "a", 1, Lost));
    keeps(&told(220, "a", 1, Lost));
    breaks(Invariant::LossTold, &told(221, NEMESIS, 0, fault()));
    keeps(&told(220, NEMESIS, 0, fault()));
    // Who releases, dies or is stopped before cannot be told.
    for (number, what) in [(1, ReleaseInvoked), (0, Died), (0, fault())] {
        let end = (300, NEMESIS, 0, fault());
        let events = [&told(100, "a", number, what)[..], &[(101, "a", 1, Released), end]].concat();
        keeps(&events);
    }
}

#[test]
fn i10_a_loss_without_a_fault() {
    let lost = |at: u64, who: &'static str, what: What| {
        [
            (10, "a", 1, asks(Exclusive)),
            (11, "a", 1, holds()),
            (at, who, 0, what),
            (20, "a", 1, Lost),
        ]
    };
    breaks(Invariant::NoFalseLoss, &lost(21, NEMESIS, fault()));
    breaks(Invariant::NoFalseLoss, &lost(9, NEMESIS, ends_hold()));
    for who in [NEMESIS, "a"] {
        keeps(&lost(9, who, fault()));
        keeps(&lost(15, who, fault()));
        keeps(&lost(15, who, ends_hold()));
    }
    // A fault that is over, or strikes another worker or lock.
    let quiet = [(8, NEMESIS, 0, What::quiet()), (30, "b", 1, asks(Exclusive))];
    let again = [(31, "b", 1, holds())];
    let over = [&lost(7, NEMESIS, fault())[..], &quiet, &again].concat();
    breaks(Invariant::NoFalseLoss, &over);
    let others = [&lost(15, "b", fault())[..], &quiet[1..]].concat();
    breaks(Invariant::NoFalseLoss, &others);
    let mut elsewhere = history(&lost(15, NEMESIS, fault()));
    elsewhere[2].lock = "another".to_owned();
    assert_eq!(check(&elsewhere, &rules()).len(), 1);
    elsewhere[2].lock = String::new();
    assert_eq!(check(&elsewhere, &rules()), []);
}
