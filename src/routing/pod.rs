//! Pods as the decision sees them: what was observed, with nothing of a Kubernetes client in it.

use std::collections::BTreeMap;

/// Prefix of every label and annotation that is ours.
pub const PREFIX: &str = "componentlease.io/";
/// Kubernetes' own annotation: of the pods of a ReplicaSet that shrinks, those with a lower cost go first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// One observed pod.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    /// Goes into every patch, so that a patch made on an older view fails.
    pub resource_version: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub ips: Vec<String>,
    pub node: Option<String>,
    /// Its node takes no new pods: what runs there is about to be evicted.
    pub cordoned: bool,
    /// Its loopback interface is the node's, which others use too.
    pub host_network: bool,
    /// When it was made: ms since 1970 UTC.
    pub created: Option<i64>,
    /// Its deletion was asked for.
    pub terminating: bool,
    /// Phase Succeeded or Failed.
    pub finished: bool,
    /// Kind and name of what makes such pods and owns it, as in `ReplicaSet web-7d9`.
    pub workload: Option<String>,
    /// Why it is not ready, in a few words.
    pub unready: Option<String>,
    /// When the kubelet accepted it: ms since 1970 UTC.
    pub started: Option<i64>,
    /// Of all kinds, in no particular order.
    pub containers: Vec<Container>,
}

/// One container as the kubelet last reported it. A restart makes another one in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    pub now: Incarnation,
    /// The one before the last restart.
    pub before: Option<Incarnation>,
}

/// One life of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Incarnation {
    /// It has not begun yet, or not again.
    #[default]
    Waiting,
    Running {
        id: Option<String>,
    },
    Ended {
        id: Option<String>,
        end: End,
    },
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// The node's clock, ms since 1970 UTC.
    pub at: Option<i64>,
    /// The kubelet had lost sight of it.
    pub guessed: bool,
}

impl Incarnation {
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Waiting => None,
            Self::Running { id } | Self::Ended { id, .. } => id.as_deref(),
        }
    }

    #[must_use]
    pub fn end(&self) -> Option<&End> {
        match self {
            Self::Ended { end, .. } => Some(end),
            Self::Waiting | Self::Running { .. } => None,
        }
    }
}

impl Container {
    pub fn incarnations(&self) -> impl Iterator<Item = &Incarnation> {
        std::iter::once(&self.now).chain(&self.before)
    }
}

/// Which pods are candidates. Never empty: an empty selector would mean every pod of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One line of a selector; all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::DoesNotExist(key) => key,
        }
    }
}

impl Selector {
    /// `None` when there is no requirement at all.
    #[must_use]
    pub fn new(requirements: Vec<Requirement>) -> Option<Self> {
        (!requirements.is_empty()).then_some(Self(requirements))
    }

    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether a pod that carries these labels, and any others, may match.
    #[must_use]
    pub fn may_match(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_none_or(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(_) => true,
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }

    /// The labels that every match carries, as far as a Service can say so too.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) => {
                Some((key.as_str(), values.first().filter(|_| values.len() == 1)?.as_str()))
            }
            _ => None,
        })
    }

    /// All must hold.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    #[must_use]
    pub fn mentions(&self, key: &str) -> bool {
        self.0.iter().any(|requirement| requirement.key() == key)
    }
}

/// The keys under which a lease marks pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    pub version: String,
    pub label: String,
    /// The deletion cost that we gave the pod: what somebody else has written there is left alone.
    pub cost: String,
}

impl Marks {
    /// Of the lease with this name.
    #[must_use]
    pub fn of(lease: &str) -> Self {
        let mark = |what: &str| format!("{PREFIX}{lease}-{what}");
        Self { version: mark("version"), label: mark("label"), cost: mark("deletion-cost") }
    }

    /// The names of the leases that have stamped a pod, and the label key each of them used.
    pub fn stamps(pod: &Pod) -> impl Iterator<Item = (&str, String)> {
        pod.annotations.keys().filter_map(|key| {
            let lease = key.strip_prefix(PREFIX)?.strip_suffix("-version")?;
            let label = pod.annotations.get(&Self::of(lease).label);
            Some((lease, label.cloned().unwrap_or_else(|| default_label_key(lease))))
        })
    }
}

/// Ends what a `LeaseDatabase` is called in its marks. No resource has an underscore in its name, so the marks of both kinds
/// differ.
const OF_A_DATABASE: &str = "_role";

/// How the `LeaseDatabase` of this name is called in its marks.
#[must_use]
pub fn database_marks(name: &str) -> String {
    format!("{name}{OF_A_DATABASE}")
}

