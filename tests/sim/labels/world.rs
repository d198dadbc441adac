//! Two controllers, one API server, one row, and everything that can happen between them. One
//! [`Step`] is one API call, one look, or one deed of somebody else.

use std::rc::Rc;
use std::time::Duration;

use component_lease::domain::decide::{Decision, Plan, PodChange, decide};
use component_lease::domain::observed::{
    Claim, Desired, LabelScheme, Memory, Observed, OnStoreUnreachable, RowSight, ServiceSight, StoreSight,
};
use component_lease::domain::pod::{Pod, Requirement, Selector};
use component_lease::domain::report::{Outcome, report};
use component_lease::domain::{ComponentName, LeaseRow};

use super::api::{Answer, Api, KEY, Patch, STAMP, hash, leads};

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Patches carry no resource version.
    NoGuard,
    /// The leader is labelled before the others are stripped.
    LabelFirst,
    /// A strip that failed does not keep another pod from being labelled.
    StripUnconfirmed,
    /// Nothing but labels is written.
    NoStamps,
    /// A stamp whose outcome is unknown does not keep a pod from being labelled.
    StampUnconfirmed,
    /// A row that is older than a stamp is acted upon.
    NoLookAgain,
    /// A row that was looked at again counts as confirmed for pods that were seen later, too.
    ConfirmedForLater,
    /// With the database down, a row that is older than a stamp is acted upon.
    BehindWhileDown,
    /// Before the row was seen, the status is believed.
    StatusAsRow,
    /// After a conflict one pod is read anew, and the others are as old as they were.
    RereadOnePod,
    /// What a patch answered is laid over a view in which the others are as old as they were.
    OwnAnswersOverlaid,
    /// The view may show a pod and miss an older one.
    CacheOutOfOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Answered,
    /// Sent and given up: it may arrive later, or never.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Take(usize),
    Release,
    /// A foreign holder raises the version with its renewal.
    Renew,
    Create,
    Delete(usize),
    ForeignLabel(usize),
    /// The watch of this controller's cache delivers this many entries.
    Watch(usize, usize),
    Poll(usize),
    ReadStatus(usize),
    Decide(usize, Sight),
    Confirm(usize),
    Send(usize, usize, Call),
    WriteStatus(usize),
    Crash(usize),
    Arrive(usize),
}

/// How the row looks to a controller, beside its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Held,
    Expired,
    /// The database does not answer this controller.
    Down,
    /// This controller has just begun and has not reached the database.
    Never,
}

#[derive(Debug, Clone)]
enum Job {
    Idle,
    /// Told to look at the row again, for a decision on this view.
    Confirming(Vec<Pod>, usize),
    Applying {
        phases: Vec<Vec<Patch>>,
        observed: Rc<Observed>,
        plan: Rc<Plan>,
    },
    Reporting(Box<Memory>),
}

#[derive(Debug, Clone)]
pub(super) struct Controller {
    pods_at: usize,
    row_at: usize,
    status_at: usize,
    job: Job,
    confirmed: bool,
    /// Pods that are newer than the cache, where a rule is broken.
    newer: Vec<Pod>,
    /// Only with [`Broken::CacheOutOfOrder`].
    missed: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) api: Api,
    pub(super) rows: Vec<Option<LeaseRow>>,
    statuses: Vec<Memory>,
    pub(super) controllers: Vec<Controller>,
    pub(super) limbo: Vec<Patch>,
    pub(super) foreign: bool,
    policy: OnStoreUnreachable,
    broken: Option<Broken>,
    /// Without it every decision is made as if nothing had been remembered.
    pub(super) statuses_written: bool,
    clock: i64,
}

impl World {
    pub(super) fn new(
        pods: &[&str],
        foreign: bool,
        policy: OnStoreUnreachable,
        broken: Option<Broken>,
    ) -> Self {
        let mut api = Api::new();
        for name in pods {
            api.create(name, 0);
        }
        let controller = Controller {
            pods_at: api.now(),
            row_at: 0,
            status_at: 0,
            job: Job::Idle,
            confirmed: false,
            newer: vec![],
            missed: vec![],
        };
        Self {
            api,
            rows: vec![None],
            statuses: vec![Memory::default()],
            controllers: vec![controller.clone(), controller],
            limbo: vec![],
            foreign,
            policy,
            broken,
            statuses_written: true,
            clock: 0,
        }
    }

