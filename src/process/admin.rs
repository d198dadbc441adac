//! The HTTP endpoints of every program of ours: `/livez`, `/readyz`, `/metrics`.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::metrics;

/// Answers a probe: all is well, or what is not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the endpoints tell.
#[derive(Clone)]
pub struct Admin {
    /// False: restart this process.
    pub live: Check,
    /// False: send it no traffic yet.
    pub ready: Check,
    pub registry: Arc<Registry>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// The three endpoints, to be served alone or merged with others.
pub fn router(admin: Admin) -> Router {
    let Admin { live, ready, registry } = admin;
    Router::new()
        .route("/livez", get(async move || answer(&live)))
        .route("/readyz", get(async move || answer(&ready)))
        .route(
            "/metrics",
            get(async move || ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::encode(&registry))),
        )
}

fn answer(check: &Check) -> Response {
    match check() {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
    }
}
