//! What the controller counts. Labels come from enums only, so their number is bounded.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::store::StoreError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// The controller's counters.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    reconciles: Family<OutcomeLabel, Counter>,
    looks: Family<OutcomeLabel, Counter>,
    status_writes: Counter,
    sweeps: Counter,
    releases: Family<OutcomeLabel, Counter>,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "controller_reconciles",
            "Reconciles, by outcome: ok, status, floor, incomplete, contended, stale, watch_behind",
            self.reconciles.clone(),
        );
        registry.register(
            "controller_store_looks",
            "Queries for the rows that resources claim, by outcome: ok, retryable, misconfigured, bug",
            self.looks.clone(),
        );
        registry.register("controller_status_writes", "Statuses written", self.status_writes.clone());
        registry.register(
            "controller_releases",
            "Releases for holders whose containers had ended, by outcome: released, lost, failed",
            self.releases.clone(),
        );
        registry.register("controller_sweeps", "Sweeps for pods of deleted resources", self.sweeps.clone());
    }

    pub(super) fn reconciled(&self, failure: Option<&'static str>) {
        self.reconciles.get_or_create(&OutcomeLabel { outcome: failure.unwrap_or("ok") }).inc();
    }

    pub(super) fn looked(&self, failure: Option<&StoreError>) {
        let outcome = failure.map_or("ok", StoreError::kind);
        self.looks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn status_written(&self) {
        self.status_writes.inc();
    }

    pub(super) fn released(&self, outcome: &'static str) {
        self.releases.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn swept(&self) {
        self.sweeps.inc();
    }
}
