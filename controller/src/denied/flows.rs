//! One line for each flow and minute, however many packets it has.
//!
//! A flow is all packets from one address to one port of another. Its first packet is told of at once;
//! what follows within a minute is counted and told of at its end. How many flows are kept is bounded:
//! what does not fit is counted as a whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use policy_compiler::ruleset::Notice;

use super::Denial;
use super::packet::Packet;

/// How long a flow is not told of again.
const MINUTE: Duration = Duration::from_mins(1);
/// How many flows are kept.
const KEPT: usize = 4096;

/// What makes packets one flow: what the rules tell of them, and what they say.
pub(super) type Flow = (Notice, Packet);

#[derive(Debug)]
struct Standing {
    /// When it was last told of.
    since: Instant,
    /// How many packets came since.
    untold: u64,
    denial: Denial,
}

/// The flows of the last minute.
#[derive(Debug, Default)]
pub(super) struct Flows {
    standing: BTreeMap<Flow, Standing>,
    /// Packets of flows for which there was no room.
    beyond: u64,
}

impl Flows {
    /// Counts a packet of a flow that is known, and gives its denial.
    pub(super) fn count(&mut self, flow: &Flow) -> Option<&Denial> {
        let standing = self.standing.get_mut(flow)?;
        standing.untold += 1;
        Some(&standing.denial)
    }

    /// Takes in a flow that was told of just now; where there is no room its packet is only counted.
    pub(super) fn tell(&mut self, flow: Flow, denial: Denial, now: Instant) -> bool {
        if self.standing.len() >= KEPT {
            self.beyond += 1;
            return false;
        }
        self.standing.insert(flow, Standing { since: now, untold: 0, denial });
        true
    }

    /// The flows whose minute is over and that went on, with the packets since; those that did not go
    /// on are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Denial> {
        let mut due = Vec::new();
        self.standing.retain(|_, standing| {
            if now.saturating_duration_since(standing.since) < MINUTE {
                return true;
            }
            if standing.untold == 0 {
                return false;
            }
            due.push(Denial { packets: standing.untold, ..standing.denial.clone() });
            *standing = Standing { since: now, untold: 0, denial: standing.denial.clone() };
            true
        });
        due
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// How many packets were of flows for which there was no room, since this was last asked.
    pub(super) fn beyond(&mut self) -> u64 {
        std::mem::take(&mut self.beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::policy::Direction;

    fn flow(port: u16) -> Flow {
        let packet = Packet {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: 17,
            port: Some(port),
            midstream: false,
        };
        (Notice::Denied(Direction::Ingress), packet)
    }

    fn denial(port: u16) -> Denial {
        let (notice, packet) = flow(port);
        Denial::unnamed(notice, &packet)
    }

    #[test]
    fn a_flow_is_told_of_at_once_and_then_each_minute_for_as_long_as_it_goes_on() {
        let mut flows = Flows::default();
        let begun = Instant::now();
        assert_eq!(flows.count(&flow(1)), None);
        assert!(flows.tell(flow(1), denial(1), begun));
        for _ in 0..5 {
            assert_eq!(flows.count(&flow(1)), Some(&denial(1)));
        }
        assert_eq!(flows.due(begun + MINUTE / 2), []);
        let five = Denial { packets: 5, ..denial(1) };
        assert_eq!(flows.due(begun + MINUTE), [five]);
        assert_eq!(flows.count(&flow(1)), Some(&denial(1)));
        assert_eq!(flows.due(begun + MINUTE * 2), [denial(1)]);
        assert_eq!(flows.due(begun + MINUTE * 3), []);
        assert_eq!(flows.count(&flow(1)), None, "forgotten");
    }

    #[test]
    fn more_flows_than_are_kept_are_counted_as_a_whole() {
        let mut flows = Flows::default();
        let now = Instant::now();
        for port in 0..5000 {
            if flows.count(&flow(port)).is_none() {
                flows.tell(flow(port), denial(port), now);
            }
        }
        assert_eq!(flows.standing.len(), KEPT);
        assert_eq!(flows.beyond(), 5000 - KEPT as u64);
        assert_eq!(flows.beyond(), 0);
    }
}
