//! What a client saw, held against what the row says had happened.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::TTL;
use super::client::{Answer, Said};
use super::rows::Change;
use crate::control_plane::{Duplicate, LabelChange};

/// The field manager of our controller.
pub const OURS: &str = "component-lease";

/// A term as the row's history tells it.
#[derive(Debug, Clone)]
struct Term {
    pod: String,
    version: i64,
    /// It cannot have begun earlier.
    after: Instant,
    seen: Instant,
    /// It was over then for certain; `None` while it lasts.
    over: Option<Instant>,
    /// It began on a row that nobody had renewed for a ttl.
    seized: bool,
}

/// What there is to say about a run.
#[derive(Debug, Default)]
pub struct Verdict {
    pub answered: usize,
    /// Requests without an answer of a leader, by reason.
    pub refused: BTreeMap<String, usize>,
    /// Answers of pods that did not lead at that time under that version.
    pub not_leading: Vec<String>,
    /// Answers with a version below one that had been given before they were asked for, and
    /// versions of the row that went down or were given to two holders.
    pub backwards: Vec<String>,
    /// Labels of ours that made a second labelled pod.
    pub twice: Vec<String>,
}

impl Verdict {
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.not_leading.is_empty() && self.backwards.is_empty() && self.twice.is_empty()
    }

    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.values().sum()
    }
}

/// Judges a whole run.
#[must_use]
pub fn judge(answers: &[Answer], rows: &[Change], duplicates: &[Duplicate]) -> Verdict {
    let mut verdict = Verdict { backwards: regressions(rows), ..Verdict::default() };
    let terms = terms(rows);
    for answer in answers {
        let Said::Leads { pod, version } = &answer.said else {
            *verdict.refused.entry(answer.said.describe().to_owned()).or_default() += 1;
            continue;
        };
        verdict.answered += 1;
        if let Some(objection) = objection(answer, pod, *version, &terms) {
            verdict.not_leading.push(objection);
        }
    }
    verdict.backwards.extend(older_after_newer(answers));
    let twice = duplicates.iter().filter(|duplicate| duplicate.made_by == OURS);
    verdict.twice = twice.map(|duplicate| format!("{:?}", duplicate.pods)).collect();
    verdict
}

fn terms(rows: &[Change]) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    for change in rows {
        if let Some(last) = terms.last_mut() {
            last.over.get_or_insert(change.seen);
        }
        if let Some(pod) = change.row.pod() {
            let (pod, version) = (pod.to_owned(), change.row.version);
            let seized = change.idle.is_some_and(|idle| idle.as_secs() >= TTL.unsigned_abs());
            terms.push(Term { pod, version, after: change.after, seen: change.seen, over: None, seized });
        }
    }
    terms
}

/// Why this pod may not have answered so, if it may not.
fn objection(answer: &Answer, pod: &str, version: i64, terms: &[Term]) -> Option<String> {
    let Some(term) = terms.iter().find(|term| term.version == version) else {
        return Some(format!("{pod} answered as version {version}, which the row never had"));
    };
    if term.pod != pod {
        return Some(format!("{pod} answered as version {version}, which was {}'s", term.pod));
    }
    if answer.done < term.after {
        return Some(format!("{pod} answered as version {version} before it was granted"));
    }
    let late = answer.sent.checked_duration_since(term.over?)?;
    Some(format!("{pod} answered as version {version} to a request sent {late:.0?} after that term"))
}

fn older_after_newer(answers: &[Answer]) -> Vec<String> {
    let mut found = Vec::new();
    // By the end of the request: what was known when a later one was sent.
    let mut done: Vec<(Instant, i64)> = Vec::new();
    for answer in answers {
        let Said::Leads { pod, version } = &answer.said else { continue };
        let known = done.iter().rev().find(|(at, newer)| *at <= answer.sent && newer > version);
        if let Some((_, newer)) = known {
            found.push(format!("{pod} answered as version {version} after version {newer} had answered"));
        }
        // Only the first answer of a version matters to the rest.
        if done.last().is_none_or(|(_, last)| version > last) {
            done.push((answer.done, *version));
        }
    }
    found
}

fn regressions(rows: &[Change]) -> Vec<String> {
    let pairs = rows.windows(2);
    let bad = pairs.filter(|pair| {
        let (old, new) = (&pair[0].row, &pair[1].row);
        // The same version stays through a release, and is nobody else's.
        new.version < old.version
            || (new.version == old.version && !new.holder.is_empty() && new.holder != old.holder)
    });
    bad.map(|pair| format!("the row went from {:?} to {:?}", pair[0].row, pair[1].row)).collect()
}

/// One change of the leader.
#[derive(Debug, Clone)]
pub struct Handover {
    pub from: String,
    pub to: String,
    pub version: i64,
    /// When the old leader's row was first seen empty, or taken if that was the sooner; `None` when
    /// it ran out.
    pub released: Option<Instant>,
    pub row: Instant,
    pub label: Option<Instant>,
    pub answer: Option<Instant>,
    /// Since the last answer of the old leader.
    pub silence: Option<Duration>,
}

