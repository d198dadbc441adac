//! What operators ask of a `Lease`, in an annotation of that object: a pause, or that its leader makes way. Only a store that hears
//! ([`KubernetesStore::hearing`]) reads it.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::written::{ASKED, Written, asked_of};
use super::{FIELD_MANAGER, KubernetesStore, failed, named, row};
use crate::election::{ComponentName, LeaseRow, Request};
use crate::store::asked::{Asked, Posted, Said};
use crate::store::error::StoreError;
use crate::store::traits::Outcome;

/// So often a change is tried that renewals come in between.
const TRIES: usize = 5;

impl KubernetesStore {
    /// Obeys what operators ask of its `Lease` objects: nobody takes one that is paused, and looks show requests.
    #[must_use]
    pub fn hearing(self) -> Self {
        Self { hears: true, ..self }
    }

    /// What operators ask now.
    ///
    /// # Errors
    /// [`StoreError`] of the API server, and for an annotation that cannot be read.
    pub async fn asked(&self, component: &ComponentName) -> Result<Asked, StoreError> {
        self.read(component).await?;
        let lease = self.last().get(component.as_str()).cloned();
        asked_of(component, lease.as_ref())
    }

    /// From now on nobody takes the lease, as [`Directory::pause`](crate::store::Directory::pause).
    ///
    /// # Errors
    /// As [`KubernetesStore::asked`].
    pub async fn pause(
        &self,
        component: &ComponentName,
        said: &Said,
        over: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.change_asked(component, |_, asked| asked.pause(said, over)).await
    }

    /// As [`Directory::resume`](crate::store::Directory::resume).
    ///
    /// # Errors
    /// As [`KubernetesStore::asked`].
    pub async fn resume(&self, component: &ComponentName, of: Option<&str>) -> Result<Outcome, StoreError> {
        self.change_asked(component, |_, asked| asked.resume(of)).await
    }

