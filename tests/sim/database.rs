//! Every order in which three servers of a database can be promoted, end, follow, acknowledge and change their quorum, with
//! the product's own rules: no write that was acknowledged is missing from a later primary, and logs that part never
//! agree again.
//!
//! Each part of a rule, left out on purpose, must be found ([`Broken`]).

mod outage;
mod world;

use std::collections::HashSet;

use world::{Step, World};

/// Rules left out on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The longest log wins, whatever its term.
    OrderedByLength,
    /// Names change to what the record does not cover.
    NamesBeforeRecord,
    /// The record changes to what does not cover the names.
    RecordBeforeNames,
    /// The record names voters that lack what was acknowledged before.
    NoCatchUp,
    /// A member reports and receives on.
    ReportWithoutSeal,
    /// Any majority of the members is enough.
    MajorityInsteadOfQuorum,
    /// A promotion is judged by the quorum that the cluster began with.
    NoRecord,
    /// Any sealed member is promoted.
    NotTheBest,
    /// A sealed member follows an older primary.
    FollowBelowTheSeal,
    /// A member follows and keeps its older seal.
    FollowWithoutSeal,
    /// A promoted server acknowledges at once.
    OpenedAtPromotion,
    /// A promoted server opens before the record is its own.
    OpenedUnrecorded,
    /// A standby connects by itself to the server that it followed, whatever that one was promoted for since.
    ConnectsByItself,
    /// A server that has written alone follows without giving that up.
    NoRewind,
    /// A member whose line has a number that the primary's history has, too, is let follow it.
    ByTheNumbersOfLines,
    /// A member that has the beginning of a line without the row after it is let follow, wherever that beginning came from.
    LinesWithoutARow,
    /// A primary whose lease another holds changes the record.
    RecordNotBoundToItsVersion,
    /// A primary that was without its lease goes on under a new term although another was recorded in between.
    GoesOnAfterAnother,
    /// A seal does not outlive a restart.
    SealForgottenAtRestart,
    /// What one data directory acknowledges or promises counts for another that bears the same name.
    NamesInsteadOfDirectories,
    /// A promotion is judged by the record that the store has, though members know a newer one.
    OlderRecord,
    /// A lease is taken above what the store says, though members know of later versions.
    VersionsOfTheStore,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    terms: u8,
    writes: u8,
    /// Of names or record, other than those that a promoted server opens with.
    changes: u8,
    /// Whether a second data directory bears one of the names.
    twin: bool,
    /// Whether an older state of the store may be put back.
    restores: bool,
}

struct Search<'a> {
    bounds: Bounds,
    /// What has happened when it begins.
    first: &'a [Step],
    broken: Option<Broken>,
    seen: HashSet<u64>,
}

impl Search<'_> {
    /// Breadth first, as the shortest story is the one to read.
    fn run(&mut self) -> Result<usize, String> {
        let mut states = vec![(
            World::new(self.bounds.changes, self.bounds.twin, self.bounds.restores),
            usize::MAX,
            Step::Take(0),
        )];
        for &step in self.first {
            assert!(states[0].0.steps(self.bounds, self.broken).contains(&step), "{step:?} cannot be");
            states[0].0.step(step, self.broken)?;
        }
        self.seen.insert(states[0].0.fingerprint());
        let mut at = 0;
        while at < states.len() {
            let world = states[at].0;
            for step in world.steps(self.bounds, self.broken) {
                let mut next = world;
                if let Err(why) = next.step(step, self.broken) {
                    return Err(format!("{why}, after {:?}", story(&states, at, step)));
                }
                if self.seen.insert(next.fingerprint()) {
                    states.push((next, at, step));
                }
            }
            at += 1;
        }
        Ok(states.len())
    }
}

fn story(states: &[(World, usize, Step)], mut at: usize, last: Step) -> Vec<Step> {
    let mut steps = vec![last];
    while states[at].1 != usize::MAX {
        steps.push(states[at].2);
        at = states[at].1;
    }
    steps.reverse();
    steps
}

const fn bounds(terms: u8, writes: u8, changes: u8) -> Bounds {
    Bounds { terms, writes, changes, twin: false, restores: false }
}

const fn twin(terms: u8, writes: u8, changes: u8) -> Bounds {
    Bounds { twin: true, ..bounds(terms, writes, changes) }
}

