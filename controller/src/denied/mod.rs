//! Which traffic is denied, or would be were it not for an audit: whose, to whom, and by which policies.
//!
//! ```text
//!  NPC-DENY-E, -I  ──NFLOG──> group ── flows ──> log, a line for each flow and minute
//!  NPC-AUDIT-E, -I                      └─────> followers (policyd trace), each packet
//!        └── the kernel's counters ───────────> metrics
//! ```
//!
//! A thread of its own listens, for as long as the rules tell of anything (`--log-denied`, or a policy that
//! is audited): nothing here can hold up the loop or change what is denied. The rules tell of so many packets a second and no more, and here too
//! everything is bounded: flows are named in batches, a follower that does not keep up misses packets.
//! Where the kernel has no NFLOG, or somebody else listens to our group, that is said and tried again.

mod counters;
mod flows;
mod group;
mod listening;
mod name;
pub mod packet;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::ruleset::Notice;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use self::counters::Counters;
use self::flows::{Flow, Flows};
use self::group::Group;
pub use self::listening::Listening;
use self::packet::Packet;
use crate::again::Again;
use crate::agent::look::{Unanswered, look};
use crate::dataplane::command::Runner;
use crate::dataplane::error_chain;
use crate::metrics::Metrics;
use crate::source::Input;

/// How long the listener sleeps at a time while the rules tell of nothing.
const ASLEEP: Duration = Duration::from_mins(10);
/// How long packets are waited for; also how often at most the loop is asked for names.
const WAIT: Duration = Duration::from_millis(100);
/// How often the kernel's counters are looked at.
const COUNT: Duration = Duration::from_secs(5);
/// How long reading them may take.
const COUNTING: Duration = Duration::from_secs(10);
/// The first and the longest pause before listening is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How many follow at the same time.
const FOLLOWERS: usize = 4;
/// How many packets wait for one who follows.
const WAITING: usize = 512;

/// One end of denied traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// The pod that has it, as `NAMESPACE/NAME`.
    pub pod: Option<String>,
}

/// Denied traffic, or traffic that passes and that policies which are audited only would deny.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Whether it passes, and is only audited.
    pub audit: bool,
    /// `ingress` where the destination's policies deny, `egress` where the source's do.
    pub direction: String,
    /// Where it comes from.
    pub source: End,
    /// Where it goes.
    pub destination: End,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, or `protocol N`.
    pub protocol: String,
    /// The destination port; the type, of ICMP.
    pub port: Option<u16>,
    /// Whether it is a TCP segment that opens no connection and belongs to none.
    pub midstream: bool,
    /// The policies that isolate the pod whose side denies; none where that is no pod of this node. Of an
    /// audit those that would deny it; none where they have changed since.
    pub policies: Vec<String>,
    /// How many packets; of an audit, each once for every policy that would deny it.
    pub packets: u64,
}

impl Denial {
    /// What a packet says by itself.
    fn unnamed(notice: Notice, packet: &Packet) -> Self {
        let end = |address| End { address, pod: None };
        let (audit, direction) = match notice {
            Notice::Denied(direction) => (false, direction),
            Notice::Audited(direction) => (true, direction),
        };
        Self {
            audit,
            direction: direction.to_string(),
            source: end(packet.source),
            destination: end(packet.destination),
            protocol: packet.protocol_name(),
            port: packet.port,
            midstream: packet.midstream,
            policies: Vec::new(),
            packets: 1,
        }
    }

    /// Whether it comes from, or goes to, the pod of that name.
    #[must_use]
    pub fn is_about(&self, pod: &str) -> bool {
        [&self.source, &self.destination].iter().any(|end| end.pod.as_deref() == Some(pod))
    }

    fn log(&self) {
        info!(
            audit = self.audit.then_some(true),
            direction = self.direction,
            source = self.source.pod.as_deref(),
            source_address = %self.source.address,
            destination = self.destination.pod.as_deref(),
            destination_address = %self.destination.address,
            protocol = self.protocol,
            port = self.port,
            midstream = self.midstream,
            policies = self.policies.join(","),
            packets = self.packets,
            "{}",
            if self.audit { "would be denied" } else { "denied" }
        );
    }
}

