//! What the controller's look at the database costs: so many claimed components among the rows of others.
//! `CLAIMED=10000 ROWS=1000000 LOOKS=20 make bench WHAT=looks`.
//!
//! Time is that of one `look_at` with the participants, from the call to the decoded answer. Memory is that of
//! this process (`VmRSS`, and `VmHWM` for the peak), with two answers kept, as the controller keeps them; what
//! the process had before the first look is shown beside it. The server is another process.

use component_lease::election::ComponentName;
use component_lease::store::Names;
use component_lease_testkit::figures::Distribution;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{Failure, now, number, postgres};

pub(crate) async fn measure() -> Result<(), Failure> {
    let (server, source) = postgres().await?;
    let (claimed, rows, looks) =
        (number("CLAIMED", 10_000)?, number("ROWS", 1_000_000)?, number("LOOKS", 20)?);
    let mut admin = PgConnection::connect(server.superuser_url()).await?;
    let fill = format!(
        "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
         SELECT 'shop/component-' || n, 'component-' || n || '-7d9c5b6f4-x2v9k_0a1b2c3d_4e5f6a7b', 1764000000000, 1764000000000, n, 15
         FROM generate_series(1, {rows}) AS n"
    );
    admin.execute(sqlx::AssertSqlSafe(fill)).await?;
    admin.execute("ANALYZE component_lease").await?;
    let store = component_lease::store::open(source, "component-lease bench")?;
    // Some are to be found all over the table, and one in a hundred is claimed by a resource before anybody leads.
    let names = (1..=claimed).map(|n| n * (rows / claimed).max(1) + usize::from(n % 100 == 0) * rows);
    let names: Names =
        names.map(|n| ComponentName::new(format!("shop/component-{n}"))).collect::<Result<_, _>>()?;
    let before = memory("VmRSS:");
    let (mut kept, mut took) = (Vec::new(), Vec::new());
    for _ in 0..looks {
        let begun = now();
        let answer = store.look_at(&names, true).await?;
        took.push((now() - begun).as_secs_f64() * 1e3);
        kept.push(answer);
        if kept.len() > 2 {
            kept.remove(0);
        }
    }
    println!("\n{claimed} claimed components among {rows} rows of PostgreSQL");
    println!("  {:<36}{}", "", Distribution::heads());
    println!("  {:<36}{}", "a look, ms", Distribution::of(took));
    println!("  rows in the answer: {}", kept.last().map_or(0, |answer| answer.rows.len()));
    println!("  memory, MiB: {before} before, {} after, {} at most", memory("VmRSS:"), memory("VmHWM:"));
    Ok(())
}

/// Of this process, in MiB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}
