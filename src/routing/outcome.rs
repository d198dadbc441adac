//! What became of a plan.

use super::serving::Unserved;

/// What became of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Pods that carry the leader label and could not be stripped, with the reason.
    pub strip_failed: Vec<String>,
    /// Pods that could not be stamped: they do not carry the leader label, and do not stop the rest.
    pub stamp_failed: Vec<String>,
    /// Why the leader's pod could not be labelled.
    pub label_failed: Option<String>,
    /// Why a managed Service could not be written.
    pub service_failed: Option<String>,
    /// Why no Service can be made that is as the spec describes it.
    pub service_invalid: Option<String>,
    /// A patch found its pod changed: decide again on a fresh view.
    pub conflict: bool,
    /// Why users do not reach the leader's pod although all of this was done.
    pub unserved: Option<Unserved>,
}

impl Outcome {
    /// Something to try again, with back-off.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        let parts = [
            (!self.strip_failed.is_empty()).then(|| self.strip_failed.join("; ")),
            (!self.stamp_failed.is_empty()).then(|| self.stamp_failed.join("; ")),
            self.label_failed.clone(),
            self.service_failed.clone(),
            self.service_invalid.clone(),
        ];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then_some(text)
    }
}
