use std::time::Duration;

use super::writable::{Proof, writable_until};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_primary_is_writable_until_the_later_of_its_term_and_its_newest_proof() {
    let proof = Proof::of(at(20), 1);
    assert_eq!(writable_until(Some(at(21)), proof), Some(at(22)));
    assert_eq!(writable_until(Some(at(23)), proof), Some(at(23)));
    assert_eq!(writable_until(None, proof), Some(at(22)));
    assert_eq!(writable_until(None, None), None);
}

#[test]
fn what_a_primary_acknowledges_alone_proves_nothing() {
    assert_eq!(Proof::of(at(20), 0), None);
}
