//! `db pause`, `db resume` and `db fence`: nobody is promoted; in a fence the primary's server stops besides.

use super::args::{FenceArgs, PauseArgs, ResumeArgs};
use super::cluster::{self, Cluster, Look, Waited};
use super::ended::{Ended, State};
use crate::database::Member;
use crate::member::What;
use crate::primary::verbs::Refusal;
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
            // The fences are lifted already.
            let state = if fenced.is_empty() { State::Refused } else { State::NotCarriedOut };
            cluster.ended(state, OVERTAKEN).because("Overtaken")
        }
        _ => cluster.ended(State::CarriedOut, format!("{name} is resumed: the next primary can be promoted")),
    };
    ended.tell(cluster.output)
}

pub(super) async fn fence(args: FenceArgs) -> Result<u8, Failure> {
    let FenceArgs { wait, common } = args;
    let cluster = Cluster::open("fence", common).await?;
    let mut look = cluster.look().await?;
    let now = look.now();
    let decided = cluster::expect(&now, &wait).and_then(|()| whom(&look));
    let mut member = match decided {
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
    if look.asked.paused.is_none() {
        if cluster.pause(&cluster.said).await? == Outcome::Lost {
            return cluster.ended(State::Refused, OVERTAKEN).because("Overtaken").tell(cluster.output);
        }
        // Another may have taken the lease before that.
        look = cluster.look().await?;
        member = match cluster::expect(&look.now(), &wait).and_then(|()| whom(&look)) {
            Ok(member) => member,
            Err(refusal) => return paused_only(&cluster, &refusal).tell(cluster.output),
        };
    }
    let wish = cluster.wish(&look, &member, What::Fence).await?;
    cluster.tell(&format!("asked {member} to stop its server"));
    let waited = cluster.wait(began, wait.timeout, |look| match look.standing.holding() {
        None => cluster.answered_by(&member, look.answer(&member), &wish.id),
        Some(holder) if holder == member => None,
        Some(holder) => Some(leads_instead(&cluster, &holder)),
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

/// Whose server is to stop. Asked again, it is the same fence, unless another holds the lease.
fn whom(look: &Look) -> Result<Member, Refusal> {
    let asked_before = fenced(look).into_iter().next().filter(|_| look.asked.paused.is_some());
    match asked_before {
        Some(member) if look.standing.holding().is_none() => Ok(member),
        _ => look.now().fence(),
    }
}

fn paused_only(cluster: &Cluster, refusal: &Refusal) -> Ended {
    let message =
        format!("{refusal}; the election is paused now, until db resume, and no server was asked to stop");
    cluster.ended(State::NotCarriedOut, message).because(refusal.reason())
}

fn leads_instead(cluster: &Cluster, holder: &Member) -> Ended {
    let message = format!(
        "{holder} has taken the lease meanwhile; ask again to fence that one. The election is paused until db resume"
    );
    cluster.ended(State::NotCarriedOut, message).because("AnotherLeads")
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
