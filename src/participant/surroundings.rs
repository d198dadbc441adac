//! Where this process runs, as far as the key of its component depends on it.

use std::path::Path;

use crate::election::ComponentName;
use crate::membership::namespace::{KeyError, Surroundings, key_of};

/// Is in every pod, whatever its manifest says.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
/// Is in every pod whose service account's token is mounted.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The key of the component with this name: `<namespace>/<name>` in a pod, the bare name outside of a
/// cluster. The namespace is `POD_NAMESPACE`, from the downward API; this is what `agent` and `run` do with
/// `--component`, and what a `ComponentLease` resource of the same namespace and name means.
///
/// For a key as it stands, [`ComponentName::new`] is enough.
///
/// # Errors
/// In a pod without `POD_NAMESPACE`, and for a name that belongs to another namespace.
pub fn component(name: &str) -> Result<ComponentName, KeyError> {
    key_of(name, &surroundings())
}

/// What [`component`] goes by.
#[must_use]
pub fn surroundings() -> Surroundings {
    read(|variable| std::env::var(variable).ok(), Path::new(SERVICE_ACCOUNT))
}

/// What this machine calls itself; within a pod, the pod's name.
pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    if name.is_empty() { "localhost".to_owned() } else { name.into_owned() }
}

fn read(variable: impl Fn(&str) -> Option<String>, service_account: &Path) -> Surroundings {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    Surroundings {
        namespace: given("POD_NAMESPACE"),
        in_cluster: given(SERVICE_HOST).is_some() || service_account.is_dir(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_the_variable_that_every_pod_has_or_by_the_folder_of_its_account() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no");
        let with = |set: &'static str| move |name: &str| (name == set).then(|| "10.0.0.1".to_owned());
        assert_eq!(read(with("HOME"), &missing), Surroundings::default());
        assert!(read(with("HOME"), folder.path()).in_cluster);
        assert!(read(with(SERVICE_HOST), &missing).in_cluster);
        let named = read(with("POD_NAMESPACE"), &missing);
        assert_eq!(named, Surroundings { namespace: Some("10.0.0.1".to_owned()), in_cluster: false });
    }
}
