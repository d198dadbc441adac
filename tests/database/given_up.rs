//! What is begun and not brought to its end: a start, a repair, a copy.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use component_lease::database::{Cloning, Engine as _, EngineError, Rejoined};
use component_lease_testkit::machine;
use component_lease_testkit::postgres::member::{Member, Release};

use crate::site::{AT_ONCE, Cluster, IN_ORDER, Server, set};

/// Works at it until this is so, and gives it up.
async fn given_up<T>(work: impl Future<Output = Result<T, EngineError>>, once: impl Fn() -> bool) {
    let mut work = pin!(work);
    // Programs go on while the work waits for their end.
    let mut look = tokio::time::interval(Duration::from_millis(1));
    std::future::poll_fn(|context| {
        while look.poll_tick(context).is_ready() {}
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            panic!("it has come to its end: {:?}", done.map(drop));
        }
        if once() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_start_was_given_up_is_looked_at_before_it_is_used() {
    let _machine = machine::shared().await;
    let files = Member::new(Release::Installed).await.unwrap();
    files.set("synchronous_commit = local\n").unwrap();
    let a = Server::of(files, "a");
    given_up(a.engine.start(), || a.engine.runs()).await;
    let error = a.engine.seal(1).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("synchronous_commit"), "{error}");
    assert!(!a.engine.runs(), "what was refused does not run on");
    a.files.set("synchronous_commit = on\n").unwrap();
    given_up(a.engine.start(), || a.engine.runs()).await;
    a.engine.start().await.unwrap();
    assert_eq!(a.engine.seal(1).await.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_a_repair_may_use_is_ended_when_the_repair_was_given_up() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a", "b"]).await;
    let [a, b] = &cluster.servers[..] else { unreachable!() };
    b.engine.end(IN_ORDER).await.unwrap();
    given_up(b.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty), || b.engine.runs()).await;
    let error = b.engine.follow(&a.as_leader(1)).await.unwrap_err();
    assert!(!error.is_refusal() && error.to_string().contains("given up"), "{error}");
    assert!(!b.engine.runs());
    assert_eq!(b.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty).await.unwrap(), Rejoined::Followed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_given_up_is_made_anew_and_what_others_have_put_there_stays() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a", "b"]).await;
    let [a, b] = &cluster.servers[..] else { unreachable!() };
    a.psql("CREATE TABLE t AS SELECT generate_series(1, 100000) n").await;
    b.engine.end(AT_ONCE).await.unwrap();
    let copying = b.files.folder().join("data.copying");
    std::fs::create_dir(&copying).unwrap();
    std::fs::write(copying.join("precious"), "").unwrap();
    let leader = a.as_leader(1);
    let error = b.engine.rejoin(&leader, Cloning::Always).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("in the way"), "{error}");
    std::fs::remove_file(copying.join("precious")).unwrap();
    given_up(b.engine.rejoin(&leader, Cloning::Always), || copying.join("base").exists()).await;
    assert_eq!(b.engine.rejoin(&leader, Cloning::Always).await.unwrap(), Rejoined::Cloned);
    b.answers("SELECT count(*) FROM t", "100000").await;
    assert!(!copying.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_with_tablespaces_is_not_copied_over_what_is_at_their_paths() {
    let _machine = machine::shared().await;
    let cluster = Cluster::new(Release::Installed, &["a"]).await;
    let a = &cluster.servers[0];
    let space = a.files.folder().join("space");
    let make = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir {}'", space.display());
    a.psql(&make).await;
    a.psql(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", space.display())).await;
    a.engine.expect(&set(&["new"])).await.unwrap();
    let new = Server::of(Member::empty(Release::Installed).await.unwrap(), "new");
    let error = new.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("tablespaces elsewhere"), "{error}");
    a.psql("DROP TABLESPACE elsewhere").await;
    assert_eq!(new.engine.rejoin(&a.as_leader(1), Cloning::IfEmpty).await.unwrap(), Rejoined::Cloned);
}
