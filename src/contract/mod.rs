//! The contract of a store, as tests that any store can be held against: ours and somebody else's.
//!
//! Write a [`Bench`] that makes a fresh place for leases, and name it once:
//!
//! ```
//! use std::sync::Arc;
//!
//! use component_lease::clock::SystemClock;
//! use component_lease::contract::Bench;
//! use component_lease::store::{LeaseStore, MemoryStore, StoreError};
//! use component_lease::store_contract;
//!
//! struct Mine(Arc<MemoryStore>);
//!
//! #[async_trait::async_trait]
//! impl Bench for Mine {
//!     fn open(&self) -> Arc<dyn LeaseStore> {
//!         self.0.clone()
//!     }
//!
//!     async fn retryable(&self) -> Option<StoreError> {
//!         None
//!     }
//! }
//!
//! store_contract! {
//!     mine: Mine(Arc::new(MemoryStore::new(Arc::new(SystemClock)))),
//!     left_out: {
//!         a_retryable_error_delays_a_participant_and_costs_no_term: "no call within a process fails",
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! This makes a module `mine` with a test for each behaviour. What a store does not do is left out by name, with
//! the reason: a behaviour, or all of [`Epochs`](crate::store::Epochs), [`Directory`](crate::store::Directory) or
//! [`Roster`](crate::store::Roster).
//! Nothing is left out for longer than it must be: a behaviour that is left out and holds fails its test, and so does
//! one that is left out and does not exist.
//!
//! The feature is `contract`, for `[dev-dependencies]`; the tests need `tokio` with its macros.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(
    clippy::missing_panics_doc,
    reason = "a test panics where it fails, and its name says what then breaks"
)]

pub mod asked;
pub mod directory;
pub mod epochs;
pub mod history;
pub mod lease;
pub mod roster;
mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::LocalSet;

use crate::store::{LeaseStore, StoreError};

/// The most that anything may take that is waited for.
pub const SOON: Duration = Duration::from_secs(10);

/// A fresh and empty place for leases. Each test has one of its own.
#[async_trait]
pub trait Bench: Send + Sync + 'static {
    /// A store with connections of its own on these rows, as another process would open it.
    fn open(&self) -> Arc<dyn LeaseStore>;

    /// An error that this store calls retryable, and that it made itself: of a server that is not there, or of a
    /// lock that somebody holds. `None` where no call can fail.
    async fn retryable(&self) -> Option<StoreError>;
}

/// Runs one behaviour, or holds that it must be left out. What [`store_contract!`](crate::store_contract) makes
/// calls this.
#[doc(hidden)]
pub async fn holds<F: Future<Output = ()> + 'static>(
    bench: Arc<dyn Bench>,
    group: &str,
    name: &str,
    left_out: &[(&str, &str)],
    behaviour: fn(Arc<dyn Bench>) -> F,
) {
    let has = match group {
        "Epochs" => bench.open().epochs().is_some(),
        "Directory" => bench.open().directory().is_some(),
        "Roster" => bench.open().roster().is_some(),
        _ => true,
    };
    if let Some((_, why)) = left_out.iter().find(|(left_out, _)| *left_out == group) {
        assert!(!has, "{group} is left out ({why}), but the store says that it has it");
        return;
    }
    assert!(has, "the store says that it has no {group}: leave it out with the reason, or return it");
    let Some((_, why)) = left_out.iter().find(|(left_out, _)| *left_out == name) else {
        return behaviour(bench).await;
    };
    let here = LocalSet::new();
    let ended = here.run_until(async { tokio::task::spawn_local(behaviour(bench)).await }).await;
    assert!(ended.is_err_and(|error| error.is_panic()), "{name} is left out ({why}), but it holds");
}

/// Refuses what is left out and does not exist.
#[doc(hidden)]
pub fn exist(left_out: &[(&str, &str)], behaviours: &[&str]) {
    for (name, why) in left_out {
        assert!(
            ["Epochs", "Directory", "Roster"].contains(name) || behaviours.contains(name),
            "{name} is left out, but there is no such behaviour"
        );
        assert!(!why.trim().is_empty(), "{name} is left out without a reason");
    }
}

