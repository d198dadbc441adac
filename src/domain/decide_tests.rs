//! Each rule of the controller, on the smallest view that can tell right from wrong.

use super::super::conditions::Phase;
use super::super::observed::{Desired, LabelScheme, Memory};
use super::super::pod::{Container, Incarnation, Requirement, Selector};
use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;
const KEY: &str = "componentlease.io/web";
const VERSION: &str = "componentlease.io/web-version";
const LABEL: &str = "componentlease.io/web-label";

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn running(id: &str) -> Container {
    Container { now: Incarnation::Running { id: Some(id.into()) }, before: None }
}

/// A candidate; its uid is the name eight times over, so that no two begin alike.
fn pod(name: &str) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("{}-uid", name.repeat(8)),
        resource_version: format!("rv-{name}"),
        labels: strings(&[("app", "web")]),
        started: Some(1),
        containers: vec![running(&format!("containerd://{name}"))],
        ..Pod::default()
    }
}

impl Pod {
    fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    fn stamp(mut self, version: i64) -> Self {
        self.annotations.insert(VERSION.into(), version.to_string());
        self
    }

    fn marked(self, value: &str, version: i64) -> Self {
        self.label(KEY, value).stamp(version)
    }
}

fn row(holder: &str, version: i64) -> LeaseRow {
    LeaseRow { holder: holder.into(), lease_time: 50_000, renew_time: 60_000, version, ttl: 10 }
}

/// Our own format: the pod's name, the beginning of its uid, a random end.
fn held_by(name: &str, version: i64) -> LeaseRow {
    row(&format!("{name}_{}_0badcafe", &pod(name).uid[..8]), version)
}

fn scheme(key: &str, leader: &str) -> LabelScheme {
    LabelScheme { key: key.into(), leader: leader.into(), standby: "standby".into() }
}

/// Lease `web` at 100 s: its row is unchanged since 95 s and lasts for 10 s; nothing was applied before.
fn observed(row: LeaseRow, pods: Vec<Pod>) -> Observed {
    Observed {
        desired: Desired {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "lease-uid".into(),
            generation: 3,
            component: super::super::name::ComponentName::new("web-row").unwrap(),
            ttl: 10,
            selector: Selector::new(vec![Requirement::In("app".into(), vec!["web".into()])]).unwrap(),
            labels: scheme(KEY, "leader"),
            on_store_unreachable: OnStoreUnreachable::Keep,
            service: None,
        },
        memory: Memory::default(),
        claim: Claim::First,
        store: StoreSight::Answers,
        row: RowSight::Seen { row: Some(row), since: S(95) },
        row_confirmed: false,
        pods: Ok(pods),
        instances: Vec::new(),
        service: ServiceSight::NotAsked,
        now: S(100),
    }
}

/// The memory that a status leaves when `name` leads `version`.
fn remembers(name: &str, version: i64) -> Memory {
    let pod = pod(name);
    Memory {
        phase: Some(Phase::Held),
        holder: Some(held_by(name, version).holder),
        holder_pod: Some(HolderPod {
            container_ids: pod.container_ids(),
            name: pod.name,
            uid: pod.uid,
            node: None,
        }),
        version,
        floor: version,
        transitions: 4,
        applied: Some(scheme(KEY, "leader")),
    }
}

fn plan(o: &Observed) -> Plan {
    match decide(o) {
        Decision::Act(plan) => *plan,
        other => panic!("expected a plan, got {other:?}"),
    }
}

fn names(changes: &[PodChange]) -> Vec<&str> {
    changes.iter().map(|change| change.name.as_str()).collect()
}

fn labelled(plan: &Plan) -> Option<&str> {
    plan.label.as_ref().map(|change| change.name.as_str())
}

fn touches_no_pod(plan: &Plan) -> bool {
    plan.strip.is_empty() && plan.stamp.is_empty() && plan.label.is_none()
}

#[expect(clippy::unnecessary_wraps, reason = "what a patch carries for a key that is set")]
fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn down() -> StoreSight {
    StoreSight::Unreachable("no route".into())
}

