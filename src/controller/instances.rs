//! The participants as they tell of themselves. They come with a look at all rows, but not with each: what
//! changes there concerns people, and a holder's pod, which is known long before it leads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::election::{LeaseRow, Moment};
use crate::membership::SeenInstance;
use crate::routing::split_brain::{Belief, Witnesses};

/// They are asked for with every tenth poll.
const POLLS: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct Instances {
    /// By component, by id.
    alive: BTreeMap<String, Vec<SeenInstance>>,
    /// By component, what the row's holder last told of itself: it still counts when its heartbeat is out of date.
    holders: BTreeMap<String, SeenInstance>,
    witnesses: Witnesses,
    /// By component.
    disputed: BTreeMap<String, Vec<Belief>>,
    /// `None` until they have been asked for.
    asked: Option<Moment>,
    wanted: bool,
}

impl Instances {
    /// `interval` is that of the polls.
    pub(super) fn due(&self, now: Moment, interval: Duration) -> bool {
        self.wanted || self.asked.is_none_or(|asked| now >= asked + interval * POLLS)
    }

    /// With the next look.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether nothing is known of this holder.
    pub(super) fn lacks(&self, component: &str, holder: &str) -> bool {
        let alive = self.alive.get(component).into_iter().flatten();
        let mut known = alive.chain(self.holders.get(component));
        !holder.is_empty() && !known.any(|seen| seen.holder == holder)
    }

    /// What the holder of the component last told of itself.
    pub(super) fn holder(&self, component: &str) -> Option<SeenInstance> {
        self.holders.get(component).cloned()
    }

    pub(super) fn of(&self, component: &str) -> Vec<SeenInstance> {
        self.alive.get(component).cloned().unwrap_or_default()
    }

    pub(super) fn disputed(&self, component: &str) -> Vec<Belief> {
        self.disputed.get(component).cloned().unwrap_or_default()
    }

    /// A look that asked for them failed: the next one does without.
    pub(super) fn failed(&mut self, asked: Moment) {
        (self.asked, self.wanted) = (Some(asked), false);
    }

    /// What a look showed that asked for them; the components of which something but a time has changed.
    pub(super) fn saw(
        &mut self,
        asked: Moment,
        alive: Option<Vec<SeenInstance>>,
        rows: &BTreeMap<String, LeaseRow>,
        components: &mut Vec<String>,
    ) {
        (self.asked, self.wanted) = (Some(asked), false);
        let mut now: BTreeMap<String, Vec<SeenInstance>> = BTreeMap::new();
        for seen in alive.into_iter().flatten() {
            now.entry(seen.component.clone()).or_default().push(seen);
        }
        for all in now.values_mut() {
            all.sort_by_key(|seen| seen.id);
        }
        let all =
            self.alive.keys().chain(now.keys().filter(|component| !self.alive.contains_key(*component)));
        let changed = all.filter(|component| !same(self.alive.get(*component), now.get(*component)));
        components.extend(changed.cloned());
        self.alive = now;
        self.keep_holders(rows);
        self.witnesses.saw(self.alive.values().flatten(), |component| rows.get(component));
        let disputed = self.witnesses.proven();
        let all = self.disputed.keys().chain(disputed.keys());
        components.extend(
            all.filter(|component| self.disputed.get(*component) != disputed.get(*component)).cloned(),
        );
        self.disputed = disputed;
    }

    fn keep_holders(&mut self, rows: &BTreeMap<String, LeaseRow>) {
        self.holders
            .retain(|component, seen| rows.get(component).is_some_and(|row| row.holder == seen.holder));
        for (component, all) in &self.alive {
            let holder = rows.get(component).map(|row| row.holder.as_str());
            if let Some(seen) = all.iter().rev().find(|seen| Some(seen.holder.as_str()) == holder) {
                self.holders.insert(component.clone(), seen.clone());
            }
        }
    }
}

