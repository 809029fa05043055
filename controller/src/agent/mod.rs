//! One policyd for each network namespace, and what it answers to those who ask.
//!
//! ```text
//!  policyd status ── ask ──> @policyd ── serve ──Input::Asked──> the loop
//!                    <── one line of JSON ──
//! ```
//!
//! Two that write to the same tables would undo each other's rules, each sure of its own. Whoever
//! writes holds an abstract socket: it belongs to the network namespace, needs no file, and goes with
//! the process that holds it however that ends. Once there is a loop to ask, the same socket answers
//! ([`Agent::serve`]); until then those who connect wait.
//!
//! Every process of the network namespace can connect, whoever it is. So only root and our own user
//! are answered, and nobody can keep the agent busy: see [`serve`].

mod ask;
pub mod desired;
pub(crate) mod look;
pub mod pod;
mod serve;
pub mod status;
pub mod verify;
pub mod wire;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, getsockopt,
    listen, shutdown, socket,
};
use nix::unistd::geteuid;

pub use self::ask::{AskError, ask, follow};
use crate::denied::Followers;
use crate::source::Input;

const NAME: &[u8] = b"policyd";

/// The right to write to the tables of this network namespace, until it is dropped.
#[derive(Debug)]
pub struct Agent {
    held: OwnedFd,
    since: Instant,
    serving: Option<JoinHandle<()>>,
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
    /// A process of somebody else has the name.
    #[error(
        "user {uid} holds the socket by which policyd is known in this network namespace{}; end \
         that first, so that no two write", Named(*pid)
    )]
    Taken {
        /// Whose process it is.
        uid: u32,
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
        Self::hold_as(NAME)
    }

    fn hold_as(name: &[u8]) -> Result<Self, AgentError> {
        let failed = |errno: Errno| AgentError::Socket(errno.into());
        let address = UnixAddr::new_abstract(name).map_err(failed)?;
        let held = open().map_err(failed)?;
        match bind(held.as_raw_fd(), &address) {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => return Err(holder(&address)),
            Err(errno) => return Err(failed(errno)),
        }
        // Whoever connects is told our process by the kernel, before anybody is accepted.
        listen(&held, Backlog::MAXCONN).map_err(failed)?;
        Ok(Self { held, since: Instant::now(), serving: None })
    }

    /// Answers those who connect, on a thread of its own, by what the loop behind `inbox` knows, until
    /// the right is given up. Denied traffic can be followed where `denied` tells of it.
    ///
    /// # Errors
    /// Where the system has no descriptor or thread to give.
    pub fn serve(
        &mut self,
        inbox: Sender<Input>,
        denied: Option<Arc<Followers>>,
    ) -> io::Result<()> {
        let listener = UnixListener::from(self.held.try_clone()?);
        listener.set_nonblocking(false)?;
        self.serving =
            Some(serve::start(listener, serve::Context { inbox, since: self.since, denied })?);
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Wakes the thread that accepts; the name is free only once its descriptor is closed too.
        let _ = shutdown(self.held.as_raw_fd(), Shutdown::Both);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Who holds the socket; a process of another process namespace has no number here.
fn holder(address: &UnixAddr) -> AgentError {
    let ask = || {
        let asking = open()?;
        connect(asking.as_raw_fd(), address)?;
        getsockopt(&asking, PeerCredentials)
    };
    match ask() {
        Ok(peer) => {
            let pid = Some(peer.pid()).filter(|pid| *pid > 0);
            let uid = peer.uid();
            if is_trusted(uid) {
                AgentError::Running { pid }
            } else {
                AgentError::Taken { uid, pid }
            }
        }
        Err(_) => AgentError::Running { pid: None },
    }
}

/// Whether a process of that user may be policyd, or ask it: root, or our own user.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}
