//! Ports of this machine that nobody else is given while a server comes, goes and comes again.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::net::TcpSocket;

/// A port of 127.0.0.1. While this value lives, the kernel gives the port to nobody who asks for any free one, nor to
/// a connection as its own end. A server that sets `SO_REUSEADDR`, as servers do, can listen on it, end and listen again.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Bound, and never listening.
    _held: TcpSocket,
}

impl Port {
    /// One that nobody has.
    ///
    /// # Errors
    /// When no port is free.
    pub fn free() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).context("no port is free")?;
        Ok(Self { number: socket.local_addr()?.port(), _held: socket })
    }

    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn no_port_that_is_held_is_given_a_second_time() {
        // Of so many picked at random, some would be equal.
        let held: Vec<Port> = (0..700).map(|_| Port::free().unwrap()).collect();
        let numbers: BTreeSet<u16> = held.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), held.len());
    }

    #[test]
    fn one_server_after_the_other_can_listen_on_it_and_no_two_at_a_time() {
        let port = Port::free().unwrap();
        for _ in 0..3 {
            TcpStream::connect(port.address()).expect_err("nobody listens");
            let server = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            let served = server.accept().unwrap();
            TcpListener::bind(port.address()).expect_err("somebody listens already");
            // The server closes first: its end of the connection lingers.
            drop(served);
            drop((server, client));
        }
    }
}
