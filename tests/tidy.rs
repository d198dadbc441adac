//! The folder tells the story only as long as the arrows hold: see ARCHITECTURE.md.

#![expect(clippy::unwrap_used, reason = "a test says where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each part may use of ours. `name`, `clock`, `process` and `primary` use nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("name", &[]),
    ("election", &["name"]),
    ("clock", &[]),
    ("process", &[]),
    ("primary", &[]),
    ("membership", &["election", "name"]),
    ("rate", &["election"]),
    ("routing", &["election", "membership"]),
    ("store", &["election", "membership", "name", "clock"]),
    ("api", &["routing", "election", "membership"]),
    ("operator", &["store", "election", "membership", "name", "clock"]),
    ("participant", &["store", "election", "membership", "rate", "clock"]),
    (
        "controller",
        &[
            "member",
            "primary",
            "store",
            "operator",
            "api",
            "routing",
            "election",
            "membership",
            "rate",
            "clock",
            "participant",
            "process",
        ],
    ),
    ("agent", &["participant", "store", "process", "election", "membership", "rate", "clock"]),
    ("supervise", &["process", "election", "clock"]),
    ("database", &["supervise", "primary", "election", "clock"]),
    ("member", &["database", "participant", "store", "primary", "election", "rate", "clock"]),
    (
        "db",
        &[
            "member",
            "database",
            "supervise",
            "participant",
            "store",
            "process",
            "primary",
            "election",
            "membership",
            "rate",
            "clock",
        ],
    ),
    ("run", &["supervise", "agent", "participant", "store", "process", "election", "membership", "clock"]),
    ("contract", &["store", "participant", "election", "membership", "clock"]),
    (
        "console",
        &["operator", "store", "api", "routing", "agent", "process", "election", "membership", "clock"],
    ),
    ("tryout", &["store", "process", "election", "clock"]),
];

/// Crates that may be named in these parts alone: a folder or a file, below `src`.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["store/sql", "database/postgres"]),
    ("kube", &["api", "controller", "console/cluster", "store/kubernetes", "main"]),
    ("k8s_openapi", &["api", "controller", "console/cluster", "store/kubernetes"]),
    ("axum", &["process", "agent", "db", "main"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// (part, file, text without comments)
fn parts() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "only {} files found in {}", files.len(), root.display());
    files
        .into_iter()
        .map(|file| {
            let part = file.strip_prefix(&root).unwrap().components().next().unwrap();
            let part = part.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            (part, file.clone(), code.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

#[test]
fn every_part_uses_only_what_stands_right_of_its_arrow() {
    for (part, file, text) in parts() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == part) else {
            assert!(part == "lib" || part == "main", "{} belongs to no part", file.display());
            continue;
        };
        for (other, _) in ARROWS {
            let uses =
                text.contains(&format!("crate::{other}::")) || text.contains(&format!("crate::{other};"));
            assert!(
                !uses || *other == part || allowed.contains(other),
                "{} uses {other}; {part} may use {allowed:?} only",
                file.display()
            );
        }
    }
}

#[test]
fn some_crates_are_named_in_one_part_only() {
    for (_, file, text) in parts() {
        let place = file.strip_prefix(root().join("src")).unwrap().with_extension("");
        for (name, allowed) in CRATES {
            // A test may stand in for a server that the code only knows as a client.
            let named = text.contains(&format!("{name}::")) && !file.to_string_lossy().ends_with("tests.rs");
            let may = allowed.iter().any(|allowed| place.starts_with(allowed));
            assert!(!named || may, "{} names {name}", file.display());
        }
    }
}

/// Modules below which some still use each other in a circle. One that has none any more leaves the list.
const WITH_CIRCLES: &[&str] = &["store::sql"];

/// The module that a file is, from the root of the crate.
fn module(file: &Path) -> Vec<String> {
    let path = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut names: Vec<String> =
        path.iter().map(|name| name.to_str().unwrap().to_owned()).filter(|name| name != "mod").collect();
    names.retain(|name| name != "lib");
    names
}

/// What stands in a `use` before and within its braces: each path for itself.
fn spread(path: &str, found: &mut Vec<String>) {
    let path = path.trim();
    let Some(at) = path.find('{') else {
        let path = path.split(" as ").next().unwrap_or_default();
        return found.push(path.trim().to_owned());
    };
    let (before, inside) = (&path[..at], path[at + 1..].trim_end_matches('}'));
    let (mut depth, mut begin) = (0, 0);
    for (here, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let piece = inside[begin..here].trim();
                // A brace that was trimmed away belonged to a group within.
                let missing = piece.matches('{').count() - piece.matches('}').count();
                if !piece.is_empty() {
                    spread(&format!("{before}{piece}{}", "}".repeat(missing)), found);
                }
                begin = here + 1;
            }
            _ => {}
        }
    }
}

