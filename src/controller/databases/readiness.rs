//! Which members are said to be ready. A kubelet decides that as often as it likes, and each change is a status that is written: so a
//! member that was not ready counts as ready once it has been so for a while. Bad news is said at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::election::Moment;

/// For so long a member must have been ready again.
const STEADY: Duration = Duration::from_secs(5);

/// Since when a member is ready, or has not been; and what is said of it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    ready: bool,
    since: Moment,
    said: bool,
}

/// By the UIDs of resources, their members.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<HashMap<String, BTreeMap<String, Seen>>>);

impl Readiness {
    /// Those that are said to be ready, and when that changes if nothing happens before.
    pub(super) fn say(
        &self,
        uid: &str,
        members: &BTreeSet<String>,
        ready: &BTreeSet<String>,
        now: Moment,
    ) -> (BTreeSet<String>, Option<Moment>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(uid.to_owned()).or_default();
        known.retain(|member, _| members.contains(member));
        let mut next = None;
        for member in members {
            let ready = ready.contains(member);
            // What was before this process began to look is not known: as it is, it is said.
            let seen = known.entry(member.clone()).or_insert(Seen { ready, since: now, said: ready });
            if seen.ready != ready {
                (seen.ready, seen.since) = (ready, now);
            }
            let steady = seen.since + STEADY;
            if !ready || now >= steady {
                seen.said = ready;
            } else if !seen.said {
                next = next.into_iter().chain([steady]).min();
            }
        }
        let said = known.iter().filter(|(_, seen)| seen.said).map(|(member, _)| member.clone());
        (said.collect(), next)
    }

    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_member_that_flips_is_not_ready_until_it_has_been_so_for_a_while() {
        let readiness = Readiness::default();
        let members = names(&["a", "b"]);
        let say = |ready: &[&str], at| readiness.say("u", &members, &names(ready), S(at));
        assert_eq!(say(&["a", "b"], 10), (names(&["a", "b"]), None), "the first look is believed");
        assert_eq!(say(&["a"], 11), (names(&["a"]), None), "bad news at once");
        assert_eq!(say(&["a", "b"], 12), (names(&["a"]), Some(S(17))));
        assert_eq!(say(&["a"], 13), (names(&["a"]), None));
        assert_eq!(say(&["a", "b"], 14), (names(&["a"]), Some(S(19))), "it begins anew");
        assert_eq!(say(&["a", "b"], 18), (names(&["a"]), Some(S(19))));
        assert_eq!(say(&["a", "b"], 19), (names(&["a", "b"]), None));
        readiness.forget("u");
        assert_eq!(say(&["b"], 20), (names(&["b"]), None));
    }

    #[test]
    fn a_member_that_is_not_declared_any_more_is_forgotten() {
        let readiness = Readiness::default();
        readiness.say("u", &names(&["a", "b"]), &names(&["a"]), S(1));
        let (said, _) = readiness.say("u", &names(&["b"]), &names(&["a", "b"]), S(2));
        assert_eq!(said, names(&[]), "only b counts, which was not ready");
    }
}
