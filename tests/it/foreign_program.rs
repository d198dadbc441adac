//! A program with its own SQL, as the proposal that ComponentLease grew from has it word for word,
//! shares a row with our participants.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use component_lease::clock::{Clock as _, SystemClock};
use component_lease::election::LeaseRow;
use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Install, Source};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::{postgres, wait};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::runtime::Runtime;

use crate::stores::{SqliteFile, component};

/// Seconds.
const TTL: u32 = 4;
const SOON: Duration = Duration::from_secs(60);

enum Link {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// What the proposal tells a program to do.
struct Foreign {
    link: Link,
    holder: &'static str,
    /// Some raise the version at each renewal too.
    bumps: bool,
}

impl Foreign {
    async fn on(url: &str, bumps: bool) -> Self {
        let scheme = url.split(':').next().unwrap();
        let link = match scheme {
            "postgres" | "postgresql" => {
                let options: PgConnectOptions = url.parse().unwrap();
                Link::Postgres(PgConnection::connect_with(&options).await.unwrap())
            }
            "mysql" => {
                let options: MySqlConnectOptions = url.parse().unwrap();
                Link::MySql(MySqlConnection::connect_with(&options).await.unwrap())
            }
            _ => {
                let options: SqliteConnectOptions = url.parse().unwrap();
                Link::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
            }
        };
        Self { link, holder: "theirs-1", bumps }
    }

    async fn run(&mut self, sql: String) -> Result<u64, sqlx::Error> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        Ok(match &mut self.link {
            Link::Postgres(link) => link.execute(query).await?.rows_affected(),
            Link::MySql(link) => link.execute(query).await?.rows_affected(),
            Link::Sqlite(link) => link.execute(query).await?.rows_affected(),
        })
    }

    /// Whether it leads now.
    async fn compete(&mut self) -> bool {
        let (holder, now) = (self.holder, SystemClock.wall_ms());
        let insert = format!(
            "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
             VALUES ('c', '{holder}', {now}, {now}, 1, {TTL})"
        );
        match self.run(insert).await {
            Ok(inserted) => return inserted == 1,
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            Err(error) => panic!("{error}"),
        }
        let seize = format!(
            "UPDATE component_lease
             SET holder_id = '{holder}', lease_time = {now}, renew_time = {now}, version = version + 1, ttl = {TTL}
             WHERE component_name = 'c' AND renew_time < {now} - ttl * 1000"
        );
        self.run(seize).await.unwrap() == 1
    }

    /// Whether it still leads.
    async fn renew(&mut self) -> bool {
        let (holder, now) = (self.holder, SystemClock.wall_ms());
        let bump = if self.bumps { ", version = version + 1" } else { "" };
        let renew = format!(
            "UPDATE component_lease SET renew_time = {now}{bump}
             WHERE component_name = 'c' AND holder_id = '{holder}'"
        );
        self.run(renew).await.unwrap() == 1
    }
}

/// One of ours, in a process of its own as far as its death is concerned.
struct Ours {
    runtime: Option<Runtime>,
    /// Never dropped: that would ask it to release.
    participant: ManuallyDrop<Participant>,
}

/// It dies: nothing is released, nothing is said.
impl Drop for Ours {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Ours {
    fn start(source: &Source, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = store::open(source.clone(), "ours").unwrap();
        let participant = {
            let _inside = runtime.enter();
            Participant::builder(store, component("c"))
                .name(name)
                .ttl(Duration::from_secs(TTL.into()))
                .max_ttl(Duration::from_secs(TTL.into()))
                .stop_grace(Duration::ZERO)
                .on_overrun(|_| {})
                .start()
                .unwrap()
        };
        Self { runtime: Some(runtime), participant: ManuallyDrop::new(participant) }
    }
}

async fn leadership_passes_to_and_fro(url: &str, bumps: bool) {
    let source = Source::url(url);
    store::install(&source, Install::default().first(true).max_ttl(Duration::from_secs(TTL.into())))
        .await
        .unwrap();
    let eye: Arc<dyn Directory> = store::open(source.clone(), "eye").unwrap();
    let row = async || -> LeaseRow { eye.look(&component("c")).await.unwrap().row.unwrap() };
    let mut theirs = Foreign::on(url, bumps).await;
    let ttl = Duration::from_secs(TTL.into());

    // Theirs first. It goes on for longer than a ttl, and nobody takes that from it.
    assert!(theirs.compete().await);
    let ours = Ours::start(&source, "ours-1");
    let begun = SystemClock.boot();
    while SystemClock.boot() - begun < ttl * 3 / 2 {
        assert!(theirs.renew().await, "its row was taken: {:?}", row().await);
        assert!(!ours.participant.is_leader());
        // Its own pace: a third of the ttl.
        tokio::time::sleep(ttl / 3).await;
    }

    // It stops renewing: ours leads, and tells it so.
    let theirs_last = row().await.version;
    let leads = |ours: &Participant| ours.term().map(|guard| guard.version());
    let first = wait::until(SOON, "ours to lead", async || Ok(leads(&ours.participant))).await.unwrap();
    assert!(first > theirs_last, "{first} after {theirs_last}");
    assert!(!theirs.renew().await, "it renewed what is not its own");
    assert!(!theirs.compete().await, "it took what is renewed");

    // Ours gives it back: theirs need not wait.
    ours.participant.drain();
    wait::until_true(SOON, "the release", async || row().await.is_free()).await.unwrap();
    assert!(theirs.compete().await, "a released row is not renewed: {:?}", row().await);
    let second = row().await.version;
    assert!(second > first, "{second} after {first}");

    // And again, and this time ours dies.
    let ours = Ours::start(&source, "ours-2");
    let third = wait::until(SOON, "ours to lead again", async || Ok(leads(&ours.participant))).await.unwrap();
    assert!(third > second, "{third} after {second}");
    drop(ours);
    let died = row().await;
    wait::until_true(SOON, "theirs to lead", async || theirs.compete().await).await.unwrap();
    let now = row().await;
    assert!(now.version > third && now.holder == theirs.holder, "{now:?} after {died:?}");
    let waited = now.lease_time - died.renew_time;
    assert!(waited > i64::from(TTL) * 1000, "it seized {waited} ms after a renewal");
}

#[tokio::test]
async fn a_program_with_its_own_sql_and_ours_pass_leadership_to_and_fro_on_postgres() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    leadership_passes_to_and_fro(&database.url, false).await;
}

#[tokio::test]
async fn one_that_raises_the_version_at_each_renewal_too_on_postgres() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    leadership_passes_to_and_fro(&database.url, true).await;
}

#[tokio::test]
async fn a_program_with_its_own_sql_and_ours_pass_leadership_to_and_fro_on_sqlite() {
    let file = SqliteFile::none_yet();
    leadership_passes_to_and_fro(&format!("sqlite:{}", file.path().display()), true).await;
}

#[tokio::test]
async fn a_program_with_its_own_sql_and_ours_pass_leadership_to_and_fro_on_mysql() {
    let database = mysql::shared(Kind::MySql9).await.unwrap().fresh_database().await.unwrap();
    leadership_passes_to_and_fro(&database.url, true).await;
}

#[tokio::test]
async fn a_program_with_its_own_sql_and_ours_pass_leadership_to_and_fro_on_mariadb() {
    let database = mysql::shared(Kind::MariaDb11_8).await.unwrap().fresh_database().await.unwrap();
    leadership_passes_to_and_fro(&database.url, false).await;
}
