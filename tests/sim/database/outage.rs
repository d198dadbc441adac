//! The store of the lease is away, for some or for all, and replication is what says who is primary: in time.
//!
//! A primary with two voters of which one acknowledges. Each tick it may renew, begin a write, and have the last one
//! acknowledged, as long after it was received as the network likes; members are cut off from the store and from the primary and
//! come back; one of them takes the lease once it lapsed, and is promoted once both are sealed. **From the moment
//! that another opens, the old primary is writable for [`PROOF_LASTS`] at most.**

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use component_lease::primary::Quorum;
use component_lease::primary::writable::{PROOF_LASTS, Proof, writable_until};

/// Each tick is a second.
const TTL: u8 = 6;
/// How long after its last renewal began a leader may act.
const DEADLINE: u8 = 4;
const LASTS: u8 = PROOF_LASTS.as_secs() as u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// A proof is dated by its acknowledgement.
    ProofFromTheAnswer,
    /// A write that the primary acknowledged alone is a proof.
    ProofAlone,
    /// A member that is sealed receives on.
    SealedReceives,
    /// One sealed member of two is enough.
    OneSealIsEnough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Write {
    begun: u8,
    /// Whether a voter has it, so that its acknowledgement is under way.
    received: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    faults: u8,
    /// Of the primary, then of the two others: whether they reach the store.
    store: [bool; 3],
    /// Of the two others: whether they reach the primary.
    linked: [bool; 2],
    sealed: [bool; 2],
    renewed: u8,
    taken: bool,
    opened: Option<u8>,
    /// Until when by its lease; `None` once it ended.
    lease: Option<u8>,
    proof: Option<Proof>,
    write: Option<Write>,
    /// Whether the server waits for no voter, in a cluster whose users accept loss: others can be promoted all the same.
    alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tick,
    Store(usize),
    Link(usize),
    Renew,
    Write,
    Receive,
    Acknowledge,
    Take,
    Seal(usize),
    Open,
}

const fn seconds(ticks: u8) -> Duration {
    Duration::from_secs(ticks as u64)
}

impl World {
    const fn new(faults: u8, alone: bool) -> Self {
        Self {
            now: 0,
            faults,
            store: [true; 3],
            linked: [true; 2],
            sealed: [false; 2],
            renewed: 0,
            taken: false,
            opened: None,
            lease: Some(DEADLINE),
            proof: None,
            write: None,
            alone,
        }
    }

    fn is_writable(&self) -> bool {
        self.lease.is_some()
            && writable_until(self.lease.map(seconds), self.proof).is_some_and(|end| seconds(self.now) < end)
    }

    fn steps(&self, broken: Option<Broken>) -> Vec<Step> {
        let mut steps = vec![Step::Tick];
        if self.faults > 0 {
            steps.extend((0..3).map(Step::Store));
            steps.extend((0..2).map(Step::Link));
        }
        if self.is_writable() {
            if self.store[0] && !self.taken && self.renewed < self.now {
                steps.push(Step::Renew);
            }
            match self.write {
                None => steps.push(Step::Write),
                Some(write) if write.received || self.alone => steps.push(Step::Acknowledge),
                Some(_) => {}
            }
        }
        let receives =
            |at: usize| self.linked[at] && (!self.sealed[at] || broken == Some(Broken::SealedReceives));
        if self.write.is_some_and(|write| !write.received) && self.lease.is_some() && (0..2).any(receives) {
            steps.push(Step::Receive);
        }
        if !self.taken && self.now >= self.renewed + TTL && (self.store[1] || self.store[2]) {
            steps.push(Step::Take);
        }
        let seals = |at: &usize| self.taken && self.store[at + 1] && !self.sealed[*at];
        steps.extend((0..2).filter(seals).map(Step::Seal));
        let enough = self.sealed == [true; 2]
            || (broken == Some(Broken::OneSealIsEnough) && self.sealed.contains(&true));
        if self.taken && self.opened.is_none() && enough {
            steps.push(Step::Open);
        }
        steps
    }

