//! Answers those who connect to the agent's socket.
//!
//! One thread accepts, and each client has a thread of its own for as long as its one question takes.
//! Whoever connects is taken for hostile: the kernel says which user it is, and anyone but root and
//! our own user gets a line that says no, without being heard. The others are few at a time, and
//! bounded in size and time. Nothing here can stop enforcement: the loop is asked through its inbox
//! and answers between two writes, and where it does not in time, the client is told so.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use tracing::{debug, warn};

use super::look::{Unanswered, look};
use super::wire::{Answer, Line, QUESTION_LIMIT, Question};
use super::{desired, is_trusted, pod, status};
use crate::denied::{Follower, Followers, Unfollowed};
use crate::source::Input;
use crate::sync::View;

/// How many are answered at the same time.
const CLIENTS: usize = 8;
/// How long a client may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long taking a long answer may take.
const DELIVERY: Duration = Duration::from_secs(30);
/// How often one who follows hears of us though nothing was denied.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long to wait where no connection can be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Where answers come from.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) inbox: Sender<Input>,
    /// Since when the agent holds its right.
    pub(super) since: Instant,
    /// Where denied traffic can be followed, if it is told of.
    pub(super) denied: Option<Arc<Followers>>,
}

impl Context {
    /// What the loop sees, by a question that it can answer quickly.
    pub(super) fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        look(&self.inbox, question)
    }

    fn answer(&self, question: &Question) -> Answer {
        let answer = match question {
            Question::Status => status::of(self).map(|status| Answer::Status(Box::new(status))),
            Question::Desired => desired::of(self).map(|all| Answer::Desired(Box::new(all))),
            Question::Pod(name) => pod::of(self, name).map(|found| match found {
                Ok(detail) => Answer::Pod(Box::new(detail)),
                Err(unknown) => Answer::Refused(unknown.to_string()),
            }),
            Question::Trace => Ok(Answer::Refused("it is answered as it happens".to_owned())),
        };
        answer.unwrap_or_else(|unanswered| Answer::Refused(unanswered.to_string()))
    }
}

/// Serves until the socket is shut down.
pub(super) fn start(listener: UnixListener, context: Context) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("agent".to_owned()).spawn(move || accept(&listener, &context))
}

