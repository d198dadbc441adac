//! A client that asks a Service at a steady pace, whatever becomes of the answers: half of its
//! requests over kept-alive connections, half over new ones.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// As long as a user would wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub sent: Instant,
    pub done: Instant,
    /// Over a connection that had been used before.
    pub kept: bool,
    pub said: Said,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// 200: this pod leads, it says, under this version.
    Leads { pod: String, version: i64 },
    /// 503: a pod that does not lead (any more, or yet), and knows it.
    NotLeading,
    /// Nobody is behind the Service's address.
    NoEndpoint,
    /// A connection that stood was cut.
    Cut,
    /// No answer in a second.
    TimedOut,
    /// Anything that no program of ours should say.
    Other(String),
}

impl Said {
    /// For people.
    #[must_use]
    pub fn describe(&self) -> &str {
        match self {
            Self::Leads { .. } => "answered",
            Self::NotLeading => "503 by a pod that knew it did not lead",
            Self::NoEndpoint => "no endpoint",
            Self::Cut => "connection cut",
            Self::TimedOut => "no answer within 1 s",
            Self::Other(what) => what,
        }
    }
}

#[derive(Deserialize)]
struct Body {
    pod: String,
    version: i64,
}

type Connection = SendRequest<Empty<Bytes>>;

#[derive(Debug, Default)]
struct State {
    answers: Mutex<Vec<Answer>>,
    idle: Mutex<Vec<Connection>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client at work. Dropping it ends it.
#[derive(Debug)]
pub struct Client {
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Client {
    /// Asks `address` once every `pace`, on this runtime ([`crate::node::Node::inside`] for an
    /// address of the cluster).
    #[must_use]
    pub fn start(runtime: &Handle, address: SocketAddr, pace: Duration) -> Self {
        let state = Arc::new(State::default());
        let task = runtime.spawn(keep_asking(Arc::clone(&state), address, pace));
        Self { state, task }
    }

    /// All answers so far, in the order in which they came.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        lock(&self.state.answers).clone()
    }

    /// The first answer that a leader of at least this version gave.
    #[must_use]
    pub fn first_of(&self, at_least: i64) -> Option<Answer> {
        let answers = lock(&self.state.answers);
        let of_it = |a: &&Answer| matches!(&a.said, Said::Leads { version, .. } if *version >= at_least);
        answers.iter().find(of_it).cloned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_asking(state: Arc<State>, address: SocketAddr, pace: Duration) {
    let mut ticks = interval(pace);
    // A client that was late catches up: users do not wait for each other.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_u64.. {
        ticks.tick().await;
        tokio::spawn(ask_once(Arc::clone(&state), address, number % 2 == 0));
    }
}

async fn ask_once(state: Arc<State>, address: SocketAddr, keep: bool) {
    let idle = if keep { lock(&state.idle).pop() } else { None };
    let (sent, kept) = (Instant::now(), idle.is_some());
    let asked = timeout(PATIENCE, ask(idle, address)).await;
    let (said, connection) = asked.unwrap_or((Said::TimedOut, None));
    lock(&state.answers).push(Answer { sent, done: Instant::now(), kept, said });
    if let Some(connection) = connection.filter(|_| keep) {
        lock(&state.idle).push(connection);
    }
}

/// What was said, and the connection if it may be used again.
async fn ask(idle: Option<Connection>, address: SocketAddr) -> (Said, Option<Connection>) {
    let mut connection = match idle {
        Some(connection) => connection,
        None => match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                match handshake(TokioIo::new(stream)).await {
                    Ok((connection, driver)) => {
                        tokio::spawn(driver);
                        connection
                    }
                    Err(_) => return (Said::Cut, None),
                }
            }
            Err(_) => return (Said::NoEndpoint, None),
        },
    };
    let request = Request::get("/").header(header::HOST, "discovery").body(Empty::new());
    let Ok(answer) = connection.send_request(request.expect("nothing in it varies")).await else {
        return (Said::Cut, None);
    };
    let (status, close) = (answer.status(), answer.headers().get(header::CONNECTION).is_some());
    let Ok(body) = answer.into_body().collect().await else { return (Said::Cut, None) };
    let said = match status {
        StatusCode::OK => match serde_json::from_slice::<Body>(&body.to_bytes()) {
            Ok(Body { pod, version }) => Said::Leads { pod, version },
            Err(error) => Said::Other(format!("no valid answer: {error}")),
        },
        StatusCode::SERVICE_UNAVAILABLE => Said::NotLeading,
        other => Said::Other(other.to_string()),
    };
    (said, (!close).then_some(connection))
}