#[test]
fn the_old_leader_is_stripped_the_others_are_stamped_and_the_new_one_is_labelled() {
    let pods =
        vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6), pod("c").marked("standby", 6)];
    let plan = plan(&Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), pods) });
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec!["c"], Some("b")));
    assert_eq!(plan.strip[0].labels, [(KEY.to_owned(), some("standby"))].into());
    assert_eq!(plan.strip[0].annotations, [(VERSION.to_owned(), some("7"))].into(), "a strip stamps too");
    assert_eq!(plan.stamp[0].labels, [].into(), "what is right already is not written");
    assert_eq!(plan.label.unwrap().labels, [(KEY.to_owned(), some("leader"))].into());
    assert!(plan.foreign.is_empty());
}

#[test]
fn every_change_is_bound_to_the_uid_and_the_resource_version_that_were_seen() {
    let pods = vec![pod("a").marked("leader", 6), pod("b"), pod("c")];
    let plan = plan(&observed(held_by("b", 7), pods));
    for change in plan.strip.iter().chain(&plan.stamp).chain(&plan.label) {
        let pod = pod(&change.name);
        assert_eq!((&change.uid, &change.resource_version), (&pod.uid, &pod.resource_version));
    }
    assert_eq!(plan.strip.len() + plan.stamp.len(), 2);
}

#[test]
fn when_all_is_as_it_should_be_nothing_is_planned() {
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 7)];
    let plan = plan(&Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) });
    assert!(touches_no_pod(&plan) && plan.events.is_empty() && plan.service.is_none() && !plan.transition);
    assert_eq!((plan.candidates, plan.next), (2, Some(S(105))));
}

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
fn a_changed_leader_value_strips_whoever_carries_the_old_one() {
    let pods = vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6)];
    let mut o = Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), pods) };
    o.desired.labels.leader = "active".into();
    let plan = plan(&o);
    assert_eq!(names(&plan.strip), ["a"]);
    assert_eq!(plan.label.unwrap().labels[KEY], some("active"));
}

#[test]
fn a_pod_that_left_the_selector_keeps_nothing_of_ours() {
    let mut gone = pod("a").marked("leader", 6);
    gone.labels.insert("app".into(), "other".into());
    let plan =
        plan(&Observed { memory: remembers("a", 6), ..observed(held_by("b", 7), vec![gone, pod("b")]) });
    assert_eq!(names(&plan.strip), ["a"]);
    assert_eq!(plan.strip[0].labels, [(KEY.to_owned(), None)].into());
    assert_eq!(plan.strip[0].annotations, [(VERSION.to_owned(), None)].into());
    assert_eq!(plan.candidates, 1);
}

#[test]
fn a_pod_outside_the_selector_that_was_never_ours_is_not_touched() {
    let mut other = pod("a").label(KEY, "whatever");
    other.labels.insert("app".into(), "other".into());
    let plan = plan(&observed(held_by("b", 7), vec![other, pod("b").marked("leader", 7)]));
    assert!(touches_no_pod(&plan));
}

#[test]
fn a_finished_pod_is_cleaned_and_is_no_candidate() {
    let finished = Pod { finished: true, ..pod("a").marked("leader", 7) };
    let never_ours = Pod { finished: true, ..pod("c") };
    let o = observed(held_by("a", 7), vec![finished, pod("b"), never_ours]);
    let plan = plan(&Observed { memory: remembers("a", 7), ..o });
    assert!(matches!(plan.leader, Some(Err(Rejection::Finished { .. }))));
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec!["b"], None));
    assert_eq!(plan.strip[0].labels[KEY], None);
    assert_eq!(plan.candidates, 1);
}

#[test]
fn a_leader_label_that_somebody_else_put_on_is_removed_and_said() {
    let pods = vec![pod("a").marked("leader", 7), pod("b").marked("leader", 7)];
    let plan = plan(&Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) });
    assert_eq!((names(&plan.strip), plan.label.as_ref()), (vec!["a"], None));
    assert_eq!(plan.foreign, ["a"]);
    let event = &plan.events[0];
    assert!(
        event.reason == EventReason::ForeignLabelRemoved && event.warning && event.note.contains("pod a ")
    );
}

#[test]
fn a_pod_born_with_the_label_is_stripped_even_though_it_was_never_stamped() {
    let pods = vec![pod("a").label(KEY, "leader"), pod("b").marked("leader", 7)];
    let plan = plan(&Observed { memory: remembers("b", 7), ..observed(held_by("b", 7), pods) });
    assert_eq!((names(&plan.strip), plan.foreign), (vec!["a"], vec!["a".to_owned()]));
}

