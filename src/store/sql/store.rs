//! What the calls do on an SQL database, and what their answers mean.

mod history;
mod instances;
mod intents;
mod roster;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use self::roster::Above;
use super::decode;
use super::dialect::{About, Call, Dialect, Taken};
use super::session::{Session, of_term};
use super::slot::{First, Held, LOOKS_WITHOUT_COMPANIONS, Slot};
use super::statement::Statement;
use super::suspicion::{LostTake, Shown};
use super::value::{Done, Given, Row};
use crate::election::life::DATE_MAX;
use crate::election::machine::{Looked, Past};
use crate::election::{
    ComponentName, Expected, HolderId, Life, LifeId, NewEpoch, Pace, Request, Take, TermKey,
};
use crate::membership::Instance;
use crate::store::asked::{Said, StandingIntent};
use crate::store::error::StoreError;
use crate::store::hints::Hints;
use crate::store::history::{Ending, Retention, Term};
use crate::store::names::Names;
use crate::store::traits::{Directory, Epochs, LeaseStore, Outcome, Roster, Snapshot};
use crate::store::uuid::new_uuid;

/// An SQL database. Each call is one statement in a transaction of its own, on the one connection of the [`Slot`].
pub(super) struct SqlStore<D: Dialect> {
    place: D,
    slot: Slot<D>,
    lost: LostTake,
    shown: Shown,
    above: Above,
}

impl<D: Dialect> SqlStore<D> {
    pub(super) fn new(place: D) -> Self {
        let (slot, lost, shown, above) =
            (Slot::default(), LostTake::default(), Shown::default(), Above::default());
        Self { place, slot, lost, shown, above }
    }

    /// With connections of its own, and what this one was told of versions.
    pub(super) fn another(&self) -> Self {
        Self { above: self.above.clone(), ..Self::new(self.place.clone()) }
    }

