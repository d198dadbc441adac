//! What a cluster tells of its leases.

mod verbs;

use std::time::Duration;

use kube::api::ListParams;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config, ResourceExt as _};

use super::database::not_found;
use super::timeline::{LEADS, NOT_KNOWN, TermView};
use super::view::{InstanceView, LeaseView, RequestView, SaidView, State, whole_ms};
use super::words::{between, safe, span};
use crate::api::{
    self, ComponentLease, ComponentLeaseStatus, LastTransition, LeaseRequest, RequestState, RequestVerb,
    TermStatus,
};
use crate::clock::{Clock, SystemClock};
use crate::election::Verb;
use crate::process::exit::chain;
use crate::process::{ExitCode, Failure};
use crate::routing::conditions::{ConditionType, Reason};

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A cluster, and the namespace that is meant where none is named.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Cluster {
    /// By the kubeconfig, or the service account of the pod that this runs in.
    pub(super) async fn new(context: Option<String>, namespace: Option<String>) -> Result<Self, Failure> {
        let hint = "set KUBECONFIG, or name a database with --database-url";
        let config = match context {
            Some(context) => {
                let options = KubeConfigOptions { context: Some(context), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options).await.map_err(|error| chain(&error))
            }
            None => Config::infer().await.map_err(|error| chain(&error)),
        };
        let mut config = config.map_err(|error| {
            Failure::config(format!("no way to a cluster is configured ({hint}): {error}"))
        })?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| {
            Failure::config(format!("the way to the cluster cannot be used: {}", chain(&error)))
        })?;
        Ok(Self { client, namespace })
    }

    /// `NAME` or `NAMESPACE/NAME`.
    pub(super) fn address<'a>(&'a self, name: &'a str) -> (&'a str, &'a str) {
        name.split_once('/').unwrap_or((&self.namespace, name))
    }

    pub(super) fn leases(&self, namespace: &str) -> Api<ComponentLease> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) async fn resource(&self, name: &str) -> Result<ComponentLease, Failure> {
        let (namespace, name) = self.address(name);
        match self.leases(namespace).get_opt(name).await {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) if self.knows_our_kind().await => {
                Err(not_found(name, &format!("the namespace {namespace}")))
            }
            Ok(None) => Err(no_kind()),
            Err(error) => Err(failed(&error)),
        }
    }

    pub(super) async fn one(&self, name: &str) -> Result<LeaseView, Failure> {
        Ok(view(&self.resource(name).await?))
    }

    /// The lease with the request that is pending, and why its term began.
    pub(super) async fn story(&self, name: &str) -> Result<(LeaseView, Option<String>), Failure> {
        let lease = self.resource(name).await?;
        let mut view = view(&lease);
        let api: Api<LeaseRequest> = Api::namespaced(self.client.clone(), self.address(name).0);
        let of_this = ListParams::default().fields(&format!("spec.lease={}", lease.name_any()));
        // To see leases is one right, to see what is asked of them another.
        if let Ok(requests) = api.list(&of_this).await {
            view.request = requests.items.iter().find_map(|request| pending(request, SystemClock.wall_ms()));
        }
        let last =
            lease.status.as_ref().and_then(|status| status.last_transition.as_ref()).and_then(last_change);
        Ok((view, last))
    }

    /// The present term, and how the one before ended: all that a resource remembers.
    pub(super) async fn history(&self, name: &str) -> Result<Vec<TermView>, Failure> {
        let lease = self.resource(name).await?;
        Ok(lease.status.map_or_else(Vec::new, |status| terms(&status, SystemClock.wall_ms())))
    }

    /// In order of namespace and name.
    pub(super) async fn all(&self, everywhere: bool) -> Result<Vec<LeaseView>, Failure> {
        let api: Api<ComponentLease> =
            if everywhere { Api::all(self.client.clone()) } else { self.leases(&self.namespace) };
        let mut views = Vec::new();
        let mut params = ListParams::default().limit(500);
        loop {
            let page = match api.list(&params).await {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 404 => return Err(no_kind()),
                Err(error) => return Err(failed(&error)),
            };
            views.extend(page.items.iter().map(view));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(views),
            }
        }
    }

    /// Whether the definition is installed: a missing kind and a missing object are the same answer.
    async fn knows_our_kind(&self) -> bool {
        self.client.list_api_group_resources("componentlease.io/v1alpha1").await.is_ok()
    }
}

