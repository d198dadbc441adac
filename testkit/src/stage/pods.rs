//! The history of a label, written down from a watch: which pods carried it, since when, and who
//! wrote it.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::control_plane::ControlPlane;

/// Who may write the label.
const OURS: &str = "component-lease";

/// Something that happened to a pod.
#[derive(Debug, Clone)]
pub struct PodEvent {
    pub at: Instant,
    pub pod: String,
    pub what: PodChange,
    /// Who wrote the label last.
    pub by: Option<String>,
    /// The pods that carried the label afterwards.
    pub labelled: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodChange {
    Labelled,
    Stripped,
    /// It was asked to end.
    Ending,
    Gone,
}

impl PodEvent {
    /// A second labelled pod, and it was us who labelled it.
    #[must_use]
    pub fn second_by_us(&self) -> bool {
        self.what == PodChange::Labelled && self.labelled.len() > 1 && self.by.as_deref() == Some(OURS)
    }
}

/// A recorder at work. Dropping it ends it.
#[derive(Debug)]
pub struct Pods {
    events: Arc<Mutex<Vec<PodEvent>>>,
    watch: Child,
}

fn lock(events: &Mutex<Vec<PodEvent>>) -> MutexGuard<'_, Vec<PodEvent>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pods {
    /// Begins to write down what becomes of `label` = `leader` on the pods of a selector.
    ///
    /// # Errors
    /// When kubectl cannot be run.
    pub fn record(plane: &ControlPlane, namespace: &str, selector: &str, label: &str) -> Result<Self> {
        let mut watch = plane.kubectl_command().into_std();
        watch
            .args(["-n", namespace, "get", "pods", "-l", selector, "-o", "json"])
            .args(["--watch", "--output-watch-events", "--show-managed-fields"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut watch = watch.spawn().context("cannot run kubectl")?;
        let stream = watch.stdout.take().expect("the pipe was asked for");
        let events = Arc::<Mutex<Vec<PodEvent>>>::default();
        let (list, label) = (Arc::clone(&events), label.to_owned());
        std::thread::spawn(move || follow(stream, &list, &label));
        Ok(Self { events, watch })
    }

    /// Everything so far.
    #[must_use]
    pub fn events(&self) -> Vec<PodEvent> {
        lock(&self.events).clone()
    }

    /// Whether the watch is still on: without it nothing is written down.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn is_watching(&mut self) -> Result<bool> {
        Ok(self.watch.try_wait()?.is_none())
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

fn follow(stream: ChildStdout, list: &Mutex<Vec<PodEvent>>, label: &str) {
    let mut seen = Seen::default();
    for event in serde_json::Deserializer::from_reader(BufReader::new(stream)).into_iter::<Value>() {
        let Ok(event) = event else { return };
        let new = seen.take(&event, label, Instant::now());
        lock(list).extend(new);
    }
}

/// What is known of the pods, by UID.
#[derive(Default)]
struct Seen(BTreeMap<String, Known>);

#[derive(Clone, Default)]
struct Known {
    name: String,
    labelled: bool,
    ending: bool,
}

impl Seen {
    fn take(&mut self, event: &Value, label: &str, at: Instant) -> Vec<PodEvent> {
        let (kind, pod) = (&event["type"], &event["object"]);
        let meta = &pod["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (uid, name) = (text(&meta["uid"]), text(&meta["name"]));
        let before = self.0.get(&uid).cloned().unwrap_or_default();
        let mut changes = Vec::new();
        if kind == "DELETED" {
            self.0.remove(&uid);
            changes.push(PodChange::Gone);
        } else {
            let now = Known {
                name: name.clone(),
                labelled: meta["labels"][label] == "leader",
                ending: !meta["deletionTimestamp"].is_null(),
            };
            match (before.labelled, now.labelled) {
                (false, true) => changes.push(PodChange::Labelled),
                (true, false) => changes.push(PodChange::Stripped),
                _ => {}
            }
            if now.ending && !before.ending {
                changes.push(PodChange::Ending);
            }
            self.0.insert(uid, now);
        }
        let labelled: Vec<String> =
            self.0.values().filter(|pod| pod.labelled).map(|pod| pod.name.clone()).collect();
        let by = writer(meta, label);
        let event =
            |what| PodEvent { at, pod: name.clone(), what, by: by.clone(), labelled: labelled.clone() };
        changes.into_iter().map(event).collect()
    }
}

/// The manager of a label, as the managed fields tell.
fn writer(meta: &Value, label: &str) -> Option<String> {
    let key = format!("f:{label}");
    let fields = meta["managedFields"].as_array()?;
    let owns = |entry: &&Value| entry["fieldsV1"]["f:metadata"]["f:labels"].get(&key).is_some();
    Some(fields.iter().find(owns)?["manager"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, pod: &str, value: &str, manager: &str) -> Value {
        json!({"type": kind, "object": {"metadata": {
        "uid": format!("uid-{pod}"), "name": pod, "labels": {"l": value},
        "managedFields": [
            {"manager": "kubelet", "fieldsV1": {"f:status": {}}},
            {"manager": manager, "fieldsV1": {"f:metadata": {"f:labels": {"f:l": {}}}}},
        ]}}})
    }

    fn events(list: &[Value]) -> Vec<PodEvent> {
        let mut seen = Seen::default();
        list.iter().flat_map(|event| seen.take(event, "l", Instant::now())).collect()
    }

    #[test]
    fn a_second_labelled_pod_is_ours_only_if_we_wrote_its_label() {
        for (manager, ours) in [(OURS, true), ("kubectl-label", false)] {
            let list = [event("ADDED", "a", "leader", OURS), event("ADDED", "b", "leader", manager)];
            let events = events(&list);
            assert_eq!(events.iter().map(PodEvent::second_by_us).collect::<Vec<_>>(), [false, ours]);
        }
    }

    #[test]
    fn a_pod_that_is_stripped_or_gone_makes_room_for_the_next() {
        let events = events(&[
            event("ADDED", "a", "leader", OURS),
            event("MODIFIED", "a", "standby", OURS),
            event("MODIFIED", "b", "leader", OURS),
            event("DELETED", "b", "leader", OURS),
            event("MODIFIED", "c", "leader", OURS),
        ]);
        use PodChange::{Gone, Labelled, Stripped};
        let what: Vec<_> = events.iter().map(|event| event.what).collect();
        assert_eq!(what, [Labelled, Stripped, Labelled, Gone, Labelled]);
        assert!(!events.iter().any(PodEvent::second_by_us));
    }

    #[test]
    fn a_pod_is_asked_to_end_once() {
        let mut ending = event("MODIFIED", "a", "standby", OURS);
        ending["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let events = events(&[ending.clone(), ending]);
        assert_eq!(events.iter().map(|event| event.what).collect::<Vec<_>>(), [PodChange::Ending]);
    }
}
