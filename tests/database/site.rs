//! Members of a cluster of PostgreSQL, each with its engine in this very process.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use component_lease::SystemClock;
use component_lease::database::postgres::{Config, Peers, Postgres, Programs};
use component_lease::database::{End, Engine as _, Followed, Leader};
use component_lease::primary::{Names, Quorum};
use component_lease::supervise::children::Children;
use component_lease_testkit::postgres::member::{Member, REPLICATOR, Release};
use component_lease_testkit::wait;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server that may not answer any more.
pub(crate) const AT_ONCE: End = End::AtOnce { grace: Duration::from_millis(500) };
pub(crate) const IN_ORDER: End = End::InOrder { within: Duration::from_secs(20) };

/// One member: its files and its engine.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) files: Member,
    pub(crate) engine: Postgres,
}

impl Server {
    pub(crate) async fn new(release: Release, name: &str) -> Self {
        Self::of(Member::new(release).await.unwrap(), name)
    }

    pub(crate) fn of(files: Member, name: &str) -> Self {
        Self::with(files, name, |_| {})
    }

    pub(crate) fn with(files: Member, name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let engine = engine(&files, name, change);
        Self { name: name.to_owned(), files, engine }
    }

    /// Another supervisor of the same member.
    pub(crate) fn again(&self) -> Postgres {
        engine(&self.files, &self.name, |_| {})
    }

    /// How others reach it as the primary of this version.
    pub(crate) fn as_leader(&self, version: i64) -> Leader {
        Leader { member: self.name.clone(), version, host: "127.0.0.1".to_owned(), port: self.files.port() }
    }

    pub(crate) async fn psql(&self, sql: &str) -> String {
        self.files
            .psql(sql)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:#}\n{}", self.name, self.files.log()))
    }

    /// Waits until a question has this answer.
    pub(crate) async fn answers(&self, sql: &str, answer: &str) {
        wait::until_true(SOON, format!("{sql} to be {answer} at {}", self.name), async || {
            self.files.psql(sql).await.is_ok_and(|found| found == answer)
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.files.log()));
    }
}

pub(crate) fn engine(files: &Member, name: &str, change: impl FnOnce(&mut Config)) -> Postgres {
    let (prefix, folder) = files.programs();
    let mut config = Config {
        member: name.to_owned(),
        data: files.data(),
        command: files.command(),
        programs: Programs { prefix, folder: Some(folder) },
        user: "postgres".to_owned(),
        database: "postgres".to_owned(),
        peers: Peers {
            user: REPLICATOR.to_owned(),
            password_file: Some(files.password_file()),
            tls_mode: Some("disable".to_owned()),
            ..Peers::default()
        },
        system: None,
        guardian: Some(env!("CARGO_BIN_EXE_component-lease").into()),
        output: Some(files.log_file()),
    };
    change(&mut config);
    Postgres::new(config, Children::among_others().unwrap(), Arc::new(SystemClock)).unwrap()
}

/// Any `acks` of these.
pub(crate) fn any(acks: usize, voters: &[&str]) -> Names<String> {
    Names::Quorum(Quorum::any(acks, voters.iter().map(|voter| (*voter).to_owned()).collect()).unwrap())
}

pub(crate) fn set(members: &[&str]) -> BTreeSet<String> {
    members.iter().map(|member| (*member).to_owned()).collect()
}

/// The processes whose working folder is this data directory: PostgreSQL's are, whatever their parents and groups.
pub(crate) fn processes_in(data: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter(|entry| {
        std::fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.ends_with(data.strip_prefix("/").unwrap()))
    })
    .count()
}

/// A primary of version 1 and its standbys.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    /// `a` is the primary, open with any one of the others.
    pub(crate) async fn new(release: Release, names: &[&str]) -> Self {
        let mut servers = Vec::new();
        for name in names {
            servers.push(Server::new(release, name).await);
        }
        let cluster = Self { servers };
        futures_of(cluster.servers.iter().map(|server| async {
            server.engine.start().await.unwrap_or_else(|error| panic!("{error}\n{}", server.files.log()));
            server.engine.seal(1).await.unwrap();
        }))
        .await;
        cluster.lead(0, 1).await;
        cluster
    }

    /// Makes one the primary of a version at which all are sealed, lets the others follow, and opens it.
    pub(crate) async fn lead(&self, which: usize, version: i64) {
        let primary = &self.servers[which];
        let others: Vec<&Server> = self.servers.iter().filter(|server| server.name != primary.name).collect();
        let names: BTreeSet<String> = others.iter().map(|server| server.name.clone()).collect();
        let began = primary.engine.promote(version, &primary.name, &names).await;
        let began = began.unwrap_or_else(|error| panic!("{error}\n{}", primary.files.log()));
        for server in &others {
            let followed = server.engine.follow(&primary.as_leader(version)).await;
            assert_eq!(
                followed.unwrap_or_else(|error| panic!("{error}\n{}", server.files.log())),
                Followed::Follows
            );
        }
        if others.is_empty() {
            primary.engine.set_names(&any(0, &[])).await.unwrap();
            return;
        }
        for server in &others {
            self.has(primary, &server.name, began.end).await;
        }
        let voters: Vec<&str> = names.iter().map(String::as_str).collect();
        primary.engine.set_names(&any(1, &voters)).await.unwrap();
    }

    /// As [`Cluster::lead`], open without anybody, though the others may follow.
    pub(crate) async fn lead_alone(&self, which: usize, version: i64, others: &[&str]) {
        let primary = &self.servers[which];
        primary.engine.promote(version, &primary.name, &set(others)).await.unwrap();
        primary.engine.set_names(&any(0, &[])).await.unwrap();
    }

    /// Waits until a member has the log up to there.
    pub(crate) async fn has(&self, primary: &Server, member: &str, end: u64) {
        let logs = || -> String {
            self.servers.iter().flat_map(|server| [server.name.clone(), server.files.log()]).collect()
        };
        wait::until_true(SOON, format!("{member} to have the log up to {end}"), async || {
            primary.engine.progress().await.is_ok_and(|all| all.get(member).is_some_and(|has| *has >= end))
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    }
}

async fn futures_of(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