    fn step(&mut self, step: Step, broken: Option<Broken>) {
        match step {
            Step::Tick => {
                self.now += 1;
                if !self.is_writable() {
                    self.lease = None;
                    self.write = None;
                }
            }
            Step::Store(at) => {
                self.store[at] = !self.store[at];
                self.faults -= 1;
            }
            Step::Link(at) => {
                self.linked[at] = !self.linked[at];
                self.faults -= 1;
            }
            Step::Renew => {
                self.renewed = self.now;
                self.lease = Some(self.now + DEADLINE);
            }
            Step::Write => self.write = Some(Write { begun: self.now, received: false }),
            Step::Receive => self.write.as_mut().unwrap().received = true,
            Step::Acknowledge => {
                let write = self.write.take().unwrap();
                let begun = if broken == Some(Broken::ProofFromTheAnswer) { self.now } else { write.begun };
                let quorum = if self.alone && broken != Some(Broken::ProofAlone) {
                    Quorum::alone()
                } else {
                    Quorum::any(1, BTreeSet::from([1, 2])).unwrap()
                };
                self.proof = Proof::of(seconds(begun), quorum.acks()).or(self.proof);
            }
            Step::Take => self.taken = true,
            Step::Seal(at) => self.sealed[at] = true,
            Step::Open => self.opened = Some(self.now),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.opened {
            Some(opened) if self.is_writable() && self.now >= opened + LASTS => {
                Err(format!("another opened at {opened}, and the old primary is writable at {}", self.now))
            }
            _ => Ok(()),
        }
    }
}

struct Search {
    until: u8,
    broken: Option<Broken>,
    seen: HashSet<World>,
    /// States in which the primary went on without its lease.
    beyond: usize,
}

impl Search {
    fn run(&mut self, begin: World) -> Result<(), String> {
        let mut open = vec![begin];
        while let Some(world) = open.pop() {
            self.beyond +=
                usize::from(world.is_writable() && world.lease.is_some_and(|end| end <= world.now));
            for step in world.steps(self.broken) {
                let mut next = world;
                next.step(step, self.broken);
                next.check().map_err(|why| format!("{why}: {world:?}, then {step:?}"))?;
                if next.now <= self.until && self.seen.insert(next) {
                    open.push(next);
                }
            }
        }
        Ok(())
    }
}

fn search(begin: World, broken: Option<Broken>) -> Result<Search, String> {
    let mut search = Search { until: TTL + DEADLINE + 4, broken, seen: HashSet::new(), beyond: 0 };
    search.run(begin).map(|()| search)
}

#[test]
fn a_primary_without_its_lease_is_writable_beside_another_for_as_long_as_a_proof_lasts_at_most() {
    let found = search(World::new(2, false), None).unwrap();
    println!("{} states, {} of them beyond the lease", found.seen.len(), found.beyond);
    assert!(found.beyond > 1_000, "nothing was tried beyond the lease");
}

#[test]
fn each_part_of_the_rule_of_proofs_is_needed() {
    for (broken, alone) in [
        (Broken::ProofFromTheAnswer, false),
        (Broken::ProofAlone, true),
        (Broken::SealedReceives, false),
        (Broken::OneSealIsEnough, false),
    ] {
        let Err(why) = search(World::new(2, alone), Some(broken)) else {
            panic!("{broken:?} makes no difference")
        };
        println!("{broken:?}: {why}");
    }
}

#[test]
fn with_the_store_away_for_all_a_primary_that_replicates_stays_writable_and_one_that_does_not_ends() {
    for replicates in [true, false] {
        let mut world = World::new(0, false);
        world.store = [false; 3];
        world.linked = [replicates; 2];
        for _ in 0..TTL * 4 {
            for step in [Step::Write, Step::Receive, Step::Acknowledge, Step::Tick] {
                if world.steps(None).contains(&step) {
                    world.step(step, None);
                }
            }
        }
        assert_eq!(world.is_writable(), replicates, "{world:?}");
    }
}
