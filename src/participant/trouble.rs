//! What is wrong with the database: said once when it begins, once a minute while it lasts, and when it is over.

use std::time::Duration;

use tracing::{info, warn};

use crate::domain::{ComponentName, Moment};
use crate::store::StoreError;

/// How often a problem that lasts is said again.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Which kind of call failed or was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// A look, a renewal, a release: until one is answered, nothing is known of the database.
    Ask,
    /// A take, or a record of the database's life: it may be refused though looks are answered.
    Write,
}

#[derive(Debug, Default)]
pub(super) struct Trouble {
    text: Option<String>,
    said: Moment,
    /// Nothing has been answered since something was asked.
    deaf: bool,
    /// The last attempt to write failed: that looks succeed does not mean that the next one would not.
    refused: bool,
    max_ttl_said: bool,
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
        if self.text.as_deref() != Some(text.as_str()) || now >= self.said + SAID_AGAIN {
            warn!(%component, error = text, "the database could not do what was asked of it; trying again");
            self.said = now;
        }
        self.text = Some(text);
    }

    pub(super) fn answered(&mut self, call: Call, component: &ComponentName) {
        self.deaf = false;
        if call == Call::Ask && self.refused {
            return;
        }
        self.refused = false;
        if self.text.take().is_some() {
            info!(%component, "the database does again what is asked of it");
        }
    }

    /// That the longest ttl of this participant is not the database's, if so (seconds), is said once.
    pub(super) fn max_ttl(&mut self, component: &ComponentName, disagreement: Option<(u32, u32)>) {
        let Some((own, recorded)) = disagreement.filter(|_| !self.max_ttl_said) else { return };
        self.max_ttl_said = true;
        warn!(%component, own, recorded, "the longest ttl (--max-ttl) of this participant is not the database's: terms last for the shorter one at most, a change of the database is waited out for the longer one; give every participant the database's");
    }

    /// Somebody has written since: what failed may not have to be done any more, and is tried again if it has.
    pub(super) fn moved_on(&mut self) {
        self.refused = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_succeeds_does_not_end_the_trouble_of_a_write_and_a_change_of_the_row_does() {
        let (mut trouble, c) = (Trouble::default(), ComponentName::new("c").unwrap());
        let error = StoreError::Misconfigured("permission denied".into());
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
    fn a_look_that_failed_means_that_nothing_answers_until_one_succeeds() {
        let (mut trouble, c) = (Trouble::default(), ComponentName::new("c").unwrap());
        trouble.failed(Call::Ask, &c, Moment::ZERO, &StoreError::Retryable("gone".into()));
        assert!(trouble.is_deaf());
        trouble.answered(Call::Ask, &c);
        assert!(!trouble.is_deaf() && trouble.text().is_none());
        // In between it does not end the trouble of a write either.
        let error = StoreError::Misconfigured("permission denied".into());
        trouble.failed(Call::Write, &c, Moment::ZERO, &error);
        trouble.failed(Call::Ask, &c, Moment::ZERO, &StoreError::Retryable("gone".into()));
        assert!(trouble.is_deaf());
        trouble.answered(Call::Ask, &c);
        assert!(!trouble.is_deaf() && trouble.text().is_some());
    }
}
