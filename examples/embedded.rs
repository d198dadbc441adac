//! A service that embeds a participant: of all that are started with the same file, one at a time works.
//!
//! ```text
//! cargo run --example embedded -- /tmp/lease.db
//! ```
//! Start it in two or three terminals and write numbers: the one that leads answers. Then end it in one of the ways in
//! which work ends: Ctrl-C, Ctrl-D, a word (an error), 0 (a panic). Each time another takes over at once; after
//! `kill -9` it does so when the ttl is over.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use component_lease::{Install, Participant, Source, TermObserver, Whereabouts, component, install, open};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines, stdin};
use tokio::signal::ctrl_c;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("usage: embedded FILE")?;
    serve(&format!("sqlite:{file}"), BufReader::new(stdin()).lines()).await
}

pub(crate) async fn serve(url: &str, mut jobs: Lines<impl AsyncBufRead + Unpin>) -> Result<(), Failure> {
    let database = Source::url(url);
    // An example's file was never used before; a service must not say so of its database each time.
    install(&database, Install::default().first(true)).await?;
    let store = open(database, "embedded")?;

    // In a pod the component belongs to the pod's namespace (POD_NAMESPACE).
    let participant = Participant::builder(store, component("embedded-example")?)
        .whereabouts(Whereabouts::from_variables(|name| std::env::var(name).ok()))
        .ttl(Duration::from_secs(5))
        .start()?;
    println!("{} competes", participant.holder());

    let mut leading = pin!(participant.run(async |term| work(term, &mut jobs).await));
    tokio::select! {
        ended = &mut leading => ended.map(drop),
        _ = ctrl_c() => {
            // The work has so long to end by itself; then it is dropped.
            participant.begin_shutdown(Duration::from_secs(3));
            leading.await.map(drop)
        }
    }
}

/// The work of a leader.
async fn work(term: TermObserver, jobs: &mut Lines<impl AsyncBufRead + Unpin>) -> Result<(), Failure> {
    println!("leading, version {}", term.version());
    loop {
        let job = tokio::select! {
            job = jobs.next_line() => job?,
            () = term.asked_to_stop() => return Ok(()),
        };
        let Some(job) = job else { return Ok(()) };
        // Here a real service writes, with `term.version()` as the fencing token.
        let number: u32 = job.trim().parse()?;
        println!("1000 / {number} = {}", 1000 / number);
    }
}
