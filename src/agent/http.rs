//! What the agent tells over HTTP. Whether this process leads is computed at the call, by the
//! boot clock against the term's deadline: no answer is kept, because an answer kept through a
//! pause would be a lie.
//!
//! A client that reads "this process leads" may believe it for as long as the answer says. So the answer depends on who asks:
//! over the loopback interface it is the programs of the same pod (or machine), which the controller knows to be gone
//! when the pod's containers are; all others get no answer unless --answer-outside is set.
//!
//! The program that `run` starts asks at a path of its own, which only it is given. What it was told is void when it and
//! all its descendants have ended, and nothing is released before that; so no release waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use std::time::Duration;

use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::clock::{Clock, SystemClock};
use crate::election::Moment;
use crate::participant::Participant;
use crate::process::http::Asker;
use crate::store::new_uuid;

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
    /// The version of the last term of which it was told that this process leads it.
    led: AtomicI64,
    /// Part of the path at which the program of `run` asks.
    secret: String,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The program that this process ends before it releases anything.
    Program,
    /// Somebody in this pod, or on this machine.
    Local,
    Outside,
}

/// Until when somebody out there may believe that this process leads.
///
/// A program that asks does not confirm that it has stopped; what it can be held to is the validity of
/// the last answer it got. So answers are not given for longer than `at_most`, and a release waits until the
/// last of them is void. That holds around a program too: its end is seen, but others may ask beside it.
#[derive(Debug)]
pub(super) struct Promised {
    at_most: Duration,
    /// To those in this pod, or on this machine: boot clock, ns.
    local: AtomicU64,
    /// To those on other machines, of whom the program here cannot speak.
    outside: AtomicU64,
    /// Woken when all promises are void before their time.
    void: Notify,
}

impl Promised {
    pub(super) fn new(at_most: Duration) -> Self {
        Self { at_most, local: AtomicU64::new(0), outside: AtomicU64::new(0), void: Notify::new() }
    }

    /// The latest promise to a program of this pod.
    fn local_until(&self) -> u64 {
        self.local.load(Ordering::SeqCst)
    }

    /// The programs of this pod say that they do not go by this promise any more. A later one stays.
    fn forget(&self, latest: u64) {
        if self.local.compare_exchange(latest, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.void.notify_waiters();
        }
    }

    /// Notes the promise *before* the term is checked once more, so that code which ends the term and then
    /// looks here sees every promise that was given.
    fn give(&self, now: Moment, left: Duration, stop_grace: Duration, local: bool) -> Duration {
        let given = self.bound(left, stop_grace);
        // Another machine's clock may be slower than this one's.
        let believed = if local { given } else { given + given / 9 };
        let until = u64::try_from((now + believed).as_nanos()).unwrap_or(u64::MAX);
        let whose = if local { &self.local } else { &self.outside };
        whose.fetch_max(until, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        given
    }

    /// No answer is good for longer.
    fn bound(&self, left: Duration, stop_grace: Duration) -> Duration {
        // The term may be shorter than this participant was told, and its stop grace with it.
        left.min(self.at_most).min(stop_grace.max(LEAST_PROMISE))
    }

    /// Call it when no answer says any more that this process leads.
    pub(super) fn until(&self) -> Moment {
        fence(Ordering::SeqCst);
        Duration::from_nanos(self.local_until().max(self.outside.load(Ordering::SeqCst)))
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
        let (told, led) = (AtomicI64::new(0), AtomicI64::new(0));
        Self { participant, promised, answers_outside, told, led, secret: new_uuid() }
    }

    /// Where the program that this process starts asks: `/leader` stands below it.
    pub(crate) fn path_of_the_program(&self) -> String {
        format!("/program/{}", self.secret)
    }

    pub(crate) fn promised_until(&self) -> Moment {
        self.promised.until()
    }

    /// Returns when the program has said that it stopped. Look at [`Teller::promised_until`] again then.
    pub(crate) fn stopped(&self) -> Notified<'_> {
        self.promised.void.notified()
    }