/// Why nobody more can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfollowed {
    /// The rules tell of nothing.
    #[error(
        "policyd does not tell of denied packets: start it with --log-denied; nor is any policy audited here"
    )]
    Silent,
    /// Too many follow already.
    #[error("{FOLLOWERS} follow denied traffic already")]
    Crowded,
}

/// Those who follow denied traffic.
#[derive(Debug, Default)]
pub struct Followers {
    listening: Arc<Listening>,
    following: Mutex<Vec<(SyncSender<Denial>, Weak<()>)>>,
}

/// One who follows, for as long as it is kept.
#[derive(Debug)]
pub struct Follower {
    /// What comes.
    pub denials: Receiver<Denial>,
    _there: Arc<()>,
}

impl Followers {
    /// Follows from now on. One who does not keep up misses what comes meanwhile.
    ///
    /// # Errors
    /// Where there is nothing to follow, or too many do.
    pub fn follow(&self) -> Result<Follower, Unfollowed> {
        if !self.listening.is_on() {
            return Err(Unfollowed::Silent);
        }
        let mut all = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, there)| there.strong_count() > 0);
        if all.len() >= FOLLOWERS {
            return Err(Unfollowed::Crowded);
        }
        let (sender, denials) = mpsc::sync_channel(WAITING);
        let there = Arc::new(());
        all.push((sender, Arc::downgrade(&there)));
        Ok(Follower { denials, _there: there })
    }

    fn tell(&self, denial: &Denial) {
        for (follower, _) in self.following.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // One that is full or has gone misses it.
            let _ = follower.try_send(denial.clone());
        }
    }
}

/// Listens on a thread of its own from now on, whenever there is anything to listen to.
///
/// # Errors
/// Where the system has no thread to give.
pub fn start(
    inbox: Sender<Input>,
    metrics: Arc<Metrics>,
    listening: Arc<Listening>,
) -> io::Result<Arc<Followers>> {
    let followers = Arc::new(Followers { listening, following: Mutex::default() });
    let mut listener = Listener {
        inbox,
        metrics,
        followers: Arc::clone(&followers),
        flows: Flows::default(),
        counters: Counters::default(),
        runner: Runner::new(COUNTING),
        count_at: Instant::now() + COUNT,
        group: None,
        again: Again::new(AGAIN),
        told: false,
    };
    thread::Builder::new().name("denied".to_owned()).spawn(move || while listener.turn() {})?;
    Ok(followers)
}

struct Listener {
    inbox: Sender<Input>,
    metrics: Arc<Metrics>,
    followers: Arc<Followers>,
    flows: Flows,
    counters: Counters,
    runner: Runner,
    /// When the kernel's counters are looked at next.
    count_at: Instant,
    group: Option<Group>,
    again: Again,
    /// Whether it was said that nothing can be heard.
    told: bool,
}

impl Listener {
    /// Hears what came; whether to go on.
    fn turn(&mut self) -> bool {
        if !self.followers.listening.is_on() {
            self.group = None;
            if self.flows.is_empty() {
                self.followers.listening.wait(ASLEEP);
                return true;
            }
        }
        let packets = self.receive();
        let heard = self.hear(packets);
        let now = Instant::now();
        for denial in self.flows.due(now) {
            denial.log();
        }
        let beyond = self.flows.beyond();
        if beyond > 0 {
            warn!(packets = beyond, "denied, of more flows than can be told of");
        }
        let counted = now < self.count_at || {
            self.count_at = now + COUNT;
            self.count()
        };
        heard != Err(Unanswered::Ended) && counted
    }

    /// What was denied since, for which it waits a little.
    fn receive(&mut self) -> Vec<Flow> {
        let Some(group) = &self.group else {
            let is_on = self.followers.listening.is_on();
            if is_on && (self.again.at().is_none() || self.again.is_due()) {
                self.listen();
            }
            thread::sleep(WAIT);
            return Vec::new();
        };
        // What comes at once is named at once, and what comes together is named together.
        thread::sleep(WAIT / 2);
        group.receive(WAIT).unwrap_or_else(|error| {
            warn!(error = %error_chain(&error), "denied packets cannot be heard of");
            self.group = None;
            Vec::new()
        })
    }

