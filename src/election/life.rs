//! Which life of which database an answer came from, and what follows from a change.
//!
//! A database may come back with fewer writes than it had: a standby is promoted that missed the
//! last ones, a volume snapshot is put back, tables are dropped and made anew. Then a term may run
//! that no row tells of, and versions may be granted twice. Against that:
//!
//! * the *identity* of the server tells one life from another; each answer carries it, evaluated by
//!   the server itself, and the one *recorded* in the database beside it;
//! * a participant that sees a difference begins a new *epoch*, from which versions start far above all that
//!   may have been lost;
//! * one that sees either change takes nothing for a *quarantine*, in which every lost term ends.

use std::time::Duration;

use super::timing::{Moment, TTL_DEFAULT_SECONDS};

/// The longest ttl that any lease of a database may have, where nobody chose another, in seconds.
pub const MAX_TTL_DEFAULT_SECONDS: u32 = TTL_DEFAULT_SECONDS;
/// How far apart the first versions of two epochs are.
pub const STEP: i64 = 1_000_000;
/// The same where the version's column is narrower than 64 bits: there is no room for dates then.
pub const NARROW_STEP: i64 = 1_000;
/// 2026-01-01T00:00:00Z, in seconds since 1970: epochs are counted from here.
pub const EPOCH_ZERO: i64 = 1_767_225_600;
/// The last epoch whose versions are below 2^53, which every JSON reader takes exactly.
pub const EPOCH_MAX: i64 = (1 << 53) / STEP - 1;
/// A database clock may be mad: the date counts up to this one (in the year 2279), and leaves room
/// for epochs that are counted by one.
pub const DATE_MAX: i64 = 8_000_000_000;
/// The highest floor. No version of ours gets there, and one that somebody wrote by hand must neither
/// make every later one look regressed for good nor use up the epochs.
pub const FLOOR_MAX: i64 = DATE_MAX * STEP;

/// What the look of a decision and the take that follows from it must agree on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LifeId {
    /// The server's own; empty where there is no table to record it in.
    pub identity: String,
    /// The recorded one.
    pub epoch: i64,
}

/// The one row of `component_lease_store`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LifeRecord {
    /// Of the server that last began an epoch.
    pub identity: String,
    /// Counts the lives of this database.
    pub epoch: i64,
    /// Whether somebody has waited out the quarantine of this identity and epoch.
    pub settled: bool,
    /// Seconds; no lease of this database has a longer ttl.
    pub max_ttl: u32,
}

/// What an answer says about the database that it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Life {
    /// Somebody else's bare table: no record is kept, so nothing can be told.
    #[default]
    Unknown,
    /// The table is there and its row is gone. `step` is how far the versions of an epoch are above those of the last.
    Unrecorded { identity: String, step: i64 },
    /// The server's own identity, and what is recorded.
    Recorded { identity: String, step: i64, record: LifeRecord },
}

impl Life {
    /// The identity and the epoch by which a take is bound to this life.
    #[must_use]
    pub fn id(&self) -> LifeId {
        match self {
            Self::Unknown => LifeId::default(),
            Self::Unrecorded { identity, .. } => LifeId { identity: identity.clone(), epoch: -1 },
            Self::Recorded { identity, record, .. } => {
                LifeId { identity: identity.clone(), epoch: record.epoch }
            }
        }
    }

    /// What is recorded, where anything is.
    #[must_use]
    pub fn record(&self) -> Option<&LifeRecord> {
        if let Self::Recorded { record, .. } = self { Some(record) } else { None }
    }

