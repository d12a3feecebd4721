//! The macro that turns the cases into tests.

/// Makes one `#[test]` of each case, for a backend and for the same backend erased.
///
/// `conformance!(module: backend);` with the groups that the backend declares, as in
/// `conformance!(module: backend, with readers_writer, with loss);`. What is not declared makes no
/// tests. The backend is an expression that is evaluated for each test, where the macro is called.
///
/// | group | asks for |
/// |---|---|
/// | (always) | the mutex |
/// | `readers_writer` | reader-writer locks; their write locks pass the mutex's cases, too |
/// | `semaphore` | semaphores; those of one permit pass the mutex's cases, too |
/// | `fencing` | fencing tokens |
/// | `leases` | leases of a few seconds at most |
/// | `limits` | [`Limits`](crate::Limits), and leases of a few seconds at most |
/// | `loss` | [`Loses`](crate::Loses), and fencing tokens |
///
/// `conformance!(concrete module: backend, ...)` leaves out the erased providers and the locks that
/// stand for mutexes, for one more configuration of a backend that has passed with them.
///
/// See the [crate's documentation](crate) for an example.
#[macro_export]
macro_rules! conformance {
    (concrete $module:ident: $backend:expr $(, with $group:ident)* $(,)?) => {
        mod $module {
            use super::*;
            $crate::conformance!(@group mutex, $backend);
            $crate::conformance!(@group liveness, $backend);
            $($crate::conformance!(@group $group, $backend);)*
        }
    };

    ($module:ident: $backend:expr $(, with $group:ident)* $(,)?) => {
        mod $module {
            use super::*;

            mod concrete {
                use super::*;
                $crate::conformance!(@group mutex, $backend);
                $crate::conformance!(@group liveness, $backend);
                $($crate::conformance!(@group $group, $backend);)*
            }

            $($crate::conformance!(@as_mutex $group, $backend);)*

            mod erased {
                use super::*;
                $crate::conformance!(@group mutex, $crate::Erased($backend));
                $($crate::conformance!(@group $group, $crate::Erased($backend));)*
            }
        }
    };

    (@group mutex, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            exclusion:
                two_processes_never_overlap,
                it_is_not_re_entrant,
                names_are_independent,
                a_lock_knows_its_name;
            waiting:
                a_waiter_gets_it_after_the_release_and_not_before,
                zero_is_one_try,
                a_free_lock_is_had_with_any_timeout,
                a_held_lock_is_waited_for_with_any_timeout,
                held_and_failed_are_told_apart,
                a_timeout_is_on_time,
                a_try_never_waits;
            order:
                tasks_are_served_in_order_of_arrival,
                five_hundred_tasks_all_get_it;
            release:
                a_release_is_reported_and_frees_at_once,
                a_try_after_a_drop_succeeds_in_the_same_process,
                a_clean_release_is_not_a_loss,
                the_callers_token_is_the_callers;
            drops:
                in_a_runtime,
                many_at_once,
                outside_any_runtime,
                after_its_runtime_ended,
                while_its_runtime_ends,
                in_a_runtime_that_is_then_not_driven,
                in_a_panic,
                in_a_task_that_panics,
                a_waiter_with_its_runtime;
            second_runtime:
                after_the_first_ended,
                while_the_first_is_not_driven,
                while_both_are_driven;
            bare_runtimes:
                building,
                using_a_free_lock,
                waiting,
                ending_a_hold,
                shutting_down,
                blocking_calls;
            cancellation:
                an_acquire_of_a_free_lock,
                a_try,
                an_acquire_that_another_process_makes_wait,
                an_acquire_that_its_own_process_makes_wait,
                the_waiter_behind_a_dropped_one_goes_on,
                a_release;
            guarding:
                guarded_work_completes_with_its_value,
                guarded_work_is_stopped_by_loss_only;
            scoped:
                work_runs_under_its_lock,
                without_the_lock_no_work_begins,
                however_work_ends_its_lock_is_free;
            composite:
                opposite_orders_never_deadlock_in_one_process,
                opposite_orders_never_deadlock_between_processes,
                one_lock_is_acquired_once,
                all_or_nothing;
            blocking:
                it_works_on_any_thread,
                a_thread_waits_its_turn,
                a_dropped_handle_releases,
                a_shutdown_ends_it,
                every_kind_of_lock_is_there;
            shutdown:
                handles_are_told_loss_and_their_locks_freed,
                waiters_are_cancelled,
                nothing_is_acquired_afterwards,
                what_is_under_way_is_waited_for;
            telemetry:
                acquires_and_holds_are_measured,
                acquires_and_releases_are_spans;
            extremes:
                awkward_names_are_distinct_locks,
                too_long_a_name_is_invalid,
                any_duration_works,
                any_count_has_a_clear_answer;
        );
    };

    // These take seconds, and an erased provider runs the same code.
    (@group liveness, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            left_alone:
                an_acquire_that_is_polled_once_holds_up_no_other,
                an_acquire_whose_runtime_is_blocked_holds_up_no_other,
                a_try_during_a_withdrawal_gets_the_free_lock;
        );
    };

    (@group readers_writer, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            readers_left_alone:
                a_reader_that_is_left_alone_holds_up_no_other;
            readers_writer:
                the_mutex_is_the_write_lock,
                readers_share_and_a_writer_waits_for_the_last,
                a_waiting_writer_is_not_overtaken_and_can_give_up,
                overlapping_readers_do_not_starve_a_writer,
                a_writer_that_gives_up_leaves_no_trace,
                tokens_are_ordered_where_holds_conflict;
        );
    };

    (@group semaphore, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            semaphore:
                no_more_than_the_permits_are_held,
                many_tasks_share_the_permits,
                it_is_separate_from_the_mutex,
                differing_counts_never_exceed_the_largest,
                all_permits_return,
                no_permits_is_a_configuration_mistake;
        );
    };

    (@group fencing, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            fencing:
                a_later_holder_has_a_greater_token,
                a_token_is_cached;
        );
    };

    (@group leases, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            leases:
                a_lease_is_renewed,
                a_lease_is_renewed_after_its_runtime_ended,
                a_lease_is_renewed_while_its_runtime_is_not_driven;
            telemetry_of_leases:
                renewals_are_counted;
        );
    };

    (@group limits, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            limits:
                max_hold_ends_a_hold,
                without_auto_extend_a_hold_ends_after_its_lease;
        );
    };

    (@group loss, $backend:expr) => {
        $crate::conformance!(@cases $backend;
            loss:
                a_loss_is_told_in_time,
                a_stale_release_is_harmless,
                guarded_work_is_stopped,
                it_can_be_acquired_again_while_the_lost_handle_is_out,
                a_local_waiter_goes_on,
                a_lost_lock_has_no_token;
            scoped_loss:
                work_is_ended,
                the_loss_of_one_of_many_is_told;
            telemetry_of_loss:
                a_loss_is_told_once;
        );
    };

    (@as_mutex readers_writer, $backend:expr) => {
        mod write_lock {
            use super::*;
            $crate::conformance!(@group mutex, $crate::WriteLocks($backend));
            $crate::conformance!(@group liveness, $crate::WriteLocks($backend));
        }
    };

    (@as_mutex semaphore, $backend:expr) => {
        mod one_permit {
            use super::*;
            $crate::conformance!(@group mutex, $crate::OnePermits($backend));
            $crate::conformance!(@group liveness, $crate::OnePermits($backend));
        }
    };

    (@as_mutex $group:ident, $backend:expr) => {};

    (@cases $backend:expr; $($theme:ident: $($case:ident),+;)+) => {
        $(
            mod $theme {
                use super::*;
                $(
                    #[test]
                    fn $case() {
                        $crate::cases::$theme::$case(&$backend);
                    }
                )+
            }
        )+
    };
}
