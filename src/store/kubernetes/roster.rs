use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{FIELD_MANAGER, KubernetesStore, failed, named, row};
use crate::election::{ComponentName, TermKey};
use crate::store::error::StoreError;
use crate::store::roster::{self, Rostered};
use crate::store::traits::{Outcome, Roster};

const RECORD: &str = "componentlease.io/record";
const REPORT: &str = "componentlease.io/report";
const WISH: &str = "componentlease.io/wish";

/// An annotation, unless it is longer than any that we write: anybody may write one.
fn text(lease: &Lease, annotation: &str) -> Option<String> {
    lease.annotations().get(annotation).filter(|text| text.len() <= roster::TEXT_MAX).cloned()
}

/// What a leader wrote beside this lease.
pub(crate) fn record(lease: &Lease) -> Option<String> {
    text(lease, RECORD)
}

/// What a member says in this object.
pub(crate) fn report(lease: &Lease) -> Option<String> {
    text(lease, REPORT)
}

/// The name of the object that carries what a member says.
pub(crate) fn report_name(component: &str, member: &str) -> String {
    format!("{component}-{member}")
}

/// The object that carries what a member says.
fn report_of(component: &ComponentName, member: &str) -> Result<ComponentName, StoreError> {
    let name = report_name(component.as_str(), member);
    let report = ComponentName::new(name).map_err(|error| StoreError::misconfigured(error.to_string()))?;
    named(&report)?;
    Ok(report)
}

#[async_trait]
impl Roster for KubernetesStore {
    async fn read_roster(
        &self,
        component: &ComponentName,
        members: &BTreeSet<String>,
    ) -> Result<Rostered, StoreError> {
        // The lease first: reports of its version are what counts, and none of them is written before it.
        self.read(component).await?;
        let lease = self.last().get(component.as_str()).cloned();
        let reports = try_join_all(members.iter().map(async |member| {
            let report = report_of(component, member)?;
            let found = self.leases.get_opt(report.as_str()).await.map_err(|error| failed(&report, error))?;
            Ok::<_, StoreError>((member, found))
        }))
        .await?;
        let of = |annotation| {
            let says = reports
                .iter()
                .filter_map(|(member, found)| Some(((*member).clone(), text(found.as_ref()?, annotation)?)));
            says.collect()
        };
        Ok(Rostered {
            row: lease.as_ref().map(row),
            record: roster::read(
                component,
                lease.as_ref().and_then(|lease| lease.annotations().get(RECORD).cloned()),
            )?,
            reports: of(REPORT),
            wishes: of(WISH),
        })
    }

    async fn record(&self, term: &TermKey, record: &str) -> Result<Outcome, StoreError> {
        roster::check("record", record)?;
        let component = &term.component;
        let ours = |lease: &Lease| row(lease).is_term(term);
        for _ in 0..2 {
            let mut seen = self.last().get(component.as_str()).cloned().filter(ours);
            if seen.is_none() {
                self.read(component).await?;
                seen = self.last().get(component.as_str()).cloned().filter(ours);
            }
            let Some(seen) = seen else { return Ok(Outcome::Lost) };
            let patch = json!({ "metadata": {
                "resourceVersion": seen.resource_version(),
                "uid": seen.uid(),
                "annotations": { RECORD: record },
            } });
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match self.leases.patch(component.as_str(), &params, &Patch::Merge(patch)).await {
                Ok(lease) => {
                    self.remember(component, Some(lease));
                    return Ok(Outcome::Applied);
                }
                // A renewal came in between, or another's take.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    self.read(component).await?;
                }
                Err(error) => return Err(failed(component, error)),
            }
        }
        Err(StoreError::retryable(format!("Lease {component} keeps changing")))
    }

    fn begin_above(&self, component: &ComponentName, version: i64) {
        // leaseTransitions has 32 bits.
        if version < i64::from(i32::MAX) {
            let mut above = self.above();
            let known = above.entry(component.as_str().to_owned()).or_default();
            *known = version.max(*known);
        }
    }

    async fn report(&self, component: &ComponentName, member: &str, says: &str) -> Result<(), StoreError> {
        roster::check("report", says)?;
        self.annotate(component, member, BTreeMap::from([(REPORT.to_owned(), Some(says.to_owned()))])).await
    }

    async fn wish(
        &self,
        component: &ComponentName,
        member: &str,
        wish: Option<&str>,
    ) -> Result<(), StoreError> {
        roster::check("wish", wish.unwrap_or_default())?;
        self.annotate(component, member, BTreeMap::from([(WISH.to_owned(), wish.map(ToOwned::to_owned))]))
            .await
    }
}

impl KubernetesStore {
    /// Changes annotations of the object of a member; `None` removes one.
    async fn annotate(
        &self,
        component: &ComponentName,
        member: &str,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<(), StoreError> {
        let report = report_of(component, member)?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        match self.leases.patch(report.as_str(), &params, &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(failed(&report, error)),
        }
        let annotations: BTreeMap<String, String> =
            annotations.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(report.as_str().to_owned()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.leases.create(&params, &lease).await.map_err(|error| failed(&report, error))?;
        Ok(())
    }
}