    /// Whether the record is not this server's: nothing may be taken, and an epoch must begin.
    #[must_use]
    pub fn is_strange(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Unrecorded { .. } => true,
            Self::Recorded { identity, record, .. } => *identity != record.identity,
        }
    }

    /// Whether the quarantine of exactly this identity and epoch is over for everybody.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.is_strange() && self.record().is_some_and(|record| record.settled)
    }

    /// Which database this is, whichever server has it: the UUID of the record, in which each identity ends.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        let Self::Recorded { identity, .. } = self else { return None };
        identity.rsplit_once('/').map(|(_, uuid)| uuid).filter(|uuid| !uuid.is_empty())
    }

    /// Versions of this epoch are above this.
    #[must_use]
    pub fn base(&self) -> i64 {
        let Self::Recorded { step, record, .. } = self else { return 0 };
        record.epoch.saturating_mul(*step)
    }
}

/// The epoch that the date explains; none where versions have no room for dates.
#[must_use]
pub fn date(now_ms: i64, step: i64) -> i64 {
    if step < STEP { 0 } else { (now_ms / 1000).saturating_sub(EPOCH_ZERO).clamp(0, DATE_MAX) }
}

/// How an epoch begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewEpoch {
    /// What was recorded when it was decided; `None` where nothing was.
    pub seen: Option<LifeRecord>,
    /// Lower bound, because a resource remembers a later version; 0 where there is none. Nothing is recorded where
    /// the database's date does not explain it.
    pub at_least: i64,
    /// Written where nothing was recorded; seconds.
    pub max_ttl: u32,
    /// Also if the server is the one that is recorded.
    pub deliberate: bool,
}

/// How somebody who asks a database again and again waits out its changes, on his own boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quarantine {
    life: Option<Life>,
    /// Since when identity and epoch are as they are; `None` while there was nothing to wait for.
    since: Option<Moment>,
    /// The longest ttl that a lost term may have: the largest of what is configured and what was ever recorded.
    longest: Duration,
    /// What is configured.
    own: Duration,
    /// When the end of the quarantine was last said.
    settled_at: Option<Moment>,
    memory: Memory,
    /// When the history was last found to end before what it had been.
    forgot: Option<Moment>,
    /// The lowest epoch that must begin for that, until one has.
    wanted: Option<i64>,
}

/// How far the history of one component reached, in the life of the database that was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Memory {
    life: LifeId,
    highest: i64,
}

/// How many quarantines lie between two epochs that one participant begins because the history became shorter:
/// an operator who deletes lines of it by hand must not stop elections for good.
const QUARANTINES_BETWEEN_LOSSES: u32 = 10;

impl Quarantine {
    /// For a participant with this longest ttl, in seconds, that has seen nothing yet.
    #[must_use]
    pub fn new(own_max_ttl: u32) -> Self {
        let own = Duration::from_secs(own_max_ttl.into());
        Self {
            life: None,
            since: None,
            longest: own,
            own,
            settled_at: None,
            memory: Memory::default(),
            forgot: None,
            wanted: None,
        }
    }

    /// An answer came at `at`, read after it arrived. Whether identity or epoch are others than
    /// before. What never had a record is no change at the first answer: there is nothing to wait for.
    pub fn answered(&mut self, at: Moment, life: Life) -> bool {
        let bare_from_the_start = self.life.is_none() && life == Life::Unknown;
        let changed = self.life.as_ref().map(Life::id) != Some(life.id());
        if let Some(record) = life.record() {
            self.longest = self.longest.max(Duration::from_secs(record.max_ttl.into()));
        }
        if changed && !bare_from_the_start {
            self.since = Some(at);
            self.settled_at = None;
        }
        self.life = Some(life);
        changed
    }

