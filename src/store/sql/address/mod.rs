//! What database URLs have in common: how one is taken apart, and what is written in place of one. What a URL of one
//! kind may say is its dialect's own. No error quotes a piece of a URL that could not be understood: it might be a piece
//! of the password. The name of a parameter is quoted where it looks like one.

mod begin;
mod mistakes;
mod parts;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

pub(super) use self::begin::{begins, misconfigured};
pub(super) use self::mistakes::found as mistake;
pub(super) use self::parts::{Parts, decode, named, nearest};
use crate::store::error::StoreError;

/// The environment, or a test's own.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the URL of one kind of database says. Displayed without secrets.
pub(super) trait Url: fmt::Display + Sized {
    /// How such a URL begins.
    const SCHEMES: &'static [&'static str];

    /// Whether a second URL may lead to the same server, past a connection pooler.
    const HAS_DIRECT: bool = false;

    /// `text` begins with one of the schemes.
    fn parse(text: &str, variables: Variables<'_>) -> Result<Self, StoreError>;

    /// The authority beside a URL that does not name it; beats the URL's own.
    fn trust(&mut self, file: PathBuf) -> Result<(), StoreError>;

    /// The password beside a URL; beats the URL's own.
    fn set_password(&mut self, password: String) -> Result<(), StoreError>;

    /// What the URL gives up of TLS, for the log.
    fn weaker_tls(&self) -> Option<String> {
        None
    }
}

/// A URL of this kind and no other.
pub(super) fn read<U: Url>(text: &str, variables: Variables<'_>) -> Result<U, StoreError> {
    let text = text.trim();
    if let Some(mistake) = mistake(text, U::SCHEMES) {
        return Err(mistake);
    }
    if begins(text, U::SCHEMES) {
        return U::parse(text, variables);
    }
    Err(misconfigured(format!(
        "the database URL does not begin with {}, as the one that this program began with (restart it to change the kind of database)",
        U::SCHEMES.join(" or ")
    )))
}

/// One of the servers that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or an address without brackets.
    Tcp(String),
    /// The folder of a Unix socket (PostgreSQL), or the socket itself (MySQL).
    Socket(PathBuf),
}

impl Host {
    /// Whether the connection leaves this machine.
    pub(super) fn is_remote(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Tcp(host) => {
                let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                !(loopback || host.eq_ignore_ascii_case("localhost"))
            }
        }
    }
}

/// For people.
pub(super) struct At<'a>(pub(super) &'a Host, pub(super) u16);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Host::Tcp(host), port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self(Host::Tcp(host), port) => write!(f, "{host}:{port}"),
            Self(Host::Socket(path), _) => write!(f, "{}", path.display()),
        }
    }
}

pub(super) fn write_hosts(f: &mut fmt::Formatter<'_>, hosts: &[(Host, u16)]) -> fmt::Result {
    for (index, (host, port)) in hosts.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { "at " } else { ", " }, At(host, *port))?;
    }
    Ok(())
}
