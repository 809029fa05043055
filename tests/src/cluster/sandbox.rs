//! A pod as a network namespace in which somebody serves.
//!
//! Every pod serves TCP and UDP on [`PORTS`], of both families, and tells whoever comes its own name
//! and from where it sees them come: so a test knows which pod a Service led to, and what
//! masquerading did on the way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::failed;
use crate::error::LabError;
use crate::namespace::Namespace;

/// What every pod serves.
pub const PORTS: [u16; 3] = [80, 81, 8080];

/// A pod's namespace. It goes with this.
#[derive(Debug)]
pub struct Sandbox {
    /// Where its sockets are.
    pub namespace: Arc<Namespace>,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Which node it is on.
    pub node: usize,
    /// The node's end of its link.
    pub(super) device: String,
    server: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Sandbox {
    /// Serves as `name` in `namespace`, which is joined to its node already.
    ///
    /// # Errors
    /// Where a port cannot be had.
    pub(super) fn serve(
        name: &str,
        namespace: Namespace,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
        (node, device): (usize, String),
    ) -> Result<Self, LabError> {
        let opened = namespace.enter(Listeners::open)?;
        let listeners = opened.map_err(|error| failed(&format!("serve in {name}"), error))?;
        let over = Arc::new(AtomicBool::new(false));
        let server = {
            let (name, over) = (name.to_owned(), Arc::clone(&over));
            thread::spawn(move || listeners.serve(&name, &over))
        };
        let namespace = Arc::new(namespace);
        Ok(Self { namespace, v4, v6, node, device, server: Some((over, server)) })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some((over, server)) = self.server.take() {
            over.store(true, Ordering::Relaxed);
            let _ = server.join();
        }
    }
}

struct Listeners {
    tcp: Vec<TcpListener>,
    udp: BTreeMap<u16, UdpSocket>,
}

impl Listeners {
    fn open() -> io::Result<Self> {
        let (mut tcp, mut udp) = (Vec::new(), BTreeMap::new());
        for port in PORTS {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            let listener = TcpListener::bind(any)?;
            listener.set_nonblocking(true)?;
            tcp.push(listener);
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            udp.insert(port, socket);
        }
        Ok(Self { tcp, udp })
    }

    fn serve(&self, name: &str, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let mut watched: Vec<PollFd<'_>> = self
                .tcp
                .iter()
                .map(AsFd::as_fd)
                .chain(self.udp.values().map(AsFd::as_fd))
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let _ = poll(&mut watched, PollTimeout::from(100_u8));
            for listener in &self.tcp {
                while let Ok((mut stream, from)) = listener.accept() {
                    // A client that has gone away is none of the server's business.
                    let _ = stream.write_all(greeting(name, from).as_bytes());
                }
            }
            for socket in self.udp.values() {
                let mut buffer = [0_u8; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(greeting(name, from).as_bytes(), from);
                }
            }
        }
    }
}

/// What a client is told: who serves, and from where the client is seen to come.
fn greeting(name: &str, from: SocketAddr) -> String {
    format!("{name} {}", from.ip().to_canonical())
}
