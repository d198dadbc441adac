//! How one term followed another, as far as the controller can see it: for metrics only. Nothing is decided by it.
//!
//! ```text
//! silent ── detect ──▶ over ── elect ──▶ begun ── label ──▶ labelled ── reach ──▶ reachable
//! last renewal         row free          new holder         pod labelled          Ready is True
//! that was seen        or expired        was seen
//! ```

use std::time::Duration;

use crate::election::{LeaseRow, Moment};

/// The part of a handover that the rows show, on our own boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handover {
    silent: Moment,
    over: Moment,
    begun: Moment,
}

impl Handover {
    /// A look at `now` shows another holder than this row, which was unchanged since `since`.
    pub(super) fn after(old: &LeaseRow, since: Moment, now: Moment) -> Self {
        let (silent, over) = if old.is_free() {
            (since, since)
        } else {
            match since + old.judged_ttl() {
                // It was released between two looks.
                expiry if expiry > now => (now, now),
                expiry => (since, expiry),
            }
        };
        Self { silent, over, begun: now }
    }
}

/// A part of a handover: the label of its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// From the last renewal that was seen until the row was free or had expired. 0 for a release.
    Detect,
    /// Until a look showed the next holder.
    Elect,
    /// Until its pod carried the label.
    Label,
    /// Until the resource was Ready.
    Reach,
}

impl Step {
    pub(super) const ALL: [Self; 4] = [Self::Detect, Self::Elect, Self::Label, Self::Reach];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Elect => "elect",
            Self::Label => "label",
            Self::Reach => "reach",
        }
    }
}

/// How far the handover of one resource has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The handover that was measured last, or is being measured.
    known: Option<Handover>,
    /// Since when its pod has carried the label and the resource has not been Ready.
    labelled: Option<Moment>,
    /// How long the steps of the last handover took; `None` for one that has not happened yet.
    pub(super) last: [Option<Duration>; 4],
}

impl Progress {
    /// The leader's pod carries the label. The steps that are over by this.
    pub(super) fn labelled(&mut self, handover: Handover, now: Moment) -> Vec<(Step, Duration)> {
        if self.known == Some(handover) {
            return Vec::new();
        }
        self.known = Some(handover);
        self.labelled = Some(now);
        self.last = [None; 4];
        let Handover { silent, over, begun } = handover;
        vec![
            self.took(Step::Detect, silent, over),
            self.took(Step::Elect, over, begun),
            self.took(Step::Label, begun, now),
        ]
    }

    /// The resource is Ready. The step that is over by this.
    pub(super) fn ready(&mut self, now: Moment) -> Option<(Step, Duration)> {
        let labelled = self.labelled.take()?;
        Some(self.took(Step::Reach, labelled, now))
    }

    fn took(&mut self, step: Step, from: Moment, to: Moment) -> (Step, Duration) {
        let took = to.saturating_sub(from);
        if let Some(last) = self.last.get_mut(step as usize) {
            *last = Some(took);
        }
        (step, took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(holder: &str) -> LeaseRow {
        LeaseRow { holder: holder.into(), lease_time: 1, renew_time: 1, version: 1, ttl: 10 }
    }

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_leader_that_stops_renewing_costs_its_ttl_until_it_is_detected() {
        let handover = Handover::after(&row("a"), at(100), at(112));
        let took = Progress::default().labelled(handover, at(113));
        assert_eq!(took, [(Step::Detect, at(10)), (Step::Elect, at(2)), (Step::Label, at(1))]);
    }

    #[test]
    fn a_release_needs_no_detection_whether_or_not_a_look_fell_between() {
        let seen = Handover::after(&row(""), at(100), at(101));
        let took = Progress::default().labelled(seen, at(101));
        assert_eq!(took, [(Step::Detect, at(0)), (Step::Elect, at(1)), (Step::Label, at(0))]);
        let unseen = Handover::after(&row("a"), at(100), at(101));
        assert_eq!(unseen, Handover { silent: at(101), over: at(101), begun: at(101) });
    }

    #[test]
    fn each_step_of_a_handover_is_measured_once() {
        let first = Handover::after(&row("a"), at(100), at(112));
        let mut progress = Progress::default();
        assert_eq!(progress.ready(at(99)), None, "nothing was handed over yet");
        assert_eq!(progress.labelled(first, at(113)).len(), 3);
        assert_eq!(progress.labelled(first, at(120)), [], "the same handover again");
        assert_eq!(progress.ready(at(115)), Some((Step::Reach, at(2))));
        assert_eq!(progress.ready(at(116)), None);
        assert_eq!(progress.last, [Some(at(10)), Some(at(2)), Some(at(1)), Some(at(2))]);
        let second = Handover::after(&row(""), at(200), at(201));
        progress.labelled(second, at(201));
        assert_eq!(progress.last, [Some(at(0)), Some(at(1)), Some(at(0)), None]);
    }
}
