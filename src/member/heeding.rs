//! What a member does of what operators ask. The primary makes way only for a member that could be promoted now, and says how far its log is, so
//! that people see that before they ask.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::leading::Over;
use super::says::{Leads, SaidLog, Says};
use super::wishes::{Answer, AnswerState, Heeding, What, Wish};
use super::{GRACE, IN_ORDER, LOOK, Seen, Standing, State, Supervisor};
use crate::database::{Cloning, End, Engine, EngineError, Leader, Member};
use crate::election::machine::Looked;
use crate::election::{Moment, Request, Verb};
use crate::participant::TermObserver;
use crate::primary::verbs::{Log, MOST_LAG, Now, Refusal};
use crate::store::StoreError;

/// How long the store may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How often the primary looks at what members are asked and how far they are, where nothing calls for it sooner.
const WISHES: Duration = Duration::from_secs(1);
/// How often the primary says how far its log is, where nothing else has changed.
const LOG: Duration = Duration::from_secs(5);
/// How long the server may take to say how far its log is.
const FAR: Duration = Duration::from_secs(2);

/// What a primary has said and looked at.
#[derive(Debug, Default)]
struct Turn {
    looked: Option<Moment>,
    said: Option<(Moment, Log<Member>)>,
}

impl<E: Engine + 'static> Supervisor<E> {
    fn heeding<T>(&self, of: impl FnOnce(&mut Heeding) -> T) -> T {
        of(&mut self.heeding.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What all reports of this member carry.
    pub(super) fn signed(&self, says: &Says) -> Says {
        let holder = Some(self.participant.holder().as_str().to_owned());
        let (wish_answer, request_answer) =
            self.heeding(|heeding| (heeding.wish_answer.clone(), heeding.request_answer.clone()));
        Says { holder, wish_answer, request_answer, ..says.clone() }
    }

    /// A process that was restarted goes on from what the one before has said.
    pub(super) fn remember(&self, own: Option<&Says>) {
        let Some(own) = own else { return };
        self.heeding(|heeding| heeding.remember(own.wish_answer.as_ref(), own.request_answer.as_ref()));
    }

    fn answers(&self, answer: Answer) {
        info!(member = %self.settings.member, ?answer, "answers an operator");
        self.heeding(|heeding| heeding.wish_answer = Some(answer));
    }

    fn is_open(&self, wish: &Wish) -> bool {
        self.heeding(|heeding| wish.is_open(heeding.wish_answer.as_ref()))
    }

    /// While it holds the lease. Returns when its server is to stop.
    pub(super) async fn heed(&self, held: &TermObserver) -> Over {
        let mut turn = Turn::default();
        loop {
            match self.heed_once(held.version(), &mut turn).await {
                Ok(Some(over)) => return over,
                Ok(None) => {}
                Err(error) => {
                    self.complain("heed", &format!("what operators ask cannot be looked at: {error}"));
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn heed_once(&self, version: i64, turn: &mut Turn) -> Result<Option<Over>, EngineError> {
        let Looked { request, paused, .. } = self.within(self.store.look(&self.settings.component)).await?;
        let holder = self.participant.holder();
        let is_new = |request: &Request| {
            let judged = self.heeding(|heeding| heeding.has_refused(&request.id));
            request.version == version && request.target.as_ref() != Some(holder) && !judged
        };
        let request = request.filter(is_new);
        let now = self.clock.boot();
        if request.is_none() && turn.looked.is_some_and(|looked| now < looked + WISHES) {
            return Ok(None);
        }
        turn.looked = Some(now);
        // A server that hangs keeps nobody from fencing it.
        let log = match timeout(FAR, self.say_how_far(version, turn)).await {
            Ok(Ok(log)) => log,
            Ok(Err(error)) => {
                self.complain("far", &format!("it is not known how far the other members are: {error}"));
                None
            }
            Err(_) => None,
        };
        let standing = self.standing().await?;
        if let Some(wish) = standing.wishes.get(&self.settings.member)
            && let Some(over) = self.heed_wish(wish).await?
        {
            return Ok(Some(over));
        }
        if let Some(request) = request {
            let mut cluster = standing.now(paused);
            cluster.log = log.or(cluster.log);
            self.judge_request(request, version, &standing, &cluster).await?;
        }
        Ok(None)
    }

    /// Returns when an operator asks this member to stop its server. While the store is away nobody can.
    pub(super) async fn fenced(&self) {
        loop {
            if let Ok(standing) = self.standing().await
                && let Some(wish) = standing.wishes.get(&self.settings.member)
                && wish.what == What::Fence
            {
                warn!(member = %self.settings.member, by = wish.by, reason = wish.reason, "an operator fences this member: its server stops");
                return;
            }
            sleep(WISHES).await;
        }
    }

    async fn standing(&self) -> Result<Standing, EngineError> {
        let Self { settings, store, .. } = self;
        self.within(Standing::read(&**store, &settings.component, &settings.members)).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, EngineError> {
        match timeout(LIMIT, call).await {
            Ok(answer) => answer.map_err(|error| EngineError::failed(error.to_string())),
            Err(_) => {
                Err(EngineError::failed(format!("the lease's store has not answered within {LIMIT:?}")))
            }
        }
    }

    /// Who can follow, and how far: said when it has changed for those who ask for a switchover, and now and then.
    async fn say_how_far(&self, version: i64, turn: &mut Turn) -> Result<Option<Log<Member>>, EngineError> {
        if *self.state.borrow() != State::Primary(version) {
            return Ok(None);
        }
        let (others, progress) = (self.others(), self.engine.progress().await?);
        let end = self.engine.observe().await?.position.end;
        let has = progress.into_iter().filter(|(member, _)| others.contains(member)).collect();
        let log = Log { end, has };
        let now = self.clock.boot();
        let said = turn.said.as_ref();
        if said.is_none_or(|(at, said)| judged(said) != judged(&log) || now >= *at + LOG && *said != log) {
            let leads = Leads { version, host: self.settings.host.clone(), port: self.settings.port };
            let says = Says { leads: Some(leads), log: Some(SaidLog::new(version, &log)), ..Says::default() };
            self.within(self.report(&says)).await?;
            turn.said = Some((now, log.clone()));
        }
        Ok(Some(log))
    }

    /// What the answer to a primary's wish is, or how its term ends.
    async fn heed_wish(&self, wish: &Wish) -> Result<Option<Over>, EngineError> {
        let answer = match &wish.what {
            What::Fence => {
                warn!(member = %self.settings.member, by = wish.by, reason = wish.reason, "an operator fences this member: its server stops");
                return Ok(Some(Over::InOrder));
            }
            _ if !self.is_open(wish) => return Ok(None),
            What::Reinit => Answer::refused(
                &wish.id,
                "IsPrimary",
                "it holds the lease; db switchover first, and it is a standby",
            ),
        };
        self.answers(answer);
        self.say_again().await?;
        Ok(None)
    }

    /// What it said, with its answer.
    async fn say_again(&self) -> Result<(), EngineError> {
        let own = self.within(self.read()).await?.said.remove(&self.settings.member).unwrap_or_default();
        self.within(self.report(&own)).await
    }

    /// Makes way if the one that would take over could be promoted now. A member that is not open has nothing to lose by making way.
    async fn judge_request(
        &self,
        request: Request,
        version: i64,
        standing: &Standing,
        cluster: &Now<Member>,
    ) -> Result<(), EngineError> {
        let is_open = *self.state.borrow() == State::Primary(version);
        let target = match &request.target {
            Some(holder) => {
                let known =
                    standing.said.iter().find(|(_, said)| said.holder.as_deref() == Some(holder.as_str()));
                Some(known.map_or_else(|| holder.as_str().to_owned(), |(member, _)| member.clone()))
            }
            None => None,
        };
        let judged = match request.verb {
            Verb::PromoteNow => Ok(()),
            _ if !is_open => Ok(()),
            _ => cluster.switchover(target.as_ref()).map(drop),
        };
        match judged {
            Ok(()) => {
                info!(member = %self.settings.member, ?request, "makes way, as an operator asks");
                self.participant.make_way(&request.id);
                Ok(())
            }
            Err(refusal) => {
                warn!(member = %self.settings.member, ?request, "does not make way: {refusal}");
                // It may have been granted a moment ago.
                self.participant.stay(&request.id);
                let answer = Answer::refused(&request.id, refusal.reason(), refusal.to_string());
                self.heeding(|heeding| heeding.request_answer = Some(answer));
                self.say_again().await
            }
        }
    }

    /// Of a member that does not hold the lease: whether what was asked keeps it from all else.
    pub(super) async fn heed_as_standby(&self, seen: &Seen) -> Result<bool, EngineError> {
        let own = seen.said.get(&self.settings.member);
        let wish = seen.wishes.get(&self.settings.member);
        match wish.map(|wish| (&wish.what, wish)) {
            Some((What::Fence, wish)) => self.stay_fenced(wish, own).await.map(|()| true),
            Some((What::Reinit, wish)) if self.is_open(wish) => {
                self.is_not_fenced();
                self.reinit(wish, seen, own).await
            }
            _ => {
                self.is_not_fenced();
                // Another process of this member has said it, which others would leave the lease to.
                if own.is_some_and(|own| own.holder.as_deref() != Some(self.participant.holder().as_str())) {
                    self.within(self.report(&own.cloned().unwrap_or_default())).await?;
                }
                Ok(false)
            }
        }
    }

    fn is_not_fenced(&self) {
        if *self.state.borrow() == State::Fenced {
            self.becomes(State::Alone);
        }
    }

    async fn stay_fenced(&self, wish: &Wish, own: Option<&Says>) -> Result<(), EngineError> {
        self.participant.set_healthy(false);
        if self.engine.runs() {
            self.engine.end(End::InOrder { within: IN_ORDER }).await?;
        }
        self.becomes(State::Fenced);
        if self.is_open(wish) {
            self.answers(Answer::new(&wish.id, AnswerState::Done, "the server has stopped"));
            self.within(self.report(&own.cloned().unwrap_or_default())).await?;
        }
        Ok(())
    }

    /// Whether the copy has begun; else it follows as ever.
    async fn reinit(&self, wish: &Wish, seen: &Seen, own: Option<&Says>) -> Result<bool, EngineError> {
        let says = own.cloned().unwrap_or_default();
        let began = self.heeding(|heeding| heeding.has_begun(&wish.id));
        match self.standing().await?.now(false).reinit(&self.settings.member) {
            Ok(()) => {}
            // The primary has changed while it was copied: it is copied from the next one.
            Err(Refusal::NoPrimary) if began => return Ok(false),
            Err(refusal) => {
                let (reason, message) = (refusal.reason(), refusal.to_string());
                let answer = if began {
                    Answer::failed(&wish.id, reason, message)
                } else {
                    Answer::refused(&wish.id, reason, message)
                };
                self.answers(answer);
                self.within(self.report(&says)).await?;
                return Ok(false);
            }
        }
        let Some(leader) = self.leader(seen) else { return Ok(false) };
        warn!(member = %self.settings.member, %leader, by = wish.by, reason = wish.reason, "an operator has this member copied anew");
        self.answers(Answer::new(&wish.id, AnswerState::Begun, format!("copying from {}", leader.member)));
        self.within(self.report(&says)).await?;
        let answer = match self.copy_from(&leader).await {
            Some(Ok(())) => {
                let message = format!(
                    "copied from {}; what was there is kept beside the data directory",
                    leader.member
                );
                Answer::new(&wish.id, AnswerState::Done, message)
            }
            Some(Err(error)) => Answer::failed(&wish.id, "NotCopied", error.to_string()),
            // There is another primary: it is copied from that one.
            None => return Ok(true),
        };
        self.answers(answer);
        self.within(self.report(&says)).await.map(|()| true)
    }

    /// `None`: it was given up, as the lease has another version.
    async fn copy_from(&self, leader: &Leader) -> Option<Result<(), EngineError>> {
        // It cannot lead meanwhile, and that may take hours.
        self.participant.set_healthy(false);
        self.becomes(State::Alone);
        if let Err(error) = self.engine.end(End::AtOnce { grace: GRACE }).await {
            return Some(Err(error));
        }
        let copied = tokio::select! {
            copied = self.engine.rejoin(leader, Cloning::Always) => copied.map(drop),
            version = self.until_another_than(leader.version) => {
                warn!(member = %self.settings.member, version, "a copy was given up, as the lease has another version");
                return None;
            }
        };
        if copied.is_ok() {
            self.participant.set_healthy(true);
            self.becomes(State::Follows(leader.version));
        }
        Some(copied)
    }
}

/// What of it decides whether a switchover is refused.
fn judged(log: &Log<Member>) -> BTreeMap<&Member, bool> {
    log.has.iter().map(|(member, has)| (member, log.end.saturating_sub(*has) <= MOST_LAG)).collect()
}
