//! `run`: nothing that the program has started outlives its term, in whatever group or session it
//! is, and whichever of supervisor and guardians is killed or stopped.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::agent_support::*;

/// Starts a worker that has a session of its own, a parent that is gone, no environment and an open ear for
/// nothing; `$DIR/$NAME.worker` gets its number. It takes a lock on `$DIR/lock` for as long as it lives: two of
/// them at a time leave a line in `$DIR/overlaps`.
const DAEMON: &str = r"
    cat > $DIR/$NAME.sh <<END
    trap '' TERM HUP INT
    exec 9>> $DIR/lock
    flock -n 9 || echo overlap >> $DIR/overlaps
    echo \$\$ >> $DIR/$NAME.worker
    while :; do read -t 0.05 < $DIR/silence; done
END
    [ -p $DIR/silence ] || mkfifo $DIR/silence
    exec 8<> $DIR/silence
    (setsid env -i bash $DIR/$NAME.sh 8<&8 > /dev/null 2>&1 &)
    while [ ! -s $DIR/$NAME.worker ]; do sleep 0.02; done
";

/// A program that stops at SIGTERM, and leaves such a worker behind.
fn with_daemon(then: &str) -> String {
    format!("{DAEMON}\n trap 'exit 0' TERM; echo $$ >> $DIR/$NAME.pid\n {then}")
}

const OBEYS: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// Waits until supervisor, program and worker run; answers program and worker.
fn runs(rig: &Rig, name: &str, supervisor: &Running) -> (Pid, Pid) {
    supervisor.leads();
    let (program, worker) = (rig.pid(&format!("{name}.pid")), rig.pid(&format!("{name}.worker")));
    assert!(!is_gone(program) && !is_gone(worker));
    let (_, parent, group) = stat(worker).unwrap();
    assert_eq!(group, worker.as_raw_nonzero().get(), "a group of its own");
    assert!(
        guardians_between(supervisor.pid(), program).iter().any(|pid| pid.as_raw_nonzero().get() == parent)
    );
    (program, worker)
}

#[track_caller]
fn ends(what: &str, pid: Pid) {
    until(&format!("the end of the {what}"), || is_gone(pid).then_some(()));
}

#[test]
fn what_left_the_group_is_ended_before_the_lease_is_released() {
    let rig = Rig::new();
    let mut first = rig.run("first", &[], &with_daemon(OBEYS));
    let (program, worker) = runs(&rig, "first", &first);
    let second = rig.run("second", &[], &with_daemon(OBEYS));
    second.sees(1);
    first.signal(Signal::TERM);
    assert_eq!(second.leads().version(), 2);
    assert!(is_gone(program) && is_gone(worker), "the next leader was told so before they had ended");
    assert_eq!(first.exit_code(), 0, "the program's own");
    assert!(first.log().contains("INFO released"), "{}", first.log());
    runs(&rig, "second", &second);
    assert!(rig.lines("overlaps").is_empty());
}

#[test]
fn what_left_the_group_is_asked_to_stop_before_it_is_killed_and_only_once_the_group_is_gone() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &[],
        // The worker says what it finds when it is asked.
        r#"setsid bash -c 'trap "kill -0 $(cat $DIR/pid) 2> /dev/null && echo early > $DIR/asked || echo late > $DIR/asked; exit 0" TERM
            echo $$ > $DIR/worker; while :; do sleep 0.02; done' &
        while [ ! -s $DIR/worker ]; do sleep 0.02; done
        trap 'sleep 0.5; exit 5' TERM; echo $$ > $DIR/pid; while :; do sleep 0.02; done"#,
    );
    first.leads();
    rig.pid("pid");
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 5);
    assert_eq!(rig.lines("asked"), ["late"]);
}

