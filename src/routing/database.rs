//! Whether the database that answers is the one that a resource has known. A controller that was led to
//! another one (a wrong Secret, an empty copy, another environment) must neither move a label nor begin an epoch
//! by what it finds there.
//!
//! A database is known by the UUID in `component_lease_store`, made with the tables: it goes along with a
//! failover, a restored backup, a copy. Another UUID means other tables.

/// Another database than the one that was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnotherDatabase {
    pub known: String,
    /// `None` where the tables that would tell are missing, or empty.
    pub now: Option<String>,
}

impl std::fmt::Display for AnotherDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { known, now } = self;
        match now {
            Some(now) => write!(
                f,
                "another database answers: its UUID is {now}, and this resource knows {known}. The controller changes nothing. Correct the controller's URL; or if this is the right database (repaired, or moved with new tables), start the controller with --accept-database={now}"
            ),
            None => write!(
                f,
                "the database that answers does not say which one it is (component_lease_store is missing or empty), and this resource knows the UUID {known}. The controller changes nothing. Correct the controller's URL, or run `component-lease migrate` and then start the controller with --accept-database and the new UUID"
            ),
        }
    }
}

/// What a resource may go by. `known` is what its status says, `others` what all resources of this
/// controller say, and `accepted` what the operator says. Err: hold everything.
///
/// A new resource knows nothing: it goes by what the others know, where any of them does.
pub fn check<'a>(
    known: Option<&str>,
    others: impl IntoIterator<Item = &'a str>,
    now: Option<&str>,
    accepted: Option<&str>,
) -> Result<(), AnotherDatabase> {
    if now.is_some() && now == accepted || known.is_some() && known == now {
        return Ok(());
    }
    let known = match known {
        Some(known) => Some(known),
        None => {
            let mut first = None;
            for other in others {
                if Some(other) == now {
                    return Ok(());
                }
                first = first.or(Some(other));
            }
            first
        }
    };
    match known {
        None => Ok(()),
        Some(known) => Err(AnotherDatabase { known: known.to_owned(), now: now.map(ToOwned::to_owned) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(known: Option<&str>, others: &[&str], now: Option<&str>, accepted: Option<&str>) -> bool {
        check(known, others.iter().copied(), now, accepted).is_err()
    }

    #[test]
    fn a_resource_goes_by_the_database_that_it_knows_and_by_no_other() {
        assert!(!holds(Some("a"), &["a"], Some("a"), None));
        assert!(holds(Some("a"), &["a"], Some("b"), None));
        // Tables that do not say are not those that did.
        assert!(holds(Some("a"), &["a"], None, None));
        // Another resource that went over does not take this one along.
        assert!(holds(Some("a"), &["a", "b"], Some("b"), None));
    }

    #[test]
    fn a_new_resource_takes_the_database_that_is_there_unless_all_others_know_another_one() {
        for now in [None, Some("a")] {
            assert!(!holds(None, &[], now, None), "somebody else's table, or the first resource");
        }
        assert!(!holds(None, &["b", "a"], Some("a"), None));
        assert!(holds(None, &["a"], Some("b"), None));
        assert!(holds(None, &["a"], None, None));
    }

    #[test]
    fn the_operator_accepts_one_database_by_its_uuid_and_no_other() {
        assert!(!holds(Some("a"), &["a"], Some("b"), Some("b")));
        assert!(holds(Some("a"), &["a"], Some("c"), Some("b")));
        assert!(!holds(Some("a"), &["a"], Some("a"), Some("b")), "a flag that stays does no harm");
        assert!(holds(Some("a"), &["a"], None, Some("b")));
    }

    #[test]
    fn what_is_said_names_both_databases_and_what_to_do() {
        let text = check(Some("a-a"), [], Some("b-b"), None).unwrap_err().to_string();
        for piece in ["a-a", "b-b", "--accept-database=b-b", "right database"] {
            assert!(text.contains(piece), "{text}");
        }
        let text = check(Some("a-a"), [], None, None).unwrap_err().to_string();
        assert!(text.contains("component_lease_store") && text.contains("a-a"), "{text}");
    }
}
