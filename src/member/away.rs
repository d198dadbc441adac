//! Why a member does not compete for the lease.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::participant::Participant;

/// Each for itself: a member competes when none is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Away {
    /// It is not known yet whether another process bears its name.
    Introduces,
    /// It has no server that can be used.
    Server,
    /// It leaves the lease to a primary that could not renew it.
    Outage,
    /// The record is about other members than its own list.
    Members,
}

/// Those of one member.
#[derive(Debug)]
pub(super) struct Aways(Mutex<BTreeSet<Away>>);

impl Aways {
    pub(super) fn new() -> Self {
        Self(Mutex::new([Away::Introduces].into()))
    }

    /// From now on this one holds, or does not.
    pub(super) fn set(&self, participant: &Participant, why: Away, holds: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holds {
            all.insert(why);
        } else {
            all.remove(&why);
        }
        // Within: of two that disagree, the participant obeys the later one.
        participant.set_healthy(all.is_empty());
    }
}
