//! What was written to the API server, by its own audit log.

use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::ControlPlane;

/// One write that the API server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    pub resource: String,
    /// Empty for the object itself, else `status` or the like.
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub user: String,
    pub user_agent: String,
    /// The answer's HTTP status.
    pub code: u64,
    /// When it was answered, as the API server wrote it.
    pub time: String,
}

impl ControlPlane {
    /// A place in the audit log: the writes after it are [`ControlPlane::writes_since`] it.
    ///
    /// # Errors
    /// When there is no such log.
    pub fn audit_mark(&self) -> Result<u64> {
        let file = self.directory().join("log/audit.log");
        Ok(std::fs::metadata(&file).with_context(|| format!("no audit log {}", file.display()))?.len())
    }

    /// Every write answered since, of everybody: the system's own components write, too
    /// (their users begin with `system:`, service accounts with `system:serviceaccount:`).
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn writes_since(&self, mark: u64) -> Result<Vec<Write>> {
        let mut file = std::fs::File::open(self.directory().join("log/audit.log"))?;
        file.seek(SeekFrom::Start(mark.saturating_sub(1)))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may be half written, and so may the line have been in which the mark stands. The first
        // belongs to the next call, the second to the one before.
        let begin = if mark == 0 { Some(0) } else { text.find('\n').map(|end| end + 1) };
        let complete = begin.zip(text.rfind('\n')).and_then(|(begin, end)| text.get(begin..end));
        complete.unwrap_or_default().lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Result<Write> {
    let event: Value = serde_json::from_str(line).context("a line of the audit log is no JSON")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    Ok(Write {
        verb: text(&event["verb"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        user: text(&event["user"]["username"]),
        user_agent: text(&event["userAgent"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        time: text(&event["stageTimestamp"]),
    })
}
