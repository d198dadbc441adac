//! What `/metrics` tells of a participant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::registry::Registry;

use crate::participant::{Counters, Participant};
use crate::process::metrics::{self, Family, ReadAtScrape};

/// A registry that reads the participant at each scrape.
pub(super) fn registry(participant: &Arc<Participant>) -> Registry {
    let mut registry = metrics::registry();
    let participant = Arc::clone(participant);
    registry.register_collector(Box::new(ReadAtScrape(move || families(&participant))));
    registry
}

fn families(participant: &Participant) -> Vec<Family> {
    let component = [("component", participant.component().as_str())];
    let term = participant.term();
    let valid_for = term.as_ref().map_or(0.0, |term| term.valid_for().as_secs_f64());
    let beat = participant.heartbeat_age();
    #[expect(clippy::cast_precision_loss, reason = "versions are far below 2^53")]
    let version = term.as_ref().map_or(0.0, |term| term.version() as f64);
    let mut families = vec![
        Family::gauge(
            "leader",
            "1 while this participant leads, else 0",
            &component,
            f64::from(u8::from(valid_for > 0.0)),
        ),
        Family::gauge("term_version", "Version of the term that is led; 0 when none is", &component, version),
        Family::gauge(
            "term_valid_seconds",
            "How long the term is certain to last without another renewal",
            &component,
            valid_for,
        ),
        Family::gauge(
            "loop_age_seconds",
            "Time since the election loop last turned",
            &component,
            beat.as_secs_f64(),
        ),
        Family::gauge(
            "database_reachable",
            "1 while the participant's last call of the database was answered, else 0",
            &component,
            f64::from(u8::from(participant.watch().borrow().problem.is_none())),
        ),
    ];
    if let Some(age) = participant.renewal_age() {
        families.push(Family::gauge(
            "renewal_age_seconds",
            "Time since the last acknowledged take or renewal was sent; absent while this participant does not lead",
            &component,
            age.as_secs_f64(),
        ));
    }
    families.push(timed(participant.counters(), participant.component().as_str()));
    families.extend(counted(participant.counters(), participant.component().as_str()));
    families
}

/// The calls that decide who leads.
fn timed(counters: &Counters, component: &str) -> Family {
    let Counters { look_times, take_times, renew_times, release_times, .. } = counters;
    let calls =
        [("look", look_times), ("take", take_times), ("renew", renew_times), ("release", release_times)];
    let family = Family::of("call_duration_seconds", "How long calls of the database took, failed ones too");
    calls.into_iter().fold(family, |family, (call, times)| {
        let labels = [("component", component), ("call", call)];
        family.histogram(&labels, times.sum().as_secs_f64(), times.buckets())
    })
}

fn counted(counters: &Counters, component: &str) -> [Family; 5] {
    let Counters {
        looks,
        looks_failed,
        takes_won,
        takes_lost,
        takes_unknown,
        renewals,
        renewals_lost,
        renewals_unknown,
        releases,
        ended_lost,
        ended_deadline,
        ended_unhealthy,
        ended_stepped_down,
        ended_switched_over,
        ended_promoted,
        ended_draining,
        ..
    } = counters;
    let family = |name, help, label: &'static str, samples: &[(&str, &AtomicU64)]| {
        samples.iter().fold(Family::of(name, help), |family, (value, counter)| {
            family.count(&[("component", component), (label, value)], counter.load(Ordering::Relaxed))
        })
    };
    [
        family("polls", "Polls of the row", "outcome", &[("answered", looks), ("failed", looks_failed)]),
        family(
            "takes",
            "Attempts to begin a term",
            "outcome",
            &[("won", takes_won), ("lost", takes_lost), ("unknown", takes_unknown)],
        ),
        family(
            "renewals",
            "Attempts to extend a term",
            "outcome",
            &[("applied", renewals), ("lost", renewals_lost), ("unknown", renewals_unknown)],
        ),
        Family::of("releases", "Terms given back before they ran out")
            .count(&[("component", component)], releases.load(Ordering::Relaxed)),
        family(
            "terms_ended",
            "Terms that ended, by reason",
            "reason",
            &[
                ("lost", ended_lost),
                ("deadline", ended_deadline),
                ("unhealthy", ended_unhealthy),
                ("stepped_down", ended_stepped_down),
                ("switched_over", ended_switched_over),
                ("promoted", ended_promoted),
                ("draining", ended_draining),
            ],
        ),
    ]
}
