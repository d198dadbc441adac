//! Where the lease is.

use std::sync::Arc;

use super::args::LeaseArgs;
use crate::clock::Clock;
use crate::election::ComponentName;
use crate::membership::namespace::{KeyError, POD_NAMESPACE_HINT, key_of};
use crate::participant::surroundings;
use crate::process::{ExitCode, Failure};
use crate::store::kubernetes::KubernetesStore;
use crate::store::{LeaseStore, Roster, Source, StoreError, open_rosters};

/// What `--lease` says for a Lease object.
const KUBERNETES: &str = "kubernetes";

/// The lease's name and its store.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) component: ComponentName,
    how: How,
}

#[derive(Debug)]
enum How {
    Kubernetes(Arc<KubernetesStore>),
    Database(Source),
}

impl Place {
    /// Nothing is asked yet.
    pub(super) async fn of(args: &LeaseArgs, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        if args.lease.as_ref().is_some_and(|lease| lease.expose() == KUBERNETES) {
            without_the_flags_of_a_database(args)?;
            let component =
                ComponentName::new(&args.cluster).map_err(|error| Failure::config(error.to_string()))?;
            let namespace = surroundings().namespace;
            let store = KubernetesStore::connect(namespace.as_deref(), clock).await;
            return Ok(Self { component, how: How::Kubernetes(Arc::new(store.map_err(|e| failure(&e))?)) });
        }
        let component = key_of(&args.cluster, &surroundings()).map_err(|error| match error {
            KeyError::NoNamespace { .. } | KeyError::NoNamespaceName { .. } => Failure::config(format!(
                "this process runs in a cluster, and POD_NAMESPACE does not say in which namespace, so the key of the lease is not known: add {POD_NAMESPACE_HINT} to env of the container"
            )),
            other => Failure::config(other.to_string()),
        })?;
        Ok(Self { component, how: How::Database(source(args)) })
    }

    /// What the participant competes with, and the lease with what stands beside it. Two stores of a database: renewals wait for
    /// nothing else.
    pub(super) fn stores(&self) -> Result<(Arc<dyn LeaseStore>, Arc<dyn Roster>), Failure> {
        match &self.how {
            How::Kubernetes(store) => Ok((Arc::clone(store) as _, Arc::clone(store) as _)),
            How::Database(source) => {
                let (to_compete, roster) = rosters(source)?;
                Ok((to_compete as _, roster))
            }
        }
    }

    /// For those who only look.
    pub(super) fn roster(&self) -> Result<Arc<dyn Roster>, Failure> {
        match &self.how {
            How::Kubernetes(store) => Ok(Arc::clone(store) as _),
            How::Database(source) => Ok(rosters(source)?.1),
        }
    }
}

/// What has no effect is a mistake.
fn without_the_flags_of_a_database(args: &LeaseArgs) -> Result<(), Failure> {
    let given = [
        ("--lease-password-file", "COMPONENT_LEASE_DATABASE_PASSWORD_FILE", &args.lease_password_file),
        ("--lease-ca-file", "COMPONENT_LEASE_DATABASE_CA_FILE", &args.lease_ca_file),
    ];
    let named = given.iter().filter(|(.., file)| file.is_some());
    let named: Vec<_> = named.map(|(flag, variable, _)| format!("{flag} ({variable})")).collect();
    if named.is_empty() {
        return Ok(());
    }
    Err(Failure::config(format!(
        "--lease kubernetes has no use for {}: a Lease object is reached as the pod's service account; leave that out, or name the URL of a database with --lease",
        named.join(" and ")
    )))
}

fn rosters(source: &Source) -> Result<(Arc<dyn Roster>, Arc<dyn Roster>), Failure> {
    open_rosters(source.clone(), "component-lease db").map_err(|error| failure(&error))
}

fn source(args: &LeaseArgs) -> Source {
    let mut source = match &args.lease {
        Some(url) => Source::url(url.expose()),
        None => Source::file(args.lease_url_file.clone().unwrap_or_default()),
    };
    if let Some(file) = &args.lease_ca_file {
        source = source.ca_file(file.clone());
    }
    match &args.lease_password_file {
        Some(file) => source.password_file(file.clone()),
        None => source,
    }
}

pub(super) fn failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Retryable { .. } => ExitCode::Unavailable,
        StoreError::Misconfigured { .. } => ExitCode::Config,
        // A bug, or a kind that came later.
        _ => ExitCode::Unexpected,
    };
    Failure::new(exit, error.to_string())
}

/// The system identifier of the database that keeps the lease, if it is a PostgreSQL that says it.
pub(super) async fn system_of(
    store: &dyn LeaseStore,
    component: &ComponentName,
) -> Result<Option<u64>, StoreError> {
    let life = store.look(component).await?.life;
    Ok(life.id().identity.split('/').next().and_then(|system| system.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_a_lease_object_has_no_use_for_are_refused_by_name() {
        let args = |password: Option<&str>, ca: Option<&str>| LeaseArgs {
            cluster: "c".to_owned(),
            lease: Some(KUBERNETES.parse().unwrap()),
            lease_url_file: None,
            lease_password_file: password.map(Into::into),
            lease_ca_file: ca.map(Into::into),
        };
        assert!(without_the_flags_of_a_database(&args(None, None)).is_ok());
        let failure = without_the_flags_of_a_database(&args(Some("/p"), Some("/c"))).unwrap_err();
        assert_eq!(failure.exit.code(), 78);
        for piece in [
            "--lease-password-file (COMPONENT_LEASE_DATABASE_PASSWORD_FILE) and --lease-ca-file",
            "leave that out",
        ] {
            assert!(failure.to_string().contains(piece), "{failure}");
        }
    }
}
