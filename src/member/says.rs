//! What members write beside the lease, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::database::{Leader, Member};
use crate::primary::bearer::{bearer, identity_of, name_of};
use crate::primary::{self, Claim, Position, Quorum, Report, Stamp};

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Says {
    /// Of its data directory.
    #[serde(default)]
    pub(super) identity: String,
    /// Of its process.
    #[serde(default)]
    pub(super) session: String,
    /// Of the process before it.
    #[serde(default)]
    pub(super) after: String,
    /// All members, as this one was started with.
    #[serde(default)]
    pub(super) members: BTreeSet<Member>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<Sealed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leads: Option<Leads>,
    /// The newest record that it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<Record>,
}

/// At which version it is sealed, and where its data ended then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) version: i64,
    /// As text: it has 64 bits.
    pub(super) system: String,
    pub(super) term: i64,
    pub(super) end: u64,
    /// The version of the last primary of whose history they are a beginning.
    #[serde(default)]
    pub(super) of: i64,
}

/// Its server was promoted under this version, and can be followed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leads {
    pub(super) version: i64,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Says {
    pub(super) fn claimed(self, claim: Claim) -> Self {
        let Claim { identity, session, after } = claim;
        Self { identity, session, after, ..self }
    }

    pub(super) fn claim(&self) -> Claim {
        let Self { identity, session, after, .. } = self.clone();
        Claim { identity, session, after }
    }

    /// The data directory that bears the name.
    pub(super) fn bearer(&self, member: &str) -> Member {
        bearer(member, &self.identity)
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for what is no report: it counts as none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn report(&self) -> Option<Report> {
        let sealed = self.sealed.as_ref()?;
        Some(Report {
            version: sealed.version,
            system: sealed.system.parse().ok()?,
            position: Position { term: sealed.term, end: sealed.end },
        })
    }

    /// What was on this member's disk when it said this.
    pub(super) fn promised(&self) -> i64 {
        let sealed = self.sealed.as_ref().map_or(0, |sealed| sealed.version);
        sealed.max(self.leads.as_ref().map_or(0, |leads| leads.version))
    }

    /// Of which primary's history the data are a beginning.
    pub(super) fn of(&self) -> i64 {
        let sealed = self.sealed.as_ref().map_or(0, |sealed| sealed.of);
        sealed.max(self.leads.as_ref().map_or(0, |leads| leads.version))
    }

    /// The highest version that was ever granted, as far as this member knows.
    pub(super) fn highest(&self) -> i64 {
        let record = self.record.as_ref().map_or(0, |record| record.version);
        self.promised().max(self.of()).max(record)
    }

    /// Where to follow it under this version.
    pub(super) fn leader(&self, member: &str, version: i64) -> Option<Leader> {
        let leads = self.leads.as_ref().filter(|leads| leads.version == version)?;
        Some(Leader { member: self.bearer(member), version, host: leads.host.clone(), port: leads.port })
    }
}

impl Sealed {
    pub(super) fn of(report: &Report, of: i64) -> Self {
        Self {
            version: report.version,
            system: report.system.to_string(),
            term: report.position.term,
            end: report.position.end,
            of,
        }
    }
}

/// The record beside the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) primary: Member,
    /// Under which it was written.
    pub(super) version: i64,
    /// Which one of that version it is.
    #[serde(default)]
    pub(super) serial: u64,
    voters: BTreeSet<Member>,
    acks: usize,
    asynchronous: bool,
    system: String,
    pub(super) members: BTreeSet<Member>,
    /// Which data directories bear the names of the primary and of the voters.
    #[serde(default)]
    identities: BTreeMap<Member, String>,
}

