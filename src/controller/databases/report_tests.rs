use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::election::ComponentName;
use crate::store::Rostered;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The record of a primary under this version.
fn record(primary: &str, version: i64, voters: &[&str]) -> Value {
    json!({
        "primary": primary, "version": version, "voters": voters, "acks": 1, "asynchronous": false,
        "system": "7", "members": ["a", "b", "c"],
    })
}

/// The Lease at `version`, with this record, and what `b` says.
fn facts_with(holder: &str, version: i64, record: &Value, says: &Value) -> Facts {
    let row = LeaseRow {
        holder: holder.to_owned(),
        lease_time: 1_764_496_800_000,
        renew_time: 1_764_496_801_000,
        version,
        ttl: 8,
    };
    let found = Rostered {
        row: Some(row.clone()),
        record: Some(record.to_string()),
        reports: BTreeMap::from([("b".to_owned(), says.to_string())]),
        ..Rostered::default()
    };
    let standing =
        Standing::of(&found, &ComponentName::new("orders").unwrap()).map_err(|error| error.to_string());
    Facts {
        lease: "orders".to_owned(),
        declared: names(&["a", "b", "c"]),
        trouble: None,
        row: Some(row),
        has_run_out: false,
        standing,
        ready: Ok(names(&["a", "b", "c"])),
        took: Some((version, 1.25)),
        pod: Some(("a".to_owned(), "uid-a".to_owned())),
        routed: Condition::new(ConditionType::Routed, true, Reason::LabelApplied, "pod a alone"),
        stalled: Condition::new(ConditionType::Stalled, false, Reason::NoEditNeeded, ""),
    }
}

fn facts(holder: &str, version: i64, record: &Value) -> Facts {
    let says = json!({ "sealed": { "version": version, "system": "7", "term": 3, "end": 100 } });
    facts_with(holder, version, record, &says)
}

fn healthy() -> Facts {
    facts("a_1_2", 4, &record("a", 4, &["b", "c"]))
}

/// What is written of it, as the next report finds it.
fn written(said: &Said) -> LeaseDatabaseStatus {
    crate::api::database_status(None, said.status.clone(), &said.conditions, "2026-11-30T10:00:00Z").unwrap()
}

fn told(said: &Said, kind: ConditionType) -> (Truth, Reason) {
    let condition = said.conditions.iter().find(|condition| condition.kind == kind).unwrap();
    (condition.status, condition.reason)
}

fn reasons(said: &Said) -> Vec<EventReason> {
    said.events.iter().map(|event| event.reason).collect()
}

#[test]
fn of_a_healthy_database_all_conditions_are_true_and_the_primary_is_announced_once() {
    let said = report(&healthy(), 2, None);
    for (kind, reason) in [
        (ConditionType::Ready, Reason::PrimaryRouted),
        (ConditionType::PrimaryElected, Reason::Recorded),
        (ConditionType::Replicating, Reason::AllFollow),
        (ConditionType::FailoverReady, Reason::EnoughMembers),
    ] {
        assert_eq!(told(&said, kind), (Truth::True, reason));
    }
    assert_eq!(reasons(&said), [EventReason::PrimaryElected]);
    assert_eq!(said.status.last_failover, None, "nobody was the primary before");
    let again = report(&healthy(), 2, Some(&written(&said)));
    assert_eq!((reasons(&again), &again.status.internal), (vec![], &said.status.internal));
    let same = crate::api::database_status(Some(&written(&said)), again.status, &again.conditions, "later");
    assert_eq!(same, None, "nothing is written anew");
}

