//! Pauses the election in the database, or ends that, as the resource says.

use std::time::Duration;

use tracing::{info, warn};

use crate::controller::database::Database;
use crate::routing::observed::Observed;
use crate::routing::pause::{PauseChange, PauseSight, change, pauser};
use crate::store::{Outcome, Said};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Notes what stands in the database afterwards. False when it should be tried again.
pub(super) async fn keep(observed: &mut Observed, may: bool, database: &Database) -> bool {
    let me = pauser(&observed.desired.namespace, &observed.desired.name);
    // Once the database answers, every resource is reconciled anew.
    let wanted =
        change(&me, &observed.desired.pause, &observed.pause).filter(|_| may && !database.known().failing());
    let Some(wanted) = wanted else { return true };
    let component = &observed.desired.component;
    let (after, said, of) = match wanted {
        PauseChange::End(of) => (PauseSight::Running, None, of),
        // The schema lets nothing else through.
        PauseChange::Begin(pause, over) => match Said::new(pause.by.clone(), pause.reason.clone()) {
            Ok(said) => (PauseSight::Paused(pause), Some(said), over),
            Err(error) => {
                warn!(%component, %error, "spec.pausedReason cannot be written down, so the election is not paused");
                return true;
            }
        },
    };
    let store = database.store();
    let written = async {
        match &said {
            Some(said) => store.pause(component, said, of.as_deref()).await,
            None => store.resume(component, of.as_deref()).await,
        }
    };
    let error = match tokio::time::timeout(TIMEOUT, written).await {
        // Somebody was faster, which the next look shows.
        Ok(Ok(Outcome::Lost)) => return false,
        Ok(Ok(Outcome::Applied)) => {
            // Participants that wait for the lease look again.
            let _ = tokio::time::timeout(TIMEOUT, store.notify(component)).await;
            database.wrote_pause(component, said);
            let what = if after == PauseSight::Running { "goes on" } else { "is paused" };
            info!(%component, "the election {what}, as its resource says");
            observed.pause = after;
            return true;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    warn!(%component, error, "could not pause or resume the election as its resource says; trying again");
    false
}