#[test]
fn a_program_that_ends_by_itself_leaves_nothing_behind() {
    let rig = Rig::new();
    // A double fork: neither parent nor session nor group lead to it.
    let mut first =
        rig.run("first", &[], &with_daemon("while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 3"));
    let (_, worker) = runs(&rig, "first", &first);
    fs::write(rig.path("go"), "").unwrap();
    assert_eq!(first.exit_code(), 3);
    assert!(is_gone(worker));
}

#[test]
fn a_zombie_in_the_group_keeps_nobody_from_ending() {
    let rig = Rig::new();
    let mut first = rig.run(
        "first",
        &[],
        // What has left the group never fetches its child, which ended in the program's group.
        r#"setsid bash -c 'trap "" TERM; echo $$ > $DIR/worker; exec 9<> $DIR/fifo; while :; do read -t 0.05 <&9; done' &
        mkfifo $DIR/fifo; while [ ! -s $DIR/worker ]; do sleep 0.02; done
        python3 -c 'import os,time
pid=os.fork()
if pid==0:
    os._exit(0)
open(os.environ["DIR"]+"/zombie","w").write(str(pid)+"\n")
os.setpgid(0,0)
time.sleep(1000)' &
        while [ ! -s $DIR/zombie ]; do sleep 0.02; done
        while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 6"#,
    );
    first.leads();
    let zombie = rig.pid("zombie");
    until("a zombie in the group", || stat(zombie).filter(|(state, ..)| *state == 'Z'));
    let began = now();
    fs::write(rig.path("go"), "").unwrap();
    assert_eq!(first.exit_code(), 6);
    assert!(now() - began < TTL, "took {:?}", now() - began);
}

#[test]
fn when_the_supervisor_is_killed_its_guardians_end_everything() {
    let rig = Rig::new();
    let first = rig.run("first", &[], &with_daemon(OBEYS));
    let (program, worker) = runs(&rig, "first", &first);
    let guardians = guardians_between(first.pid(), program);
    let began = now();
    first.signal(Signal::KILL);
    ends("program", program);
    ends("worker", worker);
    assert!(now() - began < TTL, "took {:?}", now() - began);
    for guardian in guardians {
        ends("guardian", guardian);
    }
    // Not only because the term is over, seconds later.
    assert!(first.log().contains("the supervisor is gone"), "{}", first.log());
}

/// Kills or stops these of `[supervisor, outer guardian, inner guardian]` in this order, at once. Whatever is
/// left ends program and worker, by the end of the term if nobody was killed.
fn strike(blows: &[(usize, Signal)]) {
    let rig = Rig::new();
    let first = rig.run("first", &[], &with_daemon(OBEYS));
    let (program, worker) = runs(&rig, "first", &first);
    let mut all = guardians_between(first.pid(), program);
    assert_eq!(all.len(), 2);
    all.push(first.pid());
    all.reverse();
    let began = now();
    for (whom, signal) in blows {
        kill_process(all[*whom], *signal).unwrap();
    }
    ends("program", program);
    ends("worker", worker);
    assert!(now() - began < TTL, "{blows:?} took {:?}", now() - began);
    for pid in all {
        let _ = kill_process(pid, Signal::KILL);
    }
}

const SUPERVISOR: usize = 0;
const OUTER: usize = 1;
const INNER: usize = 2;

#[test]
fn with_either_guardian_killed_the_other_one_ends_everything_of_a_supervisor_that_is_killed() {
    strike(&[(INNER, Signal::KILL), (SUPERVISOR, Signal::KILL)]);
    strike(&[(OUTER, Signal::KILL), (SUPERVISOR, Signal::KILL)]);
    strike(&[(SUPERVISOR, Signal::KILL), (OUTER, Signal::KILL)]);
}

#[test]
fn with_either_guardian_stopped_the_other_one_ends_everything_of_a_supervisor_that_is_killed() {
    strike(&[(INNER, Signal::STOP), (SUPERVISOR, Signal::KILL)]);
    strike(&[(OUTER, Signal::STOP), (SUPERVISOR, Signal::KILL)]);
}

