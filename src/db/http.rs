//! The HTTP endpoints of a member, in Patroni's words where that has some, so that files of HAProxy that exist work. Each
//! answer is computed from what is known now.

use std::sync::Arc;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::json;

use super::view::{Is, View};
use crate::database::postgres::Postgres;
use crate::member::Supervisor;
use crate::process::admin::{self, Admin};
use crate::process::metrics::{self, Family, ReadAtScrape};

/// What the answers are made of.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) view: Arc<View>,
    pub(super) member: Arc<Supervisor<Postgres>>,
}

#[derive(Debug, Deserialize)]
struct Asked {
    lag: Option<String>,
}

impl Known {
    fn is(&self) -> Is {
        self.view.is(&self.member)
    }

    fn answer(&self, fits: impl Fn(Is) -> bool) -> Response {
        let is = self.is();
        let status = if fits(is) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let (role, version, lag) = match is {
            Is::Primary(version) => ("primary", Some(version), None),
            Is::Replica { version, lag, .. } => ("replica", Some(version), lag),
            Is::Neither { .. } => ("replica", None, None),
        };
        let state = if matches!(is, Is::Neither { runs: false }) { "stopped" } else { "running" };
        let body = json!({
            "state": state,
            "role": role,
            "version": version,
            "lag": lag,
            "component-lease": { "cluster": self.view.cluster.as_str(), "member": self.view.member },
        });
        (status, Json(body)).into_response()
    }
}

pub(super) fn router(known: &Known) -> Router {
    let asked = |fits: fn(Is) -> bool| {
        let known = known.clone();
        any(async move || known.answer(fits))
    };
    let is_primary = |is: Is| matches!(is, Is::Primary(_));
    let is_sync = |is: Is| matches!(is, Is::Replica { votes: true, .. });
    let mut router = Router::new().merge(admin::router(admin(known)));
    // Some checks of HAProxy ask with OPTIONS, so any method will do.
    for path in ["/", "/primary", "/master", "/leader", "/read-write"] {
        router = router.route(path, asked(is_primary));
    }
    for path in ["/sync", "/synchronous"] {
        router = router.route(path, asked(is_sync));
    }
    let replica = known.clone();
    router.route("/read-only", asked(|is| !matches!(is, Is::Neither { .. }))).route(
        "/replica",
        any(async move |Query(asked): Query<Asked>| of_replica(&replica, asked.lag.as_deref())),
    )
}

fn of_replica(known: &Known, lag: Option<&str>) -> Response {
    let most = match lag.map(bytes) {
        None => None,
        Some(Some(most)) => Some(most),
        Some(None) => {
            let why = "lag is a number of bytes, or one with kB, MB, GB or TB\n";
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    known.answer(|is| match (is, most) {
        (Is::Replica { .. }, None) => true,
        (Is::Replica { lag, .. }, Some(most)) => lag.is_some_and(|lag| lag <= most),
        _ => false,
    })
}

/// As PostgreSQL writes sizes of memory: `1048576`, `16kB`, `1 GB`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn admin(known: &Known) -> Admin {
    let (live, ready, read) = (known.clone(), known.clone(), known.clone());
    let mut registry: Registry = metrics::registry();
    registry.register_collector(Box::new(ReadAtScrape(move || families(&read))));
    Admin {
        live: Arc::new(move || {
            live.member.participant().check_alive().map_err(|stalled| stalled.to_string())
        }),
        ready: Arc::new(move || match ready.is() {
            Is::Neither { .. } => Err("this member is neither the primary nor follows one".to_owned()),
            _ => Ok(()),
        }),
        registry: Arc::new(registry),
    }
}

fn families(known: &Known) -> Vec<Family> {
    let labels = [("cluster", known.view.cluster.as_str()), ("member", known.view.member.as_str())];
    let is = known.is();
    let flag = |is: bool| f64::from(u8::from(is));
    let (version, votes) = match is {
        Is::Primary(version) => (version, false),
        Is::Replica { version, votes, .. } => (version, votes),
        Is::Neither { .. } => (0, false),
    };
    #[expect(clippy::cast_precision_loss, reason = "versions and lags are far below 2^53")]
    let number = |number: u64| number as f64;
    let mut families = vec![
        Family::gauge(
            "db_primary",
            "1 while this member is the primary and acknowledges writes, else 0",
            &labels,
            flag(matches!(is, Is::Primary(_))),
        ),
        Family::gauge(
            "db_replica",
            "1 while this member follows the primary, else 0",
            &labels,
            flag(matches!(is, Is::Replica { .. })),
        ),
        Family::gauge(
            "db_sync",
            "1 while this member follows and the record has it among those that acknowledge, else 0",
            &labels,
            flag(votes),
        ),
        Family::gauge(
            "db_version",
            "Version of the term under which this member is the primary or follows one; 0 while it does neither",
            &labels,
            number(u64::try_from(version).unwrap_or(0)),
        ),
        Family::gauge(
            "db_lease_reachable",
            "1 while the last call of the lease's store was answered, else 0",
            &labels,
            flag(known.member.participant().watch().borrow().problem.is_none()),
        ),
    ];
    if let Is::Replica { lag: Some(lag), .. } = is {
        families.push(Family::gauge(
            "db_lag_bytes",
            "Bytes of the primary's log that this member does not show yet, as far as it knows; absent where that is not known",
            &labels,
            number(lag),
        ));
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_written_as_patroni_reads_it() {
        for (text, wanted) in
            [("0", 0), ("1048576", 1 << 20), ("16kB", 16 << 10), ("10MB", 10 << 20), ("1 GB", 1 << 30)]
        {
            assert_eq!(bytes(text), Some(wanted), "{text}");
        }
        for wrong in ["", "MB", "-1", "1.5MB", "10 furlongs", "99999999999999999999", "99999999TB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
