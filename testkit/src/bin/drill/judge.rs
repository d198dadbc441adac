//! The judge: it asks PostgreSQL alone, over connections of its own, and knows nothing of who elects.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use component_lease_testkit::wait;
use sqlx::{Connection as _, PgConnection};

use crate::PATIENCE;
use crate::faults::Kind;
use crate::site::Site;
use crate::writer::{Row, Writer};

/// A server that does not answer within this is not there.
const ANSWER: Duration = Duration::from_secs(5);

/// What one fault did.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) kind: Kind,
    /// The longest time without an acknowledgement, from the last one before the fault on.
    pub(crate) outage: Duration,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    /// Acknowledged by the old primary when it had woken, or when another one had acknowledged.
    pub(crate) late: usize,
    /// Processes of its server that outlived the supervisor, or the server's end.
    pub(crate) left: usize,
}

impl Round {
    pub(crate) fn is_good(&self) -> bool {
        self.lost == 0 && self.left == 0
    }

    pub(crate) fn line(&self) -> String {
        let left = if self.left == 0 { String::new() } else { format!(", {} processes LEFT", self.left) };
        format!(
            "{:<28}{:>7} ms, {} acknowledged, {} lost{left}",
            self.kind.name(),
            self.outage.as_millis(),
            self.acknowledged,
            self.lost
        )
    }
}

/// The first row of an answer, and its first column.
async fn asks<T>(url: &str, sql: &str) -> Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    column(url, sql).await?.into_iter().next().context("no row")
}

async fn column<T>(url: &str, sql: &str) -> Result<Vec<T>>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let asking = async {
        let mut connection = PgConnection::connect(url).await?;
        let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(found)
    };
    tokio::time::timeout(ANSWER, asking).await.context("no answer")?
}

/// Makes the table on the first primary.
pub(crate) async fn table(site: &Site) -> Result<()> {
    wait::until(PATIENCE, "a first primary", async || {
        for url in site.urls() {
            if asks::<bool>(&url, "SELECT pg_is_in_recovery()").await.is_ok_and(|standby| !standby) {
                let mut connection = PgConnection::connect(&url).await?;
                sqlx::query("CREATE TABLE IF NOT EXISTS written (n int8)").execute(&mut connection).await?;
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
    .await
}

/// Waits until one server acknowledges, and the two others have what it acknowledged and can acknowledge with it. Which
/// server that is.
pub(crate) async fn whole(site: &Site, writer: &Writer) -> Result<usize> {
    let urls = site.urls();
    let begun = Instant::now();
    let what = "three servers, of which two follow and acknowledge";
    wait::until(PATIENCE, what, async || {
        let Some(row) = writer.last().filter(|row| row.sent > begun) else { return Ok(None) };
        // By their names: where any standby will do, Patroni has not recorded yet which it may promote.
    let voters = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('quorum', 'sync') \
                  AND current_setting('synchronous_standby_names') NOT LIKE '%*%'";
        if asks::<i64>(&urls[row.server], voters).await? != 2 {
            return Ok(None);
        }
        for (at, url) in urls.iter().enumerate() {
            if asks::<bool>(url, "SELECT pg_is_in_recovery()").await? == (at == row.server)
                || !asks::<bool>(url, &format!("SELECT EXISTS (SELECT FROM written WHERE n = {})", row.number)).await?
            {
                return Ok(None);
            }
        }
        Ok(Some(row.server))
    })
    .await
}

/// The longest time between two acknowledgements, from the last one before the fault on.
pub(crate) fn outage(rows: &[Row], fault: Instant) -> Duration {
    let first = rows.partition_point(|row| row.at <= fault).saturating_sub(1);
    rows[first..].windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

/// Those that a server does not have.
pub(crate) async fn lost(url: &str, rows: &[Row]) -> Result<usize> {
    let there: HashSet<i64> = column(url, "SELECT n FROM written").await?.into_iter().collect();
    Ok(rows.iter().filter(|row| !there.contains(&row.number)).count())
}

/// What is true of the whole drill.
#[derive(Debug)]
pub(crate) struct Verdict {
    acknowledged: usize,
    lost: usize,
    equal: usize,
    of: usize,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.acknowledged > 0 && self.lost == 0 && self.equal == self.of
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, lost, equal, of } = self;
        write!(f, "acknowledged {acknowledged} lost {lost}; md5 equal on {equal} of {of}")
    }
}

/// Compares all servers once they have had time to become equal, and looks for every acknowledged row on each.
pub(crate) async fn end(site: &Site, rows: &[Row]) -> Result<Verdict> {
    let urls = site.urls();
    let mut equal = 0;
    let same = wait::until_true(PATIENCE, "all servers to have the same", async || {
        equal = alike(&urls).await;
        equal == urls.len()
    });
    // The verdict says it.
    let _ = same.await;
    let mut most = 0;
    for url in &urls {
        most = most.max(lost(url, rows).await.unwrap_or(rows.len()));
    }
    Ok(Verdict { acknowledged: rows.len(), lost: most, equal, of: urls.len() })
}

/// How many servers have what most of them have.
async fn alike(urls: &[String]) -> usize {
    let mut sums = Vec::new();
    for url in urls {
        let sum = "SELECT md5(string_agg(n::text, ',' ORDER BY n)) FROM written";
        sums.extend(asks::<String>(url, sum).await.ok());
    }
    sums.iter().map(|sum| sums.iter().filter(|other| *other == sum).count()).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_with_the_last_acknowledgement_before_the_fault() {
        let begun = Instant::now();
        let at = |millis: u64| begun + Duration::from_millis(millis);
        let rows: Vec<Row> = [0, 900, 1000, 1700, 1750]
            .map(|millis| Row { number: 0, server: 0, sent: at(millis), at: at(millis) })
            .to_vec();
        assert_eq!(outage(&rows, at(1010)), Duration::from_millis(700));
        assert_eq!(outage(&rows, at(1000)), Duration::from_millis(700));
        assert_eq!(outage(&rows, at(1720)), Duration::from_millis(50));
        assert_eq!(outage(&rows, at(2000)), Duration::ZERO);
    }
}
