//! What a participant costs, and how soon another one leads, without Kubernetes: `make bench` with the
//! sections below as WHAT. Figures, not pass or fail.
//!
//! ```text
//! participant   what is_leader() costs, and a renewal's round trip
//! crowd         200 participants on one row whose holder falls silent
//! kill          the leader's process killed: to the next leader
//! outage        the database frozen for two ttls: from its return to the next leader
//! handover      the leader asked to step down: to the next leader, with LISTEN and without
//! verbs         an operator's request, to the next leader, on each database
//! roundtrip     by how long a round trip takes: connecting, looking, and the smallest ttl that works
//! looks         a look of the controller at 10,000 components among 1,000,000 rows: time and memory
//! ```

#![expect(clippy::disallowed_methods, reason = "a benchmark measures by the machine's own clock")]

mod calls;
mod crowd;
mod handover;
mod kill;
mod looks;
mod outage;
mod roundtrip;
mod verbs;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use component_lease::clock::{Clock, SystemClock};
use component_lease::election::ComponentName;
use component_lease::participant::{Participant, ParticipantBuilder};
use component_lease::store::{self, LeaseStore, Source};
use component_lease_testkit::figures::machine;
use component_lease_testkit::postgres::Server;

type Failure = Box<dyn Error + Send + Sync>;

const SECTIONS: [&str; 8] =
    ["participant", "crowd", "kill", "outage", "handover", "verbs", "roundtrip", "looks"];
/// Seconds, where nothing else is said.
const TTL: u32 = 5;
const TERM: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // What cargo itself says to a benchmark begins with a dash.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [role, component, ttl] = words.as_slice()
        && role == kill::HOLDER
    {
        return kill::hold(component, ttl).await;
    }
    if let Some(unknown) = words.iter().find(|word| !SECTIONS.contains(&word.as_str())) {
        return Err(format!("there is no section {unknown:?}; there are {}", SECTIONS.join(", ")).into());
    }
    println!("The participant in a program of its own.\n{}", machine());
    for section in SECTIONS.iter().filter(|section| words.is_empty() || words.iter().any(|w| w == *section)) {
        match *section {
            "participant" => calls::measure().await,
            "crowd" => crowd::measure().await,
            "kill" => kill::measure().await,
            "outage" => outage::measure().await,
            "roundtrip" => roundtrip::measure().await,
            "looks" => looks::measure().await,
            "verbs" => verbs::measure().await,
            _ => handover::measure().await,
        }?;
    }
    Ok(())
}

fn now() -> Duration {
    SystemClock.boot()
}

/// A number of the environment: RUNS is how often something is measured.
fn number(name: &str, default: usize) -> Result<usize, Failure> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            Ok(text.parse().map_err(|_| format!("{name}={text} is no number"))?)
        }
        _ => Ok(default),
    }
}

async fn open(source: &Source) -> Result<Arc<dyn LeaseStore>, Failure> {
    store::install(source, store::Install::default().first(true)).await?;
    Ok(store::open(source.clone(), "component-lease bench")?)
}

/// A PostgreSQL server with the tables, for many participants.
async fn postgres() -> Result<(Server, Source), Failure> {
    let server = Server::builder().setting("max_connections", "600").start().await;
    let server = server.map_err(|error| format!("{error:#}"))?;
    let source = Source::url(server.superuser_url());
    open(&source).await?;
    Ok((server, source))
}

fn participant(store: Arc<dyn LeaseStore>, component: &str) -> Result<ParticipantBuilder, Failure> {
    Ok(Participant::builder(store, ComponentName::new(component)?).ttl(Duration::from_secs(TTL.into())))
}

/// Waits until this participant has seen that somebody holds the row under this version.
async fn sees(participant: &Participant, version: i64) -> Result<(), Failure> {
    let mut view = participant.watch();
    view.wait_for(|view| view.row.as_ref().is_some_and(|row| !row.is_free() && row.version == version))
        .await?;
    Ok(())
}
