//! A member that holds the lease: it is promoted where the rule allows it, and ended before its term is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::held::Held;
use super::says::{self, Leads, Says};
use super::{GRACE, IN_ORDER, LOOK, State, Supervisor};
use crate::database::{End, Engine, EngineError, Member};
use crate::election::{StopReason, TermKey};
use crate::participant::{HeldTerm, TermObserver};
use crate::primary::promotion::may_begin;
use crate::primary::quorum::next_change;
use crate::primary::{Blocked, Change, Names, Quorum, Record, promotion};
use crate::store::Outcome;

/// How long a committed write may take, and how often one is made.
const BEAT: Duration = Duration::from_secs(2);
/// How long a promoted server waits for others to follow it: perhaps they cannot reach it, and could reach one another.
const ALONE: Duration = Duration::from_secs(60);
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
        held: HeldTerm,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> (bool, Option<Held<E>>) {
        let (mut held, mut holding) = (self.hold(held), None);
        let (over, held) = loop {
            let over = tokio::select! {
                reason = held.lost() => of(reason),
                over = self.work(&held, &mut holding) => over,
                () = self.guard(&held) => Over::AtOnce,
                over = self.heed(&held) => over,
                () = &mut *stop => Over::Stopped,
            };
            let Some(holding) = holding.as_mut().filter(|_| matches!(over, Over::Unrenewed)) else {
                break (over, Some(held));
            };
            // The work of the term is over; what goes on from here goes on without it.
            held.over();
            match self.go_on_without(holding, stop).await {
                Ok(term) => held = self.hold(term),
                Err(over) => break (over, None),
            }
        };
        let left = held.as_ref().map_or(GRACE, |held| held.abort_at().saturating_sub(self.clock.boot()));
        let how = match over {
            Over::InOrder | Over::Stopped if held.is_some() => {
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

    fn hold(&self, term: HeldTerm) -> Held<E> {
        Held::new(term, Arc::clone(&self.engine), self.state.clone())
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
        if self.begins_below(term).await? {
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
            record: Record { primary: self.settings.member.clone(), quorum: quorum.clone(), ..record },
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
        self.report(&says).await.map_err(|error| EngineError::failed(error.to_string()))
    }

    /// Whether members are sealed above this term, which then leads to nothing. The next take begins above their seals.
    async fn begins_below(&self, term: &TermKey) -> Result<bool, EngineError> {
        let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
        let below = seen.version == term.version && seen.promised > term.version;
        if below {
            warn!(
                member = %self.settings.member, version = term.version, sealed = seen.promised,
                "the lease has begun below what members are sealed at: somebody has deleted it; it is taken anew, above that"
            );
        }
        Ok(below)
    }

    /// Waits until it may be promoted; by which record, with the members that are declared now. `None`: another has more.
    async fn judge(&self, term: &TermKey) -> Result<Option<Record<Member>>, EngineError> {
        loop {
            let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
            // A record that was read with an older lease may have changed since; a newer lease ends this term.
            if seen.version != term.version {
                sleep(LOOK / 4).await;
                continue;
            }
            let reports: BTreeMap<Member, _> = seen
                .said
                .iter()
                .filter_map(|(member, says)| Some((member.clone(), says.report()?)))
                .collect();
            let own = &self.settings.member;
            let record = seen.record.as_ref().and_then(says::Record::rule);
            if record.as_ref().is_some_and(|record| !record.members.contains(own)) {
                self.complain(
                    "declared",
                    "this member is not among those of the record, so it cannot be promoted: another should lead",
                );
                return Ok(None);
            }
            let judged = match &record {
                Some(record) => promotion::may_promote(own, term.version, record, &reports),
                None => may_begin(own, term.version, &self.settings.members, &reports),
            };
            match judged {
                Ok(()) => {
                    let system = reports.get(own).map_or(0, |own| own.system);
                    info!(member = %own, version = term.version, "this member may be promoted");
                    return Ok(Some(record.unwrap_or_else(|| Record {
                        primary: own.clone(),
                        quorum: Quorum::alone(),
                        asynchronous: false,
                        system,
                        members: self.settings.members.clone(),
                    })));
                }
                Err(Blocked::Behind { best }) => {
                    info!(member = %own, version = term.version, %best, "another member has more of the data: it should lead");
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
            sleep(LOOK / 4).await;
        }
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
            sleep(LOOK * 5).await;
        }
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
        let voters = others
            .iter()
            .filter(|member| progress.contains_key(*member) && holding.record.members.contains(*member));
        // With fewer the promise would be less: then nothing is acknowledged until one is back.
        let Some(wanted) = Quorum::any(self.settings.acks, voters.cloned().collect()) else {
            return Ok(Change::None);
        };
        let has = |member: &&Member| progress.get(*member).is_some_and(|has| *has >= holding.since);
        let caught_up = others.iter().filter(has).cloned().collect();
        Ok(next_change(&holding.record.quorum, &holding.names, &wanted, &caught_up))
    }

    /// `false`: the lease is lost, and nothing was written.
    pub(super) async fn write_record(
        &self,
        term: &TermKey,
        record: &Record<Member>,
    ) -> Result<bool, EngineError> {
        let text = says::Record::new(record, term.version).text();
        let written = self.store.record(term, &text).await;
        Ok(written.map_err(|error| EngineError::failed(error.to_string()))? == Outcome::Applied)
    }

    pub(super) fn others(&self) -> BTreeSet<Member> {
        self.settings.members.iter().filter(|member| **member != self.settings.member).cloned().collect()
    }

    /// Of the other members, those that have the log up to there.
    async fn those_with(&self, end: u64) -> Result<BTreeSet<Member>, EngineError> {
        let others = self.others();
        let progress = self.engine.progress().await?;
        Ok(progress
            .into_iter()
            .filter(|(member, has)| *has >= end && others.contains(member))
            .map(|(member, _)| member)
            .collect())
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
