//! Who should lead next, as far as the resource has a say: the participants learn of it, and all but
//! that one leave a free lease alone for a moment. It decides nothing, so it may be wrong or late.
//!
//! 1. A pod that is going away, is not ready, or is not a candidate is never preferred.
//! 2. During a rollout, pods of the newest revision come first: else the lease would move on with each pod that is
//!    replaced.
//! 3. Then pods whose node is not cordoned: the others are about to be evicted.
//! 4. Then a higher priority of the participant.
//! 5. With `strategy: Oldest`, then the participant that has been alive for longest.
//!
//! Where none of these tells the candidates apart, nobody is preferred, and nobody waits.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::decide::marks::is_candidate;
use super::observed::{Observed, RowSight, Strategy};
use super::pod::Pod;
use crate::election::HolderId;
use crate::membership::SeenInstance;

/// Labels by which workloads tell revisions apart.
const REVISIONS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

/// How good a candidate is; the greatest is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    fit: bool,
    newest: bool,
    stays: bool,
    priority: u8,
}

/// Whom the participants should leave the lease to.
#[must_use]
pub fn preferred(o: &Observed) -> Option<HolderId> {
    let ranked = ranked(o);
    let (best, seen) = first(&ranked)?;
    let tell_apart = o.desired.strategy == Strategy::Oldest || ranked.iter().any(|(rank, _)| rank != best);
    (best.fit && tell_apart).then(|| HolderId::new(seen.holder.clone()).ok()).flatten()
}

/// Who could lead instead of the leader, and is ready: the best of them.
#[must_use]
pub fn fittest(o: &Observed) -> Option<HolderId> {
    best(o, |rank| rank.fit)
}

/// Likewise, where no node is about to be drained.
#[must_use]
pub fn fittest_that_stays(o: &Observed) -> Option<HolderId> {
    best(o, |rank| rank.fit && rank.stays)
}

fn best(o: &Observed, is_good: impl Fn(Rank) -> bool) -> Option<HolderId> {
    let mut ranked = ranked(o);
    ranked.retain(|(rank, _)| is_good(*rank));
    HolderId::new(first(&ranked)?.1.holder.clone()).ok()
}

/// Who leads, or led last: somebody who has just made way stays away for a while.
fn last_holder(o: &Observed) -> &str {
    let RowSight::Seen { row: Some(row), .. } = &o.row else { return "" };
    if !row.is_free() {
        return &row.holder;
    }
    let last = o.memory.last_transition.as_ref().filter(|last| last.version == row.version);
    last.map_or("", |last| last.to.as_str())
}

/// Those who could lead instead of the leader, in no order.
fn ranked(o: &Observed) -> Vec<(Rank, &SeenInstance)> {
    let holder = last_holder(o);
    let newest = newest_revision(o);
    let could_lead = |seen: &&SeenInstance| seen.healthy && seen.priority != Some(0) && seen.holder != holder;
    o.instances.iter().filter(could_lead).map(|seen| (rank(o, seen, newest), seen)).collect()
}

fn first<'r, 'o>(ranked: &'r [(Rank, &'o SeenInstance)]) -> Option<&'r (Rank, &'o SeenInstance)> {
    ranked.iter().max_by_key(|(rank, seen)| (*rank, Reverse(seen.id)))
}

/// Whether a ready pod of a newer revision than others has a participant that is not known yet: it should be soon.
#[must_use]
pub fn awaits_participants(o: &Observed) -> bool {
    let newest = newest_revision(o);
    let is_new = |pod: &&Pod| newest == Some(revision(pod));
    let rolls_out = candidates(o).any(|pod| !is_new(&pod));
    let unknown = |pod: &Pod| !o.instances.iter().any(|seen| runs_in(seen, pod));
    // Where nobody enters itself there is nobody to wait for.
    rolls_out
        && !o.instances.is_empty()
        && candidates(o).filter(is_new).any(|pod| pod.unready.is_none() && !pod.terminating && unknown(pod))
}

fn rank(o: &Observed, seen: &SeenInstance, newest: Option<&str>) -> Rank {
    let pod = candidates(o).find(|pod| runs_in(seen, pod));
    let fit = pod.is_some_and(|pod| !pod.terminating && pod.unready.is_none());
    Rank {
        fit,
        newest: pod.is_some_and(|pod| newest == Some(revision(pod))),
        stays: pod.is_some_and(|pod| !pod.cordoned),
        priority: seen.priority.unwrap_or(u8::MAX / 2),
    }
}

fn candidates(o: &Observed) -> impl Iterator<Item = &Pod> {
    o.pods.iter().flatten().filter(|pod| is_candidate(o, pod))
}

fn runs_in(seen: &SeenInstance, pod: &Pod) -> bool {
    match &seen.whereabouts.pod_uid {
        Some(uid) => *uid == pod.uid,
        None => seen.whereabouts.pod.as_deref() == Some(pod.name.as_str()),
    }
}

fn revision(pod: &Pod) -> &str {
    REVISIONS.iter().find_map(|label| pod.labels.get(*label)).map_or("", String::as_str)
}

