//! Bad input to the real program: what it says, what it leaves as it was, and that a participant that is
//! set up well goes on beside it. CONTRIBUTING.md lists all such input and its tests.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use component_lease::store::{self, Install, Source, StandingIntent};
use component_lease_testkit::postgres;
use rustix::process::Signal;

use crate::agent_support::{Rig, Running, free_address, output, program, until};
use crate::stores::{component, row};

/// `agent` on component `discovery`.
fn agent(flags: &[&str], log: &Path) -> Running {
    let address = free_address();
    let mut command = program();
    command.args(["agent", "--component", "discovery", "--listen", &address.to_string()]).args(flags);
    Running::start(command, log.to_owned(), address)
}

/// Waits until the log has all of these pieces in one line.
#[track_caller]
fn logs(running: &Running, pieces: &[&str]) {
    until(&format!("a line with {pieces:?} in:\n{}", running.log()), || {
        let log = running.log();
        log.lines().any(|line| pieces.iter().all(|piece| line.contains(piece))).then_some(())
    });
}

#[test]
fn a_malformed_url_is_refused_by_every_command_before_anything_else_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let ran = ran.to_str().unwrap();
    for verb in [
        &["migrate"][..],
        &["check"],
        &["agent", "--component", "c"],
        &["run", "--component", "c"],
        &["controller", "--leader-elect=false"],
    ] {
        for (url, says) in [
            ("hunter2", "must begin with postgres://"),
            ("postgres://me:hunter2@h:99999/d", "write it as postgres://"),
            ("postgres://me:hunter2@h/d?sslmod=require", "sslmod"),
        ] {
            let command: &[&str] = if verb[0] == "run" { &["--", "touch", ran] } else { &[] };
            let flags = ["--database-url", url];
            let (code, said, errors) = output(program().args([verb, &flags, command].concat()));
            assert_eq!(code, 78, "{verb:?} {url}: {errors}");
            assert!(errors.contains(says), "{verb:?} {url}: {errors}");
            assert!(!errors.contains("hunter2") && !said.contains("hunter2"), "{verb:?}: {errors}{said}");
        }
    }
    assert!(!Path::new(ran).exists(), "a program was started without a lease");
}

#[test]
fn a_port_that_is_taken_is_refused_by_the_controller_too() {
    let rig = Rig::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flags = ["controller", "--leader-elect=false", "--database-url", &rig.url(), "--listen", &address];
    let (code, _, errors) = output(program().args(flags));
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}

