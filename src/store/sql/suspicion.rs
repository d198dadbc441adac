//! A change that is answered with "no row" although nobody else made one: a trigger, a rule or a policy of
//! the database suppresses it. That must not pass for a race that was lost, or for a term that is over.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::StoreError;
use crate::election::Take;

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
                && before.generation == take.generation
        })
    }
}

/// The row is as it was. `triggers` are those that may do it, as far as the database tells.
pub(super) fn suppressed(place: &impl fmt::Display, component: &str, triggers: &[String]) -> StoreError {
    let who = match triggers {
        [] => "something in the database (a trigger of that table, a rule)".to_owned(),
        names => format!("a trigger of that table ({})", names.join(", ")),
    };
    StoreError::Misconfigured(format!(
        "{place}: the row of {component:?} in component_lease is as it was, but changing it was answered with 0 rows: {who} suppresses or alters what is written; drop or correct it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{ComponentName, Expected, Generation, HolderId, TermKey};

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
            generation: Generation::default(),
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
