//! What a thousand leases cost while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use component_lease::store::{Source, migrate, open};
use component_lease_testkit::control_plane::FakePod;
use component_lease_testkit::{postgres, wait};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::ListParams;

use crate::support::controller::{config, election};
use crate::support::objects::{condition, lease};
use crate::support::{FLOOD, LONG, Replica, Rows, Site};

const LEASES: usize = 1000;
/// Each has two pods, which compete for `LEASES / APPS` components.
const APPS: usize = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// From the end of one look to the beginning of the next.
const BETWEEN: Duration = Duration::from_millis(1020);
const PAUSE: Duration = Duration::from_secs(2);

fn name(number: usize) -> String {
    format!("lease-{number:04}")
}

/// Renews all rows every ten seconds or so, in a runtime of its own, until told to end.
struct Renewals {
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Renewals {
    fn begin(rows: Arc<Rows>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut ticks = tokio::time::interval(Duration::from_millis(100));
                for turn in 0.. {
                    ticks.tick().await;
                    for number in 0..LEASES / 100 {
                        if stop.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                        rows.renew(&name((turn * LEASES / 100 + number) % LEASES)).await?;
                    }
                }
                Ok(())
            })
        });
        Self { end, thread: Some(thread) }
    }

    fn finish(mut self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs")?;
        thread.join().map_err(|_| anyhow::anyhow!("the renewals panicked"))?
    }
}

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_a_thousand_renewing_rows_writes_nothing_and_costs_one_query_a_second() -> Result<()> {
    let database = postgres::shared().await?.fresh_database().await?;
    migrate(&Source::url(&database.url)).await?;
    let mut site = Site::new("steady").await?;
    let rows =
        |name| -> Result<_> { Ok(Arc::new(Rows::on(open(Source::url(&database.url), name)?, site.name()))) };
    let participants = rows("participants")?;
    site.rows = rows("controller")?;
    let pods: Vec<_> =
        (0..APPS * 2).map(|n| FakePod::new(&format!("pod-{n}"), &format!("app-{}", n / 2))).collect();
    site.plane.fake_pods(site.name(), &pods).await?;
    let flood = FLOOD.lock().await;
    let uids = site.pods().list(&ListParams::default()).await?;
    let uid = |pod: &str| {
        let found = uids.iter().find(|p| p.metadata.name.as_deref() == Some(pod));
        found.and_then(|p| p.metadata.uid.clone()).context("a pod without UID")
    };
    let resources = futures::stream::iter(0..LEASES)
        .map(async |number| site.make_lease(&lease(&name(number), &format!("app-{}", number % APPS))).await);
    resources.buffer_unordered(32).try_for_each(|_| async { Ok(()) }).await?;
    for number in 0..LEASES {
        let pod = format!("pod-{}", number % APPS * 2);
        let holder = format!("{pod}_{}_{number:08x}", &uid(&pod)?[..8]);
        participants.take(&name(number), &holder, LONG).await?;
    }
    let renewals = Renewals::begin(Arc::clone(&participants));

    let mut config = config(&site, "only");
    config.election = Some(election(&site));
    let controller = Replica::start_with(&site, config).await?;
    // Some five thousand writes; how long they take is not what is tested here.
    // Listing them costs the API server as much as fifty writes.
    wait::until_at(PAUSE, Duration::from_secs(600), "a thousand resources are ready", async || {
        let all = site.leases().list(&ListParams::default()).await?;
        let ready = |l: &&_| condition(l, "Ready").is_some_and(|c| c.status == "True");
        let count = all.iter().filter(ready).count();
        ensure!(count == LEASES, "{count} are");
        Ok(Some(()))
    })
    .await?;
    // The last Events and copies of the floor are on their way.
    let account = format!("system:serviceaccount:{}:component-lease", site.name());
    let writes = |mark| -> Result<Vec<_>> {
        let all = site.plane.writes_since(mark)?;
        Ok(all.into_iter().filter(|write| write.user == account).collect())
    };
    let mut quiet = (site.plane.audit_mark()?, Instant::now());
    wait::until(Duration::from_secs(60), "two quiet seconds", async || {
        let noise: Vec<_> = writes(quiet.0)?.into_iter().filter(|w| w.resource != "leases").collect();
        if !noise.is_empty() {
            quiet = (site.plane.audit_mark()?, Instant::now());
        }
        ensure!(noise.is_empty(), "{} writes, {:?}", noise.len(), noise.first());
        Ok((quiet.1.elapsed() >= Duration::from_secs(2)).then_some(()))
    })
    .await?;

    drop(flood);

    // Looks for all rows, renewals, and whatever else there is.
    let count = async || -> Result<[u64; 6]> {
        let asked = database.statements("%unnest($1%LEFT JOIN component_lease AS l%").await?;
        // Every ten seconds, in a statement of their own.
        let instances = database.statements("%row_number()%LEFT JOIN component_lease AS l%").await?;
        let renewals = database.statements("%SET renew_time = greatest%AND holder_id%").await?;
        let others = database
            .psql(
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
                 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND query NOT LIKE '%unnest($1%LEFT JOIN component_lease AS l%'
                   AND query NOT LIKE '%SET renew_time = greatest%AND holder_id%'
                   AND query NOT LIKE '%rolconnlimit%'
                   AND query NOT LIKE '%DELETE FROM component_lease_history%'
                   AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE 'SET client_min_messages%'",
            )
            .await?;
        // Old lines are looked for once an hour, for the first time a minute after the start: that may be now.
        let pruned = database.statements("%DELETE FROM component_lease_history%").await?;
        // The connection that listens asks whether there is room for it.
        let room = database.statements("%rolconnlimit%").await?;
        Ok([asked - instances, instances, renewals, room, pruned, others.trim().parse()?])
    };
    let begun = Instant::now();
    let before = count().await?;
    let (mark, asked, looking) = (site.plane.audit_mark()?, site.rows.asked(), site.rows.looking());
    let within = Instant::now();
    tokio::time::sleep(MINUTE).await;
    let within = within.elapsed();
    let (asked, looking) = (site.rows.asked() - asked, site.rows.looking() - looking);
    let after = count().await?;
    let beyond = begun.elapsed();
    let (elections, rest): (Vec<_>, Vec<_>) =
        writes(mark)?.into_iter().partition(|write| write.resource == "leases");
    let [looks, instances, renewed, room, pruned, others] =
        [0, 1, 2, 3, 4, 5].map(|n: usize| after[n] - before[n]);
    renewals.finish()?;
    drop(controller);
    println!(
        "{LEASES} resources, {MINUTE:?}: {} API writes beside {} of the election Lease; {asked} looks by the \
         controller; in the database {looks} looks, {instances} of them with instances, {renewed} renewals, {others} other statements",
        rest.len(),
        elections.len(),
    );
    ensure!(rest.is_empty(), "{} writes in a minute of nothing: {rest:?}", rest.len());
    ensure!(!elections.is_empty(), "not even the election Lease was written: the filter sees nothing");
    for (looks, by, at_most) in [(asked, "the controller", within), (looks, "the database", beyond)] {
        let counted = f64::from(u32::try_from(looks)?);
        let said = format!("{looks} looks by the count of {by}, which took {looking:?}, in {within:?}");
        ensure!(counted <= at_most.as_secs_f64() + 1.0, "more than one a second: {said}");
        // What is between them is as long as it should be.
        let accounted = counted * BETWEEN.as_secs_f64() + looking.as_secs_f64();
        ensure!(accounted > 0.9 * within.as_secs_f64(), "too few: {said}");
    }
    ensure!((5..=7).contains(&instances), "instances were asked for {instances} times");
    ensure!(room <= 4, "asked {room} times whether there is room for the connection that listens");
    ensure!(pruned <= LEASES as u64, "histories were pruned {pruned} times");
    ensure!(others == 0, "{others} other statements");
    ensure!(renewed > 4000, "only {renewed} renewals: the rows did not renew");
    Ok(())
}
