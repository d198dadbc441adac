//! To which namespace a component belongs, as the program sees it.

use crate::agent_support::{Rig, output, program};

/// What a shell that is run as the leader was told its component is, or why nothing ran.
fn component(variables: &[(&str, &str)], flags: &[&str]) -> (i32, String) {
    let rig = Rig::new();
    let mut command = program();
    command
        .args(["run", "--listen", "127.0.0.1:0", "--ttl", "5", "--database-url", &rig.url()])
        .args(flags)
        .args(["--", "sh", "-c", "echo \"key=$COMPONENT_LEASE_COMPONENT\""]);
    command.env_remove("POD_NAMESPACE").env_remove("KUBERNETES_SERVICE_HOST");
    for (name, value) in variables {
        command.env(name, value);
    }
    let (code, printed, errors) = output(&command);
    (code, printed + &errors)
}

const CLUSTER: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
const SHOP: (&str, &str) = ("POD_NAMESPACE", "shop");

#[test]
fn in_a_pod_the_key_begins_with_the_pods_namespace_unless_it_is_given_as_it_stands() {
    for (variables, flags, key) in [
        (&[CLUSTER, SHOP][..], ["--component", "payments"], "key=shop/payments"),
        (&[SHOP], ["--component", "payments"], "key=shop/payments"),
        (
            &[CLUSTER, SHOP, ("COMPONENT_LEASE_COMPONENT", "shop/payments")],
            ["--log", "info"],
            "key=shop/payments",
        ),
        (&[CLUSTER, SHOP], ["--component-key", "payments"], "key=payments"),
        (&[CLUSTER], ["--component-key", "payments"], "key=payments"),
    ] {
        let (code, printed) = component(variables, &flags);
        assert_eq!(code, 0, "{variables:?} {flags:?}: {printed}");
        assert!(printed.lines().any(|line| line == key), "{variables:?} {flags:?}: {printed}");
    }
}

#[test]
fn in_a_cluster_a_participant_without_its_namespace_refuses_to_start_and_says_what_to_add() {
    for variables in [&[CLUSTER][..], &[CLUSTER, ("POD_NAMESPACE", "")]] {
        let (code, printed) = component(variables, &["--component", "payments"]);
        assert_eq!(code, 78, "{printed}");
        assert!(printed.contains("fieldRef: {fieldPath: metadata.namespace}"), "{printed}");
    }
    for (variables, name, says) in [
        (&[CLUSTER, ("POD_NAMESPACE", "$(POD_NAMESPACE)")][..], "payments", "not the name of a namespace"),
        (&[CLUSTER, SHOP], "other/payments", "does not begin with this pod's namespace"),
    ] {
        let (code, printed) = component(variables, &["--component", name]);
        assert_eq!(code, 78, "{printed}");
        assert!(printed.contains(says), "{printed}");
    }
}
