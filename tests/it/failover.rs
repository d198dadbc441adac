//! Real servers that forget: one leader, and no version twice, whatever becomes of the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component_lease::domain::election::Looked;
use component_lease::domain::{LeaseRow, Life};
use component_lease::participant::Participant;
use component_lease::store::{self, Install, Source, Store};
use component_lease_testkit::postgres::{Server, Stop};
use component_lease_testkit::wait;
use tempfile::TempDir;

use crate::stores::component;

/// Seconds; short, so that a quarantine is, but long enough for a busy machine to renew in time.
const MAX_TTL: u32 = 6;
const TTL: u32 = 5;
const SOON: Duration = Duration::from_secs(120);

/// Participants of one component, behind a URL that leads to whichever server is primary.
struct Rig {
    folder: TempDir,
    /// Looks on; connecting anew for each look would keep a busy machine from all else.
    eye: Arc<dyn Store>,
    /// Terms that anybody led, by version: to whom.
    led: BTreeMap<i64, String>,
}

impl Rig {
    async fn on(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        lead_to(&folder, server);
        let eye = store::open(source(&folder), "failover").unwrap();
        let rig = Self { folder, eye, led: BTreeMap::new() };
        rig.install(true).await;
        rig
    }

    async fn install(&self, first: bool) {
        let how = Install { first, max_ttl: MAX_TTL };
        wait::until(SOON, "the tables", async || Ok(Some(store::install(&self.source(), how).await?)))
            .await
            .unwrap();
    }

    fn lead_to(&self, server: &Server) {
        lead_to(&self.folder, server);
    }

    fn source(&self) -> Source {
        source(&self.folder)
    }

    fn store(&self) -> Arc<dyn Store> {
        store::open(self.source(), "failover").unwrap()
    }

    fn participant(&self, name: &str) -> Participant {
        Participant::builder(self.store(), component("c"))
            .name(name)
            .ttl(TTL)
            .max_ttl(MAX_TTL)
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
                .filter_map(|participant| participant.guard().map(|guard| (guard.version(), participant)))
                .collect();
            assert!(leaders.len() <= 1, "these lead at a time: {leaders:?}");
            let new = leaders.first().filter(|(version, _)| !self.led.contains_key(version));
            Ok(new.map(|(version, participant)| (*version, participant.holder().to_string())))
        })
        .await
        .unwrap();
        assert!(version > highest, "version {version} was granted after {highest}");
        self.led.insert(version, holder);
        version
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
fn lead_to(folder: &TempDir, server: &Server) {
    std::fs::write(folder.path().join("next"), server.superuser_url()).unwrap();
    std::fs::rename(folder.path().join("next"), folder.path().join("url")).unwrap();
}

fn source(folder: &TempDir) -> Source {
    Source::file(folder.path().join("url"))
}

/// Whether a version says when its epoch began.
fn is_dated(version: i64) -> bool {
    version > 10_000_000_000_000
}

#[tokio::test]
async fn a_first_installation_begins_at_1_without_waiting_and_others_with_a_date_after_a_quarantine() {
    let server = Server::start().await.unwrap();
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    // Dropped and made anew: whoever makes them cannot know.
    one.drain();
    one.ended().await;
    let drop = "DROP TABLE component_lease, component_lease_intent, component_lease_schema, component_lease_history, component_lease_store; DROP FUNCTION component_lease_notify, component_lease_history_rises";
    server.psql(drop).await.unwrap();
    rig.install(false).await;
    assert!(!rig.life().await.is_settled());
    let two = rig.participant("two");
    assert!(is_dated(rig.next_term(&[&two]).await));
}