/// Without the paths in `pub(in …)`: to say who may see a thing is no use.
fn unseen(text: &str) -> String {
    let mut pieces = text.split("pub(in ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |whole, piece| whole + piece.split_once(')').map_or("", |(_, after)| after))
}

/// The paths that a text names: those of its `use`s, and those in expressions and types.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let text = unseen(text);
    let mut rest = text.as_str();
    while let Some(at) = rest.find("use ") {
        let starts = rest[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || c == ')');
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        if starts {
            spread(&rest[at + 4..end].replace('\n', " "), &mut found);
        }
        rest = &rest[at + 4..];
    }
    let of_a_path = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    found.extend(text.split(of_a_path).filter(|word| word.contains("::")).map(ToOwned::to_owned));
    found
}

/// The module that this one means by a path, if it is one of ours.
fn meant<'m>(path: &str, from: &[String], modules: &'m [Vec<String>]) -> Option<&'m Vec<String>> {
    let mut whole = from.to_vec();
    for (at, name) in path.split("::").enumerate() {
        match name {
            "crate" if at == 0 => whole.clear(),
            "self" => {}
            "super" => drop(whole.pop()?),
            name => {
                whole.push(name.to_owned());
                // What is no child of this module is another crate, or a thing that was named before.
                if at == 0 && !modules.contains(&whole) {
                    return None;
                }
            }
        }
    }
    let longest = (1..=whole.len()).rev().find_map(|n| modules.iter().find(|known| known[..] == whole[..n]));
    longest.filter(|module| module[..] != *from)
}

/// Modules of this part that use each other in a circle, or stand between two circles. What stands below one of the
/// modules that are `excepted` counts as one module with it.
fn circles(files: &[(PathBuf, String)], excepted: &[&str]) -> Vec<String> {
    let modules: Vec<Vec<String>> = files.iter().map(|(file, _)| module(file)).collect();
    let mut arrows: Vec<(&Vec<String>, &Vec<String>)> = Vec::new();
    for ((_, text), from) in files.iter().zip(&modules) {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        arrows.extend(paths(code).iter().filter_map(|path| Some((from, meant(path, from, &modules)?))));
    }
    let one = |module: &[String]| {
        let name = module.join("::");
        excepted.iter().find(|below| name.starts_with(**below)).map_or(name, |below| (*below).to_owned())
    };
    let mut arrows: Vec<(String, String)> =
        arrows.into_iter().map(|(from, to)| (one(from), one(to))).filter(|(from, to)| from != to).collect();
    loop {
        let before = arrows.len();
        let all = arrows.clone();
        arrows.retain(|(from, to)| {
            all.iter().any(|(next, _)| next == to) && all.iter().any(|(_, last)| last == from)
        });
        if arrows.len() == before {
            let mut left: Vec<_> = arrows.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
            left.sort();
            left.dedup();
            return left;
        }
    }
}

