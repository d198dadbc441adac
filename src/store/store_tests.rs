//! What holds of every store within this crate.

use std::sync::Arc;

use super::{LeaseStore, MemoryStore, Outcome, Source, migrate, open};
use crate::clock::SystemClock;
use crate::election::{ComponentName, Expected, HolderId, LifeId, Take, TermKey};

#[tokio::test]
async fn a_take_that_was_decided_on_another_life_of_the_database_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::url(format!("sqlite:{}", folder.path().join("lease.db").display()));
    migrate(&source).await.unwrap();
    let stores: [Arc<dyn LeaseStore>; 2] =
        [Arc::new(MemoryStore::new(Arc::new(SystemClock))), open(source, "test").unwrap()];
    for store in stores {
        let component = ComponentName::new("c").unwrap();
        let term = TermKey { component, holder: HolderId::new("a").unwrap(), version: 1 };
        let expected = Expected::Missing { highest: 0 };
        let right = store.look(&term.component).await.unwrap().life.id();
        let others = [
            LifeId::default(),
            LifeId { identity: "another".to_owned(), ..right.clone() },
            LifeId { epoch: right.epoch + 1, ..right.clone() },
        ];
        for other in others {
            let take = Take { term: term.clone(), ttl: 5, expected: expected.clone(), life_id: other };
            assert_eq!(store.take(&take).await.unwrap(), Outcome::Lost);
            assert_eq!(store.look(&take.term.component).await.unwrap().row, None);
        }
        let take = Take { term, ttl: 5, expected, life_id: right };
        assert_eq!(store.take(&take).await.unwrap(), Outcome::Applied);
    }
}
