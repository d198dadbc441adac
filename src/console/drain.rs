//! `drain`: every leader leaves a node, before what runs there is evicted.

use futures::StreamExt as _;
use futures::stream;
use tokio_util::sync::CancellationToken;

use super::args::DrainArgs;
use super::leases::{Leases, Open};
use super::screen::Screen;
use super::verbs::{Asking, Ended, Told};
use super::view::{InstanceView, LeaseView, State};
use super::words::safe;
use crate::process::{ExitCode, Failure, output, shutdown};

/// So many leaders move at a time.
const AT_ONCE: usize = 8;

/// What is to be done about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Move<'a> {
    /// To this participant.
    To(&'a str),
    /// Nobody who could take over is known to run on another node.
    Nowhere,
    /// Its leader does not say where it runs.
    Unknown,
}

/// The leases whose leader runs on the node, and where each goes.
fn moves<'a>(views: &'a [LeaseView], node: &str) -> Vec<(&'a LeaseView, Move<'a>)> {
    let led = views.iter().filter(|view| view.state == State::Led);
    led.filter_map(|view| match view.node.as_deref() {
        None => Some((view, Move::Unknown)),
        Some(other) if other != node => None,
        Some(_) => {
            let elsewhere = |one: &&InstanceView| one.node.as_deref().is_some_and(|other| other != node);
            // The longest-lived of those that are known to run elsewhere.
            let target = view.instances.iter().filter(|one| one.could_lead).find(elsewhere);
            Some((view, target.map_or(Move::Nowhere, |one| Move::To(&one.instance))))
        }
    })
    .collect()
}

pub(super) async fn drain(args: DrainArgs, open: Open<'_>, screen: Screen) -> Result<u8, Failure> {
    let DrainArgs { node, reason, dry_run, place } = args;
    let everywhere = place.namespace.is_none();
    let leases = Leases::at(place, open).await?;
    let views = leases.views(&[], everywhere).await?;
    let moves = moves(&views, &node);
    if moves.is_empty() {
        return output::print(&format!("no leader runs on {}; nothing was changed\n", safe(&node)));
    }
    let reason = if reason.is_empty() { format!("drain of {node}") } else { reason };
    let count = moves.len();
    let end = shutdown::on_signal()?;
    let done = stream::iter(moves)
        .take_until(end.cancelled())
        .map(|(view, to)| one(&leases, view, (&node, to), (&reason, dry_run), (screen, &end)))
        .buffer_unordered(AT_ONCE)
        .filter(|moved| std::future::ready(*moved))
        .count()
        .await;
    if done == count {
        return Ok(0);
    }
    Err(Failure::new(
        ExitCode::NotCarriedOut,
        format!("{} of {count} leaders stay on {}; the lines above say why", count - done, safe(&node)),
    ))
}

/// Whether the leader went, or would go.
async fn one(
    leases: &Leases,
    view: &LeaseView,
    (node, to): (&str, Move<'_>),
    (reason, dry_run): (&str, bool),
    (screen, end): (Screen, &CancellationToken),
) -> bool {
    let title = safe(&view.title());
    let target = match to {
        Move::To(target) => target,
        Move::Nowhere => {
            output::complain(&format!(
                "{title}: nobody else that could lead is known to run on another node (NoCandidate)\n"
            ));
            return false;
        }
        Move::Unknown => {
            output::complain(&format!(
                "{title}: its leader does not say on which node it runs (NODE_NAME), so it may be this one (UnknownNode)\n"
            ));
            return false;
        }
    };
    let from = view.holder.as_deref().unwrap_or_default();
    let asking = Asking::to_leave(&leases.called(view), (from, target), reason, dry_run);
    let told = Told { asking: &asking, screen, end };
    let ended = match leases.ask(&asking, &told).await {
        Ok(ended) => ended,
        Err(failure) => {
            output::complain(&format!("{title}: {failure}\n"));
            return false;
        }
    };
    let said = match &ended {
        // It has changed hands since it was listed.
        Ended::Refused { reason, .. } if reason == "HolderIsAnother" => {
            let now = leases.one(&asking.lease).await;
            if now.is_ok_and(|now| now.node.is_some_and(|other| other != node)) {
                return true;
            }
            ended.tell(&asking, screen).map(drop)
        }
        Ended::Planned { .. } => {
            output::print(&format!("{title} would go to {} (dry run)\n", safe(target))).map(drop)
        }
        ended => ended.tell(&asking, screen).map(drop),
    };
    match said {
        Ok(()) => true,
        Err(failure) => {
            output::complain(&format!("{title}: {failure}\n"));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, node: Option<&str>, healthy: bool, leads: bool) -> InstanceView {
        InstanceView {
            instance: name.to_owned(),
            node: node.map(str::to_owned),
            healthy,
            could_lead: healthy && !leads,
            leads,
            ..InstanceView::default()
        }
    }

    fn led(name: &str, node: &str, instances: Vec<InstanceView>) -> LeaseView {
        LeaseView {
            name: name.to_owned(),
            state: State::Led,
            node: Some(node.to_owned()),
            instances,
            ..LeaseView::default()
        }
    }

    #[test]
    fn a_leader_on_the_node_goes_to_the_longest_lived_healthy_participant_of_another_node() {
        let views = [
            led(
                "a",
                "n1",
                vec![
                    instance("leader", Some("n1"), true, true),
                    instance("neighbour", Some("n1"), true, false),
                    instance("ill", Some("n2"), false, false),
                    instance("unknown", None, true, false),
                    instance("good", Some("n3"), true, false),
                    instance("younger", Some("n2"), true, false),
                ],
            ),
            led("b", "n2", vec![instance("other", Some("n3"), true, false)]),
            led("c", "n1", vec![instance("neighbour", Some("n1"), true, false)]),
            LeaseView { state: State::Free, ..led("d", "n1", Vec::new()) },
            LeaseView { node: None, ..led("e", "n1", Vec::new()) },
        ];
        let found: Vec<_> =
            moves(&views, "n1").into_iter().map(|(view, to)| (view.name.as_str(), to)).collect();
        assert_eq!(found, [("a", Move::To("good")), ("c", Move::Nowhere), ("e", Move::Unknown)]);
    }
}