#[test]
fn modules_that_use_each_other_in_a_circle_are_found() {
    let file = |name: &str, text: &str| (root().join("src").join(name), text.to_owned());
    let tied = |a: &str, b: &str, c: &str| {
        !circles(&[file("p/mod.rs", a), file("p/b.rs", b), file("p/q/mod.rs", c)], &[]).is_empty()
    };
    assert!(!tied("mod b; mod q; use b::B; use q::Q;", "use crate::p::q::Q;", "pub struct Q;"));
    assert!(tied("mod b; use b::B;", "use super::A;", ""));
    assert!(tied("mod b; fn f() { b::g() }", "use crate::p::{A, q::Q};", ""));
    assert!(tied(
        "",
        "use super::q::{self, Q};",
        "use std::fmt;\nuse crate::{\n    x::Y,\n    p::{b::{B, C}, A},\n};"
    ));
    assert!(tied("", "fn f(q: super::q::Q) {}", "use super::b as c;"));
    assert!(
        !tied("mod b; mod q;", "use super::A;", "use super::A;"),
        "a child may use what its parent defines"
    );
    assert!(!tied("use x::b::B;", "use super::A;", ""), "another crate");
    assert!(!tied("mod b; use b::B;", "pub(in crate::p) struct B;", ""));
    let files =
        [file("p/mod.rs", ""), file("p/q/a.rs", "use super::b::B;"), file("p/q/b.rs", "use super::a::A;")];
    assert!(!circles(&files, &[]).is_empty() && circles(&files, &["p::q"]).is_empty());
    let files = [file("p/a.rs", "use super::q::b::B;"), file("p/q/b.rs", "use crate::p::a::A;")];
    assert!(!circles(&files, &["p::q"]).is_empty(), "with what is outside of it");
}

/// Whether a file of `src` is part of what is built, and not of its tests.
fn is_no_test(file: &Path) -> bool {
    let name = file.to_string_lossy();
    !["tests.rs", "fixtures.rs", "fake_api.rs"].iter().any(|end| name.ends_with(end))
}

#[test]
fn no_module_of_a_part_is_in_a_circle() {
    let all: Vec<_> = parts().into_iter().filter(|(_, file, _)| is_no_test(file)).collect();
    for (part, _) in ARROWS {
        let of_part = all.iter().filter(|(name, ..)| name == part);
        let files: Vec<_> = of_part.map(|(_, file, text)| (file.clone(), text.clone())).collect();
        let circles = circles(&files, WITH_CIRCLES);
        assert!(circles.is_empty(), "{part} has a circle: {circles:#?}");
    }
    let files: Vec<_> = all.iter().map(|(_, file, text)| (file.clone(), text.clone())).collect();
    for below in WITH_CIRCLES {
        let within = |file: &Path| module(file).join("::").starts_with(below);
        let files: Vec<_> = files.iter().filter(|(file, _)| within(file)).cloned().collect();
        assert!(!circles(&files, &[]).is_empty(), "{below} has no circle any more: take it off the list");
    }
}

/// What a newcomer reads first, in this order: see ARCHITECTURE.md.
const FIRST_HOUR: [&str; 6] = [
    "ARCHITECTURE.md",
    "src/election/mod.rs",
    "src/election/machine.rs",
    "src/routing/decide/mod.rs",
    "src/controller/reconcile/mod.rs",
    "src/store/traits.rs",
];

#[test]
fn the_first_hour_is_six_files_of_at_most_1200_lines_together() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let lines = FIRST_HOUR.map(|file| (file, read(file).lines().count()));
    let sum: usize = lines.iter().map(|(_, lines)| lines).sum();
    assert!(sum <= 1200, "{sum} lines: {lines:?}");
    let architecture = read(FIRST_HOUR[0]);
    let first = architecture.split("\n## ").next().unwrap();
    let named: Vec<&str> = quoted(first).filter(|token| token.strip_suffix(".rs").is_some()).collect();
    assert_eq!(named, FIRST_HOUR[1..], "the first paragraph of ARCHITECTURE.md names them in this order");
}

/// Somebody can read the rules of an election in one sitting.
#[test]
fn the_election_fits_into_1200_lines_of_code() {
    let rules = parts().into_iter().filter(|(part, file, _)| part == "election" && is_no_test(file));
    let lines = |text: &str| {
        let rules = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        code(rules).count()
    };
    let counted: Vec<_> = rules.map(|(_, file, text)| (file, lines(&text))).collect();
    let sum: usize = counted.iter().map(|(_, lines)| lines).sum();
    assert!(counted.len() > 5 && sum <= 1200, "{sum} lines: {counted:#?}");
}