    fn breaks(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    pub(super) fn row(&self) -> Option<&LeaseRow> {
        self.rows.last().and_then(Option::as_ref)
    }

    /// Everything that can happen next.
    pub(super) fn possible(&self) -> Vec<Step> {
        let mut steps = vec![Step::Create];
        for i in 0..self.api.pods().len() {
            steps.extend([Step::Delete(i), Step::ForeignLabel(i)]);
            // Few enough that the controllers have something to do between them.
            steps.extend((self.rows.len() <= 6).then_some(Step::Take(i)));
        }
        if self.row().is_some_and(|row| !row.is_free()) {
            steps.push(Step::Release);
            steps.extend(self.foreign.then_some(Step::Renew));
        }
        for (c, controller) in self.controllers.iter().enumerate() {
            let lag = self.api.now() - controller.pods_at;
            steps.extend((lag > 0).then_some(Step::Watch(c, 1)));
            steps.extend((lag > 1).then_some(Step::Watch(c, lag)));
            steps.extend((controller.row_at + 1 < self.rows.len()).then_some(Step::Poll(c)));
            steps.extend((controller.status_at + 1 < self.statuses.len()).then_some(Step::ReadStatus(c)));
            match &controller.job {
                Job::Idle => steps.extend(
                    [Sight::Held, Sight::Expired, Sight::Down, Sight::Never].map(|s| Step::Decide(c, s)),
                ),
                Job::Confirming(..) => steps.extend([Step::Confirm(c), Step::Crash(c)]),
                Job::Applying { phases, .. } => {
                    for i in 0..phases[0].len() {
                        steps.extend([Step::Send(c, i, Call::Answered), Step::Send(c, i, Call::Lost)]);
                    }
                    steps.push(Step::Crash(c));
                }
                Job::Reporting(_) => steps.extend([Step::WriteStatus(c), Step::Crash(c)]),
            }
        }
        steps.extend((0..self.limbo.len()).map(Step::Arrive));
        steps
    }

    pub(super) fn step(&mut self, step: Step) -> Result<(), String> {
        self.do_step(step)?;
        // What can never succeed any more, or twice the same, makes no other future.
        let (api, unguarded) = (&self.api, self.broken == Some(Broken::NoGuard));
        self.limbo.retain(|patch| {
            let pod = api.pods().iter().find(|stored| stored.pod.uid == patch.change.uid);
            pod.is_some_and(|s| unguarded || s.pod.resource_version == patch.change.resource_version)
        });
        self.limbo.sort_by_key(|patch| patch.hash);
        self.limbo.dedup_by_key(|patch| patch.hash);
        Ok(())
    }

    fn do_step(&mut self, step: Step) -> Result<(), String> {
        if matches!(step, Step::Take(_) | Step::Create) {
            self.clock += 10_000;
        }
        match step {
            Step::Take(i) => {
                let pod = &self.api.pods()[i].pod;
                let holder = if self.foreign {
                    pod.name.clone()
                } else {
                    format!("{}_{}_{:08x}", pod.name, &pod.uid[..8], self.clock)
                };
                let version = self.row().map_or(0, |row| row.version) + 1;
                let (lease_time, renew_time) = (self.clock, self.clock);
                self.rows.push(Some(LeaseRow { holder, lease_time, renew_time, version, ttl: 10 }));
            }
            Step::Release => {
                let free = |row: &LeaseRow| LeaseRow { holder: String::new(), renew_time: 0, ..row.clone() };
                self.rows.push(self.row().map(free));
            }
            Step::Renew => {
                let renewed = |row: &LeaseRow| LeaseRow { version: row.version + 1, ..row.clone() };
                self.rows.push(self.row().map(renewed));
            }
            Step::Create => {
                let free = ["a", "b", "c"].into_iter();
                let taken = |name: &str| self.api.pods().iter().any(|stored| stored.pod.name == name);
                if let Some(name) = free.into_iter().find(|name| !taken(name)) {
                    self.api.create(name, self.clock);
                }
            }
            Step::Delete(i) => self.api.delete(&self.uid(i)),
            Step::ForeignLabel(i) => self.api.write_label(&self.uid(i), KEY, "leader"),
            Step::Watch(c, entries) => {
                self.controllers[c].pods_at += entries;
                self.controllers[c].missed.clear();
                let cached = &self.api.history[self.controllers[c].pods_at].pods;
                self.controllers[c].newer.retain(|newer| {
                    cached.iter().any(|s| s.pod.uid == newer.uid && number(&s.pod) < number(newer))
                });
                if self.breaks(Broken::CacheOutOfOrder) {
                    self.miss_the_newest(c);
                }
            }
            Step::Poll(c) => self.controllers[c].row_at = self.rows.len() - 1,
            Step::ReadStatus(c) => self.controllers[c].status_at = self.statuses.len() - 1,
            Step::Decide(c, sight) => {
                let pods = self.view(c);
                let at = self.controllers[c].pods_at;
                let confirmed = std::mem::take(&mut self.controllers[c].confirmed);
                self.decide(c, pods, at, sight, confirmed);
            }
            Step::Confirm(c) => {
                let controller = &mut self.controllers[c];
                controller.row_at = self.rows.len() - 1;
                if self.broken == Some(Broken::ConfirmedForLater) {
                    (controller.confirmed, controller.job) = (true, Job::Idle);
                } else if let Job::Confirming(pods, at) = std::mem::replace(&mut controller.job, Job::Idle) {
                    self.decide(c, pods, at, Sight::Held, true);
                }
            }
            Step::Send(c, i, call) => return self.send(c, i, call),
            Step::WriteStatus(c) => {
                if let Job::Reporting(memory) = std::mem::replace(&mut self.controllers[c].job, Job::Idle) {
                    self.statuses.push(*memory);
                }
            }
            Step::Crash(c) => {
                // What was sent is not taken back.
                if let Job::Applying { mut phases, .. } =
                    std::mem::replace(&mut self.controllers[c].job, Job::Idle)
                {
                    self.limbo.append(&mut phases[0]);
                }
            }
            Step::Arrive(i) => {
                let patch = self.limbo.remove(i);
                self.api.patch(&patch, !self.breaks(Broken::NoGuard))?;
            }
        }
        Ok(())
    }

    fn uid(&self, i: usize) -> String {
        self.api.pods()[i].pod.uid.clone()
    }

    /// The pods as this controller's cache has them: one entry of the history, however old.
    fn view(&self, c: usize) -> Vec<Pod> {
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

    fn miss_the_newest(&mut self, c: usize) {
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
            row: RowSight::Seen { row, since },
            row_confirmed: confirmed || self.breaks(Broken::NoLookAgain),
            pods: Ok(pods),
            instances: Vec::new(),
            service: ServiceSight::NotAsked,
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

    fn decide(&mut self, c: usize, pods: Vec<Pod>, at: usize, sight: Sight, confirmed: bool) {
        let o = self.observed(c, pods.clone(), sight, confirmed);
        match decide(&o) {
            Decision::Conflict(_) => unreachable!("every resource here is the first"),
            Decision::LookAgain => self.controllers[c].job = Job::Confirming(pods, at),
            Decision::Act(plan) => {
                let phases = self.phases(&plan, at);
                self.controllers[c].job =
                    Job::Applying { phases, observed: Rc::new(o), plan: Rc::new(*plan) };
                self.advance(c);
            }
        }
    }

    /// What is sent at once, then what is sent when all of that was confirmed, and so on.
    fn phases(&self, plan: &Plan, view: usize) -> Vec<Vec<Patch>> {
        let patches = |changes: &[PodChange]| -> Vec<Patch> {
            changes.iter().map(|change| Patch::new(change.clone(), view)).collect()
        };
        let label: Vec<PodChange> = plan.label.iter().cloned().collect();
        let mut phases = [patches(&plan.strip), patches(&plan.stamp), patches(&label)].to_vec();
        if self.breaks(Broken::LabelFirst) {
            phases.rotate_right(1);
        }
        if self.breaks(Broken::NoStamps) {
            phases[1].clear();
            for patch in phases.iter_mut().flatten() {
                let mut change = (*patch.change).clone();
                change.annotations.remove(STAMP);
                *patch = Patch::new(change, view);
            }
        }
        phases
    }

    /// To the next phase that has anything to send, and to the report when none has.
    fn advance(&mut self, c: usize) {
        let Job::Applying { phases, observed, plan } = &mut self.controllers[c].job else { return };
        while phases.first().is_some_and(Vec::is_empty) {
            phases.remove(0);
        }
        if phases.is_empty() {
            let status = report(observed, plan, &Outcome::default());
            let memory = Memory {
                phase: Some(status.phase),
                holder: status.holder,
                holder_pod: status.holder_pod,
                version: status.version,
                floor: status.floor,
                transitions: status.transitions,
                applied: status.applied,
            };
            self.controllers[c].job = if memory == observed.memory || !self.statuses_written {
                Job::Idle
            } else {
                Job::Reporting(Box::new(memory))
            };
        }
    }

    fn send(&mut self, c: usize, i: usize, call: Call) -> Result<(), String> {
        let Job::Applying { phases, .. } = &mut self.controllers[c].job else { return Ok(()) };
        // The phases that are left tell which one this is: the label is always alone at the end.
        let left = phases.len();
        let patch = phases[0].remove(i);
        let strips = left == 3;
        let ignored = if strips { Broken::StripUnconfirmed } else { Broken::StampUnconfirmed };
        let goes_on = match call {
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
                answer != Answer::Conflict || (strips && self.breaks(Broken::StripUnconfirmed))
            }
            Call::Lost => {
                self.limbo.push(patch);
                self.breaks(ignored)
            }
        };
        if goes_on {
            self.advance(c);
        } else if let Job::Applying { mut phases, .. } =
            std::mem::replace(&mut self.controllers[c].job, Job::Idle)
        {
            // The rest of this phase was sent at the same time.
            self.limbo.append(&mut phases[0]);
        }
        Ok(())
    }

    /// Equal for worlds that have the same future, as long as nobody else writes labels.
    pub(super) fn fingerprint(&self) -> u64 {
        let oldest = self.controllers.iter().map(|c| c.pods_at).min().unwrap_or(0);
        let history: Vec<u64> = self.api.history[oldest..].iter().map(|entry| entry.hash).collect();
        // The controllers are alike.
        let mut each: Vec<u64> = self.controllers.iter().map(|c| c.fingerprint(oldest)).collect();
        each.sort_unstable();
        let limbo: Vec<u64> = self.limbo.iter().map(|patch| patch.hash).collect();
        hash(&(history, self.rows.len(), each, limbo))
    }

    /// Nothing else happens any more, and both controllers go on with fresh views: whether the
    /// leader's pod alone ends up labelled, everybody is stamped, and nobody writes any more.
    pub(super) fn settle(mut self) -> Result<(), String> {
        self.limbo.clear();
        for _ in 0..6 {
            for c in 0..self.controllers.len() {
                let controller = &mut self.controllers[c];
                controller.pods_at = self.api.now();
                controller.row_at = self.rows.len() - 1;
                controller.status_at = self.statuses.len() - 1;
                (controller.job, controller.newer, controller.missed) = (Job::Idle, vec![], vec![]);
                self.step(Step::Decide(c, Sight::Held))?;
                while !matches!(self.controllers[c].job, Job::Idle) {
                    let step = match &self.controllers[c].job {
                        Job::Confirming(..) => Step::Confirm(c),
                        Job::Reporting(_) => Step::WriteStatus(c),
                        _ => Step::Send(c, 0, Call::Answered),
                    };
                    self.step(step)?;
                }
            }
        }
        let held = self.row().filter(|row| !row.is_free());
        let leader = held.and_then(|row| {
            let pods: Vec<Pod> = self.api.pods().iter().map(|stored| stored.pod.clone()).collect();
            {
                let desired = desired(self.policy);
                component_lease::domain::holder::pod_of(
                    row,
                    &pods,
                    &desired.selector,
                    &desired.namespace,
                    None,
                )
            }
            .ok()
            .map(|pod| pod.uid.clone())
        });
        let entries = self.api.now();
        for stored in self.api.pods() {
            let pod = &stored.pod;
            if leads(pod) != (leader.as_ref() == Some(&pod.uid)) || !pod.labels.contains_key(KEY) {
                return Err(format!("settled on {:?} while the row says {:?}", pod, self.row()));
            }
        }
        for c in 0..self.controllers.len() {
            self.controllers[c].pods_at = entries;
            self.step(Step::Decide(c, Sight::Held))?;
            if !matches!(self.controllers[c].job, Job::Idle) {
                return Err(format!("controller {c} never rests: {:?}", self.controllers[c].job));
            }
        }
        Ok(())
    }
}

impl Controller {
    fn fingerprint(&self, oldest: usize) -> u64 {
        let versions = |pods: &[Pod]| -> Vec<(String, String)> {
            pods.iter().map(|pod| (pod.uid.clone(), pod.resource_version.clone())).collect()
        };
        let job = match &self.job {
            Job::Idle => 0,
            Job::Confirming(pods, _) => hash(&(1, versions(pods))),
            Job::Applying { phases, .. } => {
                let hashes = |phase: &Vec<Patch>| phase.iter().map(|patch| patch.hash).collect();
                hash(&phases.iter().map(hashes).collect::<Vec<Vec<u64>>>())
            }
            Job::Reporting(_) => 2,
        };
        let views = (self.pods_at - oldest, self.row_at, versions(&self.newer), &self.missed);
        hash(&(views, self.confirmed, job))
    }
}

fn number(pod: &Pod) -> u32 {
    pod.resource_version.parse().expect("ours are numbers")
}

fn desired(policy: OnStoreUnreachable) -> Desired {
    Desired {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "lease".into(),
        generation: 1,
        component: ComponentName::new("web").expect("a name"),
        ttl: 10,
        selector: Selector::new(vec![Requirement::In("app".into(), vec!["web".into()])]).expect("not empty"),
        labels: LabelScheme { key: KEY.into(), leader: "leader".into(), standby: "standby".into() },
        on_store_unreachable: policy,
        service: None,
    }
}
