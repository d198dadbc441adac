//! What is said of a pause.

use super::conditions::{Condition, ConditionType, Reason};
use super::observed::{Memory, Observed};
use super::pause::{PauseSight, pauser, why};

/// Only shown while the election is paused.
pub(super) fn paused(o: &Observed) -> Option<Condition> {
    let condition = |reason, message| Condition::new(ConditionType::Paused, true, reason, message);
    match &o.pause {
        PauseSight::Running => None,
        PauseSight::Unknown => {
            let Memory { pause, .. } = &o.memory;
            pause.clone().map(|(reason, message)| condition(reason, message))
        }
        PauseSight::Paused(pause) if pause.by == pauser(&o.desired.namespace, &o.desired.name) => {
            Some(condition(
                Reason::PausedBySpec,
                format!(
                    "spec.paused is true{}: nobody takes the lease, and a leader goes on renewing; unset spec.paused to go on",
                    why(pause)
                ),
            ))
        }
        PauseSight::Paused(pause) => Some(condition(
            Reason::PausedByOperator,
            format!(
                "{} paused the election{}: nobody takes the lease, and a leader goes on renewing; who paused it ends that, or spec.paused: false does",
                if pause.by.is_empty() { "somebody" } else { &pause.by },
                why(pause)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::*;
    use crate::routing::pause::Pause;

    fn by(by: &str, reason: &str) -> PauseSight {
        PauseSight::Paused(Pause { by: by.to_owned(), reason: reason.to_owned() })
    }

    #[test]
    fn a_pause_says_who_wanted_it_and_why_and_is_remembered_while_nothing_is_known() {
        let o = observed(held_by("b", 7), vec![pod("b")]);
        let said = |pause| paused(&Observed { pause, ..o.clone() });
        assert_eq!(said(PauseSight::Running), None);
        let ours = said(by(&pauser(&o.desired.namespace, &o.desired.name), "drill")).unwrap();
        assert_eq!(ours.reason, Reason::PausedBySpec);
        assert!(ours.message.contains("spec.paused is true (drill)"), "{}", ours.message);
        let adas = said(by("ada", "")).unwrap();
        assert_eq!(adas.reason, Reason::PausedByOperator);
        assert!(adas.message.starts_with("ada paused the election: "), "{}", adas.message);
        assert_eq!(said(PauseSight::Unknown), None);
        let memory =
            Memory { pause: Some((Reason::PausedByOperator, "as before".into())), ..Memory::default() };
        let remembered = paused(&Observed { pause: PauseSight::Unknown, memory, ..o }).unwrap();
        assert_eq!((remembered.reason, remembered.message.as_str()), (Reason::PausedByOperator, "as before"));
    }
}
