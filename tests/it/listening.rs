//! Where the endpoints are served and who gets which answer, in network namespaces of their own.

use std::process::Command;

use crate::agent_support::{PROGRAM, Rig, output};

/// Runs a shell script in a network namespace of its own, in which the loopback interface is up; what it prints.
/// `ask ADDRESS PATH` prints the status line and the rest of an answer, and waits until somebody answers.
fn in_a_network(rig: &Rig, script: &str) -> String {
    const ASK: &str = r#"
        set -e
        ip link set lo up
        ask() {
            n=0
            until curl --silent --show-error --globoff --max-time 5 --include "http://$1$2" > "$DIR/answer" 2> "$DIR/error"; do
                n=$((n + 1)); [ $n -lt 300 ] || { cat "$DIR/error" "$DIR/log" >&2; exit 1; }
                sleep 0.1
            done
            cat "$DIR/answer"
        }
        begin() {
            verb=$1; shift
            "$PROGRAM" "$verb" --component discovery --database-url "$URL" "$@" > "$DIR/log" 2>&1 &
            running=$!
            trap 'kill $running 2> /dev/null || true' EXIT
        }
        end() { kill $running; wait $running || true; }
    "#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", &format!("{ASK}{script}")]);
    command
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PROGRAM", PROGRAM)
        .env("URL", rig.url())
        .env("DIR", rig.path(""));
    let (code, said, errors) = output(&command);
    assert_eq!(code, 0, "{said}{errors}");
    said
}

/// How often it was answered with this status.
fn count(said: &str, status: &str) -> usize {
    said.lines().filter(|line| line.starts_with(&format!("HTTP/1.1 {status}"))).count()
}

#[test]
fn where_there_is_only_ipv6_every_listener_is_reached() {
    let rig = Rig::new();
    let said = in_a_network(
        &rig,
        r#"
        ip address del 127.0.0.1/8 dev lo
        ip address add fd00::7/128 dev lo nodad
        begin agent; ask '[::1]:8355' /readyz; end
        begin agent --listen :8356; ask '[::1]:8356' /readyz; ask '[fd00::7]:8356' /readyz; end
        begin run --listen '[::]:8357' -- sh -c 'echo "$COMPONENT_LEASE_AGENT_URL" > "$DIR/url"; exec sleep 100'
        n=0; until [ -s "$DIR/url" ]; do n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done
        cat "$DIR/url"
        url=$(sed s,http://,, "$DIR/url"); ask "${url%%/*}" "/${url#*/}/leader"
        end
        "#,
    );
    assert_eq!(count(&said, "200"), 4, "{said}");
    assert!(said.contains("http://[::1]:8357"), "the program gets an address that it can reach: {said}");
}

#[test]
fn where_ipv6_is_switched_off_and_where_both_are_there_every_listener_is_reached() {
    let rig = Rig::new();
    let said = in_a_network(
        &rig,
        r"
        begin agent --listen :8355; ask '[::1]:8355' /readyz; ask 127.0.0.1:8355 /readyz; end
        ip -6 address flush dev lo
        begin agent --listen :8356; ask 127.0.0.1:8356 /readyz; end
        begin agent; ask 127.0.0.1:8355 /readyz; ask 127.0.0.1:8355 /leader; end
        ",
    );
    assert_eq!(count(&said, "200") + count(&said, "503"), 5, "{said}");
}

#[test]
fn a_client_outside_learns_who_leads_only_with_answer_outside() {
    let rig = Rig::new();
    let said = in_a_network(
        &rig,
        r#"
        ip address add 10.11.12.13/32 dev lo
        begin agent --ttl 5 --listen :8355
        until ask 127.0.0.1:8355 /leader | grep -q '"leader":true'; do sleep 0.1; done
        ask 10.11.12.13:8355 /readyz; ask 10.11.12.13:8355 /metrics > "$DIR/metrics"
        ask 10.11.12.13:8355 /leader
        end
        begin agent --ttl 5 --listen :8355 --answer-outside
        until ask 127.0.0.1:8355 /leader | grep -q '"leader":true'; do sleep 0.1; done
        echo; echo now it answers; ask 10.11.12.13:8355 /leader
        end
        "#,
    );
    let (before, after) = said.split_once("now it answers").unwrap();
    assert_eq!((count(before, "200"), count(before, "403")), (1, 1), "{said}");
    assert!(before.contains("--answer-outside") && !before.contains("valid_for_ms"), "{before}");
    assert!(count(after, "200") == 1 && after.contains("\"leader\":true"), "{after}");
}
