//! What has been: the components that have a row, and the terms of each.

use super::{Dialect, First, SqlStore, lost, outcome};
use crate::election::ComponentName;
use crate::store::error::StoreError;
use crate::store::history::{Ending, Retention, Term, When};
use crate::store::sql::decode;
use crate::store::sql::dialect::Call;
use crate::store::traits::Outcome;

impl<D: Dialect> SqlStore<D> {
    pub(super) async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        let mut held = self.session_to_look(First::Other).await?;
        // No component has the empty name.
        let given = [("after", after.unwrap_or_default().into()), ("at_most", limit.into())];
        let statement = &held.session.table.sql.components;
        let rows = held.session.fetch(statement, &given).await;
        let names = rows.and_then(|rows| rows.iter().map(|row| row.text("name")).collect());
        let answer = self.finish(held, Call::List, names).await;
        answer.map_err(|error| D::naming(error, &[after.unwrap_or_default()]))
    }

    pub(super) async fn terms(
        &self,
        component: &ComponentName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Term>, StoreError> {
        let mut held = self.session_to_look(First::Other).await?;
        held.session.table.keeps_history(&self.place)?;
        let newest = before.map_or(i64::MAX, |before| before.saturating_sub(1));
        let given =
            [("component", component.as_str().into()), ("newest", newest.into()), ("at_most", limit.into())];
        let statement = &held.session.table.sql.history;
        let rows = held.session.fetch(statement, &given).await;
        let terms = rows.and_then(|rows| rows.iter().map(decode::term).collect());
        let answer = self.finish(held, Call::ReadHistory, terms).await;
        answer.map_err(|error| D::naming(error, &[component.as_str()]))
    }

    /// Nothing to write where there is no history.
    pub(super) async fn write_end(
        &self,
        component: &ComponentName,
        version: i64,
        ending: &Ending,
    ) -> Result<Outcome, StoreError> {
        let mut held = self.session(First::Other).await?;
        if !held.session.table.companions {
            return Ok(lost(held));
        }
        let (at, ago) = match ending.at {
            When::At(at) => (Some(at), 0),
            When::Ago(ago) => (None, i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        };
        let given = [
            ("component", component.as_str().into()),
            ("version", version.into()),
            ("reason", ending.reason.as_str().into()),
            ("ended_at", at.into()),
            ("ago", ago.into()),
            ("request", (&ending.request).into()),
        ];
        let statement = &held.session.table.sql.end_term;
        let answer = match held.session.execute(statement, &given).await {
            // A history without these columns, or without the right to write them. It costs the line, and no connection
            // that a renewal would have to make anew.
            Err(error) if (D::ERRORS.are_not_to_be_read)(&error) => {
                let why = self.place.denied(&mut held.session, Call::EndTerm, &error).await;
                held.put_back();
                Err(why.unwrap_or_else(|| self.place.classify(error)))
            }
            answer => self.finish(held, Call::EndTerm, answer).await.map(outcome),
        };
        answer.map_err(|error| D::naming(error, &[component.as_str()]))
    }

    pub(super) async fn forget_terms(
        &self,
        component: &ComponentName,
        kept: Retention,
    ) -> Result<u64, StoreError> {
        let mut held = self.session(First::Other).await?;
        if !held.session.table.companions {
            held.put_back();
            return Ok(0);
        }
        let given = [
            ("component", component.as_str().into()),
            ("kept", kept.newest.into()),
            ("older_than", i64::try_from(kept.age.as_millis()).unwrap_or(i64::MAX).into()),
        ];
        let statement = &held.session.table.sql.prune_history;
        let answer = held.session.execute(statement, &given).await;
        let answer = self.finish(held, Call::PruneHistory, answer.map(|done| done.affected)).await;
        answer.map_err(|error| D::naming(error, &[component.as_str()]))
    }
}
