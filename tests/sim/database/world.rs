//! Three servers of one database, the lease "who is primary", and its record: everything that may happen next.
//!
//! There is no time at all. A lease is taken at any moment, a primary that has lost it goes on until it happens to end,
//! what a standby reports to its primary arrives late or never, and a server restarts with all that was on its disk. What
//! holds here holds whatever clocks, pauses and networks do.
//!
//! There may be a fourth server: a second data directory that bears the name of the third. Somebody may once put an older state of the store
//! in the place of the newer one; all members have seen the newer one before.

mod log;
mod names;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use component_lease::primary::known::newest;
use component_lease::primary::promotion::{may_follow, may_go_on};
use component_lease::primary::{Blocked, Position, Quorum, Record, Report, Stamp, promotion};

use self::log::{BEAT, LINE, Log};
use self::rules::{is_covered, is_recordable};
use super::{Bounds, Broken};

/// Data directories.
pub(super) const NODES: u8 = 4;
/// Names of members. The last directory bears the last one, too.
const NAMES: u8 = 3;

/// Voters as a set of bits, and how many of them.
type Bits = (u8, u8);
const ALONE: Bits = (0, 0);

/// A primary: what it is and what it knows, all of which it loses when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Primary {
    version: u8,
    /// What its server enforces; `None` is nobody.
    names: Option<Bits>,
    /// Where its log ended when these names took effect.
    since: u8,
    /// What it last wrote into the record, which has to be under its own version before it opens.
    record: Option<Bits>,
    /// Whether clients may write.
    open: bool,
    /// How far each standby has ever said to be. That it is heard late or never adds no order of events: what it permits
    /// may come as late, or never.
    heard: [u8; NODES as usize],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    log: Log,
    sealed: u8,
    /// Of whose log its own is a beginning, by version, as is on its disk.
    of: u8,
    primary: Option<Primary>,
    follows: Option<u8>,
}

/// A record: when it was written, by whom, and the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Recorded {
    /// The version, and which one of that it is.
    stamp: (u8, u8),
    primary: u8,
    quorum: Bits,
}

/// What the store of the lease has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Store {
    version: u8,
    holder: u8,
    recorded: Recorded,
    /// What was reported at the version of the lease, under each name: by which directory, and where its data end.
    reports: [Option<(u8, Position)>; NAMES as usize],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    nodes: [Node; NODES as usize],
    /// How many of them there are.
    there: u8,
    store: Store,
    /// An earlier state of it, whether it may be put back, and whether it was.
    saved: Option<Store>,
    restores: bool,
    restored: bool,
    /// What all members have seen: the newest record, and the highest version.
    known: Recorded,
    granted: u8,
    /// Whether the holder was promoted already: a server that ends then ends the term of its supervisor too.
    promoted: bool,
    /// Of the last record that was written.
    serial: u8,
    acknowledged: u8,
    written: u8,
    /// How often names or record may still change, other than to open.
    changes: u8,
    /// The last that was promoted, while it is primary.
    newest: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Take(u8),
    Seal(u8),
    Promote(u8),
    /// It ends as soon as it is promoted, before it has written its row.
    PromoteInVain(u8),
    GoOn(u8),
    Follow(u8, u8),
    Stream(u8),
    Write(u8),
    Acknowledge(u8, u8),
    Name(u8, Bits),
    Record(u8, Bits),
    End(u8),
    /// The store as it is now is kept by somebody.
    Save,
    Restore,
}

fn name_of(node: u8) -> u8 {
    node.min(NAMES - 1)
}

/// Those that bear another name.
fn others(node: u8, there: u8) -> impl Iterator<Item = u8> {
    (0..there).filter(move |other| name_of(*other) != name_of(node))
}

/// Quorums of others: at most one of each name.
fn quorums(node: u8, there: u8) -> Vec<Bits> {
    let mut all = vec![ALONE];
    for one in others(node, there) {
        all.push((1 << one, 1));
        for two in others(node, there).filter(|two| name_of(*two) > name_of(one)) {
            all.extend([(1 << one | 1 << two, 1), (1 << one | 1 << two, 2)]);
        }
    }
    all
}

