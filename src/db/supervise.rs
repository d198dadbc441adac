//! `db run`: one member, from the check of its flags to its end.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::args::{PeerArgs, RunArgs};
use super::http::{self, Known};
use super::place::{Place, failure, system_of};
use super::server;
use super::view::View;
use crate::clock::{Clock, SystemClock};
use crate::database::postgres::{Config, Peers, Postgres, identity};
use crate::database::{Engine as _, EngineError};
use crate::member::{Ended, Settings, Standing, Supervisor};
use crate::membership::Mode;
use crate::participant::Participant;
use crate::process::exit::chain;
use crate::process::listen::bind;
use crate::process::{ExitCode, Failure, http as server_of_http, shutdown};
use crate::store::{LeaseStore, Roster, StoreError};
use crate::supervise::children::Children;

/// How long the lease's store is waited for at the start; without its answer the server starts all the same, as a standby.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Between two attempts to learn which database keeps the lease.
const ASK: Duration = Duration::from_secs(2);
/// How long the thread of last resort goes on killing what is left of the server.
const LAST_RESORT: Duration = Duration::from_secs(1);

type Member = Supervisor<Postgres>;

/// The database whose primary is elected: it must not keep that lease itself.
struct Governed {
    /// Its system identifier, where there are data yet.
    own: Option<u64>,
    settings: Settings,
}

pub(super) async fn run(args: RunArgs) -> Result<u8, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let members = args.all_members()?;
    let mut config = config(&args)?;
    let place = Place::of(&args.lease, Arc::clone(&clock)).await?;
    let settings = Settings {
        component: place.component.clone(),
        member: args.member.clone(),
        identity: identity(&config.data).map_err(refusal)?,
        members,
        host: args.address.host.clone(),
        port: args.address.port,
        acks: args.acks,
        cloning: args.clone.into(),
    };
    config.member = settings.bearer();
    let ((to_compete, roster), to_look) = (place.stores()?, place.roster()?);
    let end = shutdown::on_signal()?;
    let cannot = |error| Failure::unexpected(format!("cannot supervise: {error}"));
    // The server runs as the same user, and is not to read the password of the lease in /proc.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| cannot(error.into()))?;
    let children = Children::new().map_err(cannot)?;
    let engine = Postgres::new(config, children, Arc::clone(&clock)).map_err(refusal)?;
    let own = engine.reserve().map_err(refusal)?;
    let listener = bind(args.listen).await?;
    let governed = Governed { own, settings: settings.clone() };
    match timeout(FIRST_ANSWER, governed.check(&*to_look)).await {
        Ok(Err(error)) if is_refusal(&error) => return Err(failure(&error)),
        Ok(Err(error)) => warn!("the lease's store does not answer yet: {error}"),
        Err(_) => warn!("the lease's store has not answered within {FIRST_ANSWER:?}"),
        Ok(Ok(())) => {}
    }
    let member = member(settings, engine, to_compete, roster, clock, args.ttl())?;
    let view = Arc::new(View::new(&member));
    let known = Known { view: Arc::clone(&view), member: Arc::clone(&member) };
    tokio::spawn(server_of_http::serve(listener, http::router(&known), CancellationToken::new()));
    if own.is_some() {
        // SIGTERM ends it here as it does later: `run` below ends the server, and all that was begun.
        tokio::select! {
            begun = begin(&member) => begun?,
            () = end.cancelled() => {}
        }
    }
    let refused = Arc::new(Mutex::new(None));
    tokio::spawn({
        let (member, refused, end) = (Arc::clone(&member), Arc::clone(&refused), end.clone());
        async move {
            let check = async {
                if let Err(error) = governed.until_checked(&*to_look).await {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure(&error));
                    end.cancel();
                }
            };
            // The server is looked at from the start, also while the store has not answered yet.
            tokio::join!(check, view.keep(&member));
        }
    });
    let ended = member.run(end.cancelled()).await;
    if let Some(failure) = refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(failure);
    }
    let again = |why: String| Failure::new(ExitCode::Ended, format!("{why}; restart this process"));
    match ended.map_err(|error| again(chain(&error)))? {
        Ended::Stopped => Ok(0),
        Ended::OlderThanItSaid => Err(again("the data directory got another identity".to_owned())),
        Ended::GaveWay => Err(Failure::config(format!(
            "another process bears the name {} and was there before, or is the one that the record names: end it, or give this one another --member",
            member.settings().member
        ))),
    }
}

