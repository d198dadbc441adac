//! What the API server does for pods: names, UIDs, resource versions, merge patches with
//! preconditions, and a history that watches follow in order.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use component_lease::routing::decide::PodChange;
use component_lease::routing::pod::Pod;

pub(super) const KEY: &str = "componentlease.io/web";
pub(super) const STAMP: &str = "componentlease.io/web-version";

/// Who put the leader label on a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Author {
    Ours,
    /// Somebody else, in this entry of the history.
    Foreign(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) pod: Pod,
    pub(super) labelled: Option<Author>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Gone,
    Conflict,
}

/// A patch on its way, and the entry of the history that its plan was made on.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    pub(super) change: Rc<PodChange>,
    pub(super) view: usize,
    /// Of the change, so that worlds are compared fast.
    pub(super) hash: u64,
}

impl Patch {
    pub(super) fn new(change: PodChange, view: usize) -> Self {
        let hash = hash(&(&change.uid, &change.resource_version, &change.labels, &change.annotations));
        Self { change: Rc::new(change), view, hash }
    }
}

/// All pods at one moment.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pods: Vec<Stored>,
    pub(super) hash: u64,
}

impl Entry {
    fn new(pods: Vec<Stored>) -> Rc<Self> {
        let told = |s: &Stored| (s.pod.uid.clone(), s.pod.labels.clone(), s.pod.annotations.clone());
        let versions = pods.iter().map(|stored| stored.pod.resource_version.clone());
        let hash = hash(&(pods.iter().map(told).collect::<Vec<_>>(), versions.collect::<Vec<_>>()));
        Rc::new(Self { pods, hash })
    }
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// All pods, now and at every moment before.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) history: Vec<Rc<Entry>>,
    uids: u32,
}

pub(super) fn leads(pod: &Pod) -> bool {
    pod.has_label(KEY, "leader")
}

impl Api {
    pub(super) fn new() -> Self {
        Self { history: vec![Entry::new(Vec::new())], uids: 0 }
    }

    pub(super) fn now(&self) -> usize {
        self.history.len() - 1
    }

    pub(super) fn pods(&self) -> &[Stored] {
        &self.history[self.now()].pods
    }

    fn commit(&mut self, pods: Vec<Stored>) {
        self.history.push(Entry::new(pods));
    }

    /// `started` in ms, as the kubelet will say.
    pub(super) fn create(&mut self, name: &str, started: i64) {
        self.uids += 1;
        let pod = Pod {
            name: name.into(),
            uid: format!("{:08x}-uid", self.uids),
            resource_version: "0".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            started: Some(started),
            ..Pod::default()
        };
        let mut pods = self.pods().to_vec();
        pods.push(Stored { pod, labelled: None });
        self.commit(pods);
    }

    pub(super) fn delete(&mut self, uid: &str) {
        let pods = self.pods().iter().filter(|stored| stored.pod.uid != uid).cloned().collect();
        self.commit(pods);
    }

    /// Somebody else writes a label: no precondition, no care.
    pub(super) fn write_label(&mut self, uid: &str, key: &str, value: &str) {
        let entry = self.history.len();
        let mut pods = self.pods().to_vec();
        let Some(stored) = pods.iter_mut().find(|stored| stored.pod.uid == uid) else { return };
        stored.pod.labels.insert(key.into(), value.into());
        bump(&mut stored.pod);
        if leads(&stored.pod) && stored.labelled.is_none() {
            stored.labelled = Some(Author::Foreign(entry));
        }
        self.commit(pods);
    }

    /// A merge patch of ours. `Err` when it made a second labelled pod that was ours to prevent.
    pub(super) fn patch(&mut self, patch: &Patch, guarded: bool) -> Result<Answer, String> {
        let change = &patch.change;
        let mut pods = self.pods().to_vec();
        let at = pods.iter().position(|s| s.pod.name == change.name && s.pod.uid == change.uid);
        let Some(at) = at else { return Ok(Answer::Gone) };
        if guarded && pods[at].pod.resource_version != change.resource_version {
            return Ok(Answer::Conflict);
        }
        let before = pods[at].pod.clone();
        let pod = &mut pods[at].pod;
        for (map, changes) in [(&mut pod.labels, &change.labels), (&mut pod.annotations, &change.annotations)]
        {
            for (key, value) in changes {
                match value {
                    Some(value) => map.insert(key.clone(), value.clone()),
                    None => map.remove(key),
                };
            }
        }
        if *pod == before {
            return Ok(Answer::Done);
        }
        bump(pod);
        let (was, is) = (leads(&before), leads(pod));
        if !is {
            pods[at].labelled = None;
        }
        if is && !was {
            pods[at].labelled = Some(Author::Ours);
            for (_, other) in pods.iter().enumerate().filter(|(i, _)| *i != at) {
                let ours_to_prevent = match other.labelled {
                    None => false,
                    Some(Author::Ours) => true,
                    Some(Author::Foreign(entry)) => entry <= patch.view,
                };
                if ours_to_prevent {
                    return Err(format!(
                        "labelled {} while {} carried the label ({:?}, plan made on {})",
                        change.name, other.pod.name, other.labelled, patch.view
                    ));
                }
            }
        }
        self.commit(pods);
        Ok(Answer::Done)
    }
}

fn bump(pod: &mut Pod) {
    let version: u32 = pod.resource_version.parse().expect("ours are numbers");
    pod.resource_version = (version + 1).to_string();
}
