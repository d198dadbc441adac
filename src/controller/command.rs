//! `component-lease controller`: its arguments, its probes, its end.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use kube::api::ListParams;
use kube::{Api, Client};
use tracing::info;

use super::{Config, Controller, ElectionConfig};
use crate::api::{self, ComponentLease};
use crate::clock::SystemClock;
use crate::membership::namespace::{Grant, GrantError};
use crate::process::admin::{self, Admin};
use crate::process::args::positive_seconds;
use crate::process::exit::chain;
use crate::process::listen::{Listen, bind};
use crate::process::{ExitCode, Failure, http, metrics, shutdown};
use crate::store::{Directory, Retention};

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `component-lease controller`.
#[derive(Debug, Clone, Args)]
pub struct ControllerArgs {
    /// Class of this controller: it acts only on resources with this spec.className
    #[arg(long, env = "COMPONENT_LEASE_CLASS", default_value = api::DEFAULT_CLASS, value_parser = class_name, value_name = "CLASS")]
    pub class: String,
    /// Namespaces to watch, separated by commas [default: all]
    #[arg(long, env = "COMPONENT_LEASE_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACES")]
    pub namespaces: Vec<String>,
    /// Address of /livez, /readyz and /metrics; :PORT means all addresses, IPv6 and IPv4
    #[arg(long, env = "COMPONENT_LEASE_LISTEN", default_value = ":8080", value_name = "ADDRESS")]
    pub listen: Listen,
    /// Seconds between two polls of the database; five times that with SQLite, which reports every commit
    #[arg(
        long,
        env = "COMPONENT_LEASE_POLL_INTERVAL",
        default_value = "1",
        value_parser = positive_seconds,
        value_name = "SECONDS"
    )]
    pub poll_interval: Duration,
    /// Prefixes, besides componentlease.io/, that spec.routing.labelKey may begin with, separated by commas
    #[arg(
        long,
        env = "COMPONENT_LEASE_ALLOWED_LABEL_PREFIXES",
        value_delimiter = ',',
        value_name = "PREFIXES"
    )]
    pub allowed_label_prefixes: Vec<String>,
    /// `NAMESPACE=COMPONENT` pairs, separated by commas: resources of NAMESPACE may claim COMPONENT although it does
    /// not begin with their namespace and a slash. If --namespaces names a single namespace, its resources may also
    /// claim any name without a slash
    #[arg(
        long,
        env = "COMPONENT_LEASE_ALLOWED_COMPONENTS",
        value_delimiter = ',',
        value_name = "NAMESPACE=COMPONENT"
    )]
    pub allowed_components: Vec<String>,
    /// UUID (component_lease_store.uuid) of a database that resources may use although they knew another one: after
    /// tables were recreated, or after a move to another database
    #[arg(long, env = "COMPONENT_LEASE_ACCEPT_DATABASE", value_name = "UUID")]
    pub accept_database: Option<String>,
    /// How many lines of each component's history to keep, the newest; the last one always stays
    #[arg(
        long,
        env = "COMPONENT_LEASE_HISTORY_KEEP",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        value_name = "LINES"
    )]
    pub history_keep: u32,
    /// Days to keep a line of the history after its term ended
    #[arg(
        long,
        env = "COMPONENT_LEASE_HISTORY_DAYS",
        default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(1..=36_500),
        value_name = "DAYS"
    )]
    pub history_days: u32,
    /// Say in LeaseRequests that spec.requestedBy was checked, because an admission policy refuses every name but the
    /// user's own, as the chart's does
    #[arg(long, env = "COMPONENT_LEASE_REQUESTERS_VERIFIED", value_parser = BoolishValueParser::new())]
    pub requesters_verified: bool,
    /// Watch nodes, so that leaders make way before their nodes are drained (spec.handOverWhenCordoned): a right in
    /// the whole cluster
    #[arg(
        long,
        env = "COMPONENT_LEASE_WATCH_NODES",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub watch_nodes: bool,
    /// Elect one of the controller's replicas through a Kubernetes Lease
    #[arg(
        long,
        env = "COMPONENT_LEASE_LEADER_ELECT",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub leader_elect: bool,
    /// Namespace of that Lease
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_elect_namespace: Option<String>,
    /// Name of that Lease
    #[arg(
        long,
        env = "COMPONENT_LEASE_LEADER_ELECT_NAME",
        default_value = "component-lease-controller",
        value_name = "NAME"
    )]
    pub leader_elect_name: String,
    /// Name of this replica [default: the host name]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// UID of this replica's pod
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
}

