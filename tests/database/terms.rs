//! The terms in the data tell promotions apart. The server's own numbers of its timelines do not.

use component_lease::database::{Cloning, Engine as _, Followed, Rejoined};
use component_lease_testkit::machine;
use component_lease_testkit::postgres::member::{REPLICATOR, Release};

use crate::site::{AT_ONCE, Cluster, Server, any, set};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_promotions_to_one_timeline_are_told_apart_15() {
    let _machine = machine::shared().await;
    two_promotions_to_one_timeline_are_told_apart(Release::Installed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_promotions_to_one_timeline_are_told_apart_18() {
    let _machine = machine::shared().await;
    two_promotions_to_one_timeline_are_told_apart(Release::Eighteen).await;
}

async fn timeline(server: &Server) -> String {
    server.psql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)").await
}

async fn two_promotions_to_one_timeline_are_told_apart(release: Release) {
    let cluster = Cluster::new(release, &["a", "b", "c", "d"]).await;
    let [a, b, c, d] = &cluster.servers[..] else { unreachable!() };
    a.psql("CREATE TABLE t (n int)").await;
    a.psql("INSERT INTO t SELECT generate_series(1, 100)").await;
    a.engine.end(AT_ONCE).await.unwrap();
    for server in [b, c, d] {
        server.engine.seal(2).await.unwrap();
    }
    // One ends when it has its row, and nobody has followed it; another as soon as it was promoted.
    b.engine.promote(2, "b", &set(&["c", "d"])).await.unwrap();
    b.engine.set_names(&any(0, &[])).await.unwrap();
    b.psql("INSERT INTO t VALUES (1001)").await;
    d.psql("SELECT pg_promote()").await;
    let timelines = [timeline(b).await, timeline(d).await];
    for server in [b, d] {
        server.psql("CHECKPOINT").await;
        server.engine.end(AT_ONCE).await.unwrap();
    }
    c.engine.seal(3).await.unwrap();
    cluster.lead_alone(2, 3, &["b", "d"]).await;
    assert_eq!(timelines, [timeline(c).await, timeline(c).await], "nobody knew of another");
    // So their data would look like a beginning of its own.
    c.psql("INSERT INTO t SELECT generate_series(3001, 4000)").await;
    c.psql("CHECKPOINT").await;
    let leader = c.as_leader(3);
    for server in [b, d] {
        server.engine.start().await.unwrap();
        let followed = server.engine.follow(&leader).await.unwrap();
        assert!(matches!(followed, Followed::Diverged { .. }), "{}: {followed:?}", server.name);
        server.engine.end(crate::site::IN_ORDER).await.unwrap();
        // The trap: by its number, it is the same timeline.
        let source = format!("host=127.0.0.1 port={} user={REPLICATOR} dbname=postgres", c.files.port());
        let (target, source) = (
            format!("--target-pgdata={}", server.files.data().display()),
            format!("--source-server={source}"),
        );
        let (done, said) = server.files.run("pg_rewind", &[&target, &source, "--dry-run"]).await.unwrap();
        assert!(done && said.contains("no rewind required"), "{said}");
        let refused = server.engine.rejoin(&leader, Cloning::IfEmpty).await.unwrap_err();
        assert!(
            refused.is_refusal() && refused.to_string().contains("neither knew of the other"),
            "{refused}"
        );
        assert_eq!(server.engine.rejoin(&leader, Cloning::IfNeeded).await.unwrap(), Rejoined::Cloned);
        server.answers("SELECT count(*), count(*) FILTER (WHERE n = 1001) FROM t", "1100|0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_for_one_promotion() {
    let _machine = machine::shared().await;
    let a = Server::new(Release::Installed, "a").await;
    a.engine.start().await.unwrap();
    a.engine.seal(1).await.unwrap();
    a.engine.promote(1, "a", &set(&[])).await.unwrap();
    a.engine.end(AT_ONCE).await.unwrap();
    a.engine.start().await.unwrap();
    a.engine.seal(1).await.unwrap();
    let error = a.engine.promote(1, "a", &set(&[])).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("one promotion"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_more_digits_come_after_those_of_fewer() {
    let _machine = machine::shared().await;
    let a = Server::new(Release::Installed, "a").await;
    for version in [2, 9, 10] {
        a.engine.start().await.unwrap();
        a.engine.seal(version).await.unwrap();
        a.engine.promote(version, "a", &set(&[])).await.unwrap();
        a.engine.end(AT_ONCE).await.unwrap();
    }
    a.engine.start().await.unwrap();
    assert_eq!(a.engine.seal(11).await.unwrap().position.term, 10);
}
