//! What a database keeps beside the row, what it may forget, what tells its lives apart, and what
//! it answers to a participant.

use std::time::Duration;

use component_lease::election::life::{NARROW_STEP, STEP};
use component_lease::election::machine::{Looked, Past, Release};
use component_lease::election::{
    Expected, HolderId, LeaseRow, Life, LifeId, LifeRecord, NewEpoch, Request, Take, TermKey, Verb,
};
use component_lease::store::rules;

use super::broken::Broken;

/// What a participant asks of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Look,
    Take(Take),
    Renew(TermKey),
    Release(Release),
    BeginEpoch(NewEpoch),
    Settle(LifeId),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Looked(Box<Looked>),
    Applied(bool),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Database {
    server: u32,
    servers: u32,
    /// Somebody else made the table: no companions, so that nobody can tell its lives apart.
    bare: bool,
    highest: i64,
    record: LifeRecord,
    pub(super) asked: Asked,
}

/// What operators ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) paused: bool,
    /// Whom the resource would like to lead next.
    pub(super) preferred: Option<HolderId>,
    /// For so long a free row is left alone.
    pub(super) cooldown: Duration,
    pub(super) request: Option<Request>,
}

/// Whether this take is one that its target was asked to begin at once. A request that was taken back or
/// replaced may still be carried out by a target that has seen it.
pub(super) fn promotes_now<'a>(
    asked: impl IntoIterator<Item = &'a Request>,
    row: Option<&LeaseRow>,
    take: &Take,
) -> bool {
    asked.into_iter().any(|request| {
        request.verb == Verb::PromoteNow
            && request.is_about(row)
            && request.target.as_ref() == Some(&take.term.holder)
    })
}

/// A standby that no longer follows, a volume snapshot, a backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    row: Option<LeaseRow>,
    highest: i64,
    record: LifeRecord,
    asked: Asked,
}

impl Copy {
    pub(super) fn highest(&self) -> i64 {
        self.highest
    }

    pub(super) fn row(&self) -> Option<&LeaseRow> {
        self.row.as_ref()
    }

    /// Whether nothing but a renewal lies between the two.
    pub(super) fn is_about(&self, other: &Self) -> bool {
        let term = |row: &LeaseRow| (row.holder.clone(), row.version);
        (self.highest, &self.record, &self.asked) == (other.highest, &other.record, &other.asked)
            && self.row.as_ref().map(term) == other.row.as_ref().map(term)
    }
}

impl Database {
    /// A first installation.
    pub(super) fn new(max_ttl: u32) -> Self {
        let record = LifeRecord { identity: "1".to_owned(), epoch: 0, settled: true, max_ttl };
        Self { server: 1, servers: 1, bare: false, highest: 0, record, asked: Asked::default() }
    }

    pub(super) fn bare(max_ttl: u32) -> Self {
        Self { bare: true, ..Self::new(max_ttl) }
    }

    /// Tables of which nobody knows whether a term was forgotten with them.
    pub(super) fn unsettled(max_ttl: u32) -> Self {
        let mut database = Self::new(max_ttl);
        database.record.settled = false;
        database
    }

    pub(super) fn copy(&self, row: Option<LeaseRow>) -> Copy {
        Copy { row, highest: self.highest, record: self.record.clone(), asked: self.asked.clone() }
    }

    /// Goes on as a server that nobody has seen before, with what the copy has.
    pub(super) fn become_another(&mut self, copy: Copy) -> Option<LeaseRow> {
        self.servers += 1;
        self.server = self.servers;
        (self.highest, self.record, self.asked) = (copy.highest, copy.record, copy.asked);
        copy.row
    }

    /// Goes on as the same server, whose operator says at once that something may be forgotten.
    pub(super) fn reload_and_bump(&mut self, copy: Copy, now: i64) -> Option<LeaseRow> {
        (self.highest, self.record) = (copy.highest, copy.record);
        let seen = Some(self.record.clone());
        let new = NewEpoch { seen, at_least: 0, max_ttl: self.record.max_ttl, deliberate: true };
        self.write(rules::begin(Some(&self.record), &new, &self.server.to_string(), now, STEP));
        copy.row
    }

    /// Goes on as the same server with the rows and the history of the copy, and nobody says anything.
    pub(super) fn reload_in_silence(&mut self, copy: Copy) -> Option<LeaseRow> {
        self.highest = copy.highest;
        copy.row
    }

    pub(super) fn highest(&self) -> i64 {
        self.highest
    }

    pub(super) fn id(&self) -> LifeId {
        self.life(None, None).id()
    }

    fn life(&self, row: Option<&LeaseRow>, broken: Option<Broken>) -> Life {
        if self.bare {
            return Life::Unknown;
        }
        let step = if broken == Some(Broken::VersionWithoutEpoch) { 0 } else { STEP };
        let mut record = self.record.clone();
        match broken {
            Some(Broken::NoQuarantine) => record.settled = true,
            Some(Broken::QuarantineForHeldRowsOnly) if row.is_none_or(LeaseRow::is_free) => {
                record.settled = true;
            }
            _ => {}
        }
        Life::Recorded { identity: self.server.to_string(), step, record }
    }