impl ControllerArgs {
    /// What the arguments mean together. `max_ttl` in seconds.
    pub fn check(self, max_ttl: u32) -> Result<(Config, Listen), Failure> {
        let Self {
            class,
            namespaces,
            listen,
            poll_interval,
            allowed_label_prefixes,
            allowed_components,
            accept_database,
            history_keep,
            history_days,
            requesters_verified,
            watch_nodes,
            leader_elect,
            leader_elect_namespace,
            leader_elect_name,
            identity,
            pod_uid,
        } = self;
        let given = |list: Vec<String>| -> Vec<String> {
            let trimmed = list.iter().map(|item| item.trim().to_owned());
            trimmed.filter(|item| !item.is_empty()).collect()
        };
        let allowed_label_prefixes = given(allowed_label_prefixes);
        if let Some(bad) = allowed_label_prefixes.iter().find(|prefix| !prefix.contains('/')) {
            return Err(Failure::config(format!(
                "the label prefix {bad:?} has no slash; write for example example.org/ or example.org/role-"
            )));
        }
        let allowed_components = given(allowed_components).into_iter().map(|text| text.parse());
        let allowed_components: Vec<Grant> =
            allowed_components.collect::<Result<_, _>>().map_err(|error: GrantError| {
                Failure::config(format!("{} (--allowed-components)", chain(&error)))
            })?;
        let accept_database =
            accept_database.map(|uuid| uuid.trim().to_ascii_lowercase()).filter(|uuid| !uuid.is_empty());
        if let Some(bad) = accept_database.as_deref().filter(|uuid| !is_uuid(uuid)) {
            return Err(Failure::config(format!(
                "--accept-database {bad:?} is no UUID; the condition DatabaseChanged names the one that is meant, as in 0e8400f2-1c5e-4f0a-9d3b-2b1f6a7c8d9e"
            )));
        }
        let election = if leader_elect {
            let namespace = leader_elect_namespace.filter(|namespace| !namespace.is_empty()).ok_or_else(|| {
                Failure::config(
                    "the namespace of the election Lease is not known: set POD_NAMESPACE from the downward API or --leader-elect-namespace, or run a single replica with --leader-elect=false",
                )
            })?;
            Some(ElectionConfig { namespace, name: leader_elect_name })
        } else {
            None
        };
        let config = Config {
            class,
            namespaces: given(namespaces),
            poll_interval,
            max_ttl,
            allowed_label_prefixes,
            allowed_components,
            accept_database,
            history: Retention {
                newest: history_keep,
                age: Duration::from_secs(u64::from(history_days) * 24 * 3600),
            },
            requesters_verified,
            watch_nodes,
            clock: Arc::new(SystemClock),
            election,
            identity: identity
                .filter(|name| !name.is_empty())
                .unwrap_or_else(crate::participant::surroundings::host_name),
            origin: pod_uid.filter(|uid| !uid.is_empty()),
        };
        Ok((config, listen))
    }
}

/// As the schema has it.
fn class_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = text.chars().all(|c| plain(c) || c == '-') && (1..=63).contains(&text.len());
    if inner && text.starts_with(plain) && text.ends_with(plain) {
        return Ok(text.to_owned());
    }
    Err("a class has 1 to 63 small letters, digits and '-', and begins and ends with a letter or a digit"
        .to_owned())
}

/// In the usual form, in lower case.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().chars().all(|c| c.is_ascii_hexdigit())
}

/// Runs the controller until a signal ends it. `max_ttl` in seconds, as the participants have it.
pub async fn serve(args: ControllerArgs, max_ttl: u32, store: Arc<dyn Directory>) -> Result<u8, Failure> {
    let (config, listen) = args.check(max_ttl)?;
    let end = shutdown::on_signal()?;
    let listener = bind(listen).await?;
    let client = client().await?;
    let mut registry = metrics::registry();
    let controller = Controller::new(config, client, Arc::clone(&store), &mut registry)
        .map_err(|error| Failure::config(chain(&error)))?;
    let (live, ready) = (controller.probe(), controller.probe());
    let admin = Admin {
        live: Arc::new(move || live.live()),
        ready: Arc::new(move || ready.ready()),
        registry: Arc::new(registry),
    };
    info!(version = env!("CARGO_PKG_VERSION"), store = store.describe(), %listen, "starting");
    let served = tokio::spawn(http::serve(listener, admin::router(admin), end.clone()));
    let broken = async {
        match served.await {
            // On a shutdown. The controller has its Lease to release, and says when it is done.
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let ended = tokio::select! {
        ended = controller.run(end.clone()) => ended.map_err(|error| Failure::new(ExitCode::Ended, chain(&error))),
        error = broken => Err(Failure::new(ExitCode::Ended, format!("the probes ended: {error}"))),
    };
    ended.map(|()| 0)
}

/// Whether no resource knows of any term: then tables that are not there yet were never there. False
/// when that cannot be found out. (Of the namespaces that are watched: who shares a database with the
/// controller of others makes the tables by hand.)
pub async fn nobody_has_led(args: &ControllerArgs) -> bool {
    let asked = async {
        let client = client().await.ok()?;
        let apis: Vec<Api<ComponentLease>> = match args.namespaces.as_slice() {
            [] => vec![Api::all(client)],
            names => names.iter().map(|name| Api::namespaced(client.clone(), name.trim())).collect(),
        };
        for api in apis {
            let leases = api.list(&ListParams::default()).await.ok()?;
            let remembers = |lease: &ComponentLease| {
                let memory = api::memory(lease, lease.status.as_ref());
                // Also on anybody's word: it costs a single quarantine.
                memory.floor > 0 || memory.floor_copy > 0
            };
            let ours = |lease: &&ComponentLease| lease.spec.class_name == args.class;
            if leases.iter().filter(ours).any(remembers) {
                return None;
            }
        }
        Some(())
    };
    matches!(tokio::time::timeout(CONNECT_TIMEOUT * 2, asked).await, Ok(Some(())))
}

async fn client() -> Result<Client, Failure> {
    let hint = "run within a pod with a service account, or set KUBECONFIG";
    let mut config = kube::Config::infer().await.map_err(|error| {
        Failure::config(format!("no way to the API server is configured ({hint}): {}", chain(&error)))
    })?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(|error| {
        Failure::config(format!("the way to the API server cannot be used: {}", chain(&error)))
    })
}