#[test]
fn with_either_guardian_killed_or_stopped_the_other_one_ends_everything_of_a_supervisor_that_is_stopped() {
    strike(&[(SUPERVISOR, Signal::STOP)]);
    strike(&[(SUPERVISOR, Signal::STOP), (INNER, Signal::KILL)]);
    strike(&[(SUPERVISOR, Signal::STOP), (OUTER, Signal::STOP)]);
}

#[test]
fn a_guardian_that_is_killed_disturbs_no_program_and_the_other_one_takes_over() {
    for whom in [0, 1] {
        let rig = Rig::new();
        let mut first = rig.run("first", &[], &with_daemon(OBEYS));
        let (program, worker) = runs(&rig, "first", &first);
        let guardians = guardians_between(first.pid(), program);
        kill_process(guardians[whom], Signal::KILL).unwrap();
        until("the other guardian alone", || {
            (guardians_between(first.pid(), program) == [guardians[1 - whom]]).then_some(())
        });
        until("a word about it", || first.log().contains("a guardian process was killed").then_some(()));
        assert!(!is_gone(program) && !is_gone(worker));
        assert_eq!(first.leads().version(), 1);
        // The exit code comes from the process that is left.
        first.signal(Signal::TERM);
        assert_eq!(first.exit_code(), 0, "{}", first.log());
        assert!(is_gone(program) && is_gone(worker));
        assert!(first.log().contains("INFO released"), "{}", first.log());
    }
}

#[test]
fn without_any_guardian_the_supervisor_ends_everything_itself_gives_the_term_back_and_goes_on() {
    let rig = Rig::new();
    let first = rig.run("first", &["--cooldown", "0.1"], &with_daemon(OBEYS));
    let (program, worker) = runs(&rig, "first", &first);
    for guardian in guardians_between(first.pid(), program) {
        kill_process(guardian, Signal::KILL).unwrap();
    }
    ends("program", program);
    ends("worker", worker);
    until("another copy", || rig.lines("first.worker").get(1).cloned());
    assert_eq!(first.leads().version(), 2);
    assert!(first.log().contains("both guardian processes were killed"), "{}", first.log());
    assert!(rig.lines("overlaps").is_empty(), "both copies ran at a time");
    assert_eq!(guardians_between(first.pid(), rig.pid("first.pid")).len(), 2);
}

#[test]
fn copies_of_terms_that_were_cut_short_in_every_way_never_run_at_a_time() {
    let rig = Rig::new();
    let flags = ["--cooldown", "0.1"];
    let mut names = Vec::new();
    for round in 0..4 {
        let name = format!("n{round}");
        let supervisor = rig.run(&name, &flags, &with_daemon(OBEYS));
        let (program, _) = runs(&rig, &name, &supervisor);
        let guardians = guardians_between(supervisor.pid(), program);
        match round {
            0 => kill_process(guardians[0], Signal::KILL).unwrap(),
            1 => kill_process(guardians[1], Signal::KILL).unwrap(),
            2 => {
                // Won again by the very same supervisor.
                kill_process(program, Signal::STOP).unwrap();
                for guardian in guardians {
                    kill_process(guardian, Signal::KILL).unwrap();
                }
                until("another copy", || rig.lines(&format!("{name}.worker")).get(1).cloned());
            }
            _ => {}
        }
        supervisor.signal(if round == 3 { Signal::TERM } else { Signal::KILL });
        names.push(supervisor);
    }
    assert!(rig.lines("overlaps").is_empty(), "{:?}", rig.lines("overlaps"));
}

/// A folder and a database that every user may use.
fn rig_for_everybody() -> Rig {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: it runs processes as several users");
    let rig = Rig::new();
    // With the files that the database keeps beside it.
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(rig.path("")).status().unwrap().success());
    rig
}

