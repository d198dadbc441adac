//! Holders that are starved, stopped and put to sleep while they lead. Most are processes of their own:
//! a test starts itself once more, as the holder that it then looks at.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use component_lease::agent::Config;
use component_lease::clock::{Clock, SystemClock};
use component_lease::election::{StopReason, Timing};
use component_lease::membership::Whereabouts;
use component_lease::participant::{Participant, ParticipantBuilder};
use component_lease::process::args::{LogArgs, LogFormat};
use component_lease::process::listen::Listen;
use component_lease::process::telemetry;
use component_lease::run::{self, AroundArgs};
use component_lease::store::{self, Directory, Source};
use component_lease_testkit::machine;
use rustix::process::Signal;
use tokio::runtime::{self, Runtime};
use tokio::sync::RwLockReadGuard;

use crate::agent_support::*;
use crate::stores::{SqliteFile, component};

/// Set for a holder: the folder of its database, where it also writes what it has to say.
const FOLDER: &str = "HOLDER_STRESS_FOLDER";
const MOMENT: Duration = Duration::from_secs(1);

fn open(folder: &Path) -> Arc<dyn Directory> {
    store::open(Source::url(format!("sqlite:{}", folder.join("lease.db").display())), "stress").unwrap()
}

fn builder(folder: &Path, ttl: Duration) -> ParticipantBuilder {
    let ttl = u32::try_from(ttl.as_secs()).unwrap();
    Participant::builder(open(folder), component("discovery")).ttl(Duration::from_secs(ttl.into()))
}

fn say(folder: &Path, what: &str, text: impl std::fmt::Display) {
    writeln!(File::create(folder.join(what)).unwrap(), "{text}").unwrap();
}

// ---- the holder's side ----

