//! What the server's own command line says: its data directory, where its other programs are, and how they are started.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::database::postgres::Programs;
use crate::process::Failure;

/// The words of PostgreSQL's server. Those before it are a wrapper, which starts the other programs too.
const SERVERS: [&str; 2] = ["postgres", "postmaster"];

/// Where in the command the server's program is. What could be read in two ways is refused.
fn server(command: &[OsString]) -> Result<usize, Failure> {
    let is_named =
        |word: &OsString| Path::new(word).file_name().is_some_and(|name| SERVERS.iter().any(|s| name == *s));
    // What comes behind this is the server's own.
    let before = command.iter().position(|word| word.as_bytes().starts_with(b"-D")).unwrap_or(command.len());
    let named: Vec<usize> = (0..before).filter(|at| is_named(&command[*at])).collect();
    // Behind an option it may be that one's value, as in `setpriv --reuid postgres postgres` and `postgres -k /run/postgres`.
    let is_behind_an_option =
        |at: &usize| at.checked_sub(1).is_some_and(|at| command[at].as_bytes().starts_with(b"-"));
    let alone: Vec<usize> = named.iter().copied().filter(|at| !is_behind_an_option(at)).collect();
    let has_folder = |at: &&usize| command[**at].as_bytes().contains(&b'/');
    let with_folder: Vec<usize> = alone.iter().filter(has_folder).copied().collect();
    match (&named[..], &alone[..], &with_folder[..]) {
        ([at], ..) | (_, [at], _) | (.., [at]) => Ok(*at),
        ([], ..) => Err(Failure::config(
            "the command after -- does not name PostgreSQL's server: one of its words must be postgres, with or without its folder, in front of the server's own arguments (as in: -- /usr/lib/postgresql/15/bin/postgres -D /data/main)",
        )),
        _ => {
            let words: Vec<_> =
                named.iter().map(|at| format!("{:?} (word {})", command[*at].display(), at + 1)).collect();
            Err(Failure::config(format!(
                "the command after -- can be read in more than one way: the server may be {}; write the server with its folder, and nothing else of that name in front of -D (as in: -- gosu postgres /usr/lib/postgresql/15/bin/postgres -D /data/main)",
                words.join(" or ")
            )))
        }
    }
}

/// How the programs beside the server are started.
pub(super) fn programs(command: &[OsString], folder: Option<PathBuf>) -> Result<Programs, Failure> {
    let at = server(command)?;
    let own = Path::new(&command[at]).parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(Programs { prefix: command[..at].to_vec(), folder: folder.or_else(|| own.map(Path::to_owned)) })
}

/// The data directory: as it was said, as the command says it, or as the environment does.
pub(super) fn data(
    command: &[OsString],
    said: Option<PathBuf>,
    environment: Option<OsString>,
) -> Result<PathBuf, Failure> {
    let arguments = &command[server(command)? + 1..];
    let named = of_command(arguments);
    if let (Some(said), Some(named)) = (&said, &named)
        && said != named
    {
        return Err(Failure::config(format!(
            "--data says {}, and the command after -- says {}: name one data directory",
            said.display(),
            named.display()
        )));
    }
    let found = said.or(named).or_else(|| environment.map(PathBuf::from));
    let found = found.filter(|data| !data.as_os_str().is_empty()).ok_or_else(|| {
        Failure::config("the data directory is not known: write -D DIR behind postgres, or say --data DIR")
    })?;
    if found.is_relative() {
        return Err(Failure::config(format!(
            "the data directory {} must be an absolute path",
            found.display()
        )));
    }
    Ok(found)
}

