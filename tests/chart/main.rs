//! The chart without a cluster: what renders, what is there or not, what is refused and with which words.
//! `UPDATE=1` rewrites `tests/chart/golden/`; read the diff.

#![expect(clippy::unwrap_used, reason = "a test says where it fails")]

mod accepted;
mod alerts;
mod gitops;
mod refused;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use component_lease_testkit::control_plane::program;
use component_lease_testkit::repository;
use serde_yaml::Value;

fn chart() -> PathBuf {
    repository().join("charts/component-lease")
}

/// `helm ARGUMENTS`, without the repositories and plugins of the user.
fn helm(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let helm = program("helm").expect("helm: run hack/kubernetes/build.sh");
    let homes = ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"].map(|name| (name, home.path()));
    Command::new(helm).args(arguments).envs(homes).output().unwrap()
}

/// What the chart renders with these further arguments of helm, or what helm says instead.
fn render(arguments: &[&str]) -> Result<String, String> {
    let chart = chart();
    let mut all = vec!["template", "demo", chart.to_str().unwrap(), "--namespace", "leases"];
    if !arguments.contains(&"--kube-version") {
        all.extend(["--kube-version", "1.35.0"]);
    }
    all.extend(arguments);
    let output = helm(&all);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// `ci/NAME.yaml`, as helm wants it named.
fn values(name: &str) -> String {
    chart().join("ci").join(name).with_extension("yaml").to_str().unwrap().to_owned()
}

/// The names of all value files under `ci/`.
fn names() -> Vec<String> {
    let files = fs::read_dir(chart().join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    names
}

fn documents(text: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(text).map(serde::Deserialize::deserialize);
    let all = all.collect::<Result<Vec<Value>, _>>().unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn kind(document: &Value) -> &str {
    document["kind"].as_str().unwrap()
}

/// The documents that grant rights to our account.
fn roles(documents: &[Value]) -> impl Iterator<Item = &Value> {
    documents.iter().filter(|document| kind(document).ends_with("Role") && !is_for_people(document))
}

/// Kubernetes adds it to its own roles, or it is bound to those who may move leaders.
fn is_for_people(role: &Value) -> bool {
    let labels = role["metadata"]["labels"].as_mapping().unwrap();
    labels.keys().any(|key| key.as_str().unwrap().starts_with("rbac.authorization.k8s.io/aggregate-to-"))
        || role["metadata"]["name"].as_str().unwrap().ends_with(".operator")
}

#[test]
fn every_set_of_values_passes_helms_own_lint() {
    for name in names() {
        let (chart, values) = (chart(), values(&name));
        let output =
            helm(&["lint", "--strict", chart.to_str().unwrap(), "--namespace", "leases", "-f", &values]);
        assert!(output.status.success(), "ci/{name}.yaml: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn every_set_of_values_renders_as_its_golden_file_has_it() {
    let golden = repository().join("tests/chart/golden");
    for name in names() {
        // The resource definition has a golden file of its own: crds/.
        let rendered = render(&["-f", &values(&name), "--set", "crds.install=false"]).unwrap();
        let file = golden.join(&name).with_extension("yaml");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &rendered).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        let differs = kept.lines().zip(rendered.lines()).find(|(kept, rendered)| kept != rendered);
        assert!(kept == rendered, "{}: first differs in {differs:?} (UPDATE=1 accepts it)", file.display());
    }
    let kept = fs::read_dir(&golden).unwrap().count();
    assert_eq!(kept, names().len(), "a golden file for each set of values, and no other");
}

#[test]
fn every_right_stands_under_a_comment_that_names_the_code_which_needs_it() {
    for name in names() {
        let rendered = render(&["-f", &values(&name)]).unwrap();
        let mut rules = 0;
        let for_people = |text: &str| text.contains("/aggregate-to-") || text.contains(".operator\n");
        let roles_of_ours = |text: &&str| text.contains("Role\nmetadata:") && !for_people(text);
        for document in rendered.split("\n---\n").filter(roles_of_ours) {
            let mut commented = false;
            for line in document.lines() {
                if line.trim_start().starts_with("- apiGroups:") {
                    rules += 1;
                    assert!(commented, "ci/{name}.yaml: no comment names the code that needs {line:?}");
                }
                let comment = line.trim_start().starts_with('#');
                commented = comment && (commented || line.contains("src/"));
            }
        }
        let granted = documents(&rendered);
        let granted = roles(&granted).map(|role| role["rules"].as_sequence().unwrap().len());
        assert_eq!(rules, granted.sum::<usize>(), "every rule was looked at");
        assert!(rules > 0);
    }
}

#[test]
fn no_right_is_on_secrets_or_everything_and_none_deletes_but_services_and_requests() {
    for name in names() {
        let rendered = documents(&render(&["-f", &values(&name)]).unwrap());
        for rule in roles(&rendered).flat_map(|role| role["rules"].as_sequence().unwrap()) {
            for field in ["apiGroups", "resources", "verbs"] {
                for word in rule[field].as_sequence().unwrap().iter().map(|word| word.as_str().unwrap()) {
                    let bounded = ["[services]", "[leaserequests]"]
                        .iter()
                        .any(|all| rule["resources"] == serde_yaml::from_str::<Value>(all).unwrap());
                    let deletes = word.contains("delete") && !(bounded && word == "delete");
                    let too_much = word.contains('*') || word.contains("secrets") || deletes;
                    assert!(!too_much, "ci/{name}.yaml grants {word:?} in {rule:?}");
                }
            }
        }
    }
}

#[test]
fn a_list_of_namespaces_grants_nothing_outside_of_them_but_to_read_leases_and_nodes() {
    let rendered = documents(&render(&["-f", &values("namespaces")]).unwrap());
    let of_kind = |wanted: &'static str| rendered.iter().filter(move |document| kind(document) == wanted);
    let cluster_wide: Vec<_> = of_kind("ClusterRole").filter(|role| !is_for_people(role)).collect();
    let [leases, nodes] = cluster_wide.as_slice() else { panic!("{cluster_wide:?}") };
    let wanted = |rule: &str| serde_yaml::from_str::<Value>(&format!("[{rule}]")).unwrap();
    let (of_leases, of_nodes) = (
        "{ apiGroups: [coordination.k8s.io], resources: [leases], verbs: [list, watch] }",
        "{ apiGroups: [\"\"], resources: [nodes], verbs: [list, watch] }",
    );
    assert_eq!((&leases["rules"], &nodes["rules"]), (&wanted(of_leases), &wanted(of_nodes)));
    let bound: Vec<_> = of_kind("ClusterRoleBinding").map(|binding| &binding["roleRef"]["name"]).collect();
    assert_eq!(bound, [&leases["metadata"]["name"], &nodes["metadata"]["name"]]);
    let none = render(&["-f", &values("namespaces"), "--set", "watch.nodes=false,rbac.otherReleases=false"]);
    let none = documents(&none.unwrap());
    let cluster_wide = |d: &&Value| kind(d) == "ClusterRole" && !is_for_people(d);
    assert_eq!(none.iter().filter(cluster_wide).count(), 0);
}

#[test]
fn the_chart_installs_the_resource_definitions_as_the_program_prints_them_and_keeps_them() {
    let rendered = documents(&render(&["-f", &values("everything")]).unwrap());
    let found: Vec<_> = rendered.iter().filter(|d| kind(d) == "CustomResourceDefinition").collect();
    let names = [
        "componentleases.componentlease.io",
        "leasedatabases.componentlease.io",
        "leaserequests.componentlease.io",
    ];
    assert_eq!(found.len(), names.len());
    for (name, definition) in names.into_iter().zip(found) {
        let read = |folder: PathBuf| fs::read_to_string(folder.join(name).with_extension("io.yaml")).unwrap();
        let (printed, carried) = (read(repository().join("crds")), read(chart().join("files")));
        assert!(printed == carried, "crds/ and the chart's files/ differ: `make crd` writes both");
        let printed: Value = serde_yaml::from_str(&printed).unwrap();
        assert_eq!(definition["spec"], printed["spec"]);
        assert_eq!(definition["metadata"]["name"], printed["metadata"]["name"]);
        assert_eq!(definition["metadata"]["name"], name);
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        assert_eq!(definition["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    }
}

#[test]
fn every_source_file_that_a_template_names_exists() {
    let mut named = BTreeSet::new();
    for entry in fs::read_dir(chart().join("templates")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || "_/.".contains(c)));
        named.extend(
            words
                .filter(|word| {
                    word.starts_with("src/")
                        && Path::new(word).extension().is_some_and(|ending| ending == "rs")
                })
                .map(str::to_owned),
        );
    }
    let missing: Vec<_> = named.iter().filter(|file| !repository().join(file).is_file()).collect();
    assert!(!named.is_empty() && missing.is_empty(), "{missing:?}");
}
