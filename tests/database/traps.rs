//! What PostgreSQL does that a failover must not fall for: each trap as it is, and that the engine is not in it.

use std::time::Duration;

use component_lease::database::{Cloning, Engine as _, Followed, Rejoined, Role};
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::{machine, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{AT_ONCE, Cluster, IN_ORDER, SOON, Server, any, processes_in, set};

const BOTH: [Release; 2] = [Release::Installed, Release::Eighteen];

/// A process of the server by its kind, once there is one: some start a moment after a promotion.
async fn process(server: &Server, kind: &str) -> Pid {
    let pid = format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}'");
    let pid = wait::until(SOON, format!("a {kind} of {}", server.name), async || {
        Ok(Pid::from_raw(server.files.psql(&pid).await?.parse()?))
    });
    pid.await.unwrap_or_else(|error| panic!("{error:#}\n{}", server.files.log()))
}

/// A cluster of two in which `a` has 1000 rows that `b`, the primary of version 2, never had. `a` has ended as a machine
/// that lost its power.
async fn diverged(release: Release) -> Cluster {
    let cluster = Cluster::new(release, &["a", "b"]).await;
    let [a, b] = &cluster.servers[..] else { unreachable!() };
    a.psql("CREATE TABLE t (n int)").await;
    a.psql("INSERT INTO t SELECT generate_series(1, 100)").await;
    // Both control files know the timeline that they have in common.
    a.psql("CHECKPOINT").await;
    b.engine.seal(2).await.unwrap();
    b.psql("CHECKPOINT").await;
    a.engine.set_names(&any(0, &[])).await.unwrap();
    a.psql("INSERT INTO t SELECT generate_series(1001, 2000)").await;
    a.engine.end(AT_ONCE).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_rewound_before_the_primarys_control_file_knows_its_timeline() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let cluster = diverged(release).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        // Without its checkpointer the promoted server's control file stays as it was.
        let checkpointer = process(b, "checkpointer").await;
        kill_process(checkpointer, Signal::STOP).unwrap();
        b.engine.promote(2, "b", &set(&["a"])).await.unwrap();
        let leader = b.as_leader(2);
        let back = a.engine.rejoin(&leader, Cloning::IfEmpty);
        tokio::pin!(back);
        // It is alone, hidden, recovered and ended by then, and waits.
        let clean = async {
            wait::until_true(SOON, "the recovered server to have ended", async || {
                let (_, said) =
                    a.files.run("pg_controldata", &[a.files.data().to_str().unwrap()]).await.unwrap();
                said.contains("shut down in recovery")
            })
            .await
            .unwrap();
        };
        tokio::select! {
            () = clean => {}
            done = &mut back => panic!("{release:?}: it did not wait: {done:?}"),
        }
        let source = format!("host=127.0.0.1 port={} user={REPLICATOR} dbname=postgres", b.files.port());
        let arguments = [
            format!("--target-pgdata={}", a.files.data().display()),
            format!("--source-server={source}"),
            "--dry-run".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (_, said) = a.files.run("pg_rewind", &arguments).await.unwrap();
        // The trap: by the control file, nothing has happened.
        let nothing_to_do = said.contains("no rewind required");
        assert_eq!(nothing_to_do, release == Release::Installed, "{said}");
        kill_process(checkpointer, Signal::CONT).unwrap();
        assert_eq!(back.await.unwrap(), Rejoined::Rewound);
        b.engine.set_names(&any(1, &["a"])).await.unwrap();
        b.psql("INSERT INTO t VALUES (3000)").await;
        a.answers("SELECT count(*), max(n) FROM t", "101|3000").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_killed_is_recovered_alone_before_it_is_rewound() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let cluster = diverged(release).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        cluster.lead_alone(1, 2, &["a"]).await;
        b.psql("CHECKPOINT").await;
        // The trap: its own recovery would start a server that never ends, as it is a standby.
        let source = format!("host=127.0.0.1 port={} user={REPLICATOR} dbname=postgres", b.files.port());
        let (target, source) =
            (format!("--target-pgdata={}", a.files.data().display()), format!("--source-server={source}"));
        let (done, said) = a.files.run("pg_rewind", &[&target, &source]).await.unwrap();
        assert!(!done && said.contains("standby"), "{said}");
        assert_eq!(a.engine.rejoin(&b.as_leader(2), Cloning::IfEmpty).await.unwrap(), Rejoined::Rewound);
        a.answers("SELECT count(*), max(n) FROM t", "100|100").await;
        assert!(
            a.files.log().contains("not properly shut down") || a.files.log().contains("was interrupted")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_more_than_its_primary_is_never_let_follow_it() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let cluster = diverged(release).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        cluster.lead_alone(1, 2, &["a"]).await;
        a.engine.start().await.unwrap();
        let followed = a.engine.follow(&b.as_leader(2)).await.unwrap();
        assert!(matches!(followed, Followed::Diverged { .. }), "{followed:?}");
        let seen = a.engine.observe().await.unwrap();
        assert_eq!((seen.receives, seen.position.term), (None, 1));
        assert_eq!(a.psql("SELECT current_setting('primary_conninfo')").await, "");
        assert_eq!(a.psql("SELECT count(*) FROM t").await, "1100", "rows that exist nowhere else are here");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_is_by_the_term_in_the_data_while_the_control_file_lags() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let cluster = Cluster::new(release, &["a", "b", "c"]).await;
        let [a, b, c] = &cluster.servers[..] else { unreachable!() };
        a.engine.end(IN_ORDER).await.unwrap();
        // Nothing that it replays reaches its control file.
        kill_process(process(c, "checkpointer").await, Signal::STOP).unwrap();
        for server in [b, c] {
            server.engine.seal(2).await.unwrap();
        }
        let began = b.engine.promote(2, "b", &set(&["a", "c"])).await.unwrap();
        c.engine.follow(&b.as_leader(2)).await.unwrap();
        cluster.has(b, "c", began.end).await;
        let report = c.engine.seal(3).await.unwrap();
        assert_eq!(report.position.term, 2);
        assert!(report.position.end >= began.end);
        let lags = c.psql("SELECT timeline_id FROM pg_control_checkpoint()").await;
        let leads = b.psql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 8, 1)").await;
        assert!(lags < leads, "{lags} {leads}");
        kill_process(process(c, "checkpointer").await, Signal::CONT).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_wait_was_cancelled_is_no_beat_though_the_server_says_committed() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let cluster = Cluster::new(release, &["a", "b"]).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        let before = a.engine.beat(SOON).await.unwrap();
        b.engine.end(AT_ONCE).await.unwrap();
        let cancel = wait::until_true(SOON, "a write that waits to be cancelled", async || {
            let waits =
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            a.files.psql(waits).await.is_ok_and(|cancelled| cancelled == "1")
        });
        let (beat, cancelled) = tokio::join!(a.engine.beat(Duration::from_secs(3)), cancel);
        cancelled.unwrap();
        let error = beat.unwrap_err().to_string();
        assert!(error.contains("proves nothing"), "{error}");
        // The trap: the server shows it as committed.
        let counted = a.psql("SELECT beat_seq FROM component_lease_primary").await;
        assert!(counted.parse::<i64>().unwrap() > before.seq, "{counted}");
        // Names that somebody sets by hand are no members either.
        a.psql("ALTER SYSTEM SET synchronous_standby_names = ''").await;
        a.psql("SELECT pg_reload_conf()").await;
        a.answers("SELECT current_setting('synchronous_standby_names')", "").await;
        a.engine.beat(Duration::from_secs(1)).await.unwrap_err();
        let tampered = a.engine.observe().await.unwrap().tampered;
        assert!(tampered.iter().any(|what| what.contains("synchronous_standby_names")), "{tampered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_takes_its_busy_sessions_along_before_the_server_counts_as_ended() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let a = Server::new(release, "a").await;
        a.engine.start().await.unwrap();
        a.engine.seal(1).await.unwrap();
        a.engine.promote(1, "a", &set(&[])).await.unwrap();
        a.engine.set_names(&any(0, &[])).await.unwrap();
        a.psql("CREATE TABLE t (n int)").await;
        let busy =
            "DO $$ BEGIN FOR n IN 1..100000000 LOOP INSERT INTO t VALUES (n); COMMIT; END LOOP; END $$";
        let sessions = [a.files.psql(busy), a.files.psql(busy)];
        let [one, two] = sessions;
        let killed = async {
            wait::until_true(SOON, "sessions that are busy", async || {
                a.files.psql("SELECT count(*) > 50 FROM t").await.is_ok_and(|many| many == "t")
            })
            .await
            .unwrap();
            assert!(processes_in(&a.files.data()) > 3);
            let text = std::fs::read_to_string(a.files.data().join("postmaster.pid")).unwrap();
            let postmaster = Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap();
            kill_process(postmaster, Signal::KILL).unwrap();
            tokio::time::timeout(SOON, a.engine.ended()).await.unwrap();
            assert_eq!(processes_in(&a.files.data()), 0);
        };
        let (one, two, ()) = tokio::join!(one, two, killed);
        assert!(one.is_err() && two.is_err());
        assert!(!a.engine.runs());
        // Whatever it was, it starts as a standby.
        a.engine.start().await.unwrap();
        assert_eq!(a.engine.observe().await.unwrap().role, Role::Standby);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_by_itself_is_a_standby_then() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let a = Server::new(release, "a").await;
        a.engine.start().await.unwrap();
        a.engine.seal(1).await.unwrap();
        a.engine.promote(1, "a", &set(&[])).await.unwrap();
        a.engine.set_names(&any(0, &[])).await.unwrap();
        kill_process(process(&a, "walwriter").await, Signal::KILL).unwrap();
        a.answers("SELECT pg_is_in_recovery()", "t").await;
        assert_eq!(a.engine.observe().await.unwrap().role, Role::Standby);
        assert!(a.engine.runs(), "the server itself did not end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_signal_that_somebody_removes_comes_back_and_hinders_no_promotion() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let a = Server::new(release, "a").await;
        let signal = a.files.data().join("standby.signal");
        a.engine.start().await.unwrap();
        a.engine.seal(1).await.unwrap();
        // The trap: a server that is promoted without it ends.
        std::fs::remove_file(&signal).unwrap();
        a.engine.promote(1, "a", &set(&[])).await.unwrap();
        assert!(signal.exists(), "a restart would make it a primary");
        assert_eq!(a.engine.observe().await.unwrap().tampered, Vec::<String>::new());
        std::fs::remove_file(&signal).unwrap();
        let tampered = a.engine.observe().await.unwrap().tampered;
        assert!(tampered.len() == 1 && tampered[0].contains("standby.signal"), "{tampered:?}");
        assert!(signal.exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_neither_starts_nor_follows_nor_is_replaced_by_itself() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a"]).await;
    let a = &cluster.servers[0];
    let system = a.engine.observe().await.unwrap().system;
    let stranger = Server::of(Member::stranger(Release::Installed).await.unwrap(), "b");
    stranger.engine.start().await.unwrap();
    let refused = stranger.engine.follow(&a.as_leader(1)).await.unwrap_err();
    assert!(refused.is_refusal() && refused.to_string().contains("another cluster"), "{refused}");
    stranger.engine.end(IN_ORDER).await.unwrap();
    for cloning in [Cloning::IfEmpty, Cloning::IfNeeded] {
        let refused = stranger.engine.rejoin(&a.as_leader(1), cloning).await.unwrap_err();
        assert!(refused.is_refusal() && refused.to_string().contains("another cluster"), "{refused}");
    }
    let known = Server::with(Member::stranger(Release::Installed).await.unwrap(), "b", |config| {
        config.system = Some(system);
    });
    let refused = known.engine.start().await.unwrap_err();
    assert!(refused.is_refusal() && refused.to_string().contains(&system.to_string()), "{refused}");
    assert!(!known.engine.runs() && processes_in(&known.files.data()) == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_connects_by_itself_receives_nothing_of_a_primary_for_which_it_is_not_sealed() {
    let _machine = machine::shared().await;
    for release in BOTH {
        let cluster = Cluster::new(release, &["a", "b"]).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        // From here on the supervisor of `b` knows nothing.
        let slot = b.psql("SELECT current_setting('primary_slot_name')").await;
        a.engine.end(AT_ONCE).await.unwrap();
        a.engine.start().await.unwrap();
        a.engine.seal(2).await.unwrap();
        // The trap: it goes on receiving, also across a promotion.
        a.psql(&format!("SELECT pg_create_physical_replication_slot('{slot}')")).await;
        a.answers("SELECT string_agg(state, ' ') FROM pg_stat_replication", "streaming").await;
        a.engine.promote(2, "a", &set(&["b"])).await.unwrap();
        a.engine.set_names(&any(1, &["b"])).await.unwrap();
        let refusal = format!("replication slot \"{slot}\" does not exist");
        let refused = || b.files.log().matches(&refusal).count();
        let one_more = async || {
            let before = refused();
            wait::until_true(SOON, "the standby to be refused", async || refused() > before).await.unwrap();
        };
        one_more().await;
        let cut = b.engine.observe().await.unwrap().position;
        let error = a.engine.beat(Duration::from_millis(500)).await.unwrap_err();
        assert!(error.to_string().contains("no write was acknowledged"), "{error}");
        one_more().await;
        // It says that it receives from each connection on until that one is refused. Not a byte arrives.
        let seen = b.engine.observe().await.unwrap();
        assert_eq!((seen.sealed, seen.position.term, cut.term), (1, 1, 1));
        assert!(seen.position.end <= cut.end, "{:?} after {cut:?}", seen.position);
        // Once its supervisor knows, it follows.
        assert_eq!(b.engine.follow(&a.as_leader(2)).await.unwrap(), Followed::Follows);
        a.engine.beat(SOON).await.unwrap();
        assert_eq!(b.engine.observe().await.unwrap().sealed, 2);
    }
}
