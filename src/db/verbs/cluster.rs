//! A cluster as its lease's store shows it, and what can be asked of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::args::{CommonArgs, Format, WaitArgs};
use super::ended::{Ended, State};
use crate::clock::{Clock, SystemClock};
use crate::database::Member;
use crate::db::asks::Asks;
use crate::db::place::{Place, failure};
use crate::election::{Moment, Request};
use crate::member::{Answer, AnswerState, Standing, What, Wish};
use crate::primary::verbs::{Now, Refusal};
use crate::process::{ExitCode, Failure, asker, output, shutdown};
use crate::store::{Asked, Outcome, Roster, Said, StoreError, new_uuid};

/// How long a store that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at what becomes of it.
const LOOK: Duration = Duration::from_millis(100);
/// How long it is waited for, where nothing else was said.
const WAIT: Duration = Duration::from_secs(60);

/// One cluster, and who asks.
pub(super) struct Cluster {
    pub(super) verb: &'static str,
    pub(super) name: String,
    place: Place,
    roster: Arc<dyn Roster>,
    asks: Asks,
    pub(super) said: Said,
    pub(super) dry_run: bool,
    pub(super) output: Format,
}

/// One look.
pub(super) struct Look {
    pub(super) standing: Standing,
    pub(super) asked: Asked,
}

impl Look {
    pub(super) fn now(&self) -> Now<Member> {
        self.standing.now(self.asked.paused.is_some())
    }

    /// To the last wish.
    pub(super) fn answer(&self, member: &Member) -> Option<&Answer> {
        self.standing.said.get(member)?.wish_answer.as_ref()
    }

    /// To the last request for which it did not make way.
    pub(super) fn refusal(&self, member: &Member) -> Option<&Answer> {
        self.standing.said.get(member)?.request_answer.as_ref()
    }
}

/// Why it is over while it was waited for.
pub(super) enum Waited<T> {
    Ended(T),
    /// Its time is over, or somebody ended the command.
    GivenUp {
        took: Duration,
        interrupted: bool,
    },
}

impl Cluster {
    pub(super) async fn open(verb: &'static str, args: CommonArgs) -> Result<Self, Failure> {
        let CommonArgs { lease, reason, dry_run, output, log: _ } = args;
        let place = Place::of(&lease, Arc::new(SystemClock)).await?;
        let (roster, asks) = (place.roster()?, place.asks()?);
        let said = Said::new(asker::name(), reason)
            .map_err(|error| Failure::new(ExitCode::Usage, error.to_string()))?;
        Ok(Self { verb, name: lease.cluster, place, roster, asks, said, dry_run, output })
    }

