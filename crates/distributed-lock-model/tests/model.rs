//! The model within bounds that suit every test run.

#![expect(clippy::print_stdout, reason = "tests")]

use distributed_lock_model::{
    Bounds, GuardStart, GuardVariant, Report, Variant, check, check_guard, table,
};

fn shown(report: Report) -> Report {
    println!("{}", table(std::slice::from_ref(&report)));
    report
}

fn holds(report: Report) {
    let report = shown(report);
    assert_eq!(report.violated, None);
    assert!(report.is_meaningful);
}

fn is_found(report: Report, property: &str) {
    let report = shown(report);
    assert_eq!(report.violated.map(|(property, _)| property), Some(property), "{}", report.title);
}

const TWO: &str = "one holder at most";

#[test]
fn redlock_holds_in_every_state() {
    for bounds in [Bounds::rounds(), Bounds::hold(), Bounds::links(), Bounds::readers()] {
        holds(check(Variant::Right, bounds));
    }
}

#[test]
fn tokens_grow_in_every_state() {
    for bounds in [Bounds::tokens(), Bounds::tokens_and_restart()] {
        holds(check(Variant::Right, bounds));
    }
}

#[test]
fn every_known_mistake_is_found() {
    let left = "nothing is left behind";
    let found = [
        (Variant::NoValidityCheck, TWO),
        (Variant::QuorumTooSmall, TWO),
        (Variant::NoCleanUp, left),
        (Variant::LateRequestsTaken, left),
        (Variant::DroppedRoundForgotten, left),
        (Variant::AnswerForAllLinks, left),
        (Variant::RestartCounted, TWO),
        (Variant::MajorityOfAcquired, TWO),
        (Variant::TokenNotWrittenBack, "tokens grow"),
        (Variant::ClockJump, TWO),
        (Variant::ClocksApart, "tokens grow"),
    ];
    assert_eq!(found.len(), Variant::ALL.len() - 1);
    for (variant, property) in found {
        is_found(check(variant, Bounds::telling(variant)), property);
    }
}

#[test]
fn a_server_that_lost_its_data_is_not_counted_in_any_state() {
    holds(check_guard(GuardVariant::Right, GuardStart::New));
    holds(check_guard(GuardVariant::Right, GuardStart::Known));
    is_found(check_guard(GuardVariant::NoGuard, GuardStart::Known), TWO);
    is_found(check_guard(GuardVariant::TellingNotAwaited, GuardStart::New), TWO);
}