/// A command with a password that the server does not know, in the URL or in a file.
fn with_wrong_password(
    mut command: Command,
    folder: &Path,
    server: &postgres::Server,
    in_file: bool,
) -> Command {
    let name = "postgres";
    if in_file {
        let file = folder.join("password");
        std::fs::write(&file, "hunter2-is-wrong\n").unwrap();
        let url = server.url_as(name, "", name).replacen(":@", "@", 1);
        command.arg("--database-url").arg(url).arg("--database-password-file").arg(file);
    } else {
        command.arg("--database-url").arg(server.url_as(name, "hunter2-is-wrong", name));
    }
    // Whatever a library writes into its own log is a print as well.
    command.args(["--log", "trace"]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_printed_by_no_command_at_any_log_level() {
    let server = postgres::shared().await.unwrap();
    let database = server.fresh_database().await.unwrap();
    let first = Install::default().first(true);
    store::install(&Source::url(&database.url), first).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = agent(&["--name", "good", "--database-url", &database.url], &path("good.log"));
    assert_eq!(good.leads().version(), 1);
    for in_file in [false, true] {
        let mut migrate = program();
        migrate.arg("migrate");
        let (code, said, errors) = output(&with_wrong_password(migrate, folder.path(), server, in_file));
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains("check the user, the password and pg_hba.conf"), "{errors}");
        assert!(!errors.contains("hunter2") && !said.contains("hunter2"), "{errors}{said}");

        // It may be put right while they run: they wait, and start nothing.
        for verb in ["agent", "run"] {
            let address = free_address();
            let mut command = program();
            command.args([verb, "--component", "discovery", "--listen", &address.to_string()]);
            let mut command = with_wrong_password(command, folder.path(), server, in_file);
            if verb == "run" {
                command.arg("--").arg("touch").arg(path("ran"));
            }
            let mut running = Running::start(command, path("wrong.log"), address);
            running.stands_by();
            logs(&running, &["retrying", "user postgres", "check the user, the password and pg_hba.conf"]);
            running.signal(Signal::TERM);
            assert_eq!(running.exit_code(), 0, "{}", running.log());
            assert!(!running.log().contains("hunter2"), "{}", running.log());
        }
    }
    assert!(!path("ran").exists(), "a program was started without a lease");
    assert_eq!(good.leads().version(), 1, "a participant that has the password leads on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_too_long_for_somebody_elses_table_waits_while_another_leads() {
    let database = postgres::shared().await.unwrap().fresh_database().await.unwrap();
    database
        .psql("CREATE TABLE component_lease (component_name VARCHAR(64) PRIMARY KEY, holder_id VARCHAR(128), lease_time BIGINT, renew_time BIGINT, version INT, ttl INT);
               INSERT INTO component_lease VALUES ('discovery', '', 0, 0, 0, 5)")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // With what is put behind a name, one character too many.
    let long = "n".repeat(111);
    let flags = ["--pod-uid", "8b7e12c0-0000", "--database-url", &database.url, "--name"];
    let too_long = agent(&[&flags[..], &[&long]].concat(), &path("long.log"));
    logs(&too_long, &["component_lease.holder_id", "129 characters", "holds 128"]);
    let free = "SELECT count(*) FROM component_lease WHERE holder_id = '' AND version = 0";
    assert_eq!(database.psql(free).await.unwrap(), "1", "nothing is cut");

    let fits = agent(&[&flags[..], &[&long[1..]]].concat(), &path("fits.log"));
    assert_eq!(fits.leads().version(), 1);
    too_long.sees(1);
    let holder = database.psql("SELECT holder_id FROM component_lease").await.unwrap();
    assert!(holder.len() == 128 && holder.starts_with(&long[1..]), "{holder}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_grace_that_does_not_fit_a_resources_ttl_keeps_only_that_participant_from_taking() {
    let rig = Rig::new();
    let store = store::open(Source::url(rig.url()), "test").unwrap();
    // What a controller writes for `ttlSeconds: 10`; 3 s of it may be kept for stopping.
    store.set_intent(&component("discovery"), StandingIntent::ttl(10)).await.unwrap();
    let url = rig.url();
    let slow = ["--ttl", "30", "--stop-grace", "6", "--database-url", &url];
    let slow = agent(&slow, &rig.path("slow.log"));
    logs(
        &slow,
        &["this participant takes no lease", "ttl of 10 s", "shorten the stop grace or lengthen the ttl"],
    );
    assert_eq!(row(&*store, "discovery").await, None, "the row is free, and it takes nothing");
    let quick = rig.agent("quick", &["--stop-grace", "1.5"]);
    assert_eq!(quick.leads().version(), 1);
    assert_eq!(row(&*store, "discovery").await.unwrap().ttl, 10);
    slow.sees(1);
}

#[test]
fn a_missing_folder_of_a_sqlite_file_is_named_made_by_nobody_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("data");
    let url = format!("sqlite://{}", missing.join("lease.db").display());
    let agent =
        agent(&["--migrate", "--first-install", "--database-url", &url], &folder.path().join("agent.log"));
    logs(&agent, &["the folder", missing.to_str().unwrap(), "does not exist"]);
    assert!(!missing.exists());
    std::fs::create_dir(&missing).unwrap();
    assert_eq!(agent.leads().version(), 1);
}