/// Makes a module of tests that hold a store against the contract: see [`contract`](crate::contract).
#[macro_export]
macro_rules! store_contract {
    ($engine:ident: $bench:expr, left_out: { $($left_out:ident: $why:literal),* $(,)? } $(,)?) => {
        $crate::store_contract! {
            @tests $engine, $bench, [$((stringify!($left_out), $why)),*],
            lease LeaseStore {
                a_missing_row_is_seen_as_missing_with_the_databases_clock,
                a_take_on_a_missing_row_begins_a_term_at_the_databases_time,
                a_take_that_expects_no_row_is_lost_where_there_is_one,
                a_take_that_expects_a_row_is_lost_where_there_is_none,
                a_take_is_lost_when_version_or_renew_time_is_not_as_seen,
                a_renewal_between_sight_and_take_makes_the_take_fail,
                a_row_that_is_as_seen_can_be_seized,
                of_many_takes_at_once_exactly_one_is_applied,
                a_renewal_always_raises_renew_time_and_changes_nothing_else,
                only_holder_and_version_together_renew_or_release,
                a_release_empties_the_holder_and_keeps_row_and_version,
                a_released_row_can_be_taken_with_the_next_version,
                names_are_compared_byte_by_byte,
                the_longest_names_and_largest_versions_are_kept_whole,
                a_change_of_holder_wakes_who_listens,
                a_call_that_is_dropped_leaves_the_store_usable,
                calls_at_once_on_one_store_all_get_their_own_answer,
                a_retryable_error_delays_a_participant_and_costs_no_term,
            }
            epochs Epochs {
                a_take_is_applied_in_its_own_epoch_only,
                an_epoch_begins_once_however_many_saw_the_change,
                the_recorded_server_itself_begins_no_epoch_unless_asked_for,
                settled_is_written_for_exactly_this_generation_and_cleared_with_the_next,
                the_history_has_a_line_for_each_term,
                of_many_insertions_one_is_applied_and_its_history_is_written_with_it,
                an_insertion_looks_at_the_history,
                a_late_release_is_applied_in_the_life_of_its_term_only,
            }
            directory Directory {
                a_standing_ttl_is_seen_by_every_look_until_it_is_cleared,
                whom_a_resource_prefers_is_seen_by_every_look_and_cleared_with_the_ttl,
                a_look_shows_rows_and_intents_of_those_it_asks_for_and_of_nobody_else,
                ten_thousand_components_are_looked_at_by_one_call,
                a_start_is_written_down_with_all_that_is_known_of_it,
                what_is_not_known_is_left_out,
                how_each_kind_of_participant_works_and_what_it_promises_reads_as_it_was_told,
                a_heartbeat_moves_the_row_and_says_what_is_now,
                a_heartbeat_that_is_out_of_date_stays_and_a_new_row_begins,
                a_life_that_says_it_has_ended_is_over_at_once,
                nobody_moves_somebody_elses_heartbeat,
                rows_and_instances_come_in_one_look_and_a_plain_look_has_none,
                of_many_instances_the_holder_comes_first_then_who_says_that_it_leads_then_the_newest,
                a_component_that_the_history_does_not_know_has_lived_if_somebody_says_that_it_led_it,
                instances_that_ended_long_ago_can_be_pruned_and_the_others_stay,
            }
            asked Directory {
                a_request_is_seen_by_every_look_until_it_is_taken_back,
                a_request_is_written_in_its_own_term_only,
                of_two_operators_at_once_one_is_heard,
                a_request_carries_all_that_was_asked,
                while_paused_no_row_is_taken_and_the_leader_goes_on,
                a_pause_is_made_and_ended_only_in_place_of_the_one_that_was_seen,
                requests_pauses_and_ttls_do_not_touch_each_other,
                a_leader_makes_way_for_the_target_of_a_request,
            }
            history Directory {
                components_are_listed_by_their_rows_in_order_and_page_by_page,
                terms_are_told_newest_first_and_page_by_page,
                the_end_of_a_term_is_written_once_and_nothing_else_of_its_line,
                who_asked_for_the_end_of_a_term_is_told_with_it,
                old_terms_are_forgotten_and_never_the_last,
            }
            roster Roster {
                a_record_is_written_by_the_leader_of_its_term_only_and_outlives_it,
                of_a_leader_and_its_successor_only_one_can_write_the_record,
                each_member_says_its_own_and_others_are_read_by_name,
                what_is_asked_of_a_member_stands_beside_what_it_says_until_it_is_taken_back,
                a_record_and_a_renewal_do_not_undo_each_other,
                what_is_too_long_is_refused_and_nothing_is_changed,
                a_take_begins_above_what_its_store_was_told,
            }
        }
    };
    (
        @tests $engine:ident, $bench:expr, $left_out:expr,
        $($module:ident $group:ident { $($name:ident,)* })*
    ) => {
        mod $engine {
            use super::*;

            const LEFT_OUT: &[(&str, &str)] = &$left_out;

            $($(
                #[tokio::test]
                async fn $name() {
                    let behaviour = $crate::contract::$module::$name;
                    let bench: std::sync::Arc<dyn $crate::contract::Bench> = std::sync::Arc::new($bench);
                    $crate::contract::holds(bench, stringify!($group), stringify!($name), LEFT_OUT, behaviour).await;
                }
            )*)*

            #[test]
            fn what_is_left_out_exists_and_has_a_reason() {
                $crate::contract::exist(LEFT_OUT, &[$($(stringify!($name)),*),*]);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{MemoryStore, Outcome};

    struct Memory(Arc<MemoryStore>);

    #[async_trait]
    impl Bench for Memory {
        fn open(&self) -> Arc<dyn LeaseStore> {
            self.0.clone()
        }

        async fn retryable(&self) -> Option<StoreError> {
            None
        }
    }

    /// Whether the test of this behaviour passes.
    async fn passes<F: Future<Output = ()> + 'static>(
        left_out: &'static [(&'static str, &'static str)],
        group: &'static str,
        behaviour: fn(Arc<dyn Bench>) -> F,
    ) -> bool {
        let bench: Arc<dyn Bench> = Arc::new(Memory(Arc::new(MemoryStore::new(Arc::new(SystemClock)))));
        let here = LocalSet::new();
        let held = async { tokio::task::spawn_local(holds(bench, group, "it", left_out, behaviour)).await };
        here.run_until(held).await.is_ok()
    }

    async fn kept(bench: Arc<dyn Bench>) {
        let term = support::term("c", "a", 1);
        assert_eq!(bench.open().renew(&term).await.unwrap(), Outcome::Lost);
    }

    async fn broken(bench: Arc<dyn Bench>) {
        let term = support::term("c", "a", 1);
        assert_eq!(bench.open().renew(&term).await.unwrap(), Outcome::Applied);
    }

    #[tokio::test]
    async fn a_behaviour_passes_where_it_holds_or_is_left_out_because_it_does_not() {
        const LEFT_OUT: &[(&str, &str)] = &[("it", "for a reason")];
        assert!(passes(&[], "LeaseStore", kept).await);
        assert!(!passes(&[], "LeaseStore", broken).await);
        assert!(passes(LEFT_OUT, "LeaseStore", broken).await);
        assert!(!passes(LEFT_OUT, "LeaseStore", kept).await, "nothing is left out that holds");
        assert!(
            !passes(&[("Epochs", "for a reason")], "Epochs", kept).await,
            "the store says that it has them"
        );
    }

    #[test]
    #[should_panic(expected = "there is no such behaviour")]
    fn what_is_left_out_must_exist() {
        exist(&[("it", "for a reason")], &["that"]);
    }
}
