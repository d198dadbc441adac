//! What must be in the rendered chart, or must not.

use Wanted::{Absent, Present};

use crate::{render, values};

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Present,
    Absent,
}

/// What is checked, whether this text is there, the file under `ci/`, further arguments of helm.
const RENDERED: &[(&str, Wanted, &str, &str, &[&str])] = &[
    (
        "the longest ttl reaches the controller",
        Present,
        r#"value: "120""#,
        "default-postgres",
        &["--set", "maxTtlSeconds=120"],
    ),
    (
        "a backend that forgets is refused unless it is wanted",
        Absent,
        "ALLOW_UNSAFE_BACKEND",
        "default-postgres",
        &[],
    ),
    (
        "MySQL is reached at its own port",
        Present,
        "port: 3306",
        "mysql",
        &["--set", "networkPolicy.egress.enabled=true"],
    ),
    (
        "probes are served on all addresses, IPv6 and IPv4",
        Present,
        r#"value: "[::]:8080""#,
        "default-postgres",
        &[],
    ),
    (
        "probes can be served on IPv4 alone",
        Present,
        r#"value: "0.0.0.0:8080""#,
        "default-postgres",
        &["--set", "listenAddress=0.0.0.0"],
    ),
    (
        "two replicas have a disruption budget",
        Present,
        "\nkind: PodDisruptionBudget\n",
        "default-postgres",
        &[],
    ),
    (
        "one replica has no disruption budget",
        Absent,
        "\nkind: PodDisruptionBudget\n",
        "default-postgres",
        &["--set", "replicas=1"],
    ),
    ("SQLite runs one replica unless told otherwise", Present, "\n  replicas: 1\n", "sqlite", &[]),
    ("SQLite with two replicas renders", Present, "\n  replicas: 2\n", "sqlite", &["--set", "replicas=2"]),
    (
        "a list of namespaces grants nothing cluster-wide if neither other releases nor drains need be noticed",
        Absent,
        "\nkind: ClusterRoleBinding",
        "namespaces",
        &["--set", "rbac.otherReleases=false,watch.nodes=false"],
    ),
    (
        "a test of the database has the address of the controller's",
        Present,
        "args: [check]\n      env:\n        - name: COMPONENT_LEASE_DATABASE_URL_FILE\n          value: \"/etc/component-lease/database/url\"",
        "default-postgres",
        &[],
    ),
    (
        "the class reaches the controller",
        Present,
        "- name: COMPONENT_LEASE_CLASS\n              value: \"blue\"",
        "default-postgres",
        &["--set", "className=blue"],
    ),
    (
        "all namespaces are watched by a ClusterRole",
        Present,
        "\nkind: ClusterRole\n",
        "default-postgres",
        &[],
    ),
    ("managed Services can be written", Present, "services.rs: managed Services", "default-postgres", &[]),
    (
        "without managed Services none can be written",
        Absent,
        "managed Services",
        "default-postgres",
        &["--set", "managedServices=false"],
    ),
    (
        "without managed Services none can be written",
        Absent,
        "leases.demo-component-lease.services",
        "default-postgres",
        &["--set", "managedServices=false"],
    ),
    (
        "the resource definition can be left to another release",
        Absent,
        "\nkind: CustomResourceDefinition\n",
        "default-postgres",
        &["--set", "crds.install=false"],
    ),
    (
        "an umbrella chart may switch this one by its condition",
        Present,
        "\nkind: Deployment\n",
        "default-postgres",
        &["--set", "enabled=true"],
    ),
    (
        "OpenShift chooses the user",
        Absent,
        "runAsUser",
        "default-postgres",
        &["--set", "runAs.user=null,runAs.group=null,runAs.fsGroup=null"],
    ),
    (
        "OpenShift chooses the group of files",
        Absent,
        "fsGroup",
        "default-postgres",
        &["--set", "runAs.user=null,runAs.group=null,runAs.fsGroup=null"],
    ),
    (
        "a registry goes before the repository",
        Present,
        r#"image: "mirror.example:5000/a/localhost/component-lease:0.1.0""#,
        "default-postgres",
        &["--set", "image.registry=mirror.example:5000/a"],
    ),
    (
        "an empty list spreads nothing",
        Absent,
        "topologySpreadConstraints",
        "default-postgres",
        &["--set-json", "topologySpreadConstraints=[]"],
    ),
    (
        "no history is kept where that is asked for",
        Present,
        "revisionHistoryLimit: 0",
        "default-postgres",
        &["--set", "revisionHistoryLimit=0"],
    ),
    (
        "nothing of the Prometheus operator unless it is asked for",
        Absent,
        "monitoring.coreos.com",
        "default-postgres",
        &[],
    ),
    ("no dashboard unless it is asked for", Absent, "kind: ConfigMap", "default-postgres", &[]),
    (
        "the runbook is where it is published",
        Present,
        "https://site.example/x/docs/operations/runbook.html",
        "default-postgres",
        &["--set", "metrics.rules.enabled=true,metrics.rules.runbookBase=https://site.example/x/"],
    ),
    (
        "the alert for a missing controller is about this release's",
        Present,
        r#"absent(componentlease_controller_acting{namespace="leases", job="leases/demo-component-lease"} == 1)"#,
        "default-postgres",
        &["--set", "metrics.rules.enabled=true,metrics.podMonitor.enabled=true"],
    ),
    (
        "people's roles can be left out",
        Absent,
        "aggregate-to-",
        "default-postgres",
        &["--set", "rbac.userRoles=false"],
    ),
    (
        "labels of the chart win over common ones",
        Absent,
        "app.kubernetes.io/name: other",
        "default-postgres",
        &["--set-json", r#"commonLabels={"app.kubernetes.io/name":"other"}"#],
    ),
    (
        "a digest wins over a tag",
        Present,
        r#"image: "r@sha256:0000000000000000000000000000000000000000000000000000000000000000""#,
        "default-postgres",
        &[
            "--set",
            "image.repository=r,image.tag=t",
            "--set",
            "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "who asks for a leader to be moved is checked, and the controller says so",
        Present,
        "REQUESTERS_VERIFIED\n              value: \"true\"",
        "default-postgres",
        &[],
    ),
    (
        "without the policy the controller says that nobody is checked",
        Present,
        "REQUESTERS_VERIFIED\n              value: \"false\"",
        "default-postgres",
        &["--set", "verifyRequesters=false"],
    ),
    (
        "cordoned nodes are watched with a right of their own",
        Present,
        "resources: [nodes]",
        "namespaces",
        &[],
    ),
    (
        "without watching nodes the right is not asked for",
        Absent,
        "resources: [nodes]",
        "default-postgres",
        &["--set", "watch.nodes=false"],
    ),
    (
        "without watching nodes the controller knows that",
        Present,
        "WATCH_NODES\n              value: \"false\"",
        "default-postgres",
        &["--set", "watch.nodes=false"],
    ),
    (
        "who asks is filled in where the cluster can do that",
        Present,
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingAdmissionPolicy\n",
        "default-postgres",
        &[
            "--api-versions",
            "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
            "--api-versions",
            "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy",
        ],
    ),
    (
        "who asks is not filled in where the cluster cannot do that",
        Absent,
        "\nkind: MutatingAdmissionPolicy",
        "default-postgres",
        &[],
    ),
    (
        "who asks is not filled in where nobody wants it",
        Absent,
        "\nkind: MutatingAdmissionPolicy",
        "default-postgres",
        &[
            "--set",
            "fillInRequesters=off",
            "--api-versions",
            "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
        ],
    ),
    (
        "the admission policy can be left out",
        Absent,
        "\nkind: ValidatingAdmissionPolicy",
        "default-postgres",
        &["--set", "admissionPolicy.enabled=false,verifyRequesters=false"],
    ),
    (
        "a prefix reaches the admission policy",
        Present,
        "startsWith('example.com/')",
        "default-postgres",
        &["--set", "allowedLabelPrefixes={example.com/}"],
    ),
    (
        "a prefix reaches the controller",
        Present,
        r#"value: "example.com/,a.b/c-""#,
        "default-postgres",
        &["--set", "allowedLabelPrefixes={example.com/,a.b/c-}"],
    ),
    (
        "allowed components reach the controller",
        Present,
        r#"value: "shop=payments,b=old/x""#,
        "default-postgres",
        &[
            "--set-json",
            r#"allowedComponents=[{"namespace":"shop","component":"payments"},{"namespace":"b","component":"old/x"}]"#,
        ],
    ),
    (
        "nobody may claim a foreign component unless it is said",
        Absent,
        "ALLOWED_COMPONENTS",
        "default-postgres",
        &[],
    ),
    (
        "an existing account is not made",
        Absent,
        "\nkind: ServiceAccount\n",
        "default-postgres",
        &["--set", "serviceAccount.create=false,serviceAccount.name=given"],
    ),
    (
        "the policy is for the account in use",
        Present,
        "system:serviceaccount:leases:given",
        "default-postgres",
        &["--set", "serviceAccount.create=false,serviceAccount.name=given"],
    ),
];

#[test]
fn what_values_ask_for_is_rendered_and_nothing_else() {
    let wrong = RENDERED.iter().filter_map(|(what, wanted, text, file, arguments)| {
        let values = values(file);
        match render(&[&["-f", values.as_str()], *arguments].concat()) {
            Ok(rendered) if rendered.contains(text) == (*wanted == Present) => None,
            Ok(_) => Some(format!("{what}: {text:?} should be {wanted:?}")),
            Err(error) => Some(format!("{what}: does not render: {error}")),
        }
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