    /// The connection, connected and set up as the call needs it.
    async fn session(&self, first: First) -> Result<Held<'_, D>, StoreError> {
        let mut turn = self.slot.turn().await;
        let before = turn.take().filter(|session| self.place.is_current(&session.line));
        let mut session = match before {
            Some(session) => session,
            None => turn.connected(&self.place, first).await?,
        };
        let lock_limit = self.place.settings().lock_limit();
        if session.lock_limit != lock_limit {
            let limited = D::limit_lock_wait(&mut session.line, lock_limit).await;
            limited.map_err(|error| self.place.classify(error))?;
            session.lock_limit = lock_limit;
        }
        Ok(turn.with(session))
    }

    /// For a look, which precedes each take: whether there are companion tables by now. Where they are
    /// there and cannot be used, looks are refused; a leader goes on renewing what it has.
    async fn session_to_look(&self, first: First) -> Result<Held<'_, D>, StoreError> {
        let mut held = self.session(first).await?;
        let session = &mut held.session;
        session.looks = session.looks.saturating_add(1);
        if session.table.companions || session.looks <= LOOKS_WITHOUT_COMPANIONS {
            return Ok(held);
        }
        self.inspected(held).await
    }

    /// What is there now, and whether it can be used.
    async fn inspected<'s>(&self, mut held: Held<'s, D>) -> Result<Held<'s, D>, StoreError> {
        let session = &mut held.session;
        match self.place.inspect(&mut session.line, session.lock_limit).await {
            Ok(table) => {
                (session.table, session.looks) = (table, 0);
                Ok(held)
            }
            Err(error @ StoreError::Misconfigured { .. }) => {
                held.put_back();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts the connection back where the answer leaves it in order.
    async fn finish<T>(
        &self,
        mut held: Held<'_, D>,
        call: Call,
        answer: Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(value) => {
                held.put_back();
                Ok(value)
            }
            Err(error) => {
                if (D::ERRORS.are_denied)(&error)
                    && let Some(why) = self.place.denied(&mut held.session, call, &error).await
                {
                    return Err(why);
                }
                if (D::ERRORS.leave_connection_in_order)(&error) {
                    held.put_back();
                } else if (D::ERRORS.say_closed)(&error) {
                    held.was_closed(&self.place);
                }
                Err(self.place.classify(error))
            }
        }
    }

    /// A statement that changes a row, or does not.
    async fn change(
        &self,
        mut held: Held<'_, D>,
        call: Call,
        statement: &'static Statement,
        given: &Given<'_>,
    ) -> Result<Outcome, StoreError> {
        let answer = held.session.execute(statement, given).await;
        self.finish(held, call, answer).await.map(outcome)
    }

    /// The same of a term. "No row" is doubted: something in the database may suppress the change.
    async fn change_of_term(
        &self,
        mut held: Held<'_, D>,
        statement: &'static Statement,
        term: &TermKey,
    ) -> Result<Outcome, StoreError> {
        match held.session.execute(statement, &of_term(term)).await {
            Ok(done) if done.affected == 0 => self.doubted(held, Call::Term, About::Term(term)).await,
            answer => self.finish(held, Call::Term, answer).await.map(outcome),
        }
    }

    /// What "no row" means, after it was asked about.
    async fn doubted(
        &self,
        mut held: Held<'_, D>,
        call: Call,
        about: About<'_>,
    ) -> Result<Outcome, StoreError> {
        match self.place.doubt(&mut held.session, &about).await {
            Ok(Ok(())) => Ok(lost(held)),
            Ok(Err(why)) => {
                held.put_back();
                Err(why)
            }
            Err(error) if (D::ERRORS.are_denied)(&error) => self.finish(held, call, Err(error)).await,
            // No row is what the server said; nothing speaks against it.
            Err(_) => Ok(Outcome::Lost),
        }
    }

    async fn looked(
        session: &mut Session<D>,
        component: &ComponentName,
    ) -> Result<(Looked, Row), sqlx::Error> {
        let (table, server) = (&session.table, D::server(&session.line));
        let step = table.step();
        let statement = if table.companions { &table.sql.look } else { &table.sql.look_bare };
        let given = [("component", component.as_str().into()), ("server", (&server).into())];
        let row = session.fetch_one(statement, &given).await?;
        let life = decode::life(&row, step)?;
        let mut looked = Looked {
            row: decode::lease_row(&row)?,
            database_now: row.int("now")?,
            standing_ttl: decode::standing_ttl(&row)?,
            preferred: decode::preferred(&row)?,
            cooldown: Duration::from_secs(decode::cooldown(&row)?.into()),
            paused: row.yes("paused")?,
            request: decode::request(&row)?,
            past: Past::of(life != Life::Unknown, row.int_or_none("highest")?, None),
            life,
        };
        if looked.past == Past::NeverLived && looked.row.is_none() {
            looked.past = Past::of(true, None, Self::claimed(session, component).await?);
        }
        Ok((looked, row))
    }

    async fn taken(session: &mut Session<D>, take: &Take) -> Result<Taken, sqlx::Error> {
        let Take { term, ttl, expected, life_id } = take;
        let server = D::server(&session.line);
        let (highest, seen_version, seen_renew_time) = match *expected {
            Expected::Missing { highest } => (Some(highest), None, None),
            Expected::Row { version, renew_time } => (None, Some(version), Some(renew_time)),
        };
        let [component, holder, version] = of_term(term);
        let given = [
            component,
            holder,
            version,
            ("ttl", (*ttl).into()),
            ("highest", highest.into()),
            ("seen_version", seen_version.into()),
            ("seen_renew_time", seen_renew_time.into()),
            ("identity", (&life_id.identity).into()),
            ("epoch", life_id.epoch.into()),
            ("server", (&server).into()),
        ];
        if session.table.companions {
            return D::take(session, take, &given).await;
        }
        let statement = match expected {
            Expected::Missing { .. } => &session.table.sql.take_missing_bare,
            Expected::Row { .. } => &session.table.sql.take_row_bare,
        };
        session.take_by(statement, &given).await
    }

    async fn seen(session: &mut Session<D>, names: &Names, instances: bool) -> Result<Snapshot, sqlx::Error> {
        let (table, server) = (&session.table, D::server(&session.line));
        let (step, instances) = (table.step(), instances && table.instances);
        let statement = if table.companions { &table.sql.look_at } else { &table.sql.look_at_bare };
        let given = [("names", names.into()), ("server", (&server).into())];
        let rows = session.fetch(statement, &given).await?;
        let mut snapshot = decode::snapshot(&rows, names, step)?;
        if instances {
            let rows = session.fetch(&session.table.sql.instances, &given).await?;
            snapshot.instances = Some(rows.iter().map(decode::seen_instance).collect::<Result<_, _>>()?);
        }
        Ok(snapshot)
    }
}

