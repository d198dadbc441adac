//! What an operator wrote: where the database URL and its password come from. Nothing of this module prints a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use super::address::{self, Url, misconfigured};
use crate::store::error::StoreError;

/// Where the database URL and its password come from. Files are read again at every connect, so
/// that a mounted secret may be rotated.
#[derive(Clone)]
pub struct Source {
    url: UrlFrom,
    direct: Option<UrlFrom>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    unsafe_backend: bool,
}

#[derive(Clone)]
enum UrlFrom {
    Literal(String),
    File(PathBuf),
}

impl UrlFrom {
    fn read(&self, what: &str) -> Result<String, StoreError> {
        match self {
            Self::Literal(url) => Ok(url.clone()),
            Self::File(path) => read_secret(path, what),
        }
    }
}

impl Source {
    /// A URL given as text.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(UrlFrom::Literal(url.into()))
    }

    /// A file that holds the URL.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(UrlFrom::File(path.into()))
    }

    fn of(url: UrlFrom) -> Self {
        Self { url, direct: None, password_file: None, ca_file: None, unsafe_backend: false }
    }

    /// PostgreSQL behind a connection pooler: the server's own URL, for notifications alone, which no pooler
    /// passes on. Statements go by the first URL. The password file and the CA file are for both.
    #[must_use]
    pub fn direct_url(mut self, url: impl Into<String>) -> Self {
        self.direct = Some(UrlFrom::Literal(url.into()));
        self
    }

    /// As [`Source::direct_url`], a file that holds the URL.
    #[must_use]
    pub fn direct_url_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.direct = Some(UrlFrom::File(path.into()));
        self
    }

    /// A file that holds only the password; beats the one in the URL.
    #[must_use]
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_file = Some(path.into());
        self
    }

    /// A file with the certificates of the authorities that sign the server's; beats what the URL names. A
    /// server that is not signed by one of them (or by a public one) is refused then, on this machine too.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Also a database that may forget what it acknowledged (see docs/databases.md).
    #[must_use]
    pub fn unsafe_backend(mut self, allow: bool) -> Self {
        self.unsafe_backend = allow;
        self
    }

    pub(super) fn allows_unsafe_backend(&self) -> bool {
        self.unsafe_backend
    }

    /// Reads and checks everything anew, for a store that can only be of this kind: a URL file that changes from
    /// one kind of database to another under a running program is no rotation.
    pub(super) fn read<U: Url>(&self) -> Result<U, StoreError> {
        if self.direct.is_some() && !U::HAS_DIRECT {
            return Err(misconfigured(
                "a direct database URL is for PostgreSQL behind a connection pooler; leave it out",
            ));
        }
        self.complete(&self.text()?)
    }

    /// The URL as it is written.
    pub(super) fn text(&self) -> Result<String, StoreError> {
        self.url.read("database URL")
    }

    /// The server's own address, if there is one beside a pooler's.
    pub(super) fn read_direct<U: Url>(&self) -> Result<Option<U>, StoreError> {
        let Some(direct) = &self.direct else { return Ok(None) };
        let text = direct.read("direct database URL")?;
        self.complete(&text).map(Some).map_err(|error| {
            misconfigured(format!(
                "direct database URL (of the PostgreSQL server behind the pooler): {error}"
            ))
            .caused_by(error)
        })
    }

    pub(super) fn has_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// With the files that are beside it.
    fn complete<U: Url>(&self, text: &str) -> Result<U, StoreError> {
        let mut url: U = address::read(text, &|name| std::env::var(name).ok())?;
        if let Some(path) = &self.ca_file {
            url.trust(path.clone())?;
        }
        if let Some(path) = &self.password_file {
            url.set_password(read_secret(path, "database password")?)?;
        }
        Ok(url)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Source");
        for (from, name, file) in
            [(Some(&self.url), "url", "url_file"), (self.direct.as_ref(), "direct_url", "direct_url_file")]
        {
            match from {
                Some(UrlFrom::Literal(_)) => out.field(name, &"(given)"),
                Some(UrlFrom::File(path)) => out.field(file, path),
                None => &mut out,
            };
        }
        out.field("password_file", &self.password_file).field("ca_file", &self.ca_file);
        out.field("unsafe_backend", &self.unsafe_backend).finish()
    }
}

fn read_secret(path: &Path, what: &str) -> Result<String, StoreError> {
    let says = |why: &str| misconfigured(format!("the file {} for the {what} {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| {
        misconfigured(format!("cannot read the {what} from the file {}: {error}", path.display()))
            .caused_by(error)
    })?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(says(
            "is in UTF-16, as some programs of Windows write it; save it as UTF-8 without a byte order mark",
        ));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(says("begins with a byte order mark; save it as UTF-8 without one"));
    }
    let text = String::from_utf8(bytes).map_err(|_| says("is not text in UTF-8"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(says("is empty"));
    }
    Ok(text.to_owned())
}

/// Refuses a file that the URL names and that cannot be read.
pub(super) fn readable(file: &Path, url: &impl fmt::Display) -> Result<(), StoreError> {
    std::fs::File::open(file).map(drop).map_err(|error| {
        StoreError::misconfigured(format!(
            "{url}: cannot read {}, which the URL names: {error}",
            file.display()
        ))
        .caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A URL that keeps of all that is said the password alone.
    struct Kept(String);

    impl fmt::Display for Kept {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("kept")
        }
    }

    impl Url for Kept {
        const SCHEMES: &'static [&'static str] = &["postgres://"];

        fn parse(text: &str, _: address::Variables<'_>) -> Result<Self, StoreError> {
            Ok(Self(text.to_owned()))
        }

        fn trust(&mut self, _: PathBuf) -> Result<(), StoreError> {
            Ok(())
        }

        fn set_password(&mut self, password: String) -> Result<(), StoreError> {
            self.0 = password;
            Ok(())
        }
    }

    #[test]
    fn a_source_prints_where_secrets_come_from_and_never_a_secret() {
        let given = Source::url("postgres://u:hunter2@h/d").password_file("/run/password");
        assert!(!format!("{given:?}").contains("hunter2"));
        assert!(format!("{given:?}").contains("/run/password"));
    }

    #[test]
    fn a_password_file_beats_the_url_and_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let source = Source::url("postgres://u:old@h/d").password_file(&file);
        let password = || source.read::<Kept>().map(|url| url.0).map_err(|error| error.to_string());
        assert!(password().unwrap_err().contains(&file.display().to_string()));
        for now in ["first\n", "second"] {
            std::fs::write(&file, now).unwrap();
            assert_eq!(password().unwrap(), now.trim());
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(password().unwrap_err().contains("is empty"));
        for (bytes, piece) in [
            (&b"\xff\xfeh\0"[..], "UTF-16"),
            (b"\xef\xbb\xbfhunter2", "byte order mark"),
            (b"\xc3hunter2", "UTF-8"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let why = password().unwrap_err();
            assert!(why.contains(piece) && !why.contains("hunter2"), "{why}");
        }
    }
}
