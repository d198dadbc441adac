//! Identity, epoch and quarantine, rule by rule.

use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

fn record(identity: &str, epoch: i64, settled: bool) -> LifeRecord {
    LifeRecord { identity: identity.into(), epoch, settled, max_ttl: 30 }
}

fn life(server: &str, recorded: &str, epoch: i64, settled: bool) -> Life {
    Life::Recorded { identity: server.into(), step: STEP, record: record(recorded, epoch, settled) }
}

fn of(identity: &str, epoch: i64) -> LifeId {
    LifeId { identity: identity.into(), epoch }
}

#[test]
fn a_first_answer_that_is_not_settled_is_a_quarantine_and_a_settled_one_is_none() {
    let mut q = Quarantine::new(30);
    q.answered(S(100), life("a", "a", 0, false));
    assert!(!q.is_over(S(129)) && q.is_over(S(130)));
    let mut q = Quarantine::new(30);
    q.answered(S(100), life("a", "a", 0, true));
    assert!(q.is_over(S(100)));
}

#[test]
fn another_identity_or_epoch_begins_a_quarantine_from_that_answer() {
    for changed in [life("b", "b", 0, false), life("a", "a", 1, false)] {
        let mut q = Quarantine::new(30);
        q.answered(S(100), life("a", "a", 0, true));
        q.answered(S(200), changed.clone());
        assert_eq!(q.until(S(200)), Some(S(230)));
        q.answered(S(229), changed);
        assert!(!q.is_over(S(229)) && q.is_over(S(230)));
    }
}

#[test]
fn while_the_record_is_another_servers_nothing_is_over_and_settled_says_nothing() {
    let mut q = Quarantine::new(30);
    q.answered(S(100), life("b", "a", 7, true));
    assert!(!q.is_over(S(100)) && !q.is_over(S(1000)));
    assert_eq!(q.new_epoch().unwrap().seen, Some(record("a", 7, true)));
    // Recording it is a change once more: the wait counts from when it was seen.
    q.answered(S(110), life("b", "b", 8, false));
    assert_eq!((q.new_epoch(), q.until(S(110))), (None, Some(S(140))));
}

#[test]
fn settled_ends_the_wait_for_everybody() {
    let mut q = Quarantine::new(30);
    q.answered(S(100), life("a", "a", 7, false));
    q.answered(S(105), life("a", "a", 7, true));
    assert!(q.is_over(S(105)));
}

#[test]
fn the_larger_maximum_counts_for_waiting_and_the_smaller_for_a_lease() {
    let mut q = Quarantine::new(10);
    q.answered(S(100), life("a", "a", 7, false));
    assert_eq!((q.length(), q.longest_ttl()), (S(30), 10));
    let mut q = Quarantine::new(60);
    q.answered(S(100), life("a", "a", 7, false));
    assert_eq!((q.length(), q.longest_ttl()), (S(60), 30));
}

#[test]
fn a_maximum_that_was_ever_recorded_is_remembered_when_the_tables_are_made_anew_with_a_shorter_one() {
    let mut q = Quarantine::new(10);
    q.answered(S(100), life("a", "a", 7, false));
    let shorter = LifeRecord { max_ttl: 5, ..record("b", 8, false) };
    q.answered(S(200), Life::Recorded { identity: "b".into(), step: STEP, record: shorter });
    assert_eq!((q.length(), q.longest_ttl()), (S(30), 5));
}

#[test]
fn who_has_waited_says_so_once_and_again_only_after_a_while() {
    let mut q = Quarantine::new(30);
    q.answered(S(100), life("a", "a", 7, false));
    assert_eq!(q.to_settle(S(129), S(5)), None);
    assert_eq!(q.to_settle(S(130), S(5)), Some(of("a", 7)));
    assert_eq!(q.to_settle(S(131), S(5)), None);
    assert_eq!(q.to_settle(S(135), S(5)), Some(of("a", 7)));
    q.answered(S(136), life("a", "a", 7, true));
    assert_eq!(q.to_settle(S(200), S(5)), None);
}

#[test]
fn a_bare_table_knows_no_quarantine_until_its_record_goes_under_way() {
    let mut q = Quarantine::new(30);
    q.answered(S(1), Life::Unknown);
    assert!(q.is_over(S(1)));
    let mut q = Quarantine::new(30);
    q.answered(S(100), life("a", "a", 7, true));
    q.answered(S(200), Life::Unknown);
    assert!(!q.is_over(S(229)) && q.is_over(S(230)));
}

fn recorded(identity: &str, epoch: i64) -> Life {
    let record = LifeRecord { identity: identity.into(), epoch, settled: true, max_ttl: 30 };
    Life::Recorded { identity: identity.into(), step: STEP, record }
}

fn reaches(quarantine: &mut Quarantine, at: u64, life: Life, highest: i64) -> bool {
    quarantine.answered(Duration::from_secs(at), life);
    quarantine.reaches(Duration::from_secs(at), highest)
}

