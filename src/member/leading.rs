//! A member that holds the lease: it is promoted where the rule allows it, and ended before its term is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::held::Held;
use super::says::{self, Leads, Says};
use super::{GRACE, IN_ORDER, LOOK, Seen, State, Supervisor};
use crate::database::{End, Engine, EngineError, Member};
use crate::election::{StopReason, TermKey};
use crate::participant::{HeldTerm, TermObserver};
use crate::primary::bearer::{name_of, one_of_each_name};
use crate::primary::promotion::may_begin;
use crate::primary::quorum::next_change;
use crate::primary::{Blocked, Change, Names, Quorum, Record, known, promotion};

/// How long a committed write may take, and how often one is made.
const BEAT: Duration = Duration::from_secs(2);
/// How long a promoted server waits for others to follow it: perhaps they cannot reach it, and could reach one another.
const ALONE: Duration = Duration::from_secs(60);
/// How often a primary looks at what stands beside its lease.
const LOOKS: Duration = Duration::from_secs(2);
/// So many writes in a row that are not acknowledged, and the lease goes to another.
const MISSED: u32 = 3;

/// What a primary has brought about so far.
pub(super) struct Holding {
    pub(super) record: Record<Member>,
    names: Names<Member>,
    /// Where the log ended when these names took effect.
    since: u64,
    /// A change of which the outcome is unknown. Until it is known, the same is done again and nothing else: whatever stands
    /// now, record and names fit each other.
    unknown: Option<Change<Member>>,
}

/// What came of a change.
enum Step {
    Taken,
    /// Nothing is to be done, or nothing can be now.
    None,
    /// Another holds the lease.
    Lost,
}

/// Why it no longer leads, for what its server is still allowed.
pub(super) enum Over {
    /// The term goes on until others take over: the server may end in order.
    InOrder,
    /// Nothing may be acknowledged any more.
    AtOnce,
    /// The program ends.
    Stopped,
    /// The store did not answer in time.
    Unrenewed,
}

