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
//! are answered, and nobody can keep the agent busy: see [`serve`]. Everybody can also take the name
//! before we do, a pod in the node's network without any privilege among them. That must not stop
//! enforcement: where the holder is another user's, or takes no connection for a second, policyd says
//! so and goes on without a socket. A process of root in the node's network is believed.

mod ask;
pub mod desired;
pub(crate) mod look;
pub mod pod;
mod serve;
pub mod status;
pub mod verify;
pub mod wire;

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, getsockopt,
    listen, shutdown, socket,
};
use nix::unistd::{Pid, geteuid};
use tracing::error;

pub use self::ask::{AskError, ask, follow};
use crate::denied::Followers;
use crate::source::Input;

const NAME: &[u8] = b"policyd";
/// How long whoever holds the name without listening is given to listen or to be gone, and how often
/// that is looked at.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// The right to write to the tables of this network namespace, until it is dropped.
#[derive(Debug)]
pub struct Agent {
    /// Not where somebody who is no policyd keeps the name from us.
    held: Result<OwnedFd, Unheld>,
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
        Self::hold_within(name, PATIENCE)
    }

    fn hold_within(name: &[u8], patience: Duration) -> Result<Self, AgentError> {
        let failed = |errno: Errno| AgentError::Socket(errno.into());
        let address = UnixAddr::new_abstract(name).map_err(failed)?;
        let held = open().map_err(failed)?;
        let patience = Instant::now() + patience;
        let held = loop {
            match bind(held.as_raw_fd(), &address) {
                Ok(()) => break Ok(held),
                Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(failed(errno)),
            }
            match holder(&address) {
                // What it had begun to start, and was not another program yet, holds the name a moment
                // longer than it.
                Holder::Policyd(Some(pid)) if is_gone(pid) && Instant::now() < patience => {
                    thread::sleep(PAUSE);
                }
                Holder::Policyd(pid) => return Err(AgentError::Running { pid }),
                // It may be ending, or about to listen.
                Holder::Silent if Instant::now() < patience => thread::sleep(PAUSE),
                Holder::Silent => break Err(Unheld::by("somebody who takes no connection")),
                Holder::Stranger { uid, pid } => {
                    break Err(Unheld::by(&format!("user {uid}{}", Named(pid))));
                }
            }
        };
        match &held {
            // Whoever connects is told our process by the kernel, before anybody is accepted.
            Ok(held) => listen(held, Backlog::MAXCONN).map_err(failed)?,
            Err(Unheld(who)) => error!("{who}: end that process"),
        }
        Ok(Self { held, since: Instant::now(), serving: None })
    }

    /// Who keeps the socket from us, so that nobody is answered.
    #[must_use]
    pub fn unheld(&self) -> Option<&str> {
        self.held.as_ref().err().map(|Unheld(who)| who.as_str())
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
        let Ok(held) = &self.held else { return Ok(()) };
        let listener = UnixListener::from(held.try_clone()?);
        listener.set_nonblocking(false)?;
        self.serving =
            Some(serve::start(listener, serve::Context { inbox, since: self.since, denied })?);
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Wakes the thread that accepts; the name is free only once its descriptor is closed too.
        if let Ok(held) = &self.held {
            let _ = shutdown(held.as_raw_fd(), Shutdown::Both);
        }
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Why there is no socket.
#[derive(Debug)]
struct Unheld(String);

impl Unheld {
    fn by(who: &str) -> Self {
        Self(format!(
            "{who} holds the socket of policyd in this network namespace and is no policyd, so that there \
             is no `policyd status`, and nothing keeps a second policyd from running"
        ))
    }
}

/// Who holds the socket.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Root or our own user; a process of another process namespace has no number here.
    Policyd(Option<i32>),
    /// Another user, who is no policyd.
    Stranger { uid: u32, pid: Option<i32> },
    /// Whoever it is takes no connection. A policyd listens at once, and accepts.
    Silent,
}

impl Holder {
    fn of(uid: u32, pid: i32) -> Self {
        let pid = (pid > 0).then_some(pid);
        if is_trusted(uid) { Self::Policyd(pid) } else { Self::Stranger { uid, pid } }
    }
}

fn holder(address: &UnixAddr) -> Holder {
    let Ok(asking) = open() else { return Holder::Policyd(None) };
    match connect(asking.as_raw_fd(), address) {
        Ok(()) => {}
        Err(Errno::ECONNREFUSED | Errno::EAGAIN) => return Holder::Silent,
        Err(_) => return Holder::Policyd(None),
    }
    match getsockopt(&asking, PeerCredentials) {
        Ok(peer) => Holder::of(peer.uid(), peer.pid()),
        Err(_) => Holder::Policyd(None),
    }
}

/// Whether a process of our process namespace has ended, be it that nobody has taken note of that yet.
fn is_gone(pid: i32) -> bool {
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return true;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z'))
}

/// Whether a process of that user may be policyd, or ask it: root, or our own user.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_our_own_user_are_believed_to_be_policyd_and_nobody_else() {
        let own = geteuid().as_raw();
        assert_eq!(Holder::of(0, 7), Holder::Policyd(Some(7)));
        assert_eq!(Holder::of(own, 0), Holder::Policyd(None));
        assert_eq!(Holder::of(own + 7, 9), Holder::Stranger { uid: own + 7, pid: Some(9) });
    }

    #[test]
    fn who_takes_the_name_and_does_not_listen_stops_nobody() {
        let name = format!("policyd-test-squat-{}", std::process::id()).into_bytes();
        let squatter = open().unwrap();
        bind(squatter.as_raw_fd(), &UnixAddr::new_abstract(&name).unwrap()).unwrap();
        let mut agent = Agent::hold_as(&name).unwrap();
        assert!(agent.unheld().unwrap().starts_with("somebody who takes no connection holds "));
        agent.serve(std::sync::mpsc::channel().0, None).unwrap();
        drop((agent, squatter));
        assert_eq!(Agent::hold_as(&name).unwrap().unheld(), None);
    }

    #[test]
    fn a_policyd_that_takes_no_connection_yet_is_one_all_the_same() {
        let name = format!("policyd-test-early-{}", std::process::id()).into_bytes();
        let _first = Agent::hold_as(&name).unwrap();
        let second = Agent::hold_as(&name).unwrap_err();
        let pid = i32::try_from(std::process::id()).ok();
        assert!(matches!(second, AgentError::Running { pid: named } if named == pid), "{second}");
    }

    #[test]
    fn one_that_was_killed_is_gone_before_and_after_somebody_takes_note() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_gone(own));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!is_gone(pid));
        child.kill().unwrap();
        let begun = Instant::now();
        while !is_gone(pid) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(PAUSE);
        }
        child.wait().unwrap();
        assert!(is_gone(pid));
    }

    #[test]
    fn a_policyd_that_is_ending_is_waited_for() {
        let name = format!("policyd-test-ending-{}", std::process::id()).into_bytes();
        let ending = open().unwrap();
        bind(ending.as_raw_fd(), &UnixAddr::new_abstract(&name).unwrap()).unwrap();
        let end = thread::spawn(move || {
            thread::sleep(PATIENCE / 4);
            drop(ending);
        });
        let agent = Agent::hold_within(&name, Duration::from_secs(20)).unwrap();
        assert_eq!(agent.unheld(), None);
        end.join().unwrap();
    }
}
