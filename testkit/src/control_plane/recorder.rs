//! Watches every write to the pods of a namespace and judges one label: at no time may two pods
//! carry it because of the same writer, and what somebody else does must not last.
//!
//! The managed fields say who wrote: a label belongs to the writer that changed it last.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::ControlPlane;

/// One pod that began or ceased to carry the label.
#[derive(Debug, Clone)]
pub struct LabelChange {
    pub at: Instant,
    pub pod: String,
    pub uid: String,
    /// Whether it carries the label from now on.
    pub labelled: bool,
    /// The field manager that put it there; empty when it was taken away.
    pub by: String,
}

/// More than one pod carried the label.
#[derive(Debug, Clone)]
pub struct Duplicate {
    pub began: Instant,
    /// `None` while it lasts.
    pub lasted: Option<Duration>,
    /// Pod and field manager, of each that carried it when it began.
    pub pods: Vec<(String, String)>,
    /// The field manager whose label made it one too many.
    pub made_by: String,
}

/// A pod that was asked to end, or taken away without being asked.
#[derive(Debug, Clone)]
pub struct Ending {
    pub at: Instant,
    pub pod: String,
    pub uid: String,
}

impl Duplicate {
    /// Whether this manager has put the label on two of these pods.
    #[must_use]
    pub fn is_by(&self, manager: &str) -> bool {
        self.pods.iter().filter(|(_, by)| by == manager).count() > 1
    }
}

#[derive(Debug, Default)]
struct State {
    /// By UID: name and manager of each pod that carries the label.
    labelled: BTreeMap<String, (String, String)>,
    changes: Vec<LabelChange>,
    duplicates: Vec<Duplicate>,
    endings: Vec<Ending>,
    events: u64,
    ended: Option<String>,
}

/// Records until dropped.
#[derive(Debug)]
pub struct Recorder {
    kubectl: Child,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlPlane {
    /// Begins to record the label `key=value` on the pods of a namespace.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn record_label(&self, namespace: &str, key: &str, value: &str) -> Result<Recorder> {
        let mut command = self.kubectl_command().into_std();
        command
            .args(["-n", namespace, "get", "pods", "--watch", "--output-watch-events"])
            .args(["--show-managed-fields", "--output=json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut kubectl = command.spawn().context("cannot run kubectl")?;
        let output = kubectl.stdout.take().context("the pipe was asked for")?;
        let state = Arc::new(Mutex::new(State::default()));
        let (seen, key, value) = (Arc::clone(&state), key.to_owned(), value.to_owned());
        std::thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
            for event in events {
                match event {
                    Ok(event) => lock(&seen).saw(&event, &key, &value),
                    Err(error) => {
                        lock(&seen).ended = Some(error.to_string());
                        return;
                    }
                }
            }
            lock(&seen).ended = Some("kubectl ended".to_owned());
        });
        Ok(Recorder { kubectl, state })
    }
}

impl State {
    fn saw(&mut self, event: &Value, key: &str, value: &str) {
        let at = Instant::now();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["object"];
        if event["type"] == "ERROR" {
            self.ended = Some(object.to_string());
            return;
        }
        self.events += 1;
        let metadata = &object["metadata"];
        let (pod, uid) = (text(&metadata["name"]), text(&metadata["uid"]));
        let before = self.labelled.len();
        let ends = event["type"] == "DELETED" || !metadata["deletionTimestamp"].is_null();
        if ends && !self.endings.iter().any(|ending| ending.uid == uid) {
            self.endings.push(Ending { at, pod: pod.clone(), uid: uid.clone() });
        }
        let by = manager(metadata, key);
        if event["type"] != "DELETED" && metadata["labels"][key] == value {
            let old = self.labelled.insert(uid.clone(), (pod.clone(), by.clone()));
            if old.is_none() {
                self.changes.push(LabelChange { at, pod, uid, labelled: true, by: by.clone() });
            }
        } else if self.labelled.remove(&uid).is_some() {
            self.changes.push(LabelChange { at, pod, uid, labelled: false, by: String::new() });
        }
        let lasting = self.duplicates.last_mut().filter(|last| last.lasted.is_none());
        match lasting {
            Some(last) if self.labelled.len() < 2 => last.lasted = Some(at - last.began),
            None if self.labelled.len() > 1 => {
                let pods = self.labelled.values().cloned().collect();
                self.duplicates.push(Duplicate { began: at, lasted: None, pods, made_by: by });
            }
            // A third one: another duplicate, whichever pod began the first.
            Some(last) if self.labelled.len() > before => {
                last.lasted = Some(at - last.began);
                let pods = self.labelled.values().cloned().collect();
                self.duplicates.push(Duplicate { began: at, lasted: None, pods, made_by: by });
            }
            _ => {}
        }
    }
}

