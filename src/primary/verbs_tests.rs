use super::Record;
use super::quorum::Quorum;
use super::verbs::{Log, MOST_LAG, NotReady, Now, Refusal};

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
    }
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
    assert_eq!(Now { version: 5, holder: Some("b"), ..now() }.fence(), Ok("b"));
    let nobody = Now { holder: None, ..now() };
    assert_eq!(nobody.fence(), Ok("a"), "it may go on without the lease");
    let strange = Now { holder: Some("d"), ..now() };
    assert_eq!(strange.fence().unwrap_err().reason(), "UnknownMember", "nobody would see its fence");
    let unrecorded = Now { record: None, ..now() };
    assert_eq!(unrecorded.fence(), Err(Refusal::NoRecord));
}
