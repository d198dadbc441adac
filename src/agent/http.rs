//! What the agent tells over HTTP. Whether this process leads is computed at the call, by the
//! boot clock against the term's deadline: no answer is kept, because an answer kept through a
//! pause would be a lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::LEAST_PROMISE;
use crate::clock::{Clock, SystemClock};
use crate::domain::Moment;
use crate::participant::Participant;

const VERSION: HeaderName = HeaderName::from_static("component-lease-version");
const VALID_FOR: HeaderName = HeaderName::from_static("component-lease-valid-for-ms");

/// What `/leader` answers from.
#[derive(Debug)]
pub(super) struct Teller {
    participant: Arc<Participant>,
    promised: Promised,
    /// The highest version told: a look from before a take must not make it go back.
    told: AtomicI64,
}

/// Until when somebody out there may believe that this process leads.
///
/// A program beside the agent does not confirm that it has stopped; what it can be held to is the
/// validity of the last answer it got. So answers are not given for longer than `at_most`, and a
/// release waits until the last of them is void.
#[derive(Debug)]
pub(super) struct Promised {
    /// `None` around a program, whose end is seen instead.
    at_most: Option<Duration>,
    /// Boot clock, ns.
    until: AtomicU64,
}

impl Promised {
    pub(super) fn new(at_most: Option<Duration>) -> Self {
        Self { at_most, until: AtomicU64::new(0) }
    }

    /// Notes the promise *before* leadership is asked for once more, so that whoever ends the
    /// leadership and then looks here sees every promise that was given out.
    fn give(&self, now: Moment, left: Duration, stop_grace: Duration) -> Duration {
        let Some(at_most) = self.at_most else { return left };
        // The term may be shorter than this participant was told, and its stop grace with it.
        let given = left.min(at_most).min(stop_grace.max(LEAST_PROMISE));
        let until = u64::try_from((now + given).as_nanos()).unwrap_or(u64::MAX);
        self.until.fetch_max(until, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        given
    }

    /// Call it when nobody is told any more that this process leads.
    pub(super) fn until(&self) -> Moment {
        fence(Ordering::SeqCst);
        Duration::from_nanos(self.until.load(Ordering::SeqCst))
    }
}

/// The body of `/leader`.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    leader: bool,
    component: &'a str,
    /// Who leads as far as this participant knows; null when nobody does.
    holder: Option<String>,
    #[serde(rename = "self")]
    me: &'a str,
    version: i64,
    valid_for_ms: u64,
}

impl Teller {
    pub(super) fn new(participant: Arc<Participant>, promised: Promised) -> Self {
        Self { participant, promised, told: AtomicI64::new(0) }
    }

    pub(super) fn promised_until(&self) -> Moment {
        self.promised.until()
    }

    /// The version of the term that is led and how long that is promised.
    fn leads(&self) -> Option<(i64, Duration)> {
        let guard = self.participant.guard()?;
        let given = self.promised.give(SystemClock.boot(), guard.valid_for(), guard.stop_grace());
        let valid_for = given.min(guard.valid_for());
        // Less than a millisecond is nothing that could be told.
        (valid_for >= Duration::from_millis(1)).then(|| (guard.version(), valid_for))
    }

    fn answer(&self) -> Answer<'_> {
        let component = self.participant.component().as_str();
        let me = self.participant.holder().as_str();
        if let Some((version, valid_for)) = self.leads() {
            self.told.fetch_max(version, Ordering::Relaxed);
            let valid_for_ms = u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX);
            return Answer {
                leader: true,
                component,
                holder: Some(me.to_owned()),
                me,
                version,
                valid_for_ms,
            };
        }
        let row = self.participant.watch().borrow().row.clone();
        let seen = row.as_ref().map_or(0, |row| row.version);
        let told = self.told.fetch_max(seen, Ordering::Relaxed);
        let holder = row.filter(|row| !row.is_free() && row.version >= told).map(|row| row.holder);
        Answer { leader: false, component, holder, me, version: seen.max(told), valid_for_ms: 0 }
    }
}

pub(super) fn router(teller: Arc<Teller>) -> Router {
    Router::new().route("/leader", get(leader)).with_state(teller)
}

async fn leader(State(teller): State<Arc<Teller>>) -> impl IntoResponse {
    let answer = teller.answer();
    let status = if answer.leader { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut headers = HeaderMap::new();
    headers.insert(VERSION, HeaderValue::from(answer.version));
    headers.insert(VALID_FOR, HeaderValue::from(answer.valid_for_ms));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (status, headers, Json(serde_json::json!(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ComponentName;
    use crate::store::MemoryStore;

    fn participant() -> Arc<Participant> {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let component = ComponentName::new("c").unwrap();
        Arc::new(Participant::builder(store, component).ttl(30).start().unwrap())
    }

    #[tokio::test]
    async fn a_leader_is_told_with_its_version_and_the_time_that_is_left() {
        let participant = participant();
        let teller = Teller::new(participant.clone(), Promised::new(None));
        let leadership = participant.lead().await.unwrap();
        let answer = teller.answer();
        assert!(answer.leader && answer.version == 1);
        assert_eq!(answer.holder.as_deref(), Some(participant.holder().as_str()));
        assert!((15_000..=21_000).contains(&answer.valid_for_ms), "{answer:?}");
        participant.drain();
        leadership.lost().await;
        let answer = teller.answer();
        assert!(!answer.leader && answer.holder.is_none() && answer.valid_for_ms == 0);
        assert_eq!(answer.version, 1, "a version that was told never goes back");
    }

    #[tokio::test]
    async fn beside_a_program_no_answer_is_good_for_longer_than_the_stop_grace_and_each_is_remembered() {
        let participant = participant();
        let teller = Teller::new(participant.clone(), Promised::new(Some(Duration::from_secs(6))));
        let _leadership = participant.lead().await.unwrap();
        assert_eq!(teller.promised_until(), Moment::ZERO, "nobody asked yet");
        let before = SystemClock.boot();
        let answer = teller.answer();
        assert!((5_900..=6_000).contains(&answer.valid_for_ms), "{answer:?}");
        let until = teller.promised_until();
        assert!(until >= before + Duration::from_millis(answer.valid_for_ms));
        assert!(until <= SystemClock.boot() + Duration::from_secs(6));
    }
}
