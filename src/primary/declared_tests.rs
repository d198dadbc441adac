use std::collections::{BTreeMap, BTreeSet};

use super::declared::{Other, conflict, others};

fn set(members: &[&str]) -> BTreeSet<String> {
    members.iter().map(|member| (*member).to_owned()).collect()
}

#[test]
fn lists_that_differ_are_named_with_whose_they_are() {
    let (own, other) = (set(&["a", "b"]), set(&["a", "b", "c"]));
    let said = BTreeMap::from([("a".to_owned(), own.clone()), ("b".to_owned(), other.clone())]);
    assert_eq!(others(&own, Some(&own), &BTreeMap::new()), []);
    let of_b = Other { whose: Some("b".to_owned()), members: other.clone() };
    assert_eq!(others(&own, Some(&own), &said), [of_b.clone()]);
    let of_record = Other { whose: None, members: other.clone() };
    assert_eq!(others(&own, Some(&other), &said), [of_record, of_b]);
}

#[test]
fn with_a_record_its_list_decides_who_may_be_promoted_and_before_all_have_to_agree() {
    let of = |whose: Option<&str>| Other { whose: whose.map(str::to_owned), members: set(&["x"]) };
    let (record, b) = (of(None), of(Some("b")));
    assert_eq!(conflict(&[b.clone()], true), None, "the other one is wrong");
    assert_eq!(conflict(&[record.clone(), b.clone()], true), Some(&record));
    assert_eq!(conflict(&[b.clone()], false), Some(&b));
    assert_eq!(conflict(&[], false), None);
}
