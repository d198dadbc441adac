//! What an operator asks of one member, and what that answers: JSON beside the lease.

use serde::{Deserialize, Serialize};

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
}

/// What a member remembers of what was asked.
#[derive(Debug, Default)]
pub(super) struct Heeding {
    /// The last answer; also what an earlier process of this member said.
    pub(super) answer: Option<Answer>,
}

impl Wish {
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for what no program of ours writes: nothing is done then.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether there is something left to do.
    pub fn is_open(&self, answer: Option<&Answer>) -> bool {
        let answered = answer.filter(|answer| answer.id == self.id);
        answered.is_none_or(|answer| answer.state == AnswerState::Begun)
    }
}

impl Answer {
    pub(super) fn new(id: &str, state: AnswerState, message: impl Into<String>) -> Self {
        Self { id: id.to_owned(), state, reason: None, message: message.into() }
    }

    pub(super) fn refused(id: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { reason: Some(reason.to_owned()), ..Self::new(id, AnswerState::Refused, message) }
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
    fn a_wish_is_open_until_it_was_done_or_refused() {
        let wish =
            Wish { id: "1".to_owned(), by: "ada".to_owned(), reason: String::new(), what: What::Reinit };
        assert!(wish.is_open(None) && wish.is_open(Some(&Answer::new("0", AnswerState::Done, ""))));
        assert!(wish.is_open(Some(&Answer::new("1", AnswerState::Begun, ""))));
        assert!(!wish.is_open(Some(&Answer::new("1", AnswerState::Done, ""))));
        assert!(!wish.is_open(Some(&Answer::refused("1", "IsPrimary", ""))));
    }
}
