//! `LISTEN` on a connection of its own, beside the one of the slot. The statements come first: nothing
//! listens unless their connection stands; the listener gives its connection to them when theirs broke,
//! and nothing listens where connections run out. What goes wrong here costs speed only, so it is said
//! once and tried again in the background.
//!
//! A pooler's sessions are never listened to. Where there is one, an address of the server itself may be given
//! (`--direct-database-url`); a connection there listens, notifies, and is no spare: statements go by the pooler.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use sqlx::{Acquire, Executor, Row};
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{Connected, Place, prepare};
use super::errors::{classify, has_run_out};
use super::pooler::{How, Met, Probe, may_be_for_options};
use super::table::inspect;
use super::url::PostgresUrl;
use crate::store::error::StoreError;
use crate::store::hints::{Hint, HintSender};
use crate::store::sql::session::Session;
use crate::store::sql::slot::{Answer, CONNECT_LIMIT, Connect, Request, Slot};
use crate::store::sql::table::Table;

const CHANNEL: &str = "component_lease";
/// A connection that died without a word (a firewall, a vanished host), and connections that run out
/// for others, are found out this late.
const PING_EVERY: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the connection of the slot has to stand: programs that start together shall all have one before
/// any of them takes a second.
const SETTLE: Duration = Duration::from_secs(1);
/// To stop listening, on a connection that is needed for statements.
const SPARE_LIMIT: Duration = Duration::from_secs(1);

pub(super) async fn listen(place: Place, slot: Slot<Place>, sender: HintSender) {
    let mut pauses = Pauses::default();
    let mut said = false;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = settled_and_listen(&place, &slot, &sender, &pauses) => ended,
            () = sender.closed() => return,
        };
        sender.set_flowing(false);
        if let Ended::Failed(why) | Ended::RunOut(why) = &ended
            && !said
        {
            said = true;
            tracing::warn!("no notifications (changes are found by polling): {why}");
        }
        let pause = pauses.after(&ended, began.elapsed()).mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sender.closed() => return,
        }
    }
}

/// Why nobody listens any more.
#[derive(Debug)]
enum Ended {
    /// The connection was needed for statements.
    Given,
    /// Somebody else who waits for a connection may have this one; a pooler tells us of nobody.
    Yielded,
    Lost,
    Failed(StoreError),
    /// There is a pooler, and no other address.
    Nowhere,
    /// No connection is left, or none would be for somebody who has none yet.
    RunOut(StoreError),
}

/// How long nothing listens afterwards, at most, and for how long it does.
#[derive(Debug)]
struct Pauses {
    failed: Duration,
    run_out: Duration,
    /// Connections ran out since it began to listen last.
    is_scarce: bool,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { failed: Self::FAILED, run_out: Self::RUN_OUT, is_scarce: false }
    }
}

impl Pauses {
    const FAILED: Duration = Duration::from_millis(250);
    const FAILED_MOST: Duration = Duration::from_secs(15);
    const RUN_OUT: Duration = Duration::from_secs(60);
    const RUN_OUT_MOST: Duration = Duration::from_secs(15 * 60);
    const LIFETIME: Duration = Duration::from_secs(10 * 60);
    const LIFETIME_WHERE_SCARCE: Duration = Duration::from_secs(60);

    fn lifetime(&self) -> Duration {
        if self.is_scarce { Self::LIFETIME_WHERE_SCARCE } else { Self::LIFETIME }
    }

    fn after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
        match ended {
            Ended::Given => Duration::ZERO,
            Ended::Yielded => {
                *self = Self::default();
                SETTLE
            }
            Ended::RunOut(_) => {
                self.is_scarce = true;
                let pause = self.run_out;
                self.run_out = (pause * 2).min(Self::RUN_OUT_MOST);
                pause
            }
            // The URL may change.
            Ended::Nowhere => Self::RUN_OUT,
            Ended::Lost | Ended::Failed(_) => {
                if lasted > Self::FAILED_MOST {
                    self.failed = Self::FAILED;
                }
                let pause = self.failed;
                self.failed = (pause * 2).min(Self::FAILED_MOST);
                pause
            }
        }
    }
}

/// Waits until the statements have a connection, and have had it for a while.
async fn settled(slot: &Slot<Place>) {
    let mut stands = slot.stands();
    loop {
        // It ends with the slot, which this task has.
        let _ = stands.wait_for(|stands| *stands).await;
        tokio::time::sleep(SETTLE.mul_f64(1.0 + fastrand::f64())).await;
        if *stands.borrow_and_update() {
            return;
        }
    }
}