/// What can never work is said at once, and not once a minute. Its recovery may take long, so probes are answered by now,
/// and it does not compete.
async fn begin(member: &Member) -> Result<(), Failure> {
    match member.engine().start().await {
        Err(error @ EngineError::Refused(_)) => return Err(refusal(error)),
        Err(EngineError::Failed(why)) => warn!("the server is not up yet: {why}"),
        Ok(()) => {}
    }
    Ok(())
}

fn member(
    settings: Settings,
    engine: Postgres,
    to_compete: Arc<dyn LeaseStore>,
    roster: Arc<dyn Roster>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
) -> Result<Arc<Member>, Failure> {
    let last_resort: Arc<OnceLock<Weak<Member>>> = Arc::default();
    let participant = Participant::builder(to_compete, settings.component.clone())
        .name(&settings.member)
        .mode(Mode::Around)
        .ttl(ttl)
        .healthy(false)
        .on_overrun({
            let last_resort = Arc::clone(&last_resort);
            move |overrun| {
                // A plain thread: this happens even when every async worker is blocked.
                let member = last_resort.get().and_then(Weak::upgrade);
                let version = overrun.version;
                if member.is_some_and(|member| member.engine().kill(LAST_RESORT)) {
                    error!(version, "the server did not end before the lease ran out: killed");
                } else {
                    warn!(
                        version,
                        "this process was paused beyond the end of its term, in which no server ran any more"
                    );
                }
            }
        })
        .start()
        .map_err(|error| Failure::config(chain(&error)))?;
    info!(cluster = %participant.component(), member = settings.member, holder = %participant.holder(), "competing");
    let member = Arc::new(Supervisor::new(settings, engine, roster, participant, clock));
    // Just made: nobody else can have set it.
    let _ = last_resort.set(Arc::downgrade(&member));
    Ok(member)
}

fn config(args: &RunArgs) -> Result<Config, Failure> {
    let PeerArgs {
        replication_user,
        replication_password_file,
        replication_tls_mode,
        replication_ca_file,
        replication_cert_file,
        replication_key_file,
    } = args.peers.clone();
    Ok(Config {
        member: args.member.clone(),
        data: server::data(&args.command, args.data.clone(), std::env::var_os("PGDATA"))?,
        programs: server::programs(&args.command, args.programs.clone())?,
        command: args.command.clone(),
        user: args.user.clone(),
        database: args.database.clone(),
        peers: Peers {
            user: replication_user,
            password_file: replication_password_file,
            tls_mode: replication_tls_mode,
            tls_root: replication_ca_file,
            tls_cert: replication_cert_file,
            tls_key: replication_key_file,
        },
        system: None,
        guardian: None,
        output: None,
    })
}

impl Governed {
    /// Whether the lease is in another database than the one whose primary it is about: only that one could still say who leads
    /// when the primary is away.
    async fn check(&self, store: &dyn Roster) -> Result<(), StoreError> {
        let Settings { component, members, .. } = &self.settings;
        let keeps = system_of(store, component).await?;
        let standing = Standing::read(store, component, members).await?;
        let recorded = standing.record.map(|(record, _)| record.system);
        let said = standing.said.values().filter_map(|said| Some(said.sealed.as_ref()?.system));
        let governed: Vec<u64> = self.own.into_iter().chain(recorded).chain(said).collect();
        match keeps {
            Some(system) if governed.contains(&system) => Err(StoreError::misconfigured(format!(
                "the lease is in the very database whose primary it is about ({}, system identifier {system}): without its primary nobody could be elected. Name another database with --lease, or use --lease kubernetes",
                store.describe()
            ))),
            _ => Ok(()),
        }
    }

    /// Until the store has answered.
    async fn until_checked(&self, store: &dyn Roster) -> Result<(), StoreError> {
        loop {
            match self.check(store).await {
                Err(error) if !is_refusal(&error) => sleep(ASK).await,
                answer => return answer,
            }
        }
    }
}

const fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Misconfigured { .. })
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn refusal(error: EngineError) -> Failure {
    Failure::config(error.to_string())
}
