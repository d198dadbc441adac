//! What an operator says of one PostgreSQL server and its peers.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::database::engine::{EngineError, Leader, Member};
use crate::primary::bearer::{identity_of, name_of};

/// One server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its member: what others know it by (`application_name`). With the identity of the data directory ([`identity`](super::identity())), so that
    /// two directories of one name do not count as one.
    pub member: Member,
    /// The data directory. What must survive the loss or the rewinding of its content is kept beside it, so its parent must be on the
    /// same file system.
    pub data: PathBuf,
    /// What starts the server, with its arguments; more are put at the end.
    pub command: Vec<OsString>,
    /// PostgreSQL's other programs.
    pub programs: Programs,
    /// As whom the server is asked over its Unix socket. The server's `pg_hba.conf` must let the supervisor's account in
    /// (`peer`).
    pub user: String,
    /// Where the row of the term is.
    pub database: String,
    /// How members reach each other.
    pub peers: Peers,
    /// The server's data that are expected, if that is known.
    pub system: Option<u64>,
    /// What is started as a guardian, if not this very program.
    pub guardian: Option<PathBuf>,
    /// Where the server writes, if not where this process does.
    pub output: Option<PathBuf>,
}

/// Where PostgreSQL's programs are, and how they are started.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Put before each program: what makes it run as another user, say.
    pub prefix: Vec<OsString>,
    /// The folder of `pg_rewind`, `pg_basebackup` and `pg_controldata`; `None` where they are on the PATH.
    pub folder: Option<PathBuf>,
}

impl Programs {
    pub(super) fn command(&self, name: &str) -> Vec<OsString> {
        let program =
            self.folder.as_ref().map_or_else(|| name.into(), |folder| folder.join(name).into_os_string());
        self.prefix.iter().cloned().chain([program]).collect()
    }
}

/// How one member reaches the server of another: for receiving, for rewinding, and for a look at its history.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    pub user: String,
    pub password_file: Option<PathBuf>,
    /// `sslmode` of libpq; `None` is `verify-full` where an authority is named, and `prefer` elsewhere.
    pub tls_mode: Option<String>,
    pub tls_root: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
}

/// The longest name that PostgreSQL tells apart.
const LONGEST: usize = 63;
/// The longest of a member: the identity of its data directory comes after it.
const LONGEST_MEMBER: usize = 50;

impl Config {
    /// Beside the data directory: nothing in it survives a rewinding or a copy.
    pub(super) fn state(&self) -> PathBuf {
        beside(&self.data, "component-lease")
    }

    pub(super) fn check(&self) -> Result<(), EngineError> {
        check_bearer(&self.member)?;
        if self.data.parent().is_none_or(|parent| parent.as_os_str().is_empty()) || self.data.is_relative() {
            return Err(EngineError::refused(format!(
                "the data directory {} must be an absolute path with a folder above it, beside which its copies are kept",
                self.data.display()
            )));
        }
        if self.command.is_empty() {
            return Err(EngineError::refused(
                "there is no command that starts the server; write it after --",
            ));
        }
        Ok(())
    }
}

/// `DATA.SUFFIX`.
pub(super) fn beside(data: &Path, suffix: &str) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// PostgreSQL cuts longer names and replaces other characters, so that two members might look alike.
///
/// # Errors
/// A refusal that says which names can be used.
pub fn check_member(member: &str) -> Result<(), EngineError> {
    // It compares them without regard to case.
    let fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
    if member.is_empty() || member.len() > LONGEST_MEMBER || !member.bytes().all(fine) {
        return Err(EngineError::refused(format!(
            "the member {member:?} must have 1 to {LONGEST_MEMBER} lowercase letters, digits, '-', '_' or '.': PostgreSQL would \
             change another name, or take it for a member's"
        )));
    }
    Ok(())
}

/// As [`check_member`], with or without the identity of a data directory.
pub(super) fn check_bearer(bearer: &str) -> Result<(), EngineError> {
    check_member(name_of(bearer))?;
    let identity = identity_of(bearer);
    if bearer.len() > LONGEST || !identity.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Err(EngineError::refused(format!("{bearer:?} has an identity that no data directory has")));
    }
    Ok(())
}

/// The slot in which the primary of a version keeps the log for a member. Names of slots have fewer characters than those of members.
///
/// The version is part of it: a standby connects by itself, whatever its supervisor knows, and must receive nothing of a
/// primary for which it is not sealed. That one has no slot of an older version.
pub(super) fn slot_of(member: &str, version: i64) -> String {
    let kept: String = member
        .bytes()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() as char } else { '_' })
        .collect();
    // FNV-1a, so that two members that differ in what was replaced do not share one.
    let hash =
        member.bytes().fold(0x811c_9dc5_u32, |hash, c| (hash ^ u32::from(c)).wrapping_mul(0x0100_0193));
    format!("{SLOTS}{version:x}_{kept:.21}_{hash:08x}")
}

