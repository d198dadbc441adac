//! Label keys: changed ones, those of other leases, those of somebody else.

use super::super::fixtures::*;
use super::super::observed::Memory;
use super::super::observed::RowSight;
use super::super::pod::{End, Incarnation};
use super::*;
use crate::election::HolderId;
use crate::membership::Instance;
use crate::membership::SeenInstance;
use crate::membership::Whereabouts;
use crate::membership::instance::{Mode, Promise};

#[test]
fn the_label_key_of_the_last_status_is_removed_with_the_label() {
    let old = "componentlease.io/old";
    let pods = vec![pod("a").label(old, "standby").stamp(7), pod("b").label(old, "leader").stamp(7)];
    let mut o = observed(held_by("b", 7), pods);
    o.memory = Memory { applied: Some(scheme(old, "leader")), ..remembers("b", 7) };
    let plan = plan(&o);
    assert_eq!(plan.stamp[0].labels, [(KEY.to_owned(), some("standby")), (old.to_owned(), None)].into());
    assert_eq!(
        plan.label.unwrap().labels,
        [(KEY.to_owned(), some("leader")), (old.to_owned(), None)].into(),
        "one patch, so that the pod is never without"
    );
    assert!(plan.strip.is_empty());
}

#[test]
fn a_pod_that_leads_under_the_old_key_is_stripped_before_another_is_labelled() {
    let old = "componentlease.io/old";
    let pods = vec![pod("a").label(old, "leader").stamp(6), pod("b").label(old, "standby").stamp(6)];
    let mut o = observed(held_by("b", 7), pods);
    o.memory.applied = Some(scheme(old, "leader"));
    let plan = plan(&o);
    assert_eq!((names(&plan.strip), labelled(&plan)), (vec!["a"], Some("b")));
}

#[test]
fn a_label_key_that_only_the_pods_own_annotation_remembers_is_removed() {
    let mut a = pod("a").label("example.org/role", "leader").stamp(6);
    a.annotations.insert(LABEL.into(), "example.org/role".into());
    let plan = plan(&observed(held_by("b", 7), vec![a, pod("b")]));
    assert_eq!(names(&plan.strip), ["a"], "it carries the leader label, if under another key");
    assert_eq!(plan.strip[0].labels["example.org/role"], None);
    assert_eq!(plan.strip[0].annotations[LABEL], None, "the default key needs no annotation");
}

#[test]
fn a_key_of_ones_own_choice_is_written_down_on_the_pod() {
    let mut o = observed(held_by("a", 7), vec![pod("a")]);
    o.desired.labels = scheme("example.org/role", "leader");
    let change = plan(&o).label.unwrap();
    assert_eq!(change.annotations[LABEL], some("example.org/role"));
}

#[test]
fn an_old_key_that_the_selector_reads_is_not_removed() {
    let mut o = observed(held_by("a", 7), vec![pod("a").marked("leader", 7)]);
    o.memory = Memory { applied: Some(scheme("app", "leader")), ..remembers("a", 7) };
    assert!(touches_no_pod(&plan(&o)));
}

#[test]
fn a_changed_leader_value_strips_the_pod_that_carries_the_old_one() {
    let pods = vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6)];
    let mut o = Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), pods) };
    o.desired.labels.leader = "active".into();
    let plan = plan(&o);
    assert_eq!(names(&plan.strip), ["a"]);
    assert_eq!(plan.label.unwrap().labels[KEY], some("active"));
}

#[test]
fn two_leases_on_the_same_pods_do_not_touch_each_others_keys() {
    let mut a = pod("a").marked("leader", 6).label("componentlease.io/db", "leader");
    a.annotations.insert("componentlease.io/db-version".into(), "900".into());
    let plan = plan(&Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), vec![a, pod("b")]) });
    for change in plan.strip.iter().chain(&plan.stamp).chain(&plan.label) {
        assert!(change.labels.keys().chain(change.annotations.keys()).all(|key| !key.contains("/db")));
    }
    assert_eq!(names(&plan.strip), ["a"], "900 is the other lease's version and starts no second look");
}

