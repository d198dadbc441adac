//! What is read when the metrics are asked for: which replica acts, whether the database answers, and each resource.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::acting::Acting;
use super::cluster::Cluster;
use super::database::Database;
use super::databases::gauges;
use super::handles::Handles;
use super::handover::Step;
use super::resources::{Facts, Key, Resources};
use super::rows::Pulse;
use crate::process::metrics::{Family, ReadAtScrape};

/// What is read at the scrape: of this replica, of the database, and of each resource.
pub(super) fn register(registry: &mut Registry, acting: &Acting, handles: &Handles) {
    let (replica, database) = (acting.clone(), handles.database.clone());
    let lookout = handles.cluster.lookout.clone();
    registry.register_collector(Box::new(ReadAtScrape(move || {
        let acts = replica.acts();
        let now = database.clock.boot();
        // A standby asks the database nothing, so it knows nothing of it.
        let reachable = acts.then(|| database.known().reachable(now)).flatten();
        let stands_back = acts.then(|| {
            Family::gauge(
                "controller_stands_back",
                "1 while another release of the same class looks after namespaces that this one watches, else 0",
                &[],
                truth(lookout.stands_back()),
            )
        });
        let acts = Family::gauge(
            "controller_acting",
            "1 while this replica acts, 0 while it stands by",
            &[],
            truth(acts),
        );
        let reachable = reachable.map(|reachable| {
            Family::gauge(
                "controller_database_reachable",
                "1 while the database answers the replica that acts, else 0",
                &[],
                truth(reachable),
            )
        });
        std::iter::once(acts).chain(stands_back).chain(reachable).collect()
    })));
    gauges::register(registry, acting.clone(), handles.cluster.clone());
    registry.register_collector(Box::new(Exposition {
        acting: acting.clone(),
        resources: handles.announcer.metrics.resources.clone(),
        cluster: handles.cluster.clone(),
        database: handles.database.clone(),
    }));
}

/// What a scrape shows of one resource.
struct Shown {
    key: Key,
    facts: Facts,
    pulse: Option<Pulse>,
    leaderless: Duration,
}

/// Writes what is known of the resources when it is asked for.
pub(super) struct Exposition {
    pub(super) acting: Acting,
    pub(super) resources: Resources,
    pub(super) cluster: Arc<Cluster>,
    pub(super) database: Arc<Database>,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition")
    }
}

impl Exposition {
    fn shown(&self) -> Vec<Shown> {
        if !self.acting.acts() {
            return Vec::new();
        }
        let leases = self.cluster.leases();
        let exist: HashSet<_> = leases.iter().filter_map(|lease| lease.meta().uid.as_deref()).collect();
        let all = self.resources.of(&exist);
        let now = self.database.clock.boot();
        let known = self.database.known();
        // What another release does now is for it to say.
        let ours = all.into_iter().filter(|((namespace, _), _)| !self.cluster.lookout.leaves(namespace));
        let shown = ours.map(|(key, facts)| {
            let pulse = facts.component.as_deref().and_then(|component| known.pulse(component));
            let leaderless = facts.leaderless.until(now);
            Shown { key, facts, pulse, leaderless }
        });
        shown.collect()
    }
}

/// The samples of one family: a further label, if there is one, and the value.
type Samples = Vec<(Option<(&'static str, &'static str)>, f64)>;

/// A metric: its name, what it says, whether it only grows, and its samples of one resource.
type Metric = (&'static str, &'static str, bool, fn(&Shown) -> Samples);

fn one(value: f64) -> Samples {
    vec![(None, value)]
}

fn maybe(value: Option<f64>) -> Samples {
    value.map(|value| (None, value)).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few units of more than 2^53 do not matter here")]
fn number(value: i64) -> f64 {
    value as f64
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

const METRICS: &[Metric] = &[
    (
        "resource_ready",
        "1 while the resource is Ready, else 0; absent while its workload is scaled to nothing",
        false,
        |s| maybe(s.facts.ready.map(|(ready, _)| truth(ready))),
    ),
    ("resource_ready_reason", "1, with the reason of the condition Ready", false, |s| {
        s.facts.ready.iter().map(|(_, reason)| (Some(("reason", *reason)), 1.0)).collect()
    }),
    (
        "resource_held",
        "1 while there is a leader, 0 while nobody leads; absent while that is not known",
        false,
        |s| maybe(s.facts.held.map(truth)),
    ),
    ("resource_problem", "1, with a condition that is True and means that something is wrong", false, |s| {
        s.facts.problems.iter().map(|kind| (Some(("type", *kind)), 1.0)).collect()
    }),
    ("resource_candidates", "Pods that the selector of the resource matches", false, |s| {
        one(number(s.facts.candidates))
    }),
    ("resource_version", "Version of the row, the fencing token", false, |s| one(number(s.facts.version))),
    ("resource_ttl_seconds", "TTL of the row", false, |s| maybe(s.facts.ttl.map(number))),
    (
        "resource_last_transition_timestamp_seconds",
        "When the current term, or the time without one, began",
        false,
        |s| maybe(s.facts.last_transition),
    ),
    ("resource_renewal_age_seconds", "How long before the last poll the holder had renewed", false, |s| {
        maybe(s.pulse.and_then(|pulse| pulse.renewal_age).map(|age| age.as_secs_f64()))
    }),
    (
        "resource_last_handover_seconds",
        "How long the steps of the last handover took: detect, elect, label, reach",
        false,
        |s| {
            let steps = Step::ALL.iter().zip(s.facts.progress.last);
            steps
                .filter_map(|(step, took)| Some((Some(("step", step.as_str())), took?.as_secs_f64())))
                .collect()
        },
    ),
    ("resource_transitions", "Terms that were seen to begin", true, |s| one(number(s.facts.transitions))),
    ("resource_late_renewals", "How often two thirds of the TTL passed without a renewal", true, |s| {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        one(s.pulse.map_or(0, |pulse| pulse.late_renewals) as f64)
    }),
    ("resource_leaderless_seconds", "How long it was known that there was no leader", true, |s| {
        one(s.leaderless.as_secs_f64())
    }),
];

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let shown = self.shown();
        for (name, help, grows, samples) in METRICS {
            let mut rows = shown.iter().flat_map(|shown| samples(shown).into_iter().map(move |s| (shown, s)));
            let Some(first) = rows.next() else { continue };
            let kind = if *grows { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (Shown { key: (namespace, name), .. }, (further, value)) in std::iter::once(first).chain(rows)
            {
                let mut labels = vec![("namespace", namespace.as_ref()), ("name", name.as_ref())];
                labels.extend(further);
                let mut one = metric.encode_family(&labels)?;
                if *grows {
                    one.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
                } else {
                    one.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}
