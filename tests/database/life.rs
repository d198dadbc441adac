//! The ordinary life of a member: it starts as a standby, seals itself, leads, follows, ends and comes back.

use std::time::Duration;

use component_lease::SystemClock;
use component_lease::clock::Clock as _;
use component_lease::database::{Cloning, Engine as _, Followed, Rejoined, Role};
use component_lease::primary::Names;
use component_lease_testkit::postgres::member::Release;
use component_lease_testkit::{machine, wait};

use crate::site::{AT_ONCE, Cluster, IN_ORDER, SOON, Server, any, set};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_begins_hands_over_and_takes_its_former_primary_back_15() {
    let _machine = machine::shared().await;
    a_cluster_begins_hands_over_and_takes_its_former_primary_back(Release::Installed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_begins_hands_over_and_takes_its_former_primary_back_18() {
    let _machine = machine::shared().await;
    a_cluster_begins_hands_over_and_takes_its_former_primary_back(Release::Eighteen).await;
}

async fn a_cluster_begins_hands_over_and_takes_its_former_primary_back(release: Release) {
    let began = SystemClock.boot();
    let say = |what: &str| eprintln!("{:7.3} {what}", (SystemClock.boot() - began).as_secs_f64());
    say("begin");
    let cluster = Cluster::new(release, &["a", "b", "c"]).await;
    say("cluster is up");
    let [a, b, c] = &cluster.servers[..] else { unreachable!() };
    a.psql("CREATE TABLE t (n int)").await;
    a.psql("INSERT INTO t SELECT generate_series(1, 1000)").await;
    let beat = a.engine.beat(Duration::from_secs(5)).await.unwrap();
    say("beat");
    let seen = a.engine.observe().await.unwrap();
    assert_eq!(
        (seen.role, seen.position.term, seen.sealed, seen.tampered),
        (Role::Primary, 1, 1, Vec::new())
    );
    assert!(seen.position.end >= beat.end);

    // A planned change: the old one ends in order, the others seal themselves.
    a.engine.end(IN_ORDER).await.unwrap();
    assert!(!a.engine.runs());
    say("ended in order");
    let reports = [b.engine.seal(2).await.unwrap(), c.engine.seal(2).await.unwrap()];
    say("sealed");
    let best = usize::from(reports[1].position > reports[0].position);
    assert_eq!(reports[best].position.term, 1);
    let (primary, other) = if best == 0 { (b, c) } else { (c, b) };
    let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != primary.name).collect();
    let position = primary.engine.promote(2, "somebody", &set(&others)).await.unwrap();
    say("promoted");
    assert_eq!(other.engine.follow(&primary.as_leader(2)).await.unwrap(), Followed::Follows);
    cluster.has(primary, &other.name, position.end).await;
    primary.engine.set_names(&any(1, &others)).await.unwrap();
    say("open");
    assert_eq!(primary.psql("SELECT count(*) FROM t").await, "1000");
    primary.psql("INSERT INTO t VALUES (1001)").await;

    // It had nothing that the new one lacks.
    assert_eq!(a.engine.rejoin(&primary.as_leader(2), Cloning::IfEmpty).await.unwrap(), Rejoined::Followed);
    say("rejoined");
    a.answers("SELECT count(*) FROM t", "1001").await;
    let seen = a.engine.observe().await.unwrap();
    assert_eq!((seen.role, seen.position.term, seen.sealed), (Role::Standby, 2, 2));

    // The second time it has something: it committed what nobody else has, and was killed.
    let (b, c) = (primary, other);
    for server in [a, c] {
        server.engine.seal(3).await.unwrap();
    }
    b.engine.set_names(&any(0, &[])).await.unwrap();
    b.psql("INSERT INTO t SELECT generate_series(2000, 2999)").await;
    b.engine.end(AT_ONCE).await.unwrap();
    say("killed");
    let reports = [a.engine.seal(3).await.unwrap(), c.engine.seal(3).await.unwrap()];
    let (next, last) = if reports[1].position > reports[0].position { (c, a) } else { (a, c) };
    let position = next.engine.promote(3, "another", &set(&[&last.name, &b.name])).await.unwrap();
    assert_eq!(last.engine.follow(&next.as_leader(3)).await.unwrap(), Followed::Follows);
    cluster.has(next, &last.name, position.end).await;
    next.engine.set_names(&any(1, &[&last.name, &b.name])).await.unwrap();
    say("open again");
    next.psql("INSERT INTO t SELECT generate_series(5000, 5009)").await;
    let came = b.engine.rejoin(&next.as_leader(3), Cloning::IfEmpty).await;
    assert_eq!(came.unwrap_or_else(|error| panic!("{error}\n{}", b.files.log())), Rejoined::Rewound);
    say("rewound");
    for server in [a, b, c] {
        server.answers("SELECT count(*), sum(n) FROM t", "1011|551546").await;
        let sum = server.psql("SELECT md5(string_agg(n::text, ',' ORDER BY n)) FROM t").await;
        assert_eq!(sum, next.psql("SELECT md5(string_agg(n::text, ',' ORDER BY n)) FROM t").await);
    }
    say("equal");
    for server in &cluster.servers {
        server.engine.end(AT_ONCE).await.unwrap();
    }
    say("ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_server_acknowledges_nothing_until_it_has_names() {
    let _machine = machine::shared().await;
    let a = Server::new(Release::Installed, "a").await;
    a.engine.start().await.unwrap();
    a.engine.seal(7).await.unwrap();
    a.engine.promote(7, "somebody", &set(&["b"])).await.unwrap();
    let beat = a.engine.beat(Duration::from_millis(300)).await;
    assert!(!beat.unwrap_err().is_refusal());
    assert_eq!(a.psql("SELECT version, holder, beat_seq FROM component_lease_primary").await, "7|somebody|1");
    assert_eq!(
        a.psql("SHOW component_lease.primary_version").await,
        "7",
        "clients can tell which primary is later"
    );
    a.engine.set_names(&any(0, &[])).await.unwrap();
    let first = a.engine.beat(Duration::from_secs(5)).await.unwrap();
    let second = a.engine.beat(Duration::from_secs(5)).await.unwrap();
    assert!(
        first.seq >= 2 && second.seq == first.seq + 1 && second.began > first.began,
        "{first:?} {second:?}"
    );
    a.engine.set_names(&Names::Nobody).await.unwrap();
    a.engine.beat(Duration::from_millis(300)).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_goes_on_under_a_later_version_and_only_who_is_sealed_at_that_receives() {
    let _machine = machine::shared().await;
    for release in [Release::Installed, Release::Eighteen] {
        let cluster = Cluster::new(release, &["a", "b"]).await;
        let [a, b] = &cluster.servers[..] else { unreachable!() };
        for error in [
            a.engine.go_on(1, "a", &set(&["b"])).await.unwrap_err(),
            b.engine.go_on(3, "b", &set(&["a"])).await.unwrap_err(),
        ] {
            assert!(error.is_refusal() && error.to_string().contains("cannot go on"), "{error}");
        }
        let slot = b.psql("SELECT current_setting('primary_slot_name')").await;
        // The other member has heard of the later version first: a write that waits for it waits for ever.
        b.engine.seal(2).await.unwrap();
        a.engine.beat(Duration::from_millis(300)).await.unwrap_err();
        a.engine.go_on(2, "once", &set(&["b"])).await.unwrap();
        assert_eq!(b.engine.follow(&a.as_leader(2)).await.unwrap(), Followed::Follows);
        let later = b.psql("SELECT current_setting('primary_slot_name')").await;
        assert_ne!(slot, later);
        a.engine.beat(SOON).await.unwrap();
        let slot = later;
        a.engine.go_on(3, "again", &set(&["b"])).await.unwrap();
        let seen = a.engine.observe().await.unwrap();
        assert_eq!((seen.role, seen.sealed, seen.position.term), (Role::Primary, 3, 3));
        let refusal = format!("replication slot \"{slot}\" does not exist");
        wait::until_true(SOON, "the standby to be refused", async || b.files.log().contains(&refusal))
            .await
            .unwrap();
        a.engine.beat(Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(b.engine.observe().await.unwrap().position.term, 2);
        assert_eq!(b.engine.follow(&a.as_leader(3)).await.unwrap(), Followed::Follows);
        assert_eq!(a.engine.beat(SOON).await.unwrap().acks, 1);
        b.answers("SELECT version, holder FROM component_lease_primary", "3|again").await;
        // A member that comes back finds the same timeline under both versions.
        b.engine.end(IN_ORDER).await.unwrap();
        assert_eq!(b.engine.rejoin(&a.as_leader(3), Cloning::IfEmpty).await.unwrap(), Rejoined::Followed);
    }
}
