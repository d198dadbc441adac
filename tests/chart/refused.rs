//! What the chart must refuse, and with which words.

use crate::{render, values};

/// The least that installs with SQLite.
const SQLITE: &[&str] =
    &["--set", "store=sqlite,sqlite.existingClaim=c,sqlite.nodeName=n,sqlite.acknowledgeSingleNode=true"];
/// The least that installs with PostgreSQL.
const POSTGRES: &[&str] = &["--set", "store=postgres,database.existingSecret.name=db"];

/// What is refused, words of the message, what would render, what spoils it.
const REFUSED: &[(&str, &[&str], &[&str], &[&str])] = &[
    ("no store", &["There is no default store"], &[], &[]),
    ("an unknown store", &["/store", "one of"], &[], &["--set", "store=oracle"]),
    (
        "MySQL without a secret",
        &["from-literal=url='mysql://user@host:3306/db'"],
        &[],
        &["--set", "store=mysql"],
    ),
    (
        "MySQL with an address for notifications",
        &["database.directSecret is for PostgreSQL"],
        &["--set", "store=mysql,database.existingSecret.name=db"],
        &["--set", "database.directSecret.name=direct"],
    ),
    ("a longest ttl that no lease may have", &["maxTtlSeconds"], POSTGRES, &["--set", "maxTtlSeconds=4"]),
    (
        "PostgreSQL without a secret",
        &["needs database.existingSecret.name"],
        &[],
        &["--set", "store=postgres"],
    ),
    (
        "SQLite without acknowledgement",
        &["Set sqlite.acknowledgeSingleNode=true"],
        SQLITE,
        &["--set", "sqlite.acknowledgeSingleNode=false"],
    ),
    ("SQLite without a claim", &["needs sqlite.existingClaim"], SQLITE, &["--set", "sqlite.existingClaim="]),
    ("SQLite without a node", &["needs sqlite.nodeName"], SQLITE, &["--set", "sqlite.nodeName="]),
    (
        "SQLite with an affinity",
        &["affinity cannot be set with store=sqlite"],
        SQLITE,
        &["--set-json", r#"affinity={"podAffinity":{}}"#],
    ),
    (
        "SQLite with a database secret",
        &["database.* is set but store is sqlite"],
        SQLITE,
        &["--set", "database.existingSecret.name=x"],
    ),
    (
        "SQLite with a path that leaves the claim",
        &["/sqlite/path"],
        SQLITE,
        &["--set", "sqlite.path=../x.db"],
    ),
    (
        "PostgreSQL with a claim",
        &["sqlite.* is set but store is postgres"],
        POSTGRES,
        &["--set", "sqlite.existingClaim=c"],
    ),
    (
        "two sources of certificates",
        &["set one of them"],
        POSTGRES,
        &["--set", "database.tls.secret=a,database.tls.configMap=b"],
    ),
    (
        "a key of no certificates",
        &["database.tls.caKey is a key of"],
        POSTGRES,
        &["--set", "database.tls.caKey=ca.crt"],
    ),
    ("an unknown key", &["additional properties 'storage' not allowed"], POSTGRES, &["--set", "storage=x"]),
    (
        "an unknown key further down",
        &["additional properties 'existingsecret' not allowed"],
        POSTGRES,
        &["--set", "database.existingsecret.name=x"],
    ),
    ("a word for a number", &["/replicas"], POSTGRES, &["--set", "replicas=two"]),
    ("no replica", &["/replicas"], POSTGRES, &["--set", "replicas=0"]),
    (
        "a label prefix without a domain",
        &["/allowedLabelPrefixes/0"],
        POSTGRES,
        &["--set", "allowedLabelPrefixes={app}"],
    ),
    (
        "a label prefix with a quote",
        &["/allowedLabelPrefixes/0"],
        POSTGRES,
        &["--set", "allowedLabelPrefixes={a.b/c') || true || ('}"],
    ),
    (
        "a label prefix of Kubernetes",
        &["is Kubernetes' own"],
        POSTGRES,
        &["--set", "allowedLabelPrefixes={app.kubernetes.io/}"],
    ),
    ("an IPv6 address without brackets", &["/listenAddress"], POSTGRES, &["--set", "listenAddress=::"]),
    ("an address with a port", &["/listenAddress"], POSTGRES, &["--set", "listenAddress=0.0.0.0:80"]),
    (
        "an allowed component for any namespace",
        &["namespace"],
        POSTGRES,
        &["--set-json", r#"allowedComponents=[{"component":"payments"}]"#],
    ),
    (
        "an allowed component for every namespace",
        &["/allowedComponents/0/namespace"],
        POSTGRES,
        &["--set-json", r#"allowedComponents=[{"namespace":"*","component":"payments"}]"#],
    ),
    (
        "an allowed component that is a list",
        &["/allowedComponents/0/component"],
        POSTGRES,
        &["--set-json", r#"allowedComponents=[{"namespace":"a","component":"x,b=y"}]"#],
    ),
    ("a class that is no name", &["/className"], POSTGRES, &["--set", "className=Blue_1"]),
    ("a namespace twice", &["/watch/namespaces"], POSTGRES, &["--set", "watch.namespaces={a,a}"]),
    (
        "a namespace that cannot exist",
        &["/watch/namespaces/0"],
        POSTGRES,
        &["--set", "watch.namespaces={A_b}"],
    ),
    ("no account", &["must name an existing account"], POSTGRES, &["--set", "serviceAccount.create=false"]),
    (
        "a monitor without its Service",
        &["needs metrics.service.enabled"],
        POSTGRES,
        &["--set", "metrics.serviceMonitor.enabled=true,metrics.service.enabled=false"],
    ),
    (
        "both monitors",
        &["would scrape the same pods twice"],
        POSTGRES,
        &["--set", "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true"],
    ),
    (
        "a variable that the chart sets",
        &["COMPONENT_LEASE_MIGRATE is set by this chart"],
        POSTGRES,
        &["--set-json", r#"extraEnv=[{"name":"COMPONENT_LEASE_MIGRATE","value":"true"}]"#],
    ),
    ("an argument that is no flag", &["/extraArgs/0"], POSTGRES, &["--set", "extraArgs={migrate}"]),
    ("a user of 0", &["/runAs/user"], POSTGRES, &["--set", "runAs.user=0"]),
    (
        "a runbook that is nowhere",
        &["/metrics/rules/runbookBase"],
        POSTGRES,
        &["--set", "metrics.rules.runbookBase=x"],
    ),
    (
        "SQLite with spread constraints",
        &["topologySpreadConstraints cannot be set with store=sqlite"],
        SQLITE,
        &["--set-json", r#"topologySpreadConstraints=[{"maxSkew":1}]"#],
    ),
    ("an old Kubernetes", &["incompatible with Kubernetes", "1.32"], POSTGRES, &["--kube-version", "1.32.9"]),
];

#[test]
fn what_cannot_work_is_refused_with_words_that_help() {
    let wrong =
        REFUSED.iter().filter_map(|(what, words, valid, spoils)| match render(&[*valid, *spoils].concat()) {
            Ok(_) => Some(format!("{what}: was accepted")),
            Err(error) if words.iter().all(|word| error.contains(word)) => None,
            Err(error) => Some(format!("{what}: not refused with {words:?}, but: {error}")),
        });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Or each of them would be refused for another reason.
#[test]
fn what_is_spoilt_renders_without_that() {
    for valid in [SQLITE, POSTGRES] {
        render(valid).unwrap();
    }
    render(&["-f", &values("default-postgres")]).unwrap();
}
