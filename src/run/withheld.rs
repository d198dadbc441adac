//! What `run` keeps from its program: the variables that carry our access to the database.
//! A process that has it can take any lease, and the program does not need it.

use tracing::info;

/// Each of these gives access to the database of the leases, or says where that is kept.
pub(super) const WITHHELD: &[&str] = &[
    "COMPONENT_LEASE_DATABASE_URL",
    "COMPONENT_LEASE_DATABASE_URL_FILE",
    "COMPONENT_LEASE_DIRECT_DATABASE_URL",
    "COMPONENT_LEASE_DIRECT_DATABASE_URL_FILE",
    "COMPONENT_LEASE_DATABASE_PASSWORD_FILE",
    // Read by the PostgreSQL driver.
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSSLKEY",
];

/// A name for `--pass-env`.
pub(super) fn known(name: &str) -> Result<String, String> {
    if WITHHELD.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("the program gets {name:?} anyway: only {} are withheld", WITHHELD.join(", ")))
}

/// The variables to take out of the program's environment, but for those that it is to have.
pub(super) fn from_the_program(passed: &[String]) -> Vec<&'static str> {
    let names: Vec<_> =
        WITHHELD.iter().copied().filter(|name| !passed.iter().any(|passed| passed == name)).collect();
    let found: Vec<_> = names.iter().filter(|name| std::env::var_os(name).is_some()).copied().collect();
    if !found.is_empty() {
        info!(
            variables = found.join(","),
            "not passed to the program, because they give access to the lease database; use --pass-env for one that the program needs"
        );
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_withheld() {
        let names = from_the_program(&["PGPASSWORD".to_owned()]);
        assert_eq!(names.len(), WITHHELD.len() - 1);
        assert!(!names.contains(&"PGPASSWORD"));
        assert!(known("PGSSLKEY").is_ok());
        assert!(known("PATH").unwrap_err().contains("PGPASSWORD"));
    }
}