const fn restored(terms: u8, writes: u8, changes: u8) -> Bounds {
    Bounds { restores: true, ..bounds(terms, writes, changes) }
}

fn search(bounds: Bounds, first: &[Step], broken: Option<Broken>) -> Result<usize, String> {
    Search { bounds, first, broken, seen: HashSet::new() }.run()
}

#[test]
fn no_acknowledged_write_is_lost_in_any_order() {
    // MODEL_DB=3,2,2 goes further: terms, writes, changes; then `twin` or `restored`, which take minutes.
    let further = std::env::var("MODEL_DB").ok().map(|text| {
        let words: Vec<&str> = text.split(',').collect();
        let number = |at: usize| words[at].parse().unwrap();
        let bounds = bounds(number(0), number(1), number(2));
        Bounds { twin: words[3..].contains(&"twin"), restores: words[3..].contains(&"restored"), ..bounds }
    });
    let all = [bounds(2, 1, 2), bounds(2, 2, 0), bounds(3, 1, 0)];
    for bounds in further.map_or_else(|| all.to_vec(), |one| vec![one]) {
        let states = search(bounds, &[], None).unwrap();
        println!("{states} states: {bounds:?}");
        assert!(states > 40_000, "only {states} states: nothing was tried");
    }
}

#[test]
fn each_part_of_the_rule_is_needed() {
    // A story that takes many states to find is begun for the search.
    let wrote_alone = [
        Step::Write(0),
        Step::Write(0),
        Step::Write(0),
        Step::End(0),
        Step::Take(1),
        Step::Seal(1),
        Step::Seal(2),
        Step::Promote(1),
    ];
    let one_voter = [
        Step::Name(0, (0b010, 1)),
        Step::Record(0, (0b010, 1)),
        Step::Take(1),
        Step::Seal(1),
        Step::Promote(1),
    ];
    let another_in_between = [
        Step::Take(1),
        Step::End(0),
        Step::Seal(0),
        Step::Seal(1),
        Step::Promote(1),
        Step::Take(0),
        Step::Seal(0),
        Step::Promote(0),
    ];
    for (broken, bounds, first) in [
        (Broken::OrderedByLength, bounds(3, 4, 0), &wrote_alone[..]),
        (Broken::NamesBeforeRecord, bounds(2, 1, 1), &[]),
        (Broken::RecordBeforeNames, bounds(2, 1, 1), &[]),
        (Broken::NoCatchUp, bounds(2, 1, 2), &[]),
        (Broken::ReportWithoutSeal, bounds(2, 1, 0), &[]),
        (Broken::MajorityInsteadOfQuorum, bounds(2, 1, 2), &[]),
        (Broken::NoRecord, bounds(2, 1, 2), &[]),
        (Broken::NotTheBest, bounds(2, 1, 0), &[]),
        (Broken::FollowBelowTheSeal, bounds(2, 1, 0), &[]),
        (Broken::FollowWithoutSeal, bounds(3, 1, 2), &one_voter[..]),
        (Broken::ConnectsByItself, bounds(4, 1, 0), &another_in_between[..]),
        (Broken::OpenedAtPromotion, bounds(3, 1, 0), &[]),
        (Broken::OpenedUnrecorded, bounds(3, 1, 0), &[]),
        (Broken::NoRewind, bounds(3, 1, 0), &[]),
        (Broken::ByTheNumbersOfLines, bounds(3, 1, 0), &[]),
        (Broken::LinesWithoutARow, bounds(3, 1, 0), &[]),
        (Broken::RecordNotBoundToItsVersion, bounds(2, 1, 2), &[]),
        (Broken::GoesOnAfterAnother, bounds(3, 1, 0), &[]),
        (Broken::SealForgottenAtRestart, bounds(3, 1, 0), &[]),
        (Broken::NamesInsteadOfDirectories, twin(2, 1, 0), &[]),
        (Broken::OlderRecord, restored(3, 1, 0), &[]),
        (Broken::VersionsOfTheStore, restored(3, 1, 0), &[]),
    ] {
        let Err(why) = search(bounds, first, Some(broken)) else { panic!("{broken:?} makes no difference") };
        println!("{broken:?}: {why}");
    }
}