#[tokio::test]
async fn release_deletion_and_truncation_never_repeat_a_version() {
    let server = Server::start().await.unwrap();
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    one.step_down();
    let two = rig.participant("two");
    assert!(!is_dated(rig.next_term(&[&one, &two]).await));
    for forget in ["DELETE FROM component_lease", "TRUNCATE component_lease"] {
        server.psql(forget).await.unwrap();
        let fresh = rig.participant("fresh");
        let version = rig.next_term(&[&one, &two, &fresh]).await;
        assert!(!is_dated(version), "the history tells: {version}");
    }
    server.psql("TRUNCATE component_lease, component_lease_store").await.unwrap();
    drop((one, two));
    let fresh = rig.participant("fresh");
    assert!(is_dated(rig.next_term(&[&fresh]).await));
}

#[tokio::test]
async fn a_restarted_server_lets_its_holder_go_on_and_makes_others_wait() {
    let server = Server::start().await.unwrap();
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    let before = rig.life().await;
    server.stop(Stop::Fast).await.unwrap();
    server.start_again().await.unwrap();
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
    one.drain();
    one.ended().await;
    let after = if two.is_leader() { two.guard().unwrap().version() } else { rig.next_term(&[&two]).await };
    assert!(is_dated(after));
}

#[tokio::test]
async fn an_asynchronous_failover_that_lost_the_grant_makes_no_second_leader_and_no_version_twice() {
    let primary = Server::start().await.unwrap();
    let mut rig = Rig::on(&primary).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    let standby = primary.standby().await.unwrap();
    primary.caught_up(&standby).await.unwrap();
    one.drain();
    one.ended().await;
    primary.caught_up(&standby).await.unwrap();
    standby.lag_for_ever().await.unwrap();
    // The next version is granted, and lost.
    let two = rig.participant("two");
    assert!(!is_dated(rig.next_term(&[&two]).await));
    primary.stop(Stop::Immediate).await.unwrap();
    standby.promote().await.unwrap();
    rig.lead_to(&standby);
    // The row is free there, and a fresh participant would take it at once under that version.
    let fresh = rig.participant("fresh");
    let version = rig.next_term(&[&two, &fresh]).await;
    assert!(is_dated(version));
    let Life::Recorded { identity, record, .. } = rig.life().await else { panic!("nothing is recorded") };
    assert_eq!(identity, record.identity);
}

#[tokio::test]
async fn two_standbys_promoted_in_turn_and_a_fail_back_never_grant_a_version_twice() {
    let first = Server::start().await.unwrap();
    let mut rig = Rig::on(&first).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    let (second, third) = (first.standby().await.unwrap(), first.standby().await.unwrap());
    for standby in [&second, &third] {
        first.caught_up(standby).await.unwrap();
        standby.lag_for_ever().await.unwrap();
    }
    drop(one);
    // Each knows nothing of what was granted on the other.
    first.stop(Stop::Immediate).await.unwrap();
    for server in [&second, &third] {
        server.promote().await.unwrap();
        rig.lead_to(server);
        let fresh = rig.participant("fresh");
        assert!(is_dated(rig.next_term(&[&fresh]).await));
        server.stop(Stop::Immediate).await.unwrap();
    }
    first.start_again().await.unwrap();
    rig.lead_to(&first);
    let fresh = rig.participant("fresh");
    assert!(is_dated(rig.next_term(&[&fresh]).await));
}

#[tokio::test]
async fn a_volume_snapshot_that_is_put_back_never_grants_a_version_twice() {
    let server = Server::start().await.unwrap();
    let mut rig = Rig::on(&server).await;
    let one = rig.participant("one");
    assert_eq!(rig.next_term(&[&one]).await, 1);
    one.drain();
    one.ended().await;
    server.stop(Stop::Fast).await.unwrap();
    server.snapshot().unwrap();
    for _ in 0..2 {
        server.start_again().await.unwrap();
        let fresh = rig.participant("fresh");
        assert!(is_dated(rig.next_term(&[&fresh]).await));
        server.stop(Stop::Immediate).await.unwrap();
        drop(fresh);
        server.restore().unwrap();
    }
}