fn set(bits: u8) -> BTreeSet<u8> {
    (0..NODES).filter(|node| bits & (1 << node) != 0).collect()
}

fn quorum((voters, acks): Bits) -> Quorum<u8> {
    Quorum::any(acks.into(), set(voters)).unwrap()
}

/// Whether what a member has is no beginning of what the primary has.
fn leaves(member: &Node, primary: &Node, broken: Option<Broken>) -> bool {
    let (ours, mut branch) = (primary.log, member.log.branch(member.of));
    let line_ends = if branch.line > ours.line() { 0 } else { ours.end_of_line(branch.line) };
    match broken {
        Some(Broken::ByTheNumbersOfLines) => return member.log.len > line_ends,
        Some(Broken::LinesWithoutARow) => branch.line = 1,
        _ => {}
    }
    ours.lineage().parts(ours.len.into(), line_ends.into(), &branch).is_some()
}

impl World {
    /// The first is primary under version 1, and any of the two others acknowledges. With another directory of the last one's name, as it
    /// was copied before the first write, if one is wanted.
    pub(super) fn new(changes: u8, twin: bool, restores: bool) -> Self {
        let quorum = (0b110, 1);
        let node = Node { log: Log::new(1), sealed: 1, of: 1, primary: None, follows: Some(0) };
        let primary = Primary {
            version: 1,
            names: Some(quorum),
            since: 1,
            record: Some(quorum),
            open: true,
            heard: [1; NODES as usize],
        };
        let mut nodes = [node; NODES as usize];
        nodes[0] = Node { primary: Some(primary), follows: None, ..node };
        nodes[NODES as usize - 1].follows = None;
        let recorded = Recorded { stamp: (1, 0), primary: 0, quorum };
        Self {
            nodes,
            there: if twin { NODES } else { NAMES },
            store: Store { version: 1, holder: 0, recorded, reports: [None; NAMES as usize] },
            saved: None,
            restores,
            restored: false,
            known: recorded,
            granted: 1,
            promoted: true,
            serial: 0,
            acknowledged: 0,
            written: 0,
            changes,
            newest: Some(0),
        }
    }

    fn node(&self, node: u8) -> &Node {
        &self.nodes[node as usize]
    }

    pub(super) fn steps(&self, bounds: Bounds, broken: Option<Broken>) -> Vec<Step> {
        let Bounds { terms, writes, .. } = bounds;
        let mut steps = Vec::with_capacity(32);
        if self.restores && self.saved.is_none() {
            steps.push(Step::Save);
        }
        if self.saved.is_some_and(|saved| saved != self.store) && !self.restored {
            steps.push(Step::Restore);
        }
        for me in 0..self.there {
            let node = self.node(me);
            // Also one that is primary: after an outage of the store, in which it went on without its lease.
            if self.granted < terms {
                steps.push(Step::Take(me));
            }
            match &node.primary {
                Some(primary) => self.of_primary(me, primary, writes, broken, &mut steps),
                None => self.of_standby(me, node, broken, &mut steps),
            }
        }
        steps
    }

    fn of_primary(
        &self,
        me: u8,
        primary: &Primary,
        writes: u8,
        broken: Option<Broken>,
        steps: &mut Vec<Step>,
    ) {
        let node = self.node(me);
        steps.push(Step::End(me));
        let Store { version, holder, recorded, .. } = self.store;
        let is_current =
            may_go_on(&me, &recorded.primary, primary.record.is_some()) && recorded.stamp == self.known.stamp;
        if holder == me
            && version > primary.version
            && (is_current || broken == Some(Broken::GoesOnAfterAnother))
        {
            steps.push(Step::GoOn(me));
        }
        if primary.open && self.written < writes {
            steps.push(Step::Write(me));
        }
        for (at, entry) in node.log.entries().iter().enumerate() {
            let is_open = Log::is_write(*entry) && self.acknowledged & entry == 0;
            let enough = primary.names.is_some_and(|(voters, acks)| {
                let has = |voter: u8| primary.heard[voter as usize] as usize > at;
                let has_by_name =
                    |voter: u8| (0..self.there).any(|other| name_of(other) == name_of(voter) && has(other));
                let counts = |voter: &u8| match broken {
                    Some(Broken::NamesInsteadOfDirectories) => has_by_name(*voter),
                    _ => has(*voter),
                };
                (0..self.there).filter(|voter| voters & (1 << voter) != 0).filter(counts).count()
                    >= acks.into()
            });
            // Nobody waits for an answer that was asked of an earlier primary.
            if is_open && enough && node.log.entries()[..at].contains(&(BEAT | primary.version)) {
                steps.push(Step::Acknowledge(me, *entry));
            }
        }
        for choice in quorums(me, self.there) {
            if self.may_name(primary, choice, broken) {
                steps.push(Step::Name(me, choice));
            }
            if self.may_record(me, primary, choice, broken) {
                steps.push(Step::Record(me, choice));
            }
        }
    }