/// `run` around a shell script, as a user without any right.
fn run_as_another_user(rig: &Rig, script: &str) -> Running {
    let address = free_address();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65532", "--regid", "65532", "--clear-groups", "--"])
        .arg(PROGRAM)
        .args(["run", "--component", "discovery", "--ttl", "5", "--name", "first"])
        .args(["--database-url", &rig.url(), "--listen", &address.to_string(), "--", "bash", "-c", script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("PGPASSWORD", "hush")
        .env("DIR", rig.path(""));
    Running::start(command, rig.path("first.log"), address)
}

#[test]
fn a_program_of_the_same_user_cannot_read_the_environment_of_its_supervisor() {
    let rig = rig_for_everybody();
    let mut first = run_as_another_user(
        &rig,
        "for pid in $(grep -l guard-group /proc/[0-9]*/cmdline | cut -d/ -f3); do
            [ $(stat -c %u /proc/$pid) = 65532 ] && tr '\\0' '\\n' < /proc/$pid/environ; done > $DIR/seen
        outer=$(cut -d' ' -f4 /proc/$PPID/stat); supervisor=$(cut -d' ' -f4 /proc/$outer/stat)
        cut -d' ' -f2 /proc/$supervisor/stat > $DIR/name
        cat /proc/$supervisor/environ >> $DIR/seen 2> /dev/null; echo $? > $DIR/read; exit 3",
    );
    assert_eq!(first.exit_code(), 3, "{}", first.log());
    assert_eq!(rig.lines("name"), ["(component-lease)"]);
    assert_eq!(rig.lines("read"), ["1"]);
    let seen = fs::read_to_string(rig.path("seen")).unwrap();
    assert!(seen.contains("COMPONENT_LEASE_VERSION=1") && !seen.contains("hush"), "{seen}");
}

#[test]
fn something_that_cannot_be_ended_keeps_the_lease_from_being_released_and_is_named() {
    // The supervisor's user may not signal what its program starts as another one.
    let rig = rig_for_everybody();
    fs::copy("/usr/bin/sleep", rig.path("as-another")).unwrap();
    let helper = rig.path("as-root");
    fs::copy("/usr/bin/setpriv", &helper).unwrap();
    assert!(Command::new("chmod").arg("4755").arg(&helper).status().unwrap().success());
    let first = run_as_another_user(
        &rig,
        "$DIR/as-root --reuid 65533 --regid 65533 --clear-groups $DIR/as-another 1000 &
        echo $! > $DIR/worker; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 4",
    );
    first.leads();
    let worker = rig.pid("worker");
    until("the worker as another user", || {
        fs::read_to_string(format!("/proc/{}/comm", worker.as_raw_nonzero()))
            .is_ok_and(|name| name == "as-another\n")
            .then_some(())
    });
    fs::write(rig.path("go"), "").unwrap();
    until("a word about what is in the way", || {
        let log = first.log();
        (log.contains("cannot be ended")
            && log.contains(&format!("{}", worker.as_raw_nonzero()))
            && log.contains("as-another")
            && log.contains("user 65533"))
        .then_some(())
    });
    assert!(!first.log().contains("INFO released"), "{}", first.log());
    let second = rig.run("second", &[], OBEYS);
    assert_eq!(second.leads().version(), 2, "it has lapsed");
    kill_process(worker, Signal::KILL).unwrap();
    let mut first = first;
    assert_eq!(first.exit_code(), 4, "{}", first.log());
}

#[test]
fn what_ran_beside_the_program_is_left_alone() {
    let rig = Rig::new();
    // The shell starts something and then becomes the supervisor, whose child that is from then on.
    let address = free_address();
    let mut command = program();
    command.args(["run", "--component", "discovery", "--ttl", "5", "--name", "first", "--cooldown", "0.1"]);
    command.args(["--database-url", &rig.url(), "--listen", &address.to_string(), "--", "sh", "-c"]);
    command.arg("echo $$ >> $DIR/pid; exec sleep 1000");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "sleep 1000 & echo $! > $DIR/beside; exec \"$@\"", "sh"])
        .arg(PROGRAM)
        .args(command.get_args());
    shell.env("DIR", rig.path("")).stdin(Stdio::null()).process_group(0);
    let mut first = Running::start(shell, rig.path("first.log"), address);
    first.leads();
    let (beside, program) = (rig.pid("beside"), rig.pid("pid"));
    assert!(children_of(first.pid()).iter().any(|(pid, _)| *pid == beside));
    for guardian in guardians_between(first.pid(), program) {
        kill_process(guardian, Signal::KILL).unwrap();
    }
    until("another term", || rig.lines("pid").get(1).cloned());
    first.leads();
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 143, "{}", first.log());
    assert!(!is_gone(beside));
    kill_process(beside, Signal::KILL).unwrap();
}

