//! Participants as they tell of themselves in `component_instance`: who has started when and where,
//! and who is alive. For people, for the status of a resource, for finding a holder's pod, and for how long
//! others may believe a holder that has ended. Nothing about who may lead is decided by it.

use std::time::Duration;

use serde::Serialize;

use crate::election::timing::Timing;
use crate::name::{ComponentName, HolderId};

/// Signs of life are at least this far apart. On SQLite each commit is a hint to everybody: more of
/// these than renewals would use up what the controller may look at out of turn.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(15);
/// A sign of life is given at least this often.
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);
/// So many of them may be missed.
const MISSED: u32 = 3;

/// Where a participant runs. Whatever is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Whereabouts {
    /// The pod's namespace.
    pub namespace: Option<String>,
    /// The pod's name.
    pub pod: Option<String>,
    /// The pod's UID.
    pub pod_uid: Option<String>,
    /// The container's name within the pod.
    pub container: Option<String>,
    /// The node's name.
    pub node: Option<String>,
    /// The pod's IP address.
    pub address: Option<String>,
}

impl Whereabouts {
    /// The namespace in which this participant says it runs, if that is another one.
    #[must_use]
    pub fn elsewhere(&self, namespace: &str) -> Option<&str> {
        self.namespace.as_deref().filter(|told| *told != namespace)
    }

    /// What the downward API says in a pod whose manifest passes it on: `POD_NAMESPACE`, `POD_NAME`, `POD_UID`,
    /// `NODE_NAME`, `POD_IP`, and `COMPONENT_LEASE_CONTAINER`.
    #[must_use]
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| read(name).filter(|value| !value.is_empty());
        Self {
            namespace: given("POD_NAMESPACE"),
            pod: given("POD_NAME"),
            pod_uid: given("POD_UID"),
            container: given("COMPONENT_LEASE_CONTAINER"),
            node: given("NODE_NAME"),
            address: given("POD_IP"),
        }
    }
}

/// How a participant works with the program whose leadership it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// Within it: the library.
    Embedded,
    /// It starts the program and ends it: `run`.
    Around,
    /// It only tells the program: `agent`.
    Beside,
}

impl Mode {
    /// As the table has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Around => "around",
            Self::Beside => "beside",
        }
    }

    /// Reads what [`Mode::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Embedded, Self::Around, Self::Beside].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// For how long, at most, other processes may go on believing that a participant leads because it told
/// them so. It does not end with the participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// From the answer that gave it.
    pub longest: Duration,
    /// Whether processes outside of the participant's pod get answers, too.
    pub outside: bool,
}

impl Promise {
    /// Other processes get no answers.
    pub const NONE: Self = Self { longest: Duration::ZERO, outside: false };

    /// As the table has it: a part that is missing or makes no sense leaves the whole unknown.
    #[must_use]
    pub fn stored(longest_ms: Option<i64>, outside: Option<bool>) -> Option<Self> {
        let longest = Duration::from_millis(u64::try_from(longest_ms?).ok()?);
        Some(Self { longest, outside: outside? })
    }

    /// As the table has it. Rounded up: what is waited for must not be too short.
    #[must_use]
    pub fn longest_ms(&self) -> i64 {
        i64::try_from(self.longest.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
    }
}

/// What a participant says of itself with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What it competes for.
    pub component: ComponentName,
    /// Who it is.
    pub holder: HolderId,
    /// Seconds after which a heartbeat is out of date.
    pub lasts: u32,
    /// Where it runs.
    pub whereabouts: Whereabouts,
    /// Of the program that competes, in its own words.
    pub program_version: Option<String>,
    /// `None` is not known, here and below.
    pub mode: Option<Mode>,
    /// What it may have told other processes.
    pub promise: Option<Promise>,
    /// Among those that could lead, a higher one is preferred; 0 never leads.
    pub priority: Option<u8>,
    /// Whether its program is well enough to lead.
    pub healthy: bool,
    /// The version of the term that it believes it leads.
    pub leads: Option<i64>,
}

/// Characters that the columns of our table hold.
const TEXT_MAX: usize = 253;

impl Instance {
    /// Nothing here is worth a failure: what is too long for its column is cut.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let Whereabouts { namespace, pod, pod_uid, container, node, address } = &mut self.whereabouts;
        for text in [namespace, pod, pod_uid, container, node, address, &mut self.program_version] {
            if let Some(text) = text
                && let Some((end, _)) = text.char_indices().nth(TEXT_MAX)
            {
                text.truncate(end);
            }
        }
        self
    }
}

/// How often a sign of life is given, and how long one lasts (in seconds). Far less often than renewals:
/// with each participant that follows it is a write that the database would not have otherwise.
#[must_use]
pub fn rhythm(timing: &Timing) -> (Duration, u32) {
    let interval = timing.ttl().clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let lasts = (interval * MISSED).as_secs().max(1);
    (interval, u32::try_from(lasts).unwrap_or(u32::MAX))
}