async fn settled_and_listen(
    place: &Place,
    slot: &Slot<Place>,
    sender: &HintSender,
    pauses: &Pauses,
) -> Ended {
    settled(slot).await;
    let listening = match tokio::time::timeout(CONNECT_LIMIT, Listening::begin(place)).await {
        Ok(Ok(listening)) => listening,
        Ok(Err(ended)) => return ended,
        // This is how one waits for a connection that somebody else has, where connections are handed out.
        Err(_) => {
            return Ended::RunOut(StoreError::retryable(format!(
                "{place}: no connection within {CONNECT_LIMIT:?}"
            )));
        }
    };
    listening.listen(slot, sender, pauses.lifetime()).await
}

/// A connection that listens, and may stop to.
struct Listening {
    place: Place,
    url: Box<PostgresUrl>,
    /// At another address than the slot's.
    is_apart: bool,
    /// Of one connection, and for it alone: the listener insists on a pool.
    pool: PgPool,
    made: Arc<AtomicUsize>,
    listener: PgListener,
    how: How,
    lock_limit: u64,
    table: Table,
}

impl Listening {
    async fn begin(slots: &Place) -> Result<Self, Ended> {
        let url = slots.source().map_err(Ended::Failed)?;
        let Some((url, is_apart)) = slots.listens_at(&url).map_err(Ended::Failed)? else {
            return Err(Ended::Nowhere);
        };
        let place = slots.of(&url);
        let failed = |error| {
            let run_out = has_run_out(&error);
            let refused = may_be_for_options(&error);
            let error = classify(error, &place);
            if run_out {
                Ended::RunOut(error)
            } else if refused {
                Ended::Failed(is_a_pooler(&place, &error.to_string()))
            } else {
                Ended::Failed(error)
            }
        };
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let probe = Probe::new();
        let options = place.options(&url, &probe).await.map_err(Ended::Failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_LIMIT)
            .acquire_slow_threshold(CONNECT_LIMIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_connect(move |_, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                Box::pin(async { Ok(()) })
            })
            .connect_lazy_with(options);
        // Before there is a listener: when it ends, it would stop everybody from listening on a session that is shared.
        let mut connection = pool.acquire().await.map_err(failed)?;
        let lock_limit = place.settings.lock_limit();
        let met = Met::Unknown(probe);
        let mut how = met.how(&mut connection, &url, lock_limit, &place).await.map_err(Ended::Failed)?;
        let (table, identity) =
            inspect(&mut connection, &mut how, lock_limit, &place).await.map_err(Ended::Failed)?;
        if how.is_shared() {
            return Err(if is_apart { Ended::Failed(is_a_pooler(&place, "")) } else { Ended::Nowhere });
        }
        if is_apart && !place.seen.is_same_database(&identity) {
            return Err(Ended::Failed(StoreError::misconfigured(format!(
                "the direct address ({place}) leads to another database than the one for statements ({slots}): name the same server and database in --direct-database-url"
            ))));
        }
        let beats = table.instances.then_some(&table.sql.begin_instance);
        for statement in [&table.sql.renew].into_iter().chain(beats) {
            match prepare(&mut connection, statement).await {
                // What cannot be prepared says why when it is asked.
                Ok(()) | Err(sqlx::Error::Database(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        drop(connection);
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        listener.eager_reconnect(false);
        let mut listening = Self { place, url, is_apart, pool, made, listener, how, lock_limit, table };
        listening.has_room().await?;
        listening.listener.listen(CHANNEL).await.map_err(|error| listening.failed(error))?;
        Ok(listening)
    }

    fn failed(&self, error: sqlx::Error) -> Ended {
        let run_out = has_run_out(&error);
        let error = classify(error, &self.place);
        if run_out { Ended::RunOut(error) } else { Ended::Failed(error) }
    }

    /// Also tells a connection that died without a word.
    async fn has_room(&mut self) -> Result<(), Ended> {
        let asking = async {
            self.listener.acquire().await?.fetch_one(sqlx::raw_sql(self.table.sql.has_room.text())).await
        };
        let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, asking).await else {
            return Err(Ended::Failed(StoreError::retryable(format!(
                "{}: no answer within {ANSWER_LIMIT:?}",
                self.place
            ))));
        };
        match answer.and_then(|row| row.try_get::<bool, _>(0)) {
            // A user who may not ask that does without.
            Ok(true) | Err(sqlx::Error::Database(_)) => Ok(()),
            Ok(false) => Err(Ended::RunOut(StoreError::retryable(format!(
                "{}: connections run out, and one that only waits for notifications is given back (CONNECTION LIMIT of the role or the database, or max_connections)",
                self.place
            )))),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn listen(mut self, slot: &Slot<Place>, sender: &HintSender, lifetime: Duration) -> Ended {
        let mut requests = slot.beside(!self.is_apart);
        let end = Instant::now() + lifetime.mul_f64(0.75 + fastrand::f64() / 2.0);
        sender.set_flowing(true);
        // What happened before is not known.
        sender.send(Hint::Any);
        let ping_every = slot.keep_alive().map_or(PING_EVERY, |every| every.min(PING_EVERY));
        let mut pings = tokio::time::interval(ping_every.mul_f64(0.75 + fastrand::f64() / 2.0));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let mut used = Instant::now();
        loop {
            tokio::select! {
                heard = self.listener.try_recv() => match heard {
                    Ok(Some(notification)) => {
                        used = Instant::now();
                        sender.send(Hint::Component(notification.payload().to_owned()));
                    }
                    Ok(None) => {
                        slot.closed_when_idle(&self.place, used.elapsed());
                        return Ended::Lost;
                    }
                    Err(error) => return self.failed(error),
                },
                _ = pings.tick() => {
                    if let Err(ended) = self.has_room().await {
                        return ended;
                    }
                    used = Instant::now();
                }
                request = requests.recv() => match request {
                    Some(Request::Notify(component, told)) => {
                        let (answer, ended) = self.notify(&component).await;
                        let _ = told.send(answer);
                        if let Some(ended) = ended {
                            return ended;
                        }
                    }
                    Some(Request::Replace(url, taker)) => {
                        sender.set_flowing(false);
                        let spare = if self.url == url {
                            self.stop().await
                        } else {
                            Err(StoreError::retryable("the database URL has changed"))
                        };
                        // Who asked is gone only with the store.
                        let _ = taker.send(Answer::now(spare));
                        return Ended::Given;
                    }
                    None => return Ended::Lost,
                },
                () = tokio::time::sleep_until(end) => return Ended::Yielded,
            }
        }
    }

    /// What became of it, and whether the connection ended with it.
    async fn notify(&mut self, component: &str) -> (Result<(), StoreError>, Option<Ended>) {
        let place = self.place.clone();
        let query = sqlx::query(self.table.sql.notify.text()).bind(component);
        let asking = async { self.listener.acquire().await?.execute(query).await };
        match tokio::time::timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok(_)) => (Ok(()), None),
            Ok(Err(error @ sqlx::Error::Database(_))) => (Err(classify(error, &place)), None),
            Ok(Err(error)) => {
                let error = classify(error, &place);
                (Err(error.clone()), Some(Ended::Failed(error)))
            }
            Err(_) => {
                let error = StoreError::retryable(format!("{place}: no answer within {ANSWER_LIMIT:?}"));
                (Err(error.clone()), Some(Ended::Failed(error)))
            }
        }
    }

    /// The connection, for statements from now on.
    async fn stop(self) -> Result<Session<Place>, StoreError> {
        let Self { place, pool, made, listener, how, lock_limit, table, .. } = self;
        // UNLISTEN is sent, and the connection goes back to its pool.
        drop(listener);
        let connection = match tokio::time::timeout(SPARE_LIMIT, pool.acquire()).await {
            Ok(connection) => connection.map_err(|error| classify(error, &place))?.detach(),
            Err(_) => {
                return Err(StoreError::retryable(format!("{place}: no answer within {SPARE_LIMIT:?}")));
            }
        };
        // The pool makes another one where that one has ended.
        if made.load(Ordering::Relaxed) > 1 {
            return Err(StoreError::retryable(format!("{place}: the server closed the connection")));
        }
        Ok(Session::new(Connected { connection, how }, lock_limit, table))
    }
}

fn is_a_pooler(place: &Place, says: &str) -> StoreError {
    let says = if says.is_empty() { String::new() } else { format!(" ({says})") };
    StoreError::misconfigured(format!(
        "{place}: a connection pooler is in between{says}, on whose sessions nothing can listen: name the server's own address in --direct-database-url, or leave it out"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_connections_run_out_nothing_listens_for_minutes_and_then_for_a_minute_only() {
        let error = || StoreError::retryable(String::new());
        let mut pauses = Pauses::default();
        assert_eq!(pauses.lifetime(), Pauses::LIFETIME);
        let run_out = |pauses: &mut Pauses| pauses.after(&Ended::RunOut(error()), SETTLE).as_secs();
        assert_eq!([60, 120, 240, 480, 900, 900], std::array::from_fn(|_| run_out(&mut pauses)));
        assert_eq!(pauses.lifetime(), Pauses::LIFETIME_WHERE_SCARCE);
        // It found room, and nobody took it.
        assert_eq!(pauses.after(&Ended::Yielded, pauses.lifetime()), SETTLE);
        assert_eq!((pauses.lifetime(), run_out(&mut pauses)), (Pauses::LIFETIME, 60));
    }

    #[test]
    fn a_connection_that_is_lost_is_made_again_at_once_and_less_often_where_it_fails_again() {
        let mut pauses = Pauses::default();
        let lost = |pauses: &mut Pauses, lasted| pauses.after(&Ended::Lost, lasted).as_millis();
        let soon = SETTLE;
        assert_eq!([250, 500, 1_000], std::array::from_fn(|_| lost(&mut pauses, soon)));
        assert_eq!(lost(&mut pauses, Duration::from_secs(60)), 250);
        assert_eq!(pauses.after(&Ended::Given, soon), Duration::ZERO);
    }
}
