//! The participant as a program around another one (the command `run`): that one runs while this process leads.

mod args;
mod program;
mod signals;
mod supervise;
mod withheld;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::{error, warn};

pub use args::AroundArgs;

use crate::agent::{Config, builder, serve};
use crate::membership::Mode;
use crate::process::listen::{Listen, reachable};
use crate::process::{ExitCode, Failure};
use crate::store::LeaseStore;
use crate::supervise::children::Children;
use crate::supervise::tree::Tree;
use signals::Signals;
use supervise::Supervisor;

/// Where `run` listens unless told otherwise: any free port, which the child finds in its environment.
const LISTENS: Listen = Listen::Loopback(0);

/// How long the thread of last resort goes on killing what the program starts anew.
const LAST_RESORT: Duration = Duration::from_secs(1);

/// Competes around a program: runs it while this process leads. Answers the exit code to end with.
pub async fn around(
    config: Config,
    around: AroundArgs,
    store: Arc<dyn LeaseStore>,
    command: Vec<OsString>,
) -> Result<u8, Failure> {
    let Some(program) = command.first() else {
        return Err(Failure::new(ExitCode::Usage, "there is no command to run; write it after --"));
    };
    program::check(program, std::env::var_os("PATH"))?;
    let cannot = |error| Failure::unexpected(format!("cannot supervise: {error}"));
    // The program may run as the same user, and is not to read our environment in /proc.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| cannot(error.into()))?;
    let signals = Signals::new().map_err(cannot)?;
    let children = Children::new().map_err(cannot)?;
    let tree = Arc::new(Tree::default());
    let builder = builder(&config, store, Mode::Around).on_overrun({
        let tree = Arc::clone(&tree);
        move |overrun| {
            // A plain thread: this happens even when every async worker is blocked.
            let version = overrun.version;
            if tree.kill(LAST_RESORT) {
                error!(version, "the program did not stop before its lease ran out: killed");
            } else {
                warn!(
                    version,
                    "this process was paused beyond the end of its term; no program was running any more"
                );
            }
        }
    });
    let served = serve(&config, builder, Mode::Around, LISTENS).await?;
    let path = served.teller.path_of_the_program();
    let agent_url = format!("http://{}{path}", reachable(served.address));
    let supervisor = Supervisor {
        participant: served.participant,
        teller: served.teller,
        command,
        _control: served.control,
        agent_url,
        withheld: withheld::from_the_program(&around.pass_env),
        guardian: around.guardian,
        cooldown: config.cooldown,
        drain_timeout: around.drain_timeout,
        probe: config.probe,
        tree,
        children,
        signals,
        ending: false,
    };
    supervisor.run().await
}
