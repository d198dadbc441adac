//! What the agent tells over HTTP. Whether this process leads is computed at the call, by the
//! boot clock against the term's deadline: no answer is kept, because an answer kept through a
//! pause would be a lie.
//!
//! A client that reads "this process leads" may believe it for as long as the answer says. So the answer depends on who asks:
//! over the loopback interface it is the programs of the same pod (or machine), which the controller knows to be gone
//! when the pod's containers are; all others get no answer unless --answer-outside is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::election::Moment;
use crate::participant::Participant;
use crate::process::http::Asker;

const VERSION: HeaderName = HeaderName::from_static("component-lease-version");
const VALID_FOR: HeaderName = HeaderName::from_static("component-lease-valid-for-ms");

/// Shortest promise that `/leader` gives, however short the stop grace.
pub(super) const LEAST_PROMISE: Duration = Duration::from_millis(500);

/// What `/leader` answers from.
#[derive(Debug)]
pub(crate) struct Teller {
    participant: Arc<Participant>,
    promised: Promised,
    answers_outside: bool,
    /// The highest version told: a look from before a take must not make it go back.
    told: AtomicI64,
}

/// Until when somebody out there may believe that this process leads.
///
/// A program that asks does not confirm that it has stopped; what it can be held to is the validity of
/// the last answer it got. So answers are not given for longer than `at_most`, and a release waits until the
/// last of them is void. That holds around a program too: its end is seen, but others may ask beside it.
#[derive(Debug)]
pub(super) struct Promised {
    at_most: Duration,
    /// Boot clock, ns.
    until: AtomicU64,
}

impl Promised {
    pub(super) fn new(at_most: Duration) -> Self {
        Self { at_most, until: AtomicU64::new(0) }
    }

    /// Notes the promise *before* the term is checked once more, so that code which ends the term and then
    /// looks here sees every promise that was given.
    fn give(&self, now: Moment, left: Duration, stop_grace: Duration, local: bool) -> Duration {
        // The term may be shorter than this participant was told, and its stop grace with it.
        let given = left.min(self.at_most).min(stop_grace.max(LEAST_PROMISE));
        // Another machine's clock may be slower than this one's.
        let believed = if local { given } else { given + given / 9 };
        let until = u64::try_from((now + believed).as_nanos()).unwrap_or(u64::MAX);
        self.until.fetch_max(until, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        given
    }

    /// Call it when no answer says any more that this process leads.
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
    pub(super) fn new(participant: Arc<Participant>, promised: Promised, answers_outside: bool) -> Self {
        Self { participant, promised, answers_outside, told: AtomicI64::new(0) }
    }

    pub(crate) fn promised_until(&self) -> Moment {
        self.promised.until()
    }

    /// The version of the term that is led and how long that is promised.
    fn leads(&self, local: bool) -> Option<(i64, Duration)> {
        let guard = self.participant.term()?;
        let given = self.promised.give(SystemClock.boot(), guard.valid_for(), guard.stop_grace(), local);
        let valid_for = given.min(guard.valid_for());
        // Less than a millisecond is nothing that could be told.
        (valid_for >= Duration::from_millis(1)).then(|| (guard.version(), valid_for))
    }

    fn answer(&self, local: bool) -> Answer<'_> {
        let component = self.participant.component().as_str();
        let me = self.participant.holder().as_str();
        if let Some((version, valid_for)) = self.leads(local) {
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

const NOT_TOLD: &str = "/leader is answered over the loopback interface only: ask from within the pod (or on the machine), at 127.0.0.1 or [::1], or start this program with --answer-outside\n";

async fn leader(State(teller): State<Arc<Teller>>, Extension(asker): Extension<Asker>) -> Response {
    if !asker.is_local() && !teller.answers_outside {
        return (StatusCode::FORBIDDEN, [(header::CACHE_CONTROL, "no-store")], NOT_TOLD).into_response();
    }
    let answer = teller.answer(asker.is_local());
    let status = if answer.leader { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut headers = HeaderMap::new();
    headers.insert(VERSION, HeaderValue::from(answer.version));
    headers.insert(VALID_FOR, HeaderValue::from(answer.valid_for_ms));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (status, headers, Json(serde_json::json!(answer))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::ComponentName;
    use crate::store::{Directory as _, MemoryStore, StandingIntent};

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn teller(participant: &Arc<Participant>, at_most: Duration) -> Teller {
        Teller::new(Arc::clone(participant), Promised::new(at_most), false)
    }

    /// Of a component for which a resource may ask for another ttl than the participant's own 30 s.
    async fn participant(ttl: Option<u32>) -> Arc<Participant> {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let component = ComponentName::new("c").unwrap();
        if let Some(ttl) = ttl {
            store.set_intent(&component, StandingIntent { ttl }).await.unwrap();
        }
        Arc::new(Participant::builder(store, component).start().unwrap())
    }

    #[tokio::test]
    async fn a_leader_is_told_with_its_version_and_the_time_that_is_left() {
        let participant = participant(None).await;
        let teller = teller(&participant, S(6));
        let held = participant.lead().await.unwrap().unwrap();
        let answer = teller.answer(true);
        assert!(answer.leader && answer.version == 1);
        assert_eq!(answer.holder.as_deref(), Some(participant.holder().as_str()));
        assert!((5_900..=6_000).contains(&answer.valid_for_ms), "{answer:?}");
        participant.drain();
        held.lost().await;
        let answer = teller.answer(true);
        assert!(!answer.leader && answer.holder.is_none() && answer.valid_for_ms == 0);
        assert_eq!(answer.version, 1, "a version that was told never goes back");
    }

    #[tokio::test]
    async fn no_answer_is_good_for_longer_than_the_stop_grace_and_each_is_remembered() {
        let participant = participant(None).await;
        let teller = teller(&participant, S(6));
        let _held = participant.lead().await.unwrap().unwrap();
        assert_eq!(teller.promised_until(), Moment::ZERO, "nobody asked yet");
        let before = SystemClock.boot();
        let answer = teller.answer(true);
        assert!((5_900..=6_000).contains(&answer.valid_for_ms), "{answer:?}");
        let until = teller.promised_until();
        assert!(until >= before + Duration::from_millis(answer.valid_for_ms));
        assert!(until <= SystemClock.boot() + S(6));
        // By another machine's clock it may last longer.
        let answer = teller.answer(false);
        assert!(teller.promised_until() >= before + Duration::from_millis(answer.valid_for_ms) * 11 / 10);
    }

    #[tokio::test]
    async fn in_a_shorter_term_than_the_participants_own_no_answer_is_good_for_longer_than_that_terms_grace()
    {
        let participant = participant(Some(5)).await;
        let teller = teller(&participant, S(6));
        let held = participant.lead().await.unwrap().unwrap();
        assert_eq!(held.stop_grace(), S(1));
        let answer = teller.answer(true);
        assert!((900..=1_000).contains(&answer.valid_for_ms), "{answer:?}");
        assert!(teller.promised_until() <= SystemClock.boot() + S(1));
    }

    #[test]
    fn a_promise_is_bound_by_what_is_left_of_the_term_by_the_terms_grace_and_by_the_participants_own() {
        for (left, grace, given) in [(30, 9, 6), (30, 4, 4), (3, 9, 3), (0, 9, 0)] {
            let promised = Promised::new(S(6));
            assert_eq!(promised.give(S(100), S(left), S(grace), true), S(given));
            assert_eq!(promised.until(), S(100 + given));
        }
        let least = Promised::new(S(6)).give(S(100), S(30), Duration::ZERO, true);
        assert_eq!(least, LEAST_PROMISE, "nobody can ask without end");
    }
}