fn two_workers() -> Runtime {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Starts a participant and waits until it leads.
fn lead(runtime: &Runtime, folder: &Path, ttl: Duration) -> Arc<Participant> {
    let entered = runtime.enter();
    let participant = Arc::new(builder(folder, ttl).start().unwrap());
    drop(entered);
    until("leadership", || participant.is_leader().then_some(()));
    participant
}

/// A plain thread that asks and writes down: when, the answer, and until when that is certain to hold.
fn ask_all_the_time(participant: &Arc<Participant>, folder: &Path) {
    let participant = Arc::clone(participant);
    let mut file = File::create(folder.join("asked")).unwrap();
    thread::spawn(move || {
        loop {
            let asked = now();
            let leads = participant.is_leader();
            let again = now();
            let (version, valid) =
                participant.term().map_or((0, Duration::ZERO), |guard| (guard.version(), guard.valid_for()));
            let until = again + valid;
            writeln!(file, "{} {leads} {version} {}", asked.as_nanos(), until.as_nanos()).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Never gives its thread back.
fn block() -> ! {
    loop {
        thread::park();
    }
}

fn leads_with_all_workers_blocked(folder: &Path) {
    let runtime = two_workers();
    let participant = lead(&runtime, folder, TTL);
    let held = runtime.block_on(participant.lead()).unwrap().unwrap();
    ask_all_the_time(&participant, folder);
    let blocked = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let blocked = Arc::clone(&blocked);
        runtime.spawn(async move {
            blocked.fetch_add(1, Ordering::SeqCst);
            block();
        });
    }
    until("all workers to be blocked", || (blocked.load(Ordering::SeqCst) == 2).then_some(()));
    let stop = held.abort_at() - held.stop_grace();
    say(folder, "moments", format_args!("{} {}", stop.as_nanos(), held.abort_at().as_nanos()));
    block();
}

fn leads_and_works(folder: &Path) {
    let runtime = two_workers();
    let participant = lead(&runtime, folder, TTL);
    let _held = runtime.block_on(participant.lead()).unwrap().unwrap();
    ask_all_the_time(&participant, folder);
    block();
}

fn leads_without_work(folder: &Path) {
    let runtime = two_workers();
    let participant = lead(&runtime, folder, TTL);
    ask_all_the_time(&participant, folder);
    block();
}

/// `run` around a shell script on a runtime of one thread, which is blocked at this moment.
fn supervises_until(folder: &Path, listen: Option<Listen>, script: &str, moment: fn(&Path) -> bool) {
    let config = Config {
        component: component("discovery"),
        name: None,
        pod_uid: None,
        whereabouts: Whereabouts::default(),
        program_version: None,
        timing: Timing::with_default_grace(5).unwrap(),
        cooldown: TTL,
        max_ttl: 30,
        listen,
        control_socket: None,
        priority: 100,
        answer_outside: false,
        probe: None,
    };
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let looked_at = folder.to_owned();
        tokio::spawn(async move {
            let began = now();
            while !moment(&looked_at) {
                assert!(now() - began < PATIENCE, "waited in vain for the moment");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            block();
        });
        let command = ["sh", "-c", script].map(Into::into).to_vec();
        let around = AroundArgs {
            drain_timeout: Duration::from_secs(25),
            pass_env: Vec::new(),
            guardian: Some(PROGRAM.into()),
        };
        let ended = run::around(config, around, open(folder), command).await;
        panic!("the supervisor has ended: {ended:?}");
    });
}

fn supervises_with_its_thread_blocked(folder: &Path) {
    let pid = folder.join("program.pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.05; done", pid.display());
    supervises_until(folder, None, &script, |folder| folder.join("program.pid").exists());
}

/// Others were just told that it leads, so the end of the program does not end the work of its term.
fn supervises_with_its_thread_blocked_after_the_program(folder: &Path) {
    let log = LogArgs { log: "info".to_owned(), log_format: LogFormat::Text };
    telemetry::init(&log, Box::new(|_| true)).unwrap();
    let address = free_address();
    let told = folder.join("told");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; exit 3", told.display());
    thread::spawn(move || {
        until("leadership", || ask(address, "/leader").filter(|answer| answer.status == 200));
        File::create(told).unwrap();
    });
    supervises_until(folder, Some(Listen::At(address)), &script, |folder| {
        std::fs::read_to_string(folder.join("holder.log")).unwrap().contains("the program has ended")
    });
}

// ---- the judge's side ----

/// One line of [`ask_all_the_time`].
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Duration,
    leads: bool,
    version: i64,
    until: Duration,
}

fn nanos(word: &str) -> Duration {
    Duration::from_nanos(word.parse().unwrap())
}

fn asked(rig: &Rig) -> Vec<Asked> {
    let parse = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        let [at, leads, version, until] = words[..] else { panic!("{line}") };
        let (leads, version) = (leads == "true", version.parse().unwrap());
        Asked { at: nanos(at), leads, version, until: nanos(until) }
    };
    rig.lines("asked").into_iter().map(parse).collect()
}

/// The first answer that was asked for after this moment.
fn first_after(rig: &Rig, moment: Duration) -> Asked {
    until("an answer", || asked(rig).into_iter().find(|asked| asked.at >= moment))
}

/// The last time before this moment that it led, for how long. (Stopped in the middle of asking, it has no version.)
fn last_promise(rig: &Rig, moment: Duration) -> Asked {
    asked(rig).into_iter().rfind(|asked| asked.at < moment && asked.version != 0).unwrap()
}

/// A holder in another process, and a follower here.
struct Stress {
    rig: Rig,
    holder: Running,
    /// The follower runs on it.
    _runtime: Runtime,
    follower: Participant,
    _machine: RwLockReadGuard<'static, ()>,
}

impl Stress {
    /// Starts the test of this name once more. As the holder, this never returns.
    fn of(test: &str, holder: fn(&Path)) -> Self {
        if let Some(folder) = std::env::var_os(FOLDER) {
            holder(&PathBuf::from(folder));
            unreachable!("a holder holds until it is ended");
        }
        let machine = machine::shared_blocking();
        let rig = Rig::new();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("holder_stress::{test}"), "--nocapture"]);
        command.env(FOLDER, rig.path(""));
        let holder = Running::start(command, rig.path("holder.log"), free_address());
        let runtime = two_workers();
        let entered = runtime.enter();
        // It would take a missing row before the holder does.
        until("a row", || runtime.block_on(open(&rig.path("")).look(&component("discovery"))).unwrap().row);
        let follower = builder(&rig.path(""), TTL).start().unwrap();
        drop(entered);
        let follows = || follower.watch().borrow().row.is_some().then_some(());
        until("the follower to see who leads", follows);
        Self { rig, holder, _runtime: runtime, follower, _machine: machine }
    }

    /// Stops the holder, waits for `what`, and continues it; answers when.
    fn stopped_until(&self, what: &str, done: impl Fn() -> bool) -> (Duration, Duration) {
        self.rig.freeze(&self.holder);
        let stopped = now();
        until(what, || done().then_some(()));
        let continued = now();
        self.holder.signal(Signal::CONT);
        (stopped, continued)
    }

    /// Waits until the holder has ended itself by an abort; answers when that was seen.
    fn aborted(&mut self) -> Duration {
        let status = until("the end of the holder", || self.holder.child.try_wait().unwrap());
        let seen = now();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
        assert!(self.holder.log().contains("there are never two leaders"), "{}", self.holder.log());
        seen
    }

    fn follower_leads(&self) {
        until("the follower to lead", || self.follower.is_leader().then_some(()));
    }
}

