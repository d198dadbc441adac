//! The pages promise nothing that is not there: links lead somewhere, commands and flags exist, and every word
//! that an operator may meet at night has its entry in the runbook.

#![expect(clippy::unwrap_used, reason = "a test says where it fails")]

mod commands;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use component_lease::routing::conditions::{ConditionType, EventReason, Reason};

use commands::{Program, calls, mentions, targets};
use markdown::{Page, slug};

/// Pages outside of `docs/`.
const OTHER_PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "charts/component-lease/README.md",
];
const SUMMARY: &str = "docs/SUMMARY.md";
const RUNBOOK: &str = "docs/operations/runbook.md";

/// Flags of other programs that our pages name.
const FOREIGN_FLAGS: [&str; 9] = [
    "--admin",
    "--clean",
    "--disable-triggers",
    "--inplace",
    "--single-transaction",
    "--sysdate-is-now",
    "--update",
    "--wait",
    "--build-arg",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Every file below a folder, by its path from the root.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every page that a reader may open, by its path from the root.
fn pages() -> BTreeMap<String, Page> {
    let ours = files("docs").into_iter().filter(|path| is_page(path) && path != SUMMARY);
    let pages: BTreeMap<_, _> = OTHER_PAGES
        .iter()
        .map(ToString::to_string)
        .chain(ours)
        .map(|path| (path.clone(), Page::parse(&read(path))))
        .collect();
    assert!(pages.len() > 30, "only {} pages were found", pages.len());
    pages
}

fn ends(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == ending)
}

fn is_page(path: &str) -> bool {
    ends(path, "md")
}

/// Where a relative link leads, from the root; without links to the file system.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut path = PathBuf::from(page);
    path.pop();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    path.to_str().map(str::to_owned)
}

/// What is wrong with a link of a page.
fn dead(pages: &BTreeMap<String, Page>, page: &str, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { page.to_owned() } else { resolve(page, path).unwrap_or_default() };
    if !root().join(&path).is_file() {
        return Some(format!("{page} links to {link}: there is no file {path:?}"));
    }
    let known =
        |anchor: &str| pages.get(&path).is_some_and(|page| page.anchors.iter().any(|known| known == anchor));
    let anchor = anchor.filter(|anchor| !known(anchor))?;
    Some(format!("{page} links to {link}: {path} has no heading #{anchor}"))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let pages = pages();
    let links = |page: &Page| page.links();
    let dead: Vec<_> = pages
        .iter()
        .flat_map(|(path, page)| links(page).into_iter().filter_map(|link| dead(&pages, path, &link)))
        .collect();
    assert!(dead.is_empty(), "{}", dead.join("\n"));
    assert!(pages.values().map(|page| page.links().len()).sum::<usize>() > 100, "hardly any link was found");
}

#[test]
fn a_dead_link_is_noticed() {
    let pages = pages();
    let dead = |link| dead(&pages, "docs/databases.md", link);
    for link in
        ["databases/none.md", "#none", "reference.md#none", "../src", "/docs/reference.md", "../../../x.md"]
    {
        assert!(dead(link).is_some(), "{link}");
    }
    for link in ["databases/mysql.md#grants", "#urls", "../README.md", "https://example.org"] {
        assert_eq!(dead(link), None, "{link}");
    }
}

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = read(SUMMARY);
    let listed = Page::parse(&summary).links();
    let listed: Vec<_> = listed.iter().map(|link| resolve(SUMMARY, link).unwrap()).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "{SUMMARY} lists a page twice");
    let wrong: Vec<_> = unique.symmetric_difference(&pages().into_keys().collect()).cloned().collect();
    assert!(wrong.is_empty(), "{SUMMARY} lacks these pages, or lists them without reason: {wrong:?}");
}

