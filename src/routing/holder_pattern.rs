//! How a program that composes its holder ids in a way of its own tells the pod that it runs in.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

/// A compiled pattern may take this much memory, in bytes: a user who may write resources must not be
/// able to exhaust the controller's.
const SIZE_MAX: usize = 64 * 1024;

/// A regular expression for whole holder ids, whose group `pod` is the name of a pod.
#[derive(Clone)]
pub struct HolderPattern(Regex);

/// Why a text is no such pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("{0}")]
    Syntax(String),
    #[error("it has no group named pod; write for example worker@(?P<pod>[-a-z0-9.]+)")]
    NoPod,
}

impl HolderPattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        // Whole: a database user must not lead to a pod by what he writes around its name.
        let whole = RegexBuilder::new(&format!("^(?:{text})$")).size_limit(SIZE_MAX).build();
        // By itself first, or a stray bracket could close the one that is put around it.
        let checked = RegexBuilder::new(text).size_limit(SIZE_MAX).build().and(whole);
        let regex = checked.map_err(|error| PatternError::Syntax(error.to_string()))?;
        if !regex.capture_names().any(|name| name == Some("pod")) {
            return Err(PatternError::NoPod);
        }
        Ok(Self(regex))
    }

    /// The name of the pod that the holder runs in, by what it says.
    #[must_use]
    pub fn pod<'h>(&self, holder: &'h str) -> Option<&'h str> {
        self.0.captures(holder)?.name("pod").map(|name| name.as_str())
    }
}

impl fmt::Debug for HolderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

impl PartialEq for HolderPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}
impl Eq for HolderPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_pod_of_a_whole_match_is_the_pod() {
        let pattern = HolderPattern::new(r"worker@(?P<pod>[-a-z0-9.]+)/\d+").unwrap();
        assert_eq!(pattern.pod("worker@d-1/17"), Some("d-1"));
        for other in ["worker@d-1/17x", "x-worker@d-1/17", "d-1", "worker@/17", "worker@d-1/17\n"] {
            assert_eq!(pattern.pod(other), None, "{other:?}");
        }
    }

    #[test]
    fn of_alternatives_each_is_for_the_whole_holder() {
        let pattern = HolderPattern::new("a-(?P<pod>[a-z]+)|b-.*").unwrap();
        assert_eq!(pattern.pod("a-x"), Some("x"));
        assert_eq!(pattern.pod("b-x"), None, "no pod is named");
        assert_eq!(pattern.pod("a-x b-"), None);
    }

    #[test]
    fn what_is_no_pattern_or_names_no_pod_is_refused_with_what_to_write() {
        for text in ["(?P<pod>", "(?P<pod>a))(b", "a{1000}{1000}(?P<pod>b)"] {
            assert!(matches!(HolderPattern::new(text), Err(PatternError::Syntax(_))), "{text}");
        }
        let error = HolderPattern::new("(.*)").unwrap_err();
        assert!(error.to_string().contains("(?P<pod>"), "{error}");
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = HolderPattern::new("(a+)+(?P<pod>b)").unwrap();
        assert_eq!(pattern.pod(&"a".repeat(1024)), None);
    }
}
