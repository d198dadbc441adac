//! Databases that are not UTF-8: what their encoding holds works, and what it does not is refused by name.

use component_lease::election::{Take, TermKey};
use component_lease::store::{self, Directory, Outcome, Source, StandingIntent};
use component_lease_testkit::postgres::{self, Database, PgBouncer};

use crate::store_instances::instance;
use crate::stores::{alive_at, component, look_at, misconfigured, row, says, take, taking, term};

/// With a name that the encoding holds and one that it does not.
const ENCODINGS: [(&str, &str, &str); 5] = [
    ("LATIN2", "łódź", "日本"),
    ("KOI8R", "поиск", "łódź"),
    ("EUC_JP", "日本", "🦀"),
    ("UTF8", "łódź-日本-🦀", ""),
    // Any bytes at all.
    ("SQL_ASCII", "łódź-日本-🦀", ""),
];

async fn database(encoding: &str) -> Database {
    let options = format!("ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    postgres::shared().await.unwrap().fresh_database_with(&options).await.unwrap()
}

#[tokio::test]
async fn a_database_of_any_encoding_works_with_what_it_can_hold_and_refuses_the_rest_by_name() {
    let pooler = PgBouncer::shared().await.unwrap();
    for (is_pooled, (encoding, holds, holds_not)) in
        [false, true].into_iter().flat_map(|is_pooled| ENCODINGS.map(|row| (is_pooled, row)))
    {
        let database = database(encoding).await;
        let source = Source::url(if is_pooled { pooler.url(&database.name) } else { database.url.clone() });
        store::migrate(&source).await.unwrap();
        let store = store::open(source, "encodings").unwrap();
        let a = elects(&*store, holds).await;
        if !holds_not.is_empty() {
            refuses(&*store, holds_not, encoding).await;
        }
        // The connection is in order, and nothing was written.
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(look_at(&*store, &[holds]).await.rows.keys().collect::<Vec<_>>(), [holds]);
        // The server keeps the text of each statement without its values. (Asked in a database of UTF8: it
        // converts the texts of all.)
        let sent = postgres::shared()
            .await
            .unwrap()
            .psql(&format!(
                "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
                 SELECT count(*) > 20, count(*) FILTER (WHERE octet_length(query) <> length(query))
                 FROM pg_stat_statements
                 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{}')",
                database.name
            ))
            .await
            .unwrap();
        assert_eq!(sent, "t|0", "{encoding}, behind a pooler: {is_pooled}");
    }
}

async fn elects(store: &dyn Directory, name: &str) -> TermKey {
    let a = term(name, name, 1);
    assert_eq!(taking(store, &take(&a, None)).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert!(row(store, name).await.unwrap().is_term(&a));
    store.set_intent(&a.component, StandingIntent::ttl(9)).await.unwrap();
    let mut says = instance(name, name);
    says.whereabouts.node = Some("node".to_owned());
    let id = store.beat(&says, None).await.unwrap();
    assert_eq!(store.beat(&says, id).await.unwrap(), id);
    let seen = alive_at(store, &[name]).await;
    assert_eq!(seen.rows[name].holder, name);
    assert_eq!(seen.instances.unwrap()[0].holder, name);
    a
}

async fn refuses(store: &dyn Directory, name: &str, encoding: &str) {
    let pieces = &[encoding, name, "cannot hold", "UTF8"];
    says(&misconfigured(store.look(&component(name)).await), pieces);
    let life_id = store.look(&component("plain")).await.unwrap().life.id();
    for term in [term("plain", name, 1), term(name, "plain", 1)] {
        let take = Take { life_id: life_id.clone(), ..take(&term, None) };
        says(&misconfigured(store.take(&take).await), pieces);
    }
    says(&misconfigured(store.set_intent(&component(name), StandingIntent::ttl(5)).await), pieces);
    says(&misconfigured(store.beat(&instance("plain", name), None).await), pieces);
}