fn no_kind() -> Failure {
    Failure::config(
        "this cluster has no ComponentLeases; install the chart (docs/how-to/install.md), or name a database with --database-url",
    )
}

/// What an API server answered, for a person.
pub(super) fn failed(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 401 || status.code == 403 => Failure::config(format!(
            "the cluster refuses: {}; ask for the role that docs/reference.md names",
            status.message
        )),
        kube::Error::Api(status) if status.code == 404 => no_kind(),
        // It may have been done all the same.
        kube::Error::Api(status) if status.code == 429 || status.code >= 500 => {
            Failure::new(ExitCode::Unavailable, format!("the cluster fails: {}", status.message))
        }
        kube::Error::Api(status) => {
            Failure::new(ExitCode::Refused, format!("the cluster refuses: {}", status.message))
        }
        other => {
            Failure::new(ExitCode::Unavailable, format!("the cluster does not answer: {}", chain(other)))
        }
    }
}

/// What a resource tells.
pub(super) fn view(lease: &ComponentLease) -> LeaseView {
    let status = lease.status.clone().unwrap_or_default();
    let term = status.term.clone().unwrap_or_default();
    let now = SystemClock.wall_ms();
    let component =
        status.component.clone().or_else(|| api::component(lease).ok().map(|name| name.as_str().to_owned()));
    let ready = condition(&status, ConditionType::Ready);
    let held = term.holder.filter(|holder| !holder.is_empty());
    let began = term.start_time.as_deref().and_then(millis);
    LeaseView {
        name: lease.name_any(),
        namespace: lease.namespace(),
        component: component.unwrap_or_default(),
        state: state(&status),
        pod: status.leader.as_ref().map(|leader| leader.pod_name.clone()),
        node: status.leader.as_ref().and_then(|leader| leader.node_name.clone()),
        version: status.term.as_ref().map(|term| term.version),
        ttl_seconds: term.ttl_seconds,
        led_for_ms: held.as_ref().and(began).map(|began| whole_ms(between(began, now))),
        since: held.as_ref().and(term.start_time.clone()),
        ready: ready.map(|condition| condition.status.as_str().to_owned()),
        reason: ready.map(|condition| condition.reason.clone()),
        problems: problems(&status),
        instances: status
            .instances
            .iter()
            .map(|one| InstanceView {
                instance: one.instance.clone(),
                pod: one.pod.clone(),
                node: one.node_name.clone(),
                program_version: one.program_version.clone(),
                mode: None,
                since: one.start_time.clone(),
                alive_for_ms: one.start_time.as_deref().and_then(millis).map(|at| whole_ms(between(at, now))),
                heartbeat_ago_ms: None,
                healthy: one.healthy,
                could_lead: one.healthy && held.as_deref() != Some(one.instance.as_str()),
                leads: held.as_deref() == Some(one.instance.as_str()),
            })
            .collect(),
        holder: held,
        paused: paused(lease, &status),
        ..LeaseView::default()
    }
}

/// The terms that a status tells of, the newest first.
fn terms(status: &ComponentLeaseStatus, now: i64) -> Vec<TermView> {
    let none = || TermView {
        version: None,
        holder: String::new(),
        began: None,
        ended: None,
        led_for_ms: None,
        end: NOT_KNOWN.to_owned(),
        asked: None,
        without_leader_ms: None,
    };
    let term = status.term.as_ref();
    let last = status.last_transition.as_ref();
    // A program with its own SQL may count the version up with each renewal: that is no change of leader.
    let is_of = |term: &TermStatus, last: &LastTransition| {
        term.version == last.version || term.holder.as_ref() == Some(&last.to)
    };
    let last = last.filter(|last| term.is_some_and(|term| is_of(term, last)));
    let led = state(status) == State::Led;
    let present = term.map(|term| {
        let began = term.start_time.clone().or_else(|| last.and_then(|last| last.time.clone()));
        TermView {
            version: Some(term.version),
            holder: term.holder.clone().or_else(|| last.map(|last| last.to.clone())).unwrap_or_default(),
            led_for_ms: began
                .as_deref()
                .and_then(millis)
                .filter(|_| led)
                .map(|at| whole_ms(between(at, now))),
            began,
            end: if led { LEADS } else { NOT_KNOWN }.to_owned(),
            without_leader_ms: last
                .and_then(|last| last.without_leader_milliseconds)
                .and_then(|ms| u64::try_from(ms).ok()),
            ..none()
        }
    });
    let before = last.and_then(|last| {
        Some(TermView {
            holder: last.from.clone()?,
            end: last.reason.as_deref().map_or_else(|| NOT_KNOWN.to_owned(), snake),
            asked: last.requested_by.clone().map(|by| SaidView { by, reason: String::new() }),
            ..none()
        })
    });
    present.into_iter().chain(before).collect()
}

