//! Whether the program is healthy enough to lead: one HTTP or TCP probe and the rule that judges its answers.
//!
//! Beside a program (`agent`) the probe always runs: a program that does not answer yet, or no
//! more, must not lead. Around one (`run`) there is a program only while it leads, so the probe
//! runs only then, and sickness wears off after the cooldown.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::election::Moment;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Host and port to connect to, what goes into `Host:`, and path with query.
    Http {
        connect: String,
        authority: String,
        path: String,
    },
    Tcp(String),
}

impl Target {
    /// # Errors
    /// What is wrong with the URL.
    pub fn http(url: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!("--health-http {url:?} {why}; write for example http://127.0.0.1:8080/healthz")
        };
        let uri: Uri = url.parse().map_err(|_| bad("is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("asks for TLS, which this probe does not speak")),
            _ => return Err(bad("does not begin with http://")),
        }
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        let host = authority.host();
        let port = match (authority.port_u16(), authority.as_str().ends_with(host)) {
            (Some(port), _) => port,
            (None, true) => 80,
            (None, false) => return Err(bad("has a port that is no number from 0 to 65535")),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self::Http {
            connect: format!("{host}:{port}"),
            authority: authority.to_string(),
            path: path.to_owned(),
        })
    }

    /// # Errors
    /// What is wrong with the address.
    pub fn tcp(address: &str) -> Result<Self, String> {
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(address.to_owned()))
            }
            _ => Err(format!("--health-tcp {address:?} is no HOST:PORT; write for example 127.0.0.1:8080")),
        }
    }
}

/// What is asked, how often, and what counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub target: Target,
    pub interval: Duration,
    pub timeout: Duration,
    pub threshold: u32,
    pub start_grace: Duration,
}

impl Probe {
    /// Asks once.
    ///
    /// # Errors
    /// Why the answer does not count as well.
    pub async fn ask(&self) -> Result<(), String> {
        let answer = async {
            match &self.target {
                Target::Tcp(address) => connect(address).await.map(drop),
                Target::Http { connect: address, authority, path } => get(address, authority, path).await,
            }
        };
        timeout(self.timeout, answer)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))
}

async fn get(address: &str, authority: &str, path: &str) -> Result<(), String> {
    let stream = TokioIo::new(connect(address).await?);
    let broken = |error: hyper::Error| format!("no HTTP answer from {address}: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("component-lease/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        tokio::select! {
            answer = sender.send_request(request) => answer.map_err(broken),
            // The answer is read by the connection's future, so both are driven together.
            Err(error) = connection => Err(broken(error)),
        }
    };
    let status = exchange.await?.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("{address}{path} answered {status}"))
    }
}

/// Judges answers. No clock and no I/O of its own.
#[derive(Debug)]
pub(crate) struct Judge {
    threshold: u32,
    cooldown: Duration,
    healthy: bool,
    failures: u32,
    /// Failures before this moment do not count, until the first success.
    forgiving_until: Option<Moment>,
    /// A leader that became unhealthy stays so until then, whatever it answers.
    sick_until: Option<Moment>,
}

impl Judge {
    pub(crate) fn new(probe: &Probe, cooldown: Duration, healthy: bool) -> Self {
        Self {
            threshold: probe.threshold,
            cooldown,
            healthy,
            failures: 0,
            forgiving_until: None,
            sick_until: None,
        }
    }

    /// A term begins: the program may need a while to answer as a leader does.
    pub(crate) fn forgive_until(&mut self, moment: Moment) {
        self.failures = 0;
        self.forgiving_until = Some(moment);
    }

