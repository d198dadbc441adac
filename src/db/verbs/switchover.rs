//! `db switchover`: a planned change of the primary.

use std::time::Duration;

use super::args::SwitchoverArgs;
use super::cluster::{self, Cluster, Look, Waited};
use super::ended::{Ended, State};
use crate::database::Member;
use crate::election::{HolderId, Request, Verb};
use crate::process::{ExitCode, Failure};
use crate::store::{Outcome, Posted, new_uuid};

pub(super) async fn switchover(args: SwitchoverArgs) -> Result<u8, Failure> {
    let SwitchoverArgs { to, wait, common } = args;
    let cluster = Cluster::open("switchover", common).await?;
    let look = cluster.look().await?;
    let now = look.now();
    let decided = cluster::expect(&now, &wait).and_then(|()| now.switchover(to.as_ref()));
    let target = match decided {
        Ok(target) => target,
        Err(refusal) => return cluster.refused(&refusal).tell(cluster.output),
    };
    let primary = now.holder.clone().unwrap_or_default();
    if cluster.dry_run {
        return cluster.planned(steps(&primary, &target, now.version)).tell(cluster.output);
    }
    let began = cluster::now();
    let request = match ask(&cluster, &look, &target).await? {
        Ok(request) => request,
        Err(refused) => return refused.tell(cluster.output),
    };
    cluster.tell(&format!("asked {primary} (version {}) to hand over to {target}", request.version));
    let waited =
        cluster.wait(began, wait.timeout, |look| ended(&cluster, look, &request, (&primary, &target)));
    let ended = match waited.await? {
        Waited::Ended(ended) => ended.after(cluster::now().saturating_sub(began)),
        Waited::GivenUp { took, interrupted } => {
            cluster.withdraw(&request.id).await?;
            let message = "the request was taken back, but a primary that has read it may still hand over; db status says how it is now";
            cluster.given_up(took, interrupted, message)
        }
    };
    if ended.state == State::Refused {
        cluster.withdraw(&request.id).await?;
    }
    ended.tell(cluster.output)
}

fn steps(primary: &Member, target: &Member, version: i64) -> Vec<String> {
    vec![
        format!(
            "{primary} (version {version}) looks once more whether {target} could be promoted; if not, it goes on."
        ),
        format!(
            "{primary} makes a checkpoint, stops its server in order, so that the others receive all of its log, and releases the lease."
        ),
        format!(
            "{target} takes the free lease; all others leave it alone for a third of the TTL, then anybody may take it."
        ),
        format!(
            "{target} is promoted once so many members are sealed that nothing acknowledged is missing; {primary} comes back as a standby."
        ),
    ]
}

/// The request that stands now: a new one, or the same that somebody has made before.
async fn ask(cluster: &Cluster, look: &Look, target: &Member) -> Result<Result<Request, Ended>, Failure> {
    let holder = look.standing.said.get(target).and_then(|said| said.holder.clone()).unwrap_or_default();
    let holder =
        HolderId::new(holder).map_err(|error| Failure::new(ExitCode::Unexpected, error.to_string()))?;
    let pending = look.asked.request.as_ref();
    if let Some(Posted { request, said, .. }) =
        pending.filter(|posted| posted.request.version == look.standing.version)
    {
        let same = request.verb == Verb::Switchover && request.target.as_ref() == Some(&holder);
        // One that the primary has refused is over.
        let open = look
            .standing
            .holding()
            .is_none_or(|primary| look.refusal(&primary).is_none_or(|answer| answer.id != request.id));
        if open && same {
            return Ok(Ok(request.clone()));
        }
        if open {
            let message = format!(
                "the request {} ({}, by {}) is still pending; wait for it, or take it back",
                request.id,
                request.verb.as_str(),
                said.by()
            );
            return Ok(Err(cluster.ended(State::Refused, message).because("AnotherRequestPending")));
        }
    }
    let request = Request {
        id: new_uuid(),
        verb: Verb::Switchover,
        version: look.standing.version,
        target: Some(holder),
        away: Duration::ZERO,
    };
    let replaces = pending.map(|posted| posted.request.id.as_str());
    match cluster.ask(&request, replaces).await? {
        Outcome::Applied => Ok(Ok(request)),
        Outcome::Lost => Ok(Err(cluster
            .ended(State::Refused, "the lease or what is asked of it changed while you asked; look again")
            .because("LeaseChanged"))),
    }
}

fn ended(
    cluster: &Cluster,
    look: &Look,
    request: &Request,
    (primary, target): (&Member, &Member),
) -> Option<Ended> {
    let standing = &look.standing;
    if standing.version > request.version {
        let record = standing.primary()?;
        let (now, version) = (&record.primary, standing.version);
        let ended = if now == target {
            cluster.ended(State::CarriedOut, format!("{now} is the primary under version {version}"))
        } else if now == primary {
            let message =
                format!("{now} is the primary again, under version {version}: {target} did not take over");
            cluster.ended(State::NotCarriedOut, message).because("SameLeads")
        } else {
            let message = format!("{now} is the primary instead of {target}, under version {version}");
            cluster.ended(State::NotCarriedOut, message).because("AnotherLeads")
        };
        return Some(ended.led_by(now, version));
    }
    if let Some(refused) = cluster.answered_by(primary, look.refusal(primary), &request.id) {
        return Some(refused);
    }
    match look.asked.request.as_ref() {
        Some(posted) if posted.request.id == request.id => None,
        Some(posted) => {
            let message = format!("the request {} stands in its place", posted.request.id);
            Some(cluster.ended(State::NotCarriedOut, message).because("Replaced"))
        }
        None => {
            Some(cluster.ended(State::NotCarriedOut, "somebody took the request back").because("Withdrawn"))
        }
    }
}
