//! A prober: somebody who never stops trying, and a witness who sees what gets through.
//!
//! Every datagram has a number and is, as far as connection tracking goes, the first of a flow: the
//! witness never answers. So the numbers that arrive say when the way was open, to the interval
//! between two of them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::failed;
use crate::error::LabError;
use crate::namespace::Namespace;

/// Where the first witness listens, and the others behind it. Pods serve other ports.
static PORT: AtomicU16 = AtomicU16::new(7000);

/// How long a datagram may be under way, or lie unread.
const TRANSIT: Duration = Duration::from_millis(150);
/// How many in a row that do not arrive make a closed way.
const CLOSED: usize = 10;

/// What was tried and what arrived.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// When each number was sent.
    pub sent: Vec<Instant>,
    /// The numbers that arrived.
    pub arrived: BTreeSet<usize>,
}

impl Trace {
    /// How many were sent long enough ago to have arrived.
    #[must_use]
    pub fn settled(&self) -> usize {
        let now = Instant::now();
        self.sent.partition_point(|at| now.duration_since(*at) > TRANSIT)
    }

    /// How many of those sent between two moments arrived, of how many.
    #[must_use]
    pub fn arrived_between(&self, from: Instant, to: Instant) -> (usize, usize) {
        let range = self.sent.partition_point(|at| *at < from)
            ..self.sent.partition_point(|at| *at < to).min(self.settled());
        let sent = range.len();
        (range.filter(|number| self.arrived.contains(number)).count(), sent)
    }
}

/// A sender and a witness. They end with this.
#[derive(Debug)]
pub struct Prober {
    trace: Arc<Mutex<Trace>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Prober {
    /// Sends from `from` to `address` in `to`, one datagram `every` so often.
    ///
    /// # Errors
    /// Where a socket cannot be had.
    pub fn start(
        from: &Namespace,
        to: &Namespace,
        address: IpAddr,
        every: Duration,
    ) -> Result<Self, LabError> {
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let opened = (|| {
            let witness = to.enter(|| witness(port))??;
            let sender = from.enter(|| sender(SocketAddr::new(address, port)))??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((witness, sender))
        })();
        let (witness, sender) = opened.map_err(|error| failed("start a prober", error))?;
        let trace = Arc::new(Mutex::new(Trace::default()));
        let over = Arc::new(AtomicBool::new(false));
        let threads = vec![
            {
                let (trace, over) = (Arc::clone(&trace), Arc::clone(&over));
                thread::spawn(move || watch(&witness, &trace, &over))
            },
            {
                let (trace, over) = (Arc::clone(&trace), Arc::clone(&over));
                thread::spawn(move || send(&sender, &trace, &over, every))
            },
        ];
        Ok(Self { trace, over, threads })
    }

    /// What has happened so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        lock(&self.trace).clone()
    }

    /// Waits until one that was sent after `since` arrives, and says when it was sent.
    ///
    /// # Errors
    /// Where none does in time.
    pub fn await_open(&self, since: Instant, patience: Duration) -> Result<Instant, LabError> {
        self.await_moment("a way to open", patience, |trace| {
            let from = trace.sent.partition_point(|at| *at < since);
            trace.arrived.range(from..).next().and_then(|number| trace.sent.get(*number).copied())
        })
    }

    /// Waits until nothing arrives any more, and says when the first was sent that did not.
    ///
    /// # Errors
    /// Where something goes on arriving.
    pub fn await_closed(&self, since: Instant, patience: Duration) -> Result<Instant, LabError> {
        self.await_moment("a way to close", patience, |trace| {
            let from = trace.sent.partition_point(|at| *at < since);
            let first = trace.arrived.range(from..).next_back().map_or(from, |last| last + 1);
            let silent = trace.settled().saturating_sub(first) >= CLOSED;
            trace.sent.get(first).copied().filter(|_| silent)
        })
    }

    fn await_moment(
        &self,
        what: &str,
        patience: Duration,
        moment: impl Fn(&Trace) -> Option<Instant>,
    ) -> Result<Instant, LabError> {
        let start = Instant::now();
        loop {
            if let Some(at) = moment(&lock(&self.trace)) {
                return Ok(at);
            }
            if start.elapsed() > patience {
                return Err(LabError::TimeOut {
                    what: what.to_owned(),
                    seconds: patience.as_secs(),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the last ones, and says what happened.
    #[must_use]
    pub fn stop(mut self) -> Trace {
        self.end();
        self.trace()
    }

    fn end(&mut self) {
        // The sender ends first, and its last datagram still has time to arrive.
        self.over.store(true, Ordering::Relaxed);
        while let Some(thread) = self.threads.pop() {
            let _ = thread.join();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(trace: &Mutex<Trace>) -> MutexGuard<'_, Trace> {
    trace.lock().unwrap_or_else(PoisonError::into_inner)
}

fn witness(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
    socket.set_read_timeout(Some(TRANSIT))?;
    Ok(socket)
}

fn sender(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if to.is_ipv4() { ([0; 4], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket)
}

fn watch(socket: &UdpSocket, trace: &Mutex<Trace>, over: &AtomicBool) {
    let mut buffer = [0_u8; 8];
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => {
                let number = usize::try_from(u64::from_be_bytes(buffer)).unwrap_or(usize::MAX);
                lock(trace).arrived.insert(number);
            }
            // Silence for the time that a datagram may be under way.
            Err(_) if over.load(Ordering::Relaxed) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

fn send(socket: &UdpSocket, trace: &Mutex<Trace>, over: &AtomicBool, every: Duration) {
    while !over.load(Ordering::Relaxed) {
        let number = {
            let mut trace = lock(trace);
            trace.sent.push(Instant::now());
            trace.sent.len() as u64 - 1
        };
        // A refusal is as good as silence.
        let _ = socket.send(&number.to_be_bytes());
        thread::sleep(every);
    }
}
