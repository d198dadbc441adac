//! Real servers that forget: one leader, and no version twice, whatever becomes of the database.
//! The same scenarios on PostgreSQL, MySQL and MariaDB.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component_lease::election::machine::Looked;
use component_lease::election::{LeaseRow, Life};
use component_lease::participant::Participant;
use component_lease::store::{self, Directory, Install, Source};
use component_lease_testkit::wait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;

use crate::servers::{Machine, Make, on_servers};
use crate::stores::{SqliteFile, alive_at, component};

/// Seconds; short, so that a quarantine is, but long enough for a busy machine to renew in time.
const MAX_TTL: u32 = 4;
const TTL: u32 = 4;
const SOON: Duration = Duration::from_secs(120);

/// Participants of one component, behind a URL that leads to whichever server is primary.
struct Rig {
    folder: TempDir,
    /// Looks on; connecting anew for each look would keep a busy machine from all else.
    eye: Arc<dyn Directory>,
    /// Terms that anybody led, by version: to whom.
    led: BTreeMap<i64, String>,
}

impl Rig {
    async fn on(server: &Machine) -> Self {
        Self::at(&server.url()).await
    }

    async fn at(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        lead_to(&folder, url);
        let eye = store::open(source(&folder), "failover").unwrap();
        let rig = Self { folder, eye, led: BTreeMap::new() };
        rig.install(true).await;
        rig
    }

    async fn install(&self, first: bool) {
        let how = Install::default().first(first).max_ttl(Duration::from_secs(MAX_TTL.into()));
        wait::until(SOON, "the tables", async || Ok(Some(store::install(&self.source(), how).await?)))
            .await
            .unwrap();
    }

    fn lead_to(&self, server: &Machine) {
        lead_to(&self.folder, &server.url());
    }

    fn source(&self) -> Source {
        source(&self.folder)
    }

    fn store(&self) -> Arc<dyn Directory> {
        store::open(self.source(), "failover").unwrap()
    }

    fn participant(&self, name: &str) -> Participant {
        Participant::builder(self.store(), component("c"))
            .name(name)
            .ttl(Duration::from_secs(TTL.into()))
            .max_ttl(Duration::from_secs(MAX_TTL.into()))
            .stop_grace(Duration::ZERO)
            .on_overrun(|_| {})
            .start()
            .unwrap()
    }

    /// Waits until one of these leads a term that was not seen before; checks that its version is
    /// above all earlier ones, and that nobody leads beside it.
    async fn next_term(&mut self, participants: &[&Participant]) -> i64 {
        let highest = self.led.keys().next_back().copied().unwrap_or(0);
        let (version, holder) = wait::until(SOON, "a new term", async || {
            let leaders: Vec<_> = participants
                .iter()
                .filter_map(|participant| participant.term().map(|guard| (guard.version(), participant)))
                .collect();
            assert!(leaders.len() <= 1, "these lead at a time: {leaders:?}");
            let new = leaders.first().filter(|(version, _)| !self.led.contains_key(version));
            Ok(new.map(|(version, participant)| (*version, participant.holder().to_string())))
        })
        .await
        .unwrap();
        assert!(version > highest, "version {version} was granted after {highest}: {:?}", self.led);
        self.led.insert(version, holder);
        version
    }

    /// Waits until the leader's own line says what it leads.
    async fn line_says(&self, version: i64) {
        wait::until_true(SOON, "its own line says what it leads", async || {
            let all = alive_at(&*self.eye, &["c"]).await.instances.unwrap();
            all.iter().any(|seen| seen.leads == Some(version))
        })
        .await
        .unwrap();
    }

    async fn looked(&self) -> Looked {
        wait::until(SOON, "an answer", async || Ok(Some(self.eye.look(&component("c")).await?)))
            .await
            .unwrap()
    }

    async fn life(&self) -> Life {
        self.looked().await.life
    }

    async fn row(&self) -> Option<LeaseRow> {
        self.looked().await.row
    }
}