/// The changes of the leader after a moment, in order.
#[must_use]
pub fn handovers(
    since: Instant,
    answers: &[Answer],
    rows: &[Change],
    labels: &[LabelChange],
) -> Vec<Handover> {
    let terms = terms(rows);
    let pairs = terms.windows(2).filter(|pair| pair[1].seen >= since);
    pairs
        .map(|pair| {
            let (old, new) = (&pair[0], &pair[1]);
            let label =
                labels.iter().find(|label| label.labelled && label.pod == new.pod && label.at >= new.after);
            let times = |wanted: i64| {
                answers.iter().filter_map(move |answer| match answer.said {
                    Said::Leads { version, .. } if version == wanted => Some(answer.done),
                    _ => None,
                })
            };
            let (answer, last) = (times(new.version).min(), times(old.version).max());
            let emptied = rows.iter().find(|change| {
                change.row.holder.is_empty() && change.row.version == old.version && change.seen <= new.seen
            });
            Handover {
                from: old.pod.clone(),
                to: new.pod.clone(),
                version: new.version,
                released: emptied.map(|change| change.seen).or((!new.seized).then_some(new.seen)),
                row: new.seen,
                label: label.map(|event| event.at),
                answer,
                silence: answer.zip(last).map(|(first, last)| first.saturating_duration_since(last)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::rows::Row;
    use super::*;

    struct Scene {
        start: Instant,
    }

    impl Scene {
        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn row(&self, ms: u64, holder: &str, version: i64) -> Change {
            let holder =
                if holder.is_empty() { String::new() } else { format!("{holder}_8b7e12c0_1f0c9a3d") };
            Change { after: self.at(ms - 5), seen: self.at(ms), row: Row { holder, version }, idle: None }
        }

        fn answer(&self, ms: u64, pod: &str, version: i64) -> Answer {
            let said = Said::Leads { pod: pod.into(), version };
            Answer { sent: self.at(ms), done: self.at(ms + 3), kept: false, said }
        }
    }

    fn scene() -> Scene {
        Scene { start: Instant::now() }
    }

    /// a leads as 1 from 100 to 200, b as 2 from 300 on.
    fn history(s: &Scene) -> Vec<Change> {
        vec![s.row(100, "a", 1), s.row(200, "", 1), s.row(300, "b", 2)]
    }

    #[test]
    fn answers_of_the_leader_of_the_time_are_right() {
        let s = scene();
        let answers = [s.answer(110, "a", 1), s.answer(199, "a", 1), s.answer(301, "b", 2)];
        let verdict = judge(&answers, &history(&s), &[]);
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!(verdict.answered, 3);
    }

    #[test]
    fn an_answer_of_a_pod_that_did_not_lead_is_found() {
        let s = scene();
        for (answer, says) in [
            (s.answer(250, "a", 1), "after that term"),
            (s.answer(350, "a", 2), "which was b's"),
            (s.answer(350, "c", 7), "never had"),
            (s.answer(280, "b", 2), "before it was granted"),
        ] {
            let verdict = judge(std::slice::from_ref(&answer), &history(&s), &[]);
            assert_eq!(verdict.not_leading.len(), 1, "{answer:?}");
            assert!(verdict.not_leading[0].contains(says), "{:?}", verdict.not_leading);
        }
    }

    #[test]
    fn a_version_that_goes_back_is_found_unless_the_requests_overlapped() {
        let s = scene();
        let newer = s.answer(310, "b", 2);
        assert_eq!(judge(&[newer.clone(), s.answer(312, "a", 1)], &history(&s), &[]).backwards.len(), 0);
        assert_eq!(judge(&[newer, s.answer(320, "a", 1)], &history(&s), &[]).backwards.len(), 1);
        let back = [s.row(100, "a", 2), s.row(200, "b", 1)];
        assert_eq!(judge(&[], &back, &[]).backwards.len(), 1);
        let twice = [s.row(100, "a", 2), s.row(200, "b", 2)];
        assert_eq!(judge(&[], &twice, &[]).backwards.len(), 1);
    }

    #[test]
    fn refusals_are_counted_by_their_reason() {
        let s = scene();
        let mut refused = s.answer(210, "a", 1);
        refused.said = Said::NoEndpoint;
        let verdict = judge(&[refused], &history(&s), &[]);
        assert_eq!((verdict.answered, verdict.refused(), verdict.refused["no endpoint"]), (0, 1, 1));
    }

    #[test]
    fn a_second_label_is_laid_to_us_only_if_ours_made_it_one_too_many() {
        let s = scene();
        for (made_by, ours) in [(OURS, 1), ("kubectl-label", 0)] {
            let pods = vec![("a".to_owned(), OURS.to_owned()), ("b".to_owned(), made_by.to_owned())];
            let duplicate = Duplicate { began: s.at(1), lasted: None, pods, made_by: made_by.to_owned() };
            assert_eq!(judge(&[], &[], &[duplicate]).twice.len(), ours);
        }
    }

    #[test]
    fn a_handover_is_told_from_the_row_the_label_and_the_answers() {
        let s = scene();
        let answers = [s.answer(190, "a", 1), s.answer(340, "b", 2)];
        let label = |pod: &str, ms| LabelChange {
            at: s.at(ms),
            pod: pod.into(),
            uid: String::new(),
            labelled: true,
            by: OURS.into(),
        };
        let pods = [label("a", 101), label("b", 320)];
        let all = handovers(s.at(150), &answers, &history(&s), &pods);
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.from.as_str(), one.to.as_str(), one.version), ("a", "b", 2));
        assert_eq!((one.released, one.row, one.label), (Some(s.at(200)), s.at(300), Some(s.at(320))));
        assert_eq!((one.answer, one.silence), (Some(s.at(343)), Some(Duration::from_millis(150))));
        // A release and a take between two looks; and a lease that ran out.
        for (idle, released) in [(400, Some(s.at(300))), (5_000, None)] {
            let mut history = vec![s.row(100, "a", 1), s.row(300, "b", 2)];
            history[1].idle = Some(Duration::from_millis(idle));
            assert_eq!(handovers(s.at(150), &answers, &history, &pods)[0].released, released);
        }
        assert!(handovers(s.at(310), &answers, &history(&s), &pods).is_empty());
    }
}