/// A PostgreSQL server as the program, with a session that commits row after row. Its processes lead groups of
/// their own, and its main process waits for the session when it gets SIGTERM.
struct Server {
    _folder: tempfile::TempDir,
    session: std::process::Child,
    processes: Vec<Pid>,
}

fn as_its_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]).arg(program);
    command
}

impl Server {
    fn start(rig: &Rig) -> (Running, Self) {
        let bin = component_lease_testkit::postgres::folder().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap().success());
        }
        let mut initdb = as_its_user(&bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data).stdout(Stdio::null());
        assert!(initdb.status().unwrap().success());
        let mut postgres = as_its_user(&bin.join("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(&data).args(["-c", "listen_addresses=", "-p", "5432"]);
        let words: Vec<_> = std::iter::once(postgres.get_program()).chain(postgres.get_args()).collect();
        let words: Vec<_> = words.into_iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let script = format!("echo $$ > $DIR/pid; exec {}", words.join(" "));
        let first = rig.run("first", &["--drain-timeout", "1"], &script);
        first.leads();
        let main = rig.pid("pid");
        let psql = || {
            let mut psql = Command::new(bin.join("psql"));
            psql.env_clear().args(["-X", "-U", "postgres", "-p", "5432", "-h"]).arg(&data);
            psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            psql
        };
        until("the server", || {
            psql().args(["-c", "CREATE TABLE t (n bigint)"]).status().unwrap().success().then_some(())
        });
        let without_end = "DO $$ BEGIN LOOP INSERT INTO t VALUES (1); COMMIT; END LOOP; END $$";
        let session = psql().args(["-c", without_end]).spawn().unwrap();
        let processes = until("a session in a group of its own", || {
            let found: Vec<_> = children_of(main).into_iter().map(|(pid, _)| pid).collect();
            let command = |pid: &Pid| fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let works = |pid: &Pid| command(pid).is_ok_and(|line| line.contains(" DO"));
            found.iter().any(works).then_some(found)
        });
        for pid in &processes {
            assert_eq!(stat(*pid).unwrap().2, pid.as_raw_nonzero().get(), "a group of its own");
        }
        (first, Self { _folder: folder, session, processes: [processes, vec![main]].concat() })
    }

    fn has_ended(&self) -> bool {
        self.processes.iter().all(|pid| is_gone(*pid))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}

#[test]
fn a_database_server_has_ended_with_all_its_sessions_when_another_leads() {
    let rig = Rig::new();
    let (mut first, server) = Server::start(&rig);
    let second = rig.run("second", &[], OBEYS);
    second.sees(1);
    first.signal(Signal::TERM);
    assert_eq!(second.leads().version(), 2);
    assert!(server.has_ended(), "it goes on: {:?}", server.processes);
    assert_eq!(first.exit_code(), 137, "it waited for its session, and was killed");
}

#[test]
fn a_database_server_ends_with_all_its_sessions_when_its_supervisor_is_killed() {
    let rig = Rig::new();
    let (first, server) = Server::start(&rig);
    let began = now();
    first.signal(Signal::KILL);
    until("the end of the server", || server.has_ended().then_some(()));
    assert!(now() - began < TTL, "took {:?}", now() - began);
}
