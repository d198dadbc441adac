//! Other releases of the same class that watch the same namespaces. The oldest of them that is alive acts there, and
//! the others stand back. Each judges by the Leases of the others, which say what their controllers watch: nothing is
//! written for it. No client here: [`super::lookout`] tells what it sees.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::election::Moment;

/// A release, as its Lease shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Release {
    /// The namespace and the name of its Lease.
    pub(super) name: String,
    pub(super) age: Age,
    /// What it watches; empty is every namespace.
    pub(super) namespaces: Vec<String>,
    /// Who acts for it; empty is nobody.
    pub(super) holder: String,
    /// Differs after each renewal.
    pub(super) renewed: i64,
    pub(super) ttl: Duration,
}

/// When the Lease was made, then its UID.
pub(super) type Age = (i64, String);

impl Release {
    pub(super) fn watches(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|watched| watched == namespace)
    }

    fn shares_with(&self, other: &Self) -> bool {
        self.namespaces.is_empty()
            || other.namespaces.is_empty()
            || self.namespaces.iter().any(|namespace| other.watches(namespace))
    }
}

#[derive(Debug, Clone)]
struct Sighting {
    release: Release,
    /// Since when its Lease has been unchanged, on our own boot clock.
    since: Moment,
    /// A list that was asked for after its ttl has shown it unchanged.
    given_up: bool,
}

impl Sighting {
    fn lives(&self) -> bool {
        !self.release.holder.is_empty() && !self.given_up
    }
}

/// What is known of the others.
#[derive(Debug, Default)]
pub(super) struct Releases {
    /// Our own, once its Lease is known.
    ours: Release,
    others: BTreeMap<String, Sighting>,
}

impl Releases {
    pub(super) fn new(ours: Release) -> Self {
        Self { ours, others: BTreeMap::new() }
    }

    /// A Lease was seen.
    pub(super) fn saw(&mut self, release: Release, now: Moment) {
        if release.name == self.ours.name || !release.shares_with(&self.ours) {
            self.others.remove(&release.name);
            return;
        }
        let same = |seen: &&Sighting| {
            (&seen.release.holder, seen.release.renewed) == (&release.holder, release.renewed)
        };
        let known = self.others.get(&release.name).filter(same);
        let (since, given_up) = known.map_or((now, false), |known| (known.since, known.given_up));
        self.others.insert(release.name.clone(), Sighting { release, since, given_up });
    }

    /// A Lease is gone.
    pub(super) fn gone(&mut self, name: &str) {
        self.others.remove(name);
    }

    /// All there are, by a list that was asked for at this moment. Only that ends a release: a watch that shows
    /// nothing may be broken.
    pub(super) fn listed(&mut self, all: Vec<Release>, asked: Moment, now: Moment) {
        self.others.retain(|name, _| all.iter().any(|release| release.name == *name));
        for release in all {
            self.saw(release, now);
        }
        for seen in self.others.values_mut().filter(|seen| asked >= seen.since + seen.release.ttl) {
            seen.given_up = true;
        }
    }

    fn older(&self) -> impl Iterator<Item = &Sighting> {
        self.others.values().filter(|seen| seen.lives() && seen.release.age < self.ours.age)
    }

    /// The releases before which this one stands back somewhere.
    pub(super) fn in_front(&self) -> Vec<Release> {
        self.older().map(|seen| seen.release.clone()).collect()
    }

    /// Whether a younger release may act where this one is to act now: it has to notice first.
    pub(super) fn displaces(&self) -> bool {
        self.others.values().any(|seen| seen.lives() && seen.release.age > self.ours.age)
    }

    /// When a list may show that a release in front of this one has ended.
    pub(super) fn due(&self) -> Option<Moment> {
        self.older().map(|seen| seen.since + seen.release.ttl).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn release(name: &str, made: i64, namespaces: &[&str]) -> Release {
        Release {
            name: name.to_owned(),
            age: (made, name.to_owned()),
            namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
            holder: "somebody".to_owned(),
            renewed: 1,
            ttl: TTL,
        }
    }

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn names(releases: &Releases) -> Vec<String> {
        releases.in_front().into_iter().map(|release| release.name).collect()
    }

    #[test]
    fn the_older_of_two_that_share_a_namespace_acts_and_of_the_same_age_the_one_with_the_lesser_uid() {
        let (a, b, c) = (release("a", 1, &["x", "y"]), release("b", 2, &["y"]), release("c", 2, &[]));
        let seen_by = |ours: &Release, others: &[&Release]| {
            let mut releases = Releases::new(ours.clone());
            for other in others {
                releases.saw((*other).clone(), at(0));
            }
            (names(&releases), releases.displaces())
        };
        assert_eq!(seen_by(&a, &[&b, &c]), (vec![], true));
        assert_eq!(seen_by(&b, &[&a, &c]), (vec!["a".to_owned()], true));
        assert_eq!(seen_by(&c, &[&a, &b]), (vec!["a".to_owned(), "b".to_owned()], false));
    }

    #[test]
    fn releases_that_share_no_namespace_and_the_release_itself_do_not_matter() {
        let mut releases = Releases::new(release("b", 2, &["x"]));
        releases.saw(release("a", 1, &["y"]), at(0));
        releases.saw(release("b", 2, &["x"]), at(0));
        assert!(names(&releases).is_empty() && !releases.displaces() && releases.due().is_none());
        // It watches more from now on.
        releases.saw(release("a", 1, &["y", "x"]), at(0));
        assert_eq!(names(&releases), ["a"]);
        releases.saw(release("a", 1, &["y"]), at(0));
        assert!(names(&releases).is_empty());
    }

    #[test]
    fn one_that_released_its_lease_or_lost_it_with_its_namespace_is_not_waited_for() {
        let mut releases = Releases::new(release("b", 2, &[]));
        releases.saw(release("a", 1, &[]), at(0));
        releases.saw(Release { holder: String::new(), ..release("a", 1, &[]) }, at(1));
        assert!(names(&releases).is_empty());
        releases.saw(release("a", 1, &[]), at(2));
        assert_eq!(names(&releases), ["a"]);
        releases.gone("a");
        assert!(names(&releases).is_empty());
    }

    #[test]
    fn one_that_renews_no_more_is_given_up_by_a_list_alone_and_comes_back_when_it_renews() {
        let mut releases = Releases::new(release("b", 2, &[]));
        let old = release("a", 1, &[]);
        releases.saw(old.clone(), at(0));
        assert_eq!(releases.due(), Some(at(15)));
        releases.listed(vec![old.clone()], at(14), at(20));
        assert_eq!(names(&releases), ["a"], "the list was asked for too soon");
        let renewed = Release { renewed: 2, ..old.clone() };
        releases.listed(vec![renewed.clone()], at(20), at(20));
        assert_eq!((names(&releases), releases.due()), (vec!["a".to_owned()], Some(at(35))));
        releases.saw(renewed.clone(), at(40));
        assert_eq!(names(&releases), ["a"], "a watch may repeat what it showed");
        releases.listed(vec![renewed.clone()], at(41), at(41));
        assert!(names(&releases).is_empty() && releases.due().is_none());
        releases.saw(renewed.clone(), at(42));
        assert!(names(&releases).is_empty(), "nothing new");
        releases.saw(Release { renewed: 3, ..renewed }, at(43));
        assert_eq!(names(&releases), ["a"]);
        releases.listed(Vec::new(), at(44), at(44));
        assert!(names(&releases).is_empty());
    }
}
