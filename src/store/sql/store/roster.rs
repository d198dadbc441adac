//! The record beside a lease, and what members say of themselves. Looked for only by those who use them: tables that an
//! older program made lack both, and work for everybody else.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Dialect, First, Roster, SqlStore};
use crate::election::machine::Past;
use crate::election::{ComponentName, TermKey};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::roster::{self, Rostered, TEXT_MAX};
use crate::store::sql::decode;
use crate::store::sql::dialect::Call;
use crate::store::sql::session::of_term;
use crate::store::sql::value::Row;
use crate::store::traits::Outcome;

/// Versions that were granted before somebody deleted a lease or put an older state in its place, as members know. Shared
/// by the stores of one process on one database.
#[derive(Debug, Clone, Default)]
pub(super) struct Above(Arc<Mutex<BTreeMap<String, i64>>>);

impl Above {
    fn raise(&self, component: &ComponentName, version: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(component.as_str().to_owned()).or_default();
        *known = version.max(*known);
    }

    /// What a look tells of a past whose versions must fit below `limit`. Where the row is gone, an INSERT is bound to what the history says,
    /// so that stays; the term that begins then has a row.
    pub(super) fn of(&self, component: &ComponentName, past: Past, has_row: bool, limit: i64) -> Past {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(above) = all.get(component.as_str()).copied().filter(|above| *above < limit) else {
            return past;
        };
        match past {
            Past::Lived(version) if has_row => Past::Lived(version.max(above)),
            Past::NeverLived | Past::Claimed(_) => Past::of(true, None, Some(above.max(past.highest()))),
            Past::Lived(_) | Past::Unknown => past,
        }
    }
}

/// How long a call may take. Members wait for nothing else meanwhile, and a connection that was cut may say nothing for hours.
const LIMIT: Duration = Duration::from_secs(5);

#[async_trait]
impl<D: Dialect> Roster for SqlStore<D> {
    async fn read_roster(
        &self,
        component: &ComponentName,
        members: &BTreeSet<String>,
    ) -> Result<Rostered, StoreError> {
        let names = Names::of(members.iter().cloned().collect());
        let given = [("component", component.as_str().into()), ("names", (&names).into())];
        let answer = self.limited(async {
            let mut held = self.session(First::Other).await?;
            let statement = &held.session.table.sql.read_roster;
            let rows = held.session.fetch(statement, &given).await;
            let read = rows.and_then(|rows| rostered(&rows));
            self.finish(held, Call::Roster, read).await
        });
        let found = answer.await.map_err(|error| D::naming(error, &[component.as_str()]))?;
        Ok(Rostered { record: roster::read(component, found.record)?, ..found })
    }

    async fn record(&self, term: &TermKey, record: &str) -> Result<Outcome, StoreError> {
        roster::check("record", record)?;
        let [component, holder, version] = of_term(term);
        let given = [component, holder, version, ("record", record.into())];
        let answer = self.limited(async {
            let held = self.session(First::Other).await?;
            let statement = &held.session.table.sql.write_record;
            self.change(held, Call::Roster, statement, &given).await
        });
        answer.await.map_err(|error| D::naming(error, &[term.component.as_str(), term.holder.as_str()]))
    }

    fn begin_above(&self, component: &ComponentName, version: i64) {
        self.above.raise(component, version);
    }

    async fn report(&self, component: &ComponentName, member: &str, says: &str) -> Result<(), StoreError> {
        roster::check("report", says)?;
        let given =
            [("component", component.as_str().into()), ("member", member.into()), ("report", says.into())];
        let answer = self.limited(async {
            let held = self.session(First::Other).await?;
            let statement = &held.session.table.sql.write_report;
            self.change(held, Call::Roster, statement, &given).await
        });
        answer.await.map(drop).map_err(|error| D::naming(error, &[component.as_str(), member]))
    }
}

impl<D: Dialect> SqlStore<D> {
    async fn limited<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| {
            Err(StoreError::retryable(format!("{}: no answer within {LIMIT:?}", self.place)))
        })
    }
}

fn rostered(rows: &[Row]) -> Result<Rostered, sqlx::Error> {
    let lease = rows.iter().find(|row| matches!(row.text_or_none("member"), Ok(None)));
    let lease = lease.ok_or(sqlx::Error::RowNotFound)?;
    let mut reports = BTreeMap::new();
    for row in rows {
        // One that is longer than any that we write is none.
        let report = row.text_or_none("says")?.filter(|text| text.len() <= TEXT_MAX);
        if let (Some(member), Some(report)) = (row.text_or_none("member")?, report) {
            reports.insert(member, report);
        }
    }
    Ok(Rostered { row: decode::lease_row(lease)?, record: lease.text_or_none("says")?, reports })
}
