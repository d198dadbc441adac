//! `db failover --allow-data-loss`: for a cluster of which so many machines are gone for good that nobody can be promoted.

use std::fmt::Write as _;
use std::time::Duration;

use super::args::FailoverArgs;
use super::cluster::{self, Cluster, Look, Waited};
use super::ended::{Ended, State};
use crate::database::Member;
use crate::election::{HolderId, Request, Verb};
use crate::member::What;
use crate::primary::verbs::Failover;
use crate::process::asker::confirmed;
use crate::process::{ExitCode, Failure, output};
use crate::store::new_uuid;

pub(super) async fn failover(args: FailoverArgs) -> Result<u8, Failure> {
    let FailoverArgs { allow_data_loss: _, to, confirm, wait, common } = args;
    let cluster = Cluster::open("failover", common).await?;
    if cluster.said.reason().trim().is_empty() && !cluster.dry_run {
        return Err(Failure::new(ExitCode::Usage, "a failover that may lose data needs --reason".to_owned()));
    }
    let look = cluster.look().await?;
    let now = look.now();
    let decided = cluster::expect(&now, &wait).and_then(|()| now.failover_with_loss(to.as_ref()));
    let failover = match decided {
        Ok(failover) => failover,
        Err(refusal) => return cluster.refused(&refusal).tell(cluster.output),
    };
    let steps = steps(&failover);
    if cluster.dry_run {
        return cluster.planned(steps).tell(cluster.output);
    }
    confirm_by_name(&cluster, confirm.as_deref(), &steps)?;
    let began = cluster::now();
    let Failover { to, permit, .. } = &failover;
    let what = What::Failover { over: permit.over, with: permit.with.clone() };
    let wish = cluster.wish(&look, to, what).await?;
    cluster.tell(&format!("asked {to} to be promoted though data may be lost (id {})", wish.id));
    if look.standing.holding().as_ref() != Some(to) {
        hand_the_lease_to(&cluster, &look, to).await?;
    }
    let waited = cluster.wait(began, wait.timeout, |look| ended(&cluster, look, &failover, &wish.id));
    let ended = match waited.await? {
        Waited::Ended(ended) => ended.after(cluster::now().saturating_sub(began)),
        Waited::GivenUp { took, interrupted } => {
            let message = format!(
                "{to} has not acknowledged a write yet: another member must follow it first; what was asked stands, and {to} is promoted as soon as it can be. db status says what it waits for"
            );
            cluster.given_up(took, interrupted, message)
        }
    };
    ended.tell(cluster.output)
}

/// What would happen, and what is known of what would be lost.
fn steps(failover: &Failover<Member>) -> Vec<String> {
    let Failover { to, missing, position, lost, permit } = failover;
    let gone = missing.iter().cloned().collect::<Vec<_>>().join(", ");
    let end = format!("{:X}/{:X}", position.end >> 32, position.end & 0xffff_ffff);
    let known = match lost {
        None => "How much that is, is not known".to_owned(),
        Some(0) => "It has all that the old primary said last; what came after that is not known".to_owned(),
        Some(bytes) => {
            format!("{bytes} bytes of the log are known to be missing; what came after that is not known")
        }
    };
    vec![
        format!(
            "{to} is promoted with what it has: up to {end} of the log, written under version {}. The record of version {} is given up.",
            position.term, permit.over
        ),
        format!("Lost is what {gone} acknowledged and no member that is there has. {known}."),
        format!(
            "MAKE SURE that {gone} are off and stay off until {to} is the primary. One of them that runs where nobody else reaches it may go on acknowledging writes, which are lost."
        ),
        format!(
            "When they come back they find {to}: what they have and it lacks is taken back (pg_rewind), or they are copied."
        ),
    ]
}

fn confirm_by_name(cluster: &Cluster, confirm: Option<&str>, steps: &[String]) -> Result<(), Failure> {
    let mut question = String::new();
    for step in steps {
        // Writing to a string never fails.
        let _ = writeln!(question, "* {step}");
    }
    let confirmed = match confirm {
        Some(name) => {
            output::complain(&question);
            Some(name == cluster.name)
        }
        None => confirmed(&format!("{question}Type the name of the cluster to go on: "), &cluster.name),
    };
    match confirmed {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(
            ExitCode::Refused,
            format!("not confirmed by the cluster's name, {}; nothing was changed", cluster.name),
        )),
        None => Err(Failure::new(
            ExitCode::Usage,
            format!(
                "a failover that may lose data has to be confirmed, and there is no terminal to ask at; add --confirm {}",
                cluster.name
            ),
        )),
    }
}

/// Another holds the lease and cannot be promoted, or nobody holds it.
async fn hand_the_lease_to(cluster: &Cluster, look: &Look, to: &Member) -> Result<(), Failure> {
    let holder = look.standing.said.get(to).and_then(|said| said.holder.clone());
    // Without it the member competes as ever.
    let Some(Ok(holder)) = holder.map(HolderId::new) else { return Ok(()) };
    let request = Request {
        id: new_uuid(),
        verb: Verb::Promote,
        version: look.standing.version,
        target: Some(holder),
        away: Duration::ZERO,
    };
    let replaces = look.asked.request.as_ref().map(|posted| posted.request.id.clone());
    cluster.ask(&request, replaces.as_deref()).await.map(drop)
}

fn ended(cluster: &Cluster, look: &Look, failover: &Failover<Member>, id: &str) -> Option<Ended> {
    let (to, standing) = (&failover.to, &look.standing);
    let Some(record) = standing.primary() else {
        return cluster.answered_by(to, look.answer(to), id).filter(|ended| ended.state == State::Refused);
    };
    let (primary, version) = (&record.primary, standing.version);
    let forced = standing.forced.as_ref().is_some_and(|forced| forced.over == failover.permit.over);
    let ended = if primary == to && forced {
        cluster.ended(State::CarriedOut, format!("{to} is the primary under version {version}"))
    } else {
        let message = format!(
            "{primary} is the primary under version {version}, without a loss: enough members came back"
        );
        cluster.ended(State::NotCarriedOut, message).because("NotNeeded")
    };
    Some(ended.led_by(primary, version))
}
