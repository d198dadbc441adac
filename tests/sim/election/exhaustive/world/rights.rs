//! Which terms a participant may release after it has stopped leading them, written down a second time: the
//! state machine must not claim more. For rules that are broken on purpose, also what a right is kept beyond.

use std::collections::BTreeSet;

use component_lease::election::machine::{Looked, Past, Release};
use component_lease::election::{Expected, LeaseRow, Life, LifeId, Take, TermKey};

use super::super::super::broken::Broken;

/// A term that this participant asked for, and why it may not release it any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Right {
    term: TermKey,
    within: LifeId,
    /// Whether nobody knows if the take was applied.
    awaits: Option<Expected>,
    ended: BTreeSet<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum End {
    AnotherRow,
    AnotherLife,
    TookAgain,
    Released,
    BareTable,
}

impl Right {
    fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    fn had(&self, end: End) -> bool {
        self.ended.contains(&end)
    }

    fn ends(&mut self, end: End, if_so: bool) {
        if if_so {
            self.ended.insert(end);
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Rights(Vec<Right>);

impl Rights {
    pub(super) fn looked(&mut self, looked: &Looked) {
        let shown = match &looked.row {
            None => Expected::Missing {
                highest: if let Past::Lived(highest) = looked.past { highest } else { 0 },
            },
            row => Expected::of(row.as_ref()),
        };
        for right in &mut self.0 {
            right.ends(End::AnotherLife, looked.life.is_strange() || looked.life.id() != right.within);
            let is_its = looked.row.as_ref().is_some_and(|row| row.is_term(&right.term));
            right.ends(End::AnotherRow, !is_its && right.awaits.as_ref() != Some(&shown));
        }
    }

    pub(super) fn took(&mut self, take: &Take, applied: Option<bool>) {
        let lost = applied == Some(false);
        for right in &mut self.0 {
            // An earlier take that was never answered may be what a later one lost to.
            right.ends(End::TookAgain, !lost || right.awaits.is_none());
        }
        let bare = take.life_id == LifeId::default();
        if !lost {
            self.0.push(Right {
                term: take.term.clone(),
                within: take.life_id.clone(),
                awaits: applied.is_none().then(|| take.expected.clone()),
                ended: bare.then_some(End::BareTable).into_iter().collect(),
            });
        }
    }

    /// A renewal found another row.
    pub(super) fn lost(&mut self) {
        for right in &mut self.0 {
            right.ends(End::AnotherRow, true);
        }
    }

    pub(super) fn released(&mut self, term: &TermKey) {
        for right in self.0.iter_mut().filter(|right| right.term == *term) {
            right.ends(End::Released, true);
        }
    }

    pub(super) fn forget_the_ended(&mut self) {
        self.0.retain(|right| !right.has_ended());
    }

    /// A release within a term needs none.
    pub(super) fn allow(&self, release: &Release) -> bool {
        let is_it =
            |right: &&Right| right.term == release.term && Some(&right.within) == release.within.as_ref();
        release.within.is_none() || self.0.iter().find(is_it).is_some_and(|right| !right.has_ended())
    }

    /// Whether this row, in this life, may still be released by right.
    pub(super) fn cover(&self, row: &LeaseRow, life: &LifeId) -> bool {
        self.0.iter().any(|right| row.is_term(&right.term) && right.within == *life && !right.has_ended())
    }

    /// The release that a participant sends after this look that keeps its right for longer than it should.
    pub(super) fn wrongly_kept(&self, looked: &Looked, broken: Broken) -> Option<Release> {
        let row = looked.row.as_ref()?;
        let right = self.0.iter().find(|right| row.is_term(&right.term) && right.has_ended())?;
        let within = match broken {
            Broken::LateReleaseOfABareTable if looked.life == Life::Unknown => None,
            Broken::RightKeptAfterAnotherRow if !right.had(End::AnotherLife) && !right.had(End::Released) => {
                Some(right.within.clone())
            }
            Broken::RightKeptAfterAnotherLife if right.had(End::AnotherLife) && !looked.life.is_strange() => {
                Some(looked.life.id())
            }
            Broken::RightKeptWhenTakingAgain if right.had(End::TookAgain) && !right.had(End::AnotherLife) => {
                Some(right.within.clone())
            }
            _ => return None,
        };
        Some(Release { term: right.term.clone(), within })
    }
}
