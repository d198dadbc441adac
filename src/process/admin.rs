//! The HTTP endpoints of every program of ours: `/livez`, `/readyz`, `/metrics`.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::exit::Failure;
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

/// Takes the address, or says who cannot have it and why.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::config(match error.kind() {
            ErrorKind::AddrInUse => format!(
                "cannot listen on {address}: another process has this port; choose another with --listen, or port 0 for any free one"
            ),
            ErrorKind::AddrNotAvailable => format!(
                "cannot listen on {address}: no network interface of this machine has this address; choose another with --listen"
            ),
            ErrorKind::PermissionDenied => format!(
                "cannot listen on {address}: permission denied (ports below 1024 need a privilege); choose another with --listen"
            ),
            _ => format!("cannot listen on {address}: {error}; choose another address with --listen"),
        })
    })
}

/// Serves until the token is cancelled.
pub async fn serve(listener: TcpListener, router: Router, end: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_a_configuration_error_that_names_the_address() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let failure = bind(address).await.unwrap_err();
        assert_eq!(failure.exit.code(), 78);
        assert!(failure.to_string().contains(&address.to_string()));
    }
}
