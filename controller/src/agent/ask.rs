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

use super::look::THOUGHT;
use super::wire::{ANSWER_LIMIT, Answer, Line, Question, WireError};
use super::{NAME, Named, is_trusted, open};

/// How long sending the question may take.
const SENDING: Duration = Duration::from_secs(5);
/// How long the answer may take, with the time in which it comes over.
const ANSWERING: Duration = THOUGHT.saturating_add(Duration::from_secs(30));

/// How long one who is followed may say nothing at all.
const SILENCE: Duration = Duration::from_secs(15);

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

/// Asks for what happens, and hands over each answer for as long as `go_on` says so.
///
/// # Errors
/// Where nobody answers, somebody refuses to, or the one who is followed ends.
pub fn follow(question: &Question, mut go_on: impl FnMut(Answer) -> bool) -> Result<(), AskError> {
    let mut asked = Asked::of(NAME, question)?;
    while go_on(asked.answer(SILENCE)?) {}
    Ok(())
}

pub(super) fn ask_as(name: &[u8], question: &Question) -> Result<Answer, AskError> {
    Asked::of(name, question)?.answer(ANSWERING)
}

/// A question that was sent.
struct Asked {
    line: Line,
    pid: Option<i32>,
    /// Why it was not, as where the other side refuses without listening: what it said is then still
    /// there to be heard.
    unsent: Option<WireError>,
}

impl Asked {
    fn of(name: &[u8], question: &Question) -> Result<Self, AskError> {
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
        if !is_trusted(peer.uid()) {
            return Err(AskError::Impostor { uid: peer.uid(), pid });
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).map_err(AskError::Socket)?;
        let mut line = Line::new(stream);
        let unsent = line.say(question, SENDING).err();
        Ok(Self { line, pid, unsent })
    }

    fn answer(&mut self, time: Duration) -> Result<Answer, AskError> {
        match self.line.hear(ANSWER_LIMIT, time) {
            Ok(Answer::Refused(reason)) => Err(AskError::Refused(reason)),
            Ok(answer) => Ok(answer),
            Err(error) => {
                let source = self.unsent.take().unwrap_or(error);
                Err(AskError::Unanswered { pid: self.pid, source })
            }
        }
    }
}
