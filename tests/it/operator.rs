//! The commands for operators on a database alone, with real participants.

use std::process::{Command, Stdio};

use component_lease_testkit::machine;
use rustix::process::Signal;
use serde_json::Value;

use crate::agent_support::*;

/// Goes on until it gets SIGTERM.
const WORK: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
/// What the rig's participants compete for.
const COMPONENT: &str = "discovery";
const REFUSED: i32 = 3;
const NOT_CARRIED_OUT: i32 = 4;

/// The command with the database of the rig.
fn operator(rig: &Rig, words: &[&str]) -> Command {
    let mut command = program();
    command.args(words).args(["--database-url", &rig.url()]).env("USER", "ada");
    command
}

/// Exit code, standard output, standard error.
fn told(rig: &Rig, words: &[&str]) -> (i32, String, String) {
    output(&operator(rig, words))
}

fn done(rig: &Rig, words: &[&str]) -> String {
    let (code, said, errors) = told(rig, words);
    assert_eq!(code, 0, "{words:?}: {said}{errors}");
    said
}

/// What is refused says so with its reason, and nothing else.
fn refused(rig: &Rig, words: &[&str], reason: &str) {
    let before = shown(rig);
    let (code, said, errors) = told(rig, words);
    assert_eq!(code, REFUSED, "{words:?}: {said}{errors}");
    assert!(errors.contains(reason) && said.is_empty(), "{words:?}: {said}{errors}");
    let after = shown(rig);
    for field in ["/holder", "/version", "/request/id", "/paused"] {
        assert_eq!(before.pointer(field), after.pointer(field), "{words:?} changed something");
    }
}

fn shown(rig: &Rig) -> Value {
    let json = done(rig, &["get", COMPONENT, "-o", "json"]);
    serde_json::from_str::<Value>(&json).unwrap()[0].take()
}

fn leader(rig: &Rig) -> String {
    shown(rig)["holder"].as_str().unwrap_or_default().to_owned()
}

/// Two of which the first leads, and both are entered in the database.
fn pair(rig: &Rig) -> [Running; 2] {
    let first = rig.run("first", &[], WORK);
    first.leads();
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    until("two instances", || (shown(rig)["instances"].as_array().unwrap().len() == 2).then_some(()));
    [first, second]
}

#[test]
fn a_switchover_moves_the_lease_to_its_target_and_back_and_says_who_leads_now() {
    let rig = Rig::new();
    let [first, second] = pair(&rig);
    let would = done(&rig, &["switchover", COMPONENT, "--to", "second", "--dry-run"]);
    assert!(
        would.contains("1. first_") && would.contains("2. second_") && would.contains("nothing was changed"),
        "{would}"
    );
    assert!(leader(&rig).starts_with("first"), "a dry run changes nothing");
    let said = done(&rig, &["switchover", COMPONENT, "--to", "second", "--reason", "maintenance"]);
    assert!(said.starts_with("second_") && said.contains("with version 2 after"), "{said}");
    assert_eq!(second.leads().version(), 2);
    let said = done(&rig, &["switchover", COMPONENT]);
    assert!(said.starts_with("first_") && said.contains("with version 3"), "nobody was named: {said}");
    assert_eq!(first.leads().version(), 3);
}

#[test]
fn a_leader_that_steps_down_makes_way_for_the_other() {
    let rig = Rig::new();
    let [_first, second] = pair(&rig);
    let said = done(&rig, &["step-down", COMPONENT, "--expect-holder", "first", "--expect-version", "1"]);
    assert!(said.starts_with("second_"), "{said}");
    assert_eq!(second.leads().version(), 2);
}

