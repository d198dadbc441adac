//! Which components a look asks for.

use std::fmt;
use std::sync::Arc;

use crate::election::ComponentName;

/// A set of component names, as the databases take it: one parameter, however many there are. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names(Arc<Inner>);

#[derive(Default, PartialEq, Eq)]
struct Inner {
    sorted: Vec<String>,
    /// The same as a JSON array, for the databases that have no arrays.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    json: String,
}

impl Names {
    /// A look for nobody tells the database's clock and life.
    #[must_use]
    pub fn none() -> Self {
        std::iter::empty().collect()
    }

    /// Whether this one is asked for.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.sorted.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// In order, each once.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0.sorted
    }

    /// For a database that takes a list as JSON.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    pub(super) fn json(&self) -> &str {
        &self.0.json
    }
}

impl FromIterator<ComponentName> for Names {
    fn from_iter<I: IntoIterator<Item = ComponentName>>(names: I) -> Self {
        Self::of(names.into_iter().map(|name| name.as_str().to_owned()).collect())
    }
}

impl Names {
    /// Of members, say, whose names are in the same places of a statement.
    pub(super) fn of(mut sorted: Vec<String>) -> Self {
        sorted.sort_unstable();
        sorted.dedup();
        Self(Arc::new(Inner {
            #[cfg(any(feature = "mysql", feature = "sqlite"))]
            json: json(&sorted),
            sorted,
        }))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.0.sorted).finish()
    }
}

/// Written here: a program that embeds the participant has no JSON library.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
fn json(names: &[String]) -> String {
    use fmt::Write as _;

    let mut json = String::from("[");
    for (at, name) in names.iter().enumerate() {
        json.push_str(if at == 0 { "\"" } else { ",\"" });
        for c in name.chars() {
            match c {
                '"' | '\\' => json.extend(['\\', c]),
                c if u32::from(c) < 0x20 => {
                    write!(json, "\\u{:04x}", u32::from(c)).expect("a String takes all");
                }
                c => json.push(c),
            }
        }
        json.push('"');
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| ComponentName::new(*name).unwrap()).collect()
    }

    #[test]
    fn a_set_of_names_has_each_once_and_in_order() {
        let set = names(&["b", "a", "b", "Ü"]);
        assert_eq!(set.as_slice(), ["a", "b", "Ü"]);
        assert!(set.contains("a") && set.contains("Ü") && !set.contains("A") && !set.contains(""));
        assert_eq!(Names::none().as_slice(), [""; 0]);
        assert_eq!(Names::none(), names(&[]));
    }

    #[test]
    fn any_name_can_be_read_from_the_json_again() {
        let odd = ["\"", "\\", "\\u0041", "']--", "ü", "\u{1f980}", "a/b"];
        let read: Vec<String> = serde_json::from_str(&json(names(&odd).as_slice())).unwrap();
        assert_eq!(read, names(&odd).as_slice());
        assert_eq!(json(&["\u{1}\n".to_owned()]), "[\"\\u0001\\u000a\"]");
        assert_eq!(json(&[]), "[]");
    }
}
