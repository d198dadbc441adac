//! Two that bear one name, and a store that somebody has restored: what members know by themselves.

use std::sync::Arc;

use component_lease::ComponentName;
use component_lease::member::{Ended, State};
use component_lease::store::{LeaseStore as _, Roster as _};
use component_lease_testkit::postgres::member::{Member, Release};
use component_lease_testkit::wait;
use serde_json::Value;

use crate::members::{Cluster, NAMES, Running, written};
use crate::site::{SOON, set};

fn component() -> ComponentName {
    ComponentName::new("orders-db").unwrap()
}

async fn record(cluster: &Cluster) -> Value {
    let found = cluster.store.read_roster(&component(), &set(&[])).await.unwrap();
    serde_json::from_str(&found.record.unwrap_or_default()).unwrap_or_default()
}

fn others(primary: &str) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| *name != primary).collect()
}

fn of(cluster: &Cluster, name: &str) -> usize {
    cluster.members.iter().position(|member| member.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_supervisors_that_bear_one_name_the_one_that_the_record_does_not_name_ends() {
    let cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let standbys = others(cluster.members[at].name);
    cluster.recorded(&standbys).await;
    let before = record(&cluster).await;
    for name in [standbys[0], cluster.members[at].name] {
        let files = Arc::new(Member::new(Release::Installed).await.unwrap());
        let twin = Running::start(&cluster.store, name, Arc::clone(&files), &NAMES);
        let ended = tokio::time::timeout(SOON, twin.task).await.expect("it ends by itself").unwrap();
        assert_eq!(ended, Ended::GaveWay, "{name}: {}", files.log());
    }
    let (again, same) = cluster.whole(0).await;
    assert_eq!((again, same, record(&cluster).await), (at, version, before), "{}", cluster.logs());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_directory_under_an_old_name_counts_once_the_record_names_it() {
    let mut cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let standbys = others(cluster.members[at].name);
    cluster.recorded(&standbys).await;
    let name = standbys[0];
    let old = record(&cluster).await["identities"][name].clone();
    assert!(old.as_str().is_some_and(|identity| identity.len() == 12), "{old}");
    let gone = of(&cluster, name);
    cluster.members.remove(gone).stop().await;
    let files = Arc::new(Member::new(Release::Installed).await.unwrap());
    cluster.members.push(Running::start(&cluster.store, name, files, &NAMES));
    wait::until_true(SOON * 2, "the new directory to be recorded", async || {
        let record = record(&cluster).await;
        record["voters"] == serde_json::json!(standbys) && record["identities"][name] != old
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    assert_eq!(cluster.whole(0).await.1, version);
    // The servers tell the two apart, too.
    let primary = cluster.members.iter().find(|member| member.state() == State::Primary(version)).unwrap();
    let names = primary.files.psql("SHOW synchronous_standby_names").await.unwrap();
    assert!(names.contains(&format!("{name}@")) && !names.contains(old.as_str().unwrap()), "{names}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_somebody_has_put_back_to_an_older_one_is_written_anew_by_the_primary() {
    let mut cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = cluster.members[at].name;
    let standbys = others(primary);
    cluster.recorded(&standbys).await;
    let older = cluster.store.copy();
    let away = of(&cluster, standbys[0]);
    cluster.members.remove(away).stop().await;
    cluster.recorded(&standbys[1..]).await;
    cluster.store.reload(older);
    cluster.recorded(&standbys[1..]).await;
    assert_eq!(cluster.members[of(&cluster, primary)].state(), State::Primary(version), "{}", cluster.logs());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_promoted_by_a_record_that_is_older_than_the_one_that_it_knows() {
    let (mut cluster, writer, at, version) = written().await;
    let first = cluster.members[at].name;
    cluster.recorded(&others(first)).await;
    // By this record the first primary alone has all that was acknowledged.
    let older = cluster.store.copy();
    cluster.members[at].supervisor.participant().step_down();
    let (next, _) = cluster.whole(version).await;
    assert_ne!(next, at);
    cluster.recorded(&others(cluster.members[next].name)).await;
    let left = cluster.members.remove(at);
    let files = Arc::clone(&left.files);
    left.stop().await;
    // It does not have these.
    writer.more(5, &cluster).await;
    writer.task.abort();
    let mut away = Vec::new();
    for member in cluster.members.drain(..) {
        away.push((member.name, Arc::clone(&member.files)));
        member.stop().await;
    }
    cluster.store.reload(older);
    cluster.members.push(Running::start(&cluster.store, first, files, &NAMES));
    wait::until_true(SOON * 2, "it to hold the lease", async || {
        let row = cluster.store.look(&component()).await.unwrap().row.unwrap();
        row.version > version && row.holder.starts_with(first)
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    for (name, files) in away {
        cluster.members.push(Running::start(&cluster.store, name, files, &NAMES));
    }
    let (at, _) = cluster.whole(version).await;
    writer.has_lost_nothing(&cluster, at).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_list_of_members_is_not_that_of_the_record_is_not_promoted() {
    let mut cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = cluster.members[at].name;
    let standbys = others(primary);
    let [odd, right] = standbys[..] else { unreachable!() };
    let gone = cluster.members.remove(of(&cluster, odd));
    let files = Arc::clone(&gone.files);
    gone.stop().await;
    cluster.members.push(Running::start(&cluster.store, odd, files, &["a", "b", "c", "d"]));
    cluster.recorded(&standbys).await;
    // It would be preferred: the other one is asked to stay away.
    cluster.members[of(&cluster, primary)].supervisor.participant().step_down();
    let (next, _) = cluster.whole(version).await;
    assert_eq!(cluster.members[next].name, right, "{}", cluster.logs());
    let component = component();
    let odds = cluster.store.look(&component).await.unwrap().row.unwrap();
    assert!(odds.holder.starts_with(right), "{odds:?}");
    let is_said = cluster.members[of(&cluster, right)].supervisor.standing().unwrap();
    assert_eq!(is_said.said[odd].members, set(&["a", "b", "c", "d"]));
    cluster.stop().await;
}

/// The first process of this program that works on this folder.
fn process_of(program: &str, folder: &std::path::Path) -> Option<String> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut found = all.filter(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let mut words = words.split('\0');
        words.next().is_some_and(|first| first.ends_with(program))
            && words.any(|word| std::path::Path::new(word) == folder)
    });
    Some(found.next()?.file_name().to_string_lossy().into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_gives_that_up_when_the_lease_moves_on() {
    let mut cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = cluster.members[at].name;
    cluster.members[at].files.psql("CREATE TABLE big AS SELECT generate_series(1, 300000) n").await.unwrap();
    let [name, next] = others(primary)[..] else { unreachable!() };
    let gone = cluster.members.remove(of(&cluster, name));
    let files = Arc::clone(&gone.files);
    gone.stop().await;
    cluster.recorded(&[next]).await;
    std::fs::remove_dir_all(files.data()).unwrap();
    cluster.members.push(Running::start(&cluster.store, name, Arc::clone(&files), &NAMES));
    // Its copy stands still, for a day if need be.
    let copying = files.folder().join("data.copying");
    let frozen = async {
        loop {
            let found = process_of("pg_basebackup", &copying);
            if let Some(found) = found.filter(|_| copying.join("base").exists()) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let frozen = tokio::time::timeout(SOON * 2, frozen).await.expect("the copy to begin");
    assert!(std::process::Command::new("kill").args(["-STOP", &frozen]).status().unwrap().success());
    cluster.members[of(&cluster, primary)].supervisor.participant().step_down();
    let (now, _) = cluster.whole(version).await;
    assert_eq!(cluster.members[now].name, next, "{}", cluster.logs());
    cluster.stop().await;
}
