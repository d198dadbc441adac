//! What the controller counts and measures. Labels come from enums only, so their number is bounded; those of
//! resources are in [`Resources`].

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::handover::{Handover, Step};
use super::resources::Resources;
use crate::api::ComponentLease;
use crate::election::Moment;
use crate::store::StoreError;

/// Seconds: calls of a database in the next rack take a millisecond, one that is given up takes 5 s.
const CALLS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds: a label is moved within milliseconds, a leader that stopped is detected after its TTL.
const HANDOVERS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// The controller's counters and histograms.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    reconciles: Family<OutcomeLabel, Counter>,
    reconcile_duration: Histogram,
    polls: Family<OutcomeLabel, Counter>,
    poll_duration: Histogram,
    handovers: Family<StepLabel, Histogram>,
    status_writes: Counter,
    sweeps: Counter,
    releases: Family<OutcomeLabel, Counter>,
    requests: Family<OutcomeLabel, Counter>,
    pub(super) resources: Resources,
}

impl Default for Metrics {
    fn default() -> Self {
        let handovers: Family<StepLabel, Histogram> =
            Family::new_with_constructor(|| Histogram::new(HANDOVERS));
        // From the start: a rate of what has not happened yet is 0, and not unknown.
        for step in Step::ALL {
            drop(handovers.get_or_create(&StepLabel { step: step.as_str() }));
        }
        Self {
            reconciles: Family::default(),
            reconcile_duration: Histogram::new(CALLS),
            polls: Family::default(),
            poll_duration: Histogram::new(CALLS),
            handovers,
            status_writes: Counter::default(),
            sweeps: Counter::default(),
            releases: Family::default(),
            requests: Family::default(),
            resources: Resources::default(),
        }
    }
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "controller_reconciles",
            "Reconciles, by outcome: ok, status, floor, incomplete, contended, stale, watch_behind",
            self.reconciles.clone(),
        );
        registry.register(
            "controller_reconcile_duration_seconds",
            "How long reconciles took, with the wait for a turn",
            self.reconcile_duration.clone(),
        );
        registry.register(
            "controller_polls",
            "Polls of the rows that resources claim, by outcome: ok, retryable, misconfigured, bug",
            self.polls.clone(),
        );
        registry.register(
            "controller_poll_duration_seconds",
            "How long polls of the database took, failed ones too",
            self.poll_duration.clone(),
        );
        registry.register(
            "controller_handover_duration_seconds",
            "Steps of handovers: detect (last renewal to expiry or release), elect (to the next holder), label (to the label on its pod), reach (to Ready)",
            self.handovers.clone(),
        );
        registry.register("controller_status_writes", "Statuses written", self.status_writes.clone());
        registry.register(
            "controller_releases",
            "Releases for holders whose containers had ended, by outcome: released, lost, failed",
            self.releases.clone(),
        );
        registry.register(
            "controller_requests",
            "LeaseRequests that are over, by outcome: CarriedOut, Refused, Void, Planned",
            self.requests.clone(),
        );
        registry.register("controller_sweeps", "Sweeps for pods of deleted resources", self.sweeps.clone());
    }

    pub(super) fn reconciled(&self, failure: Option<&'static str>, took: Duration) {
        self.reconciles.get_or_create(&OutcomeLabel { outcome: failure.unwrap_or("ok") }).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    pub(super) fn polled(&self, failure: Option<&StoreError>, took: Duration) {
        let outcome = failure.map_or("ok", StoreError::kind);
        self.polls.get_or_create(&OutcomeLabel { outcome }).inc();
        self.poll_duration.observe(took.as_secs_f64());
    }

    /// Steps of a handover that have ended.
    pub(super) fn measured(&self, steps: impl IntoIterator<Item = (Step, Duration)>) {
        for (step, took) in steps {
            self.handovers.get_or_create(&StepLabel { step: step.as_str() }).observe(took.as_secs_f64());
        }
    }

    /// The leader's pod carries the label.
    pub(super) fn labelled(&self, lease: &ComponentLease, handover: Option<Handover>, now: Moment) {
        if let Some(handover) = handover {
            self.measured(self.resources.labelled(lease, handover, now));
        }
    }

    pub(super) fn status_written(&self) {
        self.status_writes.inc();
    }

    pub(super) fn released(&self, outcome: &'static str) {
        self.releases.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn request_ended(&self, outcome: &'static str) {
        self.requests.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn swept(&self) {
        self.sweeps.inc();
    }
}
