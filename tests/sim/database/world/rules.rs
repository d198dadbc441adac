use std::sync::LazyLock;

use component_lease::primary::quorum::may_record;
use component_lease::primary::{Names, Quorum};

use super::{Bits, set};

/// Of quorums: four voters, up to three of which must acknowledge.
const CODES: usize = 64;

/// The product's answers about each choice of names, record and members that have caught up, asked for once: a search asks
/// for them a hundred million times.
struct Rules {
    covered: Vec<bool>,
    recorded: Vec<bool>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let quorums: Vec<Option<Quorum<u8>>> =
        (0..CODES as u8).map(|code| Quorum::any((code >> 4).into(), set(code & 15))).collect();
    let all = (CODES + 1) * CODES;
    let mut rules = Rules { covered: vec![false; all], recorded: vec![false; all * 16] };
    for (record_code, record) in quorums.iter().enumerate() {
        let Some(record) = record else { continue };
        for names_code in 0..=CODES {
            let names = match quorums.get(names_code) {
                Some(Some(names)) => Names::Quorum(names.clone()),
                Some(None) => continue,
                None => Names::Nobody,
            };
            let at = names_code * CODES + record_code;
            rules.covered[at] = names.are_covered_by(record);
            for caught_up in 0..16u8 {
                rules.recorded[at * 16 + caught_up as usize] = may_record(record, &names, &set(caught_up));
            }
        }
    }
    rules
});

fn code(names: Option<Bits>) -> usize {
    names.map_or(CODES, |(voters, acks)| (voters | acks << 4).into())
}

pub(super) fn is_covered(names: Option<Bits>, record: Bits) -> bool {
    RULES.covered[code(names) * CODES + code(Some(record))]
}

pub(super) fn is_recordable(record: Bits, names: Option<Bits>, caught_up: u8) -> bool {
    RULES.recorded[(code(names) * CODES + code(Some(record))) * 16 + caught_up as usize]
}