/// The holder of the row says that it runs in this namespace.
fn told(o: &mut Observed, namespace: &str) {
    let RowSight::Seen { row: Some(row), .. } = &o.row else { panic!("no row") };
    let says = Instance {
        component: o.desired.component.clone(),
        holder: HolderId::new(row.holder.clone()).unwrap(),
        lasts: 90,
        whereabouts: Whereabouts { namespace: Some(namespace.into()), ..Whereabouts::default() },
        program_version: None,
        mode: Some(Mode::Embedded),
        promise: Some(Promise::NONE),
        priority: None,
        healthy: true,
        leads: Some(row.version),
    };
    o.instances = vec![SeenInstance::begin(1, &says, 1_000)];
}

#[test]
fn a_row_whose_holder_runs_in_another_namespace_gets_neither_the_label_nor_the_ttl() {
    let mut o = observed(held_by("a", 7), vec![pod("a").marked("leader", 6), pod("b")]);
    told(&mut o, "shop");
    let own = plan(&o);
    assert!(own.intend && labelled(&own) == Some("a"));
    told(&mut o, "elsewhere");
    let foreign = plan(&o);
    assert!(!foreign.intend);
    assert_eq!(labelled(&foreign), None);
    assert_eq!(names(&foreign.strip), ["a"], "who led before does not lead any more");
    // Also when it no longer renews: it may be back.
    o.now = S(200);
    assert!(!plan(&o).intend);
}

#[test]
fn a_holder_in_another_namespace_is_not_released_by_what_ended_here() {
    let mut a = pod("a");
    let end = End { at: Some(90_000), guessed: false };
    a.containers[0].now = Incarnation::Ended { id: Some("containerd://a".into()), end };
    let mut o = observed(held_by("a", 7), vec![a]);
    o.memory = remembers("a", 7);
    told(&mut o, "shop");
    assert!(plan(&o).ended.is_some());
    told(&mut o, "elsewhere");
    assert!(plan(&o).ended.is_none());
}

/// A pod of another app that lease `db` has stamped and labelled under the key of lease `web`.
fn of_db(key: &str) -> Pod {
    let mut pod = pod("d").label(key, "leader").label("app", "db");
    pod.annotations = strings(&[("componentlease.io/db-version", "3"), ("componentlease.io/db-label", key)]);
    pod
}

#[test]
fn a_lease_with_other_pods_may_use_the_same_key() {
    let mut o = observed(held_by("a", 7), vec![pod("a"), of_db("example.org/role")]);
    o.desired.labels = scheme("example.org/role", "leader");
    let plan = plan(&o);
    assert!(plan.strip.is_empty() && plan.foreign.is_empty(), "{:?}", plan.strip);
    assert_eq!(labelled(&plan), Some("a"));
}

#[test]
fn marks_of_another_lease_do_not_keep_the_label_on_a_candidate() {
    let mut a = of_db("example.org/role");
    a.labels.insert("app".into(), "web".into());
    let mut o = observed(held_by("b", 7), vec![a, pod("b")]);
    o.desired.labels = scheme("example.org/role", "leader");
    assert_eq!(names(&plan(&o).strip), ["d"]);
}

#[test]
fn a_changed_key_leaves_pods_alone_that_were_never_ours() {
    let mut o = observed(held_by("a", 7), vec![pod("a"), of_db("example.org/role")]);
    o.memory = Memory { applied: Some(scheme("example.org/role", "leader")), ..remembers("a", 7) };
    let unrelated = pod("u").label("app", "other").label("example.org/role", "database");
    o.pods.as_mut().unwrap().push(unrelated);
    let plan = plan(&o);
    assert!(plan.strip.is_empty() && plan.stamp.is_empty(), "{:?} {:?}", plan.strip, plan.stamp);
    assert_eq!(labelled(&plan), Some("a"));
}
