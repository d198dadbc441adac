//! What operators ask for, with who asked and why: for people. What participants need of it is
//! [`Request`]. And what the controller writes for participants to find.

use crate::election::{HolderId, LeaseRow, Request, Verb};

/// Characters of a reason that the tables hold.
const REASON_MAX: usize = 1024;
/// Characters of the name of who asked.
const BY_MAX: usize = 253;
/// Characters of a request's id.
const ID_MAX: usize = 64;

/// What the controller writes for participants to find: the standing part of `component_lease_intent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingIntent {
    /// Seconds; in force from a participant's next term.
    pub ttl: u32,
    /// Whom the others leave a free or lapsed row to for up to 2 s.
    pub preferred: Option<HolderId>,
    /// Seconds for which all leave a free row alone, because its holder changes too often; 0: none. They wait for a third
    /// of their ttl at most.
    pub cooldown: u32,
}

impl StandingIntent {
    /// Prefers nobody, and delays nobody.
    #[must_use]
    pub fn ttl(ttl: u32) -> Self {
        Self { ttl, preferred: None, cooldown: 0 }
    }
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Switchover, Self::StepDown, Self::Promote, Self::PromoteNow];

    /// As it stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::StepDown => "step_down",
            Self::Promote => "promote",
            Self::PromoteNow => "promote_now",
        }
    }

    /// From the word in the table.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// Who asked for something, and why. Neither is checked by anybody: they are what the asker says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    by: String,
    reason: String,
}

/// Why a text cannot be written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SaidError {
    /// It does not fit into its column.
    #[error("{what} has {length} characters, at most {max} fit; shorten it")]
    TooLong { what: &'static str, length: usize, max: usize },
    /// It would break lines and tables.
    #[error("{what} contains a control character (a line break, say); write it in one line")]
    Control { what: &'static str },
    /// It has no characters.
    #[error("{what} is empty")]
    Empty { what: &'static str },
}

impl Said {
    /// `by` may have 253 characters, `reason` 1,024; a reason may be empty.
    ///
    /// # Errors
    /// [`SaidError`] when one of them does not fit or has control characters.
    pub fn new(by: impl Into<String>, reason: impl Into<String>) -> Result<Self, SaidError> {
        let said = Self { by: by.into(), reason: reason.into() };
        fits("the name of who asks", &said.by, BY_MAX)?;
        fits("the reason", &said.reason, REASON_MAX)?;
        if said.by.is_empty() {
            return Err(SaidError::Empty { what: "the name of who asks" });
        }
        Ok(said)
    }

    /// What the tables say.
    #[cfg(feature = "_sql")]
    pub(crate) fn read(by: Option<String>, reason: Option<String>) -> Self {
        Self { by: by.unwrap_or_default(), reason: reason.unwrap_or_default() }
    }

    /// Who asked, in their own words.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Why, in their own words; may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Whether a text can name a request: 1 to 64 visible characters.
///
/// # Errors
/// [`SaidError`] when it cannot.
pub fn check_id(id: &str) -> Result<(), SaidError> {
    const WHAT: &str = "the id of the request";
    fits(WHAT, id, ID_MAX)?;
    if id.is_empty() || id.chars().any(char::is_whitespace) {
        return Err(SaidError::Empty { what: WHAT });
    }
    Ok(())
}

fn fits(what: &'static str, text: &str, max: usize) -> Result<(), SaidError> {
    let length = text.chars().count();
    if length > max {
        return Err(SaidError::TooLong { what, length, max });
    }
    if text.chars().any(char::is_control) {
        return Err(SaidError::Control { what });
    }
    Ok(())
}

/// A request as it stands in the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// What is asked.
    pub request: Request,
    /// Who asked, and why.
    pub said: Said,
    /// When: the database's clock, ms since 1970 UTC.
    pub at: i64,
}

/// What operators ask of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `Some` while the election is paused.
    pub paused: Option<Said>,
    /// The last request, also when it is void by now.
    pub request: Option<Posted>,
}

impl Asked {
    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paused.is_none() && self.request.is_none()
    }

    /// Whether it is paused now as was wanted: in place of the pause that was seen (`over`: who had made it).
    pub(super) fn pause(&mut self, said: &Said, over: Option<&str>) -> bool {
        let applies = self.paused.as_ref().map(Said::by) == over;
        if applies {
            self.paused = Some(said.clone());
        }
        applies
    }

    /// Whether the pause of this one (`None`: of anybody) has ended now.
    pub(super) fn resume(&mut self, of: Option<&str>) -> bool {
        self.paused.take_if(|paused| of.is_none_or(|of| of == paused.by())).is_some()
    }

    /// Whether the request stands now: only in the term that it is about, and in place of the one that was seen.
    pub(super) fn post(&mut self, row: Option<&LeaseRow>, posted: Posted, replaces: Option<&str>) -> bool {
        let seen = self.request.as_ref().map(|posted| posted.request.id.as_str()) == replaces;
        let applies = seen && posted.request.is_about(row);
        if applies {
            self.request = Some(posted);
        }
        applies
    }

    /// Whether the request of this id stood there until now.
    pub(super) fn withdraw(&mut self, id: &str) -> bool {
        self.request.take_if(|posted| posted.request.id == id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_reads_as_it_was_written() {
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.as_str()), Some(verb));
        }
        assert_eq!(Verb::parse("restart"), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_sent() {
        assert!(Said::new("ada", "because\tof").is_err_and(|e| e.to_string().contains("one line")));
        assert!(Said::new("a".repeat(254), "").is_err_and(|e| e.to_string().contains("at most 253")));
        assert!(Said::new("ada", "é".repeat(1025)).is_err_and(|e| e.to_string().contains("at most 1024")));
        assert!(Said::new("", "x").is_err());
        let said = Said::new("ada", "é".repeat(1024)).unwrap();
        assert_eq!((said.by(), said.reason().chars().count()), ("ada", 1024));
        assert!(check_id("").is_err() && check_id("a b").is_err() && check_id(&"x".repeat(65)).is_err());
        assert!(check_id("6f1c").is_ok());
    }
}
