//! The engine over an in-memory store whose driver is made to fail.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::Clock;
use distributed_lock_core::memory::{MemoryDriver, MemoryStore};
use distributed_lock_testkit::faults::{
    Store, exhaustive, late, leases, limits, outages, requests, scoped, shutdown, unreachable,
    waiting,
};

#[test]
fn every_call_with_every_outcome_lasting() {
    exhaustive::every_call_with_every_outcome(Memory::lasting);
}

#[test]
fn every_call_with_every_outcome_leased() {
    exhaustive::every_call_with_every_outcome(Memory::leased);
}

#[test]
fn row_49_every_request_late_and_twice_lasting() {
    late::every_request_late_and_twice(Memory::lasting);
}

#[test]
fn row_49_every_request_late_and_twice_leased() {
    late::every_request_late_and_twice(Memory::leased);
}

#[test]
fn row_50_waits_survive_an_outage() {
    outages::waits_survive_an_outage(Memory::lasting);
    outages::waits_survive_an_outage(Memory::leased);
}

#[test]
fn row_50_a_wait_behind_one_that_times_out_goes_on() {
    outages::a_wait_behind_one_that_times_out_goes_on(Memory::lasting);
    outages::a_wait_behind_one_that_times_out_goes_on(Memory::leased);
}

#[test]
fn row_54_holds_survive_refusals_that_pass() {
    outages::holds_survive_refusals_that_pass(Memory::leased);
}

#[test]
fn attempts_while_waiting_are_counted() {
    waiting::attempts_while_waiting_are_counted(Memory::lasting);
    waiting::attempts_while_waiting_are_counted(Memory::leased);
}

#[test]
fn tasks_with_one_deadline_all_time_out() {
    waiting::tasks_with_one_deadline_all_time_out(Memory::lasting);
    waiting::tasks_with_one_deadline_all_time_out(Memory::leased);
}

#[test]
fn a_lost_wake_up_costs_one_fallback_period() {
    waiting::a_lost_wake_up_costs_one_fallback_period(Memory::lasting);
    waiting::a_lost_wake_up_costs_one_fallback_period(Memory::leased);
}

#[test]
fn a_try_ends_in_time_with_the_right_error() {
    unreachable::a_try_ends_in_time_with_the_right_error(Memory::lasting);
    unreachable::a_try_ends_in_time_with_the_right_error(Memory::leased);
}

#[test]
fn a_try_behind_what_is_under_way_does_not_guess() {
    unreachable::a_try_behind_what_is_under_way_does_not_guess(Memory::lasting);
    unreachable::a_try_behind_what_is_under_way_does_not_guess(Memory::leased);
}

#[test]
fn a_try_after_a_drop_waits_for_the_release() {
    unreachable::a_try_after_a_drop_waits_for_the_release(Memory::lasting);
    unreachable::a_try_after_a_drop_waits_for_the_release(Memory::leased);
}

#[test]
fn a_shutdown_ends_in_time_and_says_what_is_left() {
    unreachable::a_shutdown_ends_in_time_and_says_what_is_left(Memory::lasting);
    unreachable::a_shutdown_ends_in_time_and_says_what_is_left(Memory::leased);
}

#[test]
fn a_lock_costs_one_request_each_way() {
    requests::a_lock_costs_one_request_each_way(Memory::lasting);
    requests::a_lock_costs_one_request_each_way(Memory::leased);
}

#[test]
fn an_ended_provider_asks_nothing() {
    requests::an_ended_provider_asks_nothing(Memory::lasting);
    requests::an_ended_provider_asks_nothing(Memory::leased);
}

#[test]
fn what_is_given_back_is_extended_no_more() {
    leases::what_is_given_back_is_extended_no_more(Memory::leased);
}

#[test]
fn extensions_do_not_grow_with_the_leases() {
    leases::extensions_do_not_grow_with_the_leases(Memory::leased);
}

#[test]
fn a_failed_extension_is_not_a_loss() {
    leases::a_failed_extension_is_not_a_loss(Memory::leased);
}

#[test]
fn a_lease_that_runs_out_is_told_in_time() {
    leases::a_lease_that_runs_out_is_told_in_time(Memory::leased);
}

#[test]
fn a_lease_is_lost_by_the_clock_alone() {
    leases::a_lease_is_lost_by_the_clock_alone(Memory::leased);
}

#[test]
fn a_late_grant_has_less_of_its_lease() {
    leases::a_late_grant_has_less_of_its_lease(Memory::leased);
}

#[test]
fn max_hold_ends_a_lease() {
    limits::max_hold_ends_a_lease(Memory::leased);
}

#[test]
fn without_auto_extend_a_lease_ends_after_its_term() {
    limits::without_auto_extend_a_lease_ends_after_its_term(Memory::leased);
}

#[test]
fn a_failed_release_is_returned() {
    scoped::a_failed_release_is_returned(Memory::lasting);
    scoped::a_failed_release_is_returned(Memory::leased);
}

#[test]
fn acquire_all_gives_back_what_it_had() {
    scoped::acquire_all_gives_back_what_it_had(Memory::lasting);
    scoped::acquire_all_gives_back_what_it_had(Memory::leased);
}

#[test]
fn no_poll_starts_after_the_deadline() {
    scoped::no_poll_starts_after_the_deadline(Memory::leased);
}

#[test]
fn a_busy_shutdown_ends_in_time_and_names_the_ten() {
    shutdown::a_busy_shutdown_ends_in_time_and_names_the_ten(Memory::lasting);
    shutdown::a_busy_shutdown_ends_in_time_and_names_the_ten(Memory::leased);
}

struct Memory {
    store: MemoryStore,
    lease: Option<Duration>,
}

impl Memory {
    fn lasting() -> Self {
        Self { store: MemoryStore::new(), lease: None }
    }

    fn leased() -> Self {
        Self { store: MemoryStore::new(), lease: Some(Duration::from_secs(3)) }
    }
}

impl Store for Memory {
    type Driver = MemoryDriver;

    fn driver(&self, clock: Arc<dyn Clock>) -> MemoryDriver {
        MemoryDriver::new(self.store.clone(), self.lease, clock)
    }

    fn left(&self) -> usize {
        self.store.holds()
    }
}