    /// After [`Self::answered`]: how far the history of the component reaches in that answer. Whether the
    /// database has forgotten something without being another one; then a quarantine begins, and an epoch.
    pub fn reaches(&mut self, at: Moment, recorded: i64) -> bool {
        let Some(life) = self.life.as_ref().filter(|life| life.record().is_some()) else { return false };
        let (now, before) = (life.id(), std::mem::take(&mut self.memory));
        let same_server = now.identity == before.life.identity;
        // An epoch that was recorded went as well: the record was put back with the rest.
        let forgot = same_server
            && (now.epoch < before.life.epoch || now.epoch == before.life.epoch && recorded < before.highest);
        if self.wanted.is_some() && (!same_server || now.epoch > before.life.epoch) {
            self.wanted = None;
        }
        if forgot {
            let long_ago =
                self.forgot.is_none_or(|last| at >= last + self.longest * QUARANTINES_BETWEEN_LOSSES);
            if long_ago {
                // The date is above all that was seen, and one that is not must not keep the epoch from being
                // recorded. Without a date the versions that were seen say how far to go.
                let seen = |step: i64| (before.highest / step + 1).max(before.life.epoch + 1);
                self.wanted = Some(match life {
                    Life::Recorded { step, .. } if *step < STEP => seen(*step),
                    _ => 0,
                });
            }
            self.forgot = Some(at);
        }
        self.memory = Memory { life: now, highest: recorded };
        forgot
    }

    /// A term of one's own was acknowledged: the history reaches to it at least.
    pub fn wrote(&mut self, version: i64) {
        self.memory.highest = self.memory.highest.max(version);
    }

    /// How long a quarantine lasts.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.longest
    }

    /// No lease may have a longer ttl; seconds. The smaller one, so that a quarantine by either
    /// number is long enough.
    #[must_use]
    pub fn longest_ttl(&self) -> u32 {
        let own = u32::try_from(self.own.as_secs()).unwrap_or(u32::MAX);
        let recorded = self.life.as_ref().and_then(Life::record);
        recorded.map_or(own, |record| own.min(record.max_ttl))
    }

    /// The longest ttl that is configured and the one that is recorded, in seconds, where they differ.
    #[must_use]
    pub fn disagreement(&self) -> Option<(u32, u32)> {
        let own = u32::try_from(self.own.as_secs()).unwrap_or(u32::MAX);
        let recorded = self.life.as_ref().and_then(Life::record)?.max_ttl;
        (own != recorded).then_some((own, recorded))
    }

    /// What the last answer said.
    #[must_use]
    pub fn life(&self) -> Option<&Life> {
        self.life.as_ref()
    }

    /// Until when nothing is taken; `None` when it is over, or nobody can say because an epoch must
    /// begin first.
    #[must_use]
    pub fn until(&self, now: Moment) -> Option<Moment> {
        self.end().filter(|end| now < *end)
    }

    /// When the last quarantine ends or ended, unless somebody has waited it out before.
    pub(super) fn end(&self) -> Option<Moment> {
        let life = self.life.as_ref()?;
        let of_change = self.since.filter(|_| !life.is_settled());
        // Somebody who settled this life cannot have known of the loss.
        Some(of_change.max(self.forgot)? + self.longest)
    }

    /// Whether something may be taken.
    #[must_use]
    pub fn is_over(&self, now: Moment) -> bool {
        self.life.as_ref().is_some_and(|life| !life.is_strange()) && self.until(now).is_none()
    }

    /// The epoch that must begin because the server is not the one that is recorded, or has forgotten something.
    #[must_use]
    pub fn new_epoch(&self) -> Option<NewEpoch> {
        let life = self.life.as_ref()?;
        let wanted = self.wanted.filter(|_| !life.is_strange());
        (life.is_strange() || wanted.is_some()).then(|| NewEpoch {
            seen: life.record().cloned(),
            at_least: wanted.unwrap_or_default(),
            max_ttl: u32::try_from(self.own.as_secs()).unwrap_or(u32::MAX),
            deliberate: wanted.is_some(),
        })
    }

    /// What to say for others who would have to wait too, once this one has waited. Said again
    /// after `again` if it had no effect.
    pub fn to_settle(&mut self, now: Moment, again: Duration) -> Option<LifeId> {
        let life = self.life.as_ref()?;
        let due = self.settled_at.is_none_or(|at| now >= at + again);
        if life.record().is_none() || life.is_settled() || !self.is_over(now) || !due {
            return None;
        }
        self.settled_at = Some(now);
        Some(life.id())
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
