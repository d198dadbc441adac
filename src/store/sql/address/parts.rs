//! A URL taken apart, as libpq and MySQL's programs read it: several hosts, each with its port.

use super::begin::misconfigured;
use crate::store::error::StoreError;

/// What stands where, decoded. Of each host the port that stands behind it.
pub(in crate::store::sql) struct Parts {
    pub(in crate::store::sql) user: String,
    pub(in crate::store::sql) password: Option<String>,
    pub(in crate::store::sql) hosts: Vec<(String, Option<u16>)>,
    pub(in crate::store::sql) database: String,
    pub(in crate::store::sql) parameters: Vec<(String, String)>,
}

impl Parts {
    /// `unencoded` is the error for what cannot be understood; it says what to write, and quotes nothing.
    pub(in crate::store::sql) fn of(
        text: &str,
        unencoded: impl Fn() -> StoreError,
    ) -> Result<Self, StoreError> {
        let (_, rest) = text.split_once("://").ok_or_else(&unencoded)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A password with one of these in it, not encoded, would be cut in two.
        if text.contains('#') || path.contains(['@', '/']) || query.contains(['@', '?']) {
            return Err(unencoded());
        }
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        // MySQL Shell writes several hosts in brackets, which IPv6 addresses have too.
        let listed = hosts.strip_prefix('[').and_then(|hosts| hosts.strip_suffix(']'));
        let hosts = listed.filter(|hosts| hosts.contains(',')).unwrap_or(hosts);
        let mut parts = Self {
            user: decode(user)?,
            password: password.map(decode).transpose()?,
            hosts: Vec::new(),
            database: decode(path)?,
            parameters: Vec::new(),
        };
        for host in hosts.split(',') {
            let (name, port) = host_and_port(host).ok_or_else(&unencoded)?;
            parts.hosts.push((decode(name)?, port));
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else {
                return Err(misconfigured(format!(
                    "the database URL has {} without a value; write it as name=value",
                    named(&decode(parameter)?)
                )));
            };
            parts.parameters.push((decode(name)?, decode(value)?));
        }
        Ok(parts)
    }
}

fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']')?;
            match rest.strip_prefix(':') {
                Some(port) => (name, port),
                None if rest.is_empty() => (name, ""),
                None => return None,
            }
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    match port {
        "" => Some((name, None)),
        port => port.parse().ok().filter(|port| *port != 0).map(|port| (name, Some(port))),
    }
}

/// A parameter's name as it may be shown: what does not look like one may be a piece of a password.
pub(in crate::store::sql) fn named(name: &str) -> String {
    let looks = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 40
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if looks { format!("the parameter {name}") } else { "a parameter".to_owned() }
}

/// Decodes `%40` and the like.
pub(in crate::store::sql) fn decode(text: &str) -> Result<String, StoreError> {
    let wrong = || {
        misconfigured(
            "the database URL has a % that is not followed by two hexadecimal digits of UTF-8; write % itself as %25",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16)).ok_or_else(wrong);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// How far two words are apart, for the nearest known one.
pub(in crate::store::sql) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |a: &str, b: &str| {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.chars().enumerate() {
            let mut before = std::mem::replace(&mut row[0], i + 1);
            for (j, y) in b.iter().enumerate() {
                let cost = before + usize::from(x != *y);
                before = row[j + 1];
                row[j + 1] = cost.min(row[j] + 1).min(before + 1);
            }
        }
        row[b.len()]
    };
    known
        .iter()
        .copied()
        .map(|word| (distance(name, word), word))
        .min()
        .filter(|(far, _)| *far <= 2)
        .map(|(_, word)| word)
}
