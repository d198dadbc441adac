//! `db pause`, `db resume` and `db fence`: nobody is promoted; in a fence the primary's server stops besides.

use super::args::{FenceArgs, PauseArgs, ResumeArgs};
use super::cluster::{self, Cluster, Look, Waited};
use super::ended::State;
use crate::database::Member;
use crate::member::What;
use crate::process::Failure;
use crate::store::Outcome;

/// Somebody else did the same or the opposite in between.
const OVERTAKEN: &str =
    "somebody else has paused or resumed the election at the same moment; db status says how it is now";

const PAUSED: &str = "its primary goes on; if that ends, nobody is promoted until db resume";

pub(super) async fn pause(args: PauseArgs) -> Result<u8, Failure> {
    let cluster = Cluster::open("pause", args.common).await?;
    let look = cluster.look().await?;
    let name = &cluster.name;
    let ended = match &look.asked.paused {
        Some(said) => cluster.ended(
            State::Unchanged,
            format!("{name} is paused already, by {}", who(said.by(), said.reason())),
        ),
        None if cluster.dry_run => cluster.planned(vec![format!("{name} is paused: {PAUSED}.")]),
        None => match cluster.pause(&cluster.said).await? {
            Outcome::Applied => cluster.ended(State::CarriedOut, format!("{name} is paused: {PAUSED}")),
            Outcome::Lost => cluster.ended(State::Refused, OVERTAKEN).because("Overtaken"),
        },
    };
    ended.tell(cluster.output)
}

pub(super) async fn resume(args: ResumeArgs) -> Result<u8, Failure> {
    let cluster = Cluster::open("resume", args.common).await?;
    let look = cluster.look().await?;
    let (name, fenced) = (&cluster.name, fenced(&look));
    if look.asked.paused.is_none() && fenced.is_empty() {
        return cluster.ended(State::Unchanged, format!("{name} is not paused")).tell(cluster.output);
    }
    if cluster.dry_run {
        let servers = fenced.iter().map(|member| format!("{member} starts its server again, as a standby."));
        let steps = servers.chain([format!("The election of {name} goes on: anybody may be promoted.")]);
        return cluster.planned(steps.collect()).tell(cluster.output);
    }
    // First: who is promoted next should have all to choose from.
    for member in &fenced {
        cluster.wish_nothing(member).await?;
    }
    let ended = match &look.asked.paused {
        Some(said) if cluster.resume(said.by()).await? == Outcome::Lost => {
            cluster.ended(State::Refused, OVERTAKEN).because("Overtaken")
        }
        _ => cluster.ended(State::CarriedOut, format!("{name} is resumed: the next primary can be promoted")),
    };
    ended.tell(cluster.output)
}

pub(super) async fn fence(args: FenceArgs) -> Result<u8, Failure> {
    let FenceArgs { wait, common } = args;
    let cluster = Cluster::open("fence", common).await?;
    let look = cluster.look().await?;
    let now = look.now();
    // Asked again, it is the same fence.
    let asked_before = fenced(&look).into_iter().next().filter(|_| look.asked.paused.is_some());
    let decided = cluster::expect(&now, &wait).and_then(|()| asked_before.map_or_else(|| now.fence(), Ok));
    let member = match decided {
        Ok(member) => member,
        Err(refusal) => return cluster.refused(&refusal).tell(cluster.output),
    };
    if cluster.dry_run {
        let steps = vec![
            format!("{} is paused: nobody is promoted until db resume.", cluster.name),
            format!(
                "{member} stops its server in order, releases the lease, and keeps the server stopped until db resume. Nobody can write until then."
            ),
        ];
        return cluster.planned(steps).tell(cluster.output);
    }
    let began = cluster::now();
    // The pause first: nobody takes the lease that is released.
    if look.asked.paused.is_none() && cluster.pause(&cluster.said).await? == Outcome::Lost {
        return cluster.ended(State::Refused, OVERTAKEN).because("Overtaken").tell(cluster.output);
    }
    let wish = cluster.wish(&look, &member, What::Fence).await?;
    cluster.tell(&format!("asked {member} to stop its server"));
    let waited = cluster.wait(began, wait.timeout, |look| {
        let done = cluster.answered_by(&member, look.answer(&member), &wish.id)?;
        (look.standing.holding().as_ref() != Some(&member)).then_some(done)
    });
    let ended = match waited.await? {
        Waited::Ended(ended) => ended.after(cluster::now().saturating_sub(began)),
        Waited::GivenUp { took, interrupted } => {
            let message = format!(
                "{member} has not said that its server has stopped; the election is paused and the fence stands, until db resume"
            );
            cluster.given_up(took, interrupted, message)
        }
    };
    ended.tell(cluster.output)
}

/// Members that are to keep their servers stopped.
fn fenced(look: &Look) -> Vec<Member> {
    let wishes = look.standing.wishes.iter();
    wishes.filter(|(_, wish)| wish.what == What::Fence).map(|(member, _)| member.clone()).collect()
}

/// Who, and why if they said so.
fn who(by: &str, reason: &str) -> String {
    if reason.is_empty() { by.to_owned() } else { format!("{by}: {reason}") }
}
