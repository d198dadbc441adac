//! Members that elect their primary among themselves: three servers, three supervisors, one lease.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use component_lease::clock::Clock as _;
use component_lease::database::Cloning;
use component_lease::database::postgres::{Postgres, identity};
use component_lease::member::{Ended, Settings, State, Supervisor};
use component_lease::participant::Participant;
use component_lease::store::{LeaseStore, MemoryStore, Roster as _};
use component_lease::{ComponentName, SystemClock};
use component_lease_testkit::postgres::member::{Member, Release};
use component_lease_testkit::wait;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cut::Cut;
use crate::site::{SOON, engine, processes_in, set};

/// Seconds; long enough for a busy machine to renew in time.
pub(crate) const TTL: u64 = 5;

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Running {
    pub(crate) name: &'static str,
    pub(crate) store: Cut,
    pub(crate) files: Arc<Member>,
    pub(crate) supervisor: Arc<Supervisor<Postgres>>,
    /// Dropped, it stops; used, the supervisor panics.
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<Ended>,
}

/// Also while another process of it ends.
fn identity_of(files: &Member) -> String {
    let kept = std::fs::read_to_string(files.folder().join("data.component-lease/identity"));
    let first = kept.ok().and_then(|text| Some(text.lines().next()?.strip_prefix("identity ")?.to_owned()));
    first.unwrap_or_else(|| identity(&files.data()).unwrap())
}

impl Running {
    pub(crate) fn start(
        store: &Arc<MemoryStore>,
        name: &'static str,
        files: Arc<Member>,
        members: &[&str],
    ) -> Self {
        let component = ComponentName::new("orders-db").unwrap();
        let settings = Settings {
            component: component.clone(),
            member: name.to_owned(),
            identity: identity_of(&files),
            members: set(members),
            host: "127.0.0.1".to_owned(),
            port: files.port(),
            acks: 1,
            cloning: Cloning::IfEmpty,
        };
        let cut = Cut::new(Arc::clone(store));
        let participant = Participant::builder(Arc::new(cut.clone()) as Arc<dyn LeaseStore>, component)
            .name(name)
            .healthy(false)
            .ttl(Duration::from_secs(TTL))
            .max_ttl(Duration::from_secs(TTL))
            .on_overrun(|_| {})
            .start()
            .unwrap();
        let engine = engine(&files, &settings.bearer(), |_| {});
        let clock = Arc::new(SystemClock);
        let supervisor =
            Arc::new(Supervisor::new(settings, engine, Arc::new(cut.clone()) as _, participant, clock));
        let (stop, stopped) = oneshot::channel();
        let works = Arc::clone(&supervisor);
        let task = tokio::spawn(async move {
            let stop = async {
                assert!(stopped.await.is_err(), "as a mistake in a program would");
            };
            works.run(stop).await.unwrap()
        });
        Self { name, store: cut, files, supervisor, stop: Some(stop), task }
    }

    pub(crate) fn state(&self) -> State {
        *self.supervisor.state().borrow()
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        assert_eq!(self.task.await.unwrap(), Ended::Stopped);
    }
}

pub(crate) struct Cluster {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) members: Vec<Running>,
}

impl Cluster {
    pub(crate) async fn new(release: Release) -> Self {
        Self::on(release, Arc::new(MemoryStore::new(Arc::new(SystemClock)))).await
    }

    async fn on(release: Release, store: Arc<MemoryStore>) -> Self {
        let mut files = Vec::new();
        for name in NAMES {
            files.push((name, Arc::new(Member::new(release).await.unwrap())));
        }
        Self::of(files, store)
    }

