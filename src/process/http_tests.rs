//! Each limit, on real sockets.

use std::net::Ipv4Addr;

use axum::Extension;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const SOON: Duration = Duration::from_secs(20);
const PATIENT: Limits = Limits { connections: 8, head: SOON, lifetime: SOON, stalled: SOON };

/// A server with these limits, and what ends it.
async fn server(limits: Limits) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new()
        .route(
            "/",
            get(async |Extension(asker): Extension<Asker>| if asker.is_local() { "near" } else { "far" }),
        )
        .route("/long", get(async || "x".repeat(64 << 20)));
    let end = CancellationToken::new();
    tokio::spawn(serve_within(limits, listener, router, end.clone()));
    (SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), end)
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Whether it is closed from the other side before long; what came before that is thrown away.
async fn closes(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    timeout(SOON, end).await.is_ok()
}

/// The answer on a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    while !text.ends_with("near") && !text.ends_with("far") {
        let mut buffer = [0; 1024];
        let read = timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {text:?}");
        text += std::str::from_utf8(&buffer[..read]).unwrap();
    }
    text
}

const HALF: &str = "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ";

#[test]
fn the_oldest_connection_of_the_client_with_the_most_makes_room() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (a, b, c) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("::1"));
    assert_eq!(victim([(c, 1), (a, 2), (b, 3), (a, 4)].into_iter()), Some(2));
    assert_eq!(victim([(c, 1), (a, 2), (b, 3), (b, 4), (a, 5)].into_iter()), Some(2));
    assert_eq!(victim([(c, 1), (a, 2), (b, 3)].into_iter()), Some(1));
    assert_eq!(victim(std::iter::empty()), None);
    assert_eq!(group(ip("2001:db8::1:2:3:4")), group(ip("2001:db8::ffff:0:0:1")));
    assert_ne!(group(ip("2001:db8::1")), group(ip("2001:db8:0:1::1")));
    assert_eq!(group(c), c);
    assert_eq!(group(a), a);
}

#[test]
fn only_a_request_over_the_loopback_interface_is_local() {
    let local = |from: &str, to: &str| {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
        Asker::new(at(from), at(to)).is_local()
    };
    assert!(local("127.0.0.1", "127.0.0.1") && local("::1", "::1"));
    assert!(local("::ffff:127.0.0.1", "::ffff:127.0.0.1"), "IPv4 on a socket for both families");
    assert!(!local("10.0.0.1", "10.0.0.2") && !local("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
    assert!(!local("127.0.0.6", "10.0.0.2"), "a proxy in front of the pod");
    assert!(!local("10.0.0.2", "127.0.0.1"));
}

#[tokio::test]
async fn half_sent_requests_never_keep_others_from_an_answer_nor_does_their_number_rise() {
    let (address, _end) = server(PATIENT).await;
    let mut half = Vec::new();
    for _ in 0..100 {
        half.push(send(address, HALF).await);
        let mut asks = TcpStream::connect(address).await.unwrap();
        assert!(answer(&mut asks).await.ends_with("near"));
    }
    // What was there first has made room.
    for stream in &mut half[..90] {
        assert!(closes(stream).await);
    }
}

#[tokio::test]
async fn a_flood_costs_nobody_else_a_connection_that_is_open() {
    let (address, _end) = server(PATIENT).await;
    // All of 127.0.0.0/8 is this machine.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(address).await.unwrap();
    assert!(answer(&mut other).await.ends_with("near"));
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(send(address, HALF).await);
        assert!(answer(&mut other).await.ends_with("near"));
    }
}

#[tokio::test]
async fn a_request_whose_head_does_not_come_is_closed_and_so_is_a_connection_that_asks_nothing_more() {
    let (address, _end) = server(Limits { head: Duration::from_millis(200), ..PATIENT }).await;
    let mut half = send(address, HALF).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut asked = TcpStream::connect(address).await.unwrap();
    answer(&mut asked).await;
    // Byte by byte is not faster.
    let mut trickles = send(address, HALF).await;
    let begun = Instant::now();
    while trickles.write_all(b"x").await.is_ok() {
        assert!(begun.elapsed() < SOON, "it may go on for ever");
        sleep(Duration::from_millis(20)).await;
    }
    for stream in [&mut half, &mut silent, &mut asked] {
        assert!(closes(stream).await);
    }
}

#[tokio::test]
async fn a_head_that_is_longer_than_the_buffer_is_refused() {
    let (address, _end) = server(PATIENT).await;
    let mut long = TcpStream::connect(address).await.unwrap();
    let head = format!("{HALF}{}", "x".repeat(3 * BUFFER));
    // It may be closed before all of it is sent.
    let _ = long.write_all(head.as_bytes()).await;
    let mut text = Vec::new();
    let _ = timeout(SOON, long.read_to_end(&mut text)).await.unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off() {
    let limits = Limits { lifetime: Duration::from_millis(500), head: Duration::from_millis(200), ..PATIENT };
    let (address, _end) = server(limits).await;
    let mut slow = send(address, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Not even a byte now and then keeps it.
    let (mut read, mut byte) = (0_usize, [0; 1]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        read += slow.read(&mut byte).await.unwrap_or(0);
        sleep(Duration::from_millis(20)).await;
    }
    let mut rest = Vec::new();
    let _ = timeout(SOON, slow.read_to_end(&mut rest)).await.expect("it is over");
    assert!(read + rest.len() < 64 << 20, "all of it came");
}

#[tokio::test]
async fn an_old_connection_is_closed_with_an_answer_and_not_between_two() {
    let (address, _end) = server(Limits { lifetime: Duration::from_millis(200), ..PATIENT }).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    loop {
        let text = answer(&mut kept).await;
        if text.contains("connection: close") {
            break;
        }
        assert!(begun.elapsed() < SOON, "it may go on for ever");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(closes(&mut kept).await);
}

#[tokio::test]
async fn the_end_waits_for_no_connection() {
    let (address, end) = server(PATIENT).await;
    let (mut half, mut idle) = (send(address, HALF).await, TcpStream::connect(address).await.unwrap());
    answer(&mut idle).await;
    end.cancel();
    assert!(closes(&mut half).await && closes(&mut idle).await);
    assert!(TcpStream::connect(address).await.is_err());
}
