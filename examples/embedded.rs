//! A service that embeds the participant: it does its work while it leads, and tells over a
//! channel of its own (here: standard output) what it did, under which version.
//!
//! ```text
//! cargo run --example embedded --no-default-features --features sqlite -- /tmp/lease.db
//! ```
//! Start it two or three times with the same file; end the one that leads with Ctrl-C or `kill -9`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use component_lease::membership::Whereabouts;
use component_lease::participant::{End, Guard, Participant, component};
use component_lease::store::{Install, Source, install, open};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("usage: embedded FILE")?;
    let source = Source::url(format!("sqlite:{file}"));
    // An example's file was never used before; a service must not say so of its database each time.
    install(&source, Install { first: true, ..Install::default() }).await?;
    let store = open(source, "embedded")?;

    // In a pod the component belongs to the pod's namespace (POD_NAMESPACE).
    let builder = Participant::builder(store, component("embedded-example")?)
        .whereabouts(Whereabouts::from_variables(|name| std::env::var(name).ok()));
    let participant = Arc::new(builder.ttl(5).start()?);
    println!("{} competes", participant.holder());

    // The process is asked to end: stop the work, give the row back, then go.
    let asked = Arc::clone(&participant);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.drain();
        }
    });

    // Each turn is one term.
    while let Some(leadership) = participant.lead().await {
        println!("leading, version {}", leadership.version());
        tokio::select! {
            () = work(leadership.guard()) => {}
            reason = leadership.lost() => println!("stopping: {}", reason.as_str()),
        }
        // `work` is dropped here and so has stopped; dropping the leadership says so.
    }
    match participant.ended().await {
        End::Drained => Ok(()),
        End::Failed => Err("the election loop failed".into()),
    }
}

/// The work of a leader: one step a second.
async fn work(guard: &Guard) {
    for step in 1.. {
        // Whatever is about to happen takes less than this, or does not begin.
        if guard.valid_for() < Duration::from_millis(100) {
            return;
        }
        // Here a real service writes, with `guard.version()` as the fencing token.
        println!("step {step} under version {}", guard.version());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
