//! Verbs on the spot: a Unix socket that this process opens where `--control-socket` names one, for those who may
//! signal this process anyway. `POST /step-down` ends the term. It asks nobody: neither the database nor a cluster.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::participant::Participant;
use crate::process::{ExitCode, Failure};

/// Connections at a time.
const CONNECTIONS: usize = 8;
/// A connection lives no longer.
const LIFETIME: Duration = Duration::from_secs(30);
/// A leader that hears stops leading at once. While the database does not answer, it hears after a renewal was given up:
/// a sixth of the ttl.
const ENDS_WITHIN: Duration = Duration::from_secs(25);
/// Bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteppedDown {
    /// What was led.
    pub component: String,
    /// Who led.
    pub holder: String,
    /// The version of the term that was ended; missing where this participant did not lead.
    pub version: Option<i64>,
}

/// The socket in the file system; removed with it, unless another process has replaced it.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    file: (u64, u64),
}

/// Which file stands there.
fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|there| (there.dev(), there.ino()))
}

impl Drop for Control {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Takes the socket. Before the participant competes: what cannot work is said before anything is led.
pub(crate) async fn bind(path: &Path) -> Result<(UnixListener, Control), Failure> {
    let cannot = |error: io::Error| {
        Failure::config(format!("cannot listen on the control socket {}: {error}", path.display()))
    };
    clear(path).await.map_err(cannot)?;
    let listener = UnixListener::bind(path).map_err(cannot)?;
    // Who asks is looked at, too: between the two calls others could connect.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    let control = Control { path: path.to_owned(), file: file_at(path).map_err(cannot)? };
    Ok((listener, control))
}

/// Answers on it until the process ends.
pub(crate) fn answer(listener: UnixListener, participant: Arc<Participant>) {
    info!("taking step-down on the control socket");
    tokio::spawn(serve(listener, participant));
}

/// Removes what a process left that was killed. Never anything but a socket on which nobody listens.
async fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "there is a file that is no socket; remove it or choose another path",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => {
            Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there; choose another path"))
        }
        // Nobody listens. Any other error, as where it is another user's, says nothing about that.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

async fn serve(listener: UnixListener, participant: Arc<Participant>) {
    let router = Router::new().route("/step-down", post(step_down)).with_state(participant);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(room) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if is_us(&stream) => {
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let mut builder = http1::Builder::new();
                    builder
                        .timer(TokioTimer::new())
                        .header_read_timeout(LIFETIME)
                        .max_buf_size(8192)
                        .keep_alive(false);
                    let _ = timeout(LIFETIME, builder.serve_connection(TokioIo::new(stream), service)).await;
                    drop(room);
                });
            }
            Ok((stream, _)) => {
                warn!(uid = ?uid_of(&stream), "refused another user on the control socket");
            }
            Err(error) => {
                warn!(%error, "the control socket accepts nothing");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn uid_of(stream: &UnixStream) -> Option<u32> {
    stream.peer_cred().ok().map(|peer| peer.uid())
}

/// This process's own user, or root: they could signal it, too.
fn is_us(stream: &UnixStream) -> bool {
    may(uid_of(stream), rustix::process::geteuid().as_raw())
}

fn may(asks: Option<u32>, us: u32) -> bool {
    asks.is_some_and(|uid| uid == us || uid == 0)
}

async fn step_down(State(participant): State<Arc<Participant>>) -> Response {
    let mut said = SteppedDown {
        component: participant.component().as_str().to_owned(),
        holder: participant.holder().as_str().to_owned(),
        version: None,
    };
    let Some(version) = participant.term().map(|term| term.version()) else {
        return (StatusCode::CONFLICT, Json(serde_json::json!(said))).into_response();
    };
    said.version = Some(version);
    let mut watch = participant.watch();
    participant.step_down();
    info!(version, "stepping down: asked on the control socket");
    let ended = watch.wait_for(|view| view.term().is_none_or(|term| term.version() != version));
    match timeout(ENDS_WITHIN, ended).await {
        Ok(_) => (StatusCode::OK, Json(serde_json::json!(said))).into_response(),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, Json(serde_json::json!(said))).into_response(),
    }
}

/// Asks the process that listens there to step down.
///
/// # Errors
/// [`Failure`] when nobody listens there, or the process does not lead.
pub async fn ask(path: &Path) -> Result<SteppedDown, Failure> {
    match timeout(LIFETIME, exchange(path)).await {
        Err(_) => Err(Failure::new(
            ExitCode::Unavailable,
            format!("no answer on {} within {LIFETIME:?}", path.display()),
        )),
        Ok(Err(error)) => Err(Failure::new(
            ExitCode::Unavailable,
            format!(
                "no answer on {}: {error}; the process must run as this user and have --control-socket",
                path.display()
            ),
        )),
        Ok(Ok((StatusCode::OK, said))) => Ok(said),
        Ok(Ok((StatusCode::CONFLICT, said))) => Err(Failure::new(
            ExitCode::Refused,
            format!("{} does not lead {} (NotLeading), nothing was changed", said.holder, said.component),
        )),
        Ok(Ok((status, _))) => Err(Failure::new(
            ExitCode::NotCarriedOut,
            format!("the process was asked to step down, and still led after {ENDS_WITHIN:?} ({status})"),
        )),
    }
}

async fn exchange(path: &Path) -> Result<(StatusCode, SteppedDown), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = UnixStream::connect(path).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = Request::post("/step-down")
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let answer = async {
        let answer: hyper::Response<Incoming> =
            sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let said = serde_json::from_slice(&body.to_bytes()).map_err(|error| text(&error))?;
        Ok((status, said))
    };
    // The answer is read by the connection's future, so both are driven together.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::election::ComponentName;
    use crate::store::MemoryStore;

    fn participant() -> Arc<Participant> {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        Arc::new(Participant::builder(store, ComponentName::new("c").unwrap()).start().unwrap())
    }

    #[test]
    fn this_user_and_root_may_ask_and_nobody_else() {
        assert!(may(Some(1000), 1000) && may(Some(0), 1000));
        assert!(!may(Some(1001), 1000) && !may(None, 1000) && !may(Some(1000), 0));
    }

    #[tokio::test]
    async fn a_leader_steps_down_when_it_is_asked_on_its_socket_and_a_standby_says_that_it_does_not_lead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let participant = participant();
        let (listener, control) = bind(&path).await.unwrap();
        answer(listener, Arc::clone(&participant));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let held = participant.lead().await.unwrap().unwrap();
        let said = ask(&path).await.unwrap();
        assert_eq!((said.version, said.component.as_str()), (Some(held.version()), "c"));
        assert!(!participant.is_leader());
        held.lost().await;
        drop(held);
        let refused = ask(&path).await.unwrap_err();
        assert_eq!(refused.exit, ExitCode::Refused, "{refused}");
        drop(control);
        assert!(!path.exists());
        assert_eq!(ask(&path).await.unwrap_err().exit, ExitCode::Unavailable);
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_anything_else_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, control) = bind(&path).await.unwrap();
        let second = bind(&path).await.unwrap_err();
        assert!(second.to_string().contains("another process listens"), "{second}");
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let refused = bind(&file).await.unwrap_err();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        // Somebody else's in its place is not removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(control);
        assert!(path.exists());
    }
}
