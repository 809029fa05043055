//! Asks the agent of this network namespace.
//!
//! Whoever holds the socket is first looked at as it looks at us: a process of another user that took
//! the name is not believed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{UnixAddr, connect, getsockopt};
use nix::unistd::geteuid;

use super::serve::THOUGHT;
use super::wire::{ANSWER_LIMIT, Answer, Line, Question, WireError};
use super::{NAME, Named, open};

/// How long sending the question may take.
const SENDING: Duration = Duration::from_secs(5);
/// How long the answer may take, with the time in which it comes over.
const ANSWERING: Duration = THOUGHT.saturating_add(Duration::from_secs(30));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody holds the socket.
    #[error(
        "no policyd runs in this network namespace: ask where it does, which is on the node or in \
         its pod"
    )]
    NoAgent,
    /// Somebody else holds the socket.
    #[error("user {uid} holds the socket of policyd here{}; that is no policyd", Named(*pid))]
    Impostor {
        /// Whose process it is.
        uid: u32,
        /// Which, where that can be found out.
        pid: Option<i32>,
    },
    /// Too many wait already.
    #[error("too many wait for an answer of policyd already, try again")]
    Crowded,
    /// The socket.
    #[error("cannot ask the policyd of this network namespace")]
    Socket(#[source] io::Error),
    /// It did not answer as it should.
    #[error("the policyd of this network namespace does not answer{}", Named(*pid))]
    Unanswered {
        /// Which, where that can be found out.
        pid: Option<i32>,
        /// What went wrong.
        source: WireError,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// Asks, and waits for the answer, for less than a minute in all.
///
/// # Errors
/// Where nobody answers, or somebody refuses to.
pub fn ask(question: &Question) -> Result<Answer, AskError> {
    ask_as(NAME, question)
}

pub(super) fn ask_as(name: &[u8], question: &Question) -> Result<Answer, AskError> {
    let failed = |errno: Errno| AskError::Socket(errno.into());
    let address = UnixAddr::new_abstract(name).map_err(failed)?;
    let socket: OwnedFd = open().map_err(failed)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => {}
        Err(Errno::ECONNREFUSED) => return Err(AskError::NoAgent),
        Err(Errno::EAGAIN) => return Err(AskError::Crowded),
        Err(errno) => return Err(failed(errno)),
    }
    let peer = getsockopt(&socket, PeerCredentials).map_err(failed)?;
    let pid = Some(peer.pid()).filter(|pid| *pid > 0);
    if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
        return Err(AskError::Impostor { uid: peer.uid(), pid });
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(AskError::Socket)?;
    let mut line = Line::new(stream);
    // One who refuses does so without listening; what it said is then still there to be heard.
    let sent = line.say(question, SENDING);
    let unanswered = |source| AskError::Unanswered { pid, source };
    match line.hear(ANSWER_LIMIT, ANSWERING) {
        Ok(Answer::Refused(reason)) => Err(AskError::Refused(reason)),
        Ok(answer) => Ok(answer),
        Err(error) => Err(unanswered(sent.err().unwrap_or(error))),
    }
}
