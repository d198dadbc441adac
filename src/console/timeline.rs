//! `history`: the terms of a lease, the newest first, with the time between two in which nobody led.

use std::time::Duration;

use serde::Serialize;

use super::table::{Column, table};
use super::view::{SaidView, whole_ms};
use super::words::{between, safe, span, time, who};
use crate::election::LeaseRow;
use crate::store::{EndReason, Term};

/// One term.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TermView {
    /// The fencing token; a cluster does not tell that of the term before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i64>,
    /// Who led.
    pub(super) holder: String,
    /// When it began, by the database's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) began: Option<String>,
    /// When it ended, by the same clock. Of a term that lapsed, its last renewal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<String>,
    /// Milliseconds that it lasted, or lasts so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) led_for_ms: Option<u64>,
    /// Why it ended: a word of `component_lease_history.end_reason`, or `leads`, or `not_known`.
    pub(super) end: String,
    /// Who asked for its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<SaidView>,
    /// Milliseconds from the end of the term before to the beginning of this one: nobody led.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) without_leader_ms: Option<u64>,
}

/// The newest first, as they are given; `row` tells whether the first one goes on. Of the last one it is not known
/// what was before it.
pub(super) fn terms(of: &[Term], row: Option<&LeaseRow>, database_now: i64) -> Vec<TermView> {
    let before = of.iter().skip(1).map(Some).chain([None]);
    of.iter().zip(before).map(|(term, before)| view(term, before, row, database_now)).collect()
}

fn view(term: &Term, before: Option<&Term>, row: Option<&LeaseRow>, database_now: i64) -> TermView {
    let leads = row.is_some_and(|row| row.version == term.version && !row.is_free());
    let end = term.end.as_ref().filter(|_| !leads);
    let until = if leads { Some(database_now) } else { end.map(|end| end.at) };
    let gap =
        before.and_then(|before| before.end.as_ref()).map(|end| whole_ms(between(end.at, term.lease_time)));
    TermView {
        version: Some(term.version),
        holder: term.holder.clone(),
        began: Some(time(term.lease_time)),
        ended: end.map(|end| time(end.at)),
        led_for_ms: until.map(|until| whole_ms(between(term.lease_time, until))),
        end: match end {
            Some(end) => end.reason.as_str(),
            None if leads => LEADS,
            None => NOT_KNOWN,
        }
        .to_owned(),
        asked: end.and_then(|end| end.said.as_ref()).map(SaidView::from),
        without_leader_ms: gap,
    }
}

/// Of a term that goes on, and of one whose end nobody wrote down.
pub(super) const LEADS: &str = "leads";
pub(super) const NOT_KNOWN: &str = "not_known";

const COLUMNS: &[Column] = &[
    ("VERSION", 0),
    ("HOLDER", 0),
    ("BEGAN", 2),
    ("LED FOR", 1),
    ("END", 0),
    ("NOBODY BEFORE", 3),
    ("ASKED BY", 4),
];

/// `width` of the terminal, if there is one.
pub(super) fn timeline(terms: &[TermView], width: Option<usize>) -> String {
    let ms = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| span(Duration::from_millis(ms)));
    let rows: Vec<Vec<String>> = terms
        .iter()
        .map(|term| {
            let asked =
                term.asked.as_ref().map_or_else(|| "-".to_owned(), |said| who(&said.by, &said.reason));
            vec![
                term.version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
                safe(&term.holder),
                term.began.clone().unwrap_or_else(|| "-".to_owned()),
                ms(term.led_for_ms),
                term.end.replace('_', " "),
                ms(term.without_leader_ms),
                asked,
            ]
        })
        .collect();
    table(COLUMNS, &rows, width)
}

/// Why the present term began: a line of `describe`.
pub(super) fn last_change(terms: &[Term]) -> Option<String> {
    let [newest, before, ..] = terms else { return None };
    let end = before.end.as_ref()?;
    let asked = end.said.as_ref().map(|said| format!(", asked by {}", who(said.by(), said.reason())));
    let gap = span(between(end.at, newest.lease_time));
    Some(format!(
        "Before it {} led as version {}, which {}{}; nobody led for {gap}.",
        safe(&before.holder),
        before.version,
        ended(end.reason),
        asked.unwrap_or_default()
    ))
}

fn ended(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Released => "was given back",
        EndReason::WorkEnded => "came to the end of its work",
        EndReason::WorkFailed => "failed in its work",
        EndReason::Expired => "lapsed",
        EndReason::Deadline => "could not be renewed in time",
        EndReason::SteppedDown => "stepped down",
        EndReason::SwitchedOver => "was switched over",
        EndReason::Promoted => "made way for a promotion",
        EndReason::Unhealthy => "was not healthy",
        EndReason::ContainerEnded => "ended with its container",
        EndReason::DatabaseChanged => "ended with a change of the database",
        EndReason::Foreign => "was taken over by a program with its own SQL",
        _ => "ended for a reason that this version does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{End, Said};

    fn term(version: i64, lease_time: i64, end: Option<(i64, EndReason)>) -> Term {
        let end = end.map(|(at, reason)| End { at, reason, said: None });
        Term { version, holder: format!("h{version}"), lease_time, ttl: 30, end }
    }

    fn row(holder: &str, version: i64) -> LeaseRow {
        LeaseRow { holder: holder.to_owned(), lease_time: 0, renew_time: 0, version, ttl: 30 }
    }

    #[test]
    fn each_term_says_how_long_it_led_and_how_long_nobody_led_before_it() {
        let mut asked = term(2, 10_000, Some((70_000, EndReason::SwitchedOver)));
        if let Some(end) = &mut asked.end {
            end.said = Some(Said::new("ada", "maintenance").unwrap());
        }
        let of = [term(3, 70_250, None), asked, term(1, 0, None)];
        let views = terms(&of, Some(&row("h3", 3)), 80_250);
        let shown: Vec<_> = views
            .iter()
            .map(|view| (view.version.unwrap(), view.led_for_ms, view.end.as_str(), view.without_leader_ms))
            .collect();
        assert_eq!(
            shown,
            [
                (3, Some(10_000), "leads", Some(250)),
                (2, Some(60_000), "switched_over", None),
                (1, None, "not_known", None)
            ]
        );
        assert_eq!(
            timeline(&views, None).lines().nth(2),
            Some(
                "2         h2       1970-01-01T00:00:10Z   1 min     switched over   -               ada: maintenance"
            )
        );
        assert_eq!(
            last_change(&of).unwrap(),
            "Before it h2 led as version 2, which was switched over, asked by ada: maintenance; nobody led for 0.250 s."
        );
    }

    #[test]
    fn a_term_that_was_given_back_does_not_lead_although_its_end_was_not_written() {
        let views = terms(&[term(1, 0, None)], Some(&row("", 1)), 9);
        assert_eq!((views[0].end.as_str(), views[0].led_for_ms), ("not_known", None));
        assert_eq!(last_change(&[term(1, 0, None)]), None);
    }
}
