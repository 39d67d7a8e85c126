//! The battery that every store must pass, written once over the public ports
//! and the engine. A store joins with one line at the end of this file.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../bench/mod.rs"]
mod bench;

mod announcing;
mod committing;
mod devices;
mod finishing;
mod listing;
mod making;
mod taking;

/// Makes a module of tests, one for each part of the battery, on a store's bench.
macro_rules! battery {
    ($store:ident, $bench:expr) => {
        battery! { @ $store, $bench,
            making: [
                a_created_task_is_there_after_reopening,
                fields_come_back_as_they_were_sent,
                the_same_idempotency_key_makes_one_task,
                an_idempotency_key_is_forgotten_after_its_time,
                a_device_has_no_more_open_tasks_than_the_limit,
                a_foreign_organisation_sees_nothing,
                a_foreign_device_can_neither_take_nor_finish,
            ],
            taking: [
                two_concurrent_polls_never_get_the_same_task,
                polls_follow_the_selection_order,
                an_ack_moves_ready_to_pending_and_nothing_else,
                a_repeated_request_gets_the_same_task,
                a_lapsed_task_may_be_polled_again,
                a_partial_result_starts_the_lease_anew,
                a_push_only_task_is_never_polled_and_expires_after_a_minute,
            ],
            finishing: [
                a_status_code_decides_between_done_and_failed,
                a_repeated_result_is_stored_once,
                a_late_result_is_stored_and_moves_nothing,
                a_task_expires_at_the_instant,
                delete_ends_every_state,
                the_result_that_ends_a_task_is_taken_beyond_the_limit,
                those_who_wait_are_told_even_if_the_caller_hung_up,
            ],
            announcing: [
                a_device_that_connects_is_told_best_first_within_the_window,
                a_new_task_is_announced_to_a_device_that_listens,
                a_lapsed_task_is_announced_again,
                every_lapse_is_announced_however_many_share_an_instant,
                a_task_is_announced_even_if_its_maker_hung_up,
                what_is_answered_during_a_look_up_is_not_announced_again,
                what_opens_during_a_look_up_is_announced,
                a_look_up_for_an_earlier_connection_is_not_used,
            ],
            committing: [
                concurrent_writes_share_commits,
                a_refused_operation_does_not_hurt_its_group,
                a_faulty_job_does_not_hurt_its_group,
                the_queue_is_bounded,
            ],
            listing: [
                pages_are_newest_first_and_their_totals_hold,
                filters_select,
                counts_equal_a_recount,
            ],
            devices: [
                numbers_and_serial_numbers_are_unique,
                a_revoked_certificate_admits_nobody,
                a_reused_serial_number_inherits_nothing,
                presence_keeps_the_instant_of_the_last_connect,
                tags_are_set_replaced_and_bounded,
                api_keys_are_known_until_they_are_revoked,
            ],
        }
    };
    (@ $store:ident, $bench:expr, $($part:ident: [$($case:ident,)*],)*) => {
        mod $store {
            $(mod $part {
                #[allow(unused_imports)]
                use super::super::*;
                $(#[test]
                fn $case() {
                    crate::$part::$case($bench);
                })*
            })*
        }
    };
}

battery!(sqlite, crate::bench::sqlite::SqliteBench::new());
battery!(postgres, crate::bench::postgres::PostgresBench::new());
