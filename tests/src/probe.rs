//! Packets sent all at once, and what became of each.
//!
//! A packet that arrives is seen by its receiver. One that does not is known by the receiver's
//! silence after markers have passed: queues between namespaces are first-in-first-out on one
//! processor, the sending thread stays on one, so when the marker of every sender has reached its
//! node no probe is still on its first hop; when a marker of every node has reached the other, none
//! is between nodes; when markers of the nodes have reached every station, none is anywhere. So a
//! denial costs no time-out. Whatever is missing then is sent once more before it is called denied.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use policy_compiler::flow::Traffic;
use policy_compiler::port::Protocol;

use crate::error::LabError;
use crate::lab::{Lab, StationId};
use crate::packet::{Outline, Segment, Sighting};

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// By whom.
    pub sender: StationId,
    /// The packet goes where one to this address would go.
    pub towards: IpAddr,
    /// The packet.
    pub outline: Outline,
    /// Who may see it: the first who does counts.
    pub receivers: Vec<StationId>,
}

impl Probe {
    /// Whether the receiver's stack answers it: what opens a TCP connection, and echo requests.
    fn answerable(&self) -> bool {
        let Outline { traffic, segment, .. } = &self.outline;
        match traffic {
            Traffic::Port { protocol, .. } => {
                *protocol == Protocol::Tcp && *segment == Segment::Opening
            }
            Traffic::Icmp { kind } => matches!(kind, 8 | 128),
            Traffic::Other { .. } => false,
        }
    }
}

/// What became of a [`Probe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// A receiver saw it.
    pub arrived: bool,
    /// Its sender saw an answer, which only TCP and echo requests have.
    pub answered: bool,
}

/// How many times a packet is sent before it is called denied.
const ATTEMPTS: usize = 2;
/// A burst small enough for every queue on the way.
const BURST: usize = 64;
/// How long a marker may take on a busy machine, and after what time it is sent again.
const PATIENCE: Duration = Duration::from_secs(30);
const MARKER_REPEAT: Duration = Duration::from_millis(250);
/// How long an answer may take that a receiver's stack has to make.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// The discard port.
const MARKER_PORT: u16 = 9;

/// Sends all probes and says what became of each, in their order. An answer is waited for where a stack
/// makes one.
///
/// # Errors
/// Where a packet cannot be sent or a marker is lost, so that nothing is proved.
pub fn send_all(lab: &Lab, probes: &[Probe]) -> Result<Vec<Fate>, LabError> {
    let awaited: Vec<bool> = probes.iter().map(Probe::answerable).collect();
    send_awaiting(lab, probes, &awaited)
}

/// The same, where an answer is waited for of those that are `awaited` alone: what has a source that is not
/// the sender's is answered to somebody else.
///
/// # Errors
/// As [`send_all`].
pub fn send_awaiting(lab: &Lab, probes: &[Probe], awaited: &[bool]) -> Result<Vec<Fate>, LabError> {
    in_order(|| Round::new(lab, probes).run(awaited))
}

/// Waits until every link of a lab carries packets both ways. The kernel takes a link into use a while
/// after it was set up, and drops what is sent before: an answer is not sent again.
pub(crate) fn await_links(lab: &Lab) -> Result<(), LabError> {
    in_order(|| Round::new(lab, &[]).sweep())
}

/// Does something on a thread whose packets arrive in the order in which they were sent.
pub fn in_order<T: Send>(send: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                stay_on_one_processor();
                send()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Where this is refused the order of packets is only likely, and the second attempt covers it.
fn stay_on_one_processor() {
    let me = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(me) else { return };
    let usable: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let turn = usize::try_from(std::process::id()).unwrap_or(0);
    let mut one = CpuSet::new();
    if let Some(cpu) = usable.get(turn % usable.len().max(1))
        && one.set(*cpu).is_ok()
    {
        let _ = sched_setaffinity(me, &one);
    }
}

struct Round<'a> {
    lab: &'a Lab,
    probes: &'a [Probe],
    tokens: Vec<u32>,
    arrived: BTreeMap<u32, BTreeSet<StationId>>,
    answered: BTreeMap<u32, BTreeSet<StationId>>,
}

impl<'a> Round<'a> {
    fn new(lab: &'a Lab, probes: &'a [Probe]) -> Self {
        let tokens = probes.iter().map(|_| lab.next_token()).collect();
        Self { lab, probes, tokens, arrived: BTreeMap::new(), answered: BTreeMap::new() }
    }

    fn run(mut self, awaited: &[bool]) -> Result<Vec<Fate>, LabError> {
        for _ in 0..ATTEMPTS {
            self.send_missing()?;
            self.sweep()?;
        }
        // Answers set out when probes arrived; another sweep catches up with most of them.
        self.sweep()?;
        self.await_answers(awaited)?;
        Ok((0..self.probes.len()).map(|index| self.fate(index)).collect())
    }