/// The `LeaseDatabase` that is called so in marks; `None` for a `ComponentLease`.
#[must_use]
pub fn marked_database(lease: &str) -> Option<&str> {
    lease.strip_suffix(OF_A_DATABASE)
}

/// Whether some `LeaseDatabase` may lead to its primary by this label.
#[must_use]
pub fn is_label_key_of_a_database(key: &str) -> bool {
    key.strip_prefix(PREFIX).is_some_and(|marks| marked_database(marks).is_some())
}

#[must_use]
pub fn default_label_key(lease: &str) -> String {
    format!("{PREFIX}{lease}")
}

impl Pod {
    /// The version that this lease last stamped on the pod.
    #[must_use]
    pub fn stamped(&self, marks: &Marks) -> Option<i64> {
        self.annotations.get(&marks.version)?.parse().ok()
    }

    /// The deletion cost that we gave the pod, if it is still that.
    #[must_use]
    pub fn cost_of_ours(&self, marks: &Marks) -> Option<&str> {
        let ours = self.annotations.get(&marks.cost)?;
        (self.annotations.get(DELETION_COST) == Some(ours)).then_some(ours.as_str())
    }

    /// Forgets the label key that the pod claims to have been stamped with, unless we may write it.
    /// The annotation is anybody's to set, and a patch that also removes a forbidden key is refused
    /// as a whole: the pod would keep the leader label, and nobody else could get it.
    pub fn forget_forbidden_key(&mut self, marks: &Marks, allowed: impl Fn(&str) -> bool) {
        if self.annotations.get(&marks.label).is_some_and(|key| !allowed(key)) {
            self.annotations.remove(&marks.label);
        }
    }

    /// The ids of the containers that run; none of them while one has yet to begin, since its id is
    /// not known yet.
    #[must_use]
    pub fn container_ids(&self) -> Vec<String> {
        let left = self.containers.iter().filter(|container| container.now.end().is_none());
        left.map(|container| container.now.id().map(ToOwned::to_owned))
            .collect::<Option<_>>()
            .unwrap_or_default()
    }

    #[must_use]
    pub fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.get(key).is_some_and(|v| v == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_selector_matches_as_kubernetes_does() {
        let s = |r| Selector::new(vec![r]).unwrap();
        let app = labels(&[("app", "discovery")]);
        let v = vec!["discovery".to_owned()];
        assert!(s(Requirement::In("app".into(), v.clone())).matches(&app));
        assert!(!s(Requirement::In("app".into(), v.clone())).matches(&labels(&[])));
        assert!(
            s(Requirement::NotIn("app".into(), v.clone())).matches(&labels(&[])),
            "absent counts as not in"
        );
        assert!(!s(Requirement::NotIn("app".into(), v)).matches(&app));
        assert!(s(Requirement::Exists("app".into())).matches(&app));
        assert!(s(Requirement::DoesNotExist("other".into())).matches(&app));
        assert_eq!(Selector::new(vec![]), None);
    }

    #[test]
    fn a_label_key_that_a_pod_only_claims_is_believed_when_it_may_be_written() {
        let marks = Marks::of("a");
        let claims =
            |key: &str| Pod { annotations: labels(&[(marks.label.as_str(), key)]), ..Pod::default() };
        let allowed = |key: &str| key.starts_with("example.org/");
        for (key, kept) in [("example.org/role", true), ("pod-template-hash", false)] {
            let mut pod = claims(key);
            pod.forget_forbidden_key(&marks, allowed);
            assert_eq!(pod.annotations.contains_key(&marks.label), kept, "{key}");
        }
    }

    #[test]
    fn the_marks_of_a_database_are_no_resources_of_the_other_kind() {
        assert_eq!(marked_database(&database_marks("web")), Some("web"));
        assert_eq!(marked_database("web"), None);
        assert_eq!(default_label_key(&database_marks("web")), "componentlease.io/web_role");
    }

    #[test]
    fn a_stamped_pod_tells_which_lease_and_which_label_key() {
        let pod = Pod {
            annotations: labels(&[
                ("componentlease.io/a-version", "3"),
                ("componentlease.io/b-version", "4"),
                ("componentlease.io/b-label", "example.org/role"),
                ("other.io/c-version", "5"),
            ]),
            ..Pod::default()
        };
        let stamps: Vec<_> = Marks::stamps(&pod).collect();
        assert_eq!(stamps, [("a", "componentlease.io/a".to_owned()), ("b", "example.org/role".to_owned())]);
    }
}
