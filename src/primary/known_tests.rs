use super::known::{Stamp, is_used, newest};

fn stamp(version: i64, serial: u64) -> Stamp {
    Stamp { version, serial }
}

#[test]
fn the_newest_record_is_the_last_of_the_last_version() {
    let known = [(stamp(7, 2), "b"), (stamp(8, 1), "d"), (stamp(7, 9), "c"), (stamp(3, 40), "a")];
    assert_eq!(newest(known), Some((stamp(8, 1), "d")));
    assert_eq!(newest(known.into_iter().take(1)), Some((stamp(7, 2), "b")));
    assert_eq!(newest::<()>([]), None);
    let twice = [(stamp(7, 2), "of the store"), (stamp(7, 2), "of a member")];
    assert_eq!(newest(twice).unwrap().1, "of the store", "the same, so the first will do");
}

#[test]
fn a_version_that_some_primary_had_is_for_no_other() {
    assert!(!is_used(8, [0, 3, 7]));
    assert!(is_used(8, [3, 8]) && is_used(8, [9, 1]));
    assert!(!is_used(8, []));
}