    fn may_name(&self, primary: &Primary, choice: Bits, broken: Option<Broken>) -> bool {
        if primary.names == Some(choice) || (primary.open && self.changes == 0) {
            return false;
        }
        let record = match (primary.record, broken) {
            (Some(record), _) => record,
            (None, Some(Broken::OpenedUnrecorded)) => self.store.recorded.quorum,
            (None, _) => return false,
        };
        broken == Some(Broken::NamesBeforeRecord) || is_covered(Some(choice), record)
    }

    fn may_record(&self, me: u8, primary: &Primary, choice: Bits, broken: Option<Broken>) -> bool {
        let is_last = self.granted == self.store.version || broken == Some(Broken::VersionsOfTheStore);
        let holds = self.store.holder == me && self.store.version == primary.version && is_last;
        // What was put back is older than what it wrote: it is written again.
        let own_is_newest = self.known.stamp.0 == primary.version;
        let again =
            primary.record == Some(choice) && own_is_newest && self.store.recorded.stamp < self.known.stamp;
        let is_new = primary.record != Some(choice) && (primary.record.is_none() || self.changes > 0);
        if !(again || is_new) {
            return false;
        }
        if !(holds || broken == Some(Broken::RecordNotBoundToItsVersion)) {
            return false;
        }
        let caught_up = match broken {
            Some(Broken::NoCatchUp) => 0b1111,
            _ => others(me, self.there)
                .filter(|one| primary.heard[*one as usize] >= primary.since)
                .fold(0, |all, one| all | 1 << one),
        };
        let names = match broken {
            Some(Broken::RecordBeforeNames) => None,
            _ => primary.names,
        };
        is_recordable(choice, names, caught_up)
    }

    fn of_standby(&self, me: u8, node: &Node, broken: Option<Broken>, steps: &mut Vec<Step>) {
        let has_reported = self.store.reports[name_of(me) as usize].is_some_and(|(by, _)| by == me);
        if !has_reported && node.sealed <= self.store.version {
            steps.push(Step::Seal(me));
        }
        // A version is for one promotion: the server itself remembers, and so do others.
        let is_used = node.of >= self.store.version
            || self.granted > self.store.version && broken != Some(Broken::VersionsOfTheStore);
        if self.store.holder == me && !self.promoted && !is_used && self.may_promote(me, broken) {
            steps.extend([Step::Promote(me), Step::PromoteInVain(me)]);
        }
        let more = |upstream: &Node| upstream.primary.is_some() && upstream.log.len > node.log.len;
        if node.follows.is_some_and(|primary| more(self.node(primary))) {
            steps.push(Step::Stream(me));
        }
        for other in others(me, self.there) {
            let Some(primary) = self.node(other).primary else { continue };
            let sealed = if broken == Some(Broken::FollowBelowTheSeal) { 0 } else { node.sealed.into() };
            if node.follows != Some(other) && may_follow(sealed, primary.version.into()) {
                steps.push(Step::Follow(me, other));
            }
        }
    }

