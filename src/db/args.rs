//! The flags, and what is wrong with them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::database::Cloning;
use crate::database::postgres::check_member;
use crate::process::Failure;
use crate::process::args::{LogArgs, SecretUrl};
use crate::process::listen::Listen;

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one PostgreSQL server as a member of a cluster that elects its primary (experimental)
    ///
    /// The server is always started as a standby. It is promoted only while this process holds the lease "who is the
    /// primary", and only if no acknowledged write can be lost by that. SIGTERM hands the role over and ends both.
    /// Experimental: not yet for data that you cannot lose.
    Run(Box<RunArgs>),
    /// Show the lease, the record and what the members say (experimental)
    Status(StatusArgs),
}

/// Which lease says who is the primary.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Lease")]
pub struct LeaseArgs {
    /// Name of the cluster, and of its lease. In a pod the key of a row is NAMESPACE/NAME, with the namespace from
    /// POD_NAMESPACE
    #[arg(long, value_name = "NAME")]
    pub cluster: String,
    /// Where the lease is: `kubernetes` for a Lease object in this pod's namespace, or the URL of another database than
    /// the one whose primary it is about. Others can read a password within the command line
    #[arg(
        long,
        env = "COMPONENT_LEASE_DATABASE_URL",
        hide_env_values = true,
        value_name = "WHERE",
        required_unless_present = "lease_url_file"
    )]
    pub lease: Option<SecretUrl>,
    /// File that holds the URL. It is read at every connect
    #[arg(long, env = "COMPONENT_LEASE_DATABASE_URL_FILE", value_name = "FILE", conflicts_with = "lease")]
    pub lease_url_file: Option<PathBuf>,
    /// File that holds only the password of the URL. It is read at every connect
    #[arg(long, env = "COMPONENT_LEASE_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub lease_password_file: Option<PathBuf>,
    /// File with the certificates of the authorities that sign the certificate of the lease's database. It is read at
    /// every connect
    #[arg(long, env = "COMPONENT_LEASE_DATABASE_CA_FILE", value_name = "FILE")]
    pub lease_ca_file: Option<PathBuf>,
}

/// `db run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Seconds that the primary keeps the lease without renewal (5 to 3600)
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(5..=3600), value_name = "SECONDS")]
    pub ttl: u32,
    /// Which member this is
    #[arg(long, value_name = "NAME")]
    pub member: String,
    /// All members of the cluster, the same at each of them
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAMES")]
    pub members: Vec<String>,
    /// Where the other members reach this server
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Address,
    /// How many other members must have a commit on disk before it is acknowledged
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub acks: usize,
    /// When the data may be copied from the primary. What was there is kept aside
    #[arg(long, value_enum, default_value_t = Copying::IfEmpty, value_name = "WHEN")]
    pub clone: Copying,
    /// Data directory [default: what the server's command says, else $PGDATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of pg_rewind, pg_basebackup and pg_controldata [default: the server's, else the PATH]
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Superuser as whom the server is managed over its Unix socket
    #[arg(long, default_value = "postgres", value_name = "ROLE")]
    pub user: String,
    /// Database in which the row of the primary's term is kept
    #[arg(long, default_value = "postgres", value_name = "NAME")]
    pub database: String,
    #[command(flatten)]
    pub peers: PeerArgs,
    /// Address of the HTTP endpoints; :PORT means all addresses, IPv6 and IPv4
    #[arg(long, default_value = ":8008", value_name = "ADDRESS")]
    pub listen: Listen,
    #[command(flatten)]
    pub log: LogArgs,
    /// Command that starts the server in the foreground, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// How members reach each other.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_field_names, reason = "each is the name of a flag")]
#[command(next_help_heading = "Members among each other")]
pub struct PeerArgs {
    /// Role with REPLICATION as which a member reaches another one's server
    #[arg(long, default_value = "replicator", value_name = "ROLE")]
    pub replication_user: String,
    /// File that holds the password of that role. It is read at every connect
    #[arg(long, value_name = "FILE")]
    pub replication_password_file: Option<PathBuf>,
    /// sslmode of libpq [default: verify-full with --replication-ca-file, else prefer]
    #[arg(long, value_name = "MODE", value_parser = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])]
    pub replication_tls_mode: Option<String>,
    /// File with the certificates of the authorities that sign the members' certificates
    #[arg(long, value_name = "FILE")]
    pub replication_ca_file: Option<PathBuf>,
    /// Certificate by which this member shows who it is
    #[arg(long, value_name = "FILE", requires = "replication_key_file")]
    pub replication_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "replication_cert_file")]
    pub replication_key_file: Option<PathBuf>,
}

