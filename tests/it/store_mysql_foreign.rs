//! Tables of MySQL and MariaDB that other programs made: they work, or are refused before anything
//! is written.

use component_lease::election::NewEpoch;
use component_lease::store::{self, Outcome, Source};
use component_lease_testkit::mysql::{Database, Kind};

use crate::store_mysql::{on_each_kind, open, server};
use crate::stores::{component, held, look_at, migrated_mysql, misconfigured, row, says, take, taking, term};

/// As the original proposal has it, with whatever collation the server prefers.
const FOREIGN: &str = "CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version INT, ttl INT)";

async fn made(kind: Kind, sql: &str) -> Database {
    let database = server(kind).await.fresh_database().await.unwrap();
    database.sql(sql).await.unwrap();
    database
}

async fn an_epoch_whose_versions_do_not_fit_the_column_is_never_recorded(kind: Kind) {
    let database = made(kind, FOREIGN).await;
    store::migrate(&Source::url(&database.url)).await.unwrap();
    let store = open(&database);
    let seen = look_at(&*store, &[]).await.life.record().unwrap().clone();
    let new = |at_least| NewEpoch { seen: Some(seen.clone()), at_least, max_ttl: 30, deliberate: true };
    for at_least in [2_147_483, 9_000_000_000_002] {
        says(
            &misconfigured(store.epochs().unwrap().begin_epoch(&new(at_least)).await),
            &["versions of epoch", "component_lease.version", "2147483647", "MODIFY version BIGINT"],
        );
    }
    assert_eq!(look_at(&*store, &[]).await.life.record(), Some(&seen));
    assert_eq!(store.epochs().unwrap().begin_epoch(&new(43)).await.unwrap(), Outcome::Applied);
    assert_eq!(look_at(&*store, &[]).await.life.record().unwrap().epoch, 43);
}

