use super::*;
use serde_json::json;

const S: fn(u64) -> Duration = Duration::from_secs;

/// Lease `orders` of this term, renewed at this second, with this record.
fn lease(holder: &str, version: i64, renewed: u32, record: &str) -> Lease {
    serde_json::from_value(json!({
        "metadata": { "name": "orders", "annotations": { "componentlease.io/record": record } },
        "spec": {
            "holderIdentity": holder, "leaseTransitions": version, "leaseDurationSeconds": 8,
            "renewTime": format!("2026-11-30T10:00:{renewed:02}.000000Z"),
        },
    }))
    .unwrap()
}

fn show(leases: &Leases, lease: &Lease, now: Duration) -> Shown {
    leases.saw("shop", &Event::Apply(lease.clone()), now)
}

#[test]
fn a_renewal_concerns_nobody_and_keeps_the_term_alive() {
    let leases = Leases::default();
    let changed = Shown::Lease("orders".to_owned());
    assert_eq!(show(&leases, &lease("a", 4, 0, "r4"), S(100)), changed);
    assert_eq!(show(&leases, &lease("a", 4, 3, "r4"), S(103)), Shown::Nothing);
    let known = leases.get("shop", "orders").unwrap();
    assert_eq!((known.since, known.has_run_out(S(110)), known.has_run_out(S(111))), (S(103), false, true));
    // It had run out, which was said.
    assert_eq!(show(&leases, &lease("a", 4, 20, "r4"), S(120)), changed);
    for (at, new) in
        [(121, lease("", 4, 20, "r4")), (122, lease("b", 5, 22, "r4")), (123, lease("b", 5, 22, "r5"))]
    {
        assert_eq!(show(&leases, &new, S(at)), changed, "{at}");
    }
    assert_eq!(leases.saw("shop", &Event::Delete(lease("b", 5, 22, "r5")), S(124)), changed);
    assert_eq!(leases.get("shop", "orders"), None);
}

#[test]
fn a_list_that_shows_what_is_known_does_not_begin_its_time_anew() {
    let leases = Leases::default();
    show(&leases, &lease("a", 4, 0, "r4"), S(100));
    assert!(!leases.listed("shop"));
    for event in [Event::Init, Event::InitApply(lease("a", 4, 0, "r4")), Event::InitDone] {
        leases.saw("shop", &event, S(106));
    }
    assert!(leases.listed("shop") && !leases.listed("bank"));
    assert_eq!(leases.get("shop", "orders").unwrap().since, S(100));
    for event in [Event::Init, Event::InitDone] {
        leases.saw("shop", &event, S(107));
    }
    assert_eq!(leases.get("shop", "orders"), None, "what a list lacks is gone");
    leases.forget("shop");
    assert!(!leases.listed("shop"));
}

#[test]
fn a_failover_takes_from_the_last_sign_of_life_to_the_record_of_the_new_primary() {
    let took = |steps: &[(u64, Lease)]| {
        let leases = Leases::default();
        for (at, lease) in steps {
            show(&leases, lease, S(*at));
        }
        leases.get("shop", "orders").unwrap().took
    };
    let crash = [
        (100, lease("a", 4, 0, "r4")),
        (103, lease("a", 4, 3, "r4")),
        (111, lease("b", 5, 11, "r4")),
        (112, lease("b", 5, 11, "r5")),
    ];
    assert_eq!(took(&crash), Some((5, S(9))));
    // Released; the first who took it did not become the primary.
    let handed_over = [
        (100, lease("a", 4, 0, "r4")),
        (105, lease("", 4, 0, "r4")),
        (106, lease("b", 5, 6, "r4")),
        (108, lease("c", 6, 8, "r4")),
        (109, lease("c", 6, 8, "r6")),
        (130, lease("c", 6, 8, "r6 with other voters")),
    ];
    assert_eq!(took(&handed_over), Some((6, S(4))));
    assert_eq!(took(&crash[2..]), None, "the end of the term before was not seen");
}

#[test]
fn a_holder_that_is_longer_than_any_member_writes_is_wrong_and_is_not_kept() {
    let leases = Leases::default();
    let known = |holder: &str, at| {
        show(&leases, &lease(holder, 4, 0, "r4"), S(at));
        leases.get("shop", "orders").unwrap()
    };
    assert_eq!(known(&"x".repeat(HOLDER_ID_MAX), 100).wrong, None);
    let long = "x".repeat(1_000_000);
    let wrong = known(&long, 101);
    assert!(wrong.wrong.as_ref().unwrap().contains("1000000 characters"), "{:?}", wrong.wrong);
    assert!((wrong.row.is_free(), wrong.has_run_out(S(200))) == (true, false), "nothing is said of its term");
    assert_eq!(show(&leases, &lease(&long, 4, 0, "r4"), S(102)), Shown::Nothing);
    assert_eq!(show(&leases, &lease("a", 4, 0, "r4"), S(103)), Shown::Lease("orders".to_owned()));
    assert_eq!(leases.get("shop", "orders").unwrap().wrong, None);
}

#[test]
fn a_watch_that_is_behind_takes_nothing_back_that_was_read() {
    let state = |holder: &str, version, uid: &str, state: u32| {
        let mut lease = lease(holder, version, 0, "r");
        (lease.metadata.uid, lease.metadata.resource_version) =
            (Some(uid.to_owned()), Some(state.to_string()));
        lease
    };
    let leases = Leases::default();
    let version = || leases.get("shop", "orders").map(|known| known.row.version);
    show(&leases, &state("a", 4, "u", 98), S(100));
    leases.read("shop", "orders", Some(state("c", 6, "u", 110)), S(101));
    assert_eq!(show(&leases, &state("b", 5, "u", 99), S(102)), Shown::Nothing);
    assert_eq!(version(), Some(6));
    show(&leases, &state("a", 1, "another", 105), S(103));
    assert_eq!(version(), Some(1), "another object of the same name has states of its own");
    leases.read("shop", "orders", None, S(104));
    assert_eq!(version(), None);
}

#[test]
fn a_record_that_is_longer_than_any_that_is_written_is_not_kept() {
    let leases = Leases::default();
    show(&leases, &lease("a", 4, 0, &"x".repeat(20_000)), S(100));
    assert_eq!(leases.get("shop", "orders").unwrap().record, None);
}
