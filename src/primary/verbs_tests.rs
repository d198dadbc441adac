use super::quorum::Quorum;
use super::verbs::{Log, MOST_LAG, NotReady, Now, Permit, Refusal, may_promote_with_loss};
use super::{Blocked, Position, Record, Report};

type M = &'static str;

/// `a` is the primary of version 4, and `b` and `c` acknowledge; both have all of its log.
fn now() -> Now<M> {
    let quorum = Quorum::any(1, ["b", "c"].into()).unwrap();
    let members = ["a", "b", "c"].into();
    let record = Record { primary: "a", quorum, asynchronous: false, system: 7, members };
    Now {
        version: 4,
        holder: Some("a"),
        record: Some((record, 4)),
        paused: false,
        log: Some(Log { end: 100 << 20, has: [("b", 100 << 20), ("c", (100 << 20) - 1)].into() }),
        reachable: ["a", "b", "c"].into(),
        reports: [("b", sealed(4, 3, 10)), ("c", sealed(4, 3, 10))].into(),
    }
}

fn sealed(version: i64, term: i64, end: u64) -> Report {
    Report { version, system: 7, position: Position { term, end } }
}

/// `a` is gone; `b` holds the lease at version 5, and only these are sealed at it.
fn after_the_loss(of: &[(M, u64)]) -> Now<M> {
    let mut now = now();
    (now.version, now.holder) = (5, Some("b"));
    now.reports.extend(of.iter().map(|(member, end)| (*member, sealed(5, 4, *end))));
    now
}

fn voters(now: &mut Now<M>, voters: &[M]) {
    let (record, _) = now.record.as_mut().unwrap();
    record.quorum = Quorum::any(1, voters.iter().copied().collect()).unwrap();
}

#[test]
fn a_switchover_goes_to_the_one_that_was_named_or_to_the_one_that_has_most() {
    assert_eq!(now().switchover(Some(&"c")), Ok("c"));
    assert_eq!(now().switchover(None), Ok("b"));
    let mut of_b = now();
    of_b.log.as_mut().unwrap().has.remove("b");
    assert_eq!(of_b.switchover(None), Ok("c"));
}

#[test]
fn a_switchover_is_refused_while_the_target_could_not_be_promoted() {
    let refused = |change: &dyn Fn(&mut Now<M>), to| {
        let mut now = now();
        change(&mut now);
        now.switchover(to).unwrap_err().reason()
    };
    let to_b = Some(&"b");
    assert_eq!(refused(&|_| {}, Some(&"d")), "UnknownMember");
    assert_eq!(refused(&|_| {}, Some(&"a")), "TargetLeads");
    assert_eq!(refused(&|now| now.paused = true, to_b), "Paused");
    assert_eq!(refused(&|now| now.record = None, to_b), "NoRecord");
    assert_eq!(refused(&|now| now.holder = None, to_b), "NoPrimary");
    assert_eq!(refused(&|now| now.version = 5, to_b), "NoPrimary", "the next one is not open yet");
    assert_eq!(refused(&|now| voters(now, &["c"]), to_b), "NotAVoter");
    assert_eq!(
        refused(&|now| now.log.as_mut().unwrap().has.retain(|member, _| *member != "b"), to_b),
        "NotReceiving"
    );
    assert_eq!(refused(&|now| now.log = None, to_b), "NotReceiving");
    assert_eq!(refused(&|now| now.reachable.retain(|member| *member != "b"), to_b), "Unreachable");
    let late =
        |by: u64| move |now: &mut Now<M>| now.log.as_mut().unwrap().has.extend([("b", (100 << 20) - by)]);
    assert_eq!(refused(&late(MOST_LAG + 1), to_b), "LagsBehind");
    let mut just = now();
    late(MOST_LAG)(&mut just);
    assert_eq!(just.switchover(to_b), Ok("b"));
}

#[test]
fn a_switchover_to_anybody_is_refused_with_what_keeps_each_of_them() {
    let mut now = now();
    voters(&mut now, &["c"]);
    now.log.as_mut().unwrap().has.clear();
    let members = vec![("b".to_owned(), NotReady::NotAVoter), ("c".to_owned(), NotReady::NotReceiving)];
    let refusal = now.switchover(None).unwrap_err();
    assert_eq!(refusal, Refusal::NoCandidate { members });
    assert!(
        refusal.to_string().contains("b: it is not among those that acknowledge; c: it receives nothing")
    );
}

#[test]
fn what_an_operator_expects_must_hold() {
    assert_eq!(now().expect(Some(&"a"), Some(4)), Ok(()));
    assert_eq!(now().expect(None, None), Ok(()));
    assert_eq!(now().expect(Some(&"b"), None).unwrap_err().reason(), "PrimaryIsAnother");
    assert_eq!(now().expect(None, Some(3)).unwrap_err().reason(), "VersionIsAnother");
}

#[test]
fn a_standby_may_be_copied_anew_while_enough_others_acknowledge() {
    assert_eq!(now().reinit(&"b"), Ok(()));
    let refused = |change: &dyn Fn(&mut Now<M>), member| {
        let mut now = now();
        change(&mut now);
        now.reinit(&member).unwrap_err().reason()
    };
    assert_eq!(refused(&|_| {}, "a"), "IsPrimary");
    assert_eq!(refused(&|_| {}, "d"), "UnknownMember");
    assert_eq!(refused(&|now| voters(now, &["b"]), "b"), "LastVoter");
    assert_eq!(refused(&|now| now.version = 5, "b"), "NoPrimary", "there is nobody to copy from");
    let mut one_left = now();
    voters(&mut one_left, &["b"]);
    assert_eq!(one_left.reinit(&"c"), Ok(()), "it does not acknowledge anyway");
    one_left.paused = true;
    assert_eq!(one_left.reinit(&"c"), Ok(()));
}