impl<D: Dialect> fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("place", &self.describe()).finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Dialect> LeaseStore for SqlStore<D> {
    fn describe(&self) -> String {
        self.place.to_string()
    }

    fn epochs(&self) -> Option<&dyn Epochs> {
        Some(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    async fn look(&self, component: &ComponentName) -> Result<Looked, StoreError> {
        self.lost.looked();
        let mut held = self.session_to_look(First::Look).await?;
        held.session.table.fits_component(component, &self.place)?;
        let limit = held.session.table.version_max;
        let answer = Self::looked(&mut held.session, component).await;
        let answer = self.finish(held, Call::Look, answer).await;
        let (mut looked, row) = answer.map_err(|error| D::naming(error, &[component.as_str()]))?;
        self.place.same_name(component, &row)?;
        looked.past = self.above.of(component, looked.past, looked.row.is_some(), limit);
        Ok(looked)
    }

    async fn take(&self, take: &Take) -> Result<Outcome, StoreError> {
        let mut held = self.session(First::Other).await?;
        held.session.table.fits_term(&take.term, &self.place)?;
        if !held.session.table.companions && take.life_id != LifeId::default() {
            return Ok(lost(held));
        }
        match Self::taken(&mut held.session, take).await {
            Ok(Taken::Refused) => Ok(lost(held)),
            Ok(Taken::NoRow) if !self.lost.again(take) => Ok(lost(held)),
            Ok(Taken::NoRow) => self.doubted(held, Call::Take, About::Take(take)).await,
            answer => {
                let answer = self.finish(held, Call::Take, answer).await.map(|_| Outcome::Applied);
                let sent = [take.term.component.as_str(), take.term.holder.as_str()];
                answer.map_err(|error| D::naming(error, &sent))
            }
        }
    }

    async fn renew(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let held = self.session(First::Renew).await?;
        let statement = &held.session.table.sql.renew;
        self.change_of_term(held, statement, term).await
    }

    async fn release(&self, term: &TermKey) -> Result<Outcome, StoreError> {
        let held = self.session(First::Other).await?;
        let statement = &held.session.table.sql.release;
        self.change_of_term(held, statement, term).await
    }

    fn hints(&self) -> Hints {
        self.place.hints(&self.slot)
    }

    async fn notify(&self, component: &ComponentName) -> Result<(), StoreError> {
        if let Some(told) = self.place.notify(&self.slot, component).await {
            return told;
        }
        let held = self.session(First::Other).await?;
        let statement = &held.session.table.sql.notify;
        let given = [("component", component.as_str().into())];
        self.change(held, Call::Term, statement, &given).await.map(drop)
    }

    fn limit_lock_wait(&self, limit: Duration) {
        self.place.settings().limit_lock_wait(limit);
    }

    fn pace(&self) -> Option<Pace> {
        self.place.settings().pace().get()
    }
}

#[async_trait]
impl<D: Dialect> Epochs for SqlStore<D> {
    async fn begin_epoch(&self, new: &NewEpoch) -> Result<Outcome, StoreError> {
        let mut held = self.session(First::Other).await?;
        let (table, server) = (&held.session.table, D::server(&held.session.line));
        table.keeps_epochs(&self.place)?;
        table.fits_epoch(new, &self.place)?;
        let latest_date = if table.is_narrow() { 0 } else { DATE_MAX };
        let answer = match &new.seen {
            Some(seen) => {
                let given = [
                    ("latest_date", latest_date.into()),
                    ("at_least", new.at_least.into()),
                    ("identity", (&seen.identity).into()),
                    ("epoch", seen.epoch.into()),
                    ("deliberate", new.deliberate.into()),
                    ("server", (&server).into()),
                ];
                held.session.execute(&table.sql.begin_epoch, &given).await
            }
            None => {
                let uuid = new_uuid();
                let given = [
                    ("latest_date", latest_date.into()),
                    ("at_least", new.at_least.into()),
                    ("max_ttl", new.max_ttl.into()),
                    ("settled", false.into()),
                    ("first", false.into()),
                    ("server", (&server).into()),
                    ("uuid", (&uuid).into()),
                ];
                held.session.execute(&table.sql.first_record, &given).await
            }
        };
        match answer {
            Err(error) if (D::ERRORS.are_granted_already)(&error) => Ok(lost(held)),
            answer => self.finish(held, Call::Record, answer).await.map(outcome),
        }
    }

    async fn settle(&self, waited_out: &LifeId) -> Result<Outcome, StoreError> {
        let held = self.session(First::Other).await?;
        let (table, server) = (&held.session.table, D::server(&held.session.line));
        table.keeps_epochs(&self.place)?;
        let given = [
            ("identity", (&waited_out.identity).into()),
            ("epoch", waited_out.epoch.into()),
            ("server", (&server).into()),
        ];
        let statement = &table.sql.settle;
        self.change(held, Call::Record, statement, &given).await
    }

    async fn release_late(&self, term: &TermKey, within: &LifeId) -> Result<Outcome, StoreError> {
        let held = self.session(First::Other).await?;
        let (table, server) = (&held.session.table, D::server(&held.session.line));
        if !table.companions {
            return Ok(lost(held));
        }
        let [component, holder, version] = of_term(term);
        let given = [
            component,
            holder,
            version,
            ("identity", (&within.identity).into()),
            ("epoch", within.epoch.into()),
            ("server", (&server).into()),
        ];
        let statement = &table.sql.release_late;
        self.change(held, Call::Take, statement, &given).await
    }
}

#[async_trait]
impl<D: Dialect> Directory for SqlStore<D> {
    async fn look_at(&self, names: &Names, instances: bool) -> Result<Snapshot, StoreError> {
        let mut held = self.session_to_look(First::Other).await?;
        let mut answer = Self::seen(&mut held.session, names, instances).await;
        if answer.as_ref().is_ok_and(|snapshot| self.shown.misses(names, snapshot)) {
            held = self.inspected(held).await?;
            answer = Self::seen(&mut held.session, names, instances).await;
        }
        let snapshot = self.finish(held, Call::LookAll, answer).await?;
        self.shown.saw(&snapshot);
        Ok(snapshot)
    }

    async fn beat(&self, says: &Instance, id: Option<i64>) -> Result<Option<i64>, StoreError> {
        self.say_alive(says, id).await
    }

    async fn prune_instances(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.forget_instances(older_than).await
    }

    async fn set_intent(&self, component: &ComponentName, intent: StandingIntent) -> Result<(), StoreError> {
        let preferred = intent.preferred.as_ref().map(HolderId::as_str);
        let cooldown = (intent.cooldown > 0).then_some(i64::from(intent.cooldown));
        let given =
            [("ttl", intent.ttl.into()), ("preferred", preferred.into()), ("cooldown", cooldown.into())];
        self.intend(component, &given, |sql| &sql.set_intent).await.map(drop)
    }

    async fn clear_intent(&self, component: &ComponentName) -> Result<(), StoreError> {
        self.intend(component, &[], |sql| &sql.clear_intent).await.map(drop)
    }

    async fn pause(
        &self,
        component: &ComponentName,
        said: &Said,
        over: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.begin_pause(component, said, over).await
    }

    async fn resume(&self, component: &ComponentName, of: Option<&str>) -> Result<Outcome, StoreError> {
        let given = [("any", of.is_none().into()), ("over", of.unwrap_or_default().into())];
        self.intend(component, &given, |sql| &sql.resume).await
    }

    async fn ask(
        &self,
        component: &ComponentName,
        request: &Request,
        said: &Said,
        replaces: Option<&str>,
    ) -> Result<Outcome, StoreError> {
        self.post(component, request, said, replaces).await
    }

    async fn withdraw(&self, component: &ComponentName, id: &str) -> Result<Outcome, StoreError> {
        self.intend(component, &[("id", id.into())], |sql| &sql.withdraw).await
    }

    async fn components(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.list(after, limit).await
    }

    async fn history(
        &self,
        component: &ComponentName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Term>, StoreError> {
        self.terms(component, before, limit).await
    }

    async fn end_term(
        &self,
        component: &ComponentName,
        version: i64,
        ending: &Ending,
    ) -> Result<Outcome, StoreError> {
        self.write_end(component, version, ending).await
    }

    async fn prune_history(&self, component: &ComponentName, kept: Retention) -> Result<u64, StoreError> {
        self.forget_terms(component, kept).await
    }
}

fn outcome(done: Done) -> Outcome {
    Outcome::of(done.affected > 0)
}

/// A lost race, and the connection is in order.
fn lost<D: Dialect>(held: Held<'_, D>) -> Outcome {
    held.put_back();
    Outcome::Lost
}
