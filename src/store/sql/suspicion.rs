//! "No row" where there is one: a trigger, a rule or a policy of the database suppresses a change, or hides what a
//! look asks for. That must not pass for a race that was lost, for a term that is over, or for a row that is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::election::Take;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::traits::Snapshot;

/// The last take that was lost, and whether somebody has looked since. Lost once more on the very same
/// sight, no race explains it, and the store asks.
#[derive(Debug, Default)]
pub(super) struct LostTake(Mutex<Option<(Take, bool)>>);

impl LostTake {
    pub(super) fn looked(&self) {
        if let Some((_, looked)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            *looked = true;
        }
    }

    /// Whether the take before this one was lost on the same sight, which a look has shown again since.
    pub(super) fn again(&self, take: &Take) -> bool {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lost.replace((take.clone(), false));
        before.is_some_and(|(before, looked)| {
            looked
                && before.term.component == take.term.component
                && before.expected == take.expected
                && before.life_id == take.life_id
        })
    }
}

/// The components that had a row when they were last looked at. A row is never deleted, so a look that misses one is
/// believed only after the connection has been inspected once more: what hides rows may have come since it was
/// made. (A count of rows within the look would not tell: what hides rows hides them from the count too.)
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<BTreeSet<String>>);

impl Shown {
    /// Whether this look lacks a row that the one before showed.
    pub(super) fn misses(&self, names: &Names, snapshot: &Snapshot) -> bool {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().any(|name| names.contains(name) && !snapshot.rows.contains_key(name))
    }

    pub(super) fn saw(&self, snapshot: &Snapshot) {
        let shown = snapshot.rows.keys().cloned().collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

/// The row is as it was. `triggers` are those that may do it, as far as the database tells.
pub(super) fn suppressed(place: &impl fmt::Display, component: &str, triggers: &[String]) -> StoreError {
    let who = match triggers {
        [] => "something in the database (a trigger of that table, a rule)".to_owned(),
        names => format!("a trigger of that table ({})", names.join(", ")),
    };
    StoreError::misconfigured(format!(
        "{place}: the row of {component:?} in component_lease is as it was, but changing it was answered with 0 rows: {who} suppresses or alters what is written; drop or correct it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{ComponentName, Expected, HolderId, LeaseRow, LifeId, TermKey};

    #[test]
    fn a_look_is_suspicious_only_if_it_lacks_a_row_that_the_one_before_showed_and_that_it_asked_for() {
        let names = |names: &[&str]| -> Names {
            names.iter().map(|name| ComponentName::new(*name).unwrap()).collect()
        };
        let row = || LeaseRow { holder: "a".into(), lease_time: 0, renew_time: 1, version: 1, ttl: 5 };
        let with = |rows: &[&str]| Snapshot {
            rows: rows.iter().map(|name| ((*name).to_owned(), row())).collect(),
            ..Snapshot::default()
        };
        let shown = Shown::default();
        assert!(!shown.misses(&names(&["a", "b"]), &with(&[])), "nothing is known yet");
        shown.saw(&with(&["a"]));
        assert!(!shown.misses(&names(&["a", "b"]), &with(&["a", "b"])));
        assert!(shown.misses(&names(&["a", "b"]), &with(&["b"])));
        assert!(!shown.misses(&names(&["b"]), &with(&[])), "it was not asked for");
        shown.saw(&with(&["b"]));
        assert!(!shown.misses(&names(&["a", "b"]), &with(&["b"])), "it was believed");
    }

    #[test]
    fn only_a_take_that_is_lost_twice_on_one_sight_is_suspicious() {
        let take = |renew_time| Take {
            term: TermKey {
                component: ComponentName::new("c").unwrap(),
                holder: HolderId::new("a").unwrap(),
                version: 4,
            },
            ttl: 5,
            expected: Expected::Row { version: 3, renew_time },
            life_id: LifeId::default(),
        };
        let lost = LostTake::default();
        assert_eq!(
            [1, 1].map(|renew_time| lost.again(&take(renew_time))),
            [false, false],
            "nobody has looked"
        );
        let again = [1, 2, 2, 1].map(|renew_time| {
            lost.looked();
            lost.again(&take(renew_time))
        });
        assert_eq!(again, [true, false, true, false]);
    }
}