#[test]
fn with_every_worker_blocked_it_leads_no_longer_than_its_deadline_and_ends_itself_before_anybody_else_leads()
{
    let mut stress = Stress::of(
        "with_every_worker_blocked_it_leads_no_longer_than_its_deadline_and_ends_itself_before_anybody_else_leads",
        leads_with_all_workers_blocked,
    );
    let moments = stress.rig.line("moments");
    let (deadline, abort) = moments.split_once(' ').map(|(a, b)| (nanos(a), nanos(b))).unwrap();
    let ended = stress.aborted();
    assert!(!stress.follower.is_leader(), "both led");
    assert!(ended >= abort, "{:?} before its time", abort - ended);
    assert!(ended - abort < TTL / 10, "took {:?}", ended - abort);

    let asked = asked(&stress.rig);
    let (before, after): (Vec<&Asked>, Vec<&Asked>) = asked.iter().partition(|asked| asked.at < deadline);
    assert!(before.iter().any(|asked| asked.leads) && !after.is_empty(), "{asked:?}");
    assert!(after.iter().all(|asked| !asked.leads), "led after {deadline:?}: {after:?}");
    stress.follower_leads();
}

#[test]
fn stopped_beyond_its_deadline_it_does_not_lead_at_the_first_ask() {
    let stress =
        Stress::of("stopped_beyond_its_deadline_it_does_not_lead_at_the_first_ask", leads_without_work);
    let (stopped, continued) = stress.stopped_until("the follower to lead", || stress.follower.is_leader());
    let first = first_after(&stress.rig, continued);
    assert!(!first.leads, "{first:?}");
    let last = last_promise(&stress.rig, stopped);
    assert!(last.until < continued, "it was not stopped beyond its deadline: {last:?}");
    // Nor later, although its connection and its tasks woke up with it.
    until("a while", || (now() > continued + MOMENT).then_some(()));
    assert!(asked(&stress.rig).iter().filter(|asked| asked.at >= stopped).all(|asked| !asked.leads));
    assert!(stress.follower.is_leader());
}

#[test]
fn work_of_a_process_that_was_stopped_beyond_its_term_is_ended_as_soon_as_it_goes_on() {
    let mut stress = Stress::of(
        "work_of_a_process_that_was_stopped_beyond_its_term_is_ended_as_soon_as_it_goes_on",
        leads_and_works,
    );
    let (stopped, continued) = stress.stopped_until("the follower to lead", || stress.follower.is_leader());
    let ended = stress.aborted();
    assert!(ended - continued < MOMENT, "took {:?}", ended - continued);
    assert!(asked(&stress.rig).iter().filter(|asked| asked.at >= stopped).all(|asked| !asked.leads));
}

#[test]
fn stopped_for_less_than_its_margin_it_leads_on_under_the_same_version_and_renews() {
    let mut stress = Stress::of(
        "stopped_for_less_than_its_margin_it_leads_on_under_the_same_version_and_renews",
        leads_and_works,
    );
    let began = now();
    let (stopped, continued) = stress.stopped_until("a tenth of a ttl", || now() > began + TTL / 10);
    let last = last_promise(&stress.rig, stopped);
    assert!(last.until > continued, "it was stopped for longer than its margin: {last:?}");
    let first = first_after(&stress.rig, continued);
    assert!(first.leads && first.version == last.version, "{first:?}");
    let renewed = until("a renewal", || {
        asked(&stress.rig).into_iter().rfind(|asked| asked.until > last.until + TTL / 10)
    });
    assert_eq!(renewed.version, last.version);
    assert!(stress.holder.child.try_wait().unwrap().is_none() && !stress.follower.is_leader());
}