impl<E: Engine + 'static> Supervisor<E> {
    /// From one term to the end of the server: a primary may go on without a term, and under its next. Whether `stop` has
    /// resolved, and the term if there is one.
    pub(super) async fn lead(
        &self,
        term: HeldTerm,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> (bool, Held<E>) {
        let (mut observer, mut holding) = (term.observer(), None);
        let mut held = Held::new(term, Arc::clone(&self.engine), self.state.clone());
        let over = loop {
            let over = tokio::select! {
                reason = observer.lost() => of(reason),
                over = self.work(&observer, &mut holding) => over,
                () = self.guard(&observer) => Over::AtOnce,
                () = &mut *stop => Over::Stopped,
            };
            let Some(holding) = holding.as_mut().filter(|_| matches!(over, Over::Unrenewed)) else {
                break over;
            };
            // The work of the term is over; what goes on from here goes on without it.
            held.leave_the_term();
            match self.go_on_without(holding, stop).await {
                Ok(term) => {
                    observer = term.observer();
                    held.goes_on_under(term);
                }
                Err(over) => break over,
            }
        };
        let term = held.term();
        let left = term.as_ref().map_or(GRACE, |term| term.abort_at().saturating_sub(self.clock.boot()));
        let how = match over {
            Over::InOrder | Over::Stopped if term.is_some() => {
                End::InOrder { within: IN_ORDER.min(left / 2) }
            }
            _ => End::AtOnce { grace: GRACE.min(left / 2) },
        };
        // A sealed standby may run on: it harms no leader.
        if self.state.borrow().is_promoted() {
            if let Err(error) = self.engine.end(how).await {
                warn!(member = %self.settings.member, "the server does not end: {error}; its guardians end it by force");
            }
            self.engine.ended().await;
            self.becomes(State::Alone);
        }
        self.engine.abort_at(None);
        (matches!(over, Over::Stopped), held)
    }

    /// Tells the guardians of the server how long it may run, as long as it runs.
    async fn guard(&self, held: &TermObserver) {
        loop {
            let is_promoted = self.state.borrow().is_promoted();
            if is_promoted {
                self.engine.abort_at(Some(held.abort_at()));
                tokio::select! {
                    () = self.engine.ended() => return,
                    () = sleep(LOOK / 2) => {}
                }
            } else {
                sleep(LOOK / 2).await;
            }
        }
    }

    pub(super) fn term(&self, held: &TermObserver) -> TermKey {
        TermKey {
            component: self.settings.component.clone(),
            holder: self.participant.holder().clone(),
            version: held.version(),
        }
    }

    async fn work(&self, held: &TermObserver, holding: &mut Option<Holding>) -> Over {
        let term = &self.term(held);
        if let Some(holding) = holding {
            return self.stay_primary(term, holding).await;
        }
        match self.become_primary(held, term).await {
            Ok(Some(primary)) => self.stay_primary(term, holding.insert(primary)).await,
            Ok(None) => Over::InOrder,
            Err(error) => {
                warn!(member = %self.settings.member, version = term.version, "this member cannot become the primary: {error}");
                Over::AtOnce
            }
        }
    }

    /// Until it is open. `None`: another should have the lease.
    async fn become_primary(
        &self,
        held: &TermObserver,
        term: &TermKey,
    ) -> Result<Option<Holding>, EngineError> {
        if !self.engine.runs() {
            self.engine.start().await?;
        }
        let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
        if seen.version == term.version && self.leads_to_nothing(&seen, term)? {
            return Ok(None);
        }
        self.seal(term.version).await?;
        let Some(record) = self.judge(term).await? else { return Ok(None) };
        // From here on it is a primary, and ended as one.
        self.becomes(State::Closed(term.version));
        self.forget_proofs();
        self.engine.abort_at(Some(held.abort_at()));
        let others = self.others();
        let began = self.engine.promote(term.version, term.holder.as_str(), &others).await?;
        self.say_that_it_leads(term.version).await?;
        let give_up = self.clock.boot() + ALONE;
        let voters = loop {
            let have = self.those_with(began.end).await?;
            if have.len() >= self.settings.acks {
                break have;
            }
            if self.clock.boot() >= give_up {
                warn!(member = %self.settings.member, version = term.version, "too few members follow the promoted server: another should try");
                return Ok(None);
            }
            self.complain(
                "voters",
                "the promoted server waits for members that follow it, and acknowledges nothing until then",
            );
            sleep(LOOK / 4).await;
        };
        let quorum = Quorum::any(self.settings.acks, voters)
            .ok_or_else(|| EngineError::refused("at least one other member must acknowledge"))?;
        let mut holding = Holding {
            record: Record { primary: self.settings.bearer(), quorum: quorum.clone(), ..record },
            names: Names::Nobody,
            since: began.end,
            unknown: None,
        };
        if !self.write_record(term, &holding.record).await? {
            return Ok(None);
        }
        holding.since = self.engine.set_names(&Names::Quorum(quorum.clone())).await?;
        holding.names = Names::Quorum(quorum);
        self.becomes(State::Primary(term.version));
        Ok(Some(holding))
    }

    pub(super) async fn say_that_it_leads(&self, version: i64) -> Result<(), EngineError> {
        let leads = Leads { version, host: self.settings.host.clone(), port: self.settings.port };
        let says = Says { leads: Some(leads), ..Says::default() };
        self.report(says).await.map_err(|error| EngineError::failed(error.to_string()))
    }

    /// Whether members know of a later version than this term's, or that its own was used before: the store was put back to an older state. The next take
    /// begins above all that they know.
    fn leads_to_nothing(&self, seen: &Seen, term: &TermKey) -> Result<bool, EngineError> {
        let of = seen.said.values().map(Says::of).chain([self.engine.of()?]);
        let in_vain = seen.granted > term.version || known::is_used(term.version, of);
        if in_vain {
            warn!(
                member = %self.settings.member, version = term.version, granted = seen.granted,
                "the lease has begun at a version that was granted before: somebody has deleted it, or has put an older state of its store in the place of the newer one; it is taken anew, above that"
            );
        }
        Ok(in_vain)
    }

    /// Waits until it may be promoted; by which record, with the members that are declared now. `None`: another has more.
    async fn judge(&self, term: &TermKey) -> Result<Option<Record<Member>>, EngineError> {
        let mut wait = LOOK / 4;
        loop {
            let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
            // A record that was read with an older lease may have changed since; a newer lease ends this term.
            if seen.version == term.version {
                if self.leads_to_nothing(&seen, term)? {
                    return Ok(None);
                }
                match self.may_be_promoted(&seen, term.version)? {
                    Ok(record) => {
                        info!(member = %self.settings.member, version = term.version, "this member may be promoted");
                        return Ok(Some(record));
                    }
                    Err(Blocked::Behind { best }) => {
                        info!(member = %self.settings.member, version = term.version, %best, "another member has more of the data: it should lead");
                        return Ok(None);
                    }
                    Err(Blocked::OtherData) => {
                        return Err(EngineError::refused(
                            "the data of this member are not those that the record is about; give it an empty data directory, from which it is copied anew",
                        ));
                    }
                    // A report of an earlier version may have arrived after it.
                    Err(Blocked::NotSealed) => self.seal(term.version).await?,
                    Err(blocked) => self.complain("blocked", &blocked_text(&blocked)),
                }
            }
            sleep(wait).await;
            // It may last until a member comes back.
            wait = (wait * 3 / 2).min(LOOK * 5);
        }
    }

    /// The record that is to be written if it is.
    fn may_be_promoted(
        &self,
        seen: &Seen,
        version: i64,
    ) -> Result<Result<Record<Member>, Blocked<Member>>, EngineError> {
        let (own, reports) = (self.settings.bearer(), Self::reports(seen));
        let newest = self.newest(seen)?;
        if let Some(other) = self.conflict(seen, newest.as_ref()) {
            let whose = other.whose.unwrap_or_else(|| "the record".to_owned());
            return Err(EngineError::refused(format!(
                "--members of this member are not those of {whose}, so it cannot be promoted: another should lead"
            )));
        }
        let record = newest.as_ref().and_then(|record| record.rule(reports.keys()));
        let Some(record) = record else {
            // Who reports bears the name that is declared.
            let said = seen.said.iter().map(|(member, says)| (member.clone(), says.bearer(member)));
            let known: BTreeMap<Member, Member> = said.collect();
            let bearer = |name: &Member| known.get(name).unwrap_or(name).clone();
            let members: BTreeSet<Member> = self.settings.members.iter().map(bearer).collect();
            let system = reports.get(&own).map_or(0, |own| own.system);
            return Ok(may_begin(&own, version, &members, &reports).map(|()| Record {
                primary: own.clone(),
                quorum: Quorum::alone(),
                asynchronous: false,
                system,
                members,
            }));
        };
        Ok(promotion::may_promote(&own, version, &record, &reports).map(|()| record))
    }

    async fn stay_primary(&self, term: &TermKey, holding: &mut Holding) -> Over {
        // Each by itself: a store that does not answer must not keep the server from proving what it is.
        tokio::select! {
            over = self.go_on_writing() => over,
            over = self.adapt(term, holding) => over,
        }
    }

    async fn go_on_writing(&self) -> Over {
        let mut missed = 0;
        loop {
            match self.prove(BEAT).await {
                Ok(()) => missed = 0,
                Err(error) => {
                    missed += 1;
                    self.complain("beat", &format!("a write is not acknowledged: {error}"));
                    if missed >= MISSED {
                        warn!(member = %self.settings.member, missed, "writes are not acknowledged: another should lead");
                        return Over::AtOnce;
                    }
                }
            }
            sleep(LOOK * 3).await;
        }
    }

    /// Lets those acknowledge that follow, as they come and go.
    async fn adapt(&self, term: &TermKey, holding: &mut Holding) -> Over {
        let mut looked = None;
        loop {
            match self.change(term, holding).await {
                Ok(Step::Taken) => continue,
                Ok(Step::None) => {}
                // Somebody else holds the lease.
                Ok(Step::Lost) => return Over::AtOnce,
                Err(error) => {
                    let why = format!("the members that acknowledge cannot be changed now: {error}");
                    self.complain("change", &why);
                }
            }
            let now = self.clock.boot();
            if looked.is_none_or(|looked| now >= looked + LOOKS) {
                looked = Some(now);
                match self.look_around(term, holding).await {
                    Ok(Step::Lost) => return Over::AtOnce,
                    Ok(Step::Taken | Step::None) => {}
                    Err(error) => self.complain("look", &format!("what stands beside the lease: {error}")),
                }
            }
            sleep(LOOK * 5).await;
        }
    }

    /// Who the others are now, and whether all that this primary has said is still there.
    async fn look_around(&self, term: &TermKey, holding: &Holding) -> Result<Step, EngineError> {
        let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
        self.is_alone_by_its_name(&seen).await?;
        if self.has_to_end().is_some() {
            return Ok(Step::Lost);
        }
        let newest = self.newest(&seen)?;
        self.conflict(&seen, newest.as_ref());
        let there = seen.record.as_ref().map(says::Record::stamp).unwrap_or_default();
        // One of another version is another's, and not put back by this one.
        let is_older = newest.is_some_and(|newest| newest.version == term.version && newest.stamp() > there);
        if !is_older || seen.version != term.version || holding.unknown.is_some() {
            return Ok(Step::None);
        }
        // The store was restored to an older state within this term.
        Ok(if self.write_record(term, &holding.record).await? { Step::Taken } else { Step::Lost })
    }

    /// One step towards the quorum of those that follow now.
    async fn change(&self, term: &TermKey, holding: &mut Holding) -> Result<Step, EngineError> {
        let next = match &holding.unknown {
            Some(same) => same.clone(),
            None => self.next_change(holding).await?,
        };
        if matches!(next, Change::None | Change::CatchUp(_)) {
            return Ok(Step::None);
        }
        holding.unknown = Some(next.clone());
        match next {
            Change::Names(quorum) => {
                let names = Names::Quorum(quorum);
                holding.since = self.engine.set_names(&names).await?;
                holding.names = names;
            }
            Change::Record(quorum) => {
                let record = Record { quorum, ..holding.record.clone() };
                if !self.write_record(term, &record).await? {
                    return Ok(Step::Lost);
                }
                holding.record = record;
            }
            Change::None | Change::CatchUp(_) => {}
        }
        holding.unknown = None;
        info!(member = %self.settings.member, quorum = ?holding.record.quorum, names = ?holding.names, "the members that acknowledge have changed");
        Ok(Step::Taken)
    }

    async fn next_change(&self, holding: &Holding) -> Result<Change<Member>, EngineError> {
        let others = self.others();
        let progress = self.engine.progress().await?;
        // What is kept of the log for a member that was away for long is lost, and begun anew.
        if others.iter().any(|member| !progress.contains_key(member))
            && let Err(error) = self.engine.expect(&others).await
        {
            self.complain("slots", &format!("the log cannot be kept for the other members: {error}"));
        }
        let declared = |member: &&Member| self.settings.members.contains(name_of(member));
        let recorded = holding.record.quorum.voters();
        // One that is recorded goes on, also if another reports under its name.
        let counts = |member: &&Member| others.contains(*member) || recorded.contains(*member);
        let voters = one_of_each_name(progress.keys().filter(declared).filter(counts), recorded);
        // With fewer the promise would be less: then nothing is acknowledged until one is back.
        let Some(wanted) = Quorum::any(self.settings.acks, voters) else {
            return Ok(Change::None);
        };
        let has = |(_, has): &(&Member, &u64)| **has >= holding.since;
        let caught_up = progress.iter().filter(has).map(|(member, _)| member.clone()).collect();
        Ok(next_change(&holding.record.quorum, &holding.names, &wanted, &caught_up))
    }

    /// Of the other members, those that have the log up to there.
    async fn those_with(&self, end: u64) -> Result<BTreeSet<Member>, EngineError> {
        let others = self.others();
        let progress = self.engine.progress().await?;
        let have = progress.iter().filter(|(member, has)| **has >= end && others.contains(*member));
        Ok(one_of_each_name(have.map(|(member, _)| member), &BTreeSet::new()))
    }
}

fn of(reason: StopReason) -> Over {
    match reason {
        StopReason::SteppedDown | StopReason::SwitchedOver | StopReason::Promoted | StopReason::Draining => {
            Over::InOrder
        }
        StopReason::Deadline => Over::Unrenewed,
        StopReason::Lost | StopReason::Unhealthy => Over::AtOnce,
    }
}

fn blocked_text(blocked: &Blocked<Member>) -> String {
    match blocked {
        Blocked::TooFew { missing, needed } => {
            let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
            format!(
                "PromotionBlocked: {needed} more of the members {} must answer, as they may have acknowledged what this one lacks",
                missing.join(", ")
            )
        }
        other => format!("PromotionBlocked: {other:?}"),
    }
}
