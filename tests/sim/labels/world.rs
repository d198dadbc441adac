//! Two controllers, one API server, one row, and everything that can happen between them. One
//! [`Step`] is one API call, one look, or one deed of somebody else.

use component_lease::election::LeaseRow;
use component_lease::routing::observed::{Memory, OnDatabaseUnreachable};
use component_lease::routing::pod::{DELETION_COST, Pod};

use super::api::{Api, KEY, Patch, hash, leads};
use super::controller::{Controller, Job, desired, number};
use super::step::{Broken, Call, Sight, Step};

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) api: Api,
    pub(super) rows: Vec<Option<LeaseRow>>,
    pub(super) statuses: Vec<Memory>,
    pub(super) controllers: Vec<Controller>,
    pub(super) limbo: Vec<Patch>,
    pub(super) foreign: bool,
    pub(super) policy: OnDatabaseUnreachable,
    pub(super) broken: Option<Broken>,
    /// Without it every decision is made as if nothing had been remembered.
    pub(super) statuses_written: bool,
    pub(super) clock: i64,
}

impl World {
    pub(super) fn new(
        pods: &[&str],
        foreign: bool,
        policy: OnDatabaseUnreachable,
        broken: Option<Broken>,
    ) -> Self {
        let mut api = Api::new();
        for name in pods {
            api.create(name, 0);
        }
        let controller = Controller::new(api.now());
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

    pub(super) fn breaks(&self, broken: Broken) -> bool {
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
                Job::Applying { carry_out, .. } => {
                    for (i, _) in carry_out.open() {
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
                let sent = self.open(c).into_iter().map(|(_, patch)| patch);
                self.limbo.extend(sent);
                self.controllers[c].job = Job::Idle;
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
                        _ => Step::Send(c, self.open(c).first().map_or(0, |(i, _)| *i), Call::Answered),
                    };
                    self.step(step)?;
                }
            }
        }
        let held = self.row().filter(|row| !row.is_free());
        let leader = held.and_then(|row| {
            let pods: Vec<Pod> = self.api.pods().iter().map(|stored| stored.pod.clone()).collect();
            let desired = desired(self.policy);
            let (selector, namespace) = (&desired.selector, &desired.namespace);
            component_lease::routing::decide::holder::pod_of(row, &pods, selector, namespace, None, None)
                .ok()
                .map(|pod| pod.uid.clone())
        });
        let entries = self.api.now();
        for stored in self.api.pods() {
            let pod = &stored.pod;
            let costs = pod.annotations.contains_key(DELETION_COST);
            let is_leader = leader.as_ref() == Some(&pod.uid);
            if leads(pod) != is_leader || costs != is_leader || !pod.labels.contains_key(KEY) {
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