fn same(before: Option<&Vec<SeenInstance>>, now: Option<&Vec<SeenInstance>>) -> bool {
    let shown = |seen: &SeenInstance| SeenInstance { heartbeat: 0, lasts: 0, leads: None, ..seen.clone() };
    match (before, now) {
        (Some(before), Some(now)) => before.iter().map(shown).eq(now.iter().map(shown)),
        (before, now) => before.is_none() && now.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{ComponentName, HolderId};
    use crate::membership::{Instance, Whereabouts};

    fn seen(id: i64, component: &str, holder: &str) -> SeenInstance {
        let says = Instance {
            component: ComponentName::new(component).unwrap(),
            holder: HolderId::new(holder).unwrap(),
            lasts: 90,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: None,
            promise: None,
            priority: None,
            healthy: true,
            leads: None,
        };
        SeenInstance::begin(id, &says, 1_000)
    }

    fn changed(instances: &mut Instances, alive: Vec<SeenInstance>) -> Vec<String> {
        beside(instances, alive, &BTreeMap::new())
    }

    fn beside(
        instances: &mut Instances,
        alive: Vec<SeenInstance>,
        rows: &BTreeMap<String, LeaseRow>,
    ) -> Vec<String> {
        let mut components = Vec::new();
        instances.saw(Moment::ZERO, Some(alive), rows, &mut components);
        components
    }

    #[test]
    fn heartbeats_alone_concern_nobody_and_lives_that_begin_or_end_do() {
        let mut all = Instances::default();
        assert_eq!(changed(&mut all, vec![seen(2, "b", "x"), seen(1, "a", "y")]), ["a", "b"]);
        let beaten = SeenInstance { heartbeat: 2_000, leads: Some(4), ..seen(2, "b", "x") };
        assert!(changed(&mut all, vec![seen(1, "a", "y"), beaten.clone()]).is_empty());
        assert_eq!(changed(&mut all, vec![beaten.clone()]), ["a"]);
        assert_eq!(changed(&mut all, vec![SeenInstance { healthy: false, ..beaten }]), ["b"]);
        assert_eq!(changed(&mut all, vec![seen(3, "b", "x")]), ["b"]);
    }

    #[test]
    fn a_component_is_concerned_when_somebody_is_proven_to_claim_it_and_when_that_ends() {
        let mut all = Instances::default();
        let row = LeaseRow { holder: "x".into(), lease_time: 0, renew_time: 1, version: 42, ttl: 5 };
        let rows = BTreeMap::from([("a".to_owned(), row)]);
        let claims = |heartbeat, leads| SeenInstance { heartbeat, leads, ..seen(1, "a", "y") };
        for (heartbeat, leads, concerned, disputed) in [
            (1, Some(41), vec!["a"], 0),
            (2, Some(41), vec![], 0),
            (3, Some(41), vec!["a"], 1),
            (4, Some(41), vec![], 1),
            (5, None, vec!["a"], 0),
        ] {
            assert_eq!(beside(&mut all, vec![claims(heartbeat, leads)], &rows), concerned, "{heartbeat}");
            assert_eq!(all.disputed("a").len(), disputed, "{heartbeat}");
        }
    }

    #[test]
    fn what_a_holder_told_stands_until_another_one_holds_the_row() {
        let mut all = Instances::default();
        let holds = |holder: &str| {
            let row = LeaseRow { holder: holder.into(), lease_time: 0, renew_time: 1, version: 42, ttl: 5 };
            BTreeMap::from([("a".to_owned(), row)])
        };
        beside(&mut all, vec![seen(1, "a", "x"), seen(2, "a", "y"), seen(3, "a", "x")], &holds("x"));
        assert_eq!(all.holder("a").map(|seen| seen.id), Some(3), "the last that it told");
        beside(&mut all, vec![seen(2, "a", "y")], &holds("x"));
        assert_eq!(all.holder("a").map(|seen| seen.id), Some(3));
        assert!(!all.lacks("a", "x") && all.of("a").len() == 1, "it is known, but not alive");
        beside(&mut all, vec![], &holds("y"));
        assert_eq!(all.holder("a"), None);
    }

    #[test]
    fn they_are_asked_for_now_and_then_or_when_a_holder_is_not_known() {
        let (mut all, second) = (Instances::default(), Duration::from_secs(1));
        assert!(all.due(Moment::ZERO, second));
        changed(&mut all, vec![seen(1, "a", "y")]);
        assert!(!all.due(Duration::from_secs(9), second) && all.due(Duration::from_secs(10), second));
        assert!(all.due(Duration::from_secs(2), second / 5), "with every tenth poll");
        assert!(all.lacks("a", "z") && !all.lacks("a", "y") && !all.lacks("a", ""));
        all.want();
        assert!(all.due(second, second));
    }
}