#[test]
fn a_supervisor_stopped_for_less_than_its_margin_leads_on_and_so_does_its_program() {
    let _machine = machine::shared_blocking();
    let rig = Rig::new();
    let first = rig.run("first", &[], "echo $$ >> $DIR/pid; while :; do sleep 0.05; done");
    assert_eq!(first.leads().version(), 1);
    let program = rig.pid("pid");
    let began = now();
    rig.freeze(&first);
    until("a tenth of a ttl", || (now() > began + TTL / 10).then_some(()));
    first.signal(Signal::CONT);
    let answer = first.ask("/leader").unwrap();
    assert_eq!((answer.status, answer.version()), (200, 1));
    // Whatever it had missed, its term would be over by then had it not renewed.
    until("the end of a ttl", || (now() > began + TTL).then_some(()));
    let answer = first.ask("/leader").unwrap();
    assert_eq!((answer.status, answer.version()), (200, 1));
    assert!(!is_gone(program) && rig.lines("pid").len() == 1);
}

#[test]
fn a_supervisor_whose_only_thread_is_blocked_kills_its_program_before_anybody_else_leads() {
    let stress = Stress::of(
        "a_supervisor_whose_only_thread_is_blocked_kills_its_program_before_anybody_else_leads",
        supervises_with_its_thread_blocked,
    );
    let program = stress.rig.pid("program.pid");
    // Nobody but the plain thread of the supervisor can do it then.
    for guardian in guardians_between(stress.holder.pid(), program) {
        rustix::process::kill_process(guardian, Signal::KILL).unwrap();
    }
    until("the end of the program", || is_gone(program).then_some(()));
    assert!(!stress.follower.is_leader(), "both led");
    stress.follower_leads();
}

#[test]
fn a_supervisor_whose_only_thread_is_blocked_after_its_program_has_ended_kills_nothing() {
    let stress = Stress::of(
        "a_supervisor_whose_only_thread_is_blocked_after_its_program_has_ended_kills_nothing",
        supervises_with_its_thread_blocked_after_the_program,
    );
    let said = until("a word of its plain thread", || {
        let log = stress.holder.log();
        log.lines()
            .find(|line| line.contains("beyond the end of its term") || line.contains("killed"))
            .map(str::to_owned)
    });
    assert!(said.contains("no program was running any more"), "{said}");
    stress.follower_leads();
}

/// A boot clock that goes on while the machine sleeps, as far as the test says that it did.
#[derive(Debug, Default)]
struct Sleeper {
    slept_ms: AtomicU64,
}

impl Sleeper {
    fn sleep(&self, time: Duration) {
        self.slept_ms.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Sleeper {
    fn boot(&self) -> Duration {
        SystemClock.boot() + Duration::from_millis(self.slept_ms.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        SystemClock.wall_ms()
    }
}

#[tokio::test]
async fn after_an_hours_sleep_of_the_machine_the_first_ask_says_no_and_the_thread_acts_although_tasks_cannot()
{
    let _machine = machine::shared().await;
    let file = SqliteFile::none_yet();
    store::install(&file.source(), store::Install::default().first(true)).await.unwrap();
    let clock = Arc::new(Sleeper::default());
    let (tell, told) = mpsc::channel();
    let participant = builder(file.folder.path(), TTL)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .on_overrun(move |overrun| tell.send(overrun.version).unwrap())
        .start()
        .unwrap();
    let held = participant.lead().await.unwrap().unwrap();
    clock.sleep(TTL / 10);
    assert!(participant.is_leader(), "a nap within the margin changes nothing");
    clock.sleep(Duration::from_secs(3600));
    assert!(!participant.is_leader());
    assert!(participant.term().is_none() && held.valid_for().is_zero());
    // This test's only thread is blocked here: no task runs.
    assert_eq!(told.recv_timeout(MOMENT), Ok(1), "the work still runs and nobody ends it");
    assert_eq!(held.lost().await, StopReason::Deadline);
    drop(held);
    // Nobody else was there: it watches the row for a ttl, like anybody, and leads again.
    assert_eq!(participant.lead().await.unwrap().unwrap().version(), 2);
}
