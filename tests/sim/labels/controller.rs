//! One of the two controllers: what it sees, decides, sends and makes of the answers.

use std::rc::Rc;
use std::time::Duration;

use component_lease::election::ComponentName;
use component_lease::election::LeaseRow;
use component_lease::routing::carry_out::{CarryOut, Patched};
use component_lease::routing::decide::{Decision, Plan, PodChange, decide};
use component_lease::routing::floor::FloorSight;
use component_lease::routing::observed::{
    Claim, Desired, LabelScheme, Memory, Observed, OnDatabaseUnreachable, RowSight, ServiceSight, StoreSight,
    Strategy,
};
use component_lease::routing::pause::{PauseSight, PauseWish};
use component_lease::routing::pod::{Pod, Requirement, Selector};
use component_lease::routing::report::report;

use super::api::{Answer, KEY, Patch, STAMP, hash};
use super::step::{Broken, Call, Sight};
use super::world::World;

#[derive(Debug, Clone)]
pub(super) enum Job {
    Idle,
    /// Told to look at the row again, for a decision on this view.
    Confirming(Vec<Pod>, usize),
    Applying {
        carry_out: Box<CarryOut>,
        /// The entry of the history that the plan was made on.
        view: usize,
        observed: Rc<Observed>,
        plan: Rc<Plan>,
    },
    Reporting(Box<Memory>),
}

#[derive(Debug, Clone)]
pub(super) struct Controller {
    pub(super) pods_at: usize,
    pub(super) row_at: usize,
    pub(super) status_at: usize,
    pub(super) job: Job,
    pub(super) confirmed: bool,
    /// Pods that are newer than the cache, where a rule is broken.
    pub(super) newer: Vec<Pod>,
    /// Only with [`Broken::CacheOutOfOrder`].
    pub(super) missed: Vec<String>,
}

impl Controller {
    pub(super) fn new(pods_at: usize) -> Self {
        Self {
            pods_at,
            row_at: 0,
            status_at: 0,
            job: Job::Idle,
            confirmed: false,
            newer: vec![],
            missed: vec![],
        }
    }

    pub(super) fn fingerprint(&self, oldest: usize) -> u64 {
        let versions = |pods: &[Pod]| -> Vec<(String, String)> {
            pods.iter().map(|pod| (pod.uid.clone(), pod.resource_version.clone())).collect()
        };
        let job = match &self.job {
            Job::Idle => 0,
            Job::Confirming(pods, _) => hash(&(1, versions(pods))),
            Job::Applying { carry_out, .. } => hash(carry_out),
            Job::Reporting(_) => 2,
        };
        let views = (self.pods_at - oldest, self.row_at, versions(&self.newer), &self.missed);
        hash(&(views, self.confirmed, job))
    }
}

impl World {
    /// The pods as this controller's cache has them: one entry of the history, however old.
    pub(super) fn view(&self, c: usize) -> Vec<Pod> {
        let controller = &self.controllers[c];
        let mut pods: Vec<Pod> =
            self.api.history[controller.pods_at].pods.iter().map(|stored| stored.pod.clone()).collect();
        pods.retain(|pod| !controller.missed.contains(&pod.uid));
        for newer in &controller.newer {
            let older = pods.iter_mut().find(|pod| pod.uid == newer.uid && number(pod) < number(newer));
            if let Some(pod) = older {
                *pod = newer.clone();
            }
        }
        pods
    }

    pub(super) fn miss_the_newest(&mut self, c: usize) {
        let holder = self.row().map(|row| row.holder.clone()).unwrap_or_default();
        let entry = &self.api.history[self.controllers[c].pods_at];
        let others = entry.pods.iter().filter(|stored| !holder.starts_with(&stored.pod.name));
        let unmarked = others.filter(|stored| stored.pod.resource_version == "0");
        self.controllers[c].missed = unmarked.map(|stored| stored.pod.uid.clone()).take(1).collect();
    }

    fn observed(&self, c: usize, pods: Vec<Pod>, sight: Sight, confirmed: bool) -> Observed {
        let controller = &self.controllers[c];
        let memory = self.statuses[controller.status_at].clone();
        let row = self.rows[controller.row_at].clone();
        let now = Duration::from_secs(100);
        let since = Duration::from_secs(if sight == Sight::Expired { 10 } else { 95 });
        let mut o = Observed {
            desired: desired(self.policy),
            memory,
            claim: Claim::First,
            store: StoreSight::Answers,
            database: None,
            row: RowSight::Seen { row, since },
            row_confirmed: confirmed || self.breaks(Broken::NoLookAgain),
            pods: Ok(pods),
            longest_ttl: None,
            pause: PauseSight::Running,
            quarantine: None,
            epoch_step: None,
            floor: FloorSight::default(),
            instances: Vec::new(),
            holder_told: None,
            disputed: Vec::new(),
            service: ServiceSight::NotAsked,
            endpoints: Ok(Vec::new()),
            former_services: Vec::new(),
            standby_values: std::collections::BTreeMap::new(),
            leaving: false,
            now,
        };
        if matches!(sight, Sight::Down | Sight::Never) {
            o.store = StoreSight::Unreachable("down".into());
        }
        if sight == Sight::Down && self.breaks(Broken::BehindWhileDown) {
            o.row_confirmed = true;
        }
        if sight == Sight::Never {
            o.row = RowSight::Never { since };
            if self.breaks(Broken::StatusAsRow)
                && let Some(holder) = o.memory.holder.clone()
            {
                let version = o.memory.version;
                let row = LeaseRow { holder, lease_time: self.clock, renew_time: 0, version, ttl: 10 };
                (o.row, o.row_confirmed) = (RowSight::Seen { row: Some(row), since }, true);
            }
        }
        o
    }

