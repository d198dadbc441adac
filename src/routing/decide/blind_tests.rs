//! What is decided when the database does not answer, the row was never seen or is older than the pods.

use std::time::Duration;

use super::super::fixtures::*;
use super::super::observed::{OnDatabaseUnreachable, RowSight};
use super::super::report::holder_pod;
use super::*;

#[test]
fn with_the_store_unreachable_and_keep_the_label_outlives_the_lease() {
    let pods = vec![pod("a").marked("leader", 7), pod("b").marked("leader", 7)];
    let o =
        Observed { memory: remembers("a", 7), store: down(), now: S(999), ..observed(held_by("a", 7), pods) };
    let plan = plan(&o);
    assert!(matches!(plan.lead, Lead::LastKnown(_)));
    assert_eq!((names(&plan.strip), plan.label), (vec!["b"], None), "foreign labels go all the same");
}

#[test]
fn with_the_store_unreachable_and_remove_the_label_goes_when_the_last_known_lease_has_run_out() {
    let mut o = observed(held_by("a", 7), vec![pod("a").marked("leader", 7)]);
    o.memory = remembers("a", 7);
    o.store = down();
    o.desired.on_database_unreachable = OnDatabaseUnreachable::Remove;
    assert!(touches_no_pod(&plan(&o)));
    let late = plan(&Observed { now: S(105), ..o });
    assert_eq!((names(&late.strip), labelled(&late)), (vec!["a"], None));
}

/// A controller that started at 95 s and has not seen the row yet.
fn just_started(pods: Vec<Pod>) -> Observed {
    let o = observed(row("", 0), pods);
    Observed { memory: remembers("a", 7), row: RowSight::Never { since: S(95) }, ..o }
}

#[test]
fn a_row_that_was_never_seen_keeps_the_label_and_strips_foreign_ones() {
    let pods =
        vec![pod("a").marked("leader", 7), pod("b").label(KEY, "leader"), pod("c").marked("standby", 7)];
    for (store, now) in [(StoreSight::Answers, S(96)), (down(), S(999))] {
        let plan = plan(&Observed { store, now, ..just_started(pods.clone()) });
        assert_eq!(plan.lead, Lead::Unknown);
        assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["b"], vec![], None));
        assert_eq!(plan.strip[0].annotations, [].into(), "there is no version to stamp with");
    }
}

#[test]
fn a_status_that_is_older_than_the_labels_neither_labels_nor_strips_before_the_row_is_seen() {
    // The controller before us labelled b with version 8 and ended before it wrote the status.
    let pods = vec![pod("a").marked("standby", 8), pod("b").marked("leader", 8)];
    assert!(touches_no_pod(&plan(&just_started(pods))));
}

#[test]
fn a_row_that_was_never_seen_and_remove_strips_everybody_after_one_ttl_and_stamps_nothing_lower() {
    let mut o = just_started(vec![pod("a").marked("leader", 7), pod("b").marked("standby", 9)]);
    o.desired.on_database_unreachable = OnDatabaseUnreachable::Remove;
    assert!(touches_no_pod(&plan(&Observed { now: S(999), ..o.clone() })), "the store may yet answer");
    o.store = down();
    assert!(touches_no_pod(&plan(&Observed { now: S(105) - Duration::from_millis(1), ..o.clone() })));
    let plan = plan(&Observed { now: S(105), ..o });
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec![], None));
    assert_eq!((plan.version, plan.transition), (7, false));
    assert!(plan.events.is_empty(), "nobody is known to have released anything");
}

#[test]
fn a_controller_that_has_just_started_gives_an_old_row_one_ttl() {
    // The row is years old by the database's clock; only our own boot clock since the first sight counts.
    let mut o = observed(held_by("a", 7), vec![pod("a").marked("leader", 7)]);
    o.row = RowSight::Seen { row: Some(held_by("a", 7)), since: S(100) };
    assert!(matches!(plan(&o).lead, Lead::Held(_, until) if until == S(110)));
}

#[test]
fn a_row_older_than_a_pods_stamp_is_looked_at_again_before_anything_is_touched() {
    let pods = vec![pod("a").marked("leader", 6), pod("b").marked("standby", 7)];
    let o = observed(held_by("a", 6), pods);
    assert!(matches!(decide(&o), Decision::LookAgain));
    let same = vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6)];
    assert!(matches!(decide(&Observed { pods: Ok(same), ..o.clone() }), Decision::Act(_)));
    let free = Observed { row: RowSight::Seen { row: None, since: S(95) }, ..o };
    assert!(matches!(decide(&free), Decision::LookAgain), "a missing row is older than any stamp");
}

#[test]
fn once_confirmed_the_database_is_believed_and_higher_stamps_are_overwritten() {
    let pods = vec![pod("a").marked("leader", 3), pod("b").marked("standby", 41)];
    let plan = plan(&Observed { row_confirmed: true, ..observed(held_by("a", 3), pods) });
    assert_eq!(names(&plan.stamp), ["b"]);
    assert_eq!(plan.stamp[0].annotations[VERSION], some("3"));
}

#[test]
fn a_controller_that_is_behind_and_cannot_ask_undoes_nothing_of_one_that_knows_more() {
    let pods = vec![pod("a").marked("standby", 8), pod("b").marked("leader", 8)];
    for now in [S(100), S(999)] {
        let o = Observed { store: down(), now, ..observed(held_by("a", 7), pods.clone()) };
        let plan = plan(&Observed { memory: remembers("a", 7), ..o });
        assert_eq!(plan.lead, Lead::Unknown);
        assert!(touches_no_pod(&plan));
    }
    let freed = Observed { store: down(), ..observed(row("", 7), pods) };
    assert!(touches_no_pod(&plan(&freed)), "a row that was free then may be held now");
}

#[test]
fn with_the_pods_unlisted_nothing_is_planned_and_what_was_recorded_of_the_leaders_pod_stays() {
    let mut o = observed(held_by("a", 7), vec![]);
    o.memory = remembers("a", 7);
    o.pods = Err("forbidden".into());
    let plan = plan(&o);
    assert!(touches_no_pod(&plan) && plan.leader.is_none());
    assert_eq!(holder_pod(&o, &plan), o.memory.holder_pod);
}

#[test]
fn another_database_moves_no_label_whatever_it_says_and_however_long_it_answers() {
    let pods = vec![pod("a").marked("leader", 7), pod("b").marked("standby", 7)];
    for policy in [OnDatabaseUnreachable::Keep, OnDatabaseUnreachable::Remove] {
        for there in [Some(held_by("b", 90)), Some(row("", 3)), None] {
            let sights = [RowSight::Never { since: S(1) }, RowSight::Seen { row: there, since: S(1) }];
            for row in sights {
                let mut o = observed(held_by("b", 90), pods.clone());
                (o.memory, o.row, o.now) = (remembers("a", 7), row, S(9999));
                o.store = StoreSight::Another("uuid-b answers".into());
                o.desired.on_database_unreachable = policy;
                let plan = plan(&o);
                assert!(touches_no_pod(&plan) && !plan.intend, "{plan:?}");
                assert_eq!(
                    (plan.lead, plan.ended, plan.events, plan.next),
                    (Lead::Unknown, None, vec![], None)
                );
            }
        }
    }
}
