//! `db reinit`: a standby's data are copied anew from the primary.

use std::time::Duration;

use super::args::ReinitArgs;
use super::cluster::{self, Cluster, Waited};
use super::ended::State;
use crate::member::What;
use crate::process::asker::confirmed;
use crate::process::{ExitCode, Failure};

/// Copies take as long as they take.
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn reinit(args: ReinitArgs) -> Result<u8, Failure> {
    let ReinitArgs { member, yes, wait, common } = args;
    let cluster = Cluster::open("reinit", common).await?;
    let look = cluster.look().await?;
    let now = look.now();
    let fence = look.standing.wishes.get(&member).filter(|wish| wish.what == What::Fence);
    if let Some(fence) = fence {
        let message = format!("{member} is fenced, by {}; db resume first", fence.by);
        return cluster.ended(State::Refused, message).because("Fenced").tell(cluster.output);
    }
    let decided = cluster::expect(&now, &wait).and_then(|()| now.reinit(&member));
    if let Err(refusal) = decided {
        return cluster.refused(&refusal).tell(cluster.output);
    }
    let primary = now.holder.clone().unwrap_or_default();
    if cluster.dry_run {
        let steps = vec![
            format!("{member} stops its server, which acknowledges nothing meanwhile."),
            format!(
                "The data of {primary} are copied into a new folder. What {member} has is kept beside it until you remove it."
            ),
            format!("{member} follows {primary} again."),
        ];
        return cluster.planned(steps).tell(cluster.output);
    }
    if !yes {
        let question = format!(
            "The data of {member} are replaced by a copy of {primary}'s. Type the name of the member to go on: "
        );
        match confirmed(&question, &member) {
            Some(true) => {}
            Some(false) => {
                return Err(Failure::new(ExitCode::Refused, "not confirmed, nothing was changed".to_owned()));
            }
            None => {
                let why = "reinit has to be confirmed, and there is no terminal to ask at; add --yes";
                return Err(Failure::new(ExitCode::Usage, why.to_owned()));
            }
        }
    }
    let began = cluster::now();
    let wish = cluster.wish(&look, &member, What::Reinit).await?;
    cluster.tell(&format!("asked {member} to be copied anew from {primary}"));
    let limit = wait.timeout.unwrap_or(DAY);
    let waited =
        cluster.wait(began, Some(limit), |look| cluster.answered_by(&member, look.answer(&member), &wish.id));
    let ended = match waited.await? {
        Waited::Ended(ended) => {
            cluster.clear(&member, &wish).await?;
            ended.after(cluster::now().saturating_sub(began))
        }
        Waited::GivenUp { took, interrupted } => {
            let message = format!("{member} goes on with it; ask again to wait for the same copy");
            cluster.given_up(took, interrupted, message)
        }
    };
    ended.tell(cluster.output)
}
