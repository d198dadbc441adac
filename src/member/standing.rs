//! What stands beside the lease of a database, for those who only look: people and probes.

use std::collections::{BTreeMap, BTreeSet};

use super::says;
use crate::database::{Leader, Member};
use crate::election::ComponentName;
use crate::primary::{Record, Report};
use crate::store::{Roster, StoreError};

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
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub sealed: Option<Report>,
    /// It was promoted under this version, and can be followed there.
    pub leads: Option<Leader>,
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
            let record = match found.record.as_deref().map(says::Record::parse) {
                None => None,
                Some(Ok(record)) => record.rule().map(|rule| (rule, record.version)),
                Some(Err(why)) => {
                    return Err(StoreError::misconfigured(format!(
                        "the record beside lease {component} cannot be read: {why}"
                    )));
                }
            };
            let recorded = record.iter().flat_map(|(record, _)| record.members.iter());
            let missing: Vec<Member> = recorded.filter(|member| !asked.contains(*member)).cloned().collect();
            if !missing.is_empty() {
                asked.extend(missing);
                continue;
            }
            let said = found
                .reports
                .iter()
                .filter_map(|(member, text)| {
                    Some((member.clone(), Said::of(member, &says::Says::parse(text)?)))
                })
                .collect();
            let row = found.row.as_ref();
            return Ok(Self {
                version: row.map_or(0, |row| row.version),
                holder: row.filter(|row| !row.is_free()).map(|row| row.holder.clone()),
                record,
                said,
            });
        }
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
        Self { sealed: says.report(), leads }
    }
}
