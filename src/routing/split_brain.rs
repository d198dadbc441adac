//! Which participant goes on claiming the term although the row says otherwise. Nothing is decided by it. People
//! learn of it, because such a program has broken the rules (or its clock has), and may still act.
//!
//! What participants say arrives late: a heartbeat may have been on its way when the row changed, and be
//! written after that. So one says nothing. But a participant sends one heartbeat at a time: of two that
//! were *both* written after the row was seen to contradict them, the second was also *sent* after that.
//! No clock is asked.

use std::collections::BTreeMap;

use crate::election::row::LeaseRow;
use crate::membership::instance::SeenInstance;

/// So many new heartbeats prove it.
const PROOF: u32 = 2;

/// What a participant goes on saying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    pub holder: String,
    pub version: i64,
}

#[derive(Debug)]
struct Doubt {
    component: String,
    belief: Belief,
    heartbeat: i64,
    /// Heartbeats since the row was first seen to contradict it.
    since: u32,
}

/// What was seen of all participants of a database, look by look.
#[derive(Debug, Default)]
pub struct Witnesses {
    /// By the id of the instance.
    doubts: BTreeMap<i64, Doubt>,
}

impl Witnesses {
    /// A look showed these participants, and these rows.
    pub fn saw<'a>(
        &mut self,
        alive: impl IntoIterator<Item = &'a SeenInstance>,
        row: impl Fn(&str) -> Option<&'a LeaseRow>,
    ) {
        let mut before = std::mem::take(&mut self.doubts);
        for seen in alive {
            let Some(version) = seen.leads else { continue };
            // Where nobody leads, or the row was deleted, there are no two.
            let Some(row) = row(&seen.component).filter(|row| !row.is_free()) else { continue };
            if row.version == version && row.holder == seen.holder {
                continue;
            }
            let belief = Belief { holder: seen.holder.clone(), version };
            let since = match before.remove(&seen.id).filter(|doubt| doubt.belief == belief) {
                Some(doubt) => doubt.since + u32::from(doubt.heartbeat != seen.heartbeat),
                None => 0,
            };
            let (component, heartbeat) = (seen.component.clone(), seen.heartbeat);
            self.doubts.insert(seen.id, Doubt { component, belief, heartbeat, since });
        }
    }

    /// The components of which somebody is proven to claim what it does not have, with what.
    #[must_use]
    pub fn proven(&self) -> BTreeMap<String, Vec<Belief>> {
        let mut proven: BTreeMap<String, Vec<Belief>> = BTreeMap::new();
        for doubt in self.doubts.values().filter(|doubt| doubt.since >= PROOF) {
            proven.entry(doubt.component.clone()).or_default().push(doubt.belief.clone());
        }
        proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{ComponentName, HolderId};
    use crate::membership::{Instance, Whereabouts};

    fn seen(id: i64, holder: &str, leads: Option<i64>, heartbeat: i64) -> SeenInstance {
        let says = Instance {
            component: ComponentName::new("c").unwrap(),
            holder: HolderId::new(holder).unwrap(),
            lasts: 45,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: None,
            promise: None,
            priority: None,
            healthy: true,
            leads,
        };
        SeenInstance::begin(id, &says, heartbeat)
    }

    fn row(holder: &str, version: i64) -> LeaseRow {
        LeaseRow { holder: holder.into(), lease_time: 0, renew_time: 1, version, ttl: 5 }
    }

    /// What is proven after looks at one participant and the row, one after the other.
    fn after(looks: &[(SeenInstance, Option<LeaseRow>)]) -> Vec<Belief> {
        let mut witnesses = Witnesses::default();
        for (seen, row) in looks {
            witnesses.saw([seen], |component| row.as_ref().filter(|_| component == "c"));
        }
        witnesses.proven().remove("c").unwrap_or_default()
    }

    #[test]
    fn two_heartbeats_after_the_row_was_seen_to_say_otherwise_prove_it() {
        let look = |beat| (seen(1, "a", Some(41), beat), Some(row("b", 42)));
        assert!(after(&[look(10), look(10), look(10)]).is_empty(), "it may have died");
        assert!(after(&[look(10), look(20)]).is_empty(), "it may have been on its way");
        assert_eq!(after(&[look(10), look(20), look(30)]), [Belief { holder: "a".into(), version: 41 }]);
        // The database's clock may step: what is new is all that counts.
        assert_eq!(after(&[look(10), look(5), look(7)]).len(), 1);
    }

    #[test]
    fn a_participant_that_stops_claiming_the_term_is_believed_and_must_be_proven_wrong_anew() {
        let no = |beat| (seen(1, "a", Some(41), beat), Some(row("b", 42)));
        let gives_in = (seen(1, "a", None, 40), Some(row("b", 42)));
        assert!(after(&[no(10), no(20), no(30), gives_in.clone()]).is_empty());
        assert!(after(&[no(10), no(20), gives_in, no(50)]).is_empty());
        let other = (seen(1, "a", Some(43), 30), Some(row("b", 42)));
        assert!(after(&[no(10), no(20), other]).is_empty(), "another claim");
    }

    #[test]
    fn its_own_term_a_row_that_is_nobodys_and_one_that_is_gone_prove_nothing() {
        for row in [Some(row("a", 41)), Some(row("", 41)), None] {
            let look = |beat| (seen(1, "a", Some(41), beat), row.clone());
            assert!(after(&[look(10), look(20), look(30), look(40)]).is_empty(), "{row:?}");
        }
    }

    #[test]
    fn the_same_version_of_another_holder_and_another_version_of_the_same_one_are_contradictions() {
        for row in [row("b", 41), row("a", 42)] {
            let look = |beat| (seen(1, "a", Some(41), beat), Some(row.clone()));
            assert_eq!(after(&[look(10), look(20), look(30)]).len(), 1, "{row:?}");
        }
    }
}
