//! What a `sqlite:` URL says: a file.

use std::fmt;
use std::path::PathBuf;

use crate::store::error::StoreError;
use crate::store::sql::address::{Url, Variables, decode, misconfigured};

#[derive(Debug)]
pub(in crate::store::sql) struct SqliteUrl {
    pub(super) path: PathBuf,
}

impl Url for SqliteUrl {
    const SCHEMES: &'static [&'static str] = &["sqlite:"];

    fn parse(text: &str, _: Variables<'_>) -> Result<Self, StoreError> {
        let rest = text.trim_start_matches("sqlite:");
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.contains(['?', '#']) {
            return Err(misconfigured(
                "a sqlite: URL takes no parameters; write ? and # in a file name as %3F and %23",
            ));
        }
        let path = decode(path)?;
        match path.as_str() {
            "" => Err(misconfigured("the sqlite: URL names no file; write sqlite:///absolute/path.db")),
            ":memory:" => {
                Err(misconfigured("no other process sees a SQLite database in memory; name a file instead"))
            }
            _ => Ok(Self { path: PathBuf::from(path) }),
        }
    }

    fn trust(&mut self, _: PathBuf) -> Result<(), StoreError> {
        Err(misconfigured("a SQLite file has no certificate; leave out the CA file"))
    }

    fn set_password(&mut self, _: String) -> Result<(), StoreError> {
        Err(misconfigured("a SQLite file has no password; leave out the password file"))
    }
}

impl fmt::Display for SqliteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite file {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::sql::address::read;

    #[test]
    fn a_url_names_a_file() {
        for (text, path) in [
            ("sqlite:///var/lib/lease.db", "/var/lib/lease.db"),
            ("sqlite:/var/lib/lease.db", "/var/lib/lease.db"),
            ("sqlite:lease.db", "lease.db"),
            ("sqlite:///tmp/a%20b%3F.db", "/tmp/a b?.db"),
        ] {
            assert_eq!(read::<SqliteUrl>(text, &|_| None).unwrap().path, Path::new(path), "{text}");
        }
        for bad in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite://:memory:", "sqlite:/a.db?mode=rwc"] {
            assert!(read::<SqliteUrl>(bad, &|_| None).is_err(), "{bad}");
        }
    }
}
