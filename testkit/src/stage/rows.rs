//! The history of one row, written down by looking at the database all the time: who led, under
//! which version, and between which moments.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};
use tokio::task::JoinHandle;

/// Shorter than any term.
const PACE: Duration = Duration::from_millis(5);

/// Where the row is, as seen from this machine.
#[derive(Debug, Clone)]
pub enum Place {
    Sqlite(PathBuf),
    /// A URL of somebody who may read the table.
    Postgres(String),
}

/// Who holds the row, if anybody does, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Empty when it is nobody's.
    pub holder: String,
    pub version: i64,
}

impl Row {
    /// The pod that a holder of our own format names.
    #[must_use]
    pub fn pod(&self) -> Option<&str> {
        let (rest, _) = self.holder.rsplit_once('_')?;
        rest.rsplit_once('_').map(|(pod, _)| pod)
    }
}

/// A change of holder or version.
#[derive(Debug, Clone)]
pub struct Change {
    /// When the last look was sent that still found the row as it was before.
    pub after: Instant,
    /// When the answer came that showed it as it is.
    pub seen: Instant,
    pub row: Row,
    /// For a new term: how long nobody had renewed the row when it was taken, by the database's
    /// clock. A ttl at least when it was seized, less when it had been released: the time between a
    /// release and the next take may be too short to be seen.
    pub idle: Option<Duration>,
}

/// What is in the table.
struct Sight {
    row: Row,
    lease_time: i64,
    renew_time: i64,
}

enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Session {
    async fn open(place: &Place) -> Result<Self> {
        Ok(match place {
            Place::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(5));
                Self::Sqlite(SqliteConnection::connect_with(&options).await?)
            }
            Place::Postgres(url) => Self::Postgres(PgConnection::connect(url).await?),
        })
    }

    async fn look(&mut self, component: &str) -> Result<Option<Sight>> {
        const LOOK: &str = "SELECT holder_id, version, lease_time, renew_time FROM component_lease \
                            WHERE component_name = $1";
        Ok(match self {
            Self::Sqlite(session) => {
                let row = sqlx::query(LOOK).bind(component).fetch_optional(session).await?;
                row.map(|row| {
                    let found = Row { holder: row.get(0), version: row.get(1) };
                    Sight { row: found, lease_time: row.get(2), renew_time: row.get(3) }
                })
            }
            Self::Postgres(session) => {
                let row = sqlx::query(LOOK).bind(component).fetch_optional(session).await?;
                row.map(|row| {
                    let found = Row { holder: row.get(0), version: row.get(1) };
                    Sight { row: found, lease_time: row.get(2), renew_time: row.get(3) }
                })
            }
        })
    }
}

/// The row as it is now.
///
/// # Errors
/// When the database does not answer.
pub async fn look(place: &Place, component: &str) -> Result<Option<Row>> {
    Ok(Session::open(place).await?.look(component).await?.map(|sight| sight.row))
}

/// The ttl that the controller has told the participants of a component, in seconds.
///
/// # Errors
/// When the database does not answer, or its tables are not there yet.
pub async fn told_ttl(place: &Place, component: &str) -> Result<Option<i64>> {
    const LOOK: &str = "SELECT CAST(ttl AS BIGINT) FROM component_lease_intent WHERE component_name = $1";
    let row = match Session::open(place).await? {
        Session::Sqlite(mut session) => {
            let row = sqlx::query(LOOK).bind(component).fetch_optional(&mut session).await?;
            row.map(|row| row.get(0))
        }
        Session::Postgres(mut session) => {
            let row = sqlx::query(LOOK).bind(component).fetch_optional(&mut session).await?;
            row.map(|row| row.get(0))
        }
    };
    Ok(row)
}

/// A recorder at work. Dropping it ends it.
#[derive(Debug)]
pub struct Rows {
    state: Arc<Mutex<Vec<Change>>>,
    task: JoinHandle<()>,
}

fn lock(state: &Mutex<Vec<Change>>) -> MutexGuard<'_, Vec<Change>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rows {
    /// Begins to write down what becomes of a component's row.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn record(place: &Place, component: &str) -> Result<Self> {
        let session = Session::open(place).await.context("cannot look at the rows")?;
        let state = Arc::<Mutex<Vec<Change>>>::default();
        let task =
            tokio::spawn(keep_looking(Arc::clone(&state), place.clone(), session, component.to_owned()));
        Ok(Self { state, task })
    }

    /// All changes so far.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        lock(&self.state).clone()
    }

    /// Who leads now.
    #[must_use]
    pub fn now(&self) -> Option<Row> {
        lock(&self.state).last().map(|change| change.row.clone())
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_looking(state: Arc<Mutex<Vec<Change>>>, place: Place, session: Session, component: String) {
    let mut session = Some(session);
    let mut before = Instant::now();
    // When a holder was last seen to renew; a release writes 0.
    let mut renewed = None;
    loop {
        let asked = Instant::now();
        let looked = match &mut session {
            Some(session) => session.look(&component).await.map(Some),
            None => Session::open(&place).await.map(|new| {
                session = Some(new);
                None
            }),
        };
        match looked {
            Ok(Some(sight)) => {
                let mut changes = lock(&state);
                if let Some(Sight { row, lease_time, renew_time }) = sight {
                    if changes.last().is_none_or(|last| last.row != row) {
                        let idle = renewed.filter(|_| !row.holder.is_empty()).map(|last| lease_time - last);
                        let idle = idle.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
                        changes.push(Change { after: before, seen: Instant::now(), row, idle });
                    }
                    if renew_time > 0 {
                        renewed = Some(renew_time);
                    }
                }
                before = asked;
            }
            Ok(None) => {}
            // The database is away: what happens meanwhile is between two looks.
            Err(_) => session = None,
        }
        tokio::time::sleep(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_names_its_pod_before_the_last_two_parts() {
        let row = |holder: &str| Row { holder: holder.into(), version: 1 };
        assert_eq!(row("discovery-7d4b9c-x2x1z_8b7e12c0_1f0c9a3d").pod(), Some("discovery-7d4b9c-x2x1z"));
        assert_eq!(row("a_b_c_d").pod(), Some("a_b"));
        assert_eq!(row("").pod(), None);
    }
}
