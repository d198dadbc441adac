//! Participants as they tell of themselves in `component_instance`: who has started when and where,
//! and who is alive. For people, for the status of a resource, and for finding a holder's pod;
//! nothing about leadership is decided by it.

use std::time::Duration;

use serde::Serialize;

use super::name::{ComponentName, HolderId};
use super::timing::Timing;

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
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub pod_uid: Option<String>,
    pub container: Option<String>,
    pub node: Option<String>,
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

/// What a participant says of itself with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub component: ComponentName,
    pub holder: HolderId,
    /// Seconds after which a heartbeat is out of date.
    pub lasts: u32,
    pub whereabouts: Whereabouts,
    /// Of the program that competes, in its own words.
    pub program_version: Option<String>,
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
    pub id: i64,
    pub component: String,
    pub holder: String,
    /// Database time, ms since 1970 UTC: when this life began.
    pub start_time: i64,
    /// Database time, ms since 1970 UTC.
    pub heartbeat: i64,
    /// Seconds after which the heartbeat is out of date.
    pub lasts: i64,
    pub whereabouts: Whereabouts,
    pub program_version: Option<String>,
    pub healthy: bool,
    pub leads: Option<i64>,
}

impl SeenInstance {
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
            healthy: true,
            leads: None,
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
