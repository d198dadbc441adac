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

/// An annotation, unless it is longer than any that we write: anybody may write one.
fn report_in(lease: &Lease) -> Option<String> {
    lease.annotations().get(REPORT).filter(|text| text.len() <= roster::TEXT_MAX).cloned()
}

/// The object that carries what a member says.
fn report_of(component: &ComponentName, member: &str) -> Result<ComponentName, StoreError> {
    let name = format!("{component}-{member}");
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
            Ok::<_, StoreError>(found.and_then(|lease| report_in(&lease)).map(|says| (member.clone(), says)))
        }))
        .await?;
        Ok(Rostered {
            row: lease.as_ref().map(row),
            record: roster::read(
                component,
                lease.as_ref().and_then(|lease| lease.annotations().get(RECORD).cloned()),
            )?,
            reports: reports.into_iter().flatten().collect(),
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
        let report = report_of(component, member)?;
        let annotations = BTreeMap::from([(REPORT.to_owned(), says.to_owned())]);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        match self.leases.patch(report.as_str(), &params, &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(failed(&report, error)),
        }
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
