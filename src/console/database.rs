//! The verbs on a database alone.

use std::sync::Arc;
use std::time::Duration;

use super::verbs::{Asking, Ended, Told, confirm};
use super::view::LeaseView;
use super::words::span;
use crate::clock::{Clock, SystemClock};
use crate::election::ComponentName;
use crate::operator::{self, NotAsked, Outcome, Plan, Progress, Refusal, Situation, Wish};
use crate::process::{ExitCode, Failure, asker};
use crate::store::{self, Directory, Hint, Names, Said, SaidError, Snapshot, StoreError, Term, check_id};

/// A request that is waited for is looked at this often where no notification comes first.
const POLL: Duration = Duration::from_millis(200);
/// A database that does not answer for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// So many components are asked for at a time.
const PAGE: u32 = 500;

/// A database, and how a person addresses its components.
pub(super) struct Database {
    pub(super) store: Arc<dyn Directory>,
    pub(super) namespace: Option<String>,
}

impl Database {
    /// The key that a person means.
    pub(super) fn component(&self, name: &str) -> Result<ComponentName, Failure> {
        let key = match &self.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        ComponentName::new(key).map_err(|error| Failure::new(ExitCode::Usage, error.to_string()))
    }

    /// What a person calls this key.
    pub(super) fn called(&self, key: &str) -> String {
        let prefix = self.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let name = prefix.and_then(|prefix| key.strip_prefix(&prefix).map(str::to_owned));
        name.unwrap_or_else(|| key.to_owned())
    }

    async fn answered<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => Err(Failure::new(
                ExitCode::Unavailable,
                format!("{} did not answer within {}", self.store.describe(), span(PATIENCE)),
            )),
        }
    }

    pub(super) async fn snapshot(&self, names: Names) -> Result<Snapshot, Failure> {
        self.answered(self.store.look_at(&names, true)).await
    }

    /// In order of their keys.
    pub(super) async fn all(&self) -> Result<Vec<LeaseView>, Failure> {
        let mut views = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.answered(self.store.components(after.as_deref(), PAGE)).await?;
            let names: Vec<ComponentName> =
                page.iter().filter_map(|name| ComponentName::new(name.as_str()).ok()).collect();
            let snapshot = self.snapshot(names.iter().cloned().collect()).await?;
            views.extend(names.iter().map(|name| LeaseView::of(&Situation::of(&snapshot, name))));
            match page.last() {
                Some(last) if page.len() >= PAGE as usize => after = Some(last.clone()),
                _ => return Ok(self.within_namespace(views)),
            }
        }
    }

    /// Those whose key begins with the namespace, if one is meant; as `one` would find them.
    fn within_namespace(&self, mut views: Vec<LeaseView>) -> Vec<LeaseView> {
        if let Some(prefix) = self.namespace.as_ref().map(|namespace| format!("{namespace}/")) {
            views.retain(|view| view.component.starts_with(&prefix));
        }
        views
    }

    /// The newest terms, and what the row says of the first.
    pub(super) async fn history(
        &self,
        component: &ComponentName,
        limit: u32,
    ) -> Result<(Vec<Term>, Snapshot), Failure> {
        // One more tells what was before the last that is shown.
        let terms = self.answered(self.store.history(component, None, limit.saturating_add(1))).await?;
        let snapshot = self.snapshot(std::iter::once(component.clone()).collect()).await?;
        Ok((terms, snapshot))
    }

    /// The lease; an error where there is nothing of this name.
    pub(super) async fn one(&self, component: &ComponentName) -> Result<LeaseView, Failure> {
        let snapshot = self.snapshot(std::iter::once(component.clone()).collect()).await?;
        let situation = Situation::of(&snapshot, component);
        if situation.row.is_none() && situation.asked.is_none() && situation.instances.is_empty() {
            return Err(not_found(component.as_str(), &self.store.describe()));
        }
        Ok(LeaseView::of(&situation))
    }

    /// Asks, and waits for what becomes of it.
    pub(super) async fn ask(&self, name: &str, asking: &Asking, told: &Told<'_>) -> Result<Ended, Failure> {
        let component = self.component(name)?;
        let wish = wish(asking)?;
        let snapshot = self.answered(operator::look(&*self.store, &component)).await?;
        let plan = match operator::plan(&Situation::of(&snapshot, &component), &wish) {
            Ok(plan) => plan,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        if asking.dry_run {
            return Ok(Ended::Planned { steps: plan.steps, within: plan.within });
        }
        confirm(asking, &plan.leader)?;
        // Before the request, so that no notification is missed.
        let mut hints = self.store.hints();
        let began = SystemClock.boot();
        match tokio::time::timeout(PATIENCE, operator::post(&*self.store, &component, &wish, &plan)).await {
            Ok(Ok(())) => {}
            Ok(Err(NotAsked::Refused(refusal))) => return Ok(refused(&refusal)),
            Ok(Err(NotAsked::Store(error))) => return Err(unknown(&wish.id, &error.to_string())),
            Err(_) => return Err(unknown(&wish.id, "the database did not answer in time")),
        }
        told.asked(&wish.id, &plan.leader, plan.already);
        if !asking.wait {
            return Ok(Ended::Asked { id: wish.id });
        }
        let limit = asking.timeout.unwrap_or(plan.within);
        let outcome = tokio::select! {
            outcome = self.follow(&component, &plan, &mut hints, (limit, asking.timeout.is_none())) => outcome?,
            () = told.end.cancelled() => None,
        };
        let took = SystemClock.boot().saturating_sub(began);
        match outcome {
            Some(outcome) => Ok(ended(&outcome, took, plan.already)),
            None => self.give_up(&component, &plan, took, told).await,
        }
    }

    /// None: it did not end within the limit, which may grow once, if the database changes meanwhile.
    async fn follow(
        &self,
        component: &ComponentName,
        plan: &Plan,
        hints: &mut store::Hints,
        (limit, mut grows): (Duration, bool),
    ) -> Result<Option<Outcome>, Failure> {
        let names: Names = std::iter::once(component.clone()).collect();
        let clock = SystemClock;
        let mut end = clock.boot() + limit;
        // A database that fails for a moment does not end the wait: the request stands.
        while clock.boot() < end {
            let patience = PATIENCE.min(end.saturating_sub(clock.boot()));
            let look = tokio::time::timeout(patience, self.store.look_at(&names, false)).await;
            if let Ok(Ok(snapshot)) = look {
                let situation = Situation::of(&snapshot, component);
                if let Progress::Ended(outcome) = operator::progress(&situation, &plan.request, &plan.leader)
                {
                    return Ok(Some(outcome));
                }
                if let Some(more) = operator::within_quarantine(&situation).filter(|_| grows) {
                    (end, grows) = (end.max(clock.boot() + more), false);
                }
            }
            // A hint about another component costs one look.
            let left = end.saturating_sub(clock.boot());
            let _: Result<Hint, _> = tokio::time::timeout(POLL.min(left), hints.next()).await;
        }
        Ok(None)
    }

    /// Nothing that was given up is obeyed later.
    async fn give_up(
        &self,
        component: &ComponentName,
        plan: &Plan,
        took: Duration,
        told: &Told<'_>,
    ) -> Result<Ended, Failure> {
        let id = &plan.request.id;
        let withdrawn = self.answered(self.store.withdraw(component, id)).await.map_err(|error| {
            Failure::new(
                error.exit,
                format!(
                    "{error}; the request {id} still stands, and may be obeyed while version {} lasts",
                    plan.request.version
                ),
            )
        })?;
        if withdrawn == store::Outcome::Lost {
            let snapshot = self.answered(operator::look(&*self.store, component)).await?;
            let situation = Situation::of(&snapshot, component);
            if let Progress::Ended(outcome) = operator::progress(&situation, &plan.request, &plan.leader) {
                return Ok(ended(&outcome, took, plan.already));
            }
        }
        Ok(Ended::GivenUp { took, interrupted: told.end.is_cancelled(), how: "was taken back" })
    }

    /// Nobody takes the lease from now on. It was seen not to be paused.
    pub(super) async fn pause(&self, component: &ComponentName, reason: &str) -> Result<(), Failure> {
        let said = said(reason)?;
        let outcome = self.answered(self.store.pause(component, &said, None)).await?;
        self.told_of_the_pause(component, outcome).await
    }

    /// Ends the pause that was seen to be of this one.
    pub(super) async fn resume(&self, component: &ComponentName, of: &str) -> Result<(), Failure> {
        let outcome = self.answered(self.store.resume(component, Some(of))).await?;
        self.told_of_the_pause(component, outcome).await
    }

    async fn told_of_the_pause(
        &self,
        component: &ComponentName,
        outcome: store::Outcome,
    ) -> Result<(), Failure> {
        if outcome == store::Outcome::Lost {
            return Err(Failure::new(
                ExitCode::Refused,
                format!(
                    "somebody else has paused {component} or ended its pause at the same moment; nothing was changed: describe shows how it is now"
                ),
            ));
        }
        self.answered(self.store.notify(component)).await.or(Ok(()))
    }
}