    /// Takes one answer in; returns whether the program is healthy.
    pub(crate) fn heard(&mut self, now: Moment, well: bool, leads: bool) -> bool {
        if well {
            self.failures = 0;
            self.forgiving_until = None;
            if self.sick_until.is_none_or(|until| now >= until) {
                self.sick_until = None;
                self.healthy = true;
            }
        } else if self.forgiving_until.is_none_or(|until| now >= until) {
            self.failures += 1;
            if self.failures >= self.threshold {
                if self.healthy && leads {
                    self.sick_until = Some(now + self.cooldown);
                }
                self.healthy = false;
            }
        }
        self.healthy
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(healthy: bool) -> Judge {
        let probe = Probe {
            target: Target::tcp("h:1").unwrap(),
            interval: s(1),
            timeout: s(1),
            threshold: 3,
            start_grace: s(10),
        };
        Judge::new(&probe, s(20), healthy)
    }

    fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_takes_the_threshold_in_a_row_to_be_sick() {
        let mut judge = judge(true);
        assert!(judge.heard(s(1), false, true));
        assert!(judge.heard(s(2), false, true));
        assert!(judge.heard(s(3), true, true));
        assert!(judge.heard(s(4), false, true));
        assert!(judge.heard(s(5), false, true));
        assert!(!judge.heard(s(6), false, true));
    }

    #[test]
    fn a_leader_that_was_sick_stays_away_for_the_cooldown_and_until_it_answers() {
        let mut judge = judge(true);
        for at in 1..=3 {
            judge.heard(s(at), false, true);
        }
        assert!(!judge.heard(s(4), true, false), "answers again, but within the cooldown");
        assert!(!judge.heard(s(23), false, false), "the cooldown is over, but it does not answer");
        assert!(judge.heard(s(24), true, false));
    }

    #[test]
    fn a_standby_is_well_again_as_soon_as_it_answers() {
        let mut judge = judge(false);
        assert!(!judge.heard(s(1), false, false));
        assert!(judge.heard(s(2), true, false));
        for at in 3..=5 {
            judge.heard(s(at), false, false);
        }
        assert!(judge.heard(s(6), true, false));
    }

    #[test]
    fn failures_at_the_start_of_a_term_are_forgiven_until_the_first_success() {
        let mut judge = judge(true);
        judge.forgive_until(s(10));
        for at in 1..=9 {
            assert!(judge.heard(s(at), false, true));
        }
        assert!(judge.heard(s(9), true, true));
        for at in 9..=10 {
            judge.heard(s(at), false, true);
        }
        assert!(!judge.heard(s(10), false, true), "no more forgiveness after a success");
    }

    #[test]
    fn a_url_is_taken_apart_into_what_the_probe_needs() {
        assert_eq!(
            Target::http("http://127.0.0.1:8080/healthz?deep=1"),
            Ok(Target::Http {
                connect: "127.0.0.1:8080".to_owned(),
                authority: "127.0.0.1:8080".to_owned(),
                path: "/healthz?deep=1".to_owned()
            })
        );
        assert!(
            matches!(Target::http("http://[::1]"), Ok(Target::Http { connect, .. }) if connect == "[::1]:80")
        );
        for bad in ["https://x/", "x", "ftp://x/", "http://x:99999/", ""] {
            assert!(Target::http(bad).unwrap_err().contains("--health-http"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_probe_tells_well_from_unwell() {
        let router = axum::Router::new()
            .route("/well", axum::routing::get(async || "ok"))
            .route("/moved", axum::routing::get(async || axum::response::Redirect::to("/well")));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let probe = |target: Result<Target, String>| Probe {
            target: target.unwrap(),
            interval: s(1),
            timeout: s(5),
            threshold: 1,
            start_grace: s(0),
        };
        let http = |path: &str| probe(Target::http(&format!("http://{address}{path}")));
        assert_eq!(http("/well").ask().await, Ok(()));
        assert_eq!(http("/moved").ask().await, Ok(()));
        assert!(http("/missing").ask().await.unwrap_err().contains("404"));
        let tcp = probe(Target::tcp(&address.to_string()));
        assert_eq!(tcp.ask().await, Ok(()));
        server.abort();
        let _ = server.await;
        assert!(tcp.ask().await.unwrap_err().contains("cannot connect"));
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_never_answers_is_unwell() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe {
            target: Target::http(&format!("http://{}/", listener.local_addr().unwrap())).unwrap(),
            interval: s(1),
            timeout: Duration::from_millis(50),
            threshold: 1,
            start_grace: s(0),
        };
        assert!(probe.ask().await.unwrap_err().contains("no answer within"));
    }
}
