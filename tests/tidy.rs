//! The folder tells the story only as long as the arrows hold: see ARCHITECTURE.md.

#![expect(clippy::unwrap_used, reason = "a test says where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each part may use of ours. `domain`, `clock` and `process` use nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("process", &[]),
    ("store", &["domain", "clock"]),
    ("api", &["domain"]),
    ("participant", &["store", "domain", "clock"]),
    ("controller", &["store", "api", "domain", "clock", "participant", "process"]),
    ("agent", &["participant", "store", "process", "domain", "clock"]),
];

/// Crates that may be named in these parts alone.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("kube", &["api", "controller", "main"]),
    ("k8s_openapi", &["api", "controller"]),
    ("axum", &["process", "agent", "main"]),
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
    for (part, file, text) in parts() {
        for (name, allowed) in CRATES {
            let named = text.contains(&format!("{name}::"));
            assert!(!named || allowed.contains(&part.as_str()), "{} names {name}", file.display());
        }
    }
}

#[test]
fn no_source_file_grows_without_anybody_noticing() {
    let tests = |file: &Path| file.to_string_lossy().ends_with("tests.rs");
    for (_, file, text) in parts().into_iter().filter(|(_, file, _)| !tests(file)) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines of code; split it by what it is about", file.display());
    }
}
