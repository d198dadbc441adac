//! What stands beside the lease of a database, for those who only look: people and probes.

use std::collections::{BTreeMap, BTreeSet};

use super::says;
use crate::database::{Leader, Member};
use crate::election::ComponentName;
use crate::primary::{Record, Report, Stamp};
use crate::store::{Roster, Rostered, StoreError};

/// One look.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The lease's version. It is 0 if there is no lease.
    pub version: i64,
    /// Who holds the lease, if anybody does.
    pub holder: Option<String>,
    /// The record, and the version under which it was written.
    pub record: Option<(Record<Member>, i64)>,
    /// What members say, by member; those that say something.
    pub said: BTreeMap<Member, Said>,
    /// When the record was written, and the newest that any member knows.
    pub stamps: (Stamp, Stamp),
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub sealed: Option<Report>,
    /// It was promoted under this version, and can be followed there.
    pub leads: Option<Leader>,
    /// Which data directory bears its name.
    pub identity: String,
    /// All members, as it was started with.
    pub members: BTreeSet<Member>,
}

impl Standing {
    /// Reads what these members say, and those of the record.
    ///
    /// # Errors
    /// [`StoreError`] of the store, and for a record that cannot be read.
    pub async fn read(
        store: &dyn Roster,
        component: &ComponentName,
        members: &BTreeSet<Member>,
    ) -> Result<Self, StoreError> {
        let mut asked = members.clone();
        loop {
            let found = store.read_roster(component, &asked).await?;
            let standing = Self::of(component, &found)?;
            let recorded = standing.record.iter().flat_map(|(record, _)| record.members.iter());
            let missing: Vec<Member> = recorded.filter(|member| !asked.contains(*member)).cloned().collect();
            if missing.is_empty() {
                return Ok(standing);
            }
            asked.extend(missing);
        }
    }

    /// What was read.
    pub(super) fn of(component: &ComponentName, found: &Rostered) -> Result<Self, StoreError> {
        let record = record(component, found)?;
        let says: BTreeMap<Member, says::Says> = found
            .reports
            .iter()
            .filter_map(|(member, text)| Some((member.clone(), says::Says::parse(text)?)))
            .collect();
        let stamp = record.as_ref().map(says::Record::stamp).unwrap_or_default();
        let known = says.values().filter_map(|says| Some(says.record.as_ref()?.stamp()));
        let row = found.row.as_ref();
        Ok(Self {
            version: row.map_or(0, |row| row.version),
            holder: row.filter(|row| !row.is_free()).map(|row| row.holder.clone()),
            stamps: (stamp, known.fold(stamp, Stamp::max)),
            record: record.and_then(|record| Some((record.named()?, record.version))),
            said: says.iter().map(|(member, says)| (member.clone(), Said::of(member, says))).collect(),
        })
    }

    /// Whether the record is older than one that a member knows: somebody has put an older state of the store in the place of the newer one.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.stamps.0 < self.stamps.1
    }

    /// The primary of the present term, if the record is its own.
    #[must_use]
    pub fn primary(&self) -> Option<&Record<Member>> {
        let own = |(_, version): &&(Record<Member>, i64)| *version == self.version && self.holder.is_some();
        self.record.as_ref().filter(own).map(|(record, _)| record)
    }
}

impl Said {
    fn of(member: &Member, says: &says::Says) -> Self {
        let leads = says.leads.as_ref().and_then(|leads| says.leader(member, leads.version));
        Self { sealed: says.report(), leads, identity: says.claim().identity, members: says.members.clone() }
    }
}

/// The record beside the lease.
///
/// # Errors
/// Nobody is promoted on a guess: one that cannot be read is an error.
pub(super) fn record(
    component: &ComponentName,
    found: &Rostered,
) -> Result<Option<says::Record>, StoreError> {
    found.record.as_deref().map(says::Record::parse).transpose().map_err(|why| {
        StoreError::misconfigured(format!(
            "the record beside lease {component} cannot be read: {why}; restore what it was, or remove it, so that members go by the newest that they know"
        ))
    })
}