#[test]
fn every_command_and_flag_in_the_docs_exists() {
    let (mut program, mut found) = (Program::new(), 0);
    let helps: Vec<String> =
        program.commands().iter().map(|command| program.help(command).unwrap().to_owned()).collect();
    let helps = helps.concat();
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        for call in calls(&page) {
            found += 1;
            wrong.extend(program.refuses(&call).map(|why| format!("{path}: {why}: {}", call.join(" "))));
        }
        for flag in page.spans().filter(|span| span.starts_with("--")) {
            let name = flag.split([' ', '=']).next().unwrap();
            if name.len() > 2 && !mentions(&helps, name) && !FOREIGN_FLAGS.contains(&name) {
                wrong.push(format!("{path} names the flag {name}, which no command has"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 30, "only {found} calls of the program were found");
}

#[test]
fn every_command_flag_and_variable_of_the_program_is_in_the_reference() {
    let reference = read("docs/reference.md");
    let mut program = Program::new();
    let commands = program.commands();
    assert!(commands.len() > 8, "only {commands:?} were found");
    for command in &commands {
        let help = program.help(command).unwrap();
        let is_group = help.contains("Commands:\n");
        assert!(
            is_group || reference.contains(&format!("`component-lease {}", command.join(" "))),
            "docs/reference.md does not name the command {command:?}"
        );
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        for word in words
            .filter(|word| word.starts_with("--") && word.len() > 2 || word.starts_with("COMPONENT_LEASE_"))
        {
            let known = ["--help", "--version"].contains(&word) || mentions(&reference, word);
            assert!(known, "docs/reference.md does not name {word} of {command:?}");
        }
    }
}

#[test]
fn every_variable_and_metric_that_a_page_names_exists() {
    let sources: String = files("src").iter().filter(|path| ends(path, "rs")).map(read).collect();
    let reference = read("docs/reference.md");
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        let blocks = page.blocks.iter().map(|block| block.text.as_str());
        let text: String = blocks.chain([page.prose.as_str()]).collect();
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if word.starts_with("COMPONENT_LEASE_") && !mentions(&sources, word) {
                wrong.push(format!("{path} names the variable {word}, which nothing reads"));
            }
            if word.starts_with("componentlease_") && !mentions(&reference, word) {
                wrong.push(format!("{path} names the metric {word}, which docs/reference.md does not have"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_target_of_make_that_a_page_names_exists() {
    let makefile = read("Makefile");
    let known: BTreeSet<_> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let named: Vec<_> = pages()
        .iter()
        .flat_map(|(path, page)| targets(page).into_iter().map(move |target| (path.clone(), target)))
        .collect();
    for (path, target) in &named {
        assert!(
            known.contains(target.as_str()),
            "{path} says `make {target}`, which the Makefile does not have"
        );
    }
    assert!(named.len() > 20, "only {} targets were found", named.len());
}

/// Names of alerts in a file of rules or a template, each with the address of its entry, if it has one.
fn alerts(text: &str) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.trim_start_matches("- ").strip_prefix("alert:") {
            found.push((name.trim().trim_matches('"').to_owned(), None));
        } else if let Some((_, url)) = line.split_once("runbook_url:")
            && let Some((_, last)) = found.last_mut()
        {
            *last = Some(url.trim().trim_end_matches(['}', ' ']).trim_matches('"').to_owned());
        }
    }
    found
}

/// What an entry of the runbook lacks.
fn lacks(runbook: &Page, word: &str) -> Option<String> {
    let Some(entry) = runbook.headings.iter().find(|heading| heading.title == word) else {
        return Some(format!("{RUNBOOK} has no entry {word}"));
    };
    let parts = ["**Means.** ", "**Look.** ", "**Do.** "];
    let missing = parts.iter().find(|part| !entry.text.contains(**part))?;
    Some(format!("{RUNBOOK}: the entry {word} does not say {missing}"))
}

#[test]
fn every_condition_reason_event_and_alert_has_an_entry_in_the_runbook() {
    let runbook = Page::parse(&read(RUNBOOK));
    let words = (ConditionType::ALL.iter().map(|word| word.as_str()))
        .chain(Reason::ALL.iter().map(|word| word.as_str()))
        .chain(EventReason::ALL.iter().map(|word| word.as_str()));
    let templates = files("charts").into_iter().filter(|path| ends(path, "yaml") || ends(path, "tpl"));
    let rules: Vec<_> = templates
        .chain(["docs/operations/alerts.md".to_owned()])
        .flat_map(|path| alerts(&read(path)))
        .collect();
    assert!(!rules.is_empty(), "no alert was found");
    let lacking: Vec<_> = words
        .chain(rules.iter().map(|(name, _)| name.as_str()))
        .filter_map(|word| lacks(&runbook, word))
        .collect();
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
    for (name, url) in &rules {
        let url = url.as_deref().unwrap_or_else(|| panic!("the alert {name} has no runbook_url"));
        let to = format!("/docs/operations/runbook.html#{}", slug(name));
        assert!(url.ends_with(&to), "runbook_url of the alert {name} is {url}, which does not end with {to}");
    }
}

#[test]
fn an_entry_that_says_nothing_and_an_alert_without_one_are_noticed() {
    let runbook =
        Page::parse("# Runbook\n## A\n**Means.** x **Look.** y **Do.** z\n## B\n**Means.** x **Look.** y\n");
    assert_eq!(lacks(&runbook, "A"), None);
    assert!(lacks(&runbook, "B").is_some_and(|why| why.contains("Do.")));
    assert!(lacks(&runbook, "C").is_some());
    let rules = "- alert: A\n  annotations: { runbook_url: \"https://x#a\" }\n- alert: B\n";
    assert_eq!(alerts(rules), [("A".to_owned(), Some("https://x#a".to_owned())), ("B".to_owned(), None)]);
}

/// What is wrong with the pages that a text names, as messages and comments do: `docs/databases.md`.
fn dead_mentions(pages: &BTreeMap<String, Page>, text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ['/', '-', '_', '.', '#'].contains(&c);
    let starts = text.match_indices("docs/").map(|(at, _)| &text[at..]);
    let words = starts.map(|rest| rest.split(|c| !is_part(c)).next().unwrap().trim_end_matches('.'));
    let links = words.filter(|word| word.contains(".md"));
    links.filter_map(|word| dead(pages, "README.md", word)).collect()
}

#[test]
fn every_page_that_code_or_a_manifest_names_exists() {
    let pages = pages();
    let folders = [
        "src",
        "charts",
        "crds",
        "hack",
        "tests/it",
        "tests/cluster",
        "tests/node",
        "testkit/src",
        "demo",
        "examples",
        "benches",
    ];
    let mut named = folders.iter().flat_map(|folder| files(folder)).collect::<Vec<_>>();
    named.extend(["Makefile", "Dockerfile", "Cargo.toml", "tests/tidy.rs"].map(str::to_owned));
    let mut wrong = Vec::new();
    for path in named.iter().filter(|path| !is_page(path)) {
        let text = String::from_utf8_lossy(&fs::read(root().join(path)).unwrap()).into_owned();
        wrong.extend(dead_mentions(&pages, &text).into_iter().map(|why| format!("{path}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        dead_mentions(&pages, "see docs/none.md, docs/reference.md#none and docs/databases.md#urls.").len(),
        2
    );
}

#[test]
fn the_grants_in_the_docs_are_those_that_migrate_prints() {
    let grants = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.starts_with("GRANT ") && line.ends_with(';'));
        lines.map(|line| line.replace("'@'%'", "").replace('\'', "")).collect()
    };
    let printed: BTreeSet<_> = files("src/store")
        .iter()
        .filter(|path| ends(path, "rs"))
        .flat_map(|path| grants(&read(path)))
        .collect();
    let pages = pages();
    let blocks = pages.values().flat_map(|page| &page.blocks).filter(|block| block.language == "sql");
    let shown: BTreeSet<_> = blocks.flat_map(|block| grants(&block.text)).collect();
    assert!(printed.len() > 10, "only {printed:?} were found");
    assert_eq!(shown, printed, "left: what the pages show; right: what `migrate` prints");
}

/// Phrases that readers have stumbled over.
const STUMBLED_OVER: [&str; 6] = ["whoever", "is told", "are told", "is none", "lets nobody", "let nobody"];

#[test]
fn no_page_uses_a_phrase_that_readers_have_stumbled_over() {
    let mut wrong = Vec::new();
    for (path, page) in pages().into_iter().filter(|(path, _)| path != "CHANGELOG.md") {
        let words = page.words().to_lowercase();
        wrong.extend(
            STUMBLED_OVER
                .iter()
                .filter(|phrase| words.contains(**phrase))
                .map(|phrase| format!("{path}: {phrase}")),
        );
    }
    assert!(wrong.is_empty(), "say these another way:\n{}", wrong.join("\n"));
}

#[test]
fn every_link_of_the_built_site_leads_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let built = Command::new(root().join("hack/site.sh")).arg(&site).output().unwrap();
    assert!(built.status.success(), "hack/site.sh: {}", String::from_utf8_lossy(&built.stderr));
    let attributes = |text: &str, name: &str| -> Vec<String> {
        let quoted = format!(" {name}=\"");
        text.split(&quoted).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    };
    let mut texts = BTreeMap::new();
    for path in pages().into_keys() {
        let html = path.trim_end_matches(".md").replace("README", "index") + ".html";
        texts.insert(
            html.clone(),
            fs::read_to_string(site.join(&html)).unwrap_or_else(|why| panic!("{html}: {why}")),
        );
    }
    let mut wrong = Vec::new();
    for (page, text) in &texts {
        let main = text.split("<main>").nth(1).unwrap_or_else(|| panic!("{page} has no content"));
        for link in attributes(main, "href").iter().filter(|link| !link.contains("://")) {
            let (path, anchor) =
                link.split_once('#').map_or((link.as_str(), ""), |(path, anchor)| (path, anchor));
            let path = if path.is_empty() { page.clone() } else { resolve(page, path).unwrap_or_default() };
            let ids =
                || texts.get(&path).is_some_and(|text| attributes(text, "id").iter().any(|id| id == anchor));
            if !site.join(&path).is_file() || !anchor.is_empty() && !ids() {
                wrong.push(format!("{page} links to {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