    async fn answered<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
        match timeout(PATIENCE, call).await {
            Ok(answer) => answer.map_err(|error| failure(&error)),
            Err(_) => Err(Failure::new(
                ExitCode::Unavailable,
                format!("{} did not answer within {PATIENCE:?}", self.roster.describe()),
            )),
        }
    }

    pub(super) async fn look(&self) -> Result<Look, Failure> {
        let component = &self.place.component;
        let members = BTreeSet::new();
        let standing = self.answered(Standing::read(&*self.roster, component, &members)).await?;
        if standing.version == 0 {
            return Err(Failure::new(
                ExitCode::NoSuchLease,
                format!("there is no lease {component} in {}", self.roster.describe()),
            ));
        }
        let asked = self.answered(self.asks.asked(component)).await?;
        Ok(Look { standing, asked })
    }

    pub(super) async fn pause(&self, said: &Said) -> Result<Outcome, Failure> {
        self.answered(self.asks.pause(&self.place.component, said)).await
    }

    pub(super) async fn resume(&self, of: &str) -> Result<Outcome, Failure> {
        self.answered(self.asks.resume(&self.place.component, of)).await
    }

    pub(super) async fn ask(&self, request: &Request, replaces: Option<&str>) -> Result<Outcome, Failure> {
        self.answered(self.asks.ask(&self.place.component, request, &self.said, replaces)).await
    }

    pub(super) async fn withdraw(&self, id: &str) -> Result<Outcome, Failure> {
        self.answered(self.asks.withdraw(&self.place.component, id)).await
    }

    /// Asks this of a member, unless the same is asked already. The id under which it is answered.
    pub(super) async fn wish(&self, look: &Look, member: &Member, what: What) -> Result<Wish, Failure> {
        let open =
            look.standing.wishes.get(member).filter(|wish| {
                wish.what == what && (what == What::Fence || wish.is_open(look.answer(member)))
            });
        if let Some(open) = open {
            return Ok(open.clone());
        }
        let (by, reason) = (self.said.by().to_owned(), self.said.reason().to_owned());
        let wish = Wish { id: new_uuid(), by, reason, what };
        self.answered(self.roster.wish(&self.place.component, member, Some(&wish.text()))).await?;
        Ok(wish)
    }

    pub(super) async fn wish_nothing(&self, member: &Member) -> Result<(), Failure> {
        self.answered(self.roster.wish(&self.place.component, member, None)).await
    }

    /// What was answered need not stand any more.
    pub(super) async fn clear(&self, member: &Member, wish: &Wish) -> Result<(), Failure> {
        let look = self.look().await?;
        // Somebody may have asked something else since.
        if look.standing.wishes.get(member).is_some_and(|stands| stands.id == wish.id) {
            self.wish_nothing(member).await?;
        }
        Ok(())
    }

    /// Until a look tells how it ended. A store that fails for a moment ends no wait: what was asked stands.
    pub(super) async fn wait<T>(
        &self,
        since: Moment,
        limit: Option<Duration>,
        mut ended: impl FnMut(&Look) -> Option<T>,
    ) -> Result<Waited<T>, Failure> {
        let (clock, end) = (SystemClock, on_signal()?);
        let until = since + limit.unwrap_or(WAIT);
        loop {
            if let Ok(look) = self.look().await
                && let Some(ended) = ended(&look)
            {
                return Ok(Waited::Ended(ended));
            }
            let took = clock.boot().saturating_sub(since);
            let interrupted = end.is_cancelled();
            if clock.boot() >= until || interrupted {
                return Ok(Waited::GivenUp { took, interrupted });
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = end.cancelled() => {}
            }
        }
    }

    pub(super) fn ended(&self, state: State, message: impl Into<String>) -> Ended {
        Ended::new(self.verb, &self.name, state, message)
    }

    pub(super) fn refused(&self, refusal: &Refusal) -> Ended {
        Ended::refused(self.verb, &self.name, refusal)
    }

    pub(super) fn planned(&self, steps: Vec<String>) -> Ended {
        self.ended(State::Planned, "").with_steps(steps)
    }

    /// What a member has answered, if that is the end.
    pub(super) fn answered_by(&self, member: &Member, answer: Option<&Answer>, id: &str) -> Option<Ended> {
        let answer = answer.filter(|answer| answer.id == id)?;
        match answer.state {
            AnswerState::Begun => None,
            AnswerState::Done => Some(self.ended(State::CarriedOut, format!("{member}: {}", answer.message))),
            AnswerState::Refused | AnswerState::Failed => {
                let (reason, state) = match answer.state {
                    AnswerState::Failed => ("Failed", State::NotCarriedOut),
                    _ => ("Refused", State::Refused),
                };
                let reason = answer.reason.as_deref().unwrap_or(reason);
                Some(self.ended(state, format!("{member}: {}", answer.message)).because(reason))
            }
        }
    }

    pub(super) fn given_up(&self, took: Duration, interrupted: bool, message: impl Into<String>) -> Ended {
        let why = if interrupted { "Interrupted" } else { "TimedOut" };
        self.ended(State::TimedOut, message).because(why).after(took)
    }

    /// What a person sees meanwhile.
    pub(super) fn tell(&self, line: &str) {
        if self.output == Format::Text {
            output::complain(&format!("{line}\n"));
        }
    }
}

/// The time at which it is asked.
pub(super) fn now() -> Moment {
    SystemClock.boot()
}

fn on_signal() -> Result<CancellationToken, Failure> {
    shutdown::on_signal()
}

/// Whether it is as the person believes.
pub(super) fn expect(now: &Now<Member>, wait: &WaitArgs) -> Result<(), Refusal> {
    now.expect(wait.expect_primary.as_ref(), wait.expect_version)
}
