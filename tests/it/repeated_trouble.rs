//! A problem that lasts is logged once a minute for each kind of it, whatever number it carries each time.

use crate::agent_support::{Running, free_address, program, until};
use crate::store_postgres::migrated;

/// Refuses each take with another number, and counts them: a sequence is not rolled back.
const REFUSES: &str = "
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'refused as number %, by connection %', nextval('refusals'), pg_backend_pid(); END $$;
CREATE TRIGGER refuse BEFORE INSERT ON component_lease FOR EACH ROW EXECUTE FUNCTION refuse()";

#[tokio::test]
async fn a_participant_that_is_refused_again_and_again_says_so_once_and_names_who_refuses() {
    let database = migrated().await;
    let set_up = format!("UPDATE component_lease_store SET settled = true; {REFUSES}");
    database.psql(&set_up).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (address, log) = (free_address(), folder.path().join("log"));
    let mut command = program();
    command.args(["agent", "--component", "c", "--ttl", "5", "--database-url", &database.url]);
    command.args(["--listen", &address.to_string()]);
    let agent = Running::start(command, log, address);
    let attempts = "SELECT last_value FROM refusals";
    let (url, wanted) = (database.url.clone(), 8);
    let count = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        until("several refusals", || {
            let counted = runtime.block_on(psql(&url, attempts));
            (counted >= wanted).then_some(counted)
        })
    })
    .await
    .unwrap();
    let log = agent.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("refused as number")).collect();
    assert_eq!(said.len(), 1, "{count} refusals were logged as\n{log}");
    assert!(said[0].contains("refuse()"), "who refuses is named: {}", said[0]);
}

async fn psql(url: &str, sql: &str) -> i64 {
    use sqlx::{Connection, Executor, PgConnection, Row};
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.fetch_one(sqlx::AssertSqlSafe(sql)).await.unwrap().try_get(0).unwrap()
}