    /// Waits for the answers that are still missing: the receiver's own stack makes them when it
    /// gets to it, which no marker overtakes for certain.
    fn await_answers(&mut self, awaited: &[bool]) -> Result<(), LabError> {
        let start = Instant::now();
        let missing = |round: &Self| {
            awaited.iter().enumerate().filter(|(_, awaited)| **awaited).any(|(index, _)| {
                let fate = round.fate(index);
                fate.arrived && !fate.answered
            })
        };
        while missing(self) && start.elapsed() < ANSWER_PATIENCE {
            self.wait()?;
            self.collect()?;
        }
        Ok(())
    }

    fn fate(&self, index: usize) -> Fate {
        let (probe, token) = (&self.probes[index], self.tokens[index]);
        let saw = |seen: &BTreeMap<u32, BTreeSet<StationId>>, station: &StationId| {
            seen.get(&token).is_some_and(|stations| stations.contains(station))
        };
        let arrived = probe.receivers.iter().any(|receiver| {
            // An echo reply that was sent as such looks like an answer.
            saw(&self.arrived, receiver)
                || (*receiver != probe.sender && saw(&self.answered, receiver))
        });
        Fate { arrived, answered: saw(&self.answered, &probe.sender) }
    }

    fn send_missing(&mut self) -> Result<(), LabError> {
        let missing: Vec<usize> =
            (0..self.probes.len()).filter(|index| !self.fate(*index).arrived).collect();
        for burst in missing.chunks(BURST) {
            for index in burst {
                let probe = &self.probes[*index];
                let packet = probe.outline.bytes(self.tokens[*index]);
                let station = self.lab.station(probe.sender);
                match station.send(&packet, probe.towards) {
                    Ok(()) => {}
                    // OUTPUT of the sending node denies by telling the sender.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    Err(source) => {
                        let operation = format!("send {:?} from {}", probe.outline, station.name);
                        return Err(LabError::Socket { operation, source });
                    }
                }
            }
            self.collect()?;
        }
        Ok(())
    }

    /// Sends markers behind everything that is under way, hop by hop.
    fn sweep(&mut self) -> Result<(), LabError> {
        let mut first = Vec::new();
        let mut last = Vec::new();
        for node in &self.lab.nodes {
            for slot in &node.slots {
                first.push((slot.station, IpAddr::V4(node.v4), node.station));
                last.push((node.station, IpAddr::V4(slot.v4), slot.station));
            }
        }
        if let Some(node) = self.lab.nodes.first() {
            let outside = self.lab.external;
            first.push((outside, IpAddr::V4(node.v4), node.station));
            last.push((node.station, self.lab.address_of(outside), outside));
        }
        self.markers(&first)?;
        if let [one, two] = &self.lab.nodes[..] {
            self.markers(&[
                (one.station, IpAddr::V4(two.v4), two.station),
                (two.station, IpAddr::V4(one.v4), one.station),
            ])?;
        }
        self.markers(&last)
    }

    fn markers(&mut self, ways: &[(StationId, IpAddr, StationId)]) -> Result<(), LabError> {
        let mut waiting: Vec<_> = ways.iter().map(|way| (*way, self.lab.next_token())).collect();
        let start = Instant::now();
        let mut sent: Option<Instant> = None;
        loop {
            waiting.retain(|((_, _, to), token)| {
                !self.arrived.get(token).is_some_and(|stations| stations.contains(to))
            });
            if waiting.is_empty() {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let name = |id: &StationId| self.lab.station(*id).name.clone();
                let ways: Vec<String> = waiting
                    .iter()
                    .map(|((from, _, to), _)| format!("{} to {}", name(from), name(to)))
                    .collect();
                return Err(LabError::MarkerLost { from: ways.join(", ") });
            }
            if sent.is_none_or(|at| at.elapsed() > MARKER_REPEAT) {
                for ((from, to, _), token) in &waiting {
                    self.send_marker(*from, *to, *token)?;
                }
                sent = Some(Instant::now());
                self.collect()?;
            } else {
                self.wait()?;
                self.collect()?;
            }
        }
    }

    fn send_marker(&self, from: StationId, to: IpAddr, token: u32) -> Result<(), LabError> {
        let station = self.lab.station(from);
        let source = self.lab.address_of(from);
        let outline = Outline::opening(source, to, Traffic::udp(MARKER_PORT), self.lab.next_port());
        station.send(&outline.bytes(token), to).map_err(|source| LabError::Socket {
            operation: format!("send a marker from {} to {to}", station.name),
            source,
        })
    }

    fn wait(&self) -> Result<(), LabError> {
        let mut watched: Vec<PollFd<'_>> = self
            .lab
            .stations()
            .flat_map(|(_, station)| station.taps())
            .map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut watched, PollTimeout::from(50_u8)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(LabError::Socket {
                operation: "wait for packets".to_owned(),
                source: errno.into(),
            }),
        }
    }

    fn collect(&mut self) -> Result<(), LabError> {
        for (id, station) in self.lab.stations() {
            station.drain(|sighting| {
                let (seen, token) = match sighting {
                    Sighting::Sent(token) => (&mut self.arrived, token),
                    Sighting::Answer(token) => (&mut self.answered, token),
                };
                seen.entry(token).or_default().insert(id);
            })?;
        }
        Ok(())
    }
}
