//! Which of the servers that a URL names is used. All are asked at once, so that one that is silent delays nobody for
//! long. Of those that can be written to, the one whose database is under the latest version of the lease "who is
//! primary" is used: a primary that was replaced may be writable for a while, and acknowledges nothing.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::address::{At, Host};
use super::dialect::Settings;
use super::slot::CONNECT_LIMIT;
use crate::store::error::StoreError;

/// For how long the others are waited for once a server that can be written to has answered.
const OTHERS: Duration = Duration::from_millis(200);

/// How often it is said that several servers can be written to.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// When it was said that several servers can be written to.
#[derive(Debug, Default)]
pub(super) struct SaidSeveral(Mutex<Option<Instant>>);

impl SaidSeveral {
    /// Whether it is said now. Then it counts as said.
    fn is_due(&self) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|said| said.elapsed() >= SAID_AGAIN);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}

/// What one server says.
pub(super) enum Says<C> {
    /// It can be written to. The version of its database's lease, 0 where its database says none.
    Writable(C, i64),
    ReadOnly,
    /// Nobody is there, or not yet.
    Away(String),
    /// Another server might let us in, but the URL is most likely wrong.
    Refused(StoreError),
}

/// The server that is used.
pub(super) struct Writer<C> {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) connection: C,
}

/// Asks each server. `hosts` are in the order of preference, and each has `limit`.
///
/// # Errors
/// The first refusal, if no server can be written to; else what each of them said.
pub(super) async fn writer<C, F>(
    hosts: Vec<(Host, u16)>,
    limit: Option<Duration>,
    place: &impl Display,
    settings: &Settings,
    ask: impl Fn(Host, u16) -> F,
) -> Result<Writer<C>, StoreError>
where
    C: Send + 'static,
    F: Future<Output = Says<C>> + Send + 'static,
{
    let limit = limit.map_or(CONNECT_LIMIT, |limit| limit.min(CONNECT_LIMIT));
    let mut asked = JoinSet::new();
    for (at, (host, port)) in hosts.iter().enumerate() {
        let answer = ask(host.clone(), *port);
        asked.spawn(async move {
            let silent = || Says::Away(format!("no connection within {limit:?}"));
            (at, timeout(limit, answer).await.unwrap_or_else(|_| silent()))
        });
    }
    let (mut writable, mut refused, mut away) = (Vec::new(), Vec::new(), Vec::new());
    // Until one can be written to, each may use its limit.
    let mut enough: Option<Instant> = None;
    while let Some(Ok((at, says))) = tokio::select! {
        // What has answered is looked at before it is judged whether that is enough.
        biased;
        answer = asked.join_next() => answer,
        () = sleep_until(enough.unwrap_or_else(Instant::now)), if enough.is_some() => None,
    } {
        match says {
            Says::Writable(connection, version) => {
                writable.push((at, version, connection));
                enough.get_or_insert(Instant::now() + OTHERS);
            }
            Says::ReadOnly => away.push((at, "it is a standby, or read-only".to_owned())),
            Says::Away(why) => away.push((at, why)),
            Says::Refused(error) => refused.push((at, error)),
        }
    }
    let found: Vec<(usize, i64)> = writable.iter().map(|(at, version, _)| (*at, *version)).collect();
    if let Some(best) = best(&found) {
        if found.len() > 1 && settings.said_several().is_due() {
            let each =
                found.iter().map(|(at, version)| format!("{} (version {version})", named(&hosts[*at])));
            tracing::warn!(
                "{place}: several servers can be written to: {}; {} is used. If this lasts, two servers are the primary: stop one of them",
                each.collect::<Vec<_>>().join(", "),
                named(&hosts[found[best].0])
            );
        }
        let (at, _, connection) = writable.swap_remove(best);
        let (host, port) = hosts[at].clone();
        return Ok(Writer { host, port, connection });
    }
    if let Some((_, error)) = refused.into_iter().min_by_key(|(at, _)| *at) {
        return Err(error);
    }
    away.sort_by_key(|(at, _)| *at);
    let each: Vec<String> = away.iter().map(|(at, why)| format!("{}: {why}", named(&hosts[*at]))).collect();
    Err(StoreError::retryable(format!("{place}: no server of these can be written to: {}", each.join("; "))))
}

fn named((host, port): &(Host, u16)) -> At<'_> {
    At(host, *port)
}

/// Of servers by preference and version, the one to be used: its version is the latest, then it is preferred.
fn best(found: &[(usize, i64)]) -> Option<usize> {
    let order = |at: &usize| (found[*at].1, std::cmp::Reverse(found[*at].0));
    (0..found.len()).max_by_key(order)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn host(name: &str) -> (Host, u16) {
        (Host::Tcp(name.to_owned()), 1)
    }

    /// By what each server says, in the order of the URL; `None` is silent.
    async fn used(says: &[Option<fn() -> Says<()>>]) -> Result<usize, String> {
        let hosts: Vec<_> = (0..says.len()).map(|at| host(&at.to_string())).collect();
        let ask = |host: Host, _| {
            let Host::Tcp(at) = host else { panic!("no socket was named") };
            let says = says[at.parse::<usize>().unwrap()];
            async move {
                match says {
                    Some(says) => says(),
                    None => pending().await,
                }
            }
        };
        let writer = writer(hosts, None, &"db", &Settings::default(), ask).await;
        writer.map_err(|error| error.to_string()).map(|writer| match writer.host {
            Host::Tcp(at) => at.parse().unwrap(),
            Host::Socket(_) => unreachable!("no socket was named"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_primary_is_used_whatever_the_order_of_the_url() {
        let old: fn() -> Says<()> = || Says::Writable((), 11);
        let new: fn() -> Says<()> = || Says::Writable((), 12);
        let standby: fn() -> Says<()> = || Says::ReadOnly;
        for (says, expected) in [
            ([Some(old), Some(new), Some(standby)], 1),
            ([Some(new), Some(old), Some(standby)], 0),
            ([Some(standby), Some(old), Some(old)], 1),
        ] {
            assert_eq!(used(&says).await, Ok(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_delays_the_answer_by_a_moment_only() {
        let began = Instant::now();
        assert_eq!(used(&[None, Some(|| Says::Writable((), 0)), None]).await, Ok(1));
        assert_eq!(began.elapsed(), OTHERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_only_where_nobody_can_be_written_to() {
        let refused: fn() -> Says<()> = || Says::Refused(StoreError::misconfigured("a wrong password"));
        assert_eq!(used(&[Some(refused), Some(|| Says::Writable((), 0))]).await, Ok(1));
        let why = used(&[Some(|| Says::ReadOnly), Some(refused)]).await.unwrap_err();
        assert!(why.contains("a wrong password"), "{why}");
        let why = used(&[Some(|| Says::Away("it starts".to_owned())), None]).await.unwrap_err();
        assert!(why.contains("0:1: it starts; 1:1: no connection within 10s"), "{why}");
    }
}