/// A reason as the table writes it.
fn snake(reason: &str) -> String {
    let mut word = String::new();
    for letter in reason.chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// A request that is written into the database and not over.
fn pending(request: &LeaseRequest, now: i64) -> Option<RequestView> {
    let status = request.status.as_ref().filter(|status| status.state == RequestState::Accepted)?;
    let asked = status.accepted_at.as_deref().and_then(millis);
    Some(RequestView {
        id: status.id.clone().unwrap_or_default(),
        verb: words_of(request.spec.verb).to_owned(),
        target: request.spec.target.clone(),
        said: SaidView {
            by: request.spec.requested_by.clone(),
            reason: request.spec.reason.clone().unwrap_or_default(),
        },
        asked_ago_ms: asked.map(|asked| whole_ms(between(asked, now))),
    })
}

/// As the database has it.
fn words_of(verb: RequestVerb) -> &'static str {
    match verb {
        RequestVerb::Switchover => Verb::Switchover,
        RequestVerb::StepDown => Verb::StepDown,
        RequestVerb::Promote => Verb::Promote,
        RequestVerb::PromoteNow => Verb::PromoteNow,
    }
    .as_str()
}

/// Why the present term began: a line of `describe`.
fn last_change(last: &LastTransition) -> Option<String> {
    let from = last.from.as_deref()?;
    let why = last.reason.as_deref().map(|reason| format!(" until it ended ({})", safe(reason)));
    let by = last.requested_by.as_deref().map(|by| format!(", asked by {}", safe(by)));
    let gap = last.without_leader_milliseconds.and_then(|ms| u64::try_from(ms).ok());
    let gap = gap.map(|ms| format!("; nobody led for {}", span(Duration::from_millis(ms))));
    let rest = [why, by, gap].into_iter().flatten().collect::<String>();
    Some(format!("Before it {} led{rest}.", safe(from)))
}

/// Who paused the election, and why, as the controller says it.
fn paused(lease: &ComponentLease, status: &ComponentLeaseStatus) -> Option<SaidView> {
    let paused = condition(status, ConditionType::Paused)?;
    if paused.reason == Reason::PausedBySpec.as_str() {
        let reason = lease.spec.paused_reason.clone().unwrap_or_default();
        return Some(SaidView { by: "spec.paused".to_owned(), reason });
    }
    // The condition's own sentence says who it was, and why.
    Some(SaidView { by: "an operator".to_owned(), reason: paused.message.clone() })
}

fn condition(status: &ComponentLeaseStatus, kind: ConditionType) -> Option<&api::StatusCondition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

fn state(status: &ComponentLeaseStatus) -> State {
    let elected = condition(status, ConditionType::LeaderElected);
    match (elected.map(|elected| (elected.status, elected.reason.as_str())), &status.term) {
        (Some((api::ConditionStatus::True, _)), _) => State::Led,
        (Some((_, reason)), _) if reason == Reason::Expired.as_str() => State::Lapsed,
        (Some((api::ConditionStatus::False, _)), Some(term)) if term.holder.is_none() => State::Free,
        (Some((api::ConditionStatus::False, _)), None) => State::NeverLed,
        _ => State::Unknown,
    }
}

/// Conditions that are good while they are True.
const GOOD: [ConditionType; 5] = [
    ConditionType::Ready,
    ConditionType::LeaderElected,
    ConditionType::HolderAccepted,
    ConditionType::Routed,
    ConditionType::DatabaseReachable,
];

/// What the controller says about what is not as it should be.
fn problems(status: &ComponentLeaseStatus) -> Vec<String> {
    let wrong = status.conditions.iter().filter(|condition| {
        let good = GOOD.iter().any(|kind| kind.as_str() == condition.type_);
        let wrong = if good { api::ConditionStatus::False } else { api::ConditionStatus::True };
        condition.status == wrong && condition.type_ != ConditionType::Ready.as_str()
    });
    wrong
        .map(|condition| safe(&format!("{} ({}): {}", condition.type_, condition.reason, condition.message)))
        .collect()
}

fn millis(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod history_tests;
