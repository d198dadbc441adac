//! What stands beside the lease of a database, for those who only look: people and probes.

use std::collections::{BTreeMap, BTreeSet};

use super::says::{self, Says};
use super::wishes::{Answer, Wish};
use crate::database::{Leader, Member};
use crate::election::ComponentName;
use crate::primary::verbs::{Log, Now};
use crate::primary::{Record, Report};
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
    /// What is asked of members, by member.
    pub wishes: BTreeMap<Member, Wish>,
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub sealed: Option<Report>,
    /// It was promoted under this version, and can be followed there.
    pub leads: Option<Leader>,
    /// As whom it takes part now.
    pub holder: Option<String>,
    /// Of a primary, under which version it said so: how far its log is.
    pub log: Option<(i64, Log<Member>)>,
    /// To the last wish.
    pub wish_answer: Option<Answer>,
    /// To the last request for which it did not make way.
    pub request_answer: Option<Answer>,
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
            let standing = Self::of(&found, component)?;
            let recorded = standing.record.iter().flat_map(|(record, _)| record.members.iter());
            let missing: Vec<Member> = recorded.filter(|member| !asked.contains(*member)).cloned().collect();
            if missing.is_empty() {
                return Ok(standing);
            }
            asked.extend(missing);
        }
    }

    /// What was read.
    ///
    /// # Errors
    /// For a record that cannot be read. What is no report counts as none.
    pub fn of(found: &Rostered, component: &ComponentName) -> Result<Self, StoreError> {
        let written = match found.record.as_deref().map(says::Record::parse) {
            None => None,
            Some(Ok(written)) => Some(written),
            Some(Err(why)) => {
                return Err(StoreError::misconfigured(format!(
                    "the record beside lease {component} cannot be read: {why}"
                )));
            }
        };
        let said = found
            .reports
            .iter()
            .filter_map(|(member, text)| Some((member.clone(), Said::of(member, &Says::parse(text)?))));
        let wishes =
            found.wishes.iter().filter_map(|(member, text)| Some((member.clone(), Wish::parse(text)?)));
        let row = found.row.as_ref();
        Ok(Self {
            version: row.map_or(0, |row| row.version),
            holder: row.filter(|row| !row.is_free()).map(|row| row.holder.clone()),
            record: written.as_ref().and_then(|written| Some((written.rule()?, written.version))),
            said: said.collect(),
            wishes: wishes.collect(),
        })
    }

    /// The primary of the present term, if the record is its own.
    #[must_use]
    pub fn primary(&self) -> Option<&Record<Member>> {
        let own = |(_, version): &&(Record<Member>, i64)| *version == self.version && self.holder.is_some();
        self.record.as_ref().filter(own).map(|(record, _)| record)
    }

    /// Which member holds the lease: the one that says so, else the one whose name is the beginning of the holder id.
    #[must_use]
    pub fn holding(&self) -> Option<Member> {
        let holder = self.holder.as_deref()?;
        let says_so = self.said.iter().find(|(_, said)| said.holder.as_deref() == Some(holder));
        let name = holder.rsplitn(3, '_').nth(2).unwrap_or(holder);
        Some(says_so.map_or_else(|| name.to_owned(), |(member, _)| member.clone()))
    }

    /// As the rules know it.
    #[must_use]
    pub fn now(&self, paused: bool) -> Now<Member> {
        let log = self.record.as_ref().and_then(|(record, at)| {
            let (version, log) = self.said.get(&record.primary)?.log.as_ref()?;
            (version == at).then(|| log.clone())
        });
        let reachable = self.said.iter().filter(|(_, said)| said.holder.is_some());
        Now {
            version: self.version,
            holder: self.holding(),
            record: self.record.clone(),
            paused,
            log,
            reachable: reachable.map(|(member, _)| member.clone()).collect(),
        }
    }
}

impl Said {
    fn of(member: &Member, says: &Says) -> Self {
        let leads = says.leads.as_ref().and_then(|leads| says.leader(member, leads.version));
        let log = says.log.as_ref().map(|log| (log.version, log.log()));
        Self {
            sealed: says.report(),
            leads,
            holder: says.holder.clone(),
            log,
            wish_answer: says.wish_answer.clone(),
            request_answer: says.request_answer.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_that_holds_the_lease_is_found_by_what_it_says_or_by_its_name() {
        let mut standing =
            Standing { holder: Some("db_0_8b7e12c0_1f0c9a3d".to_owned()), ..Standing::default() };
        assert_eq!(standing.holding(), Some("db_0".to_owned()));
        let said = Said { holder: standing.holder.clone(), ..Said::default() };
        standing.said.insert("other".to_owned(), said);
        assert_eq!(standing.holding(), Some("other".to_owned()));
        assert_eq!(Standing::default().holding(), None);
    }
}