#[test]
fn a_lapsed_row_is_nobodys_and_its_pod_is_stripped() {
    let o = Observed {
        memory: remembers("a", 7),
        ..observed(held_by("a", 7), vec![pod("a").marked("leader", 7)])
    };
    let held = plan(&Observed { now: S(105) - Duration::from_millis(1), ..o.clone() });
    assert!(matches!(held.lead, Lead::Held(..)) && touches_no_pod(&held));
    let lapsed = plan(&Observed { now: S(105), ..o });
    assert!(matches!(lapsed.lead, Lead::Expired(_)));
    assert_eq!((names(&lapsed.strip), labelled(&lapsed)), (vec!["a"], None));
    assert_eq!(lapsed.events[0].reason, EventReason::LeaseExpired);
    assert!(!lapsed.transition, "nobody new leads");
}

#[test]
fn a_released_row_strips_its_pod_and_is_said() {
    let o = observed(row("", 7), vec![pod("a").marked("leader", 7)]);
    let plan = plan(&Observed { memory: remembers("a", 7), ..o });
    assert_eq!((names(&plan.strip), labelled(&plan)), (vec!["a"], None));
    assert_eq!(plan.events[0].reason, EventReason::LeaseReleased);
    assert_eq!((plan.version, plan.transition), (7, false));
}

#[test]
fn an_unreachable_leader_pod_is_stripped_like_any_other_once_its_lease_is_lost() {
    // A pod on a dead node, or one that is terminating, is observed as it was; only the row counts.
    let dead = Pod { node: some("dead"), ..pod("a").marked("leader", 6) };
    let still = observed(held_by("a", 6), vec![dead.clone(), pod("b").marked("standby", 6)]);
    assert!(touches_no_pod(&plan(&Observed { memory: remembers("a", 6), ..still })));
    let lost = observed(held_by("b", 7), vec![dead, pod("b").marked("standby", 6)]);
    assert_eq!(names(&plan(&Observed { memory: remembers("a", 6), ..lost }).strip), ["a"]);
}

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
    o.desired.on_store_unreachable = OnStoreUnreachable::Remove;
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
    o.desired.on_store_unreachable = OnStoreUnreachable::Remove;
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
fn whoever_is_behind_and_cannot_ask_touches_nothing_that_somebody_who_knows_more_did() {
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
fn a_foreign_holder_that_raises_its_version_at_each_renewal_causes_no_change() {
    let pods = vec![pod("a").marked("leader", 7), pod("b").marked("standby", 7)];
    let mut o = observed(row("a", 93), pods);
    o.memory = Memory { holder: some("a"), ..remembers("a", 7) };
    let plan = plan(&o);
    assert!(touches_no_pod(&plan) && !plan.transition && plan.events.is_empty());
    assert_eq!(plan.version, 7);
}

#[test]
fn a_foreign_holders_new_term_is_one_when_a_stamp_tells_of_another_in_between() {
    // b led with version 8, and whoever saw that could not write the status.
    let pods = vec![pod("a").marked("standby", 7), pod("b").marked("leader", 8)];
    let mut o = observed(row("a", 9), pods);
    o.memory = Memory { holder: some("a"), ..remembers("a", 7) };
    let plan = plan(&o);
    assert_eq!((plan.version, plan.transition), (9, true));
    assert_eq!((names(&plan.strip), labelled(&plan)), (vec!["b"], Some("a")));
}

#[test]
fn a_foreign_holder_whose_version_fell_is_shown_as_the_row_has_it() {
    let pods = vec![pod("a").marked("leader", 41)];
    let mut o = Observed { row_confirmed: true, ..observed(row("a", 3), pods) };
    o.memory = Memory { holder: some("a"), ..remembers("a", 41) };
    assert_eq!(plan(&o).version, 3);
}

#[test]
fn a_holder_that_is_no_candidate_strips_everybody_and_labels_nobody() {
    let pods = vec![pod("a").marked("leader", 6), pod("b").marked("standby", 6)];
    let plan = plan(&Observed { memory: remembers("a", 6), ..observed(held_by("stranger", 7), pods) });
    assert!(matches!(plan.leader, Some(Err(Rejection::NoSuchPod { .. }))));
    assert_eq!((names(&plan.strip), names(&plan.stamp), labelled(&plan)), (vec!["a"], vec!["b"], None));
    let reasons: Vec<_> = plan.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, [EventReason::LeaderElected, EventReason::HolderRejected]);
}

