//! Why each term ended, as the history tells it afterwards: participants that are stopped, killed, cut off and asked, on
//! each kind of server. And that nothing depends on it.

#![expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use component_lease::election::{HolderId, Request, Verb};
use component_lease::participant::Participant;
use component_lease::store::{self, Directory, EndReason, Install, Outcome, Said, Source, Term};
use component_lease_testkit::{machine, postgres, wait};
use rustix::process::Signal;

use crate::agent_support::{PATIENCE, Rig, Running, free_address, program, until};
use crate::servers::{Machine, Make, on_servers};
use crate::store_postgres::migrated;
use crate::store_postgres_access::Role;
use crate::stores::{component, row, take, taking, term};

/// Seconds.
const TTL: u32 = 4;
const SOON: Duration = Duration::from_secs(60);

fn participant(url: String, name: &str) -> Participant {
    Participant::builder(store::open(Source::url(url), "ends").unwrap(), component("c"))
        .name(name)
        .ttl(Duration::from_secs(TTL.into()))
        .max_ttl(Duration::from_secs(TTL.into()))
        .on_overrun(|_| {})
        .start()
        .unwrap()
}

async fn leads(participant: &Participant, version: i64) {
    wait::until_true(SOON, format!("{} to lead version {version}", participant.holder()), async || {
        participant.term().is_some_and(|term| term.version() == version)
    })
    .await
    .unwrap();
}

async fn follows(participant: &Participant, version: i64) {
    wait::until_true(SOON, "a follower", async || {
        participant.watch().borrow().row.as_ref().is_some_and(|row| row.version == version)
    })
    .await
    .unwrap();
}

/// The term of this version, once its end is written.
async fn ended(eye: &dyn Directory, version: i64) -> Term {
    wait::until(SOON, format!("the end of version {version}"), async || {
        let terms = eye.history(&component("c"), Some(version + 1), 1).await?;
        Ok(terms.into_iter().next().filter(|term| term.version == version && term.end.is_some()))
    })
    .await
    .unwrap()
}

fn said() -> Said {
    Said::new("ada@example.org", "an upgrade").unwrap()
}

async fn ask(
    eye: &dyn Directory,
    verb: Verb,
    version: i64,
    target: Option<&HolderId>,
    replaces: Option<&str>,
) {
    let (id, away) = (format!("r{version}"), Duration::from_secs(1));
    let request = Request { id, verb, version, target: target.cloned(), away };
    let c = component("c");
    assert_eq!(eye.ask(&c, &request, &said(), replaces).await.unwrap(), Outcome::Applied);
    eye.notify(&c).await.unwrap();
}

async fn each_end_of_a_term_is_told_with_its_reason(make: Make) {
    let server = Machine::start(make).await;
    let install = Install::default().first(true).max_ttl(Duration::from_secs(TTL.into()));
    store::install(&Source::url(server.url()), install).await.unwrap();
    let eye: Arc<dyn Directory> = store::open(Source::url(server.url()), "eye").unwrap();
    let reason = async |version| {
        let end = ended(&*eye, version).await.end.unwrap();
        (end.reason, end.said)
    };

    // Alone, and cut off for longer than its term.
    let one = participant(server.url(), "one");
    leads(&one, 1).await;
    server.freeze();
    let frozen = Instant::now();
    wait::until_true(SOON, "the end of the term", async || {
        !one.is_leader() && frozen.elapsed() > Duration::from_secs(u64::from(TTL) * 2)
    })
    .await
    .unwrap();
    server.thaw();
    leads(&one, 2).await;
    let first = ended(&*eye, 1).await;
    let second = eye.history(&component("c"), None, 1).await.unwrap().remove(0);
    let end = first.end.unwrap();
    assert_eq!((end.reason, &end.said), (EndReason::Deadline, &None));
    let leaderless = second.lease_time - end.at;
    assert!((4_000..60_000).contains(&leaderless), "{make}: {leaderless} ms after its deadline");

    let two = participant(server.url(), "two");
    follows(&two, 2).await;
    ask(&*eye, Verb::Switchover, 2, Some(two.holder()), None).await;
    leads(&two, 3).await;
    assert_eq!(reason(2).await, (EndReason::SwitchedOver, Some(said())));
    ask(&*eye, Verb::StepDown, 3, None, Some("r2")).await;
    leads(&one, 4).await;
    assert_eq!(reason(3).await, (EndReason::SteppedDown, Some(said())));
    ask(&*eye, Verb::Promote, 4, Some(two.holder()), Some("r3")).await;
    leads(&two, 5).await;
    assert_eq!(reason(4).await, (EndReason::Promoted, Some(said())));
    two.shutdown(Duration::from_secs(1)).await.unwrap();
    leads(&one, 6).await;
    assert_eq!(reason(5).await, (EndReason::Released, None));
    one.set_healthy(false);
    assert_eq!(reason(6).await, (EndReason::Unhealthy, None));

    // Somebody who dies, and somebody who may not wait for that.
    let free = row(&*eye, "c").await;
    let ghost = take(&term("c", "ghost", 7), free.as_ref());
    assert_eq!(taking(&*eye, &ghost).await.unwrap(), Outcome::Applied);
    let died = row(&*eye, "c").await.unwrap();
    let three = participant(server.url(), "three");
    leads(&three, 8).await;
    let end = ended(&*eye, 7).await.end.unwrap();
    assert_eq!((end.reason, end.at, end.said), (EndReason::Expired, died.renew_time, None));
    let four = participant(server.url(), "four");
    follows(&four, 8).await;
    drop(server);
}

