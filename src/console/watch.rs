//! `watch`: a table that is drawn anew each second on a terminal; elsewhere one line for each change.

use std::collections::BTreeMap;
use std::time::Duration;

use super::leases::Leases;
use super::print::lease_table;
use super::screen::Screen;
use super::view::{LeaseView, State};
use super::words::{safe, time};
use crate::clock::{Clock, SystemClock};
use crate::process::{Failure, output, shutdown};

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn watch(
    leases: &Leases,
    names: &[String],
    everywhere: bool,
    screen: Screen,
) -> Result<u8, Failure> {
    let mut before: BTreeMap<String, LeaseView> = BTreeMap::new();
    let mut silent: Option<String> = None;
    // A first look that fails is an answer: the name or the address is wrong.
    let mut views = leases.views(names, everywhere).await?;
    let end = shutdown::on_signal()?;
    screen.clear()?;
    loop {
        if screen.is_live() {
            let table = lease_table(&views, false, screen.width());
            let now = time(SystemClock.wall_ms());
            let foot = silent.as_ref().map_or_else(
                || screen.faint(&format!("{now}, drawn anew each second; Ctrl-C ends it")),
                |error| screen.bad(&format!("not up to date: {error}")),
            );
            screen.draw(&format!("{table}\n{foot}\n"))?;
        } else {
            for line in news(&before, &views) {
                output::print(&format!("{} {line}\n", time(SystemClock.wall_ms())))?;
            }
        }
        before = views.iter().map(|view| (view.title(), view.clone())).collect();
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = end.cancelled() => return Ok(0),
        }
        let looked = tokio::select! {
            looked = leases.views(names, everywhere) => looked,
            () = end.cancelled() => return Ok(0),
        };
        match looked {
            Ok(found) => (views, silent) = (found, None),
            Err(error) => {
                let error = error.to_string();
                if !screen.is_live() && silent.is_none() {
                    output::complain(&format!("component-lease: {}; it goes on\n", safe(&error)));
                }
                silent = Some(safe(&error));
            }
        }
    }
}

/// One line for each lease that is not as it was.
fn news(before: &BTreeMap<String, LeaseView>, now: &[LeaseView]) -> Vec<String> {
    let mut lines: Vec<String> = now
        .iter()
        .filter_map(|view| {
            let title = safe(&view.title());
            let after = standing(view);
            match before.get(&view.title()).map(standing) {
                Some(same) if same == after => None,
                _ => Some(format!("{title}: {after}")),
            }
        })
        .collect();
    let there = |title: &String| now.iter().any(|view| view.title() == *title);
    lines.extend(before.keys().filter(|title| !there(title)).map(|title| format!("{}: gone", safe(title))));
    lines
}

/// What a change of is news.
fn standing(view: &LeaseView) -> String {
    let version = view.version.unwrap_or_default();
    let holder = safe(view.holder.as_deref().unwrap_or_default());
    let mut words = vec![match view.state {
        State::Led => format!("{holder} leads with version {version}"),
        State::Lapsed => format!("nobody leads; {holder} stopped renewing version {version}"),
        State::Free => format!("nobody leads; version {version} was given back"),
        State::NeverLed => "nobody has ever led".to_owned(),
        State::Unknown => "it is not known who leads".to_owned(),
    }];
    if let Some(ready) = &view.ready {
        words.push(format!("Ready is {ready} ({})", view.reason.as_deref().unwrap_or_default()));
    }
    if view.paused.is_some() {
        words.push("paused".to_owned());
    }
    if let Some(request) = &view.request {
        words.push(format!("{} pending", request.verb.replace('_', " ")));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(name: &str, holder: &str, version: i64) -> LeaseView {
        LeaseView {
            name: name.to_owned(),
            state: State::Led,
            holder: Some(holder.to_owned()),
            version: Some(version),
            ..LeaseView::default()
        }
    }

    #[test]
    fn only_changes_are_news_and_a_renewal_is_none() {
        let before = BTreeMap::from([("a".to_owned(), led("a", "x", 1)), ("b".to_owned(), led("b", "y", 7))]);
        let renewed = LeaseView { renewed_ago_ms: Some(5), led_for_ms: Some(9), ..led("a", "x", 1) };
        assert!(news(&before, &[renewed.clone(), led("b", "y", 7)]).is_empty());
        assert_eq!(
            news(
                &before,
                &[
                    LeaseView { paused: Some(super::super::view::SaidView::default()), ..renewed },
                    led("c", "z", 1)
                ]
            ),
            ["a: x leads with version 1; paused", "c: z leads with version 1", "b: gone"]
        );
    }
}