/// As a virtual address or a mounted secret that follows the primary.
fn lead_to(folder: &TempDir, url: &str) {
    std::fs::write(folder.path().join("next"), url).unwrap();
    std::fs::rename(folder.path().join("next"), folder.path().join("url")).unwrap();
}

fn source(folder: &TempDir) -> Source {
    Source::file(folder.path().join("url"))
}

/// Whether a version says when its epoch began.
fn is_dated(version: i64) -> bool {
    version > 10_000_000_000_000
}

async fn drain(participant: Participant) {
    participant.drain();
    participant.ended().await.unwrap();
}

async fn a_first_installation_begins_at_1_and_dropped_tables_that_are_made_anew_with_a_date(make: Make) {
    let server = Machine::start(make).await;
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    drain(one).await;
    server.drop_tables().await;
    // The program that makes them cannot know that there were others.
    rig.install(false).await;
    assert!(!rig.life().await.is_settled());
    let two = rig.participant("two");
    assert!(is_dated(rig.next_term(&[&two]).await));
}

async fn release_deletion_and_truncation_never_repeat_a_version(make: Make) {
    let server = Machine::start(make).await;
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    one.step_down();
    let two = rig.participant("two");
    assert!(!is_dated(rig.next_term(&[&one, &two]).await));
    for forget in ["DELETE FROM component_lease", "TRUNCATE TABLE component_lease"] {
        server.sql(forget).await;
        let fresh = rig.participant("fresh");
        let version = rig.next_term(&[&one, &two, &fresh]).await;
        assert!(!is_dated(version), "the history tells: {version}");
    }
    server.sql("TRUNCATE TABLE component_lease").await;
    server.sql("TRUNCATE TABLE component_lease_store").await;
    drop((one, two));
    let fresh = rig.participant("fresh");
    assert!(is_dated(rig.next_term(&[&fresh]).await));
}

async fn a_row_that_goes_with_its_history_makes_no_second_leader_and_no_version_twice(make: Make) {
    let server = Machine::start(make).await;
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    let first = rig.next_term(&[&one]).await;
    rig.line_says(first).await;
    server.sql("DELETE FROM component_lease_history").await;
    server.sql("DELETE FROM component_lease").await;
    // One that has seen nothing of all that, and would begin at 1 at once.
    let fresh = rig.participant("fresh");
    // The one that led has seen further than the history says: that begins an epoch.
    let next = rig.next_term(&[&one, &fresh]).await;
    assert!(next > first && is_dated(next), "{next}");
}

async fn a_restarted_server_lets_its_holder_go_on_and_makes_others_wait(make: Make) {
    let server = Machine::start(make).await;
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    let before = rig.life().await;
    server.stop().await;
    server.start_again().await;
    let two = rig.participant("two");
    wait::until_true(SOON, "a new epoch to be settled", async || {
        let life = rig.life().await;
        life.is_settled() && life.record().map(|r| r.epoch) > before.record().map(|r| r.epoch)
    })
    .await
    .unwrap();
    // Whether the holder lost its term depends on how long the restart took; no two ever led.
    let row = rig.row().await.unwrap();
    assert!(row.version < 10 || is_dated(row.version), "{row:?}");
    drain(one).await;
    let after = if two.is_leader() { two.term().unwrap().version() } else { rig.next_term(&[&two]).await };
    assert!(is_dated(after));
}

async fn an_asynchronous_failover_that_lost_the_grant_makes_no_second_leader_and_no_version_twice(
    make: Make,
) {
    let primary = Machine::start(make).await;
    let mut rig = Rig::on(&primary).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    let standby = primary.standby().await;
    drain(one).await;
    primary.caught_up(&standby).await;
    standby.lag_for_ever().await;
    // The next version is granted, and lost.
    let two = rig.participant("two");
    assert!(!is_dated(rig.next_term(&[&two]).await));
    primary.crash().await;
    standby.promote().await;
    rig.lead_to(&standby);
    // The row is free there, and a fresh participant would take it at once under that version.
    let fresh = rig.participant("fresh");
    let version = rig.next_term(&[&two, &fresh]).await;
    assert!(is_dated(version));
    let Life::Recorded { identity, record, .. } = rig.life().await else { panic!("nothing is recorded") };
    assert_eq!(identity, record.identity);
}

