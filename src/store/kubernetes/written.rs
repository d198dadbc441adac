//! What operators ask of a `Lease`, as it stands in an annotation of that object.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::election::{ComponentName, HolderId, Request, Verb};
use crate::store::asked::{Asked, Posted, Said};
use crate::store::error::StoreError;
use crate::store::roster::TEXT_MAX;

pub(super) const ASKED: &str = "componentlease.io/asked";

/// As it stands in the annotation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<WrittenPause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<WrittenRequest>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenPause {
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenRequest {
    id: String,
    verb: String,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default)]
    away: u64,
    by: String,
    #[serde(default)]
    reason: String,
    at: i64,
}

impl Written {
    pub(super) fn of(asked: &Asked) -> Self {
        let pause = |said: &Said| WrittenPause { by: said.by().to_owned(), reason: said.reason().to_owned() };
        let request = |Posted { request, said, at }: &Posted| WrittenRequest {
            id: request.id.clone(),
            verb: request.verb.as_str().to_owned(),
            version: request.version,
            target: request.target.as_ref().map(|target| target.as_str().to_owned()),
            away: request.away.as_secs(),
            by: said.by().to_owned(),
            reason: said.reason().to_owned(),
            at: *at,
        };
        Self { paused: asked.paused.as_ref().map(pause), request: asked.request.as_ref().map(request) }
    }

    /// `None` where it holds what no program of ours writes.
    fn read(self) -> Option<Asked> {
        let request = self.request.map(|request| {
            let target = request.target.map(HolderId::new).transpose().ok()?;
            Some(Posted {
                request: Request {
                    id: request.id,
                    verb: Verb::parse(&request.verb)?,
                    version: request.version,
                    target,
                    away: Duration::from_secs(request.away),
                },
                said: Said::read(Some(request.by), Some(request.reason)),
                at: request.at,
            })
        });
        let request = match request {
            None => None,
            Some(request) => Some(request?),
        };
        let paused = self.paused.map(|pause| Said::read(Some(pause.by), Some(pause.reason)));
        Some(Asked { paused, request })
    }
}

/// What is asked of this `Lease`. A text that cannot be read is an error, not a pause that has ended.
pub(super) fn asked_of(component: &ComponentName, lease: Option<&Lease>) -> Result<Asked, StoreError> {
    let Some(text) = lease.and_then(|lease| lease.annotations().get(ASKED)) else {
        return Ok(Asked::default());
    };
    let written = (text.len() <= TEXT_MAX).then(|| serde_json::from_str::<Written>(text).ok()).flatten();
    written.and_then(Written::read).ok_or_else(|| {
        StoreError::misconfigured(format!(
            "the annotation {ASKED} of Lease {component} cannot be read, so it is not known whether the election is paused: remove the annotation"
        ))
    })
}
