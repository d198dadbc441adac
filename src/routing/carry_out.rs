//! In which order the patches of a plan are sent, and which answers stop it: strip and have it confirmed, stamp, label.
//! The edge sends what is open, all of it at once, and says how each patch ended; nothing else is decided there.

use std::collections::BTreeMap;

use super::decide::{Plan, PodChange};
use super::outcome::Outcome;

/// How a patch of one pod ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Patched {
    Done,
    /// The pod is gone, or another of the same name has taken its place.
    Gone,
    /// The pod has changed since it was observed.
    Conflict,
    /// The API server does not accept it, and would not accept the next one.
    Refused(String),
    /// It may have been carried out, or may be later.
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Strip,
    /// Of pods whose stamp was refused: the label alone.
    StripOnly,
    Stamp,
    Label,
    Done,
}

/// A plan that is being carried out.
#[derive(Debug, Clone, Hash)]
pub struct CarryOut {
    stage: Stage,
    /// What was sent, or is to be sent now, with the answers so far.
    open: Vec<(PodChange, Option<Patched>)>,
    /// Why the whole change was refused, for each that is open at [`Stage::StripOnly`].
    refused: Vec<String>,
    stamp: Vec<PodChange>,
    label: Option<PodChange>,
    /// Every stamp was confirmed or definitely refused.
    guarded: bool,
    outcome: Outcome,
}

impl CarryOut {
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut new = Self {
            stage: Stage::Strip,
            open: sent(plan.strip.clone()),
            refused: Vec::new(),
            stamp: plan.stamp.clone(),
            label: plan.label.clone(),
            guarded: true,
            outcome: Outcome::default(),
        };
        new.go_on();
        new
    }

    /// The patches that have no answer yet. They may be sent at the same time. When there are none, all is done.
    pub fn open(&self) -> impl Iterator<Item = (usize, &PodChange)> {
        let open = self.open.iter().enumerate();
        open.filter(|(_, (_, answer))| answer.is_none()).map(|(number, (change, _))| (number, change))
    }

    /// How the patch of this number ended.
    pub fn answered(&mut self, number: usize, how: Patched) {
        if let Some((_, answer)) = self.open.get_mut(number) {
            *answer = Some(how);
        }
        self.go_on();
    }

    /// What became of the pods.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        self.outcome
    }

    fn go_on(&mut self) {
        while self.stage != Stage::Done && self.open.iter().all(|(_, answer)| answer.is_some()) {
            let answers = std::mem::take(&mut self.open);
            let answers = answers.into_iter().filter_map(|(change, answer)| Some((change, answer?)));
            (self.stage, self.open) = match self.stage {
                Stage::Strip => self.stripped(answers),
                Stage::StripOnly => self.stripped_only(answers),
                Stage::Stamp => self.stamped(answers),
                Stage::Label => self.labelled(answers),
                Stage::Done => return,
            };
        }
    }

    fn stripped(&mut self, answers: impl Iterator<Item = (PodChange, Patched)>) -> Next {
        let mut again = Vec::new();
        for (change, how) in answers {
            match how {
                Patched::Done | Patched::Gone => {}
                Patched::Conflict => self.outcome.conflict = true,
                // The creator of a pod can fill its annotations to the limit. It must not keep the label by that,
                // nor keep it from the leader.
                Patched::Refused(error) if !change.annotations.is_empty() && !change.labels.is_empty() => {
                    again.push(PodChange { annotations: BTreeMap::new(), ..change });
                    self.refused.push(error);
                }
                Patched::Refused(error) | Patched::Unknown(error) => self.keeps_label(&change, &error),
            }
        }
        (Stage::StripOnly, sent(again))
    }

    fn stripped_only(&mut self, answers: impl Iterator<Item = (PodChange, Patched)>) -> Next {
        for ((change, how), error) in answers.zip(std::mem::take(&mut self.refused)) {
            match how {
                Patched::Done | Patched::Gone => self.unstamped(&change, &error),
                Patched::Conflict | Patched::Refused(_) | Patched::Unknown(_) => {
                    self.keeps_label(&change, &error);
                }
            }
        }
        if self.outcome.conflict || !self.outcome.strip_failed.is_empty() {
            return (Stage::Done, Vec::new());
        }
        (Stage::Stamp, sent(std::mem::take(&mut self.stamp)))
    }

    fn stamped(&mut self, answers: impl Iterator<Item = (PodChange, Patched)>) -> Next {
        for (change, how) in answers {
            match how {
                Patched::Done | Patched::Gone => {}
                Patched::Conflict => self.outcome.conflict = true,
                // It does not carry the leader label, and it does not stop the rest.
                Patched::Refused(error) => self.unstamped(&change, &error),
                // Until it is stamped, a patch of another controller's older view could label it.
                Patched::Unknown(error) => {
                    self.guarded = false;
                    self.unstamped(&change, &error);
                }
            }
        }
        let Some(label) = self.label.take().filter(|_| !self.outcome.conflict) else {
            return (Stage::Done, Vec::new());
        };
        if !self.guarded {
            let text = format!("pod {} is not labelled before the others are stamped", label.name);
            self.outcome.label_failed = Some(text);
            return (Stage::Done, Vec::new());
        }
        (Stage::Label, sent(vec![label]))
    }

    fn labelled(&mut self, answers: impl Iterator<Item = (PodChange, Patched)>) -> Next {
        for (change, how) in answers {
            match how {
                Patched::Done => {}
                Patched::Gone | Patched::Conflict => self.outcome.conflict = true,
                Patched::Refused(error) | Patched::Unknown(error) => {
                    self.outcome.label_failed =
                        Some(format!("pod {} could not be labelled: {error}", change.name));
                }
            }
        }
        (Stage::Done, Vec::new())
    }

    fn keeps_label(&mut self, change: &PodChange, error: &str) {
        self.outcome.strip_failed.push(format!("pod {} keeps the leader label: {error}", change.name));
    }

    fn unstamped(&mut self, change: &PodChange, error: &str) {
        self.outcome.stamp_failed.push(format!("pod {}: {error}", change.name));
    }
}

type Next = (Stage, Vec<(PodChange, Option<Patched>)>);

fn sent(changes: Vec<PodChange>) -> Vec<(PodChange, Option<Patched>)> {
    changes.into_iter().map(|change| (change, None)).collect()
}

#[cfg(test)]
#[path = "carry_out_tests.rs"]
mod tests;
