//! What a member reads and writes beside the lease, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tokio::time::timeout;
use tracing::warn;

use super::pace::Lease;
use super::says::{Record, Says};
use super::standing::{self, Standing};
use super::{ANSWER, Seen, Supervisor};
use crate::database::{Engine, EngineError, Member};
use crate::election::TermKey;
use crate::primary::{self, Report, Stamp, known};
use crate::store::{Outcome, StoreError};

async fn answered<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::retryable(format!("no answer within {ANSWER:?}"));
    timeout(ANSWER, call).await.map_err(late)?
}

impl<E: Engine + 'static> Supervisor<E> {
    /// The lease, and what is said beside it.
    pub(super) async fn read(&self) -> Result<Seen, StoreError> {
        let component = &self.settings.component;
        let found = answered(self.store.read_roster(component, &self.settings.members)).await?;
        let record = standing::record(component, &found)?;
        self.standing.send_replace(Some(Standing::of(component, &found)?));
        let said: BTreeMap<Member, Says> = found
            .reports
            .iter()
            .filter_map(|(member, text)| Some((member.clone(), Says::parse(text)?)))
            .collect();
        self.know_the_others(&said);
        let version = found.row.as_ref().map_or(0, |row| row.version);
        let granted = self.granted(record.as_ref(), &said);
        // Somebody has deleted the lease, or has put an older state of the store in the place of the newer one: it would begin below what members
        // have promised, or what was granted before.
        if granted > version {
            self.store.begin_above(component, granted);
        }
        let renewed = (version, found.row.as_ref().map_or(0, |row| row.renew_time));
        let is_held = found.row.is_some_and(|row| !row.is_free());
        Ok(Seen { version, granted, is_held, renewed, record, said })
    }

    fn know_the_others(&self, said: &BTreeMap<Member, Says>) {
        let others = said.iter().filter(|(member, _)| **member != self.settings.member);
        let bearers = others.map(|(member, says)| says.bearer(member)).collect();
        *self.bearers.lock().unwrap_or_else(PoisonError::into_inner) = bearers;
    }

    /// Who bears the names of the other members.
    pub(super) fn others(&self) -> BTreeSet<Member> {
        self.bearers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn granted(&self, record: Option<&Record>, said: &BTreeMap<Member, Says>) -> i64 {
        let own = self.engine.sealed().unwrap_or(0).max(self.engine.of().unwrap_or(0));
        let kept = self.kept().ok().flatten();
        let recorded = record.into_iter().chain(kept.as_ref()).map(|record| record.version);
        said.values().map(Says::highest).chain(recorded).fold(own, i64::max)
    }

    /// The record on this member's own disk.
    fn kept(&self) -> Result<Option<Record>, EngineError> {
        let text = self.engine.kept()?;
        text.as_deref().map(Record::parse).transpose().map_err(|why| {
            EngineError::refused(format!("the record that this member has kept cannot be read: {why}"))
        })
    }

    /// The newest record that is known: of the store, of this member's disk, and of what members say.
    pub(super) fn newest(&self, seen: &Seen) -> Result<Option<Record>, EngineError> {
        let kept = self.kept()?;
        let said = seen.said.values().filter_map(|says| says.record.as_ref());
        let all = seen.record.iter().chain(kept.as_ref()).chain(said).map(|record| (record.stamp(), record));
        let newest = known::newest(all).map(|(_, record)| record.clone());
        let there = seen.record.as_ref().map(Record::stamp).unwrap_or_default();
        let older = newest.as_ref().filter(|newest| newest.stamp() > there);
        let before = {
            let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *doubted, older.map(|_| there))
        };
        // What a member says may have been read a moment after the record, where a store reads one after the other.
        if let Some(newest) = older.filter(|_| before == Some(there)) {
            self.say_that_it_was_restored(newest, seen);
        }
        Ok(newest)
    }

    fn say_that_it_was_restored(&self, newest: &Record, seen: &Seen) {
        let there = seen.record.as_ref().map_or_else(
            || "there is none".to_owned(),
            |record| format!("what is there is of version {}, number {}", record.version, record.serial),
        );
        self.complain(
            "restored",
            &format!(
                "the store of the lease has an older state than members know: the newest record is of version {}, number {}, and {there}. \\
                 Members go by the newest that they know. If a newer one may exist that only members know which are away now, stop all members \\
                 and start those first",
                newest.version, newest.serial
            ),
        );
    }

    /// Keeps the record if it is newer than what was kept before.
    pub(super) fn keep(&self, record: Option<&Record>) -> Result<(), EngineError> {
        let Some(record) = record else { return Ok(()) };
        if of(self.kept()?.as_ref()) >= Some(record.stamp()) {
            return Ok(());
        }
        self.engine.keep(&record.text())
    }

    /// Says this of the member, with who it is and what it knows.
    pub(super) async fn report(&self, says: Says) -> Result<(), StoreError> {
        let claim = self.rivals.lock().unwrap_or_else(PoisonError::into_inner).claim();
        let record = self.kept().ok().flatten();
        let says = Says { members: self.settings.members.clone(), record, ..says }.claimed(claim);
        let text = says.text();
        answered(self.store.report(&self.settings.component, &self.settings.member, &text)).await?;
        self.rivals.lock().unwrap_or_else(PoisonError::into_inner).wrote(self.clock.boot());
        *self.last_said.lock().unwrap_or_else(PoisonError::into_inner) = says;
        Ok(())
    }

    /// `false`: the lease is lost, and nothing was written.
    pub(super) async fn write_record(
        &self,
        term: &TermKey,
        record: &primary::Record<Member>,
    ) -> Result<bool, EngineError> {
        let seen = self.read().await.map_err(|error| EngineError::failed(error.to_string()))?;
        if seen.version == term.version && seen.granted > term.version {
            // Somebody has put back a state in which this term goes on. Another one has come after it.
            warn!(
                member = %self.settings.member, version = term.version, granted = seen.granted,
                "a later version of the lease was granted than its store says, so this term is over"
            );
            return Ok(false);
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let record = Record::new(record, &self.settings.members, Stamp { version: term.version, serial });
        let written = answered(self.store.record(term, &record.text())).await;
        if written.map_err(|error| EngineError::failed(error.to_string()))? != Outcome::Applied {
            return Ok(false);
        }
        self.keep(Some(&record))?;
        Ok(true)
    }

    /// The seals of those that report.
    pub(super) fn reports(seen: &Seen) -> BTreeMap<Member, Report> {
        let all = seen.said.iter();
        all.filter_map(|(member, says)| Some((says.bearer(member), says.report()?))).collect()
    }

    /// Sooner when the lease changes.
    pub(super) async fn until_the_next_look(&self) {
        let mut lease = self.participant.watch();
        let before = Lease::of(&lease.borrow_and_update());
        let state = *self.state.borrow();
        let wait = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.after(before, state, self.clock.boot())
        };
        let changed = async {
            loop {
                let is = Lease::of(&lease.borrow_and_update());
                if is != before || lease.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(wait, changed).await;
    }

    /// Resolves when the lease has a later version: what is done under this one is of no use any more. Its participant looks at the lease
    /// anyway.
    pub(super) async fn until_another_than(&self, version: i64) -> i64 {
        let mut lease = self.participant.watch();
        loop {
            let now = Lease::of(&lease.borrow_and_update());
            let now = now.version.max(now.leads.unwrap_or(0));
            if now > version {
                return now;
            }
            if lease.changed().await.is_err() {
                // There is no participant any more, and so no lease.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn of(record: Option<&Record>) -> Option<Stamp> {
    record.map(Record::stamp)
}