/// The last one that is given, as the server reads it.
fn of_command(arguments: &[OsString]) -> Option<PathBuf> {
    let mut found = None;
    let mut words = arguments.iter().map(|word| word.as_bytes());
    while let Some(word) = words.next() {
        let setting = match word {
            b"-D" => {
                found = words.next().map(path);
                continue;
            }
            b"-c" => words.next().unwrap_or_default(),
            _ => match (word.strip_prefix(b"--"), word.strip_prefix(b"-D"), word.strip_prefix(b"-c")) {
                (Some(setting), ..) | (None, None, Some(setting)) => setting,
                (None, Some(data), _) => {
                    found = Some(path(data));
                    continue;
                }
                _ => continue,
            },
        };
        let names = [b"data_directory=".as_slice(), b"data-directory="];
        found = names.iter().find_map(|name| setting.strip_prefix(*name)).map(path).or(found);
    }
    found
}

fn path(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_data_directory_is_found_as_the_server_finds_it() {
        for (command, wanted) in [
            ("postgres -D /data", "/data"),
            ("/usr/lib/pg/bin/postgres -D/data -p 5433", "/data"),
            ("postgres -c data_directory=/data", "/data"),
            ("postgres --data-directory=/data", "/data"),
            ("postgres -cdata_directory=/data", "/data"),
            ("postgres -D /first -D /data", "/data"),
            ("setpriv --reuid postgres postgres -D /data", "/data"),
            ("postgres", "/environment"),
        ] {
            let found = data(&words(command), None, Some("/environment".into())).unwrap();
            assert_eq!(found, Path::new(wanted), "{command}");
        }
        assert_eq!(data(&words("postgres"), Some("/said".into()), None).unwrap(), Path::new("/said"));
        let two = data(&words("postgres -D /x"), Some("/said".into()), None).unwrap_err();
        assert!(two.to_string().contains("/said") && two.to_string().contains("/x"), "{two}");
        for (command, piece) in [
            ("postgres", "--data DIR"),
            ("postgres -D data", "absolute path"),
            ("mysqld -D /data", "one of its words must be postgres"),
        ] {
            let failure = data(&words(command), None, None).unwrap_err();
            assert!(failure.to_string().contains(piece) && failure.exit.code() == 78, "{failure}");
        }
    }

    #[test]
    fn a_word_that_only_looks_like_the_server_is_not_taken_for_it_and_what_is_ambiguous_is_refused() {
        for (command, at) in [
            ("postgres -k /run/postgres", 0),
            ("docker-entrypoint.sh postgres -c foo=postgres", 1),
            ("setpriv --clear-groups postgres -D /data", 2),
            ("sudo -u postgres postgres -D /data", 3),
            ("gosu postgres /pg/bin/postgres -D /data", 2),
            ("/pg/bin/postgres -d 1 -D /srv/postgres", 0),
            ("setpriv --reuid postgres /pg/bin/postgres -k /run/postgres", 3),
        ] {
            assert_eq!(server(&words(command)).unwrap(), at, "{command}");
        }
        for command in [
            "gosu postgres postgres -D /data",
            "/a/postgres /b/postgres -D /data",
            "x -u postgres -g postgres -D /data",
        ] {
            let failure = server(&words(command)).unwrap_err();
            assert!(failure.to_string().contains("more than one way"), "{command}: {failure}");
            assert_eq!(failure.exit.code(), 78);
        }
        let failure = server(&words("gosu postgres postgres -D /data")).unwrap_err();
        assert!(failure.to_string().contains("\"postgres\" (word 2) or \"postgres\" (word 3)"), "{failure}");
    }

    #[test]
    fn what_stands_before_the_server_starts_its_other_programs_too() {
        let found = programs(&words("setpriv --reuid postgres /pg/bin/postgres -D /data"), None).unwrap();
        assert_eq!((found.prefix, found.folder), (words("setpriv --reuid postgres"), Some("/pg/bin".into())));
        let found = programs(&words("postgres -D /data"), None).unwrap();
        assert_eq!((found.prefix.len(), found.folder), (0, None));
        let found = programs(&words("/pg/bin/postgres -D /d"), Some("/other".into())).unwrap();
        assert_eq!(found.folder, Some("/other".into()));
    }
}
