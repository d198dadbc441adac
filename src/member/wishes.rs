//! What an operator asks of one member, and what that answers: JSON beside the lease.

use serde::{Deserialize, Serialize};

use crate::store::{Said, check_id};

/// So many bytes of a message are kept: a report must fit into its store, whatever a server says of an error.
const MESSAGE_MAX: usize = 1024;

/// What is asked of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Names it for ever: what was answered is not done again.
    pub id: String,
    /// Who asks, and why, as they said.
    pub by: String,
    #[serde(default)]
    pub reason: String,
    #[serde(flatten)]
    pub what: What,
}

/// What a member is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum What {
    /// Be copied anew from the primary. What was there is kept aside.
    Reinit,
    /// Stop its server, and keep it stopped for as long as this stands.
    Fence,
}

/// What a member says of the last thing that was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the wish, or of the request to the primary.
    pub id: String,
    pub state: AnswerState,
    /// One word, where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerState {
    /// It is at it. After a restart it goes on.
    Begun,
    Done,
    /// Nothing was done, and nothing will be.
    Refused,
    /// It has begun, and was given up.
    Failed,
}

/// What a member remembers of what was asked.
#[derive(Debug, Default)]
pub(super) struct Heeding {
    /// The last answer to a wish; also what an earlier process of this member said. Kept apart from the next one: what answers a request
    /// must not let a wish be done again.
    pub(super) wish_answer: Option<Answer>,
    /// The last refusal of a request; also an earlier process's.
    pub(super) request_answer: Option<Answer>,
}

impl Heeding {
    /// What an earlier process of this member said counts until this one has said something.
    pub(super) fn remember(&mut self, wish: Option<&Answer>, request: Option<&Answer>) {
        self.wish_answer = self.wish_answer.take().or_else(|| wish.cloned());
        self.request_answer = self.request_answer.take().or_else(|| request.cloned());
    }

    pub(super) fn has_refused(&self, request: &str) -> bool {
        self.request_answer.as_ref().is_some_and(|last| last.id == request)
    }

    pub(super) fn has_begun(&self, wish: &str) -> bool {
        let last = self.wish_answer.as_ref().filter(|last| last.id == wish);
        last.is_some_and(|last| last.state == AnswerState::Begun)
    }
}

impl Wish {
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for what no program of ours writes, also where a text is too long for an answer or a log: nothing is done then.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let wish: Self = serde_json::from_str(text).ok()?;
        let fits = check_id(&wish.id).is_ok() && Said::new(&wish.by, &wish.reason).is_ok();
        fits.then_some(wish)
    }

    /// Whether there is something left to do.
    pub fn is_open(&self, answer: Option<&Answer>) -> bool {
        let answered = answer.filter(|answer| answer.id == self.id);
        answered.is_none_or(|answer| answer.state == AnswerState::Begun)
    }
}

impl Answer {
    pub(super) fn new(id: &str, state: AnswerState, message: impl Into<String>) -> Self {
        let mut message = message.into();
        let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        Self { id: id.to_owned(), state, reason: None, message }
    }

    pub(super) fn refused(id: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { reason: Some(reason.to_owned()), ..Self::new(id, AnswerState::Refused, message) }
    }

    /// It had begun.
    pub(super) fn failed(id: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { state: AnswerState::Failed, ..Self::refused(id, reason, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_reads_as_it_was_written_and_what_cannot_be_read_asks_nothing() {
        for what in [What::Reinit, What::Fence] {
            let wish = Wish { id: "1".to_owned(), by: "ada".to_owned(), reason: "\"so\"".to_owned(), what };
            assert_eq!(Wish::parse(&wish.text()), Some(wish));
        }
        for text in ["", "{}", r#"{"id":"1","by":"ada","verb":"drop_all"}"#] {
            assert_eq!(Wish::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_wish_with_a_text_that_is_too_long_asks_nothing_and_an_answer_is_cut() {
        let (id, by, reason) = ("1".to_owned(), "ada".to_owned(), "so".to_owned());
        let wish = Wish { id, by, reason, what: What::Fence };
        assert!(Wish::parse(&wish.text()).is_some());
        for long in [
            Wish { id: "x".repeat(65), ..wish.clone() },
            Wish { by: "x".repeat(254), ..wish.clone() },
            Wish { reason: "x".repeat(1025), ..wish.clone() },
            Wish { reason: "two\nlines".to_owned(), ..wish.clone() },
            Wish { id: String::new(), ..wish },
        ] {
            assert_eq!(Wish::parse(&long.text()), None, "{long:?}");
        }
        let answer = Answer::failed("1", "NotCopied", "x".to_owned() + &"\u{e4}".repeat(4000));
        assert_eq!(answer.message.len(), MESSAGE_MAX - 1, "a character is kept whole");
        assert_eq!(Answer::new("1", AnswerState::Done, "short").message, "short");
    }

    #[test]
    fn a_refused_request_lets_no_wish_be_done_again() {
        let (id, by, reason) = ("w".to_owned(), "ada".to_owned(), String::new());
        let wish = Wish { id, by, reason, what: What::Reinit };
        let done = Answer::new("w", AnswerState::Done, "");
        let mut heeding = Heeding::default();
        heeding.remember(Some(&done), None);
        heeding.request_answer = Some(Answer::refused("r", "Paused", ""));
        assert!(heeding.has_refused("r") && !heeding.has_refused("w"));
        assert!(!wish.is_open(heeding.wish_answer.as_ref()));
        heeding.remember(Some(&Answer::new("older", AnswerState::Done, "")), None);
        assert_eq!(heeding.wish_answer, Some(done));
        assert!(!heeding.has_begun("w"));
    }

    #[test]
    fn a_wish_is_open_until_it_was_done_or_refused() {
        let wish =
            Wish { id: "1".to_owned(), by: "ada".to_owned(), reason: String::new(), what: What::Reinit };
        assert!(wish.is_open(None) && wish.is_open(Some(&Answer::new("0", AnswerState::Done, ""))));
        assert!(wish.is_open(Some(&Answer::new("1", AnswerState::Begun, ""))));
        assert!(!wish.is_open(Some(&Answer::new("1", AnswerState::Done, ""))));
        assert!(!wish.is_open(Some(&Answer::refused("1", "IsPrimary", ""))));
        assert!(!wish.is_open(Some(&Answer::failed("1", "NotCopied", ""))));
    }
}