    fn may_promote(&self, me: u8, broken: Option<Broken>) -> bool {
        let Store { version, recorded, reports, .. } = self.store;
        let stamped = |recorded: Recorded| {
            let (version, serial) = recorded.stamp;
            (Stamp { version: version.into(), serial: serial.into() }, recorded)
        };
        let known = if broken == Some(Broken::OlderRecord) { recorded } else { self.known };
        let (_, recorded) = newest([recorded, known].map(stamped)).unwrap();
        let (primary, bits) = match broken {
            Some(Broken::NoRecord) => (0, (0b110, 1)),
            _ => (recorded.primary, recorded.quorum),
        };
        let members: BTreeSet<u8> = (0..self.there).collect();
        let quorum = match broken {
            Some(Broken::MajorityInsteadOfQuorum) => quorum((0b111, 2)),
            _ => quorum(bits),
        };
        let voters = quorum.voters().clone();
        let record = Record { primary, quorum, asynchronous: false, system: 7, members };
        let reports: BTreeMap<u8, Report> = reports
            .iter()
            .filter_map(|report| {
                let (mut by, mut position) = (*report)?;
                if broken == Some(Broken::OrderedByLength) {
                    position.term = 0;
                }
                if broken == Some(Broken::NamesInsteadOfDirectories) && by != me {
                    // Whichever directory it is, the voter of that name counts as sealed.
                    by = voters.iter().copied().find(|voter| name_of(*voter) == name_of(by)).unwrap_or(by);
                }
                Some((by, Report { version: version.into(), system: 7, position }))
            })
            .collect();
        match promotion::may_promote(&me, version.into(), &record, &reports) {
            Ok(()) => true,
            Err(Blocked::Behind { .. }) => broken == Some(Broken::NotTheBest),
            Err(_) => false,
        }
    }

    /// What is broken then, if anything.
    pub(super) fn step(&mut self, step: Step, broken: Option<Broken>) -> Result<(), String> {
        match step {
            Step::Take(me) => {
                let above = if broken == Some(Broken::VersionsOfTheStore) { 0 } else { self.granted };
                let version = self.store.version.max(above) + 1;
                self.granted = self.granted.max(version);
                let recorded = self.store.recorded;
                self.store = Store { version, holder: me, recorded, reports: [None; NAMES as usize] };
                self.promoted = false;
            }
            Step::Save => self.saved = Some(self.store),
            Step::Restore => {
                self.store = self.saved.unwrap();
                self.restored = true;
                // Its supervisor has begun anew, so it knows of no promotion. Its server does.
                self.promoted = false;
            }
            Step::Seal(me) => self.seal(me, broken),
            Step::Promote(me) => return self.promote(me, broken),
            Step::PromoteInVain(me) => self.promote_in_vain(me, broken),
            Step::GoOn(me) => self.go_on(me),
            Step::Follow(me, other) => self.follow(me, other, broken),
            Step::Stream(me) => {
                let primary = self.node(me).follows.unwrap();
                let entry = self.node(primary).log.entries[self.node(me).log.len as usize];
                let log = &mut self.nodes[me as usize].log;
                log.push(entry);
                let len = log.len;
                self.says(me, primary, len);
                return self.logs_match();
            }
            Step::Write(me) => {
                self.nodes[me as usize].log.push(1 << self.written);
                self.written += 1;
            }
            Step::Acknowledge(me, write) => return self.acknowledge(me, write),
            Step::Name(me, choice) => {
                let node = &mut self.nodes[me as usize];
                let primary = node.primary.as_mut().unwrap();
                self.changes -= u8::from(primary.open);
                primary.names = Some(choice);
                primary.since = node.log.len;
                primary.open = true;
            }
            Step::Record(me, choice) => {
                // It tells records apart only where one may be put back.
                self.serial += u8::from(self.restores);
                let primary = self.nodes[me as usize].primary.as_mut().unwrap();
                let recorded =
                    Recorded { stamp: (primary.version, self.serial), primary: me, quorum: choice };
                self.changes -= u8::from(primary.record.is_some_and(|record| record != choice));
                primary.record = Some(choice);
                self.store.recorded = recorded;
                if recorded.stamp > self.known.stamp {
                    self.known = recorded;
                }
            }
            Step::End(me) => self.end(me, broken),
        }
        Ok(())
    }