    pub(super) fn decide(&mut self, c: usize, pods: Vec<Pod>, at: usize, sight: Sight, confirmed: bool) {
        let o = self.observed(c, pods.clone(), sight, confirmed);
        match decide(&o) {
            Decision::Conflict(_) => unreachable!("every resource here is the first"),
            Decision::LookAgain => self.controllers[c].job = Job::Confirming(pods, at),
            Decision::Act(plan) => {
                let carry_out = Box::new(CarryOut::new(&self.bent(&plan)));
                let (observed, plan) = (Rc::new(o), Rc::new(*plan));
                self.controllers[c].job = Job::Applying { carry_out, view: at, observed, plan };
                self.advance(c);
            }
        }
    }

    /// The plan as it is carried out, where a rule of it is broken.
    fn bent(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        if self.breaks(Broken::LabelFirst)
            && let Some(label) = plan.label.take()
        {
            let strips = std::mem::replace(&mut plan.strip, vec![label]);
            plan.stamp.splice(0..0, strips);
        }
        if self.breaks(Broken::NoStamps) {
            plan.stamp.clear();
            for change in plan.strip.iter_mut().chain(&mut plan.label) {
                change.annotations.remove(STAMP);
            }
        }
        plan
    }

    /// To the report when nothing is left to be sent.
    fn advance(&mut self, c: usize) {
        let Job::Applying { carry_out, observed, plan, .. } = &self.controllers[c].job else { return };
        if carry_out.open().next().is_some() {
            return;
        }
        let outcome = CarryOut::clone(carry_out).outcome();
        let status = report(observed, plan, &outcome);
        let memory = status.remembered();
        let nothing = outcome.conflict || memory == observed.memory || !self.statuses_written;
        self.controllers[c].job = if nothing { Job::Idle } else { Job::Reporting(Box::new(memory)) };
    }

    /// What this controller has sent, or sends now, and has no answer to.
    pub(super) fn open(&self, c: usize) -> Vec<(usize, Patch)> {
        match &self.controllers[c].job {
            Job::Applying { carry_out, view, .. } => {
                carry_out.open().map(|(number, change)| (number, Patch::new(change.clone(), *view))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The patch of this number is sent.
    pub(super) fn send(&mut self, c: usize, number: usize, call: Call) -> Result<(), String> {
        let Some((_, patch)) = self.open(c).into_iter().find(|(open, _)| *open == number) else {
            return Ok(());
        };
        let how = match call {
            Call::Answered => {
                let answer = self.api.patch(&patch, !self.breaks(Broken::NoGuard))?;
                let overlaid = match answer {
                    Answer::Done => self.breaks(Broken::OwnAnswersOverlaid),
                    Answer::Conflict => self.breaks(Broken::RereadOnePod),
                    Answer::Gone => false,
                };
                if overlaid {
                    let current = self.api.pods().iter().find(|s| s.pod.uid == patch.change.uid);
                    let current = current.map(|stored| stored.pod.clone());
                    let newer = &mut self.controllers[c].newer;
                    newer.retain(|pod| pod.uid != patch.change.uid);
                    newer.extend(current);
                }
                match answer {
                    Answer::Done => Patched::Done,
                    Answer::Gone => Patched::Gone,
                    Answer::Conflict => Patched::Conflict,
                }
            }
            Call::Lost => {
                self.limbo.push(patch.clone());
                Patched::Unknown("lost".to_owned())
            }
        };
        let Job::Applying { carry_out, plan, .. } = &mut self.controllers[c].job else { return Ok(()) };
        let one_of = |changes: &[PodChange]| changes.iter().any(|change| *change == *patch.change);
        let ignored = match (&how, self.broken) {
            (Patched::Conflict | Patched::Unknown(_), Some(Broken::StripUnconfirmed)) => one_of(&plan.strip),
            (Patched::Unknown(_), Some(Broken::StampUnconfirmed)) => one_of(&plan.stamp),
            _ => false,
        };
        carry_out.answered(number, if ignored { Patched::Done } else { how });
        self.advance(c);
        Ok(())
    }
}

pub(super) fn number(pod: &Pod) -> u32 {
    pod.resource_version.parse().expect("ours are numbers")
}

pub(super) fn desired(policy: OnDatabaseUnreachable) -> Desired {
    Desired {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "lease".into(),
        generation: 1,
        component: ComponentName::new("web").expect("a name"),
        ttl: 10,
        selector: Selector::new(vec![Requirement::In("app".into(), vec!["web".into()])]).expect("not empty"),
        labels: LabelScheme { key: KEY.into(), leader: "leader".into(), standby: "standby".into() },
        holder_pattern: None,
        on_database_unreachable: policy,
        strategy: Strategy::Any,
        service: None,
        pause: PauseWish::Unsaid,
        hand_over_after: None,
        hand_over_when_cordoned: true,
        flapping_above: None,
        deletion_cost: Some(100),
        service_field: "spec.routing.service",
    }
}
