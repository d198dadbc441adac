//! Real servers whose wall clock steps while leaders lead, followers follow and leaders die: nothing
//! hangs on it.

use std::sync::Arc;
use std::time::Duration;

use component_lease::clock::{Clock, SystemClock};
use component_lease::participant::Participant;
use component_lease::store::{self, Install, Source};
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::tcp_proxy::TcpProxy;
use component_lease_testkit::{machine, postgres, wait};
use tokio::runtime::Runtime;

use crate::led::Watch;
use crate::stores::component;

/// Seconds.
const TTL: u32 = 3;
const TERM: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(60);
const DAY: i64 = 86_400;
/// Forward by half a minute and by a day, back by an hour and by a day, and to the right time.
const AHEAD: [i64; 5] = [31, 31 + DAY, 31 + DAY - 3_600, 31 - 3_600, 0];
/// What starting a client to ask the server for its time may take.
const ASKING: i64 = 15;

fn now() -> Duration {
    SystemClock.boot()
}

enum Server {
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

impl Server {
    async fn postgres() -> Self {
        Self::Postgres(postgres::Server::builder().clock().start().await.unwrap())
    }

    async fn mysql(kind: Kind) -> Self {
        let server = mysql::Server::builder(kind).clock().start().await.unwrap();
        server.sql("CREATE DATABASE lease").await.unwrap();
        Self::MySql(server)
    }

    fn port(&self) -> u16 {
        match self {
            Self::Postgres(server) => server.port(),
            Self::MySql(server) => server.port(),
        }
    }

    fn source(&self, port: u16) -> Source {
        Source::url(match self {
            Self::Postgres(server) => server.url_through(port, "postgres"),
            Self::MySql(server) => server.url_through(port, "lease"),
        })
    }

    /// Steps the clock, and sees in SQL that it did.
    async fn set_clock(&self, ahead: i64) {
        match self {
            Self::Postgres(server) => server.set_clock(ahead).unwrap(),
            Self::MySql(server) => server.set_clock(ahead).unwrap(),
        }
        let before = SystemClock.wall_ms() / 1000;
        let shown = match self {
            Self::Postgres(server) => {
                server.psql("SELECT floor(extract(epoch FROM clock_timestamp()))").await
            }
            Self::MySql(server) => {
                server.sql("SELECT TIMESTAMPDIFF(SECOND, '1970-01-01', UTC_TIMESTAMP())").await
            }
        };
        let off = shown.unwrap().parse::<i64>().unwrap() - before - ahead;
        assert!((-1..ASKING).contains(&off), "the server's clock is {off} s off what was set");
    }
}

/// A participant in a runtime of its own, with which it can die at any moment.
struct Mortal {
    runtime: Option<Runtime>,
    participant: Arc<Participant>,
}

impl Mortal {
    fn start(source: Source, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let participant = participant(source, name);
        drop(entered);
        Self { runtime: Some(runtime), participant }
    }

    /// As a process that is killed: nothing is renewed, nothing is released.
    fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.die();
    }
}

fn participant(source: Source, name: &str) -> Arc<Participant> {
    let store = store::open(source, "clock steps").unwrap();
    let builder = Participant::builder(store, component(name))
        .ttl(Duration::from_secs(TTL.into()))
        .stop_grace(Duration::ZERO);
    Arc::new(builder.start().unwrap())
}

/// A leader that is going to die, and a follower that has watched it for a ttl by then.
struct Pair {
    name: String,
    leader: Mortal,
    /// Between the leader and the database.
    proxy: TcpProxy,
    follower: Arc<Participant>,
    watched_since: Duration,
}

