//! What is wrong with the database: said once when it begins, once a minute while it lasts, and when it is over.

use tracing::{info, warn};

use crate::election::{ComponentName, Moment, NewEpoch, Pace, Timing};
use crate::rate::repeats::{Repeats, SAID_AGAIN, kind_of};
use crate::store::StoreError;

/// Which kind of call failed or was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// A look, a renewal, a release: until one is answered, nothing is known of the database.
    Ask,
    /// A take, or a record of the database's life: it may be refused though looks are answered.
    Write,
}

/// A warning was logged.
#[derive(Debug)]
struct Said;

#[derive(Debug, Default)]
pub(super) struct Trouble {
    text: Option<String>,
    repeats: Repeats,
    /// That it is over is said of what was said.
    said: Option<Said>,
    /// Nothing has been answered since something was asked.
    deaf: bool,
    /// The last attempt to write failed: that looks succeed does not mean that the next one would not.
    refused: bool,
    max_ttl_said: bool,
    /// The ttl for which the database was said to be too slow, seconds.
    slow_for: Option<u32>,
    untold: Option<Moment>,
}

impl Trouble {
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Whether the database did not answer when it was last asked.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    pub(super) fn failed(&mut self, call: Call, component: &ComponentName, now: Moment, error: &StoreError) {
        match call {
            Call::Ask => self.deaf = true,
            Call::Write => (self.deaf, self.refused) = (false, true),
        }
        let text = error.to_string();
        if self.repeats.is_due(&kind_of(&text), now) {
            warn!(%component, error = text, "a database call failed; retrying");
            self.said = Some(Said);
        }
        self.text = Some(text);
    }

    pub(super) fn answered(&mut self, call: Call, component: &ComponentName) {
        self.deaf = false;
        if call == Call::Ask && self.refused {
            return;
        }
        self.refused = false;
        if self.text.take().is_some() && self.said.take().is_some() {
            info!(%component, "database calls succeed again");
        }
    }

    /// That others could not be told of a change is said once a minute at most: they find it by looking.
    pub(super) fn untold(&mut self, component: &ComponentName, now: Moment, error: &StoreError) {
        if self.untold.is_none_or(|said| now >= said + SAID_AGAIN) {
            self.untold = Some(now);
            warn!(%component, %error, "no notification could be sent, so others find the change of holder by polling");
        }
    }

    /// That the longest ttl of this participant is not the database's, if so (seconds), is said once.
    pub(super) fn max_ttl(&mut self, component: &ComponentName, disagreement: Option<(u32, u32)>) {
        let Some((own, recorded)) = disagreement.filter(|_| !self.max_ttl_said) else { return };
        self.max_ttl_said = true;
        warn!(%component, own, recorded, "--max-ttl of this participant differs from the database's: terms last for at most the shorter one, a quarantine for the longer one; give each participant the database's value");
    }

    /// That the database is too slow for the ttl in force is said once for each ttl. Whether it was said now.
    pub(super) fn pace(&mut self, component: &ComponentName, timing: &Timing, pace: Option<Pace>) -> bool {
        let Some(pace) = pace.filter(|pace| !timing.has_room_for(pace)) else { return false };
        if self.slow_for.replace(timing.ttl_seconds()) == Some(timing.ttl_seconds()) {
            return false;
        }
        let (round_trip_ms, connect_ms) = (pace.round_trip.as_millis(), pace.connect.as_millis());
        let remedy = match timing.ttl_with_room_for(&pace) {
            Some(ttl) => format!("use a ttl of {ttl} s or more"),
            None => "no ttl is long enough".to_owned(),
        };
        warn!(%component, round_trip_ms, connect_ms, ttl_seconds = timing.ttl_seconds(), "the database is too far away or too slow for this ttl: this participant may never lead, or may lose the lease when a connection breaks; {remedy}, or bring the database closer (docs/databases.md, Round trips)");
        true
    }

    /// Somebody has written since: what failed may not have to be done any more, and is tried again if it has.
    pub(super) fn moved_on(&mut self) {
        self.refused = false;
    }
}

pub(super) fn say_new_epoch(component: &ComponentName, store: &str, new: &NewEpoch) {
    if new.deliberate {
        warn!(%component, store, "the database has forgotten terms that this participant saw in its history (an older state was loaded into it, or lines of component_lease_history were deleted): beginning a new epoch, in which versions start far above all earlier ones");
    } else {
        warn!(%component, store, "this is not the server that the database recorded (it was restarted, promoted or restored): beginning a new epoch, in which versions start far above all earlier ones");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_look_that_succeeds_does_not_end_the_trouble_of_a_write_and_a_change_of_the_row_does() {
        let (mut trouble, c) = (Trouble::default(), ComponentName::new("c").unwrap());
        let error = StoreError::misconfigured("permission denied");
        trouble.failed(Call::Write, &c, Moment::ZERO, &error);
        trouble.answered(Call::Ask, &c);
        assert_eq!((trouble.text(), trouble.is_deaf()), (Some("permission denied"), false));
        trouble.answered(Call::Write, &c);
        assert_eq!(trouble.text(), None);
        trouble.failed(Call::Write, &c, Moment::ZERO, &error);
        trouble.moved_on();
        trouble.answered(Call::Ask, &c);
        assert_eq!(trouble.text(), None);
    }

    #[test]
    fn a_database_that_is_too_slow_is_said_once_for_each_ttl() {
        let (mut trouble, c) = (Trouble::default(), ComponentName::new("c").unwrap());
        let mut says = |ttl, round_trip| {
            let pace =
                Pace { connect: Duration::from_millis(10), round_trip: Duration::from_millis(round_trip) };
            trouble.pace(&c, &Timing::with_default_grace(ttl).unwrap(), Some(pace))
        };
        assert!(!says(5, 100));
        assert!(says(5, 500) && !says(5, 600));
        assert!(!says(30, 500));
        assert!(says(6, 500));
        assert!(!trouble.pace(&c, &Timing::with_default_grace(5).unwrap(), None));
    }

    #[test]
    fn a_look_that_failed_means_that_nothing_answers_until_one_succeeds() {
        let (mut trouble, c) = (Trouble::default(), ComponentName::new("c").unwrap());
        trouble.failed(Call::Ask, &c, Moment::ZERO, &StoreError::retryable("gone"));
        assert!(trouble.is_deaf());
        trouble.answered(Call::Ask, &c);
        assert!(!trouble.is_deaf() && trouble.text().is_none());
        // In between it does not end the trouble of a write either.
        let error = StoreError::misconfigured("permission denied");
        trouble.failed(Call::Write, &c, Moment::ZERO, &error);
        trouble.failed(Call::Ask, &c, Moment::ZERO, &StoreError::retryable("gone"));
        assert!(trouble.is_deaf());
        trouble.answered(Call::Ask, &c);
        assert!(!trouble.is_deaf() && trouble.text().is_some());
    }
}