/// The one of which the oldest pod is youngest: a pod of an older revision that was replaced is younger than many. None
/// where two began in the same second: Kubernetes counts no finer.
fn newest_revision(o: &Observed) -> Option<&str> {
    let mut began: BTreeMap<&str, i64> = BTreeMap::new();
    for pod in candidates(o) {
        let created = pod.created.unwrap_or(i64::MAX);
        began.entry(revision(pod)).and_modify(|first| *first = created.min(*first)).or_insert(created);
    }
    let (newest, last) = began.iter().max_by_key(|(_, first)| **first)?;
    (began.values().filter(|first| *first == last).count() == 1).then_some(*newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::{instance, observed, pod, remembers, row};

    /// Pods of which each has a participant that is as old as its place; `revision` and `created` of each.
    fn world(pods: &[(&str, &str, i64)]) -> Observed {
        let mut o = observed(row("", 7), Vec::new());
        let mut all = Vec::new();
        for (id, (name, revision, created)) in pods.iter().enumerate() {
            let mut one = pod(name);
            one.labels.insert("pod-template-hash".to_owned(), (*revision).to_owned());
            one.created = Some(*created);
            one.unready = None;
            let mut seen = instance(name);
            seen.id = i64::try_from(id).unwrap();
            seen.whereabouts.pod_uid = Some(one.uid.clone());
            seen.priority = Some(100);
            o.instances.push(seen);
            all.push(one);
        }
        o.pods = Ok(all);
        o
    }

    fn who(o: &Observed) -> Option<String> {
        preferred(o).map(|holder| holder.as_str().to_owned())
    }

    fn of(name: &str) -> String {
        instance(name).holder
    }

    #[test]
    fn where_nothing_tells_them_apart_nobody_is_preferred_and_nobody_waits() {
        let o = world(&[("a", "1", 1), ("b", "1", 2)]);
        assert_eq!(who(&o), None);
        assert!(!awaits_participants(&o));
        assert_eq!(who(&world(&[])), None);
    }

    #[test]
    fn during_a_rollout_the_newest_revision_is_preferred_although_an_old_pod_was_replaced() {
        let mut o = world(&[("a", "1", 1), ("b", "1", 30), ("c", "2", 20)]);
        assert_eq!(who(&o), Some(of("c")));
        assert!(!awaits_participants(&o), "all are known");
        let known = o.instances.pop().unwrap();
        assert!(awaits_participants(&o), "c is ready, and nobody knows its participant");
        o.instances.push(known);
        // Until it is ready it is not preferred, and one that goes away is not either.
        o.pods.as_mut().unwrap()[2].unready = Some("it is still initialising".to_owned());
        assert_eq!(who(&o), Some(of("a")), "the others are better than one that is not ready");
        o.pods.as_mut().unwrap()[0].terminating = true;
        assert_eq!(who(&o), Some(of("b")));
        o.pods.as_mut().unwrap()[1].terminating = true;
        assert_eq!(who(&o), None, "nobody is fit");
    }

    #[test]
    fn of_two_revisions_that_began_in_the_same_second_none_is_preferred() {
        assert_eq!(who(&world(&[("a", "new", 5), ("b", "old", 5), ("c", "old", 6)])), None);
        assert_eq!(who(&world(&[("a", "1", 5), ("b", "2", 5)])), None);
        assert_eq!(who(&world(&[("a", "new", 6), ("b", "old", 5), ("c", "old", 6)])), Some(of("a")));
    }

    #[test]
    fn a_pod_that_is_about_to_be_evicted_is_preferred_to_none_but_one_of_an_older_revision() {
        let mut o = world(&[("a", "1", 1), ("b", "1", 2)]);
        o.instances[0].priority = Some(200);
        o.pods.as_mut().unwrap()[0].cordoned = true;
        assert_eq!(who(&o), Some(of("b")), "although its priority is lower");
        o.pods.as_mut().unwrap()[1].cordoned = true;
        assert_eq!(who(&o), Some(of("a")), "nobody stays, and its priority is higher");
        assert_eq!(fittest_that_stays(&o), None);
        let mut o = world(&[("a", "1", 1), ("b", "2", 2)]);
        o.pods.as_mut().unwrap()[1].cordoned = true;
        assert_eq!(who(&o), Some(of("b")), "the older one goes away as well");
        let stays = fittest_that_stays(&o).map(|holder| holder.as_str().to_owned());
        assert_eq!(stays, Some(of("a")));
    }

    #[test]
    fn priority_counts_within_a_revision_and_zero_is_never_preferred() {
        let mut o = world(&[("a", "1", 1), ("b", "1", 2), ("c", "1", 3)]);
        o.instances[1].priority = Some(200);
        o.instances[2].priority = Some(0);
        assert_eq!(who(&o), Some(of("b")));
        o.instances[1].healthy = false;
        assert_eq!(who(&o), None, "one is left, and there is nobody to wait for it");
        let mut o = world(&[("a", "1", 1), ("b", "2", 2)]);
        o.instances[0].priority = Some(255);
        assert_eq!(who(&o), Some(of("b")), "the revision comes first");
    }

    #[test]
    fn the_oldest_is_preferred_where_the_resource_asks_for_it_and_the_leader_never_is() {
        let mut o = world(&[("a", "1", 1), ("b", "1", 2)]);
        o.desired.strategy = Strategy::Oldest;
        assert_eq!(who(&o), Some(of("a")));
        o.row = RowSight::Seen { row: Some(row(&instance("a").holder, 7)), since: o.now };
        assert_eq!(who(&o), Some(of("b")), "if the leader ends, the next one");
        // It has just made way: the row is free, and everybody would wait for one that stays away.
        let led = instance("a").holder;
        o.row = RowSight::Seen { row: Some(row("", 7)), since: o.now };
        o.memory = remembers("a", 7);
        if let Some(last) = &mut o.memory.last_transition {
            (last.version, last.to) = (7, led);
        }
        assert_eq!(who(&o), Some(of("b")), "not the one that made way");
    }

    #[test]
    fn a_participant_outside_of_the_candidates_is_never_preferred() {
        let mut o = world(&[("a", "1", 1), ("b", "1", 2)]);
        o.instances[0].whereabouts.pod_uid = Some("elsewhere".to_owned());
        assert_eq!(who(&o), Some(of("b")));
    }
}
