//! Connections as programs make them, many at once: who was answered, and by whom.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy_compiler::port::Protocol;
use socket2::{Domain, Socket, Type};

use super::failed;
use crate::error::LabError;
use crate::namespace::Namespace;

/// How long an answer may take that is hoped for.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long one that is not hoped for may still come, after all others have.
const GRACE: Duration = Duration::from_millis(120);
/// How often a datagram is sent again.
const REPEAT: Duration = Duration::from_millis(60);

/// A connection to make.
#[derive(Clone, Debug)]
pub struct Dial {
    /// From where.
    pub from: Arc<Namespace>,
    /// To whom.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Whether it is worth waiting for.
    pub hoped: bool,
}

/// Makes all of them at once. For each what the server said, or nothing.
///
/// # Errors
/// Where a socket cannot be made.
pub fn dial_all(dials: &[Dial]) -> Result<Vec<Option<String>>, LabError> {
    let mut attempts = Vec::new();
    for dial in dials {
        let opened = dial.from.enter(|| Attempt::begin(dial))?;
        attempts.push(opened.map_err(|error| failed("connect", error))?);
    }
    let start = Instant::now();
    let mut hopes_done = None;
    loop {
        for attempt in &mut attempts {
            attempt.go_on();
        }
        if attempts.iter().all(|attempt| attempt.over || !attempt.hoped) {
            hopes_done.get_or_insert_with(Instant::now);
        }
        let graced = hopes_done.is_some_and(|at: Instant| at.elapsed() > GRACE);
        if graced || start.elapsed() > PATIENCE || attempts.iter().all(|attempt| attempt.over) {
            return Ok(attempts.into_iter().map(|attempt| attempt.heard).collect());
        }
        wait(&attempts)?;
    }
}

struct Attempt {
    socket: Socket,
    datagram: bool,
    hoped: bool,
    sent: Instant,
    over: bool,
    heard: Option<String>,
}

impl Attempt {
    fn begin(dial: &Dial) -> io::Result<Self> {
        let domain = if dial.to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let datagram = dial.protocol == Protocol::Udp;
        let socket = Socket::new(domain, if datagram { Type::DGRAM } else { Type::STREAM }, None)?;
        socket.set_nonblocking(true)?;
        let mut over = false;
        match socket.connect(&dial.to.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => over = true,
            _ => {}
        }
        if datagram {
            // What the sender's own node refuses is a denial.
            let _ = socket.send(b"?");
        }
        let (hoped, sent) = (dial.hoped, Instant::now());
        Ok(Self { socket, datagram, hoped, sent, over, heard: None })
    }

    /// Reads what has come.
    fn go_on(&mut self) {
        if self.over {
            return;
        }
        let mut buffer = [0_u8; 256];
        match (&self.socket).read(&mut buffer) {
            Ok(0) => self.over = true,
            Ok(length) => {
                let text = buffer.get(..length).unwrap_or_default();
                self.heard = Some(String::from_utf8_lossy(text).into_owned());
                self.over = true;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock if self.datagram && self.sent.elapsed() > REPEAT => {
                    let _ = self.socket.send(b"?");
                    self.sent = Instant::now();
                }
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                // A handshake that is under way.
                | io::ErrorKind::NotConnected => {}
                _ => self.over = true,
            },
        }
    }
}

fn wait(attempts: &[Attempt]) -> Result<(), LabError> {
    let mut watched: Vec<PollFd<'_>> = attempts
        .iter()
        .filter(|attempt| !attempt.over)
        .map(|attempt| PollFd::new(attempt.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    match poll(&mut watched, PollTimeout::from(20_u8)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(failed("wait for answers", errno)),
    }
}
