//! What a member promises and keeps, whatever happens to it, and what it refuses.

use std::time::Duration;

use component_lease::SystemClock;
use component_lease::clock::Clock as _;
use component_lease::database::{Cloning, Engine as _, Followed, Leader, Rejoined, Role};
use component_lease::primary::Names;
use component_lease_testkit::postgres::member::{Member, Release};
use component_lease_testkit::{machine, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{AT_ONCE, Cluster, IN_ORDER, SOON, Server, any, set};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_outlives_the_server_and_lets_no_older_primary_in() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a", "b"]).await;
    let [a, b] = &cluster.servers[..] else { unreachable!() };
    b.engine.seal(5).await.unwrap();
    b.engine.end(AT_ONCE).await.unwrap();
    // Nobody else manages its data meanwhile.
    let error = b.again().start().await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("another process"), "{error}");
    b.engine.start().await.unwrap();
    let seen = b.engine.observe().await.unwrap();
    assert_eq!((seen.sealed, seen.role, seen.receives), (5, Role::Standby, None));
    for error in [
        b.engine.follow(&a.as_leader(1)).await.unwrap_err(),
        b.engine.seal(4).await.map(drop).unwrap_err(),
        b.engine.promote(4, "b", &set(&[])).await.map(drop).unwrap_err(),
        b.engine.promote(6, "b", &set(&[])).await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_refusal() && error.to_string().contains("sealed at version 5"), "{error}");
    }
    b.engine.end(AT_ONCE).await.unwrap();
    let error = b.engine.rejoin(&a.as_leader(1), Cloning::Always).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("sealed at version 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_of_another_version_is_not_followed() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a", "b"]).await;
    let [a, b] = &cluster.servers[..] else { unreachable!() };
    let error = b.engine.follow(&a.as_leader(2)).await.unwrap_err();
    assert!(!error.is_refusal() && error.to_string().contains("the primary of version 1"), "{error}");
    assert_eq!(b.engine.observe().await.unwrap().sealed, 1, "it is not sealed for what it cannot follow");
    let standby = Leader { port: b.files.port(), member: "c".to_owned(), ..a.as_leader(2) };
    let error = b.engine.follow(&standby).await.unwrap_err();
    assert!(error.to_string().contains("no primary now"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_under_which_promises_cannot_be_kept_are_refused_all_at_once() {
    let _machine = machine::shared().await;
    let files = Member::new(Release::Installed).await.unwrap();
    files
        .set(
            "fsync = off\nfull_page_writes = off\nwal_log_hints = off\nrestart_after_crash = off\n\
             max_slot_wal_keep_size = -1\nsynchronous_commit = local\n",
        )
        .unwrap();
    let server = Server::of(files, "a");
    let error = server.engine.start().await.unwrap_err();
    assert!(error.is_refusal());
    for name in [
        "fsync is off",
        "full_page_writes",
        "wal_log_hints",
        "restart_after_crash",
        "max_slot_wal_keep_size",
        "synchronous_commit",
    ] {
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    assert!(!server.engine.runs(), "what was refused does not run on");
    let said = Server::with(Member::new(Release::Installed).await.unwrap(), "a", |config| {
        config.command.extend(["-c".into(), "synchronous_standby_names=".into()]);
    });
    let error = said.engine.start().await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("command line"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_member_has_all_that_was_acknowledged_and_receives_nothing_more() {
    let _machine = machine::shared().await;
    for release in [Release::Installed, Release::Eighteen] {
        let cluster = Cluster::new(release, &["a", "b"]).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        a.psql("CREATE TABLE t (n int)").await;
        // One row a transaction, each acknowledged by `b`.
        let busy =
            "DO $$ BEGIN FOR n IN 1..100000000 LOOP INSERT INTO t VALUES (n); COMMIT; END LOOP; END $$";
        let writes = a.files.psql(busy);
        tokio::pin!(writes);
        let sealed = async {
            wait::until_true(SOON, "writes", async || {
                b.files.psql("SELECT count(*) > 50 FROM t").await.is_ok_and(|many| many == "t")
            })
            .await
            .unwrap();
            let report = b.engine.seal(2).await.unwrap();
            // What is acknowledged can be seen at the primary; nothing is any more.
            let first = a.psql("SELECT count(*) FROM t").await;
            let error = a.engine.beat(Duration::from_millis(500)).await.unwrap_err();
            assert!(error.to_string().contains("no write was acknowledged"), "{error}");
            assert_eq!(a.psql("SELECT count(*) FROM t").await, first);
            let (acknowledged, has): (u64, u64) =
                (first.parse().unwrap(), b.psql("SELECT count(*) FROM t").await.parse().unwrap());
            assert!(has >= acknowledged && acknowledged > 50, "{release:?}: {has} of {acknowledged}");
            assert_eq!(b.engine.seal(2).await.unwrap(), report, "asked again, it says the same");
        };
        tokio::select! {
            () = sealed => {}
            ended = &mut writes => panic!("{ended:?}"),
        }
        a.engine.end(AT_ONCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_in_force_when_they_were_set() {
    let _machine = machine::shared().await;
    for release in [Release::Installed, Release::Eighteen] {
        let cluster = Cluster::new(release, &["a", "b", "c"]).await;
        let [a, b, c] = &cluster.servers[..] else { unreachable!() };
        let write = async |limit: u64| a.engine.beat(Duration::from_millis(limit)).await;
        write(5_000).await.unwrap();
        c.engine.end(AT_ONCE).await.unwrap();
        write(5_000).await.unwrap();
        a.engine.set_names(&any(2, &["b", "c"])).await.unwrap();
        write(300).await.unwrap_err();
        // One voter fewer: what waited is acknowledged.
        a.engine.set_names(&any(1, &["b"])).await.unwrap();
        write(5_000).await.unwrap();
        // From nobody to one that is not there.
        a.engine.set_names(&any(0, &[])).await.unwrap();
        b.engine.end(AT_ONCE).await.unwrap();
        write(5_000).await.unwrap();
        a.engine.set_names(&any(1, &["b"])).await.unwrap();
        write(300).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waited_is_acknowledged_as_soon_as_members_that_have_it_are_asked() {
    let _machine = machine::shared().await;
    for release in [Release::Installed, Release::Eighteen] {
        let cluster = Cluster::new(release, &["a", "b"]).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        // It confirms what is new to it and nothing else, not even after its usual ten seconds.
        b.psql("ALTER SYSTEM SET wal_receiver_status_interval = '1h'").await;
        b.psql("SELECT pg_reload_conf()").await;
        b.answers("SELECT current_setting('wal_receiver_status_interval')", "1h").await;
        a.psql("CREATE TABLE t (n int)").await;
        a.engine.set_names(&Names::Nobody).await.unwrap();
        let write = a.files.psql("INSERT INTO t VALUES (1)");
        tokio::pin!(write);
        // All of the log is on the member's disk, and said to be: it has nothing more to confirm.
        let waits = "SELECT (SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'SyncRep') \
                     AND (SELECT flush_lsn = pg_current_wal_insert_lsn() FROM pg_stat_replication)";
        tokio::select! {
            () = a.answers(waits, "t") => {}
            ended = &mut write => panic!("{ended:?}"),
        }
        let had = a.psql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").await;
        let end = a.engine.set_names(&any(1, &["b"])).await.unwrap();
        // Now and then a server writes something by itself, which would do too, but is not to be waited for.
        assert!(end > had.parse().unwrap(), "there is nothing more that the member could confirm");
        tokio::time::timeout(SOON, write).await.expect("it waits").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_is_a_copy_and_data_of_no_use_are_replaced_only_where_that_is_allowed() {
    let _machine = machine::shared().await;
    for release in [Release::Installed, Release::Eighteen] {
        let cluster = Cluster::new(release, &["a", "b"]).await;
        let a = &cluster.servers[0];
        a.psql("CREATE TABLE t AS SELECT generate_series(1, 500) n").await;
        a.engine.expect(&set(&["b", "new"])).await.unwrap();
        let new = Server::of(Member::empty(release).await.unwrap(), "new");
        let error = new.engine.start().await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("no database"), "{error}");
        assert_eq!(new.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty).await.unwrap(), Rejoined::Cloned);
        new.answers("SELECT count(*) FROM t", "500").await;
        cluster.has(a, "new", 1).await;
        new.engine.end(AT_ONCE).await.unwrap();
        // As if the power had failed while `pg_rewind` was at work.
        let promises = new.files.folder().join("data.component-lease/promises");
        let text = std::fs::read_to_string(&promises).unwrap();
        assert!(text.contains("sealed 1\n"), "{text}");
        std::fs::write(&promises, text.replace("repairing false", "repairing true")).unwrap();
        let error = new.engine.start().await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("interrupted"), "{error}");
        let error = new.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty).await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("allow that it is copied"), "{error}");
        assert_eq!(new.engine.rejoin(&a.as_leader(1), Cloning::IfNeeded).await.unwrap(), Rejoined::Cloned);
        new.answers("SELECT count(*) FROM t", "500").await;
        let kept = std::fs::read_dir(new.files.folder()).unwrap().filter_map(Result::ok);
        assert_eq!(
            kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("data.kept-")).count(),
            1
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_too_far_behind_is_known_at_once() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a", "b"]).await;
    let [a, b] = &cluster.servers[..] else { unreachable!() };
    b.engine.end(IN_ORDER).await.unwrap();
    a.engine.set_names(&any(0, &[])).await.unwrap();
    // The log that is kept for it has an end.
    a.psql("CREATE TABLE t (n int)").await;
    for _ in 0..90 {
        a.psql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()").await;
    }
    a.psql("CHECKPOINT").await;
    assert_eq!(a.psql("SELECT wal_status FROM pg_replication_slots").await, "lost");
    a.engine.expect(&set(&["b"])).await.unwrap();
    assert_eq!(a.psql("SELECT wal_status FROM pg_replication_slots").await, "reserved", "it is made anew");
    b.engine.start().await.unwrap();
    // Asked as if it had been away: it was sealed for another one meanwhile.
    b.engine.seal(1).await.unwrap();
    assert_eq!(b.engine.follow(&a.as_leader(1)).await.unwrap(), Followed::TooFarBehind);
    b.engine.end(IN_ORDER).await.unwrap();
    let error = b.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("no longer has the log"), "{error}");
    // A copy says how much of it is on disk, as a standby does, and must not count as the member that it is made for.
    let copying = b.files.folder().join("data.copying");
    let mut asked = 0;
    let watched = async {
        loop {
            let began = copying.exists();
            let found = a
                .psql("SELECT count(*) FILTER (WHERE application_name = 'b') FROM pg_stat_replication")
                .await;
            if began && copying.exists() {
                assert_eq!(found, "0", "the copy counts as the member");
                asked += 1;
            }
        }
    };
    let leader = a.as_leader(1);
    let rejoined = tokio::select! {
        rejoined = b.engine.rejoin(&leader, Cloning::IfNeeded) => rejoined,
        () = watched => unreachable!("it watches for ever"),
    };
    assert_eq!(rejoined.unwrap(), Rejoined::Cloned);
    assert!(asked > 0, "nothing was seen of the copy");
    b.answers("SELECT count(*) FROM t", "90").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_time_is_over_is_killed_by_its_guardians_alone() {
    let _machine = machine::shared().await;
    let a = Server::new(Release::Installed, "a").await;
    a.engine.start().await.unwrap();
    let text = std::fs::read_to_string(a.files.data().join("postmaster.pid")).unwrap();
    let postmaster = Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap();
    let first = SystemClock.boot() + Duration::from_secs(2);
    a.engine.abort_at(Some(first));
    a.engine.abort_at(Some(SystemClock.boot() + Duration::from_secs(600)));
    a.engine.abort_at(None);
    let past = first + Duration::from_millis(300);
    wait::until_true(SOON, "the first moment to pass", async || SystemClock.boot() > past).await.unwrap();
    assert!(a.engine.runs(), "its time was prolonged");
    kill_process(postmaster, Signal::STOP).unwrap();
    a.engine.abort_at(Some(SystemClock.boot() + Duration::from_millis(100)));
    tokio::time::timeout(SOON, a.engine.ended()).await.unwrap();
    assert!(!a.engine.runs());
}