async fn two_standbys_promoted_in_turn_and_a_fail_back_never_grant_a_version_twice(make: Make) {
    let first = Machine::start(make).await;
    let mut rig = Rig::on(&first).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    let (second, third) = tokio::join!(first.standby(), first.standby());
    second.lag_for_ever().await;
    third.lag_for_ever().await;
    drop(one);
    // Each knows nothing of what was granted on the other.
    first.crash().await;
    for server in [&second, &third] {
        server.promote().await;
        rig.lead_to(server);
        let fresh = rig.participant("fresh");
        assert!(is_dated(rig.next_term(&[&fresh]).await));
        server.crash().await;
    }
    first.start_again().await;
    rig.lead_to(&first);
    let fresh = rig.participant("fresh");
    assert!(is_dated(rig.next_term(&[&fresh]).await));
}

async fn a_volume_snapshot_that_is_put_back_never_grants_a_version_twice(make: Make) {
    let server = Machine::start(make).await;
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    drain(one).await;
    server.stop().await;
    server.snapshot();
    for _ in 0..2 {
        server.start_again().await;
        let fresh = rig.participant("fresh");
        assert!(is_dated(rig.next_term(&[&fresh]).await));
        server.crash().await;
        drop(fresh);
        server.restore();
    }
}

#[tokio::test]
async fn a_sqlite_file_whose_rows_history_or_tables_are_gone_never_grants_a_version_twice() {
    let file = SqliteFile::none_yet();
    let mut rig = Rig::at(&format!("sqlite:{}", file.path().display())).await;
    let options = SqliteConnectOptions::new().filename(file.path()).busy_timeout(Duration::from_secs(5));
    let mut by_hand = SqliteConnection::connect_with(&options).await.unwrap();
    let one = rig.participant("one");
    let mut version = rig.next_term(&[&one]).await;
    // A history that ends before what a participant has seen begins an epoch; a row alone that is gone does not.
    for (forget, begins_epoch) in [
        ("DELETE FROM component_lease", false),
        ("DELETE FROM component_lease_history; DELETE FROM component_lease", true),
    ] {
        rig.line_says(version).await;
        by_hand.execute(sqlx::raw_sql(forget)).await.unwrap();
        let fresh = rig.participant("fresh");
        version = rig.next_term(&[&one, &fresh]).await;
        assert_eq!(is_dated(version), begins_epoch, "{version}");
        // Asking `one` whether it leads would not do: it may do so the moment that the other has gone.
        let fresh_led = rig.led[&version] == fresh.holder().to_string();
        drain(fresh).await;
        if fresh_led {
            version = rig.next_term(&[&one]).await;
        }
    }
    drain(one).await;
    for table in ["", "_intent", "_history", "_store", "_schema"] {
        let drop = format!("DROP TABLE component_lease{table}");
        by_hand.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    }
    by_hand.execute("DROP TABLE component_instance").await.unwrap();
    rig.install(false).await;
    let two = rig.participant("two");
    assert!(is_dated(rig.next_term(&[&two]).await));
}

on_servers! {
    [POSTGRES, MYSQL, MARIADB] =>
        a_first_installation_begins_at_1_and_dropped_tables_that_are_made_anew_with_a_date,
        release_deletion_and_truncation_never_repeat_a_version,
        a_row_that_goes_with_its_history_makes_no_second_leader_and_no_version_twice,
        a_restarted_server_lets_its_holder_go_on_and_makes_others_wait,
        two_standbys_promoted_in_turn_and_a_fail_back_never_grant_a_version_twice,
        a_volume_snapshot_that_is_put_back_never_grants_a_version_twice;
    [POSTGRES, POSTGRES_18, MYSQL, MARIADB] =>
        an_asynchronous_failover_that_lost_the_grant_makes_no_second_leader_and_no_version_twice;
}