#[test]
fn a_frozen_leader_is_replaced_by_promotion_once_its_term_is_over_or_at_once() {
    let rig = Rig::with_ttl(TTL * 2);
    let [first, second] = pair(&rig);
    let third = rig.run("third", &[], WORK);
    third.sees(1);
    until("three instances", || (shown(&rig)["instances"].as_array().unwrap().len() == 3).then_some(()));
    let frozen = rig.freeze(&first);
    let said = done(&rig, &["promote", COMPONENT, "--to", "third"]);
    assert!(said.starts_with("third_") && said.contains("with version 2"), "{said}");
    assert!(now() - frozen > rig.ttl() / 2, "its term was not cut short");
    third.leads();
    first.signal(Signal::CONT);
    let frozen = rig.freeze(&third);
    let now_please = ["promote", COMPONENT, "--to", "second", "--now", "--reason", "it hangs", "--yes"];
    let said = done(&rig, &now_please);
    assert!(said.starts_with("second_") && said.contains("with version 3"), "{said}");
    assert!(now() - frozen < rig.ttl() / 2, "it did not wait for the term to end");
    assert_eq!(second.leads().version(), 3);
    third.signal(Signal::CONT);
    third.stands_by();
}

#[test]
fn what_does_not_come_about_in_time_is_taken_back_and_one_operator_may_replace_the_request_of_another() {
    // Many commands run before the frozen leader's term may end.
    let rig = Rig::with_ttl(TTL * 6);
    let [first, second] = pair(&rig);
    rig.freeze(&first);
    let (code, said, errors) = told(&rig, &["switchover", COMPONENT, "--to", "second", "--timeout", "0.3"]);
    assert_eq!((code, said.as_str()), (NOT_CARRIED_OUT, ""), "{errors}");
    assert!(errors.contains("TimedOut") && errors.contains("taken back"), "{errors}");
    assert_eq!(shown(&rig).get("request"), None, "nothing is obeyed later");
    let mut waiting = operator(&rig, &["switchover", COMPONENT, "--to", "second", "--timeout", "30"]);
    let waiting = waiting.stderr(Stdio::piped()).spawn().unwrap();
    until("the request", || shown(&rig).get("request").cloned());
    rustix::process::kill_process(rustix::process::Pid::from_child(&waiting), Signal::TERM).unwrap();
    let ended = waiting.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(NOT_CARRIED_OUT), "{errors}");
    assert!(errors.contains("Interrupted"), "{errors}");
    assert_eq!(shown(&rig).get("request"), None, "nor is what was interrupted");

    let asked = done(&rig, &["step-down", COMPONENT, "--wait=false", "--id", "one", "--reason", "test"]);
    assert!(asked.contains("id one"), "{asked}");
    let story = done(&rig, &["describe", COMPONENT]);
    assert!(
        story.contains("step down, asked") && story.contains("ada@") && story.contains(": test (id one)"),
        "{story}"
    );
    refused(&rig, &["switchover", COMPONENT, "--to", "second"], "AnotherRequestPending");
    refused(&rig, &["switchover", COMPONENT, "--to", "second", "--id", "one"], "IdUsed");
    refused(&rig, &["step-down", COMPONENT, "--replace", "two"], "NothingToReplace");
    let again = done(&rig, &["step-down", COMPONENT, "--wait=false", "--id", "one"]);
    assert!(again.contains("id one"), "{again}");
    done(
        &rig,
        &["switchover", COMPONENT, "--to", "second", "--replace", "one", "--id", "two", "--wait=false"],
    );
    // It wakes, and finds the one request that stands.
    first.signal(Signal::CONT);
    second.leads();
    let replayed = done(&rig, &["switchover", COMPONENT, "--to", "second", "--id", "two"]);
    assert!(replayed.starts_with("second_") && !replayed.contains("after"), "it was over before: {replayed}");
    assert!(leader(&rig).starts_with("second"));
}

