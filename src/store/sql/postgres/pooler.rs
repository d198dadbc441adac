//! Poolers between us and the server, as PgBouncer. One that pools transactions hands the same session to many
//! programs: what one of them sets, listens to or prepares there, all of them have. So behind a pooler each
//! call is one text in a transaction of its own (`statement.rs`), which makes its settings for itself alone.
//!
//! A connection asks for a setting of ours when it begins ([`Probe`]). A peer that refuses it or does not pass it
//! on is a pooler. Of those, each counts as one that pools transactions: sessions are kept for us
//! where the probe comes back, and nowhere else.

use std::sync::{Mutex, PoisonError};

use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::connection::{Place, lock_timeout};
use super::errors::classify;
use super::statement::{Literals, Statement};
use super::url::PostgresUrl;
use crate::store::error::StoreError;
use crate::store::sql::address::Host;

/// What a connection asks for when it begins, to see whether it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe(String);

impl Probe {
    const SETTING: &str = "component_lease.probe";

    pub(super) fn new() -> Self {
        Self(format!("{:016x}", fastrand::u64(..)))
    }

    /// Of the parameter `options`.
    pub(super) fn option(&self) -> String {
        format!("-c {}={}", Self::SETTING, self.0)
    }

    /// In the answer of the server's own start.
    pub(super) fn value(&self) -> &str {
        &self.0
    }
}

/// What is known of the other end of a new connection.
#[derive(Debug)]
pub(super) enum Met {
    /// It was asked for the probe, and nobody has looked yet.
    Unknown(Probe),
    /// By what is said here.
    Pooler(String),
}

impl Met {
    /// How statements are sent until the probe has been read. What the URL asks of a session is not known to be
    /// there behind a pooler, and what can only be asked for at its start is no setting of a
    /// transaction: so where there is any of it, the probe is read first.
    pub(super) async fn how(
        self,
        connection: &mut PgConnection,
        url: &PostgresUrl,
        lock_limit: u64,
        place: &Place,
    ) -> Result<How, StoreError> {
        let settings = Options::of(url).settings;
        let why = match self {
            Self::Pooler(why) if settings.is_empty() => return Ok(How::behind(why, settings, lock_limit)),
            Self::Unknown(probe) if settings.is_empty() => return Ok(How::asked(probe, lock_limit)),
            Self::Pooler(why) => why,
            Self::Unknown(probe) => match probe.comes_back(connection).await {
                Ok(true) => return Ok(How::asked(probe, lock_limit)),
                Ok(false) => LOST.to_owned(),
                Err(error) => return Err(classify(error, place)),
            },
        };
        let how = How::behind(why, settings, lock_limit);
        // Alone, so that what is wrong with them is not taken for something else.
        match connection.execute(sqlx::raw_sql(AssertSqlSafe(how.before().0.to_owned()))).await {
            Ok(_) => Ok(how),
            Err(error) => Err(classify(error, place)),
        }
    }
}

impl Probe {
    async fn comes_back(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let asked = "SELECT pg_catalog.current_setting('component_lease.probe', true)";
        let row = connection.fetch_one(sqlx::raw_sql(asked)).await?;
        Ok(row.try_get::<Option<String>, _>(0)?.as_deref() == Some(self.value()))
    }
}

const LOST: &str = "a setting that was asked for at the start is not there";

/// How statements are sent on a connection.
#[derive(Debug, Clone)]
pub(super) struct How {
    whose: Whose,
    /// What the URL asks of a session.
    settings: Vec<(String, String)>,
    before: (String, usize),
    literals: Literals,
}

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Ours,
    /// Nobody has read the probe yet; until then as if it were others', too.
    Unknown(Probe),
    /// And others', and why that is known.
    Shared(String),
}

impl How {
    fn asked(probe: Probe, lock_limit: u64) -> Self {
        Self::new(Whose::Unknown(probe), Vec::new(), lock_limit)
    }

    fn behind(why: String, settings: Vec<(String, String)>, lock_limit: u64) -> Self {
        Self::new(Whose::Shared(why), settings, lock_limit)
    }