#[test]
fn a_resource_whose_claim_is_taken_touches_nothing() {
    let o = observed(held_by("b", 7), vec![pod("a").marked("leader", 6), pod("b")]);
    let decision = decide(&Observed { claim: Claim::Taken("shop/first".into()), ..o });
    assert!(matches!(decision, Decision::Conflict(by) if by == "shop/first"));
}

#[test]
fn a_term_is_counted_when_the_holder_or_its_version_changes_and_only_then() {
    let transition = |row: LeaseRow, memory: Memory| {
        plan(&Observed { memory, ..observed(row, vec![pod("a"), pod("b")]) }).transition
    };
    assert!(transition(held_by("a", 1), Memory::default()), "the first ever");
    assert!(!transition(held_by("a", 7), remembers("a", 7)), "a renewal");
    assert!(transition(held_by("b", 8), remembers("a", 7)), "another holder");
    assert!(transition(held_by("a", 8), remembers("a", 7)), "the same holder again");
    assert!(!transition(row("", 7), remembers("a", 7)), "a release");
    let stopped = Observed { now: S(105), ..observed(held_by("a", 7), vec![]) };
    assert!(!plan(&Observed { memory: remembers("a", 7), ..stopped }).transition, "an expiry");
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
fn the_leaders_containers_are_recorded_once_all_of_them_have_begun() {
    let waiting = Pod {
        containers: vec![running("containerd://a"), Container::default()],
        ..pod("a").marked("leader", 7)
    };
    let mut o = observed(held_by("a", 7), vec![waiting]);
    o.memory = remembers("a", 7);
    o.memory.holder_pod.as_mut().unwrap().container_ids.clear();
    assert!(holder_pod(&o, &plan(&o)).unwrap().container_ids.is_empty());
    o.pods.as_mut().unwrap()[0].containers[1] = running("containerd://b");
    assert_eq!(holder_pod(&o, &plan(&o)).unwrap().container_ids, ["containerd://a", "containerd://b"]);
}

#[test]
fn a_leader_pod_that_has_finished_is_not_forgotten_within_the_term() {
    let finished = Pod { finished: true, ..pod("a").marked("leader", 7) };
    let o = Observed { memory: remembers("a", 7), ..observed(held_by("a", 7), vec![finished]) };
    let plan = plan(&o);
    assert_eq!((names(&plan.strip), holder_pod(&o, &plan)), (vec!["a"], o.memory.holder_pod.clone()));
}

#[test]
fn the_leaders_containers_are_those_of_the_moment_at_which_it_was_labelled() {
    let restarted = Pod { containers: vec![running("containerd://second")], ..pod("a").marked("leader", 7) };
    let same_term = Observed { memory: remembers("a", 7), ..observed(held_by("a", 7), vec![restarted]) };
    assert_eq!(holder_pod(&same_term, &plan(&same_term)).unwrap().container_ids, ["containerd://a"]);
    let next_term =
        Observed { row: RowSight::Seen { row: Some(held_by("a", 8)), since: S(99) }, ..same_term };
    assert_eq!(holder_pod(&next_term, &plan(&next_term)).unwrap().container_ids, ["containerd://second"]);
}

fn managed(o: &mut Observed, sight: ServiceSight) -> Option<ServiceChange> {
    o.desired.service = Some(DesiredService { name: "web".into(), managed: true, ports: vec![] });
    o.service = sight;
    plan(o).service
}

#[test]
fn a_managed_service_is_made_corrected_and_never_adopted() {
    let mut o = observed(held_by("a", 7), vec![pod("a")]);
    let exists = |ours, value: &str| ServiceSight::Exists {
        ours,
        selector: strings(&[(KEY, value), ("app", "web")]),
        ports: vec![],
        resource_version: "5".into(),
    };
    assert!(matches!(managed(&mut o, ServiceSight::Missing), Some(ServiceChange::Create(..))));
    assert!(matches!(managed(&mut o, exists(true, "old")), Some(ServiceChange::Update(_, wanted, rv))
        if rv == "5" && wanted == strings(&[(KEY, "leader"), ("app", "web")])));
    assert_eq!(managed(&mut o, exists(true, "leader")), None);
    assert_eq!(managed(&mut o, exists(false, "old")), None);
    assert_eq!(managed(&mut o, ServiceSight::Unknown("forbidden".into())), None);
}