on_servers! {
    [POSTGRES, MYSQL, MARIADB] => each_end_of_a_term_is_told_with_its_reason;
}

/// The program itself, on SQLite.
#[test]
fn a_process_that_is_stopped_releases_and_one_that_is_killed_expires() {
    let rig = Rig::new();
    let mut first = rig.agent("first", &[]);
    first.leads();
    let second = rig.agent("second", &[]);
    second.sees(1);
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 0);
    second.leads();
    let third = rig.agent("third", &[]);
    third.sees(2);
    second.signal(Signal::KILL);
    third.leads();
    let (released, expired) = (end_of(&rig, 1), end_of(&rig, 2));
    assert!(released.0.starts_with("first") && expired.0.starts_with("second"), "{released:?} {expired:?}");
    assert_eq!((released.1, expired.1), (EndReason::Released, EndReason::Expired));
}

/// Who led the term of this version, and why it ended.
fn end_of(rig: &Rig, version: i64) -> (String, EndReason) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let eye = store::open(Source::url(rig.url()), "eye").unwrap();
        wait::until(PATIENCE, "an end", async || {
            let terms = eye.history(&component("discovery"), Some(version + 1), 1).await?;
            Ok(terms.into_iter().next().filter(|term| term.end.is_some()))
        })
        .await
        .unwrap()
    });
    (ended.holder, ended.end.unwrap().reason)
}

/// The program of `run`, which ends by itself.
#[test]
fn a_program_that_ends_by_itself_says_whether_it_succeeded() {
    for (code, reason) in [(0, EndReason::WorkEnded), (3, EndReason::WorkFailed)] {
        let rig = Rig::new();
        let mut runs =
            rig.run("first", &[], &format!("while [ ! -e $DIR/go ]; do sleep 0.02; done; exit {code}"));
        runs.leads();
        std::fs::write(rig.path("go"), "").unwrap();
        assert_eq!(runs.exit_code(), code);
        assert_eq!(end_of(&rig, 1).1, reason);
    }
}

fn agent(url: &str, name: &str, folder: &std::path::Path) -> Running {
    let (address, log) = (free_address(), folder.join(format!("{name}.log")));
    let mut command = program();
    command.args(["agent", "--component", "c", "--ttl", "5", "--name", name, "--database-url", url]);
    command.args(["--listen", &address.to_string()]);
    Running::start(command, log, address)
}

/// Refuses each change of a line that is there, as a disk that is full does.
const FULL: &str = "
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'no space left on device'; END $$;
CREATE TRIGGER full_disk BEFORE UPDATE ON component_lease_history FOR EACH ROW EXECUTE FUNCTION full_disk()";

#[tokio::test]
async fn where_the_history_takes_no_ends_terms_follow_each_other_as_ever_and_it_is_said_once() {
    let _machine = machine::shared().await;
    for (full, why) in [(false, "GRANT UPDATE ON component_lease_history"), (true, "no space left on device")]
    {
        let database = migrated().await;
        database.psql("UPDATE component_lease_store SET settled = true").await.unwrap();
        let role = Role::create(&database, "endless").await;
        role.grant("my_participant").await;
        let revoke = format!(
            "REVOKE UPDATE (end_time, end_reason, ended_by, ended_why) ON component_lease_history FROM {}",
            role.name
        );
        database.psql(if full { FULL } else { &revoke }).await.unwrap();
        let url = postgres::shared().await.unwrap().url_as(&role.name, "pass-word", &database.name);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let (log, took) = tokio::task::spawn_blocking(move || {
            let first = agent(&url, "first", &path);
            let version = first.leads().version();
            // One end when it is killed, one when the next one is stopped: both are the second's to write.
            let mut second = agent(&url, "second", &path);
            second.sees(version);
            first.signal(Signal::KILL);
            let version = second.leads().version();
            let third = agent(&url, "third", &path);
            third.sees(version);
            until("the warning", || {
                second.log().contains("the end of a term could not be written").then_some(())
            });
            let began = Instant::now();
            second.signal(Signal::TERM);
            assert_eq!(second.exit_code(), 0);
            third.leads();
            (second.log(), began.elapsed())
        })
        .await
        .unwrap();
        assert!(took < Duration::from_secs(2), "{took:?}: released, not expired");
        let said: Vec<_> = log.lines().filter(|line| line.contains("the end of a term could not")).collect();
        assert_eq!(said.len(), 1, "{log}");
        assert!(said[0].contains(why), "{}", said[0]);
        let ends = "SELECT count(*), count(end_time) FROM component_lease_history";
        assert_eq!(database.psql(ends).await.unwrap(), "3|0");
        role.drop().await;
    }
}