#[test]
fn the_primary_is_fenced_whether_it_acknowledges_or_not() {
    assert_eq!(now().fence(), Ok("a"));
    assert_eq!(after_the_loss(&[("b", 1)]).fence(), Ok("b"));
    let nobody = Now { holder: None, ..now() };
    assert_eq!(nobody.fence(), Err(Refusal::NobodyLeads));
}

#[test]
fn a_failover_with_loss_says_what_is_given_up_and_what_is_known_to_be_missing() {
    let mut now = after_the_loss(&[("b", 90 << 20)]);
    let (record, _) = now.record.as_mut().unwrap();
    record.quorum = Quorum::any(1, ["b", "c"].into()).unwrap();
    let failover = now.failover_with_loss(None).unwrap();
    assert_eq!((failover.to, failover.permit.over), ("b", 4));
    assert_eq!(failover.permit.with, ["b"].into());
    assert_eq!(failover.missing, ["a", "c"].into());
    assert_eq!(failover.lost, Some(10 << 20));
    now.log = None;
    assert_eq!(now.failover_with_loss(Some(&"b")).unwrap().lost, None);
}

#[test]
fn a_failover_with_loss_is_refused_where_nothing_has_to_be_lost_or_another_has_more() {
    assert_eq!(now().failover_with_loss(None).unwrap_err().reason(), "PrimaryLeads");
    let mut enough = after_the_loss(&[("b", 1), ("c", 2)]);
    assert_eq!(enough.failover_with_loss(None), Err(Refusal::NotNeeded { best: "c".to_owned() }));
    // All commits need both: with one of them nothing is missing.
    let (record, _) = enough.record.as_mut().unwrap();
    record.quorum = Quorum::any(2, ["b", "c"].into()).unwrap();
    enough.reports.remove("c");
    assert_eq!(enough.failover_with_loss(None).unwrap_err().reason(), "NotNeeded");
    assert_eq!(after_the_loss(&[]).failover_with_loss(None).unwrap_err().reason(), "NobodySealed");
    assert_eq!(after_the_loss(&[("b", 1)]).failover_with_loss(Some(&"c")).unwrap_err().reason(), "NotSealed");
    assert_eq!(
        after_the_loss(&[("b", 1)]).failover_with_loss(Some(&"d")).unwrap_err().reason(),
        "UnknownMember"
    );
    let paused = Now { paused: true, ..after_the_loss(&[("b", 1)]) };
    assert_eq!(paused.failover_with_loss(None).unwrap_err().reason(), "Paused");
    let mut two = after_the_loss(&[("b", 1), ("c", 2)]);
    let (record, _) = two.record.as_mut().unwrap();
    record.members.insert("d");
    record.quorum = Quorum::any(1, ["b", "c", "d"].into()).unwrap();
    assert_eq!(two.failover_with_loss(Some(&"b")).unwrap_err().reason(), "Behind");
    assert_eq!(two.failover_with_loss(Some(&"c")).unwrap().permit.with, ["b", "c"].into());
}

#[test]
fn a_permit_is_for_one_record_and_for_the_one_that_has_most_of_those_that_were_there() {
    let now = after_the_loss(&[("b", 5)]);
    let (record, at) = now.record.clone().unwrap();
    let permit = Permit { over: 4, with: ["b"].into() };
    let may = |candidate: M, reports, permit: &Permit<M>| {
        may_promote_with_loss(&candidate, 5, (&record, at), reports, permit)
    };
    assert_eq!(may("b", &now.reports, &permit), Ok(()));
    let too_few = Err(Blocked::TooFew { missing: ["a", "c"].into(), needed: 1 });
    assert_eq!(may("b", &now.reports, &Permit { over: 3, ..permit.clone() }), too_few, "of another record");
    // One that was there when it was decided has to be heard first.
    let with_c = Permit { with: ["b", "c"].into(), ..permit.clone() };
    assert_eq!(may("b", &now.reports, &with_c), Err(Blocked::TooFew { missing: ["c"].into(), needed: 1 }));
    let three = Quorum::any(1, ["b", "c", "d"].into()).unwrap();
    let members = ["a", "b", "c", "d"].into();
    let record = Record { quorum: three, members, ..record.clone() };
    let both = after_the_loss(&[("b", 5), ("c", 6)]).reports;
    let may =
        |candidate: M, reports, permit| may_promote_with_loss(&candidate, 5, (&record, at), reports, permit);
    assert_eq!(may("b", &both, &with_c), Err(Blocked::Behind { best: "c" }));
    assert_eq!(may("c", &both, &with_c), Ok(()));
    // Who was not there and is now counts as well.
    assert_eq!(may("b", &both, &permit), Err(Blocked::Behind { best: "c" }));
    let mut strange = both.clone();
    strange.insert("c", Report { system: 8, ..strange["c"].clone() });
    assert!(matches!(may("b", &strange, &with_c), Err(Blocked::TooFew { .. })), "it has other data");
    assert_eq!(may("a", &both, &with_c), Err(Blocked::NotSealed));
}