/// `db status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Members to show before there is a record [default: those of the record]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub members: Vec<String>,
    #[command(flatten)]
    pub log: LogArgs,
}

/// When a member may be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Copying {
    /// Only where there is no data at all
    IfEmpty,
    /// Also where it can be brought back in no other way
    IfNeeded,
}

impl From<Copying> for Cloning {
    fn from(copying: Copying) -> Self {
        match copying {
            Copying::IfEmpty => Self::IfEmpty,
            Copying::IfNeeded => Self::IfNeeded,
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no host and port; write for example db-0.example:5432 or [fd00::1]:5432");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fine = |host: &str| {
            !host.is_empty() && host.bytes().all(|c| c.is_ascii_graphic() && c != b'/' && c != b',')
        };
        let host = match bare {
            Some(host) if host.contains(':') => host,
            None if !host.contains(':') => host,
            _ => return Err(wrong()),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if !fine(host) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl RunArgs {
    /// All members, this one among them, so many that there can be as many acknowledgements as are asked for.
    pub(super) fn all_members(&self) -> Result<BTreeSet<String>, Failure> {
        let members: BTreeSet<String> = self.members.iter().map(|name| name.trim().to_owned()).collect();
        if members.len() != self.members.len() || members.contains("") {
            return Err(Failure::config(format!(
                "--members {:?} names a member twice or has an empty name; write each once, separated by commas",
                self.members.join(",")
            )));
        }
        for member in &members {
            check_member(member).map_err(|error| Failure::config(format!("--members: {error}")))?;
        }
        if !members.contains(&self.member) {
            return Err(Failure::config(format!(
                "--member {:?} is not among --members {:?}; all members must be declared, in the same words at each of them",
                self.member,
                self.members.join(",")
            )));
        }
        if self.acks == 0 || self.acks >= members.len() {
            return Err(Failure::config(format!(
                "--acks {} cannot be met: of {} members, 1 to {} others can acknowledge",
                self.acks,
                members.len(),
                members.len().saturating_sub(1)
            )));
        }
        Ok(members)
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        run: RunArgs,
    }

    fn run(words: &[&str]) -> RunArgs {
        let all = ["x", "--cluster", "c", "--lease", "kubernetes", "--address", "h:1"];
        Whole::try_parse_from(all.iter().chain(words).chain(&["--", "postgres"])).unwrap().run
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [("db-0.x:5432", "db-0.x", 5432), ("[fd00::1]:1", "fd00::1", 1)] {
            assert_eq!(text.parse::<Address>().unwrap(), Address { host: host.to_owned(), port });
        }
        for wrong in [
            "",
            "db-0",
            "db-0:",
            ":5432",
            "db-0:0",
            "db-0:70000",
            "fd00::1:5432",
            "[db]:1",
            "a/b:1",
            "a b:1",
            "a,b:1",
        ] {
            assert!(wrong.parse::<Address>().unwrap_err().contains("db-0.example:5432"), "{wrong}");
        }
    }

    #[test]
    fn members_that_cannot_be_a_cluster_are_refused_with_what_to_write() {
        let three = run(&["--member", "a", "--members", "a,b,c"]);
        assert_eq!(three.all_members().unwrap().len(), 3);
        for (words, piece) in [
            (&["--member", "d", "--members", "a,b,c"][..], "--member \"d\" is not among"),
            (&["--member", "a", "--members", "a,b,b"], "names a member twice"),
            (&["--member", "a", "--members", "a,,b"], "empty name"),
            (&["--member", "a", "--members", "a,b,C"], "the member \"C\" must have"),
            (&["--member", "a", "--members", "a"], "--acks 1 cannot be met"),
            (&["--member", "a", "--members", "a,b,c", "--acks", "0"], "1 to 2 others"),
            (&["--member", "a", "--members", "a,b,c", "--acks", "3"], "1 to 2 others"),
        ] {
            let failure = run(words).all_members().unwrap_err();
            assert!(failure.to_string().contains(piece), "{failure}");
            assert_eq!(failure.exit.code(), 78);
        }
    }
}