/// How all of them begin.
pub(super) const SLOTS: &str = "component_lease_";

/// What a copy of the primary's data is made as: it reports what it has on disk, as a standby does, and must acknowledge
/// nothing. No member can bear it.
pub(super) const COPIER: &str = "component-lease: copy";

/// The names that a server is given for [`crate::primary::Names::Nobody`]: nobody can bear it, as it is no name of a member.
pub(super) const NOBODY: &str = "\"component-lease: nobody\"";

impl Peers {
    /// What libpq needs to reach a server. Never a password: that is in `passfile`.
    pub(super) fn conninfo(
        &self,
        to: &Leader,
        member: &str,
        passfile: Option<&Path>,
        database: Option<&str>,
    ) -> String {
        let mut parts = vec![
            ("host", to.host.clone()),
            ("port", to.port.to_string()),
            ("user", self.user.clone()),
            ("application_name", member.to_owned()),
            ("sslmode", self.mode().to_owned()),
            ("connect_timeout", "5".to_owned()),
            // A peer that vanished: its kernel answers no more, whether something was sent or is waited for.
            ("tcp_user_timeout", "5000".to_owned()),
            ("keepalives_idle", "5".to_owned()),
            ("keepalives_interval", "2".to_owned()),
            ("keepalives_count", "3".to_owned()),
        ];
        parts.extend(database.map(|database| ("dbname", database.to_owned())));
        let files = [
            ("passfile", passfile),
            ("sslrootcert", self.tls_root.as_deref()),
            ("sslcert", self.tls_cert.as_deref()),
            ("sslkey", self.tls_key.as_deref()),
        ];
        parts.extend(files.into_iter().filter_map(|(name, file)| Some((name, file?.display().to_string()))));
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(name, value)| format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
            .collect();
        parts.join(" ")
    }

    pub(super) fn mode(&self) -> &str {
        match (&self.tls_mode, &self.tls_root) {
            (Some(mode), _) => mode,
            (None, Some(_)) => "verify-full",
            (None, None) => "prefer",
        }
    }

    /// The content of libpq's file of passwords, for any server.
    pub(super) fn passfile(&self, password: &str) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        format!("*:*:*:{}:{}\n", escaped(&self.user), escaped(password))
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{}, version {})", self.member, self.host, self.port, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> Leader {
        Leader { member: "db-1".into(), version: 7, host: "db-1.example".into(), port: 5433 }
    }

    #[test]
    fn a_member_is_reached_with_its_parts_quoted_and_without_its_password() {
        let peers = Peers { user: "it's\\me".into(), tls_root: Some("/ca.pem".into()), ..Peers::default() };
        let text = peers.conninfo(&leader(), "db-0", Some(Path::new("/p")), None);
        for part in [
            "host='db-1.example'",
            "port='5433'",
            r"user='it\'s\\me'",
            "application_name='db-0'",
            "sslmode='verify-full'",
            "passfile='/p'",
            "sslrootcert='/ca.pem'",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("dbname") && !text.contains("password"), "{text}");
        assert!(peers.conninfo(&leader(), "db-0", None, Some("app")).contains("dbname='app'"));
    }

    #[test]
    fn the_file_of_passwords_has_them_for_any_server() {
        let peers = Peers { user: "re:p".into(), ..Peers::default() };
        assert_eq!(peers.passfile(r"a:b\c"), "*:*:*:re\\:p:a\\:b\\\\c\n");
    }

    #[test]
    fn neither_two_members_nor_two_versions_share_a_slot() {
        let names =
            ["db-0", "db.0", "db_0", &"x".repeat(63), &format!("{}y", "x".repeat(62)), "db-0@1", "db-0@2"];
        let of = |version| names.iter().map(move |name| slot_of(name, version));
        let slots: std::collections::BTreeSet<_> = of(7).chain(of(i64::MAX)).collect();
        assert_eq!(slots.len(), 2 * names.len(), "{slots:?}");
        for slot in slots {
            assert!(slot.len() <= LONGEST && slot.starts_with(SLOTS), "{slot}");
            assert!(
                slot.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'),
                "{slot}"
            );
        }
    }

    #[test]
    fn names_that_the_server_would_change_are_refused() {
        for fine in ["a", "orders-db-0", "db_0.example"] {
            assert!(check_member(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "ö", "DB-0", "a b", "a\"b", "a@1", &"x".repeat(51), "component-lease: nobody"] {
            assert!(check_member(wrong).unwrap_err().is_refusal(), "{wrong}");
        }
        for fine in ["a", "a@0123456789ab"] {
            assert!(check_bearer(fine).is_ok(), "{fine}");
        }
        for wrong in ["a@B", "a@1\"", "@1", "a@1@2", &format!("{}@{}", "x".repeat(50), "1".repeat(13))] {
            assert!(check_bearer(wrong).unwrap_err().is_refusal(), "{wrong}");
        }
    }
}