#[test]
fn while_paused_nobody_takes_over_and_each_command_says_so() {
    let rig = Rig::new();
    let [mut first, second] = pair(&rig);
    done(&rig, &["pause", COMPONENT, "--reason", "restore"]);
    let said = done(&rig, &["pause", COMPONENT]);
    assert!(said.contains("paused already, by ada@") && said.contains("restore"), "{said}");
    let table = done(&rig, &["get", COMPONENT]);
    assert!(table.contains("Led, Paused"), "{table}");
    refused(&rig, &["switchover", COMPONENT, "--to", "second"], "Paused");
    first.signal(Signal::TERM);
    first.exit_code();
    until("a free lease", || (shown(&rig)["state"] == "Free").then_some(()));
    let story = done(&rig, &["describe", COMPONENT]);
    assert!(
        story.contains("It is paused, by ada@") && story.contains("Next: component-lease resume"),
        "{story}"
    );
    second.stands_by();
    done(&rig, &["resume", COMPONENT]);
    second.leads();
    let said = done(&rig, &["resume", COMPONENT]);
    assert!(said.contains("is not paused; nothing was changed"), "{said}");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_the_remedy() {
    let rig = Rig::new();
    let [_first, _second] = pair(&rig);
    refused(&rig, &["switchover", COMPONENT, "--to", "nobody"], "UnknownTarget");
    refused(&rig, &["switchover", COMPONENT, "--to", "first"], "TargetLeads");
    refused(&rig, &["step-down", COMPONENT, "--expect-version", "7"], "VersionIsAnother");
    refused(&rig, &["step-down", COMPONENT, "--expect-holder", "second"], "HolderIsAnother");
    for (words, code, says) in [
        (&["promote", COMPONENT, "--to", "second", "--now"][..], 2, "--reason"),
        (&["promote", COMPONENT, "--to", "second", "--now", "--reason", "x"], 2, "--yes"),
        (&["switchover", COMPONENT, "--id", "a b"], 2, "--id"),
        (&["switchover", COMPONENT, "--reason", "a\nb"], 2, "one line"),
        (&["describe", "nothing"], 5, "no lease \"nothing\""),
        (&["pause", "nothing"], 5, "no lease \"nothing\""),
    ] {
        let (ended, said, errors) = told(&rig, words);
        assert_eq!(ended, code, "{words:?}: {said}{errors}");
        assert!(errors.contains(says), "{words:?}: {errors}");
    }
    assert!(leader(&rig).starts_with("first"));
}

#[test]
fn a_lease_that_was_given_back_has_no_leader_to_ask() {
    let rig = Rig::new();
    let mut alone = rig.run("alone", &[], WORK);
    alone.leads();
    alone.signal(Signal::TERM);
    alone.exit_code();
    until("a free lease", || (shown(&rig)["state"] == "Free").then_some(()));
    refused(&rig, &["step-down", COMPONENT], "NobodyLeads");
    let story = done(&rig, &["describe", COMPONENT]);
    assert!(story.contains("Nobody leads discovery"), "{story}");
}

#[test]
fn a_database_without_tables_and_one_that_does_not_answer_are_told_apart() {
    let rig = Rig::new();
    let empty = format!("sqlite://{}", rig.path("empty.db").display());
    std::fs::write(rig.path("empty.db"), "").unwrap();
    for (url, code, says) in
        [(empty.as_str(), 78, "migrate"), ("postgres://me:hunter2@127.0.0.1:1/d", 69, "127.0.0.1:1")]
    {
        for words in
            [&["get", "c"][..], &["describe", "c"], &["step-down", "c"], &["pause", "c"], &["instances", "c"]]
        {
            let (ended, said, errors) = output(program().args(words).args(["--database-url", url]));
            assert_eq!(ended, code, "{words:?}: {said}{errors}");
            assert!(errors.contains(says) && !errors.contains("hunter2"), "{words:?}: {errors}");
        }
    }
}

#[test]
fn without_a_terminal_a_watch_prints_each_change_on_a_line_of_its_own() {
    let rig = Rig::new();
    let [_first, _second] = pair(&rig);
    let log = rig.path("watch");
    let mut watch = operator(&rig, &["watch", COMPONENT]);
    let mut watch = watch.stdout(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let lines = || std::fs::read_to_string(&log).unwrap();
    until("the first line", || lines().contains("first_").then_some(()));
    done(&rig, &["switchover", COMPONENT, "--to", "second"]);
    until("the second line", || lines().contains("leads with version 2").then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&watch), Signal::INT).unwrap();
    assert!(watch.wait().unwrap().success(), "Ctrl-C is how it ends");
    assert!(lines().lines().all(|line| line.contains("discovery: ")), "{}", lines());
}

#[test]
fn called_as_a_plugin_of_kubectl_it_has_the_operators_commands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-componentlease");
    std::os::unix::fs::symlink(PROGRAM, &plugin).unwrap();
    let (code, help, _) = output(Command::new(&plugin).arg("--help"));
    assert_eq!(code, 0);
    assert!(help.contains("kubectl componentlease") && help.contains("switchover"), "{help}");
    assert!(!help.contains("migrate") && !help.contains("controller"), "{help}");
    let (code, _, errors) = output(Command::new(&plugin).args(["get"]).env("KUBECONFIG", "/nonexistent"));
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("--database-url"), "{errors}");
}

