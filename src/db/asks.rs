//! Where a pause and a request stand: in a table as for every component, or in an annotation of the `Lease`.

use std::sync::Arc;

use crate::election::{ComponentName, Request};
use crate::store::kubernetes::KubernetesStore;
use crate::store::{Asked, Directory, Names, Outcome, Roster, Said, StoreError};

/// What operators ask of one lease.
pub(super) enum Asks {
    Lease(Arc<KubernetesStore>),
    Table(Arc<dyn Roster>),
}

fn directory(store: &dyn Roster) -> Result<&dyn Directory, StoreError> {
    store.directory().ok_or_else(|| {
        StoreError::misconfigured(format!("{} keeps nothing that operators ask", store.describe()))
    })
}

impl Asks {
    pub(super) async fn asked(&self, component: &ComponentName) -> Result<Asked, StoreError> {
        match self {
            Self::Lease(store) => store.asked(component).await,
            Self::Table(store) => {
                let names: Names = std::iter::once(component.clone()).collect();
                let mut snapshot = directory(&**store)?.look_at(&names, false).await?;
                Ok(snapshot.asked.remove(component.as_str()).unwrap_or_default())
            }
        }
    }

    pub(super) async fn pause(&self, component: &ComponentName, said: &Said) -> Result<Outcome, StoreError> {
        match self {
            Self::Lease(store) => store.pause(component, said, None).await,
            Self::Table(store) => {
                let outcome = directory(&**store)?.pause(component, said, None).await?;
                self.notify(component, outcome).await
            }
        }
    }

    /// Ends the pause of this one.
    pub(super) async fn resume(&self, component: &ComponentName, of: &str) -> Result<Outcome, StoreError> {
        match self {
            Self::Lease(store) => store.resume(component, Some(of)).await,
            Self::Table(store) => {
                let outcome = directory(&**store)?.resume(component, Some(of)).await?;
                self.notify(component, outcome).await
            }
        }
    }

    pub(super) async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        match self {
            Self::Lease(store) => store.ask(component, request, said, replaces).await,
            Self::Table(store) => {
                let outcome = directory(&**store)?.ask(component, request, said, replaces).await?;
                self.notify(component, outcome).await
            }
        }
    }

    pub(super) async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError> {
        match self {
            Self::Lease(store) => store.withdraw(component, id).await,
            Self::Table(store) => directory(&**store)?.withdraw(component, id).await,
        }
    }

    /// Costs speed only: who misses it polls.
    async fn notify(&self, component: &ComponentName, outcome: Outcome) -> Result<Outcome, StoreError> {
        if let (Self::Table(store), Outcome::Applied) = (self, outcome) {
            let _ = store.notify(component).await;
        }
        Ok(outcome)
    }
}
