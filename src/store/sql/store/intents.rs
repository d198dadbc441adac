//! What is wanted of a component: the ttl of its resource, and what operators ask.

use super::{Dialect, First, SqlStore};
use crate::election::{ComponentName, HolderId, Request};
use crate::store::asked::Said;
use crate::store::error::StoreError;
use crate::store::sql::dialect::Call;
use crate::store::sql::statement::{Statement, Statements};
use crate::store::sql::value::Given;
use crate::store::traits::Outcome;

impl<D: Dialect> SqlStore<D> {
    /// A statement about what is wanted of a component.
    pub(super) async fn intend(
        &self,
        component: &ComponentName,
        given: &Given<'_>,
        statement: impl Fn(&'static Statements) -> &'static Statement,
    ) -> Result<Outcome, StoreError> {
        let held = self.session(First::Other).await?;
        held.session.table.keeps_intents(&self.place)?;
        let given: Vec<_> =
            [("component", component.as_str().into())].into_iter().chain(given.iter().copied()).collect();
        let statement = statement(held.session.table.sql);
        let answer = self.change(held, Call::Intent, statement, &given).await;
        answer.map_err(|error| D::naming(error, &[component.as_str()]))
    }

    /// Pauses in place of the pause that was seen.
    pub(super) async fn begin_pause(
        &self,
        component: &ComponentName,
        said: &Said,
        over: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        if over.is_none() {
            self.intend(component, &[], |sql| &sql.begin_intent).await?;
        }
        let given = [
            ("asked_by", said.by().into()),
            ("reason", said.reason().into()),
            ("was", over.is_some().into()),
            ("over", over.unwrap_or_default().into()),
        ];
        self.intend(component, &given, |sql| &sql.pause).await
    }

    /// Writes a request down.
    pub(super) async fn post(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        if replaces.is_none() {
            self.intend(component, &[], |sql| &sql.begin_intent).await?;
        }
        let given = [
            ("id", request.id.as_str().into()),
            ("verb", request.verb.as_str().into()),
            ("version", request.version.into()),
            ("target", request.target.as_ref().map(HolderId::as_str).into()),
            ("away", i64::try_from(request.away.as_secs()).unwrap_or(i64::MAX).into()),
            ("asked_by", said.by().into()),
            ("reason", said.reason().into()),
            ("replaces", replaces.unwrap_or_default().into()),
        ];
        self.intend(component, &given, |sql| &sql.ask).await
    }
}
