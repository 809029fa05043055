//! A vigil: the same packets sent again every millisecond, however policies change meanwhile, each
//! judged by what was in force when it was on its way.
//!
//! Each packet is the first of a flow, made by hand and seen by a tap, so that no socket and no
//! neighbour has a say in it. Whoever changes policies says so before the change, and again once the
//! kernel surely follows it. Between the two the kernel may follow any of them, and each half of a
//! verdict one of its own; so a packet *leaks* where it arrives though one of its halves was denied
//! by every state that may have been in force, and is *lost* where it does not though all of them
//! allow both. One thread sends and reads, so that a machine that keeps it waiting sends less and loses
//! nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use policy_compiler::flow::Traffic;
use policy_compiler::port::Protocol;
use policy_compiler::verdict::{Decision, Verdict};

use crate::error::LabError;
use crate::lab::{Lab, StationId};
use crate::packet::{Segment, Sighting};
use crate::probe::Probe;

/// How long after it was sent a packet may arrive, or meet a rule that denies it.
const TRANSIT: Duration = Duration::from_secs(1);
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(1);
/// The source ports of a way's connections, each of which is forgotten long before its turn comes again.
const PORTS: std::ops::Range<u16> = 10_000..60_000;
/// How many leaks and losses are told of one by one.
const TOLD: usize = 10;

/// A packet that is sent again and again.
#[derive(Clone, Debug)]
pub struct Way {
    /// For people.
    pub name: String,
    /// The packet, but for its source port where it opens a TCP connection.
    pub probe: Probe,
}

impl Way {
    fn opens_a_connection(&self) -> bool {
        let outline = &self.probe.outline;
        let tcp = matches!(outline.traffic, Traffic::Port { protocol: Protocol::Tcp, .. });
        tcp && outline.segment == Segment::Opening
    }
}

/// What the source's side and the destination's say of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// Whether the source's egress is allowed.
    pub egress: bool,
    /// Whether the destination's ingress is allowed.
    pub ingress: bool,
}

impl From<&Verdict> for Halves {
    fn from(verdict: &Verdict) -> Self {
        Self {
            egress: verdict.egress.decision == Decision::Allowed,
            ingress: verdict.ingress.decision == Decision::Allowed,
        }
    }
}

/// What was in force when.
#[derive(Debug, Default)]
struct Timeline {
    /// Each state's verdicts by way, and since when it may be in force.
    states: Vec<(Instant, Vec<Halves>)>,
    /// From when on a state, or a later one, surely was.
    settled: Vec<(Instant, usize)>,
}

/// What must become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Arrives,
    Stays,
    /// Either is right.
    Open,
}

impl Timeline {
    /// What must become of a packet that was on its way between two moments.
    fn due(&self, way: usize, from: Instant, to: Instant) -> Due {
        let oldest = self.settled.iter().rev().find(|(at, _)| *at <= from);
        let oldest = oldest.map_or(0, |(_, state)| *state);
        let after = self.states.partition_point(|(at, _)| *at <= to);
        let states = self.states.get(oldest..after).unwrap_or_default();
        let halves = || states.iter().filter_map(|(_, ways)| ways.get(way));
        if halves().all(|h| h.egress && h.ingress) {
            Due::Arrives
        } else if halves().all(|h| !h.egress) || halves().all(|h| !h.ingress) {
            Due::Stays
        } else {
            Due::Open
        }
    }
}

/// What came of a vigil.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Packets sent.
    pub sent: usize,
    /// Of those, how many had to arrive, and how many had not to.
    pub bound: (usize, usize),
    /// How many arrived that had not to.
    pub leaked: usize,
    /// How many did not arrive that had to.
    pub lost: usize,
    /// How many answers did not arrive of connections that had to be.
    pub unanswered: usize,
    /// The first of each by name and time.
    pub told: Vec<String>,
    /// The longest time in which nothing was sent.
    pub longest_pause: Duration,
}