#[test]
fn a_failover_names_both_primaries_and_how_long_it_took() {
    let before = written(&report(&healthy(), 2, None));
    // The next one has taken the lease: nobody acknowledges writes.
    let leads = json!({ "leads": { "version": 5, "host": "b", "port": 5432 } });
    let promoting = facts_with("b_1_2", 5, &record("a", 4, &["b", "c"]), &leads);
    let lost = report(&promoting, 2, Some(&before));
    assert_eq!(told(&lost, ConditionType::PrimaryElected), (Truth::False, Reason::Promoting));
    assert_eq!(told(&lost, ConditionType::Ready), (Truth::False, Reason::Promoting));
    assert_eq!(told(&lost, ConditionType::Replicating), (Truth::Unknown, Reason::NoLeader));
    assert_eq!(reasons(&lost), [EventReason::PrimaryLost], "that a failover cannot fail over is no news");
    assert_eq!((&lost.status.primary, &lost.status.failover), (&None, &None));
    let role = |said: &Said, at: usize| said.status.members[at].role;
    assert_eq!(
        [0, 1, 2].map(|at| role(&lost, at)),
        [MemberRole::Standby, MemberRole::Promoting, MemberRole::Standby]
    );

    let opened = facts("b_1_2", 5, &record("b", 5, &["c"]));
    let over = report(&opened, 2, Some(&written(&lost)));
    assert_eq!(reasons(&over), [EventReason::FailedOver]);
    assert_eq!(over.events[0].note, "b became the primary with version 5 after 1.2 s; before it, a was");
    let last = over.status.last_failover.clone().unwrap();
    assert_eq!((last.from.as_str(), last.to.as_str(), last.seconds), ("a", "b", Some(1.25)));
    assert_eq!(told(&over, ConditionType::Replicating), (Truth::False, Reason::MembersMissing));
    assert_eq!(
        [0, 1, 2].map(|at| role(&over, at)),
        [MemberRole::Standby, MemberRole::Primary, MemberRole::Replica]
    );
    // Without the steps in between, and without having seen how long it took.
    let at_once = report(&Facts { took: Some((4, 9.0)), ..opened }, 2, Some(&before));
    assert_eq!(at_once.status.last_failover.as_ref().unwrap().seconds, None);
    assert_eq!(reasons(&at_once), [EventReason::FailedOver]);
}

#[test]
fn the_same_primary_under_a_new_version_is_no_failover() {
    let before = written(&report(&healthy(), 2, None));
    let goes_on = report(&facts("a_1_2", 5, &record("a", 5, &["b", "c"])), 2, Some(&before));
    assert_eq!((reasons(&goes_on), goes_on.status.version), (vec![], Some(5)));
    assert_eq!(goes_on.status.last_failover, None);
    let mut away = healthy();
    away.has_run_out = true;
    let away = report(&away, 2, Some(&before));
    assert_eq!(
        (told(&away, ConditionType::PrimaryElected), reasons(&away)),
        ((Truth::False, Reason::Expired), vec![EventReason::PrimaryLost])
    );
    let back = report(&healthy(), 2, Some(&written(&away)));
    assert_eq!(reasons(&back), [EventReason::PrimaryElected]);
    assert_eq!(back.status.last_failover, None);
}

#[test]
fn why_nobody_is_the_primary_is_said_with_what_to_do() {
    let of = |change: &dyn Fn(&mut Facts)| {
        let mut facts = healthy();
        change(&mut facts);
        let said = report(&facts, 2, None);
        let elected =
            said.conditions.iter().find(|c| c.kind == ConditionType::PrimaryElected).unwrap().clone();
        assert_eq!(told(&said, ConditionType::Ready), (elected.status, elected.reason), "{elected:?}");
        (elected.status, elected.reason, elected.message)
    };
    let free = |version| {
        move |facts: &mut Facts| {
            *facts = facts_of_free(version);
        }
    };
    let cases: [(Box<dyn Fn(&mut Facts)>, Truth, Reason, &str); 7] = [
        (
            Box::new(|f| (f.row, f.standing) = (None, Ok(Standing::default()))),
            Truth::False,
            Reason::Vacant,
            "--lease kubernetes",
        ),
        (Box::new(free(0)), Truth::False, Reason::Vacant, "has ever taken"),
        (Box::new(free(4)), Truth::False, Reason::Vacant, "released at version 4"),
        (Box::new(|f| f.has_run_out = true), Truth::False, Reason::Expired, "for 8 s"),
        (
            Box::new(|f| f.standing = Err("cannot be read: x".into())),
            Truth::Unknown,
            Reason::RecordUnreadable,
            "cannot be read: x",
        ),
        (
            Box::new(|f| {
                f.trouble = Some(Trouble { reason: Reason::Forbidden, text: "may not watch".to_owned() });
            }),
            Truth::Unknown,
            Reason::Forbidden,
            "may not watch",
        ),
        (
            Box::new(|f| {
                let text = "too long".to_owned();
                f.trouble = Some(Trouble { reason: Reason::LeaseUnreadable, text });
            }),
            Truth::Unknown,
            Reason::LeaseUnreadable,
            "too long",
        ),
    ];
    for (change, status, reason, words) in cases {
        let (found, why, message) = of(&*change);
        assert_eq!((found, why), (status, reason), "{message}");
        assert!(message.contains(words), "{message}");
    }
}

