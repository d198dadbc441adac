//! The configuration of `agent` and `run`: flags or environment, checked once into a [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use super::health::{Probe, Target};
use crate::election::life::MAX_TTL_DEFAULT_SECONDS;
use crate::election::timing::{TTL_MAX_SECONDS, TTL_MIN_SECONDS};
use crate::election::{ComponentName, Timing};
use crate::membership::Whereabouts;
use crate::membership::holder_id;
use crate::membership::namespace::{Surroundings, key_of};
use crate::process::Failure;
use crate::process::args::{positive_seconds, seconds};
use crate::process::listen::Listen;

/// The flags of `agent` and `run`.
#[derive(Debug, Clone, Args)]
pub struct ParticipantArgs {
    /// Component to compete for. In a pod the key of its row is NAMESPACE/NAME, with the namespace from
    /// POD_NAMESPACE. Outside a cluster the key is NAME
    #[arg(
        long,
        env = "COMPONENT_LEASE_COMPONENT",
        required_unless_present = "component_key",
        value_name = "NAME"
    )]
    pub component: Option<String>,
    /// Exact key of the row, instead of --component: for a table or a ComponentLease that uses a bare name
    #[arg(long, env = "COMPONENT_LEASE_COMPONENT_KEY", conflicts_with = "component", value_name = "KEY")]
    pub component_key: Option<String>,
    /// First part of the holder id [default: $POD_NAME, else the host name]
    #[arg(long, env = "COMPONENT_LEASE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// UID of this pod. Its first 8 characters become part of the holder id [default: the process id]
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Version of your program, shown in the table component_instance
    #[arg(long, env = "COMPONENT_LEASE_PROGRAM_VERSION", value_name = "VERSION")]
    pub program_version: Option<String>,
    /// Seconds that a term lasts without renewal (5 to 3600, and at most --max-ttl). A ComponentLease overrides it
    #[arg(long, env = "COMPONENT_LEASE_TTL", default_value_t = 30, value_name = "SECONDS")]
    pub ttl: u32,
    /// Seconds reserved for stopping the work, at most 0.3 of the TTL [default: 0.2 of the TTL in force]
    #[arg(long, env = "COMPONENT_LEASE_STOP_GRACE", value_parser = seconds, value_name = "SECONDS")]
    pub stop_grace: Option<Duration>,
    /// How much this participant is preferred among those that could lead, 0 to 255; 0 never leads. A ComponentLease's
    /// controller goes by it when nobody leads
    #[arg(long, env = "COMPONENT_LEASE_PRIORITY", default_value_t = 100, value_name = "NUMBER")]
    pub priority: u8,
    /// Seconds for which this participant does not compete after it was unhealthy [default: the TTL]
    #[arg(long, env = "COMPONENT_LEASE_COOLDOWN", value_parser = seconds, value_name = "SECONDS")]
    pub cooldown: Option<Duration>,
    /// Address of the HTTP endpoints; :PORT means all addresses, IPv6 and IPv4 [default: agent localhost:8355, run localhost:0]
    #[arg(long, env = "COMPONENT_LEASE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Listen>,
    /// Answer /leader on all interfaces, not only on loopback. Then the lease of a killed leader is not released
    /// early, because a client outside the pod may still believe that it leads
    #[arg(
        long,
        env = "COMPONENT_LEASE_ANSWER_OUTSIDE",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    pub answer_outside: bool,
    /// Unix socket on which this user (and root) may ask this participant to step down, with
    /// `component-lease step-down --socket PATH` [default: none]
    #[arg(long, env = "COMPONENT_LEASE_CONTROL_SOCKET", value_name = "PATH")]
    pub control_socket: Option<PathBuf>,
    #[command(flatten)]
    pub health: HealthArgs,
}

/// The flags of the health probe.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Health of the program")]
pub struct HealthArgs {
    /// URL (`http://…`) that must answer 2xx or 3xx. `agent` probes it on standbys too
    #[arg(long, env = "COMPONENT_LEASE_HEALTH_HTTP", conflicts_with = "health_tcp", value_name = "URL")]
    pub health_http: Option<String>,
    /// HOST:PORT that must accept a connection. `agent` probes it on standbys too
    #[arg(long, env = "COMPONENT_LEASE_HEALTH_TCP", value_name = "ADDRESS")]
    pub health_tcp: Option<String>,
    /// Seconds between two probes
    #[arg(long, env = "COMPONENT_LEASE_HEALTH_INTERVAL", default_value = "2", value_parser = positive_seconds, value_name = "SECONDS")]
    pub health_interval: Duration,
    /// Seconds that one probe may take
    #[arg(long, env = "COMPONENT_LEASE_HEALTH_TIMEOUT", default_value = "1", value_parser = positive_seconds, value_name = "SECONDS")]
    pub health_timeout: Duration,
    /// Consecutive failures that make the program unhealthy
    #[arg(long, env = "COMPONENT_LEASE_HEALTH_THRESHOLD", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    pub health_threshold: u32,
    /// Seconds after a win during which failures do not count, until the first success
    #[arg(long, env = "COMPONENT_LEASE_HEALTH_START_GRACE", default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub health_start_grace: Duration,
}

/// The flags, found possible.
#[derive(Debug, Clone)]
pub struct Config {
    pub component: ComponentName,
    /// First and second part of the holder id, where they are not left to the library.
    pub name: Option<String>,
    pub pod_uid: Option<String>,
    pub whereabouts: Whereabouts,
    pub program_version: Option<String>,
    pub timing: Timing,
    pub cooldown: Duration,
    /// Seconds; the longest ttl that any lease of the database may have.
    pub max_ttl: u32,
    pub listen: Option<Listen>,
    pub answer_outside: bool,
    pub control_socket: Option<PathBuf>,
    pub priority: u8,
    pub probe: Option<Probe>,
}