#[test]
fn a_record_that_was_put_back_is_a_loss_and_another_server_is_none() {
    let mut quarantine = Quarantine::new(30);
    assert!(!reaches(&mut quarantine, 100, recorded("a", 28), 28_000_001));
    assert!(reaches(&mut quarantine, 101, recorded("a", 0), 41));
    assert!(quarantine.new_epoch().is_some_and(|new| new.deliberate));
    // It tells by its identity.
    assert!(!reaches(&mut quarantine, 102, recorded("b", 0), 1));
    assert_eq!(quarantine.new_epoch(), None);
}

#[test]
fn ones_own_term_counts_as_seen() {
    let mut quarantine = Quarantine::new(30);
    assert!(!reaches(&mut quarantine, 100, recorded("a", 0), 41));
    quarantine.wrote(42);
    assert!(reaches(&mut quarantine, 101, recorded("a", 0), 41));
}

#[test]
fn a_history_that_is_shortened_again_and_again_begins_an_epoch_once_in_ten_quarantines() {
    let mut quarantine = Quarantine::new(30);
    let mut epochs = 0;
    let mut epoch = 0;
    for minute in 0..60 {
        let at = 100 + minute * 60;
        assert!(!reaches(&mut quarantine, at, recorded("a", epoch), 42));
        assert!(reaches(&mut quarantine, at + 1, recorded("a", epoch), 41));
        if quarantine.new_epoch().is_some() {
            (epochs, epoch) = (epochs + 1, epoch + 1);
        }
        assert!(!reaches(&mut quarantine, at + 2, recorded("a", epoch), 41));
        assert_eq!(quarantine.new_epoch(), None);
    }
    assert!(epochs <= 12, "{epochs} in an hour");
}

#[test]
fn without_a_record_nothing_is_known_to_be_forgotten() {
    let mut quarantine = Quarantine::new(30);
    assert!(!reaches(&mut quarantine, 100, Life::Unknown, 0));
    assert!(!reaches(&mut quarantine, 101, recorded("a", 0), 41));
    assert!(!reaches(&mut quarantine, 102, Life::Unknown, 0));
}

#[test]
fn where_there_is_no_room_for_a_date_the_versions_that_went_say_how_far_the_epoch_must_go() {
    let narrow = |epoch| match recorded("a", epoch) {
        Life::Recorded { identity, record, .. } => Life::Recorded { identity, step: NARROW_STEP, record },
        other => other,
    };
    let mut quarantine = Quarantine::new(30);
    assert!(!reaches(&mut quarantine, 100, narrow(3), 3_041));
    assert!(reaches(&mut quarantine, 101, narrow(0), 41));
    assert_eq!(quarantine.new_epoch().map(|new| new.at_least), Some(4));
}

#[test]
fn the_database_of_an_identity_is_the_uuid_in_which_it_ends() {
    assert_eq!(life("7/42/u-1", "a", 1, true).database(), Some("u-1"));
    assert_eq!(life("7/42/", "a", 1, true).database(), None);
    assert_eq!(life("no-uuid", "a", 1, true).database(), None);
    assert_eq!(Life::Unrecorded { identity: "7/u-1".into(), step: STEP }.database(), None);
    assert_eq!(Life::Unknown.database(), None);
}

#[test]
fn what_was_decided_without_a_record_holds_for_no_recorded_epoch() {
    let unrecorded = Life::Unrecorded { identity: "a".into(), step: STEP }.id();
    for epoch in [0, 1] {
        assert_ne!(unrecorded, of("a", epoch));
    }
}

#[test]
fn the_highest_floor_belongs_to_the_last_date_that_counts() {
    assert_eq!(FLOOR_MAX / STEP, DATE_MAX);
    assert_eq!(FLOOR_MAX % STEP, 0);
}

#[test]
fn a_longest_ttl_that_is_recorded_otherwise_than_configured_is_named() {
    for (own, disagreement) in [(30, None), (60, Some((60, 30)))] {
        let mut quarantine = Quarantine::new(own);
        assert_eq!(quarantine.disagreement(), None, "nothing was read yet");
        quarantine.answered(S(1), life("a", "a", 1, true));
        assert_eq!(quarantine.disagreement(), disagreement);
    }
}

/// There is no date in these versions that could be above all of them.
#[test]
fn an_epoch_of_a_narrow_column_after_a_loss_is_above_every_version_and_epoch_that_was_seen() {
    let narrow =
        |epoch| Life::Recorded { identity: "a".into(), step: NARROW_STEP, record: record("a", epoch, true) };
    for (epoch, highest, at_least) in [(3, 5 * NARROW_STEP + 7, 6), (9, 5 * NARROW_STEP + 7, 10)] {
        let mut quarantine = Quarantine::new(30);
        quarantine.answered(S(100), narrow(epoch));
        assert!(!quarantine.reaches(S(100), highest));
        quarantine.answered(S(101), narrow(epoch));
        assert!(quarantine.reaches(S(101), 2));
        assert_eq!(quarantine.new_epoch().map(|new| new.at_least), Some(at_least));
    }
}
