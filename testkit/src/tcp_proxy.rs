//! A TCP proxy on loopback that fails the way networks do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// So many pieces of data can be on their way in one direction before the sender has to wait.
const PIECES: usize = 64;

/// What the network does to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Open,
    /// Takes bytes and delivers them only after the path is open again, as TCP does when
    /// packets are lost for a while.
    Stalled,
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    to_server: Path,
    to_client: Path,
    /// Added to each piece of data, in each direction.
    delay: Duration,
    /// Counts the cuts: a connection ends when it sees another number than its own.
    cuts: u64,
    refusing: bool,
    /// A connection that carries nothing for so long is closed.
    closes_idle: Option<Duration>,
}

/// Passes connections on to a target until told otherwise. Ends with this value.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    weather: watch::Sender<Weather>,
    /// Its own, so that the proxy works on while the test blocks, and ends when it is dropped.
    runtime: Option<Runtime>,
}

impl TcpProxy {
    /// A proxy on a free port of 127.0.0.1 in front of `target`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no port for a proxy")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (weather, seen) = watch::channel(Weather {
            to_server: Path::Open,
            to_client: Path::Open,
            delay: Duration::ZERO,
            cuts: 0,
            refusing: false,
            closes_idle: None,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        runtime.spawn(accept(listener, target, seen));
        Ok(Self { port, weather, runtime: Some(runtime) })
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Ends every connection now; new ones are served.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Ends every connection now and every new one at once, until [`TcpProxy::heal`].
    pub fn refuse(&self) {
        self.weather.send_modify(|weather| {
            weather.cuts += 1;
            weather.refusing = true;
        });
    }

    /// Nothing gets through in either direction, and neither side gets an error.
    pub fn black_hole(&self) {
        self.set_paths(Path::Stalled, Path::Stalled);
    }

    /// Requests arrive, answers do not: what is asked happens, and the client cannot know.
    pub fn lose_answers(&self) {
        self.set_paths(Path::Open, Path::Stalled);
    }

    pub fn set_paths(&self, to_server: Path, to_client: Path) {
        self.weather.send_modify(|weather| {
            weather.to_server = to_server;
            weather.to_client = to_client;
        });
    }

    /// Each piece of data arrives this much later; what is sent first on a connection, by as much as its
    /// handshake takes, two delays, more.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Connections that carry nothing for this long are closed, as many proxies and firewalls do.
    pub fn close_idle(&self, after: Duration) {
        self.weather.send_modify(|weather| weather.closes_idle = Some(after));
    }

    /// Everything works again; what was held back is delivered.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| {
            weather.to_server = Path::Open;
            weather.to_client = Path::Open;
            weather.delay = Duration::ZERO;
            weather.refusing = false;
            weather.closes_idle = None;
        });
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: watch::Receiver<Weather>) {
    while let Ok((client, _)) = listener.accept().await {
        if weather.borrow().refusing {
            continue;
        }
        tokio::spawn(connection(client, target, weather.clone()));
    }
}

async fn connection(client: TcpStream, target: SocketAddr, weather: watch::Receiver<Weather>) {
    let born = weather.borrow().cuts;
    let cut = {
        let mut weather = weather.clone();
        async move {
            let _ = weather.wait_for(|now| now.cuts != born).await;
        }
    };
    let carried = AtomicUsize::new(0);
    let idle = async {
        let mut weather = weather.clone();
        loop {
            let limit = weather.borrow_and_update().closes_idle;
            let before = carried.load(Ordering::Relaxed);
            match limit {
                None => drop(weather.changed().await),
                Some(limit) => {
                    tokio::time::sleep(limit).await;
                    if carried.load(Ordering::Relaxed) == before {
                        return;
                    }
                }
            }
        }
    };
    let mut weather = weather.clone();
    let passing = async {
        // The handshake of TCP, which the kernel has done already.
        let delay = weather.borrow().delay;
        tokio::time::sleep(delay * 2).await;
        // A lost SYN: the client waits for its connection's first answer in vain.
        let _ = weather.wait_for(|now| now.to_server == Path::Open).await;
        let Ok(server) = TcpStream::connect(target).await else { return };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::join!(
            pass(client_read, server_write, weather.clone(), &carried, |now| now.to_server),
            pass(server_read, client_write, weather.clone(), &carried, |now| now.to_client),
        );
    };
    tokio::select! {
        () = cut => {}
        () = idle => {}
        () = passing => {}
    }
}

