//! The kinds of databases, one line for each, and what is done by the kind that a URL names.

use std::sync::Arc;

use super::address::{Url, begins, misconfigured, mistake};
use super::dialect::{Dialect, Opened};
use super::migration::{Install, MigrationReport};
use super::source::Source;
use super::store::SqlStore;
use crate::election::timing::TTL_MAX_SECONDS;
use crate::store::error::StoreError;
use crate::store::traits::{Directory, Roster};

/// All that an SQL database keeps.
trait Keeps: Directory + Roster {
    /// Another store on the same database, with connections of its own: what one of them learns of versions, both know.
    fn twin(&self) -> Arc<dyn Roster>;
}

impl<D: Dialect> Keeps for SqlStore<D> {
    fn twin(&self) -> Arc<dyn Roster> {
        Arc::new(self.another())
    }
}

/// Writes what is done by kind from the list of kinds: for each its folder, whose `Place` is the dialect, the feature
/// that it is built with, and how its URLs begin.
macro_rules! kinds {
    ($($folder:ident if $feature:literal: $($scheme:literal)|+;)+) => {
        /// Of all kinds, also of those that this program is built without.
        const SCHEMES: &[&str] = &[$($($scheme),+),+];

        fn open_by_kind(text: &str, source: Source, application: &str) -> Result<Arc<dyn Keeps>, StoreError> {
            $(
                #[cfg(feature = $feature)]
                if begins(text, &[$($scheme),+]) {
                    return open_as::<super::$folder::Place>(source, application);
                }
            )+
            let _ = (source, application);
            Err(not_built(text))
        }

        async fn install_by_kind(text: &str, source: &Source, how: Install) -> Result<MigrationReport, StoreError> {
            $(
                #[cfg(feature = $feature)]
                if begins(text, &[$($scheme),+]) {
                    return super::$folder::Place::migrate(&source.read()?, how).await;
                }
            )+
            let _ = (source, how);
            Err(not_built(text))
        }

        /// What the list and the kind itself say of how URLs begin.
        #[cfg(test)]
        fn schemes_by_kind() -> Vec<(&'static [&'static str], &'static [&'static str])> {
            vec![$(
                #[cfg(feature = $feature)]
                (&[$($scheme),+], <super::$folder::Place as Opened>::Url::SCHEMES),
            )+]
        }

        /// By folder.
        #[cfg(test)]
        pub(super) fn products() -> Vec<(&'static str, Vec<super::dialect::Product>)> {
            vec![$(
                #[cfg(feature = $feature)]
                (stringify!($folder), super::$folder::Place::products()),
            )+]
        }
    };
}

kinds! {
    postgres if "postgres": "postgres://" | "postgresql://";
    mysql if "mysql": "mysql://" | "mariadb://";
    sqlite if "sqlite": "sqlite:";
}

/// Opens a store. Nothing is connected yet: each call connects when it must, and a database that is
/// away answers [`StoreError::Retryable`] until it is there. `application` is the name that the
/// database shows for our connections.
///
/// # Errors
/// [`StoreError::Misconfigured`] when the URL or a file cannot be read or means nothing.
pub fn open(source: Source, application: &str) -> Result<Arc<dyn Directory>, StoreError> {
    Ok(open_by_kind(&known(&source.text()?)?, source, application)?)
}

/// As [`open`], for members of a database: what one of the two stores learns ([`Roster::begin_above`]), the other
/// knows. A member competes by one of them, whose renewals wait for nothing that the other is asked.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "cli")]
pub(crate) fn open_rosters(
    source: Source,
    application: &str,
) -> Result<(Arc<dyn Roster>, Arc<dyn Roster>), StoreError> {
    let store = open_by_kind(&known(&source.text()?)?, source, application)?;
    let twin = store.twin();
    Ok((store, twin))
}

