//! What is given in place of a URL again and again: recognised, and said.

use super::misconfigured;
use crate::store::StoreError;

const SCHEMES: [&str; 5] = ["postgres://", "postgresql://", "mysql://", "mariadb://", "sqlite:"];

/// How base64 of each of them begins.
const BASE64: [&str; 5] = ["cG9zdGdyZXM6Ly", "cG9zdGdyZXNxbDovL", "bXlzcWw6Ly", "bWFyaWFkYjovL", "c3FsaXRlO"];

/// `text` has no white space at its ends. Nothing of it is quoted.
pub(super) fn found(text: &str) -> Option<StoreError> {
    let begins = |text: &str| SCHEMES.iter().any(|scheme| text.starts_with(scheme));
    let says = |what: &str| Some(misconfigured(format!("the database URL {what}")));
    if text.starts_with('\u{feff}') {
        return says(
            "begins with a byte order mark, which some editors put in front of a file; save it without one (UTF-8 without BOM)",
        );
    }
    let quoted = ['"', '\'', '`', '<'];
    if text.starts_with(quoted) && begins(text.trim_start_matches(quoted)) {
        return says("stands in quotes; leave them out: a file or a Secret holds the URL alone");
    }
    if BASE64.iter().any(|start| text.starts_with(start)) {
        return says(
            "is encoded in base64; what a Secret has under `data` is base64 of the value: decode it, or write the URL under `stringData`",
        );
    }
    if !begins(text)
        && let Some(scheme) = SCHEMES.iter().filter_map(|scheme| text.find(scheme)).min()
    {
        let before = &text[..scheme];
        let name = before.trim_end_matches(['"', '\'', ' ', '\t']);
        if before == "jdbc:" {
            return says("is one for Java; leave out jdbc: in front of it");
        }
        if name.ends_with('=') || name.ends_with(':') {
            return says(
                "has a name in front of it (as in KEY=postgres://...); a file, a Secret's key or a variable holds the URL alone",
            );
        }
    }
    if let Some((scheme, _)) = text.split_once("://")
        && let Some((kind, _)) = scheme.split_once('+')
        && SCHEMES.contains(&format!("{kind}://").as_str())
    {
        return says(
            "names a driver behind a +, which is for another program; write the scheme alone, as in postgres://",
        );
    }
    if begins(text)
        && !text.starts_with("sqlite:")
        && text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return says(
            "contains white space or a line break; a file holds one URL and nothing else, and in user and password a blank is %20",
        );
    }
    let words = ["host=", "hostaddr=", "dbname=", "service="];
    if !text.contains("://")
        && words.iter().any(|word| text.split_whitespace().any(|part| part.starts_with(word)))
    {
        return says(
            "is a list of keywords; write it as postgres://user@host:5432/database?sslmode=verify-full",
        );
    }
    None
}
