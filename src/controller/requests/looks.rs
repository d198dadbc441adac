//! Looks at the rows of the requests that are followed: one for all of them, however many there are.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::asked::{Away, bounded};
use crate::controller::database::Database;
use crate::election::{ComponentName, Moment};
use crate::store::{Names, Snapshot};

/// One look, and how it ended. A failure is shared as well: a database that is away is not waited for once for each request.
struct Look {
    begun: Moment,
    names: Names,
    seen: Result<Arc<Snapshot>, Away>,
}

/// What the last look showed.
#[derive(Default)]
pub(super) struct Looks(Mutex<Option<Look>>);

impl Looks {
    /// What a look shows that was begun after this moment, and when it was begun. While one is on its way, others wait
    /// for it, and for the next if it was begun too early for them. `all` names whom it is to show besides.
    pub(super) async fn after(
        &self,
        since: Moment,
        component: &ComponentName,
        all: impl FnOnce() -> Vec<ComponentName>,
        database: &Database,
    ) -> (Moment, Result<Arc<Snapshot>, Away>) {
        let mut last = self.0.lock().await;
        let fits = |look: &&Look| look.begun > since && look.names.contains(component.as_str());
        if let Some(look) = last.as_ref().filter(fits) {
            return (look.begun, look.seen.clone());
        }
        let names: Names = all().into_iter().chain([component.clone()]).collect();
        let begun = database.clock.boot();
        let seen = bounded(database.store().look_at(&names, false)).await.map(Arc::new);
        let look = last.insert(Look { begun, names, seen });
        (look.begun, look.seen.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Directory, MemoryStore};

    fn database() -> Database {
        let clock = Arc::new(SystemClock);
        let store: Arc<dyn Directory> = Arc::new(MemoryStore::new(clock.clone()));
        Database::new(store, clock, 30)
    }

    fn names() -> Vec<ComponentName> {
        (0..1000).map(|n| ComponentName::new(format!("c{n}")).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_thousand_that_ask_at_once_share_one_look_and_each_asks_for_a_newer_one_the_next_time() {
        let (looks, database, names) = (Looks::default(), database(), names());
        let round = async |since: Moment| {
            let asks = names.iter().map(|name| looks.after(since, name, || names.clone(), &database));
            let mut begun: Vec<_> =
                futures::future::join_all(asks).await.into_iter().map(|(at, _)| at).collect();
            begun.dedup();
            assert_eq!(begun.len(), 1, "{begun:?}");
            begun.remove(0)
        };
        let first = round(Moment::ZERO).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(round(first).await > first);
    }

    #[tokio::test]
    async fn a_look_that_did_not_ask_for_a_component_says_nothing_of_it() {
        let (looks, database, names) = (Looks::default(), database(), names());
        let (first, _) = looks.after(Moment::ZERO, &names[0], Vec::new, &database).await;
        let (second, seen) = looks.after(Moment::ZERO, &names[1], Vec::new, &database).await;
        assert!(second > first && seen.is_ok());
    }
}