    /// The program says that its work of this term has stopped.
    fn confirm(&self, version: i64) -> Result<(), &'static str> {
        // Read before the term is looked at: this confirms no promise of a later term.
        let latest = self.promised.local_until();
        if self.participant.term().is_some() {
            return Err(STILL_LEADS);
        }
        if version != self.led.load(Ordering::SeqCst) {
            return Err(OTHER_TERM);
        }
        self.promised.forget(latest);
        Ok(())
    }

    /// The version of the term that is led and how long that is promised.
    fn leads(&self, by: By) -> Option<(i64, Duration)> {
        let guard = self.participant.term()?;
        self.led.fetch_max(guard.version(), Ordering::SeqCst);
        let (left, grace) = (guard.valid_for(), guard.stop_grace());
        let given = match by {
            By::Program => self.promised.bound(left, grace),
            By::Local | By::Outside => self.promised.give(SystemClock.boot(), left, grace, by == By::Local),
        };
        let valid_for = given.min(guard.valid_for());
        // Less than a millisecond is nothing that could be told.
        (valid_for >= Duration::from_millis(1)).then(|| (guard.version(), valid_for))
    }

    fn answer(&self, by: By) -> Answer<'_> {
        let component = self.participant.component().as_str();
        let me = self.participant.holder().as_str();
        if let Some((version, valid_for)) = self.leads(by) {
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

/// Around a program.
pub(super) fn of_the_program(teller: Arc<Teller>) -> Router {
    Router::new().route("/program/{secret}/leader", get(program)).with_state(teller)
}

/// Beside a program: there it is the program that stops.
pub(super) fn confirming(teller: Arc<Teller>) -> Router {
    Router::new().route("/stopped", post(stopped)).with_state(teller)
}

const STILL_LEADS: &str =
    "this process leads, or leads again: stop when /leader says that it does not, then confirm\n";
const OTHER_TERM: &str = "this is not the version of the last answer of /leader: nothing is confirmed\n";
const NOT_FROM_HERE: &str =
    "/stopped is accepted over the loopback interface only: it confirms for the programs of this pod\n";

#[derive(Debug, Deserialize)]
struct Stopped {
    version: i64,
}

async fn stopped(
    State(teller): State<Arc<Teller>>,
    Extension(asker): Extension<Asker>,
    Query(stopped): Query<Stopped>,
) -> Response {
    if !asker.is_local() {
        return (StatusCode::FORBIDDEN, NOT_FROM_HERE).into_response();
    }
    match teller.confirm(stopped.version) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => (StatusCode::CONFLICT, why).into_response(),
    }
}

async fn leader(State(teller): State<Arc<Teller>>, Extension(asker): Extension<Asker>) -> Response {
    tell(&teller, if asker.is_local() { By::Local } else { By::Outside })
}

