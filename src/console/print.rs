//! Lists of leases and of participants.

use std::time::Duration;

use serde::Serialize;

use super::args::Format;
use super::screen::Screen;
use super::table::{Column, table};
use super::view::{InstanceView, LeaseView, State};
use super::words::{lines, or_dash, safe, span};
use crate::process::{Failure, output};

/// Prints one document, or what `text` makes of it.
pub(super) fn document<T: Serialize>(
    what: &T,
    format: Format,
    text: impl FnOnce() -> String,
) -> Result<u8, Failure> {
    let made = match format {
        Format::Json => {
            serde_json::to_string_pretty(what).map(|json| json + "\n").map_err(|error| error.to_string())
        }
        Format::Yaml => serde_yaml::to_string(what).map_err(|error| error.to_string()),
        Format::Table | Format::Wide | Format::Name => Ok(text()),
    };
    output::print(&made.map_err(Failure::unexpected)?)
}

pub(super) fn leases(views: &[LeaseView], format: Format, screen: Screen) -> Result<u8, Failure> {
    document(&views, format, || match format {
        Format::Name => lines(views.iter().map(|view| safe(&view.title()))),
        _ => lease_table(views, format == Format::Wide, screen.width()),
    })
}

/// `width` of the terminal, if there is one.
pub(super) fn lease_table(views: &[LeaseView], wide: bool, width: Option<usize>) -> String {
    let cluster = views.iter().any(|view| view.ready.is_some());
    let namespaces = views.iter().any(|view| view.namespace.is_some());
    let mut columns: Vec<Column> = Vec::new();
    if namespaces {
        columns.push(("NAMESPACE", 3));
    }
    columns.extend([("NAME", 0), ("LEADER", 0), ("VERSION", 2), ("SINCE", 4)]);
    columns.push(if cluster { ("READY", 1) } else { ("RENEWED", 1) });
    columns.push(("STATE", 1));
    columns.push(("NODE", 5));
    if wide {
        columns.extend([("HOLDER", 6), ("TTL", 7), ("CANDIDATES", 8), ("COMPONENT", 9)]);
    }
    let rows: Vec<Vec<String>> =
        views.iter().map(|view| lease_row(view, namespaces, cluster, wide)).collect();
    table(&columns, &rows, width)
}

fn lease_row(view: &LeaseView, namespaces: bool, cluster: bool, wide: bool) -> Vec<String> {
    let ago = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| span(Duration::from_millis(ms)));
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut row = Vec::new();
    if namespaces {
        row.push(or_dash(view.namespace.as_deref()));
    }
    let leads = view.state == State::Led;
    row.push(safe(&view.name));
    let leader = view.pod.as_deref().or(view.holder.as_deref());
    row.push(or_dash(leader.filter(|_| leads)));
    row.push(number(view.version));
    row.push(ago(view.led_for_ms.filter(|_| leads)));
    row.push(if cluster { or_dash(view.ready.as_deref()) } else { ago(view.renewed_ago_ms) });
    row.push(standing(view));
    row.push(or_dash(view.node.as_deref().filter(|_| leads)));
    if wide {
        row.push(or_dash(view.holder.as_deref()));
        row.push(view.ttl_seconds.map_or_else(|| "-".to_owned(), |ttl| format!("{ttl} s")));
        row.push(view.instances.len().to_string());
        row.push(safe(&view.component));
    }
    row
}

/// One word for what matters most: a pause, a request, or how the lease stands.
fn standing(view: &LeaseView) -> String {
    let mut words = vec![match (view.state, view.reason.as_deref()) {
        (State::Led, Some(reason)) if view.ready.as_deref() != Some("True") => safe(reason),
        (state, _) => state.as_str().to_owned(),
    }];
    if view.paused.is_some() {
        words.push("Paused".to_owned());
    }
    if let Some(request) = &view.request {
        words.push(format!("{} pending", request.verb.replace('_', "-")));
    }
    words.join(", ")
}

pub(super) fn instances(of: &[InstanceView], format: Format, screen: Screen) -> Result<u8, Failure> {
    document(&of, format, || match format {
        Format::Name => lines(of.iter().map(|one| safe(&one.instance))),
        _ => instance_table(of, format == Format::Wide, screen.width()),
    })
}

pub(super) fn instance_table(of: &[InstanceView], wide: bool, width: Option<usize>) -> String {
    let mut columns: Vec<Column> =
        vec![("INSTANCE", 0), ("LEADS", 0), ("HEALTHY", 1), ("ALIVE", 3), ("HEARTBEAT", 2), ("NODE", 4)];
    if wide {
        columns.extend([("POD", 5), ("MODE", 6), ("PROGRAM", 7)]);
    }
    let ago = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| span(Duration::from_millis(ms)));
    let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows: Vec<Vec<String>> = of
        .iter()
        .map(|one| {
            let mut row = vec![
                safe(&one.instance),
                word(one.leads),
                word(one.healthy),
                ago(one.alive_for_ms),
                ago(one.heartbeat_ago_ms),
                or_dash(one.node.as_deref()),
            ];
            if wide {
                row.push(or_dash(one.pod.as_deref()));
                row.push(or_dash(one.mode));
                row.push(or_dash(one.program_version.as_deref()));
            }
            row
        })
        .collect();
    table(&columns, &rows, width)
}