#[test]
fn the_history_tells_each_term_its_end_and_who_asked_and_all_leases_are_listed() {
    let rig = Rig::new();
    let [_first, second] = pair(&rig);
    done(&rig, &["switchover", COMPONENT, "--to", "second", "--reason", "maintenance"]);
    second.leads();
    // The end is written after the release, and nothing waits for it.
    let terms = until("the end of the first term", || {
        let terms: Value = serde_json::from_str(&done(&rig, &["history", COMPONENT, "-o", "json"])).unwrap();
        (terms[1]["end"] != "not_known").then_some(terms)
    });
    let json = terms.to_string();
    let of = |n: usize, field: &str| terms[n][field].clone();
    assert_eq!((of(0, "version"), of(0, "end")), (2.into(), "leads".into()), "{json}");
    assert_eq!(of(1, "version"), 1, "{json}");
    assert!(of(1, "holder").as_str().unwrap().starts_with("first_"), "{json}");
    assert_eq!(
        (of(1, "end"), of(1, "asked")["reason"].clone()),
        ("switched_over".into(), "maintenance".into())
    );
    assert!(of(0, "withoutLeaderMs").as_u64().unwrap() < 5_000, "{json}");
    let story = done(&rig, &["describe", COMPONENT]);
    assert!(story.contains("which was switched over, asked by ada@"), "{story}");
    let one = done(&rig, &["history", COMPONENT, "--limit", "1", "-o", "name"]);
    assert_eq!(one, "2\n");
    assert_eq!(done(&rig, &["get", "-o", "name"]), "discovery\n");
    assert_eq!(done(&rig, &["get", "-n", "elsewhere", "-o", "name"]), "");
}

#[test]
fn a_node_is_emptied_of_leaders_and_a_leader_that_has_nowhere_to_go_stays() {
    let rig = Rig::new();
    let on = |name: &str, node: &str| {
        let address = free_address();
        let mut command = program();
        command.args([
            "run",
            "--component",
            COMPONENT,
            "--ttl",
            "5",
            "--name",
            name,
            "--database-url",
            &rig.url(),
        ]);
        command.args(["--listen", &address.to_string(), "--", "sh", "-c", WORK]).env("NODE_NAME", node);
        Running::start(command, rig.path(&format!("{name}.log")), address)
    };
    let first = on("first", "n1");
    first.leads();
    let _neighbour = on("neighbour", "n1");
    until("two instances", || (shown(&rig)["instances"].as_array().unwrap().len() == 2).then_some(()));
    let (code, _, errors) = told(&rig, &["drain", "n1"]);
    assert_eq!(code, NOT_CARRIED_OUT, "{errors}");
    assert!(errors.contains("NoCandidate") && errors.contains("1 of 1 leaders stay on n1"), "{errors}");
    let other = on("other", "n2");
    until("three instances", || (shown(&rig)["instances"].as_array().unwrap().len() == 3).then_some(()));
    let said = done(&rig, &["drain", "n1", "--dry-run"]);
    assert!(said.contains("discovery would go to other_"), "{said}");
    let said = done(&rig, &["drain", "n1"]);
    assert!(said.starts_with("other_") && said.contains("with version 2"), "{said}");
    other.leads();
    let said = done(&rig, &["drain", "n1"]);
    assert!(said.contains("no leader runs on n1"), "{said}");
}

