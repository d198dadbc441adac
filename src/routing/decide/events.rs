//! What happened since the last status, for people.

use super::super::conditions::EventReason;
use super::super::observed::{Observed, RowSight};
use super::super::pod::Pod;
use super::holder::Rejection;
use super::lead::Lead;
use super::plan::Event;

pub(super) fn events(
    o: &Observed,
    lead: &Lead,
    leader: Option<&Result<Pod, Rejection>>,
    transition: bool,
    foreign: &[String],
) -> Vec<Event> {
    let event = |reason, warning, note: String| Event { reason, warning, note };
    let mut events = Vec::new();
    let was_held = o.memory.held;
    match lead {
        Lead::Held(row, _) if transition => events.push(event(
            EventReason::LeaderElected,
            false,
            format!("{} leads {} with version {}", row.holder, o.desired.component, row.version),
        )),
        Lead::Expired(row) if was_held => events.push(event(
            EventReason::LeaseExpired,
            true,
            format!(
                "{} has not renewed version {} for {} s",
                row.holder,
                row.version,
                row.judged_ttl().as_secs()
            ),
        )),
        Lead::Vacant(_) if was_held && matches!(o.row, RowSight::Seen { .. }) => {
            events.push(event(
                EventReason::LeaseReleased,
                false,
                format!(
                    "nobody leads {} any more; {} was the last",
                    o.desired.component,
                    o.memory.holder.as_deref().unwrap_or("?")
                ),
            ));
        }
        _ => {}
    }
    if let Some(Err(rejection)) = leader
        && transition
    {
        events.push(event(EventReason::HolderRejected, true, rejection.to_string()));
    }
    for pod in foreign {
        let note = format!("pod {pod} carried the leader label, but does not lead");
        events.push(event(EventReason::ForeignLabelRemoved, true, note));
    }
    events
}
