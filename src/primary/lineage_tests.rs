use super::lineage::{Branch, Lineage, Promotion};

fn lineage(promotions: &[(i64, u32, u64)]) -> Lineage {
    let all = promotions.iter().map(|&(version, line, began)| Promotion { version, line, began });
    Lineage::new(all.collect()).unwrap()
}

fn branch(promotions: &[(i64, u32, u64)], of: i64, line: u32, end: u64) -> Branch {
    Branch { lineage: lineage(promotions), of, line, end }
}

/// Where these data leave [`ours`].
fn parts(member: &Branch) -> Option<u64> {
    let line_ends = [0, 10, 50, 80, 90].get(member.line as usize).copied().unwrap_or(0);
    ours().parts(90, line_ends, member)
}

/// It ends at 90.
fn ours() -> Lineage {
    lineage(&[(1, 2, 10), (4, 3, 50), (7, 4, 80)])
}

#[test]
fn data_are_a_beginning_up_to_where_the_next_promotion_left_their_term() {
    let first = [(1, 2, 10)];
    assert_eq!(parts(&branch(&[], 0, 1, 10)), None);
    assert_eq!(parts(&branch(&[], 0, 1, 11)), Some(10));
    assert_eq!(parts(&branch(&first, 0, 2, 50)), None);
    assert_eq!(parts(&branch(&first, 0, 2, 51)), Some(50), "one byte more than was taken over");
    assert_eq!(parts(&branch(&[(1, 2, 10), (4, 3, 50), (7, 4, 80)], 7, 4, 90)), None);
    assert_eq!(parts(&branch(&[(1, 2, 10), (4, 3, 50), (7, 4, 80)], 7, 4, 91)), Some(90));
}

#[test]
fn two_promotions_to_the_same_line_are_told_apart_by_their_versions() {
    // It was promoted under version 3 at the very same place, and nobody knew.
    let other = branch(&[(1, 2, 10), (3, 3, 50)], 3, 3, 60);
    assert_eq!(parts(&other), Some(50));
    let longer = branch(&[(1, 2, 10), (3, 3, 30)], 3, 3, 40);
    assert_eq!(parts(&longer), Some(40), "not beyond what it has");
}

#[test]
fn a_promotion_without_a_row_has_left_the_line_before_it_all_the_same() {
    // Line 3 began at 40, and the server ended; then it was promoted again.
    let ours = lineage(&[(1, 2, 10), (5, 4, 60)]);
    let member = |end| branch(&[(1, 2, 10)], 1, 2, end);
    assert_eq!((ours.parts(90, 40, &member(40)), ours.parts(90, 40, &member(41))), (None, Some(40)));
}

#[test]
fn the_beginning_of_a_line_without_its_row_counts_only_if_it_was_received_from_that_primary() {
    let first = [(1, 2, 10)];
    assert_eq!(parts(&branch(&first, 1, 3, 52)), Some(50), "it may be another's");
    assert_eq!(parts(&branch(&first, 3, 3, 52)), Some(50), "it is another's");
    assert_eq!(parts(&branch(&first, 4, 3, 52)), None);
    assert_eq!(parts(&branch(&first, 4, 3, 81)), Some(80));
    assert_eq!(parts(&branch(&first, 4, 4, 81)), Some(50), "somebody promoted it by hand");
    assert_eq!(parts(&branch(&[], 0, 2, 12)), Some(10), "of the very first, too");
    assert_eq!(parts(&branch(&[], 1, 2, 12)), None);
}

#[test]
fn a_primary_that_goes_on_under_a_later_version_has_left_nothing() {
    let ours = lineage(&[(1, 2, 10), (4, 2, 10), (7, 3, 80)]);
    let member = |end| branch(&[(1, 2, 10)], 1, 2, end);
    assert_eq!((ours.parts(90, 80, &member(80)), ours.parts(90, 80, &member(81))), (None, Some(80)));
    assert_eq!(ours.parts(90, 80, &branch(&[(1, 2, 10), (4, 2, 10)], 4, 2, 70)), None);
}

#[test]
fn a_promise_about_other_data_proves_nothing() {
    // Somebody has put another member's data there.
    let other = branch(&[(1, 2, 10), (3, 3, 50)], 7, 3, 60);
    assert_eq!(parts(&other), Some(50));
}

#[test]
fn a_line_is_shared_only_if_both_know_its_promotion() {
    let shared = |other: &[(i64, u32, u64)]| ours().shared_line(&lineage(other));
    assert_eq!(shared(&[(1, 2, 10), (4, 3, 50)]), 3);
    assert_eq!(shared(&[(1, 2, 10), (3, 3, 50)]), 2);
    assert_eq!(shared(&[(1, 2, 10)]), 2);
    assert_eq!(shared(&[]), 1);
    assert_eq!(shared(&[(2, 2, 10)]), 1);
}

#[test]
fn promotions_are_in_the_order_of_their_versions() {
    let of = |version, line| Promotion { version, line, began: 0 };
    assert_eq!(Lineage::new(vec![of(2, 2), of(1, 3)]), None);
    assert_eq!(Lineage::new(vec![of(1, 3), of(2, 2)]), None);
    assert!(Lineage::new(vec![of(1, 3), of(2, 3)]).is_some(), "a primary went on under a new term");
}
