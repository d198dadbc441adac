//! `describe`: a lease in ten lines.

use std::time::Duration;

use super::view::{InstanceView, LeaseView, State};
use super::words::{safe, span, who};

/// So many participants are named.
const NAMED: usize = 5;

/// What to type next.
pub(super) struct Program<'a> {
    /// How the program was called.
    pub(super) name: &'a str,
    /// What tells it where the lease is.
    pub(super) place: String,
}

pub(super) fn story(view: &LeaseView, last: Option<&str>, program: &Program<'_>) -> String {
    let mut lines = vec![opening(view)];
    if let (Some(ttl), Some(renewed)) = (view.ttl_seconds, view.renewed_ago_ms) {
        let renewed = span(Duration::from_millis(renewed));
        lines.push(format!("A term lasts {ttl} s without renewal; the last renewal was {renewed} ago."));
    } else if let Some(ttl) = view.ttl_seconds.filter(|_| view.holder.is_some()) {
        lines.push(format!("A term lasts {ttl} s without renewal."));
    }
    lines.extend(last.map(str::to_owned));
    if let (Some(ready), reason) = (&view.ready, view.reason.as_deref().unwrap_or("no reason given")) {
        lines.push(format!("Ready is {ready} ({reason})."));
    }
    lines.push(candidates(view));
    if let Some(said) = &view.paused {
        lines.push(format!(
            "It is paused, by {}. Nobody takes the lease until it is resumed.",
            who(&said.by, &said.reason)
        ));
    }
    if let Some(request) = &view.request {
        let target =
            request.target.as_ref().map(|target| format!(" to {}", safe(target))).unwrap_or_default();
        let ago = request
            .asked_ago_ms
            .map(|ms| format!(" {} ago", span(Duration::from_millis(ms))))
            .unwrap_or_default();
        lines.push(format!(
            "A request is pending: {}{target}, asked{ago} by {} (id {}).",
            request.verb.replace('_', " "),
            who(&request.said.by, &request.said.reason),
            safe(&request.id)
        ));
    }
    lines.extend(view.problems.iter().cloned());
    lines.push(format!("Next: {}", next(view, program)));
    lines.join("\n") + "\n"
}

fn opening(view: &LeaseView) -> String {
    let title = safe(&view.title());
    let key = if view.component == view.title() {
        String::new()
    } else {
        format!(" (row {})", safe(&view.component))
    };
    let version = view.version.unwrap_or_default();
    let holder = safe(view.holder.as_deref().unwrap_or_default());
    let place = match (&view.pod, &view.node) {
        (Some(pod), Some(node)) => format!(", pod {} on node {}", safe(pod), safe(node)),
        (Some(pod), None) => format!(", pod {}", safe(pod)),
        (None, Some(node)) => format!(", on node {}", safe(node)),
        (None, None) => String::new(),
    };
    match view.state {
        State::Led => {
            let led = view
                .led_for_ms
                .map(|ms| format!(" for {}", span(Duration::from_millis(ms))))
                .unwrap_or_default();
            format!("{holder} leads {title}{key}{led}: version {version}{place}.")
        }
        State::Lapsed => format!("Nobody leads {title}{key}: {holder} stopped renewing version {version}."),
        State::Free => format!("Nobody leads {title}{key}: version {version} was given back."),
        State::NeverLed => format!("Nobody has ever led {title}{key}: there is no row."),
        State::Unknown => format!("It is not known who leads {title}{key}."),
    }
}

fn candidates(view: &LeaseView) -> String {
    let others: Vec<&InstanceView> = view.instances.iter().filter(|one| !one.leads).collect();
    if others.is_empty() {
        return "Nobody else takes part.".to_owned();
    }
    let named = others.iter().take(NAMED).map(|one| {
        let mut about = Vec::new();
        if !one.healthy {
            about.push("not healthy".to_owned());
        } else if !one.could_lead {
            about.push("priority 0".to_owned());
        }
        about.extend(one.node.as_ref().map(|node| format!("on {}", safe(node))));
        about.extend(one.alive_for_ms.map(|ms| format!("alive for {}", span(Duration::from_millis(ms)))));
        if about.is_empty() {
            safe(&one.instance)
        } else {
            format!("{} ({})", safe(&one.instance), about.join(", "))
        }
    });
    let named: Vec<String> = named.collect();
    let more = match others.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!(", and {more} more"),
        _ => String::new(),
    };
    format!("Also takes part: {}{more}.", named.join(", "))
}

/// The command that is most likely wanted now.
fn next(view: &LeaseView, program: &Program<'_>) -> String {
    let (name, place, lease) = (program.name, &program.place, shell(&view.title()));
    let other = view.instances.iter().find(|one| one.could_lead).map(|one| shell(&one.instance));
    let command = |words: &str| format!("{name} {words}{place}");
    match (view, other) {
        (LeaseView { paused: Some(_), .. }, _) => command(&format!("resume {lease}")),
        (LeaseView { request: Some(_), .. }, _) | (LeaseView { state: State::NeverLed, .. }, Some(_)) => {
            command(&format!("watch {lease}"))
        }
        (LeaseView { state: State::Led, .. }, Some(other)) => {
            command(&format!("switchover {lease} --to {other}"))
        }
        (LeaseView { state: State::Lapsed | State::Free, .. }, Some(other)) => {
            command(&format!("promote {lease} --to {other}"))
        }
        (LeaseView { state: State::NeverLed, .. }, None) => {
            "start a participant for this component".to_owned()
        }
        _ => "start another participant, so that somebody can take over".to_owned(),
    }
}

/// A word for a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", safe(word).replace('\'', "'\\''"))
    }
}