#[test]
fn no_source_file_grows_without_anybody_noticing() {
    let tests = |file: &Path| file.to_string_lossy().ends_with("tests.rs");
    for (_, file, text) in parts().into_iter().filter(|(_, file, _)| !tests(file)) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines of code; split it by what it is about", file.display());
    }
}

/// Lines of Rust that are neither blank nor comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

/// The lines from this one to the brace that closes it; by the indentation, as rustfmt leaves it.
fn block<'a>(lines: &[&'a str], at: usize) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let closes = |line: &&str| line.trim() == "}" && indent(line) == indent(lines[at]);
    let end = lines[at..].iter().position(closes).unwrap_or(0);
    lines[at..=at + end].to_vec()
}

/// The function that is marked at this line as a test.
fn body<'a>(lines: &[&'a str], at: usize) -> Vec<&'a str> {
    let begin = lines[at..].iter().position(|line| line.contains("fn ")).unwrap_or(0);
    block(lines, at + begin)
}

/// Whether something in it can fail: an assertion, an error that ends it, or a helper that asserts.
fn can_fail(body: &[&str]) -> bool {
    let fails = ["assert", "panic!", "unwrap", "expect", "ensure!", "?", "says(", "found(", "holds("];
    body.iter().any(|line| fails.iter().any(|word| line.contains(word)))
}

/// Tests that only call a function that asserts.
fn only_calls(body: &[&str]) -> bool {
    let inside = &body[1.min(body.len())..body.len().saturating_sub(1)];
    !inside.is_empty() && inside.iter().all(|line| line.trim_end().ends_with(");") || line.contains(".await"))
}

#[test]
fn a_test_in_which_nothing_can_fail_is_told_from_one_that_asserts() {
    let fails = |text: &str| can_fail(&body(&text.lines().collect::<Vec<_>>(), 0));
    assert!(!fails("#[test]\nfn a() {\n    let x = 1;\n}\nfn b() {\n    assert!(true);\n}"));
    assert!(fails("#[test]\nfn a() {\n    if x {\n        assert_eq!(1, 2);\n    }\n}"));
    assert!(!fails(
        "    #[tokio::test]\n    async fn a() {\n        run().await;\n    }\n    fn b() {\n        panic!();\n    }"
    ));
}

#[test]
fn no_file_of_tests_is_empty_and_no_test_is_without_anything_that_can_fail() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "testkit/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut tests = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let named = file.display();
        assert!(code(&text).next().is_some(), "{named} is empty");
        let lines: Vec<&str> = text.lines().collect();
        let marks: Vec<usize> = (0..lines.len()).filter(|at| is_test(lines[*at])).collect();
        if file.to_string_lossy().ends_with("_tests.rs") {
            assert!(!marks.is_empty() || text.contains("proptest!"), "{named} has no test");
        }
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.trim() == "mod tests {") {
            let inside = block(&lines, at);
            assert!(
                inside.iter().any(|line| is_test(line) || line.contains("proptest!")),
                "{named} has a module of tests without any"
            );
        }
        for at in marks {
            let body = body(&lines, at);
            assert!(
                can_fail(&body) || only_calls(&body),
                "{named} has a test in which nothing can fail:\n{}",
                body.join("\n")
            );
            tests += 1;
        }
    }
    assert!(tests > 300, "only {tests} tests were found");
}