/// Creates or upgrades the tables; does nothing where they are up to date. Any number of processes
/// may do this at once. Tables made by this are not called a first installation: their first election
/// waits for the longest ttl.
///
/// # Errors
/// As [`open`], and whatever keeps the database from being changed.
pub async fn migrate(source: &Source) -> Result<MigrationReport, StoreError> {
    install(source, Install::default()).await
}

/// As [`migrate`], with a say in how tables are made that are not there yet.
///
/// # Errors
/// As [`migrate`].
pub async fn install(source: &Source, how: Install) -> Result<MigrationReport, StoreError> {
    if !(1..=TTL_MAX_SECONDS).contains(&how.max_ttl) {
        return Err(misconfigured(format!(
            "a longest ttl of {} s is outside 1 to {TTL_MAX_SECONDS} s",
            how.max_ttl
        )));
    }
    install_by_kind(&known(&source.text()?)?, source, how).await
}

/// The text of a URL, if it begins like one that some kind of database has.
fn known(text: &str) -> Result<String, StoreError> {
    let text = text.trim();
    if let Some(mistake) = mistake(text, SCHEMES) {
        return Err(mistake);
    }
    if begins(text, SCHEMES) {
        return Ok(text.to_owned());
    }
    Err(misconfigured(format!(
        "the database URL must begin with {} (for example postgres://user@host:5432/db or sqlite:///absolute/path.db)",
        SCHEMES.join(" or ")
    )))
}

fn not_built(text: &str) -> StoreError {
    let scheme = SCHEMES.iter().find(|scheme| text.starts_with(**scheme)).copied().unwrap_or_default();
    misconfigured(format!("{scheme}: this program was built without support for this kind of database"))
}

fn open_as<D: Dialect + Opened>(source: Source, application: &str) -> Result<Arc<dyn Keeps>, StoreError> {
    let url: D::Url = source.read()?;
    if let Some(weaker) = url.weaker_tls() {
        tracing::warn!("{url}: {weaker}");
    }
    Ok(Arc::new(SqlStore::new(D::at(source, &url, application)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_takes_the_urls_that_the_list_gives_it() {
        for (listed, taken) in schemes_by_kind() {
            assert_eq!(listed, taken);
        }
    }

    #[test]
    fn what_begins_like_no_url_is_refused_without_a_piece_of_it() {
        for text in ["", "hello", "hunter2", "oracle://u:hunter2@h/d"] {
            let why = known(text).unwrap_err().to_string();
            assert!(why.contains("must begin with postgres://") && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn what_is_given_in_place_of_a_url_is_recognised() {
        for (text, piece) in [
            ("\u{feff}postgres://u:hunter2@h/d", "byte order mark"),
            ("\"postgres://u:hunter2@h/d\"", "quotes"),
            ("'mysql://u:hunter2@h/d'", "quotes"),
            ("DATABASE_URL=postgres://u:hunter2@h/d", "KEY="),
            ("export URL=\"postgres://u:hunter2@h/d\"", "KEY="),
            ("uri: postgresql://u:hunter2@h/d", "KEY="),
            ("cG9zdGdyZXM6Ly91Omh1bnRlcjJAaC9k", "base64"),
            ("cG9zdGdyZXNxbDovL3U6aHVudGVyMkBoL2Q=", "base64"),
            ("bXlzcWw6Ly91Omh1bnRlcjJAaC9k", "base64"),
            ("bWFyaWFkYjovL3U6aHVudGVyMkBoL2Q=", "base64"),
            ("c3FsaXRlOi9hL2I=", "base64"),
            ("jdbc:postgresql://h/d?user=u", "Java"),
            ("postgresql+asyncpg://u:hunter2@h/d", "driver"),
            ("host=h dbname=d user=u", "keywords"),
            ("postgres://u:hunter2@h/d\nUSER=x", "line break"),
            ("postgres://u:hun ter2@h/d", "%20"),
        ] {
            let why = known(text).unwrap_err().to_string();
            assert!(why.contains(piece) && !why.contains("hunter2"), "{text}: {why}");
        }
    }
}
