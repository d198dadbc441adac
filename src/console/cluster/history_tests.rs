use serde_json::{Value, json};

use super::{snake, terms};
use crate::console::timeline::{LEADS, NOT_KNOWN};
use crate::store::EndReason;

const NOW: &str = "2026-11-30T10:01:00Z";

/// Of a lease that b took from a, because alice asked for it.
fn status() -> Value {
    json!({
        "conditions": [{
            "type": "LeaderElected", "status": "True", "reason": "Held", "message": "",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-30T10:00:00Z",
        }],
        "term": { "version": 7, "holder": "b", "startTime": "2026-11-30T10:00:00Z" },
        "lastTransition": {
            "version": 7, "from": "a", "to": "b", "time": "2026-11-30T10:00:00Z",
            "reason": "SwitchedOver", "requestedBy": "alice", "withoutLeaderMilliseconds": 40,
        },
    })
}

fn told(status: Value) -> Vec<(Option<i64>, String, String, Option<u64>)> {
    let now = super::millis(NOW).unwrap();
    let terms = terms(&serde_json::from_value(status).unwrap(), now);
    terms.into_iter().map(|term| (term.version, term.holder, term.end, term.led_for_ms)).collect()
}

#[test]
fn a_status_tells_the_present_term_and_how_the_one_before_ended() {
    let now = super::millis(NOW).unwrap();
    let all = terms(&serde_json::from_value(status()).unwrap(), now);
    let [present, before] = &all[..] else { panic!("{all:?}") };
    assert_eq!((present.version, present.holder.as_str(), present.end.as_str()), (Some(7), "b", LEADS));
    assert_eq!(present.led_for_ms, Some(60_000));
    assert_eq!(present.without_leader_ms, Some(40));
    assert_eq!((before.version, before.holder.as_str(), before.end.as_str()), (None, "a", "switched_over"));
    assert_eq!(before.asked.as_ref().map(|asked| asked.by.as_str()), Some("alice"));
    assert_eq!((&before.began, before.led_for_ms), (&None, None), "a status does not tell that");
}

#[test]
fn a_transition_into_another_term_than_the_present_one_tells_nothing_of_it() {
    let mut other = status();
    other["lastTransition"]["version"] = json!(6);
    other["lastTransition"]["to"] = json!("c");
    assert_eq!(told(other), [(Some(7), "b".to_owned(), LEADS.to_owned(), Some(60_000))]);
    // Its own SQL may count the version up with each renewal.
    let mut counted = status();
    counted["lastTransition"]["version"] = json!(2);
    assert_eq!(told(counted)[1].1, "a");
}

#[test]
fn a_term_of_which_nobody_leads_is_not_said_to_go_on() {
    let mut free = status();
    free["conditions"][0]["status"] = json!("False");
    free["conditions"][0]["reason"] = json!("Vacant");
    free["term"]["holder"] = Value::Null;
    assert_eq!(told(free)[0], (Some(7), "b".to_owned(), NOT_KNOWN.to_owned(), None));
}

#[test]
fn a_lease_that_nobody_ever_led_has_no_history() {
    assert_eq!(told(json!({ "conditions": [] })), []);
}

#[test]
fn each_reason_reads_as_the_table_has_it() {
    for reason in EndReason::ALL {
        let mut status = status();
        let camel: String = reason
            .as_str()
            .split('_')
            .flat_map(|part| {
                part[..1].to_ascii_uppercase().chars().chain(part[1..].chars()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(snake(&camel), reason.as_str());
        status["lastTransition"]["reason"] = json!(camel);
        assert_eq!(told(status)[1].2, reason.as_str());
    }
}
