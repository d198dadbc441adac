//! The HTTP server of every listener of ours. Anybody who reaches the port can ask, so it is small and keeps within
//! bounds whatever is sent to it:
//!
//! * so many connections, with small buffers. When there is no room for another one, the oldest of the address that
//!   has the most is closed: a flood from one address costs only that address its connections, and a probe is
//!   answered all the same;
//! * a request's head must come within a time, and a connection does not live for ever;
//! * who does not read an answer is cut off.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at a time, where the process may open enough files.
const CONNECTIONS: u64 = 256;
/// The part of the files that a process may open which is left to connections.
const SHARE_OF_FILES: u64 = 4;
/// Bytes: the smallest that hyper allows. No head of a request is longer.
const BUFFER: usize = 8192;
/// After the end was asked for, so long is waited for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// The least time between two messages about a want of room.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What a server bears.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    /// For the head of a request, and for the pause before the next one.
    head: Duration,
    /// From then on each answer is the connection's last.
    lifetime: Duration,
    /// What was sent is not taken for so long.
    stalled: Duration,
}

impl Limits {
    fn of_this_process() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = CONNECTIONS.min(files / SHARE_OF_FILES).max(8);
        Self {
            connections: usize::try_from(connections).unwrap_or(8),
            head: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            stalled: Duration::from_secs(10),
        }
    }
}

/// The two ends of the connection that a request came over; an extension of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    from: IpAddr,
    to: IpAddr,
}

impl Asker {
    fn new(from: SocketAddr, to: SocketAddr) -> Self {
        // A socket for both families shows an IPv4 address as an IPv6 one.
        Self { from: from.ip().to_canonical(), to: to.ip().to_canonical() }
    }

    /// Whether the request came over the loopback interface. Both ends are looked at: some proxies in front of a pod
    /// pass on what comes from outside as from a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.from.is_loopback() && self.to.is_loopback()
    }
}

/// Serves until the token is cancelled.
pub async fn serve(listener: TcpListener, router: Router, end: CancellationToken) {
    serve_within(Limits::of_this_process(), listener, router, end).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, router: Router, end: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let mut connections = Connections::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => break,
            Some(ended) = connections.tasks.join_next_with_id() => {
                connections.ended(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.make_room(limits.connections).await;
                let Ok(here) = stream.local_addr() else { continue };
                let asker = Asker::new(peer, here);
                connections.begin(asker.from, serve_one(limits, stream, asker, service.clone(), end.clone()));
            }
            Err(error) => connections.not_accepted(&error).await,
        }
    }
    drop(listener);
    // An answer that takes longer is cut off when the set is dropped.
    let _ = timeout(LAST_ANSWERS, connections.tasks.join_all()).await;
}

async fn serve_one(
    limits: Limits,
    stream: TcpStream,
    asker: Asker,
    router: TowerToHyperService<Router>,
    end: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let _ = set_tcp_user_timeout(&stream, u32::try_from(limits.stalled.as_millis()).unwrap_or(u32::MAX));
    let old = Instant::now() + limits.lifetime;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(asker);
        let answer = router.call(request);
        async move {
            let mut answer = answer.await?;
            if Instant::now() >= old {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        // It was told to close with its last answer, and does not.
        () = sleep(limits.lifetime + limits.head) => return,
        () = end.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    begun: u64,
    said: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    group: IpAddr,
    /// Rises from one connection to the next.
    number: u64,
    task: AbortHandle,
}

impl Connections {
    fn begin(&mut self, from: IpAddr, serves: impl Future<Output = ()> + Send + 'static) {
        self.begun += 1;
        let task = self.tasks.spawn(serves);
        self.open.insert(task.id(), Open { group: group(from), number: self.begun, task });
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    warn!(%error, "answering a request failed");
                }
                error.id()
            }
        };
        self.open.remove(&id);
    }

    /// Returns when there are fewer than `most`.
    async fn make_room(&mut self, most: usize) {
        while self.tasks.len() >= most {
            self.close_one("there are too many connections");
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => return,
            }
        }
    }

    /// Closes the oldest connection of the client that has the most.
    fn close_one(&mut self, why: &str) {
        let Some(victim) = victim(self.open.values().map(|open| (open.group, open.number))) else { return };
        let Some(open) = self.open.values().find(|open| open.number == victim) else { return };
        open.task.abort();
        let (from, now) = (open.group, Instant::now());
        if self.said.is_none_or(|said| now >= said + SAID_EVERY) {
            self.said = Some(now);
            warn!(%from, "{why} to the HTTP endpoints: closing the oldest connection of the address with the most");
        }
    }

    async fn not_accepted(&mut self, error: &io::Error) {
        use rustix::io::Errno;
        let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        if wants.iter().any(|want| error.raw_os_error() == Some(want.raw_os_error())) {
            self.close_one(&format!("there is no room for another connection ({error})"));
            // Another program may give back what it uses; until then this must not spin.
            sleep(Duration::from_millis(20)).await;
        } else {
            // A connection that was gone before it was accepted.
            debug!(%error, "a connection could not be accepted");
        }
    }
}

/// Addresses that count as one: a client with one address of an IPv6 network has all of them.
fn group(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let network = ip.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        other => other,
    }
}

/// The number of the connection to close.
fn victim(open: impl Iterator<Item = (IpAddr, u64)>) -> Option<u64> {
    let mut groups: HashMap<IpAddr, (usize, u64)> = HashMap::new();
    for (group, number) in open {
        let (count, oldest) = groups.entry(group).or_insert((0, number));
        (*count, *oldest) = (*count + 1, number.min(*oldest));
    }
    // Of two that have as many, the one whose oldest is older.
    groups
        .into_values()
        .max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)))
        .map(|(_, oldest)| oldest)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