fn facts_of_free(version: i64) -> Facts {
    facts("", version, &record("a", version, &["b", "c"]))
}

#[test]
fn a_failover_is_ready_by_the_pods_that_are_ready_and_the_loss_of_that_is_an_event() {
    let with = |ready: &[&str], before: Option<&LeaseDatabaseStatus>| {
        report(&Facts { ready: Ok(names(ready)), ..healthy() }, 2, before)
    };
    let before = written(&with(&["a", "b", "c"], None));
    let lost = with(&["a", "b"], Some(&before));
    assert_eq!(told(&lost, ConditionType::FailoverReady), (Truth::False, Reason::TooFewMembers));
    assert_eq!(told(&lost, ConditionType::Ready).0, Truth::True);
    assert_eq!(reasons(&lost), [EventReason::FailoverNotReady]);
    assert_eq!(lost.status.members_ready.as_deref(), Some("2/3"));
    assert_eq!(reasons(&with(&["a", "b"], Some(&written(&lost)))), [], "it is said once");
    let unknown = report(&Facts { ready: Err("the pods cannot be listed".into()), ..healthy() }, 2, None);
    assert_eq!(told(&unknown, ConditionType::FailoverReady), (Truth::Unknown, Reason::Forbidden));
    assert_eq!(unknown.status.members_ready, None);
}

#[test]
fn a_failover_that_would_lose_commits_is_not_ready_and_of_a_record_that_cannot_be_read_that_is_not_known() {
    let mut alone = record("a", 4, &[]);
    (alone["acks"], alone["asynchronous"]) = (json!(0), json!(true));
    let said = report(&facts("a_1_2", 4, &alone), 2, None);
    assert_eq!(told(&said, ConditionType::FailoverReady), (Truth::False, Reason::WouldLoseCommits));
    let failover = said.status.failover.unwrap();
    assert_eq!((failover.ready, failover.would_lose), (true, Some(WouldLose::Unreplicated)));
    let unreadable = Facts { standing: Err("cannot be read: x".into()), ..healthy() };
    let said = report(&unreadable, 2, None);
    assert_eq!(told(&said, ConditionType::FailoverReady), (Truth::Unknown, Reason::RecordUnreadable));
}

#[test]
fn declared_members_are_shown_where_a_record_names_more_than_a_status_has_room_for() {
    let many: Vec<String> = (0..60).map(|n| format!("a{n}")).collect();
    let mut wide = record("a", 4, &["b"]);
    (wide["members"], wide["voters"]) =
        (json!([&["a".to_owned(), "b".to_owned()], many.as_slice()].concat()), json!(many));
    let ready: BTreeSet<String> = many.into_iter().collect();
    let said = report(&Facts { ready: Ok(ready), ..facts("a_1_2", 4, &wide) }, 2, None);
    let shown: Vec<&str> = said.status.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!((&shown[..3], shown.len()), (&["a", "b", "c"][..], 32));
    assert_eq!(said.status.failover.unwrap().would_promote.len(), 16);
}

#[test]
fn members_of_the_spec_that_are_not_those_of_the_record_are_said() {
    let facts = Facts { declared: names(&["a", "b"]), ..healthy() };
    let said = report(&facts, 2, None);
    assert_eq!(told(&said, ConditionType::Replicating), (Truth::False, Reason::MembersDiffer));
    assert_eq!(said.status.members.len(), 3, "those of the record are shown, too");
}

#[test]
fn what_is_known_stays_while_the_leases_cannot_be_watched() {
    let before = written(&report(&healthy(), 2, None));
    let blind = Facts {
        trouble: Some(Trouble { reason: Reason::Forbidden, text: "may not watch".to_owned() }),
        row: None,
        standing: Ok(Standing::default()),
        ..healthy()
    };
    let said = report(&blind, 2, Some(&before));
    assert_eq!(
        (said.status.version, &said.status.holder, &said.status.record),
        (Some(4), &before.holder, &before.record)
    );
    assert_eq!(reasons(&said), []);
    assert_eq!(told(&said, ConditionType::FailoverReady), (Truth::Unknown, Reason::Forbidden));
    // The same primary afterwards is no news.
    let after = report(&healthy(), 2, Some(&written(&said)));
    assert_eq!(after.status.last_failover, None);
}
