//! What a participant does with its state machine, and how its calls fare.

use std::time::Duration;

use component_lease::election::machine::{Past, Standing};
use component_lease::election::{Action, ComponentName, Election, Life, LifeId, Moment, Timing};
use component_lease::membership::holder_id;

use super::super::super::broken::Broken;
use super::super::super::database::{Answer, Call};
use super::rights::Rights;
use super::{TTL, UnderWay, Way, World};

/// Kept short, so that a term has to stop five sixths of a ttl after its last renewal began.
const STOP_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    Waits(Moment),
    /// About to send; the clock was read already.
    Calls(Call, Moment),
    Awaits {
        call: Call,
        t0: Moment,
        give_up: Moment,
    },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum State {
    Runs,
    /// Runs, and nothing it sends arrives.
    CutOff,
    Paused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Participant {
    pub(super) election: Election,
    pub(super) state: State,
    pub(super) doing: Doing,
    /// The version it works for, and until when at the longest.
    pub(super) works: Option<(i64, Moment)>,
    /// It knows the table alone and watches rows as we do, as somebody else's program may.
    pub(super) is_foreign: bool,
    pub(super) rights: Rights,
    /// How far the history reached that it has seen, its own terms included.
    pub(super) saw: i64,
}

impl Participant {
    pub(super) fn new(number: usize) -> Self {
        let component = ComponentName::new("c").expect("a name");
        let me = holder_id::compose("p", "1", u32::try_from(number).expect("a few")).expect("a holder id");
        let timing = Timing::new(TTL, STOP_GRACE).expect("a timing");
        Self {
            election: Election::new(component, me, timing, timing.ttl()).with_max_ttl(TTL),
            state: State::Runs,
            // Its first turn is a look.
            doing: Doing::Calls(Call::Look, Moment::ZERO),
            works: None,
            is_foreign: false,
            rights: Rights::default(),
            saw: 0,
        }
    }
}

impl World {
    /// The loop of the participant: ask what to do, and begin it.
    pub(super) fn turn(&mut self, p: usize) -> Result<(), String> {
        let now = self.moment();
        loop {
            let participant = &mut self.participants[p];
            let action = participant.election.next(now);
            self.publish(p)?;
            let participant = &mut self.participants[p];
            let call = match action {
                Action::Look => Call::Look,
                Action::Take(mut take) => {
                    if self.broken == Some(Broken::TtlAboveTheLongest) {
                        take.ttl *= 2;
                    }
                    Call::Take(take)
                }
                Action::Renew(term) => Call::Renew(term),
                Action::Release(release) => {
                    if !participant.rights.allow(&release) {
                        return Err(format!("no right to this release: {release:?}"));
                    }
                    Call::Release(release)
                }
                Action::BeginEpoch(new) => Call::BeginEpoch(new),
                Action::Settle(waited_out) => Call::Settle(waited_out),
                Action::AwaitWork => {
                    if self.broken != Some(Broken::ReleaseBeforeStop) {
                        participant.works = None;
                    }
                    match participant.election.work_stopped(now) {
                        Some(release) => Call::Release(release),
                        None => continue,
                    }
                }
                Action::Wait(until) => {
                    participant.doing = Doing::Waits(until);
                    return Ok(());
                }
                Action::Ended => {
                    participant.doing = Doing::Ended;
                    return Ok(());
                }
            };
            participant.doing = Doing::Calls(call, now);
            return Ok(());
        }
    }

    /// What the outside sees of a participant.
    fn publish(&mut self, p: usize) -> Result<(), String> {
        let Standing::Leading(term) = self.participants[p].election.standing() else { return Ok(()) };
        let (version, abort) = (term.key.version, term.abort());
        let overtaken = self.was_overtaken(version, self.granted);
        let participant = &mut self.participants[p];
        let began = participant.works.is_none_or(|(before, _)| before != version);
        participant.works = Some((version, abort));
        if began {
            // Where lives cannot be told apart, only exclusion is promised.
            if version <= self.granted && self.rises() && !overtaken {
                return Err(format!("version {version} granted after {}", self.granted));
            }
            self.granted = version.max(self.granted);
        }
        Ok(())
    }

    /// The call, if there is one to send, and when it is given up.
    pub(super) fn sent(&mut self, p: usize) -> Option<Call> {
        let participant = &mut self.participants[p];
        let Doing::Calls(call, t0) = &participant.doing else { return None };
        let (call, t0) = (call.clone(), *t0);
        let timing = participant.election.timing();
        let mut limit = match call {
            Call::Take(_) => timing.attempt_counts_for(),
            _ => timing.attempt_timeout(),
        };
        if let Standing::Leading(term) = participant.election.standing() {
            limit = limit.min(term.deadline().saturating_sub(t0));
        }
        participant.doing = Doing::Awaits { call: call.clone(), t0, give_up: t0 + limit };
        Some(call)
    }

    pub(super) fn send(&mut self, p: usize, way: Way) -> Result<(), String> {
        let Some(call) = self.sent(p) else { return Err("nothing to send".to_owned()) };
        match way {
            Way::Promptly => {
                let answer = self.execute(&call)?;
                self.answered(p, Some(answer))?;
            }
            Way::RequestLate => self.under_way.push(UnderWay::Request { from: p, call, awaited: true }),
            Way::AnswerLate => {
                let answer = self.execute(&call)?;
                self.under_way.push(UnderWay::Answer { to: p, answer });
            }
            // It does not know, and waits for an answer.
            Way::InVain => {}
            Way::ServerThatWasLeft => {
                let now = self.database_now();
                let (mut database, row) = self.left.clone().expect("one was left");
                let (answer, _) = database.answer(row.as_ref(), &call, now, None, self.broken);
                self.answered(p, Some(answer))?;
            }
        }
        Ok(())
    }

    /// At the server that is reached now.
    fn execute(&mut self, call: &Call) -> Result<Answer, String> {
        let now = self.database_now();
        let (answer, after) = self.database.answer(self.row.as_ref(), call, now, None, self.broken);
        if let Some(row) = after {
            match call {
                Call::Take(_) if self.broken == Some(Broken::HistoryAfterTheTake) => {
                    self.under_way.push(UnderWay::History(row.version));
                }
                Call::Take(take) if take.life_id == LifeId::default() => {}
                Call::Take(_) => self.database.remember(row.version),
                _ => {}
            }
            if let Call::Take(take) = call {
                self.takes_as_asked(take)?;
            }
            self.row = Some(row);
        }
        Ok(answer)
    }

    pub(super) fn arrive(&mut self, i: usize) -> Result<(), String> {
        match self.under_way.remove(i) {
            UnderWay::History(version) => self.database.remember(version),
            UnderWay::Answer { to, answer } => self.answered(to, Some(answer))?,
            UnderWay::Request { from, call, awaited } => {
                let answer = self.execute(&call)?;
                match self.participants[from].state {
                    _ if !awaited => {}
                    State::Paused => self.under_way.push(UnderWay::Answer { to: from, answer }),
                    State::Runs | State::CutOff => self.answered(from, Some(answer))?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn give_up(&mut self, p: usize) -> Result<(), String> {
        self.under_way.retain_mut(|under_way| match under_way {
            UnderWay::Request { from, call, awaited } if *from == p => {
                *awaited = false;
                // What changes nothing and is heard by nobody need not be followed.
                *call != Call::Look
            }
            UnderWay::Answer { to, .. } => *to != p,
            UnderWay::Request { .. } | UnderWay::History(_) => true,
        });
        self.answered(p, None)
    }

    fn answered(&mut self, p: usize, answer: Option<Answer>) -> Result<(), String> {
        let at = self.moment();
        let participant = &mut self.participants[p];
        let Doing::Awaits { call, t0, .. } = participant.doing.clone() else { return Ok(()) };
        let counted_from = if self.broken == Some(Broken::DeadlineFromAnswer) { at } else { t0 };
        let applied = match &answer {
            Some(Answer::Applied(applied)) => Some(*applied),
            _ => None,
        };
        if let (Call::Take(take), Some(true)) = (&call, applied) {
            participant.saw = take.term.version.max(participant.saw);
        }
        let rights = &mut participant.rights;
        match (&call, &answer) {
            (Call::Look, Some(Answer::Looked(looked))) => rights.looked(looked),
            (Call::Take(take), _) => rights.took(take, applied),
            (Call::Renew(_), Some(Answer::Applied(false))) => rights.lost(),
            (Call::Release(release), Some(_)) => rights.released(&release.term),
            _ => {}
        }
        match self.broken.filter(|broken| broken.keeps_the_right()) {
            None => rights.forget_the_ended(),
            Some(broken) => {
                if let (Call::Look, Some(Answer::Looked(looked))) = (&call, &answer)
                    && let Some(release) = rights.wrongly_kept(looked, broken)
                {
                    participant.doing = Doing::Calls(Call::Release(release), at);
                    return Ok(());
                }
            }
        }
        let election = &mut participant.election;
        match call {
            Call::Look => match answer {
                Some(Answer::Looked(mut looked)) => {
                    if let Past::Lived(highest) = looked.past {
                        participant.saw = highest.max(participant.saw);
                        if self.broken == Some(Broken::HistoryMayEndBefore) {
                            looked.past = Past::Lived(participant.saw);
                        }
                    }
                    if participant.is_foreign {
                        (looked.past, looked.life) = (Past::Unknown, Life::Unknown);
                    }
                    if self.broken == Some(Broken::SightFromRequest) {
                        election.looked(t0, (*looked).clone(), 0.0);
                    }
                    let request = looked.request.clone();
                    let led = matches!(election.standing(), Standing::Leading(_));
                    election.looked(at, *looked, 0.0);
                    if let Standing::Stopping(term, _) = election.standing()
                        && let Some(request) = request.filter(|_| led)
                    {
                        let version = term.key.version;
                        self.obeyed(&request, version)?;
                    }
                }
                _ => election.look_failed(t0, at, 0.0),
            },
            Call::Take(take) => election.took(counted_from, at, &take, applied),
            Call::Renew(_) => election.renewed(counted_from, at, applied, 0.0),
            Call::Release(_) => election.released(at, applied, 0.0),
            Call::BeginEpoch(_) | Call::Settle(_) => election.recorded(at, applied == Some(true), 0.0),
        }
        self.turn(p)
    }
}