impl Tally {
    /// Leaks, losses, and answers lost.
    #[must_use]
    pub fn wrong(&self) -> (usize, usize, usize) {
        (self.leaked, self.lost, self.unanswered)
    }
}

#[derive(Debug)]
struct Shared {
    timeline: Mutex<Timeline>,
    over: AtomicBool,
    rounds: AtomicU64,
    begun: Instant,
}

/// The sender and its witnesses. They end with this.
#[derive(Debug)]
pub struct Vigil {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Tally, LabError>>>,
}

impl Vigil {
    /// Begins to send, while the kernel follows a state that has these verdicts.
    #[must_use]
    pub fn begin(lab: &Arc<Lab>, ways: Vec<Way>, verdicts: Vec<Halves>) -> Self {
        let now = Instant::now();
        let timeline = Timeline { states: vec![(now, verdicts)], settled: vec![(now, 0)] };
        let shared = Arc::new(Shared {
            timeline: Mutex::new(timeline),
            over: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            begun: now,
        });
        let watch = Watch {
            lab: Arc::clone(lab),
            shots: VecDeque::new(),
            seen: BTreeMap::new(),
            tally: Tally::default(),
            shared: Arc::clone(&shared),
            ports: vec![PORTS.start; ways.len()],
            ways,
        };
        Self { shared, thread: Some(thread::spawn(move || watch.keep())) }
    }

    /// Says that from now on a state with these verdicts may be in force; returns its number.
    #[must_use]
    pub fn may_become(&self, verdicts: Vec<Halves>) -> usize {
        let mut timeline = lock(&self.shared.timeline);
        timeline.states.push((Instant::now(), verdicts));
        timeline.states.len() - 1
    }

    /// Says that this state, or a later one, is in force now.
    pub fn is_in_force(&self, state: usize) {
        lock(&self.shared.timeline).settled.push((Instant::now(), state));
    }