    fn of(files: Vec<(&'static str, Arc<Member>)>, store: Arc<MemoryStore>) -> Self {
        let members = files.into_iter().map(|(name, files)| Running::start(&store, name, files, &NAMES));
        Self { members: members.collect(), store }
    }

    pub(crate) fn logs(&self) -> String {
        self.members
            .iter()
            .flat_map(|member| {
                [
                    format!(
                        "== {} {:?}
",
                        member.name,
                        member.state()
                    ),
                    member.files.log(),
                ]
            })
            .collect()
    }

    /// Waits until there is a primary after this version with two that follow it.
    pub(crate) async fn whole(&self, after: i64) -> (usize, i64) {
        wait::until(SOON * 2, "a primary with two that follow it", async || {
            let primary = self.members.iter().enumerate().find_map(|(at, member)| match member.state() {
                State::Primary(version) if version > after => Some((at, version)),
                _ => None,
            });
            let Some((at, version)) = primary else { return Ok(None) };
            let follow =
                self.members.iter().filter(|member| member.state() == State::Follows(version)).count();
            Ok((follow == 2).then_some((at, version)))
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()))
    }

    /// Waits until these are the voters of the record.
    pub(crate) async fn recorded(&self, voters: &[&str]) {
        let component = ComponentName::new("orders-db").unwrap();
        wait::until_true(SOON * 2, format!("{voters:?} to be recorded"), async || {
            let record =
                self.store.read_roster(&component, &set(&[])).await.unwrap().record.unwrap_or_default();
            let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
            record["voters"] == serde_json::json!(voters)
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    pub(crate) async fn stop(self) {
        for member in self.members {
            member.stop().await;
        }
    }
}

/// The server's first process; what is left of it goes on until somebody ends it.
fn kill(files: &Member) {
    let text = std::fs::read_to_string(files.data().join("postmaster.pid")).unwrap();
    let pid = text.lines().next().unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
}

/// Writes one row after the other to whichever server takes it.
pub(crate) struct Writer {
    /// The rows that were acknowledged, and when.
    acknowledged: Arc<Mutex<Vec<(u64, Duration)>>>,
    pub(crate) task: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(files: Vec<Arc<Member>>) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let done = Arc::clone(&acknowledged);
        let task = tokio::spawn(async move {
            let mut at = 0;
            for number in 1_u64.. {
                let insert =
                    format!("SET statement_timeout = '500ms'; INSERT INTO written VALUES ({number})");
                match tokio::time::timeout(Duration::from_secs(2), files[at].psql(&insert)).await {
                    Ok(Ok(_)) => done.lock().unwrap().push((number, SystemClock.boot())),
                    _ => at = (at + 1) % files.len(),
                }
            }
        });
        Self { acknowledged, task }
    }

    fn so_far(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    /// The longest time without any, since then.
    pub(crate) fn longest_pause(&self, since: Duration) -> Duration {
        let mut all: Vec<Duration> = self.acknowledged.lock().unwrap().iter().map(|(_, at)| *at).collect();
        all.retain(|at| *at >= since);
        all.windows(2).map(|two| two[1] - two[0]).max().unwrap()
    }

    /// All that was acknowledged so far is there.
    pub(crate) async fn has_lost_nothing(&self, cluster: &Cluster, at: usize) {
        let acknowledged = self.so_far();
        let found = cluster.members[at].files.psql("SELECT n FROM written").await.unwrap();
        let found: BTreeSet<u64> = found.lines().map(|line| line.parse().unwrap()).collect();
        let lost: Vec<u64> = acknowledged.iter().copied().filter(|one| !found.contains(one)).collect();
        assert!(lost.is_empty(), "lost {lost:?} of {}\n{}", acknowledged.len(), cluster.logs());
    }

    /// Waits for so many more.
    pub(crate) async fn more(&self, rows: usize, cluster: &Cluster) {
        let before = self.so_far().len();
        wait::until_true(SOON * 2, format!("{rows} more rows to be acknowledged"), async || {
            self.so_far().len() >= before + rows
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_or_steps_down_is_replaced_without_loss_and_comes_back_15() {
    a_primary_that_is_killed_or_steps_down_is_replaced_without_loss_and_comes_back(Release::Installed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_or_steps_down_is_replaced_without_loss_and_comes_back_18() {
    a_primary_that_is_killed_or_steps_down_is_replaced_without_loss_and_comes_back(Release::Eighteen).await;
}

async fn a_primary_that_is_killed_or_steps_down_is_replaced_without_loss_and_comes_back(release: Release) {
    let cluster = Cluster::new(release).await;
    let (mut at, mut version) = cluster.whole(0).await;
    cluster.members[at].files.psql("CREATE TABLE written (n int)").await.unwrap();
    let files: Vec<Arc<Member>> = cluster.members.iter().map(|member| Arc::clone(&member.files)).collect();
    let writer = Writer::start(files);
    for fault in ["killed", "asked to step down", "killed"] {
        writer.more(5, &cluster).await;
        let primary = &cluster.members[at];
        match fault {
            "killed" => kill(&primary.files),
            _ => primary.supervisor.participant().step_down(),
        }
        (at, version) = cluster.whole(version).await;
        writer.more(5, &cluster).await;
        writer.has_lost_nothing(&cluster, at).await;
    }
    writer.task.abort();
    // All three have the same in the end: also what was written and not acknowledged.
    let sum = "SELECT md5(string_agg(n::text, ',' ORDER BY n)) FROM written";
    wait::until_true(SOON, "all to have the same", async || {
        let mut sums = BTreeSet::new();
        for member in &cluster.members {
            sums.insert(member.files.psql(sum).await.ok());
        }
        sums.len() == 1 && !sums.contains(&None)
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_standby_away_the_other_alone_is_recorded_and_replaces_the_primary_without_loss() {
    let mut cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    let primary = cluster.members[at].name;
    let mut others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != primary).collect();
    cluster.recorded(&others).await;
    let away = others.pop().unwrap();
    let away = cluster.members.iter().position(|member| member.name == away).unwrap();
    let away = cluster.members.remove(away);
    let (name, files) = (away.name, Arc::clone(&away.files));
    away.stop().await;
    cluster.recorded(&others).await;
    let of = |cluster: &Cluster, name: &str| {
        cluster.members.iter().position(|member| member.name == name).unwrap()
    };
    cluster.members[of(&cluster, primary)]
        .files
        .psql("CREATE TABLE written AS SELECT generate_series(1, 100) n")
        .await
        .unwrap();
    kill(&cluster.members[of(&cluster, primary)].files);
    // The one that is left was promoted, and the killed one follows it: only then is anything acknowledged.
    let next = others[0];
    wait::until_true(
        SOON * 2,
        format!("{next} to be open"),
        async || matches!(cluster.members[of(&cluster, next)].state(), State::Primary(now) if now > version),
    )
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    let count = "SELECT count(*) FROM written";
    assert_eq!(cluster.members[of(&cluster, next)].files.psql(count).await.unwrap(), "100");
    // The one that was away comes back by itself, and counts again.
    let store = Arc::clone(&cluster.store);
    cluster.members.push(Running::start(&store, name, files, &NAMES));
    let mut voters = vec![primary, name];
    voters.sort_unstable();
    cluster.recorded(&voters).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_is_dropped_or_panics_ends_its_primary_before_its_lease_is_released() {
    let mut cluster = Cluster::new(Release::Installed).await;
    let component = ComponentName::new("orders-db").unwrap();
    let mut version = 0;
    for panics in [false, true] {
        let at;
        (at, version) = cluster.whole(version).await;
        let Running { name, files, supervisor, stop, task, .. } = cluster.members.remove(at);
        if panics {
            stop.unwrap().send(()).unwrap();
            assert!(task.await.unwrap_err().is_panic());
        } else {
            task.abort();
            drop((supervisor, stop));
        }
        let released = async {
            loop {
                let row = cluster.store.look(&component).await.unwrap().row.unwrap();
                if row.is_free() || row.version > version {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, released).await.expect("the lease to be released");
        assert_eq!(processes_in(&files.data()), 0, "panics: {panics}");
        let store = Arc::clone(&cluster.store);
        cluster.members.insert(at, Running::start(&store, name, files, &NAMES));
    }
    cluster.whole(version).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_was_deleted_with_all_beside_it_begins_above_what_members_are_sealed_at() {
    // Nobody takes a lease that is gone for as long as any may last.
    let new = || Arc::new(MemoryStore::with_max_ttl(Arc::new(SystemClock), Duration::from_secs(TTL)));
    let store = new();
    // As after a thousand terms.
    store.begin_above(&ComponentName::new("orders-db").unwrap(), 1000);
    let mut cluster = Cluster::on(Release::Installed, store).await;
    cluster.whole(1000).await;
    let mut files = Vec::new();
    for member in cluster.members.drain(..) {
        files.push((member.name, Arc::clone(&member.files)));
        member.stop().await;
    }
    let cluster = Cluster::of(files, new());
    cluster.whole(1001).await;
    cluster.stop().await;
}

/// A cluster with a writer, and its primary.
pub(crate) async fn written() -> (Cluster, Writer, usize, i64) {
    let cluster = Cluster::new(Release::Installed).await;
    let (at, version) = cluster.whole(0).await;
    cluster.members[at].files.psql("CREATE TABLE written (n int)").await.unwrap();
    let files = cluster.members.iter().map(|member| Arc::clone(&member.files)).collect();
    let writer = Writer::start(files);
    writer.more(5, &cluster).await;
    (cluster, writer, at, version)
}

pub(crate) fn first_process(files: &Member) -> String {
    let text = std::fs::read_to_string(files.data().join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().to_owned()
}