/// Passes one direction on, and its end. What is sent while something is on its way travels behind it: on a long
/// wire, too, two pieces take no longer than one.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    carried: &AtomicUsize,
    path: fn(&Weather) -> Path,
) {
    let (wire, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let delays = weather.clone();
    let sending = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut buffer).await.unwrap_or(0);
            carried.fetch_add(length, Ordering::Relaxed);
            let arrives = Instant::now() + delays.borrow().delay;
            if wire.send((arrives, buffer[..length].to_vec())).await.is_err() || length == 0 {
                // What is on its way arrives.
                return std::future::pending().await;
            }
        }
    };
    let delivering = async {
        while let Some((arrives, piece)) = arriving.recv().await {
            if arrives > Instant::now() {
                tokio::time::sleep_until(arrives).await;
            }
            if weather.wait_for(|now| path(now) == Path::Open).await.is_err() {
                return;
            }
            if piece.is_empty() {
                let _ = to.shutdown().await;
                return;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = delivering => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::wait;

    const PATIENCE: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_millis(200);

    /// A server that sends everything back and counts what it got.
    async fn echo() -> (SocketAddr, watch::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        count.send_modify(|count| *count += length);
                        let _ = stream.write_all(&buffer[..length]).await;
                    }
                });
            }
        });
        (address, counted)
    }

    async fn ask(stream: &mut TcpStream, within: Duration) -> Option<u8> {
        stream.write_all(b"x").await.ok()?;
        answer(stream, within).await
    }

    async fn answer(stream: &mut TcpStream, within: Duration) -> Option<u8> {
        tokio::time::timeout(within, stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn a_black_hole_swallows_in_silence_and_gives_back_when_healed() {
        let (target, mut counted) = echo().await;
        let proxy = TcpProxy::start(target).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, PATIENCE).await, Some(b'x'));
        proxy.black_hole();
        assert_eq!(ask(&mut stream, SILENCE).await, None);
        assert_eq!(*counted.borrow_and_update(), 1);
        proxy.heal();
        assert_eq!(answer(&mut stream, PATIENCE).await, Some(b'x'));
        assert_eq!(*counted.borrow(), 2);
    }

    #[tokio::test]
    async fn with_answers_lost_the_server_still_hears() {
        let (target, mut counted) = echo().await;
        let proxy = TcpProxy::start(target).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, PATIENCE).await, Some(b'x'));
        proxy.lose_answers();
        assert_eq!(ask(&mut stream, SILENCE).await, None);
        tokio::time::timeout(PATIENCE, counted.wait_for(|count| *count == 2)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_cut_ends_what_there_is_and_a_refusal_what_comes() {
        let (target, _counted) = echo().await;
        let proxy = TcpProxy::start(target).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, PATIENCE).await, Some(b'x'));
        proxy.cut();
        assert_eq!(answer(&mut stream, PATIENCE).await, None);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, PATIENCE).await, Some(b'x'));
        proxy.refuse();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, PATIENCE).await, None);
        proxy.heal();
        wait::until_true(PATIENCE, "a healed connection", async || {
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            ask(&mut stream, PATIENCE).await == Some(b'x')
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_delay_counts_for_each_direction() {
        let (target, _counted) = echo().await;
        let proxy = TcpProxy::start(target).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.delay(Duration::from_millis(60));
        let asked = Instant::now();
        assert_eq!(ask(&mut stream, PATIENCE).await, Some(b'x'));
        assert!(asked.elapsed() >= Duration::from_millis(120));
    }

    #[tokio::test]
    async fn what_is_sent_in_pieces_takes_no_longer_than_what_is_sent_at_once() {
        let (target, _counted) = echo().await;
        let proxy = TcpProxy::start(target).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        assert_eq!(ask(&mut stream, PATIENCE).await, Some(b'x'));
        proxy.delay(Duration::from_millis(500));
        let asked = Instant::now();
        for _ in 0..5 {
            stream.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..5 {
            assert_eq!(answer(&mut stream, PATIENCE).await, Some(b'x'));
        }
        let took = asked.elapsed();
        // One after the other they would need five times 500 ms.
        assert!(took >= Duration::from_millis(1000) && took < Duration::from_millis(2400), "{took:?}");
    }
}
