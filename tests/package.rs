//! What somebody gets who depends on the library: what is compiled for it, what is published, what its pages show.

#![expect(clippy::unwrap_used, reason = "a test says where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What cargo prints; without a network, as everything was fetched to build this test.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).arg("--offline").current_dir(root()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// The crates of a library that depends on us with these features, by the names that code knows them by.
fn compiled(features: &str) -> BTreeSet<String> {
    let choice = ["--no-default-features", "--features", features];
    let tree = ["tree", "--locked", "--package", "component-lease", "--edges", "normal", "--prefix", "none"];
    let tree = cargo(&[&tree[..], &["--format", "{lib}"], &choice].concat());
    tree.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Beginnings of the names of crates that only the program needs.
const PROGRAM_ONLY: &[&str] = &[
    "aho_corasick",
    "axum",
    "clap",
    "hyper",
    "jiff",
    "k8s_openapi",
    "kube",
    "prometheus",
    "regex",
    "schemars",
    "serde_json",
    "serde_yaml",
    "tower",
    "tracing_subscriber",
];
#[test]
fn a_program_that_embeds_a_participant_compiles_no_kubernetes_no_http_and_no_regular_expressions() {
    for features in ["postgres", "mysql", "sqlite", "default"] {
        let crates = compiled(features);
        assert!(crates.contains("sqlx") && crates.contains("tokio"), "{features}: {crates:?}");
        let found: Vec<_> =
            crates.iter().filter(|name| PROGRAM_ONLY.iter().any(|prefix| name.starts_with(prefix))).collect();
        assert!(found.is_empty(), "the participant with the feature {features} alone compiles {found:?}");
    }
    let all = compiled("cli");
    for name in ["kube", "k8s_openapi", "axum", "clap", "regex_lite"] {
        assert!(all.contains(name), "{name} is not found where it must be: {all:?}");
    }
}

/// The modules that are compiled for a library. `tests/tidy.rs` sees that they use no others.
const EMBEDDED: &[&str] = &["clock", "election", "membership", "name", "participant", "store", "rate"];

#[test]
fn a_program_that_embeds_a_participant_compiles_no_pod_rules() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut modules = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) else {
            assert!(!line.starts_with("mod "), "{line}: this test reads modules that are public");
            continue;
        };
        let mut marks = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_gated = marks.any(|mark| {
            ["cli", "contract"].iter().any(|feature| *mark == format!("#[cfg(feature = \"{feature}\")]"))
        });
        assert!(
            is_gated != EMBEDDED.contains(&name),
            "{name} is for the program alone, or is in the list here"
        );
        modules += 1;
    }
    assert!(modules > EMBEDDED.len(), "only {modules} modules were found");
}

#[test]
fn only_the_program_chooses_a_version_of_kubernetes() {
    let metadata = cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["name"] == "component-lease").unwrap();
    let choosing = ours["features"].as_object().unwrap().iter().filter(|(_, enables)| {
        enables.as_array().unwrap().iter().any(|one| one.as_str().unwrap().contains("/v1_"))
    });
    assert_eq!(choosing.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cli"]);
    let mut named = 0;
    for dependency in ours["dependencies"].as_array().unwrap() {
        if dependency["name"] == "k8s-openapi" {
            named += 1;
            assert_eq!(dependency["features"], Value::Array(Vec::new()), "{dependency}");
        }
    }
    assert!(named > 0, "k8s-openapi is not found");
    assert_eq!(ours["features"]["default"], serde_json::json!(["postgres"]));
    for field in ["description", "documentation", "homepage", "license", "readme", "repository"] {
        assert!(ours[field].is_string(), "Cargo.toml lacks {field}");
    }
    assert!(ours["metadata"]["docs"]["rs"]["features"].is_array());
}

#[test]
fn the_package_has_what_builds_it_and_what_a_reader_looks_for_and_nothing_else() {
    let listed = cargo(&["package", "--package", "component-lease", "--list", "--locked", "--allow-dirty"]);
    let listed: BTreeSet<&str> = listed.lines().collect();
    let kept: BTreeSet<String> =
        cargo_files(&root().join("src")).into_iter().chain(["examples/embedded.rs".to_owned()]).collect();
    let documents = ["CHANGELOG.md", "LICENSE", "README.md"];
    let by_cargo = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"];
    let wanted: BTreeSet<&str> = kept.iter().map(String::as_str).chain(documents).chain(by_cargo).collect();
    // Where there is no repository, nothing is said of it.
    let differs: Vec<_> =
        listed.symmetric_difference(&wanted).filter(|name| **name != ".cargo_vcs_info.json").collect();
    assert!(differs.is_empty(), "what differs from `cargo package --list`: {differs:?}");
    assert!(kept.len() > 100, "only {} files", kept.len());
}

/// All files below a folder of this repository.
fn cargo_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(cargo_files(&path));
        } else {
            found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

/// The first example of the front page, as a reader sees it.
fn front_page() -> String {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let example = text.split("//! ```\n").nth(1).unwrap();
    let lines = example.lines().map(|line| line.strip_prefix("//!").unwrap());
    let shown = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    shown
        .filter(|line| *line != "#" && !line.starts_with("# "))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// That one is run in three ways when the documentation is tested; others could not be.
#[test]
fn the_rust_of_the_pages_is_that_of_the_front_page() {
    let files = cargo_files(&root().join("docs")).into_iter().chain(["README.md".to_owned()]);
    let mut pages = 0;
    for file in files.filter(|file| Path::new(file).extension().is_some_and(|ending| ending == "md")) {
        let page = fs::read_to_string(root().join(&file)).unwrap();
        for shown in page.split("```rust\n").skip(1) {
            assert_eq!(shown.split("```").next().unwrap(), front_page(), "{file}");
            pages += 1;
        }
    }
    assert!(pages > 0 && front_page().contains(".run(async |term|"), "no page shows it");
}