/// One row: an unbroken life of a participant. Ids rise with the beginning of these lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenInstance {
    /// Of the row.
    pub id: i64,
    /// What it competes for.
    pub component: String,
    /// Who it is.
    pub holder: String,
    /// Database time, ms since 1970 UTC: when this life began.
    pub start_time: i64,
    /// Database time, ms since 1970 UTC.
    pub heartbeat: i64,
    /// Seconds after which the heartbeat is out of date.
    pub lasts: i64,
    /// Where it runs.
    pub whereabouts: Whereabouts,
    /// Of the program that competes, in its own words.
    pub program_version: Option<String>,
    /// `None` where a program of an earlier release wrote the row: it may work in any way and promise anything.
    pub mode: Option<Mode>,
    /// What it may have told other processes.
    pub promise: Option<Promise>,
    /// Among those that could lead, a higher one is preferred; 0 never leads.
    pub priority: Option<u8>,
    /// Whether its program is well enough to lead.
    pub healthy: bool,
    /// The version of the term that it believes it leads.
    pub leads: Option<i64>,
}

impl SeenInstance {
    /// Whether its last sign of life is out of date, at this reading of the database's clock (ms since 1970 UTC).
    #[must_use]
    pub fn is_over(&self, database_now: i64) -> bool {
        self.heartbeat.saturating_add(self.lasts.saturating_mul(1000)) < database_now
    }

    /// A heartbeat of this life, if it has not been over meanwhile and is this participant's at all.
    #[must_use]
    pub fn beat(&self, says: &Instance, database_now: i64) -> Option<Self> {
        let theirs = self.holder != says.holder.as_str() || self.component != says.component.as_str();
        if theirs || self.is_over(database_now) {
            return None;
        }
        let (healthy, leads, lasts) = (says.healthy, says.leads, says.lasts.into());
        Some(Self { heartbeat: database_now, lasts, healthy, leads, ..self.clone() })
    }

    /// The beginning of a life.
    #[must_use]
    pub fn begin(id: i64, says: &Instance, database_now: i64) -> Self {
        Self {
            id,
            component: says.component.as_str().to_owned(),
            holder: says.holder.as_str().to_owned(),
            start_time: database_now,
            heartbeat: database_now,
            lasts: says.lasts.into(),
            whereabouts: says.whereabouts.clone(),
            program_version: says.program_version.clone(),
            mode: says.mode,
            promise: says.promise,
            priority: says.priority,
            healthy: says.healthy,
            leads: says.leads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says() -> Instance {
        Instance {
            component: ComponentName::new("c").unwrap(),
            holder: HolderId::new("a").unwrap(),
            lasts: 15,
            whereabouts: Whereabouts::default(),
            program_version: None,
            mode: None,
            promise: None,
            priority: None,
            healthy: true,
            leads: None,
        }
    }

    #[test]
    fn a_mode_reads_as_it_was_written_and_anything_else_is_unknown() {
        for mode in [Mode::Embedded, Mode::Around, Mode::Beside] {
            assert_eq!(Mode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(Mode::parse("Beside"), None);
        assert_eq!(Mode::parse(""), None);
    }

    #[test]
    fn a_promise_of_which_a_part_is_missing_or_negative_is_unknown() {
        let promise = Promise { longest: Duration::from_micros(1_500_001), outside: true };
        assert_eq!(promise.longest_ms(), 1_501, "never shorter than it was given");
        let stored = Promise::stored(Some(1_501), Some(true)).unwrap();
        assert_eq!(stored, Promise { longest: Duration::from_millis(1_501), outside: true });
        assert_eq!(Promise::stored(Some(0), Some(false)), Some(Promise::NONE));
        for (longest, outside) in
            [(None, Some(false)), (Some(0), None), (Some(-1), Some(false)), (None, None)]
        {
            assert_eq!(Promise::stored(longest, outside), None, "{longest:?} {outside:?}");
        }
    }

    #[test]
    fn a_heartbeat_moves_a_life_that_lasts_and_says_what_is_now() {
        let life = SeenInstance::begin(7, &says(), 1_000);
        let leading = Instance { leads: Some(3), healthy: false, lasts: 90, ..says() };
        let beaten = life.beat(&leading, 16_000).unwrap();
        assert_eq!((beaten.id, beaten.start_time, beaten.heartbeat), (7, 1_000, 16_000));
        assert_eq!((beaten.leads, beaten.healthy, beaten.lasts), (Some(3), false, 90));
    }

    #[test]
    fn a_life_whose_heartbeat_is_out_of_date_or_somebody_elses_is_not_moved() {
        let life = SeenInstance::begin(7, &says(), 1_000);
        assert_eq!(life.beat(&says(), 16_001), None);
        assert_eq!(life.beat(&Instance { holder: HolderId::new("b").unwrap(), ..says() }, 2_000), None);
    }

    #[test]
    fn signs_of_life_are_rare_and_some_may_be_missed() {
        let rhythm = |ttl| rhythm(&Timing::with_default_grace(ttl).unwrap());
        assert_eq!(rhythm(5), (SHORTEST_INTERVAL, 45));
        assert_eq!(rhythm(20), (Duration::from_secs(20), 60));
        assert_eq!(rhythm(3600), (LONGEST_INTERVAL, 90));
    }

    #[test]
    fn what_does_not_fit_its_column_is_cut_and_nothing_fails() {
        let long = Instance { program_version: Some("ü".repeat(300)), ..says() }.cut();
        assert_eq!(long.program_version.unwrap().chars().count(), TEXT_MAX);
    }

    #[test]
    fn variables_that_are_empty_say_nothing() {
        let read = |name: &str| match name {
            "POD_NAME" => Some("d-0".to_owned()),
            "NODE_NAME" => Some(String::new()),
            _ => None,
        };
        let found = Whereabouts::from_variables(read);
        assert_eq!(found, Whereabouts { pod: Some("d-0".to_owned()), ..Whereabouts::default() });
    }
}
