//! The battery that every store must pass, written once over the public ports
//! and the engine. A store joins with one line, `battery!(name, its backend)`: the core runs it on SQLite,
//! `covey-store` on all its stores.

pub mod announcing;
pub mod audit;
pub mod background;
pub mod certificates;
pub mod committing;
pub mod device_sessions;
pub mod devices;
pub mod enrolment;
pub mod events;
pub mod finishing;
pub mod following;
pub mod grants;
pub mod listing;
pub mod making;
pub mod microcontrollers;
pub mod nodes;
pub mod organisations;
pub mod own_limits;
pub mod people;
pub mod presence;
pub mod quotas;
pub mod records;
pub mod retention;
pub mod series;
pub mod taking;
pub mod tokens;
pub mod twins;
pub mod units;
pub mod usage;
pub mod webhooks;

/// Makes a module of tests, one for each part of the battery, on a store's backend.
macro_rules! battery {
    ($store:ident, $backend:expr) => {
        battery! { @ $store, $backend,
            making: [
                a_created_task_is_there_after_reopening,
                fields_come_back_as_they_were_sent,
                the_same_idempotency_key_makes_one_task,
                a_call_is_woken_by_its_end_alone,
                a_call_that_makes_no_task_does_not_wait,
                an_idempotency_key_is_forgotten_after_its_time,
                a_device_has_no_more_open_tasks_than_the_limit,
                several_tasks_are_made_together_in_their_order_or_not_at_all,
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
                a_task_too_large_for_its_device_fails_once_and_those_who_wait_are_told,
                the_result_that_ends_a_task_is_taken_beyond_the_limit,
                results_are_bounded_in_bytes,
                a_final_task_takes_few_more_results,
                a_result_that_is_too_large_ends_its_task_and_is_not_stored,
                those_who_wait_are_told_even_if_the_caller_hung_up,
                the_newest_results_are_given_and_the_others_page_by_page,
            ],
            announcing: [
                a_device_that_connects_is_told_best_first_within_the_window,
                a_new_task_is_announced_to_a_device_that_listens,
                a_lapsed_task_is_announced_again,
                lapses_are_read_in_their_order_and_page_by_page,
                every_lapse_is_announced_however_many_share_an_instant,
                a_task_is_announced_even_if_its_maker_hung_up,
                what_is_answered_during_a_look_up_is_not_announced_again,
                what_opens_during_a_look_up_is_announced,
                a_look_up_for_an_earlier_connection_is_not_used,
                devices_that_come_back_at_once_are_looked_at_together_and_no_more_than_may_be,
            ],
            committing: [
                concurrent_writes_share_commits,
                a_refused_operation_does_not_hurt_its_group,
                a_faulty_job_does_not_hurt_its_group,
                the_queue_is_bounded,
                an_organisation_with_much_waiting_delays_others_by_one_group,
            ],
            listing: [
                pages_are_newest_first_and_their_totals_hold,
                filters_select,
                counts_equal_a_recount,
            ],
            devices: [
                numbers_and_serial_numbers_are_unique,
                a_revoked_certificate_admits_nobody,
                a_device_without_a_certificate_is_called_and_not_admitted,
                a_reused_serial_number_inherits_nothing,
                presence_keeps_the_instant_of_the_last_connect,
                tags_are_set_replaced_and_bounded,
                api_keys_are_known_until_they_are_revoked,
                api_keys_have_an_end_and_places_and_make_none_that_has_less_of_either,
                who_keeps_the_keys_of_an_organisation_reaches_no_other,
                a_certificate_loses_its_rights_with_its_device,
                an_organisation_is_told_of_taken_serial_numbers_so_often_a_minute,
                the_last_use_of_a_key_is_known_to_a_minute,
                a_recovered_key_takes_the_place_of_those_that_may_make_keys,
                a_store_without_any_key_is_not_recovered,
            ],
            certificates: [
                a_certificate_is_revoked_alone_for_ever_and_with_what_stands_for_it,
                certificates_are_found_by_what_they_are_and_by_their_organisation_alone,
                who_asks_what_was_revoked_is_told_all_of_it,
                who_was_granted_some_devices_sees_and_revokes_their_certificates_alone,
                a_revoked_certificate_of_another_ca_does_not_come_back_with_its_device,
                what_another_server_revoked_is_found_though_nobody_told,
                what_stands_for_a_certificate_of_another_ca_goes_with_it,
                whoever_renewed_with_a_stolen_key_is_kept_out_too,
            ],
            device_sessions: [
                a_session_comes_back_as_it_was_kept,
                a_session_that_somebody_has_changed_is_not_changed_again,
                a_session_ends_when_its_device_was_away_for_its_time,
                a_session_goes_with_its_device,
                what_is_kept_of_a_session_is_bounded,
            ],
            presence: [
                coming_and_going_are_told_at_once,
                a_connection_in_the_place_of_another_is_told_as_an_end_and_a_beginning,
                what_happens_within_one_group_is_told_in_its_order,
                a_device_that_comes_and_goes_all_the_time_is_told_of_once_it_is_quiet,
                what_a_server_held_is_told_later_and_not_of_those_who_came_back,
            ],
            twins: [
                each_side_counts_its_versions,
                a_condition_that_does_not_hold_changes_nothing,
                a_newer_wish_takes_the_place_of_one_that_was_not_taken,
                what_a_device_reports_with_an_event_is_told_after_it,
                a_twin_has_room_for_so_many_resources,
                changes_of_one_group_come_one_after_the_other,
            ],
            organisations: [
                organisations_are_made_renamed_and_seen_by_who_keeps_them,
            ],
            grants: [
                whoever_was_granted_a_part_sees_that_part_and_no_more,
                whoever_was_granted_a_part_changes_that_part_and_no_more,
                a_stream_tells_what_was_granted_and_no_more,
                grants_come_back_as_they_were_given_and_are_not_given_on_beyond_themselves,
                a_grant_tells_nothing_of_who_had_the_number_of_a_device_before,
                nobody_widens_its_grants_by_tags_and_keys,
                who_may_not_see_a_device_is_not_told_of_it_by_an_explanation,
            ],
            nodes: [
                whoever_comes_joins_where_that_is_open_and_is_known_by_a_read_then,
                a_newcomer_waits_until_somebody_says_yes_and_is_refused_after_a_no,
                those_that_are_listed_or_registered_join_whoever_else_may,
                newcomers_that_wait_are_bounded_and_the_oldest_gives_way,
                nodes_that_are_blocked_count_and_those_that_wait_do_not,
                a_passing_node_is_a_device_as_long_as_it_is_there,
                a_node_that_is_retired_leaves_presence_as_any_device,
                values_are_reported_without_an_event_as_they_came,
                what_one_device_may_not_report_keeps_back_nothing_of_others,
                what_is_to_be_written_comes_one_after_the_other,
                what_no_node_can_do_ends_at_once_and_says_why,
                a_newer_write_takes_the_place_of_older_ones_that_it_covers,
            ],
            tokens: [
                keys_for_tokens_are_known_to_all_until_they_are_over,
                keys_for_tokens_that_are_over_make_room_for_others,
                a_token_names_what_is_there,
                a_token_is_within_what_its_key_may,
            ],
            units: [
                a_unit_that_is_listed_is_there_after_a_restart_and_gateways_are_told,
                no_two_units_have_one_name_or_one_address,
                a_unit_is_where_units_may_be,
                one_server_speaks_with_the_units_of_an_organisation,
                units_of_others_are_neither_seen_nor_changed,
            ],
            enrolment: [
                a_claim_enrols_each_serial_number_once_and_so_many_in_all,
                a_claim_is_for_as_many_devices_as_are_listed_each_counted_once,
                a_claim_does_not_tell_for_ever_which_serial_numbers_others_have,
                certificates_are_paid_for_before_they_are_made,
                a_device_that_enrols_again_is_the_same_or_was_released,
                a_certificate_is_renewed_by_one_that_is_good_or_ended_not_long_ago,
                a_device_has_so_many_certificates_and_gets_so_many_a_day,
            ],
            microcontrollers: [
                a_name_is_that_of_a_microcontroller_or_of_another_device_and_stays_so,
                each_registration_adds_a_certificate_and_the_newest_stay_good,
                a_microcontroller_is_told_of_one_call_at_a_time_for_each_answer,
                what_no_microcontroller_can_do_ends_at_once_and_says_why,
                a_call_that_was_left_is_not_made_again_and_comes_before_every_later_one,
                a_call_lives_as_long_as_an_answer_is_waited_for,
            ],
            audit: [
                who_opened_which_cell_is_one_question,
                what_changes_nothing_is_not_told_and_no_secret_is,
                pages_of_the_log_follow_each_other_and_miss_nothing,
                what_was_ended_before_is_not_told_again,
                a_key_that_ends_with_a_certificate_is_told_and_an_organisation_that_a_key_makes,
                who_keeps_the_log_for_longer_than_others_acts_for_all,
                who_may_not_read_the_log_does_not,
                refusals_are_told_as_few_entries,
                the_chain_holds_over_restarts_and_loses_its_oldest_rows_alone,
            ],
            people: [
                a_link_is_good_once_and_for_a_time_and_signs_in,
                nobody_gives_what_it_has_not_and_people_of_others_do_not_exist,
                a_session_ends_by_time_by_silence_by_number_and_by_what_becomes_of_its_person,
                the_first_person_is_made_once,
                an_account_of_a_provider_is_one_person,
            ],
            background: [
                tasks_expire_at_their_instant,
            ],
            retention: [
                each_kind_is_forgotten_at_its_time,
                organisations_keep_for_times_of_their_own,
                what_is_kept_for_ever_is,
            ],
            quotas: [
                who_keeps_as_much_as_may_be_stores_nothing_new,
                an_organisation_has_a_quota_over_all_its_devices,
                what_a_killed_server_had_counted_is_counted_again,
                a_server_that_is_killed_while_it_writes_has_counted_all_once,
                the_parameters_of_a_deleted_task_are_gone_at_once,
                what_is_told_of_a_task_that_has_ended_is_new,
                what_was_never_counted_frees_nothing_when_it_is_deleted,
                days_are_forgotten_of_each_organisation_at_its_time,
                what_the_server_answers_for_a_device_is_counted,
                an_organisation_that_keeps_as_much_as_it_may_gets_no_new_webhook,
            ],
            own_limits: [
                who_keeps_an_organisations_keys_sets_their_limits_and_none_above_its_own,
                what_an_organisation_may_keep_and_have_open_is_its_own,
                what_an_organisation_may_ask_is_its_own,
            ],
            usage: [
                what_was_used_is_kept_for_400_days,
                many_devices_are_counted_once_each_however_they_are_settled,
                nobody_is_told_what_another_organisation_has_used,
            ],
            events: [
                an_event_is_stored_once,
                events_of_one_group_are_stored_once,
                an_event_comes_back_as_it_was_sent,
                lists_of_events_are_filtered_and_paged_in_two_ways,
                a_caller_is_given_each_event_once,
                a_gauge_keeps_its_last_body,
                lists_of_large_bodies_end_early_or_are_refused,
                lists_of_devices_with_much_about_them_are_refused,
                what_is_beyond_a_budget_is_refused_and_changes_nothing,
            ],
            series: [
                a_field_is_sought_in_the_first_object_and_then_at_the_top,
                a_field_of_a_gauge_is_in_its_last_body,
                a_series_gathers_numbers_and_nothing_else,
                a_series_takes_the_smallest_of_all_integers,
                a_series_of_any_type_leaves_out_what_servers_noted,
                a_deep_body_and_a_long_number_hurt_nobody,
                what_may_cost_much_is_bounded_for_each_organisation,
            ],
            records: [
                every_change_is_told_with_what_it_is_about,
                pages_of_records_follow_each_other,
                a_page_of_records_ends_before_it_has_too_many_bytes,
                a_reader_that_follows_misses_nothing_and_repeats_nothing,
                a_follower_begins_where_it_was_and_goes_on_live,
            ],
            following: [
                whoever_follows_misses_nothing_and_hears_nothing_twice,
                one_who_is_too_slow_is_cut_off_and_goes_on_where_he_was,
                a_cursor_that_was_never_given_is_refused,
            ],
            webhooks: [
                an_endpoint_comes_back_as_it_was_set,
                an_endpoint_begins_at_the_end_of_the_outbox,
                an_endpoint_is_held_by_one_server,
                what_was_done_is_kept,
                a_log_has_an_end,
                deliveries_wait_die_and_come_back,
                deliveries_after_the_position_are_known,
                a_deleted_endpoint_leaves_nothing,
            ],
        }
    };
    (@ $store:ident, $backend:expr, $($part:ident: [$($case:ident,)*],)*) => {
        mod $store {
            $(mod $part {
                $(#[test]
                fn $case() {
                    crate::battery::$part::$case($backend);
                })*
            })*
        }
    };
}
