//! What is given in place of a URL again and again: recognised, and said.

use super::begin::{begins, misconfigured};
use crate::store::error::StoreError;

/// In place of a URL of one of these schemes. `text` has no white space at its ends. Nothing of it is quoted.
pub(in crate::store::sql) fn found(text: &str, schemes: &[&str]) -> Option<StoreError> {
    let begins = |text: &str| begins(text, schemes);
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
    if schemes.iter().any(|scheme| text.starts_with(&base64(scheme))) {
        return says(
            "is encoded in base64; what a Secret has under `data` is base64 of the value: decode it, or write the URL under `stringData`",
        );
    }
    if !begins(text)
        && let Some(scheme) = schemes.iter().filter_map(|scheme| text.find(scheme)).min()
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
        && schemes.contains(&format!("{kind}://").as_str())
    {
        return says(
            "names a driver behind a +, which is for another program; write the scheme alone, as in postgres://",
        );
    }
    // The path of a file may have some.
    if schemes.iter().any(|scheme| scheme.ends_with("://") && text.starts_with(scheme))
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

/// How base64 of a text that begins like this begins: as far as the digits do not depend on what follows.
fn base64(begin: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = begin.bytes().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digit = |six: &[u8]| six.iter().fold(0_usize, |digit, bit| digit * 2 + usize::from(*bit));
    bits.chunks_exact(6).map(|six| char::from(DIGITS[digit(six)])).collect()
}