    fn listen(&mut self) {
        match Group::listen() {
            Ok(group) => {
                self.group = Some(group);
                self.again.forget();
                self.told = false;
            }
            Err(error) => {
                if !self.told {
                    warn!(error = %error_chain(&error), "denied packets are counted and not told of");
                    self.told = true;
                }
                self.again.put_off();
            }
        }
    }

    /// Tells of packets: those of known flows are counted, and the others are named, all at once.
    fn hear(&mut self, packets: Vec<Flow>) -> Result<(), Unanswered> {
        let mut unknown: BTreeMap<Flow, u64> = BTreeMap::new();
        for flow in packets {
            match self.flows.count(&flow) {
                Some(denial) => self.followers.tell(denial),
                None => *unknown.entry(flow).or_default() += 1,
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let flows: Vec<Flow> = unknown.keys().copied().collect();
        let named = look(&self.inbox, move |view| name::name(view, &flows));
        if named == Err(Unanswered::Ended) {
            return Err(Unanswered::Ended);
        }
        let now = Instant::now();
        for (index, (flow, packets)) in unknown.into_iter().enumerate() {
            let denial = named.as_ref().ok().and_then(|named| named.get(index)).cloned();
            // A busy loop is no reason to keep quiet.
            let denial = denial.unwrap_or_else(|| Denial::unnamed(flow.0, &flow.1));
            for _ in 0..packets {
                self.followers.tell(&denial);
            }
            if self.flows.tell(flow, denial.clone(), now) {
                Denial { packets, ..denial }.log();
            }
        }
        Ok(())
    }

    /// Takes over what the kernel has counted; whether to go on.
    fn count(&mut self) -> bool {
        let denials = self.followers.listening.hears_denials();
        let counted = look(&self.inbox, move |view| {
            (view.dataplane.backend(), counters::told(view.engine.ruleset(), denials))
        });
        let (backend, told) = match counted {
            Ok(counted) => counted,
            Err(unanswered) => return unanswered != Unanswered::Ended,
        };
        match self.counters.look(&self.runner, backend, &told) {
            Ok(more) => {
                for ((family, notice), packets) in more {
                    match notice {
                        Notice::Denied(direction) => {
                            self.metrics.denied(family, direction, packets);
                        }
                        Notice::Audited(direction) => {
                            self.metrics.audited(family, direction, packets);
                        }
                    }
                }
            }
            Err(error) => warn!(error = %error_chain(&error), "denied packets cannot be counted"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::policy::Direction;

    fn denial() -> Denial {
        let packet = Packet {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: 6,
            port: Some(80),
            midstream: false,
        };
        Denial::unnamed(Notice::Denied(Direction::Ingress), &packet)
    }

    #[test]
    fn nobody_follows_where_there_is_nothing_to_hear() {
        let followers = Followers::default();
        assert_eq!(followers.follow().unwrap_err(), Unfollowed::Silent);
        followers.listening.set_audits(true);
        assert!(followers.follow().is_ok());
    }

    #[test]
    fn one_who_does_not_keep_up_holds_up_nobody_and_one_who_goes_makes_room() {
        let listening = Arc::new(Listening::to(true));
        let followers = Followers { listening, ..Followers::default() };
        let mut there: Vec<Follower> =
            (0..FOLLOWERS).map(|_| followers.follow().unwrap()).collect();
        assert_eq!(followers.follow().unwrap_err(), Unfollowed::Crowded);
        for _ in 0..WAITING + 100 {
            followers.tell(&denial());
        }
        assert_eq!(there[0].denials.try_iter().count(), WAITING);
        there.pop();
        let next = followers.follow().unwrap();
        followers.tell(&denial());
        assert_eq!(next.denials.try_iter().collect::<Vec<_>>(), [denial()]);
    }
}
