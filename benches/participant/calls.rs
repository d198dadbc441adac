//! What asking costs, and what a renewal costs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component_lease::election::{ComponentName, Expected, Take, TermKey};
use component_lease::membership::holder_id;
use component_lease::participant::Participant;
use component_lease::store::{LeaseStore, Outcome, Source};
use component_lease_testkit::figures::Distribution;
use component_lease_testkit::mysql::{self, Kind};
use component_lease_testkit::postgres::Server;

use crate::{Failure, open};

const ASKS: u32 = 100_000;
const SAMPLES: usize = 100;
const RENEWALS: usize = 1_000;

pub(crate) async fn measure() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let sqlite = Source::url(format!("sqlite:{}", folder.path().join("lease.db").display()));
    let server = Server::builder().tls().start().await.map_err(|error| format!("{error:#}"))?;
    let authority = server.authority().ok_or("a server with TLS has an authority")?;
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url("postgres"), authority.display());
    let postgres = Source::url(url);

    asking(open(&sqlite).await?).await?;
    println!("\nOne renewal, a call of the store; ms   {}", Distribution::heads());
    renewing("SQLite (synchronous=FULL)", open(&sqlite).await?.as_ref()).await?;
    renewing("PostgreSQL over TLS on loopback", open(&postgres).await?.as_ref()).await?;
    for kind in [Kind::MariaDb11_8, Kind::MySql9] {
        let server =
            mysql::Server::builder(kind).tls().start().await.map_err(|error| format!("{error:#}"))?;
        let database = server.fresh_database().await.map_err(|error| format!("{error:#}"))?;
        let authority = server.authority().ok_or("a server with TLS has an authority")?;
        let url = format!("{}?ssl-mode=VERIFY_IDENTITY&ssl-ca={}", database.url, authority.display());
        let what = format!("{kind} over TLS on loopback");
        renewing(&what, open(&Source::url(url)).await?.as_ref()).await?;
    }
    Ok(())
}

async fn asking(store: Arc<dyn LeaseStore>) -> Result<(), Failure> {
    let participant =
        Participant::builder(store, ComponentName::new("asking")?).ttl(Duration::from_secs(30)).start()?;
    let Some(_held) = participant.lead().await? else { return Err("it never led".into()) };
    println!("\nOne call; ns, means of {ASKS} calls     {}", Distribution::heads());
    let show = |what: &str, call: &dyn Fn()| {
        let samples = (0..SAMPLES).map(|_| {
            let begun = Instant::now();
            for _ in 0..ASKS {
                call();
            }
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(ASKS)
        });
        println!("  {what:<36}{:.1}", Distribution::of(samples));
    };
    show("is_leader()", &|| {
        black_box(black_box(&participant).is_leader());
    });
    show("guard(), version and valid_for()", &|| {
        black_box(black_box(&participant).term().map(|term| (term.version(), term.valid_for())));
    });
    Ok(())
}

async fn renewing(what: &str, store: &dyn LeaseStore) -> Result<(), Failure> {
    let component = ComponentName::new("renewing")?;
    let term = TermKey { component, holder: holder_id::compose("bench", "1", 1)?, version: 1 };
    let (expected, life_id) = (Expected::of(None), store.look(&term.component).await?.life.id());
    let take = Take { term: term.clone(), ttl: 30, expected, life_id };
    if store.take(&take).await? != Outcome::Applied {
        return Err("somebody else holds the row".into());
    }
    let mut samples = Vec::with_capacity(RENEWALS);
    for _ in 0..RENEWALS {
        let begun = Instant::now();
        if store.renew(&term).await? != Outcome::Applied {
            return Err("the row was lost".into());
        }
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    println!("  {what:<36}{:.3}", Distribution::of(samples));
    Ok(())
}
