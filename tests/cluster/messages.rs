//! What a controller logs while something lasts: each kind of message once a minute, not with every look.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use component_lease::store::{self, Source};
use component_lease_testkit::port::Port;
use component_lease_testkit::postgres::{self, Database};
use component_lease_testkit::wait;

use crate::support::objects::lease;
use crate::support::{SOON, Site};

/// So many failures show what is said of each.
const FAILURES: u64 = 20;
/// Resources that all fail alike.
const RESOURCES: usize = 4;

/// The real program on a real database, with its log in a file. Ended when dropped.
struct Program {
    child: Child,
    log: PathBuf,
    port: Port,
}

impl Program {
    fn start(site: &Site, url: &str, log: PathBuf) -> Result<Self> {
        let to = fs::File::create(&log)?;
        let port = Port::free()?;
        let child = Command::new(env!("CARGO_BIN_EXE_component-lease"))
            .args(["controller", "--leader-elect=false", "--namespaces", site.name(), "--log", "info"])
            .args(["--listen", &port.address().to_string(), "--poll-interval", "0.2", "--database-url", url])
            .env_clear()
            .env("KUBECONFIG", &site.account)
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, log, port })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks that failed, as it counts them.
    async fn failed_looks(&mut self) -> Result<u64> {
        ensure!(self.child.try_wait()?.is_none(), "it has ended:\n{}", self.log());
        let metrics = metrics_of(self.port.address()).await?;
        let failed = metrics.lines().filter(|line| {
            line.contains("controller_polls_total")
                && !line.contains("outcome=\"ok\"")
                && !line.starts_with('#')
        });
        failed.map(|line| Ok(line.rsplit(' ').next().context("no number")?.parse::<u64>()?)).sum()
    }
}

/// What a GET of `/metrics` is answered with.
async fn metrics_of(address: SocketAddr) -> Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A warning without its time and without what differs from one object or connection to the next.
fn kind(line: &str) -> String {
    let says = line.split_once("WARN").map_or(line, |(_, says)| says);
    component_lease::rate::repeats::kind_of(says)
}

async fn failing(
    site: &Site,
    program: &mut Program,
    database: &Database,
    (what, begin, end, count): (&str, &str, &str, Option<&str>),
) -> Result<()> {
    let before = program.log().len();
    let failures = async |program: &mut Program| match count {
        None => program.failed_looks().await,
        Some(sql) => Ok(database.psql(sql).await?.trim().parse()?),
    };
    let begun = Instant::now();
    database.psql(begin).await.with_context(|| what.to_owned())?;
    let first = failures(program).await?;
    wait::until(SOON * 2, format!("{what}: {FAILURES} failures"), async || {
        let now = failures(program).await?;
        ensure!(now >= first + FAILURES, "{}", now - first);
        Ok(Some(()))
    })
    .await?;
    let lasted = begun.elapsed();
    database.psql(end).await?;
    for number in 0..RESOURCES {
        site.wait_for_condition(&format!("lease-{number}"), "DatabaseReachable", "True", "DatabaseAnswered")
            .await?;
    }
    let log = program.log();
    let mut kinds = BTreeMap::<String, usize>::new();
    let warnings: Vec<_> = log[before..].lines().filter(|line| line.contains("WARN")).collect();
    for warning in &warnings {
        *kinds.entry(kind(warning)).or_default() += 1;
    }
    eprintln!("{what}: {} warnings in {lasted:.1?} ({FAILURES} failures or more)", warnings.len());
    ensure!(!warnings.is_empty(), "{what}: it is not said\n{log}");
    let again: Vec<_> = kinds.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(again.is_empty(), "{what}: said again within a minute: {again:#?}\n{}", warnings.join("\n"));
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn what_lasts_is_said_once_a_minute_in_whichever_way_the_database_fails() -> Result<()> {
    let site = Site::new("messages").await?;
    let server = postgres::shared().await?;
    let database = server.fresh_database().await?;
    store::migrate(&Source::url(&database.url)).await?;
    let role = format!("controller_{:08x}", fastrand::u32(..));
    // As `migrate` prints it, and where nothing was lost, so that the end of no quarantine is waited for.
    database
        .psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret';
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};
             UPDATE component_lease_store SET settled = true"
        ))
        .await?;
    let name = database.url.rsplit('/').next().and_then(|name| name.split('?').next()).context("no name")?;
    let folder = tempfile::tempdir()?;
    for number in 0..RESOURCES {
        site.make_lease(&lease(&format!("lease-{number}"), "none")).await?;
    }
    let url = server.url_as(&role, "secret", name);
    let mut program = Program::start(&site, &url, folder.path().join("log"))?;
    for number in 0..RESOURCES {
        site.wait_for_condition(&format!("lease-{number}"), "DatabaseReachable", "True", "DatabaseAnswered")
            .await?;
    }
    let backends = format!(
        "ALTER ROLE {role} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    for way in [
        (
            "row-level security",
            "ALTER TABLE component_lease ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE component_lease DISABLE ROW LEVEL SECURITY",
            None,
        ),
        (
            "a view in the place of a table",
            "ALTER TABLE component_lease RENAME TO hidden; CREATE VIEW component_lease AS SELECT * FROM hidden",
            "DROP VIEW component_lease; ALTER TABLE hidden RENAME TO component_lease",
            None,
        ),
        (
            "no right to read the intents",
            &format!("REVOKE SELECT ON component_lease_intent FROM {role}"),
            &format!("GRANT SELECT ON component_lease_intent TO {role}"),
            None,
        ),
        ("no right to log in", &backends, &format!("ALTER ROLE {role} LOGIN"), None),
        (
            "intents are refused, each with another number",
            "CREATE SEQUENCE refusals; GRANT USAGE ON SEQUENCE refusals TO PUBLIC;
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'refused as number %, by connection %', nextval('refusals'), pg_backend_pid(); END $$;
             CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON component_lease_intent FOR EACH ROW EXECUTE FUNCTION refuse();
             DELETE FROM component_lease_intent",
            "DROP TRIGGER refuse ON component_lease_intent",
            Some("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refusals"),
        ),
    ] {
        failing(&site, &mut program, &database, way).await?;
    }
    drop(program);
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.map(drop)
}