    fn new(whose: Whose, settings: Vec<(String, String)>, lock_limit: u64) -> Self {
        let (before, literals) = ((String::new(), 0), Literals::default());
        let mut how = Self { whose, settings, before, literals };
        how.limit_lock_wait(lock_limit);
        how
    }

    /// Within a transaction that has its settings.
    pub(super) fn within(&self) -> Self {
        Self { before: (String::new(), 0), ..self.clone() }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.whose != Whose::Ours
    }

    /// Why others use the session, too.
    pub(super) fn pooler(&self) -> Option<&str> {
        match &self.whose {
            Whose::Shared(why) => Some(why),
            Whose::Ours | Whose::Unknown(_) => None,
        }
    }

    /// What precedes each text, and how many statements that is.
    pub(super) fn before(&self) -> (&str, usize) {
        (&self.before.0, self.before.1)
    }

    pub(super) fn literals(&self) -> Literals {
        self.literals
    }

    pub(super) fn probe(&self) -> Option<&str> {
        match &self.whose {
            Whose::Unknown(probe) => Some(probe.value()),
            Whose::Ours | Whose::Shared(_) => None,
        }
    }

    /// What a transaction sets for itself, whatever programs before it have left on the session. A setting's default
    /// is the one of the role and the database.
    pub(super) fn limit_lock_wait(&mut self, ms: u64) {
        if !self.is_shared() {
            return;
        }
        let mut before = format!(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL role TO DEFAULT; SET LOCAL search_path TO DEFAULT; \
             SET LOCAL synchronous_commit TO DEFAULT; SET LOCAL row_security = off; SET LOCAL statement_timeout = 0; \
             SET LOCAL lock_timeout = '{}'; ",
            lock_timeout(ms)
        );
        for (name, value) in &self.settings {
            // The default is for the transactions that follow.
            let name = if name == "default_transaction_read_only" { "transaction_read_only" } else { name };
            let set = Statement::new("SELECT pg_catalog.set_config($1, $2, true); ")
                .bind(name)
                .bind(value.as_str());
            // A URL holds no NUL.
            before.push_str(&set.text(Literals::Characters).unwrap_or_default());
        }
        let statements = 7 + self.settings.len();
        self.before = (before, statements);
    }

    /// The look at the server has told whether the probe came back, and whether the database has no encoding.
    pub(super) fn looked(&mut self, is_ours: bool, is_bytes: bool) {
        self.literals = if is_bytes { Literals::Bytes } else { Literals::Characters };
        if !matches!(self.whose, Whose::Unknown(_)) {
            return;
        }
        if is_ours {
            self.whose = Whose::Ours;
            self.before = (String::new(), 0);
        } else {
            self.whose = Whose::Shared(LOST.to_owned());
        }
    }
}

/// Where a pooler was found. That is not forgotten: on a session of its own a text does as well.
#[derive(Debug, Default)]
pub(super) struct Pooler(Mutex<Vec<Hosts>>);

type Hosts = Vec<(Host, u16)>;

impl Pooler {
    /// Why a URL is known to lead to a pooler.
    pub(super) fn known(&self, url: &PostgresUrl) -> Option<&'static str> {
        if url.pooled {
            return Some("the URL says pgbouncer=true");
        }
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.contains(&url.hosts).then_some("it was found before")
    }

    /// Said once.
    pub(super) fn found(&self, url: &PostgresUrl, why: &str, place: &Place) {
        {
            let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if found.contains(&url.hosts) {
                return;
            }
            found.push(url.hosts.clone());
        }
        let hints = if place.listens_apart() {
            "notifications come from the direct address"
        } else {
            "changes of holder are found by looking, about once a second: for notifications name the server's own address with --direct-database-url"
        };
        tracing::info!(
            "{place}: a connection pooler is in between ({why}); each call is one text in a transaction of its own, nothing is set on the pooler's sessions, and {hints}"
        );
    }
}

/// Whether a connection may have been refused for what it asked for at its start. Poolers have hardly any
/// codes of their own; a server that does not know a setting says 42704, of a value 22023.
pub(super) fn may_be_for_options(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    let says = error.message().to_ascii_lowercase();
    let code = error.code().unwrap_or_default();
    ["08", "0A"].iter().any(|class| code.starts_with(class))
        || says.contains("startup parameter")
        || says.contains("command-line options")
}

