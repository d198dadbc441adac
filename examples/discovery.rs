//! The program of the demo: a small HTTP service of which exactly one instance may answer.
//!
//! ```text
//! component-lease run --component discovery … -- discovery
//! ```
//! It never decides by itself whether it leads. It asks the agent (`COMPONENT_LEASE_AGENT_URL`)
//! every 50 ms and believes each answer for as long as the agent said, counted from *before* the
//! question. A client that asks it while it does not lead gets 503 and the advice to connect anew:
//! a label on a pod moves only new connections.

use std::error::Error;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use component_lease::clock::{Clock, SystemClock};
use component_lease::process::listen::{Listen, bind};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

type Failure = Box<dyn Error + Send + Sync>;

const ASK_EVERY: Duration = Duration::from_millis(50);
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// After SIGTERM, how long clients with kept-alive connections are still told to go elsewhere.
const FAREWELL: Duration = Duration::from_millis(150);

struct Service {
    pod: String,
    /// Boot clock, ns: believes to lead until then.
    valid_until: AtomicU64,
    version: AtomicI64,
    ending: AtomicBool,
}

impl Service {
    fn leads(&self) -> bool {
        let until = Duration::from_nanos(self.valid_until.load(Ordering::SeqCst));
        !self.ending.load(Ordering::SeqCst) && SystemClock.boot() < until
    }

    fn believe(&self, version: i64, until: Duration) {
        self.version.fetch_max(version, Ordering::SeqCst);
        self.valid_until.store(u64::try_from(until.as_nanos()).unwrap_or(0), Ordering::SeqCst);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let agent: Uri = std::env::var("COMPONENT_LEASE_AGENT_URL")
        .map_err(|_| "COMPONENT_LEASE_AGENT_URL is not set; run this under `component-lease run`")?
        .parse()?;
    let host = agent.authority().ok_or("COMPONENT_LEASE_AGENT_URL names no host")?.to_string();
    // Below the path of the URL: there the answer is for this program, which is gone when the lease is given back.
    let path = format!("{}/leader", agent.path().trim_end_matches('/'));
    let listen: Listen = std::env::var("LISTEN").as_deref().unwrap_or(":8080").parse()?;
    let service = Arc::new(Service {
        pod: std::env::var("POD_NAME").unwrap_or_else(|_| format!("pid-{}", std::process::id())),
        valid_until: AtomicU64::new(0),
        version: AtomicI64::new(0),
        ending: AtomicBool::new(false),
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = bind(listen).await?;
    println!("{} listens on {}", service.pod, listener.local_addr()?);
    tokio::spawn(keep_asking(host, path, Arc::clone(&service)));
    let router = Router::new().route("/", get(answer)).with_state(Arc::clone(&service));
    let server = axum::serve(listener, router).into_future();
    let farewell = async {
        terminate.recv().await;
        service.ending.store(true, Ordering::SeqCst);
        sleep(FAREWELL).await;
    };
    tokio::select! {
        served = server => served?,
        () = farewell => {}
    }
    Ok(())
}

async fn answer(State(service): State<Arc<Service>>) -> Response {
    let leads = service.leads();
    let body = Json(serde_json::json!({
        "pod": service.pod,
        "version": service.version.load(Ordering::SeqCst),
        "leader": leads,
    }));
    if leads {
        (StatusCode::OK, body).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, [(header::CONNECTION, "close")], body).into_response()
    }
}

/// Asks the agent again and again, over one connection while it lasts.
async fn keep_asking(agent: String, path: String, service: Arc<Service>) {
    let mut connection = None;
    loop {
        let before = SystemClock.boot();
        match timeout(ASK_TIMEOUT, ask(&agent, &path, &mut connection)).await {
            Ok(Ok(Some((version, valid_for)))) => service.believe(version, before + valid_for),
            Ok(Ok(None)) => service.believe(0, Duration::ZERO),
            // No answer: what was promised before still holds, for as long as it was promised.
            Ok(Err(_)) | Err(_) => connection = None,
        }
        sleep(ASK_EVERY).await;
    }
}

/// The version and how long it is certain to last, or `None` where this instance does not lead.
async fn ask(
    agent: &str,
    path: &str,
    connection: &mut Option<SendRequest<Empty<Bytes>>>,
) -> Result<Option<(i64, Duration)>, Failure> {
    if connection.is_none() {
        let stream = TokioIo::new(TcpStream::connect(agent).await?);
        let (sender, driver) = http1::handshake(stream).await?;
        tokio::spawn(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut().ok_or("not connected")?;
    sender.ready().await?;
    let request = Request::get(path).header(header::HOST, agent).body(Empty::new())?;
    let answer = sender.send_request(request).await?;
    let leads = answer.status() == StatusCode::OK;
    let number = |name: &str| answer.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
    let (version, valid_for) = (number("component-lease-version"), number("component-lease-valid-for-ms"));
    // The connection can be used again only once the body is read.
    answer.into_body().collect().await?;
    match (leads, version, valid_for) {
        (true, Some(version), Some(ms)) => Ok(Some((version, Duration::from_millis(ms.unsigned_abs())))),
        (true, ..) => Err("the agent's answer lacks its headers".into()),
        (false, ..) => Ok(None),
    }
}