    /// Waits until everything was sent so many times more.
    ///
    /// # Errors
    /// Where the sender ended before, because a packet could not be sent.
    pub fn await_rounds(&self, rounds: u64) -> Result<(), LabError> {
        let now = || self.shared.rounds.load(Ordering::Relaxed);
        // The round in hand may have begun before.
        let wanted = now() + rounds + 1;
        while now() < wanted {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                let source = io::Error::other("the vigil is over");
                return Err(LabError::Socket { operation: "send".to_owned(), source });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Waits for the last packets, and says what came of all.
    ///
    /// # Errors
    /// Where a packet could not be sent, so that nothing is proved.
    pub fn end(mut self) -> Result<Tally, LabError> {
        self.shared.over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(tally)) => tally,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(Tally::default()),
        }
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet under way.
#[derive(Debug)]
struct Shot {
    way: usize,
    token: u32,
    at: Instant,
}

struct Watch {
    lab: Arc<Lab>,
    ways: Vec<Way>,
    ports: Vec<u16>,
    shots: VecDeque<Shot>,
    /// By token: when a receiver first saw it, and whether the sender saw an answer.
    seen: BTreeMap<u32, Seen>,
    tally: Tally,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    arrived: Option<Instant>,
    answered: bool,
}

impl Watch {
    fn keep(mut self) -> Result<Tally, LabError> {
        let mut last = Instant::now();
        while !self.shared.over.load(Ordering::Relaxed) {
            self.tally.longest_pause = self.tally.longest_pause.max(last.elapsed());
            last = Instant::now();
            self.send()?;
            self.look()?;
            self.judge();
            self.shared.rounds.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
        while !self.shots.is_empty() {
            self.look()?;
            self.judge();
            thread::sleep(PAUSE);
        }
        Ok(self.tally)
    }

    fn send(&mut self) -> Result<(), LabError> {
        for (index, way) in self.ways.iter().enumerate() {
            let mut outline = way.probe.outline;
            if way.opens_a_connection() {
                outline.source_port = self.ports[index];
                let next = self.ports[index] + 1;
                self.ports[index] = if PORTS.contains(&next) { next } else { PORTS.start };
            }
            let token = self.lab.next_token();
            let at = Instant::now();
            let station = self.lab.station(way.probe.sender);
            match station.send(&outline.bytes(token), way.probe.towards) {
                Ok(()) => self.shots.push_back(Shot { way: index, token, at }),
                // OUTPUT of the sending node denies by telling the sender.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.shots.push_back(Shot { way: index, token, at });
                }
                Err(source) => {
                    let operation = format!("send {} from {}", way.name, station.name);
                    return Err(LabError::Socket { operation, source });
                }
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), LabError> {
        let mut stations: Vec<StationId> = self.ways.iter().map(|way| way.probe.sender).collect();
        stations.extend(self.ways.iter().flat_map(|way| way.probe.receivers.iter().copied()));
        stations.sort_unstable();
        stations.dedup();
        for id in stations {
            self.lab.station(id).drain(|sighting| {
                let (Sighting::Sent(token) | Sighting::Answer(token)) = sighting;
                // Others send in this lab too, and a very late one has been judged.
                let found = self.shots.binary_search_by_key(&token, |shot| shot.token);
                let Some(shot) = found.ok().and_then(|index| self.shots.get(index)) else { return };
                let probe = &self.ways[shot.way].probe;
                let seen = self.seen.entry(token).or_default();
                match sighting {
                    Sighting::Sent(_) if probe.receivers.contains(&id) => {
                        seen.arrived.get_or_insert_with(Instant::now);
                    }
                    Sighting::Answer(_) => seen.answered |= probe.sender == id,
                    Sighting::Sent(_) => {}
                }
            })?;
        }
        Ok(())
    }

    /// Judges what was sent long enough ago.
    fn judge(&mut self) {
        let shared = Arc::clone(&self.shared);
        let timeline = lock(&shared.timeline);
        while let Some(shot) = self.shots.pop_front_if(|shot| shot.at.elapsed() > TRANSIT) {
            let seen = self.seen.remove(&shot.token).unwrap_or_default();
            let until = seen.arrived.unwrap_or(shot.at + TRANSIT);
            let due = timeline.due(shot.way, shot.at, until);
            self.tally.sent += 1;
            self.tally.bound.0 += usize::from(due == Due::Arrives);
            self.tally.bound.1 += usize::from(due == Due::Stays);
            let unanswered = self.ways[shot.way].opens_a_connection() && !seen.answered;
            match (due, seen.arrived) {
                (Due::Stays, Some(_)) => {
                    self.tally.leaked += 1;
                    self.tell("leaked", &shot);
                }
                (Due::Arrives, None) => {
                    self.tally.lost += 1;
                    self.tell("was lost", &shot);
                }
                (Due::Arrives, Some(_)) if unanswered => {
                    self.tally.unanswered += 1;
                    self.tell("was not answered", &shot);
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, what: &str, shot: &Shot) {
        if self.tally.told.len() < TOLD {
            let at = shot.at.saturating_duration_since(self.shared.begun).as_secs_f64();
            self.tally.told.push(format!("{at:.4} s: {} {what}", self.ways[shot.way].name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_bound_by_every_state_that_may_have_been_in_force() {
        let both = |egress, ingress| vec![Halves { egress, ingress }];
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let timeline = Timeline {
            states: vec![
                (at(0), both(true, true)),
                (at(10), both(true, false)),
                (at(20), both(false, true)),
                (at(30), both(false, false)),
            ],
            settled: vec![(at(0), 0), (at(15), 1), (at(40), 3)],
        };
        for (name, from, to, due) in [
            ("before any change", 5, 9, Due::Arrives),
            ("while one may come", 5, 12, Due::Open),
            ("once that one is in force", 16, 18, Due::Stays),
            ("between two that deny different halves", 16, 22, Due::Open),
            ("once both deny", 41, 50, Due::Stays),
        ] {
            assert_eq!(timeline.due(0, at(from), at(to)), due, "{name}");
        }
    }
}