/// Answers at the path of the program. A request from another machine is not the program's, even at this path.
async fn program(
    State(teller): State<Arc<Teller>>,
    Extension(asker): Extension<Asker>,
    Path(secret): Path<String>,
) -> Response {
    match (secret == teller.secret, asker.is_local()) {
        (true, true) => tell(&teller, By::Program),
        (true, false) => tell(&teller, By::Outside),
        (false, _) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn tell(teller: &Teller, by: By) -> Response {
    if by == By::Outside && !teller.answers_outside {
        return (StatusCode::FORBIDDEN, [(header::CACHE_CONTROL, "no-store")], NOT_TOLD).into_response();
    }
    let answer = teller.answer(by);
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
            store.set_intent(&component, StandingIntent::ttl(ttl)).await.unwrap();
        }
        Arc::new(Participant::builder(store, component).start().unwrap())
    }

    #[tokio::test]
    async fn a_leader_is_told_with_its_version_and_the_time_that_is_left() {
        let participant = participant(None).await;
        let teller = teller(&participant, S(6));
        let held = participant.lead().await.unwrap().unwrap();
        let answer = teller.answer(By::Local);
        assert!(answer.leader && answer.version == 1);
        assert_eq!(answer.holder.as_deref(), Some(participant.holder().as_str()));
        assert!((5_900..=6_000).contains(&answer.valid_for_ms), "{answer:?}");
        participant.drain();
        held.lost().await;
        let answer = teller.answer(By::Local);
        assert!(!answer.leader && answer.holder.is_none() && answer.valid_for_ms == 0);
        assert_eq!(answer.version, 1, "a version that was told never goes back");
    }

    #[tokio::test]
    async fn a_program_that_says_that_it_stopped_is_not_waited_for_and_one_that_speaks_of_another_term_is() {
        let participant = participant(None).await;
        let teller = teller(&participant, S(6));
        let held = participant.lead().await.unwrap().unwrap();
        assert!(teller.answer(By::Local).leader);
        assert_eq!(teller.confirm(1), Err(STILL_LEADS));
        participant.drain();
        held.lost().await;
        assert_eq!(teller.confirm(2), Err(OTHER_TERM));
        assert!(teller.promised_until() > SystemClock.boot());
        let stopped = teller.stopped();
        assert_eq!(teller.confirm(1), Ok(()));
        assert_eq!(teller.promised_until(), Moment::ZERO);
        tokio::time::timeout(S(5), stopped).await.unwrap();
        assert_eq!(teller.confirm(1), Ok(()), "it may say so again");
    }

    #[tokio::test]
    async fn what_the_program_of_run_is_told_is_bounded_and_no_release_waits_for_it() {
        let participant = participant(None).await;
        let teller = teller(&participant, S(6));
        let _held = participant.lead().await.unwrap().unwrap();
        let answer = teller.answer(By::Program);
        assert!((5_900..=6_000).contains(&answer.valid_for_ms), "{answer:?}");
        assert_eq!(teller.promised_until(), Moment::ZERO, "it is ended before anything is released");
        teller.answer(By::Local);
        assert!(teller.promised_until() > SystemClock.boot());
    }

    #[test]
    fn a_promise_that_was_given_meanwhile_is_not_forgotten() {
        let promised = Promised::new(S(6));
        promised.give(S(100), S(30), S(6), true);
        let seen = promised.local_until();
        promised.give(S(101), S(30), S(6), true);
        promised.forget(seen);
        assert_eq!(promised.until(), S(107));
    }

    #[test]
    fn a_program_that_stopped_does_not_speak_for_clients_on_other_machines() {
        let promised = Promised::new(S(9));
        promised.give(S(100), S(30), S(9), false);
        promised.give(S(100), S(30), S(9), true);
        promised.forget(promised.local_until());
        assert_eq!(promised.until(), S(110), "nine seconds of a clock that may be slower");
    }

    #[tokio::test]
    async fn no_answer_is_good_for_longer_than_the_stop_grace_and_each_is_remembered() {
        let participant = participant(None).await;
        let teller = teller(&participant, S(6));
        let _held = participant.lead().await.unwrap().unwrap();
        assert_eq!(teller.promised_until(), Moment::ZERO, "nobody asked yet");
        let before = SystemClock.boot();
        let answer = teller.answer(By::Local);
        assert!((5_900..=6_000).contains(&answer.valid_for_ms), "{answer:?}");
        let until = teller.promised_until();
        assert!(until >= before + Duration::from_millis(answer.valid_for_ms));
        assert!(until <= SystemClock.boot() + S(6));
        // By another machine's clock it may last longer.
        let answer = teller.answer(By::Outside);
        assert!(teller.promised_until() >= before + Duration::from_millis(answer.valid_for_ms) * 11 / 10);
    }

    #[tokio::test]
    async fn in_a_shorter_term_than_the_participants_own_no_answer_is_good_for_longer_than_that_terms_grace()
    {
        let participant = participant(Some(5)).await;
        let teller = teller(&participant, S(6));
        let held = participant.lead().await.unwrap().unwrap();
        assert_eq!(held.stop_grace(), S(1));
        let answer = teller.answer(By::Local);
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