/// The refusal, as the reason.
pub(super) fn refusal(error: &sqlx::Error) -> String {
    let says = error.as_database_error().map(DatabaseError::message).unwrap_or_default();
    format!("it refuses a setting at the start: {says}")
}

/// The URL's parameter `options`, taken apart as the server does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `-c name=value`, `--name=value`.
    pub(super) settings: Vec<(String, String)>,
    /// The rest as it was written; for somebody in between, as `endpoint=...`.
    pub(super) others: Vec<String>,
}

impl Options {
    pub(super) fn of(url: &PostgresUrl) -> Self {
        url.options.as_deref().map(Self::parse).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut out = Self::default();
        let mut words = words(text).into_iter();
        while let Some((written, word)) = words.next() {
            let is_flag = word == "-c";
            let setting = if is_flag {
                words.next().map(|(_, word)| word)
            } else {
                word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(ToOwned::to_owned)
            };
            match setting.as_deref().and_then(|setting| setting.split_once('=')) {
                // As the server: it has no name with a hyphen.
                Some((name, value)) => out.settings.push((name.trim().replace('-', "_"), value.to_owned())),
                None => out.others.push(written),
            }
        }
        out
    }
}

/// Words between spaces, as written and without the backslashes, which take a space into a word.
fn words(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let (mut written, mut word) = (String::new(), String::new());
    let mut characters = text.chars();
    loop {
        let character = characters.next();
        match character {
            Some('\\') => {
                written.push('\\');
                if let Some(next) = characters.next() {
                    written.push(next);
                    word.push(next);
                }
            }
            Some(character) if !character.is_ascii_whitespace() => {
                written.push(character);
                word.push(character);
            }
            _ => {
                if !written.is_empty() {
                    out.push((std::mem::take(&mut written), std::mem::take(&mut word)));
                }
            }
        }
        if character.is_none() {
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Source;
    use crate::store::sql::dialect::Opened as _;

    #[test]
    fn options_are_taken_apart_as_the_server_does() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parsed = Options::parse(
            r"-c search_path=a,b  --lock-timeout=5s -cwork_mem=4MB endpoint=ep\ 1 -c a\ b=c\\d -B",
        );
        assert_eq!(
            parsed.settings,
            [of("search_path", "a,b"), of("lock_timeout", "5s"), of("work_mem", "4MB"), of("a b", r"c\d")]
        );
        assert_eq!(parsed.others, [r"endpoint=ep\ 1", "-B"]);
        assert_eq!(Options::parse(" "), Options::default());
    }

    #[test]
    fn a_pooler_that_was_found_is_known_by_its_address_and_nothing_listens_there() {
        let url = |text: &str| Source::url(text).read::<PostgresUrl>().unwrap();
        let (here, elsewhere) = (url("postgres://u@localhost:6432/d"), url("postgres://u@localhost:5432/d"));
        let place = Place::at(Source::url(""), &here, "test").unwrap();
        let listens = |url: &PostgresUrl| place.listens_at(url).unwrap().is_some();
        assert!(place.pooler.known(&here).is_none() && listens(&here));
        place.pooler.found(&here, "it refuses a setting", &place);
        assert!(place.pooler.known(&here).is_some() && !listens(&here), "nothing is tried there again");
        assert!(place.pooler.known(&elsewhere).is_none() && listens(&elsewhere));
        assert!(place.pooler.known(&url("postgres://u@localhost:5432/d?pgbouncer=true")).is_some());
    }

    #[test]
    fn a_transaction_sets_what_the_url_asks_for_and_nothing_of_it_runs() {
        let settings = vec![("search_path".to_owned(), "a'; DROP TABLE b; --".to_owned())];
        let mut how = How::behind(String::new(), settings, 0);
        how.limit_lock_wait(250);
        let (before, statements) = how.before();
        assert!(
            before.contains("SET LOCAL lock_timeout = '250ms'") && before.ends_with(", true); "),
            "{before}"
        );
        assert!(before.contains(r"E'a\x27; DROP TABLE b; --'::pg_catalog.text"), "{before}");
        assert_eq!(statements, 8);
        assert_eq!(how.within().before(), ("", 0));
    }
}