impl Record {
    /// `record` is about bearers, one of each name.
    pub(super) fn new(record: &primary::Record<Member>, members: &BTreeSet<Member>, stamp: Stamp) -> Self {
        let named = |bearer: &Member| name_of(bearer).to_owned();
        let bearers = record.quorum.voters().iter().chain([&record.primary]);
        Self {
            primary: named(&record.primary),
            version: stamp.version,
            serial: stamp.serial,
            voters: record.quorum.voters().iter().map(named).collect(),
            acks: record.quorum.acks(),
            asynchronous: record.asynchronous,
            system: record.system.to_string(),
            members: members.clone(),
            identities: bearers.map(|bearer| (named(bearer), identity_of(bearer).to_owned())).collect(),
        }
    }

    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { version: self.version, serial: self.serial }
    }

    pub(super) fn identity(&self, member: &str) -> Option<&str> {
        self.identities.get(member).map(String::as_str)
    }

    fn bearer(&self, member: &str) -> Member {
        bearer(member, self.identity(member).unwrap_or_default())
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Says why the text is no record where it cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        record.named().map(|_| record).ok_or_else(|| "its numbers cannot be".to_owned())
    }

    /// By the names alone, for people.
    pub(super) fn named(&self) -> Option<primary::Record<Member>> {
        Some(primary::Record {
            primary: self.primary.clone(),
            quorum: Quorum::any(self.acks, self.voters.clone())?,
            asynchronous: self.asynchronous,
            system: self.system.parse().ok()?,
            members: self.members.clone(),
        })
    }

    /// As the rules know it: about data directories. `present` are those that say something now: of these, a declared name is enough to be
    /// promoted, as the others are asked what is acknowledged.
    pub(super) fn rule<'p>(
        &self,
        present: impl IntoIterator<Item = &'p Member>,
    ) -> Option<primary::Record<Member>> {
        let bear = |names: &BTreeSet<Member>| names.iter().map(|name| self.bearer(name)).collect();
        let declared = |bearer: &&Member| self.members.contains(name_of(bearer));
        let mut members: BTreeSet<Member> = present.into_iter().filter(declared).cloned().collect();
        members.extend(self.voters.iter().chain([&self.primary]).map(|name| self.bearer(name)));
        Some(primary::Record {
            primary: self.bearer(&self.primary),
            quorum: Quorum::any(self.acks, bear(&self.voters))?,
            members,
            ..self.named()?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(all: &[&str]) -> BTreeSet<Member> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    fn record() -> primary::Record<Member> {
        primary::Record {
            primary: "a@1".to_owned(),
            quorum: Quorum::any(1, set(&["b@2", "c@3"])).unwrap(),
            asynchronous: false,
            system: 7,
            members: set(&["a@1", "b@2", "c@3"]),
        }
    }

    #[test]
    fn a_record_names_data_directories_and_shows_names() {
        let written = Record::new(&record(), &set(&["a", "b", "c"]), Stamp { version: 4, serial: 2 });
        let read = Record::parse(&written.text()).unwrap();
        assert_eq!((read.clone(), read.stamp()), (written, Stamp { version: 4, serial: 2 }));
        assert_eq!(read.named().unwrap().quorum.voters(), &set(&["b", "c"]));
        assert_eq!(read.rule(&set(&["a@1", "b@2", "c@3"])).unwrap(), record());
        assert_eq!((read.identity("b"), read.identity("d")), (Some("2"), None));
    }

    #[test]
    fn a_new_directory_under_a_recorded_name_is_no_voter_but_a_member() {
        let read = Record::new(&record(), &set(&["a", "b", "c"]), Stamp::default());
        let rule = read.rule(&set(&["a@1", "b@9", "d@1"])).unwrap();
        assert_eq!(rule.quorum.voters(), &set(&["b@2", "c@3"]));
        assert_eq!(rule.members, set(&["a@1", "b@2", "b@9", "c@3"]), "d is not declared");
    }

    #[test]
    fn what_a_member_says_is_read_as_it_was_written_and_nonsense_is_no_report() {
        let claim = Claim { identity: "1".into(), session: "s".into(), after: "r".into() };
        let report = Report { version: 5, system: u64::MAX, position: Position { term: 4, end: 77 } };
        let record = Record::new(&record(), &set(&["a"]), Stamp { version: 6, serial: 1 });
        let says = Says {
            members: set(&["a", "b"]),
            sealed: Some(Sealed::of(&report, 3)),
            record: Some(record),
            ..Says::default()
        }
        .claimed(claim.clone());
        let read = Says::parse(&says.text()).unwrap();
        assert_eq!((read.claim(), read.report(), read.highest()), (claim, Some(report), 6));
        assert_eq!((read.bearer("a").as_str(), read), ("a@1", says));
        assert_eq!(Says::parse("nonsense"), None);
        assert_eq!(Says::parse("{}"), Some(Says::default()));
    }
}
