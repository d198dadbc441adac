//! What is shown of one lease, whether a database or a cluster told it. The fields of `-o json` are these.

use serde::Serialize;

use super::words::{between, safe, time};
use crate::membership::SeenInstance;
use crate::operator::{Leader, Situation};
use crate::store::{Posted, Said};

/// What a lease is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) enum State {
    /// Somebody holds and renews it.
    Led,
    /// Its holder has not renewed it for a ttl.
    Lapsed,
    /// It was given back.
    Free,
    /// It has no row.
    NeverLed,
    #[default]
    Unknown,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Led => "Led",
            Self::Lapsed => "Lapsed",
            Self::Free => "Free",
            Self::NeverLed => "NeverLed",
            Self::Unknown => "Unknown",
        }
    }
}

/// One lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseView {
    /// The ComponentLease, or with a database the component's key.
    pub(super) name: String,
    /// Of the ComponentLease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    /// The key of the row.
    pub(super) component: String,
    /// What the lease is.
    pub(super) state: State,
    /// Who holds the lease, or held it until it lapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<String>,
    /// The leader's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<String>,
    /// The leader's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// The fencing token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i64>,
    /// Seconds that a term lasts without renewal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl_seconds: Option<i64>,
    /// When the term began, by the database's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// Milliseconds that the term lasts so far, by the database's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) led_for_ms: Option<u64>,
    /// Milliseconds since the last renewal, by the database's clock. Only a database tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) renewed_ago_ms: Option<u64>,
    /// The status of the condition Ready. Only a cluster tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ready: Option<String>,
    /// Its reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Who paused it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paused: Option<SaidView>,
    /// The request that waits for its term to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<RequestView>,
    /// What stands in the way, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// Those that are alive, the longest-lived first.
    pub(super) instances: Vec<InstanceView>,
}

/// Who asked, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SaidView {
    /// In their own words: not verified.
    pub(super) by: String,
    /// In their own words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
}

impl From<&Said> for SaidView {
    fn from(said: &Said) -> Self {
        Self { by: said.by().to_owned(), reason: said.reason().to_owned() }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestView {
    /// Its name.
    pub(super) id: String,
    /// What is asked.
    pub(super) verb: String,
    /// Who is to lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    /// Who asked, and why.
    #[serde(flatten)]
    pub(super) said: SaidView,
    /// Milliseconds since it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) asked_ago_ms: Option<u64>,
}

/// A participant that is alive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceView {
    /// Its holder id.
    pub(super) instance: String,
    /// Its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<String>,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// The version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program_version: Option<String>,
    /// How it works: `embedded`, `around` or `beside`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<&'static str>,
    /// Since when it lives without interruption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// Milliseconds since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alive_for_ms: Option<u64>,
    /// Milliseconds since its last sign of life. Only a database tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heartbeat_ago_ms: Option<u64>,
    /// Whether it would lead, as far as its health goes.
    pub(super) healthy: bool,
    /// Whether it could lead instead, as far as health and priority go.
    pub(super) could_lead: bool,
    /// Whether it holds the lease.
    pub(super) leads: bool,
}

pub(super) fn whole_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LeaseView {
    /// What a database tells.
    pub(super) fn of(situation: &Situation<'_>) -> Self {
        let now = situation.database_now;
        let row = situation.row;
        let held = row.filter(|row| !row.is_free());
        let leader = match situation.leader() {
            Leader::Participant(seen) => Some(seen),
            Leader::Nobody | Leader::Unheard(_) => None,
        };
        let state = match (row, held) {
            (None, _) => State::NeverLed,
            (Some(_), None) => State::Free,
            (Some(_), Some(_)) if situation.lapsed().is_some() => State::Lapsed,
            (Some(_), Some(_)) => State::Led,
        };
        let pending = situation.asked.and_then(|asked| asked.request.as_ref());
        Self {
            name: situation.component.to_owned(),
            component: situation.component.to_owned(),
            state,
            holder: held.map(|row| row.holder.clone()),
            pod: leader.and_then(|seen| seen.whereabouts.pod.clone()),
            node: leader.and_then(|seen| seen.whereabouts.node.clone()),
            version: row.map(|row| row.version),
            ttl_seconds: row.map(|row| row.ttl),
            since: held.map(|row| time(row.lease_time)),
            led_for_ms: held.map(|row| whole_ms(between(row.lease_time, now))),
            renewed_ago_ms: held.map(|row| whole_ms(between(row.renew_time, now))),
            paused: situation.asked.and_then(|asked| asked.paused.as_ref()).map(SaidView::from),
            request: pending
                .filter(|posted| situation.is_pending(&posted.request))
                .map(|posted| request(posted, now)),
            problems: problems(situation),
            instances: situation.instances.iter().map(|seen| instance(seen, situation)).collect(),
            ..Self::default()
        }
    }

    /// As an operator types it.
    pub(super) fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

fn request(posted: &Posted, now: i64) -> RequestView {
    RequestView {
        id: posted.request.id.clone(),
        verb: posted.request.verb.as_str().to_owned(),
        target: posted.request.target.as_ref().map(|target| target.as_str().to_owned()),
        said: SaidView::from(&posted.said),
        asked_ago_ms: Some(whole_ms(between(posted.at, now))),
    }
}

fn instance(seen: &SeenInstance, situation: &Situation<'_>) -> InstanceView {
    let now = situation.database_now;
    InstanceView {
        instance: seen.holder.clone(),
        pod: seen.whereabouts.pod.clone(),
        node: seen.whereabouts.node.clone(),
        program_version: seen.program_version.clone(),
        mode: seen.mode.map(crate::membership::Mode::as_str),
        since: Some(time(seen.start_time)),
        alive_for_ms: Some(whole_ms(between(seen.start_time, now))),
        heartbeat_ago_ms: Some(whole_ms(between(seen.heartbeat, now))),
        healthy: seen.healthy,
        could_lead: situation.others().any(|other| other.id == seen.id),
        leads: situation.row.is_some_and(|row| row.holder == seen.holder),
    }
}

fn problems(situation: &Situation<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(quarantine) = situation.quarantine() {
        found.push(format!(
            "The database has changed lately: nobody takes a lease before its quarantine ends, within {} s.",
            quarantine.as_secs()
        ));
    }
    if let Leader::Unheard(holder) = situation.leader() {
        found.push(format!(
            "{} gives no sign of life in component_instance: it is a program with its own SQL, or it has ended.",
            safe(holder)
        ));
    }
    if let Some(row) = situation.row {
        let led = situation.instances.iter().filter(|seen| {
            seen.leads.is_some_and(|version| version < row.version) && seen.holder != row.holder
        });
        for seen in led {
            found.push(format!(
                "{} said in its last heartbeat that it leads version {}; the row is at {}.",
                safe(&seen.holder),
                seen.leads.unwrap_or_default(),
                row.version
            ));
        }
    }
    if situation.others().next().is_none() {
        found.push("Nobody else is alive and healthy, so nobody could take over.".to_owned());
    }
    found
}