/// Who owns the label.
fn manager(metadata: &Value, key: &str) -> String {
    let field = format!("f:{key}");
    let owners = metadata["managedFields"].as_array().into_iter().flatten();
    let mut names: Vec<&str> = owners
        .filter(|entry| !entry["fieldsV1"]["f:metadata"]["f:labels"][&field].is_null())
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    names.sort_unstable();
    names.join("+")
}

impl Recorder {
    /// Every time that a pod began or ceased to carry the label.
    #[must_use]
    pub fn changes(&self) -> Vec<LabelChange> {
        lock(&self.state).changes.clone()
    }

    /// Every time that more than one pod carried it.
    #[must_use]
    pub fn duplicates(&self) -> Vec<Duplicate> {
        lock(&self.state).duplicates.clone()
    }

    /// Every pod that was asked to end, or taken away.
    #[must_use]
    pub fn endings(&self) -> Vec<Ending> {
        lock(&self.state).endings.clone()
    }

    /// The names of the pods that carry it as of the last event.
    #[must_use]
    pub fn labelled(&self) -> Vec<String> {
        lock(&self.state).labelled.values().map(|(name, _)| name.clone()).collect()
    }

    /// How many events were seen.
    #[must_use]
    pub fn events(&self) -> u64 {
        lock(&self.state).events
    }

    /// Fails when the watch broke off: what it missed cannot be judged.
    ///
    /// # Errors
    /// Why it broke off.
    pub fn is_whole(&self) -> Result<()> {
        let state = lock(&self.state);
        match &state.ended {
            None => Ok(()),
            Some(why) => anyhow::bail!("the recorder's watch broke off after {} events: {why}", state.events),
        }
    }

    /// Fails when the watch broke off (what it missed cannot be judged), when this manager ever
    /// put the label on a second pod by itself, or when any duplicate lasted longer than `limit`.
    ///
    /// # Errors
    /// What was found.
    pub fn judge(&self, manager: &str, limit: Duration) -> Result<()> {
        self.is_whole()?;
        let state = lock(&self.state);
        let ours: Vec<_> = state.duplicates.iter().filter(|d| d.is_by(manager)).collect();
        anyhow::ensure!(ours.is_empty(), "{manager} labelled a second pod: {ours:?}");
        let long: Vec<_> = (state.duplicates.iter())
            .filter(|d| d.lasted.unwrap_or_else(|| d.began.elapsed()) > limit)
            .collect();
        anyhow::ensure!(long.is_empty(), "more than one pod carried the label for over {limit:?}: {long:?}");
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, pod: &str, value: &str, by: &str) -> Value {
        json!({"type": kind, "object": {"metadata": {
            "name": pod, "uid": format!("uid-{pod}"), "labels": {"role": value},
            "managedFields": [
                {"manager": "kubelet", "fieldsV1": {"f:status": {}}},
                {"manager": by, "fieldsV1": {"f:metadata": {"f:labels": {"f:role": {}}}}},
            ],
        }}})
    }

    fn after(events: &[Value]) -> State {
        let mut state = State::default();
        for event in events {
            state.saw(event, "role", "leader");
        }
        state
    }

    #[test]
    fn a_label_that_moves_is_no_duplicate() {
        let state = after(&[
            event("ADDED", "a", "leader", "us"),
            event("MODIFIED", "a", "standby", "us"),
            event("MODIFIED", "b", "leader", "us"),
        ]);
        assert!(state.duplicates.is_empty());
        assert_eq!(state.changes.len(), 3);
    }

    #[test]
    fn a_duplicate_is_laid_to_those_who_wrote_it() {
        let state = after(&[
            event("ADDED", "a", "leader", "us"),
            event("MODIFIED", "b", "leader", "somebody"),
            event("MODIFIED", "c", "leader", "us"),
            event("DELETED", "b", "leader", "somebody"),
            event("DELETED", "c", "leader", "us"),
        ]);
        let blame: Vec<_> = state.duplicates.iter().map(|d| (d.is_by("us"), d.lasted.is_some())).collect();
        assert_eq!(blame, [(false, true), (true, true)]);
        let makers: Vec<_> = state.duplicates.iter().map(|d| d.made_by.as_str()).collect();
        assert_eq!(makers, ["somebody", "us"]);
    }

    #[test]
    fn a_pod_ends_once_whether_it_was_asked_or_taken() {
        let mut asked = event("MODIFIED", "a", "standby", "us");
        asked["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let gone = |pod| event("DELETED", pod, "standby", "us");
        let state = after(&[asked.clone(), asked, gone("a"), gone("b")]);
        let ended: Vec<_> = state.endings.iter().map(|ending| ending.pod.as_str()).collect();
        assert_eq!(ended, ["a", "b"]);
    }
}
