use super::*;
use crate::routing::decide::Lead;

fn change(name: &str) -> PodChange {
    PodChange {
        name: name.to_owned(),
        uid: format!("{name}-uid"),
        resource_version: "1".to_owned(),
        labels: [("l".to_owned(), Some("v".to_owned()))].into(),
        annotations: [("a".to_owned(), Some("7".to_owned()))].into(),
    }
}

fn plan(strip: &[&str], stamp: &[&str], label: Option<&str>) -> Plan {
    let changes = |names: &[&str]| names.iter().map(|name| change(name)).collect();
    Plan {
        lead: Lead::Unknown,
        leader: None,
        version: 7,
        transition: false,
        intend: true,
        candidates: 0,
        ended: None,
        strip: changes(strip),
        stamp: changes(stamp),
        label: label.map(change),
        services: Vec::new(),
        foreign: Vec::new(),
        events: Vec::new(),
        next: None,
    }
}

fn open(carry_out: &CarryOut) -> Vec<&str> {
    carry_out.open().map(|(_, change)| change.name.as_str()).collect()
}

/// Carries the plan out; these pods answer this, all others that it is done. In which order patches were sent, with
/// whether they stamp.
fn carried(plan: &Plan, answers: &[(&str, Patched)]) -> (Vec<(String, bool)>, Outcome) {
    let mut carry_out = CarryOut::new(plan);
    let mut sent = Vec::new();
    loop {
        let now: Vec<(usize, PodChange)> = carry_out.open().map(|(n, change)| (n, change.clone())).collect();
        if now.is_empty() {
            return (sent, carry_out.outcome());
        }
        for (number, change) in now {
            let stamps = !change.annotations.is_empty();
            let said = answers
                .iter()
                .find(|(name, how)| *name == change.name && (stamps || !matches!(how, Patched::Refused(_))));
            carry_out.answered(number, said.map_or(Patched::Done, |(_, how)| how.clone()));
            sent.push((change.name, stamps));
        }
    }
}

fn names(sent: &[(String, bool)]) -> Vec<&str> {
    sent.iter().map(|(name, _)| name.as_str()).collect()
}

fn unknown() -> Patched {
    Patched::Unknown("timeout".to_owned())
}

fn refused() -> Patched {
    Patched::Refused("too long".to_owned())
}

#[test]
fn strips_are_confirmed_before_stamps_and_stamps_before_the_label() {
    let mut carry_out = CarryOut::new(&plan(&["a", "b"], &["c", "d"], Some("e")));
    for (number, expected) in [(0, vec!["a", "b"]), (1, vec!["b"]), (0, vec!["c", "d"]), (1, vec!["d"])] {
        assert_eq!(open(&carry_out), expected);
        let number = if expected.len() == 2 { 0 } else { number };
        carry_out.answered(number, Patched::Done);
    }
    assert_eq!(open(&carry_out), ["e"]);
    carry_out.answered(0, Patched::Done);
    assert!(open(&carry_out).is_empty());
    assert_eq!(carry_out.outcome(), Outcome::default());
    assert_eq!(CarryOut::new(&plan(&[], &[], None)).outcome(), Outcome::default());
    assert_eq!(open(&CarryOut::new(&plan(&[], &[], Some("e")))), ["e"]);
}

#[test]
fn a_strip_that_failed_or_may_have_stops_stamps_and_label() {
    let plan = plan(&["a", "b"], &["c"], Some("d"));
    let (sent, outcome) = carried(&plan, &[("b", unknown())]);
    assert_eq!(names(&sent), ["a", "b"]);
    assert_eq!(outcome.strip_failed, ["pod b keeps the leader label: timeout"]);
    assert_eq!((outcome.label_failed, outcome.conflict), (None, false));
    let (sent, outcome) = carried(&plan, &[("a", Patched::Conflict)]);
    assert_eq!((names(&sent), outcome.conflict), (vec!["a", "b"], true));
}

#[test]
fn a_pod_whose_stamp_is_refused_loses_the_label_without_it() {
    let (sent, outcome) = carried(&plan(&["a"], &["c"], Some("d")), &[("a", refused())]);
    let order: Vec<_> = sent.iter().map(|(name, stamps)| (name.as_str(), *stamps)).collect();
    assert_eq!(order, [("a", true), ("a", false), ("c", true), ("d", true)]);
    assert_eq!(outcome, Outcome { stamp_failed: vec!["pod a: too long".to_owned()], ..Outcome::default() });
}

#[test]
fn a_pod_that_keeps_the_label_whatever_is_tried_stops_the_rest() {
    for second in [refused(), unknown(), Patched::Conflict] {
        let mut carry_out = CarryOut::new(&plan(&["a"], &["c"], Some("d")));
        carry_out.answered(0, refused());
        assert!(carry_out.open().all(|(_, change)| change.annotations.is_empty()));
        carry_out.answered(0, second.clone());
        assert!(open(&carry_out).is_empty(), "{second:?}");
        assert_eq!(carry_out.outcome().strip_failed, ["pod a keeps the leader label: too long"]);
    }
    // Where there is no stamp, there is nothing to leave out.
    let mut bare = plan(&["a"], &[], Some("d"));
    bare.strip[0].annotations.clear();
    let mut carry_out = CarryOut::new(&bare);
    carry_out.answered(0, refused());
    assert_eq!((open(&carry_out).len(), carry_out.outcome().strip_failed.len()), (0, 1));
}

#[test]
fn a_stamp_of_unknown_outcome_blocks_the_label_and_a_refused_one_does_not() {
    let plan = plan(&[], &["a", "b"], Some("c"));
    let (sent, outcome) = carried(&plan, &[("b", unknown())]);
    assert_eq!(names(&sent), ["a", "b"]);
    assert_eq!(outcome.stamp_failed, ["pod b: timeout"]);
    assert!(outcome.label_failed.unwrap().contains("pod c is not labelled"));
    let (sent, outcome) = carried(&plan, &[("b", refused())]);
    assert_eq!(names(&sent), ["a", "b", "c"]);
    assert_eq!((outcome.stamp_failed.len(), outcome.label_failed), (1, None));
    let (sent, outcome) = carried(&plan, &[("a", Patched::Conflict), ("b", unknown())]);
    assert_eq!((names(&sent), outcome.conflict, outcome.label_failed), (vec!["a", "b"], true, None));
}

#[test]
fn a_leader_that_is_gone_or_changed_is_decided_on_anew_and_one_that_cannot_be_labelled_is_said() {
    let bare = plan(&[], &[], Some("c"));
    for how in [Patched::Gone, Patched::Conflict] {
        let (_, outcome) = carried(&bare, &[("c", how)]);
        assert_eq!(outcome, Outcome { conflict: true, ..Outcome::default() });
    }
    for how in [Patched::Refused("timeout".to_owned()), unknown()] {
        let mut carry_out = CarryOut::new(&bare);
        carry_out.answered(0, how);
        assert_eq!(carry_out.outcome().label_failed.as_deref(), Some("pod c could not be labelled: timeout"));
    }
    // A pod that is gone needs neither strip nor stamp.
    let gone = [("a", Patched::Gone), ("b", Patched::Gone)];
    let (sent, outcome) = carried(&plan(&["a"], &["b"], Some("c")), &gone);
    assert_eq!((names(&sent), outcome), (vec!["a", "b", "c"], Outcome::default()));
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let mut carry_out = CarryOut::new(&plan(&["a"], &[], None));
    carry_out.answered(7, unknown());
    assert_eq!(open(&carry_out), ["a"]);
}
