//! What is wrong with watches, by kind, and by namespace where a kind is watched in each by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

/// Why a kind cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    /// Nobody may read it for us. Anything else passes, and what was seen before is still good to
    /// act upon: every patch is guarded.
    pub(super) forbidden: bool,
}

type Key = (&'static str, String);

/// All of one scope. The namespace is empty for a kind that is watched in all of them at once.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<HashMap<Key, Trouble>>);

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, kind: &'static str, within: &str) -> bool {
        self.lock().contains_key(&(kind, within.to_owned()))
    }

    /// Nobody watches this any more.
    pub(super) fn forget(&self, kind: &'static str, within: &str) {
        self.lock().remove(&(kind, within.to_owned()));
    }

    pub(super) fn well(&self, kind: &'static str, within: &str) {
        if self.lock().remove(&(kind, within.to_owned())).is_some() {
            info!(kind, within, "watching again");
        }
    }

    /// True when it makes a difference to decisions.
    pub(super) fn note(&self, kind: &'static str, within: &str, trouble: Trouble) -> bool {
        let mut all = self.lock();
        let key = (kind, within.to_owned());
        let before = all.get(&key);
        if before == Some(&trouble) {
            return false;
        }
        warn!(kind, within, "{}", trouble.text);
        let differs = before.is_none_or(|before| before.forbidden != trouble.forbidden);
        all.insert(key, trouble);
        differs
    }

    /// Why this kind cannot be gone by, if it cannot.
    pub(super) fn unknown(&self, kind: &'static str, within: &str, listed: bool) -> Option<String> {
        match self.lock().get(&(kind, within.to_owned())) {
            Some(trouble) if trouble.forbidden || !listed => Some(trouble.text.clone()),
            None if !listed => Some(format!("the {kind} have not been listed yet")),
            _ => None,
        }
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.lock().values().map(|trouble| trouble.text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_in_one_namespace_is_none_in_another() {
        let troubles = Troubles::default();
        let forbidden = || Trouble { text: "forbidden".to_owned(), forbidden: true };
        assert!(
            troubles.note("leases", "shop", forbidden()) && !troubles.note("leases", "shop", forbidden())
        );
        let unknown = |within: &str| troubles.unknown("leases", within, true);
        assert_eq!((unknown("shop").as_deref(), unknown("bank")), (Some("forbidden"), None));
        troubles.well("leases", "bank");
        assert!(troubles.has("leases", "shop"), "what is well elsewhere does not mend it");
        troubles.forget("leases", "shop");
        assert!(!troubles.has("leases", "shop"));
    }
}
