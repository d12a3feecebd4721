//! Every interleaving of a few threads over the core's own queue and claims.

use distributed_lock_interleavings::scenarios;

#[test]
fn those_that_wait_are_admitted_one_after_another() {
    scenarios::those_that_wait_are_admitted_one_after_another();
}

#[test]
fn readers_and_writers_exclude_each_other() {
    scenarios::readers_and_writers_exclude_each_other();
}

#[test]
fn a_dropped_ticket_passes_its_turn_on() {
    scenarios::a_dropped_ticket_passes_its_turn_on();
}

#[test]
fn a_try_during_a_release_is_answered() {
    scenarios::a_try_during_a_release_is_answered();
}

#[test]
fn a_lost_claim_has_a_cancelled_token() {
    scenarios::a_lost_claim_has_a_cancelled_token();
}

#[test]
fn a_claim_ends_once() {
    scenarios::a_claim_ends_once();
}