#[test]
fn every_cluster_test_runs_where_what_it_leaves_behind_is_printed_if_it_fails() {
    let mut files = Vec::new();
    sources(&root().join("tests/cluster"), &mut files);
    let mut tests = 0;
    for file in files {
        for line in
            fs::read_to_string(&file).unwrap().lines().filter(|line| line.starts_with("#[tokio::test"))
        {
            let named = file.display();
            assert!(
                line.contains(r#"crate = "crate::harness""#),
                "{named} has {line} without the runtime of tests/cluster/support/harness.rs"
            );
            tests += 1;
        }
    }
    assert!(tests > 50, "only {tests} tests were found");
}

fn is_test(line: &str) -> bool {
    let line = line.trim();
    line == "#[test]" || line.starts_with("#[tokio::test")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a Rust file has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let found = format!("fn {name}(");
    let at = lines.iter().position(|line| line.trim_start_matches("async ").starts_with(&found));
    at.is_some_and(|at| {
        let is_marked =
            lines[..at].iter().rev().take(3).any(|line| line.contains("test") && line.starts_with("#["));
        // Or it stands in the list of a macro that makes a test of it for each kind of server.
        is_marked || lines.iter().any(|line| line.strip_suffix(',') == Some(name))
    })
}

#[test]
fn every_test_that_is_named_for_bad_input_exists() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("Bad input and its tests\n"));
    let rows: Vec<_> = section.unwrap().lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 19, "only {} kinds of bad input are listed", rows.len());
    for row in rows {
        let (mut file, mut tests) = (String::new(), 0);
        for token in quoted(row) {
            if token.strip_suffix(".rs").is_some() {
                file = fs::read_to_string(root().join(token)).unwrap_or_else(|why| panic!("{token}: {why}"));
            } else {
                assert!(
                    has_test(&file, token),
                    "CONTRIBUTING.md names the test {token}, which is not where it says"
                );
                tests += 1;
            }
        }
        assert!(tests > 0, "no test in: {row}");
    }
}

#[test]
fn design_pages_are_named_by_date_linked_and_name_only_what_exists() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut pages = 0;
    for entry in fs::read_dir(root().join("docs/design")).unwrap() {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        let (date, title) = name.split_at(9);
        assert!(
            date.ends_with('-')
                && date[..8].bytes().all(|c| c.is_ascii_digit())
                && title.strip_suffix(".md").is_some(),
            "{name} is not named YYYYMMDD-title.md"
        );
        assert!(
            architecture.contains(&format!("docs/design/{name}")),
            "ARCHITECTURE.md does not link {name}"
        );
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for token in quoted(&text) {
            let is_sentence = token.matches('_').count() > 3
                && token.bytes().all(|c| c == b'_' || c.is_ascii_alphanumeric());
            if is_sentence {
                assert!(code.contains(&format!("fn {token}(")), "{name} names {token}, which does not exist");
            } else if token.strip_suffix(".rs").is_some() {
                assert!(root().join(token).is_file(), "{name} names {token}, which does not exist");
            }
        }
        pages += 1;
    }
    assert!(pages > 0, "no page was found");
}

/// Phrases that readers have stumbled over; `tests/docs` refuses them in the pages.
const STUMBLED_OVER: [&str; 4] = ["whoever", "is told", "are told", "lets nobody"];

#[test]
fn no_comment_message_or_name_of_a_test_uses_a_phrase_that_readers_have_stumbled_over() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "testkit", "xtask", "benches", "examples", "charts", "hack"] {
        all_files(&root().join(folder), &mut files);
    }
    let lists = [root().join("tests/tidy.rs"), root().join("tests/docs/main.rs")];
    let (mut read, mut wrong) = (0, Vec::new());
    for file in files.iter().filter(|file| !lists.contains(file)) {
        let Ok(text) = fs::read_to_string(file) else { continue };
        read += 1;
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            // In names of tests words are joined by `_`; there two things may well be told apart.
            let line = line.replace("whoever_", "whoever ").replace("lets_nobody", "lets nobody");
            let said = STUMBLED_OVER.iter().filter(|phrase| line.contains(**phrase));
            wrong.extend(said.map(|phrase| format!("{}:{}: {phrase}", file.display(), number + 1)));
        }
    }
    assert!(read > 300, "only {read} files were read");
    assert!(wrong.is_empty(), "say these another way:\n{}", wrong.join("\n"));
}

fn all_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all_files(&path, found) } else { found.push(path) }
    }
}
