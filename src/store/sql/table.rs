//! What `component_lease` can hold, whichever program made it, and which tables are beside it.

use std::fmt::Display;

use super::dialect::Dialect;
use super::statement::Statements;
use crate::election::life::{NARROW_STEP, STEP};
use crate::election::{ComponentName, NewEpoch, TermKey};
use crate::store::error::StoreError;
use crate::store::rules::fits as fits_epoch;

/// As a connection found it.
pub(super) struct Table {
    pub(super) component: Column,
    pub(super) holder: Column,
    pub(super) version_max: i64,
    /// Whether those for intents, history and epochs are there: without them the table is somebody else's.
    pub(super) companions: bool,
    /// Whether participants are written down, as far as this user may see.
    pub(super) instances: bool,
    /// As this server understands them.
    pub(super) sql: &'static Statements,
}

/// A column for a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Characters; `None` for no limit.
    pub(super) max: Option<usize>,
    /// Whether it holds any character.
    pub(super) unicode: bool,
}

impl Table {
    pub(super) fn fits_component(
        &self,
        component: &ComponentName,
        place: &impl Display,
    ) -> Result<(), StoreError> {
        fits("component_name", component.as_str(), self.component, place)
    }

    pub(super) fn fits_term<D: Dialect>(&self, term: &TermKey, place: &D) -> Result<(), StoreError> {
        self.fits_component(&term.component, place)?;
        fits("holder_id", term.holder.as_str(), self.holder, place)?;
        if term.version > self.version_max {
            return Err(StoreError::misconfigured(format!(
                "{place}: the next version {} does not fit the column component_lease.version, which ends at {}: {}",
                term.version,
                self.version_max,
                D::WIDEN_VERSION
            )));
        }
        Ok(())
    }

    /// An epoch whose versions do not fit the column is never recorded: nothing could be taken in it.
    pub(super) fn fits_epoch<D: Dialect>(&self, new: &NewEpoch, place: &D) -> Result<(), StoreError> {
        let epoch = new.seen.as_ref().map_or(0, |seen| seen.epoch).saturating_add(1).max(new.at_least);
        if !self.is_narrow() || fits_epoch(epoch, self.step(), self.version_max) {
            return Ok(());
        }
        Err(StoreError::misconfigured(format!(
            "{place}: the versions of epoch {epoch} do not fit the column component_lease.version, which ends at {}: {}",
            self.version_max,
            D::WIDEN_VERSION
        )))
    }

    /// Whether there is no room for dates in a version.
    pub(super) fn is_narrow(&self) -> bool {
        self.version_max < i64::MAX
    }

    /// How far apart the versions of two epochs are.
    pub(super) fn step(&self) -> i64 {
        if self.is_narrow() { NARROW_STEP } else { STEP }
    }

    pub(super) fn keeps_epochs(&self, place: &impl Display) -> Result<(), StoreError> {
        self.keeps("the tables component_lease_history and component_lease_store are missing", place)
    }

    pub(super) fn keeps_intents(&self, place: &impl Display) -> Result<(), StoreError> {
        self.keeps("the table component_lease_intent is missing", place)
    }

    pub(super) fn keeps_history(&self, place: &impl Display) -> Result<(), StoreError> {
        self.keeps("the table component_lease_history is missing", place)
    }

    fn keeps(&self, lacks: &str, place: &impl Display) -> Result<(), StoreError> {
        if self.companions {
            return Ok(());
        }
        Err(StoreError::misconfigured(format!("{place}: {lacks}; run `component-lease migrate`")))
    }

    /// What is weaker where the table is somebody else's, for the log. `what` may go wrong unseen.
    pub(super) fn weaknesses<D: Dialect>(&self, what: &str) -> Vec<String> {
        let mut weaknesses = Vec::new();
        if !self.companions {
            weaknesses.push("the table component_lease_intent is missing, so a ttl set in a ComponentLease resource has no effect; run `component-lease migrate`".to_owned());
            weaknesses.push(format!("the tables component_lease_history and component_lease_store are missing, so {what} can make two leaders for a while and repeat versions; run `component-lease migrate`"));
        }
        if self.is_narrow() {
            weaknesses.push(format!(
                "the column version is narrower than BIGINT and will be full one day: {}",
                D::WIDEN_VERSION
            ));
        }
        weaknesses
    }
}

/// Nothing is ever cut or replaced: two names cut to the same length would be one.
fn fits(column: &str, value: &str, holds: Column, place: &impl Display) -> Result<(), StoreError> {
    let wrong = |what: String| Err(StoreError::misconfigured(format!("{place}: {value:?} {what}")));
    let length = value.chars().count();
    match holds.max {
        Some(max) if length > max => wrong(format!(
            "has {length} characters, but the column component_lease.{column} holds {max}; widen the column, or {}",
            shorter(column)
        )),
        _ if !holds.unicode && !value.is_ascii() => wrong(format!(
            "has characters that the column component_lease.{column} may not hold; choose a name of ASCII characters, or convert the column to utf8mb4"
        )),
        _ => Ok(()),
    }
}

/// What to do when a text is longer than its column, if that stays as it is.
fn shorter(column: &str) -> &'static str {
    match column {
        // A namespace in front of the name is the usual reason.
        "component_name" => {
            "use a shorter key: --component-key KEY for every participant, spec.componentName: KEY in a ComponentLease, and KEY allowed when the controller is installed (allowedComponents)"
        }
        _ => "choose a shorter name",
    }
}