    fn past(&self, row: Option<&LeaseRow>, broken: Option<Broken>) -> Past {
        match self.highest {
            _ if self.bare => Past::Unknown,
            0 => Past::NeverLived,
            _ if row.is_none() && broken == Some(Broken::DeletedRowInsertedAtOnce) => Past::NeverLived,
            highest => Past::Lived(highest),
        }
    }

    /// What it answers, and the row if that is another one now. A take is to be remembered then.
    pub(super) fn answer(
        &mut self,
        row: Option<&LeaseRow>,
        call: &Call,
        now: i64,
        standing_ttl: Option<u32>,
        broken: Option<Broken>,
    ) -> (Answer, Option<LeaseRow>) {
        let after = match call {
            Call::Look => {
                let (past, life) = (self.past(row, broken), self.life(row, broken));
                let Asked { paused, preferred, cooldown, mut request } = self.asked.clone();
                if let Some(request) =
                    request.as_mut().filter(|_| broken == Some(Broken::RequestNotBoundToItsTerm))
                {
                    request.version = row.map_or(0, |row| row.version);
                }
                let looked = Looked {
                    paused,
                    preferred,
                    cooldown,
                    request,
                    row: row.cloned(),
                    database_now: now,
                    standing_ttl,
                    past,
                    life,
                };
                return (Answer::Looked(Box::new(looked)), None);
            }
            Call::BeginEpoch(new) => return (Answer::Applied(self.begin(new, now, broken)), None),
            Call::Settle(waited_out) => return (Answer::Applied(self.settle(waited_out, broken)), None),
            Call::Take(take) => self.take(row, take, now, broken),
            Call::Renew(term) if broken == Some(Broken::RenewalMayWriteTheSame) => {
                rules::renew(row, term, now).map(|row| LeaseRow { renew_time: now, ..row })
            }
            Call::Renew(term) => rules::renew(row, term, now),
            Call::Release(Release { term, within: None }) => rules::release(row, term),
            Call::Release(Release { term, within: Some(within) }) => {
                let mut within = within.clone();
                match broken {
                    Some(Broken::LateReleaseNotBoundToTheIdentity) => {
                        within.identity = self.server.to_string();
                        within.epoch = self.record.epoch;
                    }
                    Some(Broken::LateReleaseBoundToTheRecord) if within.identity == self.record.identity => {
                        within.identity = self.server.to_string();
                    }
                    Some(Broken::LateReleaseNotBoundToTheEpoch) => within.epoch = self.record.epoch,
                    _ => {}
                }
                let loose = matches!(
                    broken,
                    Some(Broken::LateReleaseNotBoundToTheIdentity | Broken::LateReleaseBoundToTheRecord)
                );
                if loose && within == self.id() {
                    rules::release(row, term)
                } else {
                    rules::release_late(row, term, &within, &self.life(row, None))
                }
            }
        };
        (Answer::Applied(after.is_some()), after)
    }

    /// The line in the history.
    pub(super) fn remember(&mut self, version: i64) {
        self.highest = self.highest.max(version);
    }

    fn take(
        &self,
        row: Option<&LeaseRow>,
        take: &Take,
        now: i64,
        broken: Option<Broken>,
    ) -> Option<LeaseRow> {
        let recorded = &self.record;
        let applies = match broken {
            Some(Broken::TakeNotBoundToTheIdentity) => recorded.epoch == take.life_id.epoch,
            Some(Broken::TakeBoundToTheRecord) => {
                (&recorded.identity, recorded.epoch) == (&take.life_id.identity, take.life_id.epoch)
            }
            // Somebody who knows the table alone.
            _ if take.life_id == LifeId::default() => true,
            _ => rules::same_life(&take.life_id, &self.life(row, None)),
        };
        let highest = match (&take.expected, broken) {
            (
                Expected::Missing { highest },
                Some(Broken::InsertNotBoundToHistory | Broken::DeletedRowInsertedAtOnce),
            ) => *highest,
            _ if take.life_id == LifeId::default() => 0,
            _ => self.highest,
        };
        let paused = self.asked.paused && broken != Some(Broken::PauseNotInTheTake);
        (applies && !paused).then(|| rules::take(row, highest, take, now)).flatten()
    }

    fn begin(&mut self, new: &NewEpoch, now: i64, broken: Option<Broken>) -> bool {
        let step = if broken == Some(Broken::EpochWithoutDate) { NARROW_STEP } else { STEP };
        let begun = rules::begin(Some(&self.record), new, &self.server.to_string(), now, step);
        self.write(begun)
    }

    fn settle(&mut self, waited_out: &LifeId, broken: Option<Broken>) -> bool {
        let mut waited_out = waited_out.clone();
        if broken == Some(Broken::SettledNotBoundToItsEpoch) {
            waited_out.epoch = self.record.epoch;
        }
        let settled = rules::settle(Some(&self.record), &waited_out, &self.server.to_string());
        self.write(settled)
    }

    fn write(&mut self, record: Option<LifeRecord>) -> bool {
        let Some(record) = record else { return false };
        self.record = record;
        true
    }
}
