//! One policyd for each network namespace.
//!
//! Two that write to the same tables would undo each other's rules, each sure of its own. Whoever
//! writes holds an abstract socket: it belongs to the network namespace, needs no file, and goes with
//! the process that holds it however that ends.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
};

const NAME: &[u8] = b"policyd";

/// The right to write to the tables of this network namespace, until it is dropped.
#[derive(Debug)]
pub struct Agent {
    _held: OwnedFd,
}

/// Why the right cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another process has it.
    #[error("policyd already runs in this network namespace{}", Named(*pid))]
    Running {
        /// Which, where that can be found out.
        pid: Option<i32>,
    },
    /// The socket.
    #[error("cannot find out whether policyd already runs in this network namespace")]
    Socket(#[source] io::Error),
}

struct Named(Option<i32>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, ", as process {pid}"))
    }
}

impl Agent {
    /// Takes the right to write.
    ///
    /// # Errors
    /// Where another process has it.
    pub fn hold() -> Result<Self, AgentError> {
        let failed = |errno: Errno| AgentError::Socket(errno.into());
        let address = UnixAddr::new_abstract(NAME).map_err(failed)?;
        let held = open().map_err(failed)?;
        match bind(held.as_raw_fd(), &address) {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => return Err(AgentError::Running { pid: holder(&address) }),
            Err(errno) => return Err(failed(errno)),
        }
        // Whoever connects is told our process by the kernel; nobody is ever accepted.
        listen(&held, Backlog::MAXCONN).map_err(failed)?;
        Ok(Self { _held: held })
    }
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// The process that holds the socket; one of another process namespace has no number here.
fn holder(address: &UnixAddr) -> Option<i32> {
    let asking = open().ok()?;
    connect(asking.as_raw_fd(), address).ok()?;
    let pid = getsockopt(&asking, PeerCredentials).ok()?.pid();
    (pid > 0).then_some(pid)
}
