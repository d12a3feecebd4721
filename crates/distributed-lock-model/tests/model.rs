//! The model within bounds that suit every test run.

#![expect(clippy::print_stdout, reason = "tests")]

use distributed_lock_model::{Bounds, Report, Variant, check, table};

fn checked(variant: Variant, bounds: Bounds) -> Report {
    let report = check(variant, bounds);
    println!("{}", table(std::slice::from_ref(&report)));
    report
}

#[test]
fn redlock_holds_in_every_state() {
    for bounds in [Bounds::rounds(), Bounds::hold()] {
        let report = checked(Variant::Right, bounds);
        assert_eq!(report.violated, None);
        assert!(report.is_meaningful);
    }
}

#[test]
fn every_known_mistake_is_found() {
    let two = "one holder at most";
    let left = "nothing is left behind";
    let found = [
        (Variant::NoValidityCheck, two),
        (Variant::QuorumTooSmall, two),
        (Variant::NoCleanUp, left),
        (Variant::LateRequestsTaken, left),
        (Variant::RestartCounted, two),
        (Variant::MajorityOfAcquired, two),
    ];
    for (variant, property) in found {
        let violated =
            checked(variant, Bounds::telling(variant)).violated.map(|(property, _)| property);
        assert_eq!(violated, Some(property), "{variant:?}");
    }
}
