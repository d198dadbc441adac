use std::sync::LazyLock;

use component_lease::primary::quorum::may_record;
use component_lease::primary::{Names, Quorum};

use super::{Bits, set};

/// The product's answers about each choice of names, record and members that have caught up, asked for once: a search asks
/// for them a hundred million times.
struct Rules {
    covered: Vec<bool>,
    recorded: Vec<bool>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let quorums: Vec<Option<Quorum<u8>>> =
        (0..32u8).map(|code| Quorum::any((code >> 3).into(), set(code & 7))).collect();
    let mut rules = Rules { covered: vec![false; 33 * 32], recorded: vec![false; 33 * 32 * 8] };
    for (record_code, record) in quorums.iter().enumerate() {
        let Some(record) = record else { continue };
        for names_code in 0..33 {
            let names = match quorums.get(names_code) {
                Some(Some(names)) => Names::Quorum(names.clone()),
                Some(None) => continue,
                None => Names::Nobody,
            };
            let at = names_code * 32 + record_code;
            rules.covered[at] = names.are_covered_by(record);
            for caught_up in 0..8u8 {
                rules.recorded[at * 8 + caught_up as usize] = may_record(record, &names, &set(caught_up));
            }
        }
    }
    rules
});

fn code(names: Option<Bits>) -> usize {
    names.map_or(32, |(voters, acks)| (voters | acks << 3).into())
}

pub(super) fn is_covered(names: Option<Bits>, record: Bits) -> bool {
    RULES.covered[code(names) * 32 + code(Some(record))]
}

pub(super) fn is_recordable(record: Bits, names: Option<Bits>, caught_up: u8) -> bool {
    RULES.recorded[(code(names) * 32 + code(Some(record))) * 8 + caught_up as usize]
}