impl ParticipantArgs {
    /// Checks what can be checked without the database. `pod_name` is what a participant is called
    /// that was given no name; `at` is where it runs.
    pub fn check(self, pod_name: Option<String>, at: &Surroundings) -> Result<Config, Failure> {
        let Self {
            component,
            component_key,
            name,
            pod_uid,
            program_version,
            ttl,
            stop_grace,
            cooldown,
            listen,
            answer_outside,
            control_socket,
            priority,
            health,
        } = self;
        let config = |error: &dyn std::error::Error| Failure::config(error.to_string());
        let component = match component_key {
            Some(key) => ComponentName::new(key).map_err(|e| config(&e))?,
            None => key_of(&component.unwrap_or_default(), at).map_err(|e| config(&e))?,
        };
        if !(TTL_MIN_SECONDS..=TTL_MAX_SECONDS).contains(&ttl) {
            return Err(Failure::config(format!(
                "a ttl of {ttl} s is outside {TTL_MIN_SECONDS} to {TTL_MAX_SECONDS} s; change --ttl"
            )));
        }
        let whole = Duration::from_secs(u64::from(ttl));
        let timing = match stop_grace {
            Some(grace) => Timing::new(ttl, grace),
            None => Timing::with_default_grace(ttl),
        };
        let timing = timing.map_err(|e| config(&e))?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let name = given(name).or_else(|| given(pod_name));
        let pod_uid = given(pod_uid);
        // The same check as at the start of the participant, but with the flags' names in the message.
        holder_id::compose(name.as_deref().unwrap_or("host"), pod_uid.as_deref().unwrap_or("1"), 0)
            .map_err(|e| Failure::config(format!("{e} (--name, --pod-uid)")))?;
        Ok(Config {
            component,
            name,
            whereabouts: Whereabouts {
                pod_uid: pod_uid.clone(),
                ..Whereabouts::from_variables(|name| std::env::var(name).ok())
            },
            pod_uid,
            program_version: given(program_version),
            timing,
            cooldown: cooldown.unwrap_or(whole),
            max_ttl: MAX_TTL_DEFAULT_SECONDS,
            listen,
            answer_outside,
            priority,
            control_socket: control_socket.filter(|path| !path.as_os_str().is_empty()),
            probe: health.check()?,
        })
    }
}

impl HealthArgs {
    fn check(self) -> Result<Option<Probe>, Failure> {
        let Self {
            health_http,
            health_tcp,
            health_interval: interval,
            health_timeout: timeout,
            health_threshold: threshold,
            health_start_grace: start_grace,
        } = self;
        let target = match (health_http, health_tcp) {
            (Some(url), _) => Target::http(&url),
            (None, Some(address)) => Target::tcp(&address),
            (None, None) => return Ok(None),
        };
        let target = target.map_err(Failure::config)?;
        Ok(Some(Probe { target, interval, timeout, threshold, start_grace }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        participant: ParticipantArgs,
    }

    fn check(flags: &[&str]) -> Result<Config, Failure> {
        check_at(&[&["--component", "c"], flags].concat(), None, false)
    }

    fn check_at(flags: &[&str], namespace: Option<&str>, in_cluster: bool) -> Result<Config, Failure> {
        let at = Surroundings { namespace: namespace.map(ToOwned::to_owned), in_cluster };
        let flags = Flags::try_parse_from(["x"].iter().chain(flags)).unwrap();
        flags.participant.check(Some("pod-1".to_owned()), &at)
    }

    #[test]
    fn a_component_belongs_to_the_pods_namespace_unless_the_key_is_given_as_it_stands() {
        for (flags, namespace, in_cluster, key) in [
            (["--component", "c"], None, false, "c"),
            (["--component", "c"], Some("shop"), true, "shop/c"),
            (["--component-key", "c"], Some("shop"), true, "c"),
            (["--component-key", "c"], None, true, "c"),
            (["--component-key", "a/c"], Some("shop"), true, "a/c"),
        ] {
            let config = check_at(&flags, namespace, in_cluster).unwrap();
            assert_eq!(config.component.as_str(), key, "{flags:?} {namespace:?}");
        }
        let refused = check_at(&["--component", "c"], None, true).unwrap_err();
        assert_eq!(refused.exit.code(), 78);
        assert!(refused.to_string().contains("fieldPath: metadata.namespace"), "{refused}");
    }

    #[test]
    fn the_defaults_follow_from_the_ttl() {
        let config = check(&["--ttl", "10"]).unwrap();
        assert_eq!(config.timing.stop_grace(), Duration::from_secs(2));
        assert_eq!(config.cooldown, Duration::from_secs(10));
        assert_eq!(config.name.as_deref(), Some("pod-1"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_flag_to_change() {
        for (flags, says) in [
            (&["--ttl", "4"][..], "--ttl"),
            (&["--ttl", "3601"], "--ttl"),
            (&["--ttl", "10", "--stop-grace", "3.1"], "shorten the stop grace"),
            (&["--name", "a b"], "--name"),
            (&["--health-http", "https://x/"], "--health-http"),
            (&["--health-tcp", "localhost"], "--health-tcp"),
        ] {
            let failure = check(flags).unwrap_err();
            assert_eq!(failure.exit.code(), 78);
            assert!(failure.to_string().contains(says), "{failure}");
        }
    }
}
