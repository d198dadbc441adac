//! Both ends of a node's network in one process.
//!
//! A socket belongs for ever to the network in which it was made, whichever process uses it. So a
//! thread that has moved into the node's network namespace makes the sockets that are to be
//! in there, and no interface, route or rule of this machine is touched.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

#[derive(Debug)]
pub struct Network {
    /// Threads in the node's network.
    inside: Option<Runtime>,
    /// Threads in this machine's.
    outside: Option<Runtime>,
}

impl Network {
    /// Enters the network of the node whose process number stands in this file.
    pub fn enter(pid_file: &Path) -> Result<Self> {
        let pid = std::fs::read_to_string(pid_file).context("the node left no process number")?;
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", pid.trim())).context("the node has ended")?;
        let entering = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the node's network")?;
            // Threads begin in the network of the thread that makes them.
            runtime("in-node")
        });
        let inside = entering.join().map_err(|_| anyhow!("entering the node's network panicked"))??;
        Ok(Self { inside: Some(inside), outside: Some(runtime("out-of-node")?) })
    }

    pub fn inside(&self) -> &Handle {
        self.inside.as_ref().expect("present until dropped").handle()
    }

    fn outside(&self) -> &Handle {
        self.outside.as_ref().expect("present until dropped").handle()
    }

    /// From a free port out here to an address in there.
    pub fn forward(&self, target: SocketAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port to forward from")?;
        relay(listener, target, self.inside())
    }

    /// From an address in there to a server out here.
    pub fn expose(&self, target: SocketAddr, at: SocketAddr) -> Result<SocketAddr> {
        relay(self.bind_inside(at)?, target, self.outside())
    }

    fn bind_inside(&self, at: SocketAddr) -> Result<TcpListener> {
        // Spawned, for `block_on` would poll on this very thread, in the wrong network.
        let (send, receive) = std::sync::mpsc::channel();
        self.inside().spawn(async move {
            let _ = send.send(TcpListener::bind(at));
        });
        let bound = receive.recv().map_err(|_| anyhow!("the node's network is gone"))?;
        bound.with_context(|| format!("cannot listen on {at} in the node's network"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Not waiting: this may run on a thread of another runtime.
        for runtime in [self.inside.take(), self.outside.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// Accepts on a listener of one network and connects from the network of the runtime.
fn relay(listener: TcpListener, target: SocketAddr, runtime: &Handle) -> Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    runtime.spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(target).await else { return };
                let _ = near.set_nodelay(true);
                let _ = far.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Ok(address)
}

fn runtime(name: &str) -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()?)
}
