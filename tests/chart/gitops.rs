//! What Flux and Argo CD make of a resource in every state, and what Kustomize makes of its name. The states are what
//! the rules of the controller say (`src/api/states_tests.rs`); `docs/how-to/gitops.md` has the table.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use component_lease_testkit::control_plane::program;
use component_lease_testkit::{hack, repository};
use serde_yaml::Value;

fn example(path: &str) -> String {
    let file = repository().join("examples/gitops").join(path);
    fs::read_to_string(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()))
}

fn states() -> String {
    fs::read_to_string(repository().join("tests/chart/states.json")).unwrap()
}

/// What kstatus and this health script say of each resource: a status and a message each.
fn judged(script: &str, resources: &str) -> Vec<[(String, String); 2]> {
    let built = Command::new(hack("gitops/kstatus.sh")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("health.lua");
    fs::write(&file, script).unwrap();
    let mut command = Command::new(String::from_utf8(built.stdout).unwrap().trim());
    command.arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(resources.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let verdict = |text: &str| {
        let (status, message) = text.split_once(": ").unwrap();
        (status.to_owned(), message.to_owned())
    };
    said.lines()
        .map(|line| {
            let (flux, argo) = line.split_once('\t').unwrap();
            [verdict(flux), verdict(argo)]
        })
        .collect()
}

fn health_script() -> String {
    let patch: Value = serde_yaml::from_str(&example("argocd-cm.yaml")).unwrap();
    let data = patch["data"].as_mapping().unwrap();
    assert_eq!(data.len(), 1, "nothing else of Argo CD's configuration is touched");
    data["resource.customizations.health.componentlease.io_ComponentLease"].as_str().unwrap().to_owned()
}

/// The rows of a table of Markdown, without the first of each.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| state"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn flux_and_argo_cd_say_of_each_state_what_the_page_promises() {
    let resources: Vec<Value> = serde_yaml::from_str(&states()).unwrap();
    let judged = judged(&health_script(), &states());
    assert_eq!(judged.len(), resources.len());
    let found: BTreeMap<String, [String; 2]> = (resources.iter().zip(&judged))
        .map(|(resource, [flux, argo])| {
            let state = resource["metadata"]["annotations"]["state"].as_str().unwrap();
            assert!(!argo.1.is_empty() && argo.1 != "nil", "{state}: {argo:?}");
            (state.to_owned(), [flux.0.clone(), argo.0.clone()])
        })
        .collect();
    let page = fs::read_to_string(repository().join("docs/how-to/gitops.md")).unwrap();
    let promised: BTreeMap<String, [String; 2]> = rows(&page)
        .into_iter()
        .map(|row| {
            let [state, flux, argo] = <[String; 3]>::try_from(row).unwrap();
            (state, [flux, argo])
        })
        .collect();
    let row = |(state, [flux, argo]): (&String, &[String; 2])| format!("| {state} | {flux} | {argo} |");
    let table = found.iter().map(row).collect::<Vec<_>>().join("\n");
    assert!(found == promised, "the table of docs/how-to/gitops.md is to be:\n{table}");
}

#[test]
fn a_health_script_that_is_none_is_noticed() {
    let resource = r#"[{"apiVersion": "x/v1", "kind": "A", "metadata": {"name": "a"}}]"#;
    let [flux, argo] =
        judged("return { status = 'Healthy', message = obj.metadata.name }", resource).remove(0);
    assert_eq!((flux.0.as_str(), argo.0.as_str(), argo.1.as_str()), ("Current", "Healthy", "a"));
    // Argo CD opens no libraries that reach outside.
    let outside = std::panic::catch_unwind(|| judged("return { status = os.getenv('HOME') }", resource));
    assert!(outside.is_err(), "{outside:?}");
}

#[test]
fn an_example_for_flux_waits_for_the_resources_health() {
    let flux: Value = serde_yaml::from_str(&example("flux.yaml")).unwrap();
    assert_eq!((flux["kind"].as_str(), flux["spec"]["wait"].as_bool()), (Some("Kustomization"), Some(true)));
    let path = flux["spec"]["path"].as_str().unwrap();
    assert!(repository().join(path).join("kustomization.yaml").is_file(), "{path}");
}

/// What Kustomize, the one within kubectl, makes of a folder; by kind.
fn kustomized(folder: &str) -> BTreeMap<String, Value> {
    let kubectl = program("kubectl").expect("kubectl: run hack/kubernetes/build.sh");
    let output = Command::new(kubectl).args(["kustomize", folder]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let by_kind =
        super::documents(&text).into_iter().map(|document| (super::kind(&document).to_owned(), document));
    by_kind.collect()
}

#[test]
fn a_name_prefix_of_kustomize_keeps_the_resource_its_service_and_its_pods_together() {
    let gitops = repository().join("examples/gitops");
    for (folder, name) in [("base", "reports"), ("overlay", "blue-reports")] {
        let made = kustomized(gitops.join(folder).to_str().unwrap());
        let (lease, deployment) = (&made["ComponentLease"], &made["Deployment"]);
        assert_eq!(lease["metadata"]["name"].as_str(), Some(name));
        assert_eq!(lease["spec"]["routing"]["service"]["name"].as_str(), Some(name));
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"]["component-lease"].as_str(), Some(name));
        // The selector of the resource matches the labels of the pods, whatever was added to both.
        let selector = lease["spec"]["selector"]["matchLabels"].as_mapping().unwrap();
        assert_eq!(Some(selector), template["metadata"]["labels"].as_mapping());
        assert_eq!(selector.len(), if folder == "base" { 1 } else { 2 });
    }
    // A Service that is only checked has a name of its own.
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("component-lease.yaml", &example("base/component-lease.yaml"));
    let checked = example("base/component.yaml").replace(
        "{ name: reports, policy: Manage, ports: [{ port: 80, targetPort: 8080 }] }",
        "{ name: web }",
    );
    assert!(checked.contains("service: { name: web }"), "{checked}");
    let service =
        "\n---\napiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { ports: [{ port: 80 }] }\n";
    write("all.yaml", &(checked + service));
    let kustomization = "resources: [all.yaml]\nconfigurations: [component-lease.yaml]\nnameSuffix: -green\n";
    write("kustomization.yaml", kustomization);
    let made = kustomized(folder.path().to_str().unwrap());
    assert_eq!(made["Service"]["metadata"]["name"].as_str(), Some("web-green"));
    assert_eq!(made["ComponentLease"]["spec"]["routing"]["service"]["name"].as_str(), Some("web-green"));
}