    /// It restarts as a standby, with what is on its disk.
    fn end(&mut self, me: u8, broken: Option<Broken>) {
        let node = &mut self.nodes[me as usize];
        node.primary = None;
        node.follows = None;
        if broken == Some(Broken::SealForgottenAtRestart) {
            node.sealed = 0;
        }
        if self.newest == Some(me) {
            self.newest = None;
        }
        for other in others(me, self.there) {
            if self.node(other).follows == Some(me) && broken != Some(Broken::ConnectsByItself) {
                self.nodes[other as usize].follows = None;
            }
        }
    }

    fn seal(&mut self, me: u8, broken: Option<Broken>) {
        let node = &mut self.nodes[me as usize];
        node.sealed = node.sealed.max(self.store.version);
        if broken != Some(Broken::ReportWithoutSeal) {
            node.follows = None;
        }
        self.store.reports[name_of(me) as usize] = Some((me, node.log.position()));
    }

    fn promote(&mut self, me: u8, broken: Option<Broken>) -> Result<(), String> {
        let version = self.store.version;
        let opens = broken == Some(Broken::OpenedAtPromotion);
        let all = others(me, NAMES).fold(0, |all, other| all | 1 << other);
        let node = &mut self.nodes[me as usize];
        node.of = version;
        node.log.push(LINE | version);
        node.log.push(BEAT | version);
        node.follows = None;
        node.primary = Some(Primary {
            version,
            names: opens.then_some((all, 1)),
            since: node.log.len,
            record: None,
            open: opens,
            heard: [0; NODES as usize],
        });
        self.newest = Some(me);
        self.promoted = true;
        let lost = self.acknowledged & !self.node(me).log.writes();
        if lost != 0 {
            return Err(format!("{me} is promoted under {version} without what was acknowledged"));
        }
        self.logs_match()
    }

    fn promote_in_vain(&mut self, me: u8, broken: Option<Broken>) {
        let node = &mut self.nodes[me as usize];
        node.of = self.store.version;
        node.log.push(LINE | self.store.version);
        self.promoted = true;
        // Nobody else is the newest any more.
        self.newest = Some(me);
        self.end(me, broken);
    }

    /// The primary of an earlier term under a new one, without being ended in between.
    fn go_on(&mut self, me: u8) {
        let version = self.store.version;
        let node = &mut self.nodes[me as usize];
        node.sealed = version;
        node.of = version;
        node.log.push(BEAT | version);
        node.primary.as_mut().unwrap().version = version;
        self.newest = Some(me);
        self.promoted = true;
    }

    fn follow(&mut self, me: u8, other: u8, broken: Option<Broken>) {
        let upstream = *self.node(other);
        let version = upstream.primary.unwrap().version;
        let node = &mut self.nodes[me as usize];
        if broken != Some(Broken::FollowWithoutSeal) {
            node.sealed = node.sealed.max(version);
        }
        if broken != Some(Broken::NoRewind) && leaves(node, &upstream, broken) {
            node.log.shorten(node.log.shared_with(upstream.log));
        }
        node.of = version;
        node.follows = Some(other);
        let len = node.log.len.min(upstream.log.len);
        self.says(me, other, len);
    }

    fn says(&mut self, me: u8, primary: u8, len: u8) {
        if let Some(primary) = self.nodes[primary as usize].primary.as_mut() {
            let heard = &mut primary.heard[me as usize];
            *heard = len.max(*heard);
        }
    }

    fn acknowledge(&mut self, me: u8, write: u8) -> Result<(), String> {
        self.acknowledged |= write;
        match self.newest {
            Some(newest) if self.node(newest).log.writes() & write == 0 => {
                Err(format!("{me} acknowledges what {newest}, promoted since, does not have"))
            }
            _ => Ok(()),
        }
    }

    /// Two logs that part have nothing in common from there on.
    fn logs_match(&self) -> Result<(), String> {
        for (at, one) in self.nodes.iter().enumerate() {
            for two in &self.nodes[..at] {
                let shared = one.log.shared_with(two.log) as usize;
                let again = one.log.entries()[shared..]
                    .iter()
                    .any(|entry| two.log.entries()[shared..].contains(entry));
                if again {
                    return Err(format!("these logs part and agree again: {:?} {:?}", one.log, two.log));
                }
            }
        }
        Ok(())
    }
}
