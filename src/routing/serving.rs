//! Whether users get answers from the pod that leads: it is ready, and the Service has a ready endpoint for it. A
//! kubelet, a node and the EndpointSlice controller decide that, all by themselves and as often as they like, so
//! [`Steady`] bounds how often it is said anew.

use std::time::Duration;

use super::conditions::{Reason, Truth};
use super::decide::Plan;
use super::observed::{Endpoint, Observed, SeenService, ServiceSight};
use super::pod::Pod;
use crate::election::timing::Moment;

/// Once a leader was served again, it counts as served after it has been so for this long.
pub const STEADY: Duration = Duration::from_secs(5);

/// Why the leader's pod is not served, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unserved {
    pub reason: Reason,
    pub why: String,
}

impl Unserved {
    fn no(reason: Reason, why: String) -> Self {
        Self { reason, why }
    }

    /// What `Routed` is by that.
    #[must_use]
    pub fn truth(&self) -> Truth {
        if self.reason == Reason::Forbidden { Truth::Unknown } else { Truth::False }
    }
}

/// Why users get no answers from the pod that leads. `None` where they do, or where nobody leads.
#[must_use]
pub fn unserved(o: &Observed, plan: &Plan) -> Option<Unserved> {
    let leader = plan.leader.as_ref()?.as_ref().ok()?;
    if let Some(why) = &leader.unready {
        let why = format!("pod {} leads, but is not ready: {why}", leader.name);
        return Some(Unserved::no(Reason::LeaderNotReady, why));
    }
    let service = o.desired.service.as_ref()?;
    let (name, pod) = (&service.name, &leader.name);
    match &o.service {
        ServiceSight::Exists(seen) => by_endpoints(o, name, seen, leader),
        ServiceSight::Missing if service.managed => {
            let why = format!("Service {name} has no endpoint for pod {pod} yet");
            Some(Unserved::no(Reason::NoEndpoint, why))
        }
        // That is said in its own words.
        ServiceSight::Missing | ServiceSight::NotAsked | ServiceSight::Unknown(_) => None,
    }
}

fn by_endpoints(o: &Observed, name: &str, service: &SeenService, leader: &Pod) -> Option<Unserved> {
    let endpoints = match &o.endpoints {
        Ok(endpoints) => endpoints,
        Err(error) => return Some(Unserved::no(Reason::Forbidden, error.clone())),
    };
    let pod = &leader.name;
    let of_leader = |endpoint: &&Endpoint| endpoint.pod == leader.uid || endpoint.pod == leader.name;
    let of_leader: Vec<&Endpoint> = endpoints.iter().filter(of_leader).collect();
    if of_leader.is_empty() {
        let why = format!("Service {name} has no endpoint for pod {pod} in any of its EndpointSlices");
        return Some(Unserved::no(Reason::NoEndpoint, why));
    }
    // One without ports leads to the pods and to no port of them.
    let offered =
        |port: &str| of_leader.iter().any(|endpoint| endpoint.ports.iter().any(|known| known == port));
    let lacking = service.ports.iter().find(|port| !offered(port.name.as_deref().unwrap_or_default()));
    if let Some(port) = lacking {
        let by_name = port.target.as_deref().filter(|target| target.parse::<u16>().is_err());
        let hint = by_name.map_or_else(
            || " yet".to_owned(),
            |target| format!(": name a port of one of its containers {target}, or correct targetPort"),
        );
        let why = format!("Service {name} has no endpoint for its port {} at pod {pod}{hint}", port.port);
        return Some(Unserved::no(Reason::NoEndpoint, why));
    }
    // The only endpoint gets requests until its pod has ended, unless names lead to it without a proxy.
    let serves = |endpoint: &&Endpoint| endpoint.ready || endpoint.draining && !service.headless;
    if of_leader.iter().any(serves) {
        return None;
    }
    let why = format!("the endpoint of pod {pod} in Service {name} is not ready");
    Some(Unserved::no(Reason::LeaderNotReady, why))
}

/// What was last said of a term.
#[derive(Debug, Default)]
enum Said {
    #[default]
    Nothing,
    Serves,
    Unserved(Unserved),
}

/// What is said of one resource. Bad news is said at once, and so is the first good news of a term. After that a
/// change is said when it has lasted: an endpoint that flips ten times a second is one that does not serve.
#[derive(Debug, Default)]
pub struct Steady {
    /// The pod's UID and the version of its term.
    term: Option<(String, i64)>,
    said: Said,
    /// What is seen by now, and since when.
    seen: Option<(Option<Unserved>, Moment)>,
    recovered: bool,
}

impl Steady {
    /// What to say, and when to look again if nothing happens before.
    pub fn say(
        &mut self,
        (pod, version): (&str, i64),
        sight: Option<Unserved>,
        now: Moment,
    ) -> (Option<Unserved>, Option<Moment>) {
        if self.term.as_ref().is_none_or(|(known, term)| known != pod || *term != version) {
            *self = Self { term: Some((pod.to_owned(), version)), ..Self::default() };
        }
        let since = match &self.seen {
            Some((seen, since)) if *seen == sight => *since,
            _ => now,
        };
        self.seen = Some((sight.clone(), since));
        let until = since + STEADY;
        let at_once = match &self.said {
            Said::Nothing | Said::Serves => true,
            Said::Unserved(_) if sight.is_none() && !self.recovered => {
                self.recovered = true;
                true
            }
            Said::Unserved(said) => Some(said) == sight.as_ref(),
        };
        if at_once || now >= until {
            self.said = sight.clone().map_or(Said::Serves, Said::Unserved);
            return (sight, None);
        }
        let said = match &self.said {
            Said::Unserved(said) => Some(said.clone()),
            Said::Nothing | Said::Serves => None,
        };
        (said, Some(until))
    }
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