impl Pair {
    async fn new(server: &Server, watch: &Watch, name: String) -> Self {
        let proxy = TcpProxy::start(([127, 0, 0, 1], server.port()).into()).unwrap();
        let leader = Mortal::start(server.source(proxy.port()), &name);
        watch.add(&leader.participant);
        let leads = &leader.participant;
        wait::until_true(SOON, format!("the leader of {name}"), async || leads.is_leader()).await.unwrap();
        let follower = participant(server.source(server.port()), &name);
        watch.add(&follower);
        let sees = || follower.watch().borrow().row.is_some();
        wait::until_true(SOON, format!("the follower of {name} to see it"), async || sees()).await.unwrap();
        Self { name, leader, proxy, follower, watched_since: now() }
    }

    async fn watched_for_a_ttl(&self) {
        let since = self.watched_since;
        wait::until_true(SOON, "a ttl", async || now() >= since + TERM).await.unwrap();
        assert!(self.leader.participant.is_leader(), "the leader of {} has not lasted", self.name);
    }

    async fn replaced(&self, watch: &Watch, died: Duration) {
        let name = &self.name;
        let second = async || Ok(watch.terms(name).get(1).cloned());
        let term = wait::until(SOON, format!("the next leader of {name}"), second).await.unwrap();
        assert_eq!(term.holder, self.follower.holder().as_str());
        let after = term.from.saturating_sub(died);
        assert!(after <= TERM + Duration::from_secs(1), "{name} was without a leader for {after:?}");
        // The last renewal was a third of a ttl before its death at most.
        assert!(after >= TERM * 6 / 10, "{name} was seized {after:?} after its leader had died");
    }
}

async fn nothing_hangs_on_the_clock_of(server: Server) {
    let _machine = machine::shared().await;
    let first = Install::default().first(true);
    store::install(&server.source(server.port()), first).await.unwrap();
    let eye = store::open(server.source(server.port()), "clock steps").unwrap();
    let life_id = async || {
        let life = eye.look(&component("steady")).await.unwrap().life;
        assert!(life.is_settled() && !life.is_strange(), "{life:?}");
        life.id()
    };
    let identity = life_id().await;

    let watch = Watch::start();
    let steady: Vec<_> = (0..3).map(|_| participant(server.source(server.port()), "steady")).collect();
    for participant in &steady {
        watch.add(participant);
    }
    let leader = async || steady.iter().any(|participant| participant.is_leader());
    wait::until_true(SOON, "a leader", leader).await.unwrap();
    let pair = async |what: &str, turn| Pair::new(&server, &watch, format!("{what}-{turn}")).await;
    let mut dying = (pair("killed", 0).await, pair("cut", 0).await);

    for (turn, ahead) in (0..).zip(AHEAD) {
        let (mut killed, cut) = dying;
        killed.watched_for_a_ttl().await;
        cut.watched_for_a_ttl().await;
        let died = now();
        killed.leader.die();
        cut.proxy.black_hole();
        // At once, or in the middle of the watch.
        let steps = died + TERM * (turn % 3) / 3;
        wait::until_true(SOON, "the moment of the step", async || now() >= steps).await.unwrap();
        server.set_clock(ahead).await;
        for _ in 0..20 {
            assert_eq!(life_id().await, identity, "the server is the same, {ahead} s ahead");
        }
        dying = (pair("killed", turn + 1).await, pair("cut", turn + 1).await);
        killed.replaced(&watch, died).await;
        cut.replaced(&watch, died).await;
    }

    let terms = watch.terms("steady");
    assert!(terms.len() == 1 && terms[0].gaps == 0, "somebody else led, or for a time nobody: {terms:?}");
    assert!(steady.iter().any(|participant| participant.is_leader()));
    watch.nobody_led_beside_another();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_clock_of_postgresql_does_leaders_stay_and_dead_ones_are_replaced_in_time() {
    nothing_hangs_on_the_clock_of(Server::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_clock_of_mariadb_does_leaders_stay_and_dead_ones_are_replaced_in_time() {
    nothing_hangs_on_the_clock_of(Server::mysql(Kind::MariaDb10_11).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_clock_of_mysql_does_leaders_stay_and_dead_ones_are_replaced_in_time() {
    nothing_hangs_on_the_clock_of(Server::mysql(Kind::MySql9).await).await;
}
