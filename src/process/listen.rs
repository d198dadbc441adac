//! Where the HTTP endpoints are served: the address as it is written, and the socket.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

use super::exit::Failure;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 4096;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// `:PORT` or `[::]:PORT`: all addresses of this machine, IPv6 and IPv4.
    Everywhere(u16),
    /// `localhost:PORT`: the loopback interface.
    Loopback(u16),
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "{text:?} is no address to listen on; write an IP address and a port, for example 127.0.0.1:8355 or [::1]:8355, or :8355 for all addresses"
            )
        };
        let port = |port: &str| port.parse().map_err(|_| wrong());
        if let Some(number) = text.strip_prefix(':').or_else(|| text.strip_prefix("[::]:")) {
            return port(number).map(Self::Everywhere);
        }
        if let Some(number) = text.strip_prefix("localhost:") {
            return port(number).map(Self::Loopback);
        }
        text.parse().map(Self::At).map_err(|_| wrong())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(port) => write!(f, "[::]:{port}"),
            Self::Loopback(port) => write!(f, "localhost:{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::At(address)
    }
}

/// Takes the address, or says why it cannot be had.
pub async fn bind(listen: Listen) -> Result<TcpListener, Failure> {
    let bound = match listen {
        Listen::Everywhere(port) => everywhere(port, TcpSocket::new_v6),
        Listen::Loopback(port) => loopback(port),
        Listen::At(address) => open(address),
    };
    bound.map_err(|error| {
        Failure::config(match error.kind() {
            ErrorKind::AddrInUse => format!(
                "cannot listen on {listen}: another process has this port; choose another with --listen, or port 0 for any free one"
            ),
            ErrorKind::AddrNotAvailable => format!(
                "cannot listen on {listen}: no network interface of this machine has this address; choose another with --listen"
            ),
            ErrorKind::PermissionDenied => format!(
                "cannot listen on {listen}: permission denied (ports below 1024 need a privilege); choose another with --listen"
            ),
            _ => format!("cannot listen on {listen}: {error}; choose another address with --listen"),
        })
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    take(socket, address)
}

fn take(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One socket for both families, whatever the machine's default is; IPv4 alone where there is no IPv6.
fn everywhere(port: u16, open_v6: impl Fn() -> io::Result<TcpSocket>) -> io::Result<TcpListener> {
    let socket = open_v6().and_then(|socket| {
        set_ipv6_v6only(&socket, false)?;
        Ok(socket)
    });
    let without = match socket {
        Ok(socket) => match take(socket, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => error,
            taken => return taken,
        },
        Err(error) => error,
    };
    info!(error = %without, "this machine has no IPv6: listening on IPv4 addresses only");
    open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
}

/// IPv4, as most programs expect it; IPv6 where the loopback interface has no other address.
fn loopback(port: u16) -> io::Result<TcpListener> {
    match open(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)) {
        Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
            open(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).map_err(|_| error)
        }
        taken => taken,
    }
}

/// An address under which this very machine reaches a socket that listens on `address`.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let here = |ip: IpAddr| std::net::TcpListener::bind((ip, 0)).is_ok();
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        // One socket for both families: which of them this machine has is seen by trying.
        IpAddr::V6(_) if !here(v4) => v6,
        _ => v4,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn an_address_needs_a_port_and_may_leave_out_the_host() {
        for (text, reads, shown) in [
            (":80", Listen::Everywhere(80), "[::]:80"),
            ("[::]:80", Listen::Everywhere(80), "[::]:80"),
            ("localhost:0", Listen::Loopback(0), "localhost:0"),
            ("[::1]:0", Listen::At("[::1]:0".parse().unwrap()), "[::1]:0"),
            ("0.0.0.0:80", Listen::At("0.0.0.0:80".parse().unwrap()), "0.0.0.0:80"),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen, listen.to_string().as_str()), (reads, shown));
        }
        for bad in ["127.0.0.1", ":", ":65536", "::1:80", "[::]", "localhost", "example.org:80", "", ":8080/"]
        {
            let says = bad.parse::<Listen>().unwrap_err();
            assert!(says.contains("127.0.0.1:8355") && says.contains(&format!("{bad:?}")), "{says}");
        }
    }

    #[test]
    fn a_child_is_given_an_address_that_it_can_reach() {
        for (listens, reached) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "127.0.0.1:80"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), reached);
        }
    }

    async fn answers(listener: &TcpListener, ip: IpAddr) -> bool {
        let address = SocketAddr::new(ip, listener.local_addr().unwrap().port());
        TcpStream::connect(address).await.is_ok()
    }

    #[tokio::test]
    async fn everywhere_is_both_families_and_ipv4_alone_where_there_is_no_ipv6() {
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        let both = bind(Listen::Everywhere(0)).await.unwrap();
        assert!(answers(&both, v4).await && answers(&both, v6).await);
        // As with a kernel that was started with ipv6.disable=1.
        let refused = || Err(io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error()));
        let alone = everywhere(0, refused).unwrap();
        assert!(answers(&alone, v4).await && !answers(&alone, v6).await);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_a_configuration_error_that_names_the_address() {
        let first = bind("localhost:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        for listen in
            [Listen::At(address), Listen::Loopback(address.port()), Listen::Everywhere(address.port())]
        {
            let failure = bind(listen).await.unwrap_err();
            assert_eq!(failure.exit.code(), 78, "{listen}");
            let says = failure.to_string();
            assert!(says.contains(&listen.to_string()) && says.contains("another process"), "{says}");
        }
    }
}