async fn a_table_of_another_program_works_and_nothing_is_ever_cut(kind: Kind) {
    for character_set in ["", " CHARACTER SET latin1", " CHARACTER SET utf8mb3"] {
        let database = made(kind, &format!("{FOREIGN}{character_set}")).await;
        let store = open(&database);
        let a = term(&"n".repeat(64), &"h".repeat(128), i32::MAX.into());
        assert_eq!(taking(&*store, &take(&a, None)).await.unwrap(), Outcome::Applied);
        assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
        let seen = row(&*store, a.component.as_str()).await.unwrap();
        assert!(seen.is_term(&a), "{seen:?}");
        assert_eq!(store.release(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(look_at(&*store, &[a.component.as_str()]).await.rows.len(), 1);

        let long_name = term(&"n".repeat(65), "a", 1);
        let pieces = &["component_lease.component_name", "65 characters", "holds 64"];
        says(&misconfigured(store.look(&long_name.component).await), pieces);
        says(&misconfigured(taking(&*store, &take(&long_name, None)).await), pieces);
        says(
            &misconfigured(taking(&*store, &take(&term("c", &"h".repeat(129), 1), None)).await),
            &["component_lease.holder_id", "129 characters", "holds 128"],
        );
        says(
            &misconfigured(taking(&*store, &take(&term("c", "a", i64::from(i32::MAX) + 1), None)).await),
            &["2147483648", "component_lease.version", "2147483647", "MODIFY version BIGINT"],
        );
        if !character_set.is_empty() {
            let pieces = &["may not hold", "component_lease.component_name", "utf8mb4"];
            says(&misconfigured(store.look(&component("ключ")).await), pieces);
        }
        let names = [a.component.as_str(), &"n".repeat(65), "c", "ключ"];
        assert_eq!(look_at(&*store, &names).await.rows.len(), 1, "nothing was written");
        says(
            &misconfigured(store.set_intent(&component("c"), store::StandingIntent::ttl(5)).await),
            &["component_lease_intent", "component-lease migrate"],
        );
    }
}

async fn names_that_a_foreign_collation_takes_for_one_are_told_apart(kind: Kind) {
    let database = made(kind, FOREIGN).await;
    let store = open(&database);
    let a = held(&*store, "discovery", "pod-a").await;
    for other in ["Discovery", "DISCOVERY"] {
        let pieces = &[other, "\"discovery\"", "collation", "utf8mb4_bin"];
        says(&misconfigured(store.look(&component(other)).await), pieces);
        assert_eq!(store.take(&take(&term(other, "x", 1), None)).await.unwrap(), Outcome::Lost);
    }
    // Nor is a holder taken for another one.
    for other in ["POD-A", "pod-á"] {
        let wrong = term("discovery", other, 1);
        assert_eq!(store.renew(&wrong).await.unwrap(), Outcome::Lost);
        assert_eq!(store.release(&wrong).await.unwrap(), Outcome::Lost);
    }
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
}

async fn trailing_blanks_of_a_foreign_holder_count(kind: Kind) {
    // Our own table too compares with padding.
    for database in [made(kind, FOREIGN).await, migrated_mysql(server(kind).await).await] {
        database.sql("INSERT INTO component_lease VALUES ('c', 'a ', 1, 1, 1, 5)").await.unwrap();
        let store = open(&database);
        assert_eq!(row(&*store, "c").await.unwrap().holder, "a ");
        assert_eq!(store.renew(&term("c", "a", 1)).await.unwrap(), Outcome::Lost);
        assert_eq!(store.release(&term("c", "a", 1)).await.unwrap(), Outcome::Lost);
    }
}

async fn nulls_of_another_program_count_as_nobody_and_can_be_taken(kind: Kind) {
    let database = made(
        kind,
        "CREATE TABLE component_lease (component_name VARBINARY(64) PRIMARY KEY, holder_id TEXT, lease_time DECIMAL(20), renew_time DECIMAL(20), version DECIMAL(20), ttl FLOAT);
         INSERT INTO component_lease (component_name) VALUES ('c')",
    )
    .await;
    let store = open(&database);
    let seen = row(&*store, "c").await.unwrap();
    assert!(seen.is_free());
    let a = term("c", "a", 1);
    assert_eq!(taking(&*store, &take(&a, Some(&seen))).await.unwrap(), Outcome::Applied);
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    assert!(look_at(&*store, &["c"]).await.rows.get("c").unwrap().is_term(&a));
}

async fn companions_go_with_a_table_of_another_collation_and_leave_it_alone(kind: Kind) {
    let database = made(kind, &format!("{FOREIGN} CHARACTER SET latin1")).await;
    let before = database.sql("SHOW CREATE TABLE component_lease").await.unwrap();
    let source = Source::url(&database.url);
    for applied in [&["0001_tables"][..], &[]] {
        let report = store::migrate(&source).await.unwrap();
        assert_eq!((report.applied.as_slice(), report.foreign_lease_table), (applied, true));
        says(&report.to_string(), &["made by somebody else and stays as it is", "polling"]);
    }
    assert_eq!(database.sql("SHOW CREATE TABLE component_lease").await.unwrap(), before);
    let store = open(&database);
    held(&*store, "c", "a").await;
    for name in ["c", "intent-only"] {
        store.set_intent(&component(name), store::StandingIntent::ttl(9)).await.unwrap();
    }
    let all = look_at(&*store, &["c", "intent-only"]).await;
    assert_eq!((all.rows.len(), all.intents.len()), (1, 2));
    assert_eq!(store.look(&component("c")).await.unwrap().standing_ttl, Some(9));
}

async fn a_table_that_cannot_hold_a_lease_is_refused_with_the_column(kind: Kind) {
    let text = "component_name VARCHAR(64), holder_id VARCHAR(64)";
    let rest = "lease_time BIGINT, renew_time BIGINT, version BIGINT, ttl INT";
    for (definition, pieces) in [
        (
            format!("({text}, {rest}, PRIMARY KEY (component_name)) ENGINE = MyISAM"),
            &["UnsafeBackend", "MyISAM", "ENGINE = InnoDB", "--allow-unsafe-backend"][..],
        ),
        (format!("({text}, {rest})"), &["no primary key on component_name"]),
        (
            format!("({text}, {rest}, PRIMARY KEY (component_name, version))"),
            &["no primary key on component_name"],
        ),
        (
            format!("({text}, {rest}, UNIQUE (component_name(8)))"),
            &["no primary key on component_name (the whole of it)"],
        ),
        (
            format!(
                "({text}, lease_time DATETIME, renew_time DATETIME, version INT, ttl INT, PRIMARY KEY (component_name))"
            ),
            &["component_lease.lease_time", "datetime", "BIGINT is needed"],
        ),
        (
            format!(
                "({text}, lease_time BIGINT, renew_time DECIMAL(20, 3), version INT, ttl INT, PRIMARY KEY (component_name))"
            ),
            &["component_lease.renew_time", "decimal", "BIGINT is needed"],
        ),
        (
            format!("({text}, lease_time BIGINT, renew_time BIGINT, ttl INT, PRIMARY KEY (component_name))"),
            &["no column version"],
        ),
    ] {
        let database = made(kind, &format!("CREATE TABLE component_lease {definition}")).await;
        says(&misconfigured(open(&database).look(&component("c")).await), pieces);
    }
}

/// The original proposal's statements, by another program on the same table.
async fn a_program_that_follows_the_proposal_word_for_word_takes_turns_with_ours(kind: Kind) {
    let database = made(kind, FOREIGN).await;
    let store = open(&database);
    let now = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";
    let a = held(&*store, "c", "ours").await;
    let seize = format!(
        "UPDATE component_lease SET holder_id = 'theirs', version = version + 1, lease_time = {now}, renew_time = {now}
         WHERE component_name = 'c' AND renew_time < {now} - ttl * 1000; SELECT ROW_COUNT()"
    );
    assert_eq!(database.sql(&seize).await.unwrap(), "0", "we hold it");
    // Released, to them, is a lease that ended long ago.
    store.release(&a).await.unwrap();
    assert_eq!(database.sql(&seize).await.unwrap(), "1");
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Lost);
    let theirs = row(&*store, "c").await.unwrap();
    assert_eq!((theirs.holder.as_str(), theirs.version), ("theirs", 2));
    // Their renewal, by holder alone, between our sight and our take.
    database.sql(&format!("UPDATE component_lease SET renew_time = {now} + 1 WHERE component_name = 'c' AND holder_id = 'theirs'")).await.unwrap();
    let b = term("c", "ours-again", 3);
    assert_eq!(taking(&*store, &take(&b, Some(&theirs))).await.unwrap(), Outcome::Lost);
    let seen = row(&*store, "c").await;
    assert_eq!(taking(&*store, &take(&b, seen.as_ref())).await.unwrap(), Outcome::Applied);
    let theirs = "UPDATE component_lease SET renew_time = renew_time + 1 WHERE component_name = 'c' AND holder_id = 'theirs'; SELECT ROW_COUNT()";
    assert_eq!(database.sql(theirs).await.unwrap(), "0");
}

on_each_kind!(
    an_epoch_whose_versions_do_not_fit_the_column_is_never_recorded,
    a_table_of_another_program_works_and_nothing_is_ever_cut,
    names_that_a_foreign_collation_takes_for_one_are_told_apart,
    trailing_blanks_of_a_foreign_holder_count,
    nulls_of_another_program_count_as_nobody_and_can_be_taken,
    companions_go_with_a_table_of_another_collation_and_leave_it_alone,
    a_table_that_cannot_hold_a_lease_is_refused_with_the_column,
    a_program_that_follows_the_proposal_word_for_word_takes_turns_with_ours,
);