fn accept(listener: &UnixListener, context: &Context) {
    let clients = Arc::new(AtomicUsize::new(0));
    let mut told = false;
    loop {
        match listener.accept() {
            Ok((stream, _)) => admit(stream, &clients, context),
            // It was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                if !told {
                    warn!(%error, "cannot accept on the agent's socket");
                    told = true;
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

/// One of those who are answered at the same time.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(clients.clone());
        (clients.fetch_add(1, Ordering::SeqCst) < CLIENTS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn admit(stream: UnixStream, clients: &Arc<AtomicUsize>, context: &Context) {
    let Ok(peer) = getsockopt(&stream, PeerCredentials) else { return };
    if let Some(refusal) = refusal(peer.uid()) {
        debug!(pid = peer.pid(), uid = peer.uid(), "refused on the agent's socket");
        return refuse(stream, refusal);
    }
    let Some(seat) = Seat::take(clients) else {
        return refuse(stream, "policyd is answering others, try again".to_owned());
    };
    let context = context.clone();
    let client = thread::Builder::new().name("client".to_owned()).spawn(move || {
        let _seat = seat;
        converse(Line::new(stream), &context);
    });
    if let Err(error) = client {
        debug!(%error, "no thread for a client");
    }
}

/// Why a user is not heard.
fn refusal(uid: u32) -> Option<String> {
    (!is_trusted(uid))
        .then(|| format!("policyd answers root and its own user, and you are user {uid}"))
}

/// Says no. The buffer of a new connection takes so short a line without waiting.
fn refuse(stream: UnixStream, reason: String) {
    if stream.set_nonblocking(true).is_ok() {
        let _ = Line::new(stream).say(Answer::Refused(reason), Duration::from_millis(1));
    }
}

fn converse(mut line: Line, context: &Context) {
    let answer = match line.hear(QUESTION_LIMIT, PATIENCE) {
        Ok(Question::Trace) => match context.denied.as_ref().map(|denied| denied.follow()) {
            Some(Ok(follower)) => return trace(&mut line, &follower),
            Some(Err(unfollowed)) => Answer::Refused(unfollowed.to_string()),
            None => Answer::Refused(Unfollowed::Silent.to_string()),
        },
        Ok(question) => context.answer(&question),
        Err(error) => Answer::Refused(format!("policyd did not understand: {error}")),
    };
    if let Err(error) = line.say(answer, DELIVERY) {
        debug!(%error, "a client did not take its answer");
    }
}

/// Tells of denied packets as they come, until the other side has gone.
fn trace(line: &mut Line, follower: &Follower) {
    loop {
        let said = match follower.denials.recv_timeout(SIGN_OF_LIFE) {
            Ok(denial) => line.say(Answer::Denied(Box::new(denial)), PATIENCE),
            Err(mpsc::RecvTimeoutError::Timeout) => line.say(Answer::Quiet, PATIENCE),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        if said.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Agent, AgentError, AskError, ask::ask_as};
    use nix::unistd::geteuid;

    fn name(test: &str) -> Vec<u8> {
        format!("policyd-test-{test}-{}", std::process::id()).into_bytes()
    }

    #[test]
    fn a_name_that_nobody_holds_is_no_agent_and_one_that_is_held_is_held_once() {
        let name = name("held");
        let error = ask_as(&name, &Question::Status).unwrap_err();
        assert!(matches!(error, AskError::NoAgent), "{error}");
        let (sender, _inbox) = mpsc::channel();
        let mut agent = Agent::hold_as(&name).unwrap();
        agent.serve(sender, None).unwrap();
        let pid = i32::try_from(std::process::id()).ok();
        let second = Agent::hold_as(&name).unwrap_err();
        assert!(matches!(second, AgentError::Running { pid: named } if named == pid), "{second}");
        drop(agent);
        drop(Agent::hold_as(&name).unwrap());
    }

    #[test]
    fn a_loop_that_has_ended_is_no_reason_to_wait() {
        let name = name("ended");
        let (sender, inbox) = mpsc::channel();
        drop(inbox);
        let mut agent = Agent::hold_as(&name).unwrap();
        agent.serve(sender, None).unwrap();
        let error = ask_as(&name, &Question::Status).unwrap_err();
        assert_eq!(error.to_string(), "policyd is ending");
    }

    #[test]
    fn those_who_only_sit_there_keep_nobody_out_for_long() {
        let name = name("busy");
        let (sender, inbox) = mpsc::channel();
        drop(inbox);
        let mut agent = Agent::hold_as(&name).unwrap();
        agent.serve(sender, None).unwrap();
        let address = {
            use std::os::linux::net::SocketAddrExt;
            std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap()
        };
        let silent: Vec<UnixStream> =
            (0..CLIENTS).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
        // Had they been waited for, they would be gone.
        let error = ask_as(&name, &Question::Status).unwrap_err();
        assert_eq!(error.to_string(), "policyd is answering others, try again");
        drop(silent);
        let begun = Instant::now();
        loop {
            let error = ask_as(&name, &Question::Status).unwrap_err().to_string();
            if error == "policyd is ending" {
                return;
            }
            assert!(begun.elapsed() < PATIENCE * 4, "{error}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn only_root_and_our_own_user_are_answered() {
        let own = geteuid().as_raw();
        assert_eq!(refusal(0), None);
        assert_eq!(refusal(own), None);
        assert_eq!(
            refusal(own + 7),
            Some(format!("policyd answers root and its own user, and you are user {}", own + 7))
        );
    }
}