    /// As [`Directory::ask`](crate::store::Directory::ask).
    ///
    /// # Errors
    /// As [`KubernetesStore::asked`].
    pub async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        let posted = Posted { request: request.clone(), said: said.clone(), at: self.clock.wall_ms() };
        self.change_asked(component, |row, asked| asked.post(row, posted.clone(), replaces)).await
    }

    /// As [`Directory::withdraw`](crate::store::Directory::withdraw).
    ///
    /// # Errors
    /// As [`KubernetesStore::asked`].
    pub async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError> {
        self.change_asked(component, |_, asked| asked.withdraw(id)).await
    }

    /// Writes what the rule makes of what is asked, bound to the object that was read.
    async fn change_asked(
        &self,
        component: &ComponentName,
        rule: impl Fn(Option<&LeaseRow>, &mut Asked) -> bool + Send + Sync,
    ) -> Result<Outcome, StoreError> {
        named(component)?;
        for _ in 0..TRIES {
            self.read(component).await?;
            let Some(lease) = self.last().get(component.as_str()).cloned() else {
                return Err(StoreError::misconfigured(format!("there is no Lease {component}")));
            };
            let mut asked = asked_of(component, Some(&lease))?;
            if !rule(Some(&row(&lease)), &mut asked) {
                return Ok(Outcome::Lost);
            }
            let text = serde_json::to_string(&Written::of(&asked))
                .map_err(|error| StoreError::misconfigured(error.to_string()))?;
            let text = (!asked.is_empty()).then_some(text);
            let patch = json!({ "metadata": {
                "resourceVersion": lease.resource_version(),
                "uid": lease.uid(),
                "annotations": { ASKED: text },
            } });
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match self.leases.patch(component.as_str(), &params, &Patch::Merge(patch)).await {
                Ok(lease) => {
                    self.remember(component, Some(lease));
                    return Ok(Outcome::Applied);
                }
                // A renewal came in between.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(failed(component, error)),
            }
        }
        Err(StoreError::retryable(format!("Lease {component} keeps changing")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::fake_api::FakeApi;
    use super::*;
    use crate::clock::SystemClock;
    use crate::election::{Expected, HolderId, LifeId, Take, TermKey, Verb};
    use crate::store::LeaseStore as _;

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ours/leases/orders-db";

    fn component() -> ComponentName {
        ComponentName::new("orders-db").unwrap()
    }

    fn store(api: &FakeApi) -> KubernetesStore {
        KubernetesStore::new(api.client(), "ours", Arc::new(SystemClock))
    }

    fn said() -> Said {
        Said::new("ada", "the disk is \"slow\"").unwrap()
    }

    fn request(id: &str, version: i64) -> Request {
        let target = Some(HolderId::new("b_1_00000001").unwrap());
        Request { id: id.to_owned(), verb: Verb::Switchover, version, target, away: Duration::from_secs(3) }
    }

    async fn taken(store: &KubernetesStore, holder: &str, version: i64) -> Outcome {
        let seen = store.look(&component()).await.unwrap().row;
        let term = TermKey { component: component(), holder: HolderId::new(holder).unwrap(), version };
        let expected = Expected::of(seen.as_ref());
        store.take(&Take { term, ttl: 8, expected, life_id: LifeId::default() }).await.unwrap()
    }

    #[tokio::test]
    async fn while_a_lease_is_paused_nobody_takes_it_who_hears_and_it_is_renewed() {
        let api = FakeApi::default();
        let (member, operator) = (store(&api).hearing(), store(&api));
        assert_eq!(taken(&member, "a", 1).await, Outcome::Applied);
        assert_eq!(operator.pause(&component(), &said(), None).await.unwrap(), Outcome::Applied);
        assert_eq!(operator.pause(&component(), &said(), None).await.unwrap(), Outcome::Lost, "it is paused");
        assert!(member.look(&component()).await.unwrap().paused);
        let a = TermKey { component: component(), holder: HolderId::new("a").unwrap(), version: 1 };
        assert_eq!(member.renew(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(member.release(&a).await.unwrap(), Outcome::Applied);
        assert_eq!(taken(&member, "b", 2).await, Outcome::Lost);
        assert_eq!(operator.asked(&component()).await.unwrap().paused, Some(said()));
        assert_eq!(operator.resume(&component(), Some("bo")).await.unwrap(), Outcome::Lost, "it is ada's");
        assert_eq!(operator.resume(&component(), Some("ada")).await.unwrap(), Outcome::Applied);
        assert_eq!(operator.resume(&component(), None).await.unwrap(), Outcome::Lost);
        assert!(operator.asked(&component()).await.unwrap().is_empty());
        assert_eq!(taken(&member, "b", 2).await, Outcome::Applied);
    }

    #[tokio::test]
    async fn a_pause_that_came_between_look_and_take_is_kept() {
        let api = FakeApi::default();
        let (member, operator) = (store(&api).hearing(), store(&api));
        api.put(PATH, json!({"metadata": {"name": "orders-db"}}));
        let seen = member.look(&component()).await.unwrap().row;
        operator.pause(&component(), &said(), None).await.unwrap();
        let term = TermKey { component: component(), holder: HolderId::new("a").unwrap(), version: 1 };
        let take = Take { term, ttl: 8, expected: Expected::of(seen.as_ref()), life_id: LifeId::default() };
        assert_eq!(member.take(&take).await.unwrap(), Outcome::Lost);
    }

    #[tokio::test]
    async fn a_request_is_written_in_its_own_term_and_in_place_of_the_one_that_was_seen() {
        let api = FakeApi::default();
        let (member, operator) = (store(&api).hearing(), store(&api));
        taken(&member, "a", 1).await;
        let ask = async |request: &Request, replaces: Option<&str>| {
            operator.ask(&component(), request, &said(), replaces).await.unwrap()
        };
        assert_eq!(ask(&request("r1", 2), None).await, Outcome::Lost, "of another term");
        assert_eq!(ask(&request("r1", 1), None).await, Outcome::Applied);
        assert_eq!(member.look(&component()).await.unwrap().request, Some(request("r1", 1)));
        assert_eq!(ask(&request("r2", 1), None).await, Outcome::Lost);
        assert_eq!(ask(&request("r2", 1), Some("r1")).await, Outcome::Applied);
        assert_eq!(operator.withdraw(&component(), "r1").await.unwrap(), Outcome::Lost);
        assert_eq!(operator.withdraw(&component(), "r2").await.unwrap(), Outcome::Applied);
        assert_eq!(member.look(&component()).await.unwrap().request, None);
    }

    #[tokio::test]
    async fn a_renewal_in_between_does_not_fail_what_is_asked_and_a_text_that_cannot_be_read_is_no_end_of_a_pause()
     {
        let api = FakeApi::default();
        let (member, operator) = (store(&api).hearing(), store(&api));
        taken(&member, "a", 1).await;
        api.fail(PATH, 409);
        assert_eq!(operator.pause(&component(), &said(), None).await.unwrap(), Outcome::Applied);
        for text in ["", "paused", "{\"request\":{\"id\":\"x\"}}", "{\"paused\":7}"] {
            let mut lease = api.get(PATH);
            lease["metadata"]["annotations"][ASKED] = json!(text);
            api.put(PATH, lease);
            let error = member.look(&component()).await.unwrap_err().to_string();
            assert!(error.contains("remove the annotation"), "{error}");
        }
        // Who does not hear is not disturbed: the controller's own election.
        assert!(!operator.look(&component()).await.unwrap().paused);
    }
}