#[test]
fn a_shell_and_kubectl_are_told_what_can_follow() {
    let rig = Rig::new();
    let _pair = pair(&rig);
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, errors) = output(program().args(["completion", shell]));
        assert!(code == 0 && script.contains("switchover"), "{shell}: {errors}");
    }
    let folder = tempfile::tempdir().unwrap();
    let completer = folder.path().join("kubectl_complete-componentlease");
    std::os::unix::fs::symlink(PROGRAM, &completer).unwrap();
    let offered = |words: &[&str]| {
        let mut command = Command::new(&completer);
        command.args(words).env_clear().env("COMPONENT_LEASE_DATABASE_URL", rig.url());
        let (code, said, errors) = output(&command);
        assert_eq!(code, 0, "{errors}");
        said
    };
    assert!(offered(&["sw"]).starts_with("switchover\t"), "{}", offered(&["sw"]));
    assert!(offered(&["switchover", ""]).starts_with("discovery\tfirst_"));
    let targets = offered(&["switchover", "discovery", "--to", ""]);
    assert!(targets.contains("\nsecond_") && targets.ends_with("\n:4\n"), "{targets}");
}

#[test]
fn the_plugin_is_packed_with_the_checksum_that_its_manifest_names() {
    // It compresses the program twice.
    let _machine = machine::alone_blocking();
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/krew.sh");
    let pack = |into: &str| {
        let mut command = Command::new(script);
        command.arg(PROGRAM).arg(folder.path().join(into)).arg("https://example.org/plugin.tar.gz");
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let (code, said, errors) = output(&command);
        assert_eq!(code, 0, "{errors}");
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let [archive, manifest] = <[String; 2]>::try_from(pack("one")).unwrap();
    let manifest: Value = serde_yaml::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
    let platform = &manifest["spec"]["platforms"][0];
    let (_, sum, _) = output(Command::new("/usr/bin/sha256sum").arg(&archive));
    assert_eq!(platform["sha256"].as_str(), sum.split(' ').next(), "{manifest}");
    assert_eq!(manifest["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let unpacked = folder.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    let tar =
        tar.args(["-xzf", &archive, "-C"]).arg(&unpacked).env("PATH", std::env::var_os("PATH").unwrap());
    assert_eq!(output(tar).0, 0);
    let (code, said, _) =
        output(Command::new(unpacked.join(platform["bin"].as_str().unwrap())).arg("--version"));
    assert_eq!((code, said.starts_with("kubectl-componentlease ")), (0, true), "{said}");
    let [again, _] = <[String; 2]>::try_from(pack("two")).unwrap();
    assert!(
        std::fs::read(archive).unwrap() == std::fs::read(again).unwrap(),
        "the same program, the same bytes"
    );
}

#[test]
fn on_the_spot_a_leader_steps_down_without_the_database_and_its_socket_goes_with_it() {
    let rig = Rig::new();
    let socket = rig.path("control");
    let socket = socket.to_str().unwrap();
    let mut first = rig.run("first", &["--control-socket", socket], WORK);
    first.leads();
    let second = rig.run("second", &[], WORK);
    second.sees(1);
    let (code, said, errors) = output(program().args(["step-down", "--socket", socket]));
    assert_eq!(code, 0, "{errors}");
    assert!(said.contains("stepped down from discovery (version 1)"), "{said}");
    assert_eq!(second.leads().version(), 2);
    let (code, _, errors) = output(program().args(["step-down", "--socket", socket]));
    assert_eq!(code, REFUSED, "{errors}");
    assert!(errors.contains("NotLeading"), "{errors}");
    first.signal(Signal::TERM);
    first.exit_code();
    assert!(!rig.path("control").exists());
    let (code, _, errors) = output(program().args(["step-down", "--socket", socket]));
    assert_eq!(code, 69, "{errors}");
    let (code, _, errors) = output(program().args(["step-down", "--socket", socket, "--reason", "x"]));
    assert_eq!(code, 2, "a socket takes no more than the verb: {errors}");
}