fn wish(asking: &Asking) -> Result<Wish, Failure> {
    check_id(&asking.id).map_err(|error| Failure::new(ExitCode::Usage, format!("--id: {error}")))?;
    Ok(Wish {
        id: asking.id.clone(),
        verb: asking.verb,
        to: asking.to.clone(),
        expect_holder: asking.expect_holder.clone(),
        expect_version: asking.expect_version,
        away: asking.away,
        replace: asking.replace.clone(),
        said: said(&asking.reason)?,
    })
}

fn said(reason: &str) -> Result<Said, Failure> {
    Said::new(asker::name(), reason)
        .map_err(|error: SaidError| Failure::new(ExitCode::Usage, error.to_string()))
}

fn refused(refusal: &Refusal) -> Ended {
    Ended::Refused { reason: refusal.reason().to_owned(), message: refusal.to_string() }
}

fn ended(outcome: &Outcome, took: Duration, already: bool) -> Ended {
    // Of a request that was made before it is not known how long it took.
    let took = (!already).then_some(took);
    match outcome {
        Outcome::CarriedOut { leader, version } => {
            Ended::Done { leader: leader.clone(), version: *version, took }
        }
        other => Ended::NotDone { reason: other.reason().to_owned(), message: other.to_string() },
    }
}

fn unknown(id: &str, why: &str) -> Failure {
    Failure::new(
        ExitCode::Unavailable,
        format!(
            "{why}; it is not known whether the request was made: ask again with --id {id}, which asks nothing twice"
        ),
    )
}

pub(super) fn not_found(name: &str, place: &str) -> Failure {
    Failure::new(
        ExitCode::NoSuchLease,
        format!("there is no lease {name:?} in {place}; component-lease get lists those that are there"),
    )
}

pub(super) fn failed(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Retryable { .. } => ExitCode::Unavailable,
        StoreError::Misconfigured { .. } => ExitCode::Config,
        _ => ExitCode::Unexpected,
    };
    Failure::new(exit, error.to_string())
}
