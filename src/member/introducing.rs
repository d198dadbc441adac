//! Who a member is, before it says what its data have: one name is for one process on one data directory, and all have one list of members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use tracing::error;

use super::away::Away;
use super::rivals::Next;
use super::says::{Record, Says};
use super::{Ended, Seen, Supervisor};
use crate::database::{Engine, EngineError, Member};
use crate::primary::Claim;
use crate::primary::declared::{Other, conflict, others};

impl<E: Engine + 'static> Supervisor<E> {
    /// Whether this member may say what its data have: no other process bears its name.
    pub(super) async fn is_alone_by_its_name(&self, seen: &Seen) -> Result<bool, EngineError> {
        let there = seen.said.get(&self.settings.member);
        if there.is_some_and(|says| self.is_older_than(says)) {
            return Ok(false);
        }
        let newest = self.newest(seen)?;
        let recorded = newest.as_ref().and_then(|record| record.identity(&self.settings.member));
        let claim = there.map(Says::claim);
        let (next, is_introduced) = {
            let mut rivals = self.rivals.lock().unwrap_or_else(PoisonError::into_inner);
            (rivals.next(claim.as_ref(), recorded, self.clock.boot()), rivals.is_introduced())
        };
        match next {
            Next::Go | Next::Wait => {}
            Next::Say => self.say_again(there).await?,
            Next::Stay(other) => {
                self.name_the_rival(
                    &other,
                    "it is the later one, or the record names this one: it has to end",
                );
                self.say_again(there).await?;
            }
            Next::GiveWay(other) => {
                self.name_the_rival(
                    &other,
                    "this one ends; end the other one first if this is the one that should run",
                );
                self.ended.send_replace(Ended::GaveWay);
                return Ok(false);
            }
        }
        self.away.set(&self.participant, Away::Introduces, !is_introduced);
        Ok(is_introduced)
    }

    fn name_the_rival(&self, other: &Claim, what: &str) {
        let own = &self.settings.identity;
        let which = if other.identity == *own {
            "a copy of this very data directory".to_owned()
        } else {
            format!("the data directory {}, and not {own}", other.identity)
        };
        self.complain(
            "rival",
            &format!("another process bears the name {} with {which}: {what}", self.settings.member),
        );
    }

    /// What this process said last. Before it has said anything, what is true of the data of an earlier one is true now.
    async fn say_again(&self, there: Option<&Says>) -> Result<(), EngineError> {
        let last = self.last_said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let says = if last == Says::default() {
            let ours = there.filter(|says| says.claim().identity == self.settings.identity);
            Says { sealed: ours.and_then(|says| says.sealed.clone()), ..Says::default() }
        } else {
            last
        };
        self.report(says).await.map_err(|error| EngineError::failed(error.to_string()))
    }

    /// Whether the data are older than what was said of them: somebody has put an older copy of the volume in their place.
    fn is_older_than(&self, says: &Says) -> bool {
        let said = says.promised();
        let own = self.engine.sealed().unwrap_or(i64::MAX);
        if says.claim().identity != self.settings.identity || said <= own {
            return false;
        }
        error!(
            member = %self.settings.member, sealed = own, said,
            "the data directory is older than what was said of it: somebody has put an older copy in its place. It gets another identity, and counts once \\
             the primary has recorded that"
        );
        match self.engine.forget_identity() {
            Ok(()) => {
                self.ended.send_replace(Ended::OlderThanItSaid);
            }
            Err(error) => self.complain("identity", &error.to_string()),
        }
        true
    }

    /// The lists that differ from the own one, each said by name. For one of them this member is not promoted.
    pub(super) fn conflict(&self, seen: &Seen, record: Option<&Record>) -> Option<Other> {
        let said: BTreeMap<Member, BTreeSet<Member>> = seen
            .said
            .iter()
            .filter(|(member, says)| **member != self.settings.member && !says.members.is_empty())
            .map(|(member, says)| (member.clone(), says.members.clone()))
            .collect();
        let all = others(&self.settings.members, record.map(|record| &record.members), &said);
        for other in &all {
            let whose = other.whose.as_deref();
            self.complain(
                &format!("members of {}", whose.unwrap_or("the record")),
                &format!(
                    "--members of {} is {}, and {} has {}: start all members with the same list",
                    self.settings.member,
                    listed(&self.settings.members),
                    whose.map_or_else(|| "the record".to_owned(), |member| format!("{member}'s")),
                    listed(&other.members)
                ),
            );
        }
        conflict(&all, record.is_some()).cloned()
    }

    /// A member whose list is not that of the record does not compete.
    pub(super) fn compete_by_the_list(&self, seen: &Seen, record: Option<&Record>) {
        let differs = self.conflict(seen, record).is_some();
        self.away.set(&self.participant, Away::Members, differs && record.is_some());
    }
}

fn listed(members: &BTreeSet<Member>) -> String {
    members.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}
