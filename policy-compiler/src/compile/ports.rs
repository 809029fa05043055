//! Which ports a rule of the ruleset matches, and how few rules can say it.
//!
//! "No ports" is every protocol there is, and not 1-65535 of three: it is a key of its own, above
//! the ports of any protocol, which in turn stand above the ranges.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use crate::port::{PortRange, Protocol};
use crate::ruleset::Match;

/// The most slots of one multiport match; a range of several ports takes two.
const SLOTS: usize = 15;

/// Ports as one item of a policy means them, names resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PortKey {
    /// Everything, ICMP too.
    All,
    /// Every port of a protocol.
    Every(Protocol),
    /// Some ports of a protocol.
    Range(Protocol, PortRange),
}

impl PortKey {
    /// One port of a protocol.
    pub(super) fn single(protocol: Protocol, number: NonZeroU16) -> Self {
        Self::Range(protocol, PortRange::single(number))
    }

    /// Whether all that `other` means is meant by this one, and more.
    pub(super) fn is_wider_than(self, other: Self) -> bool {
        match (self, other) {
            _ if self == other => false,
            (Self::All, _) => true,
            (Self::Every(a), Self::Every(b) | Self::Range(b, _)) => a == b,
            (Self::Range(a, wide), Self::Range(b, narrow)) => {
                a == b && wide.first() <= narrow.first() && narrow.last() <= wide.last()
            }
            _ => false,
        }
    }

    /// Whether it can be wider than another at all.
    pub(super) fn is_wide(self) -> bool {
        match self {
            Self::All | Self::Every(_) => true,
            Self::Range(_, range) => range.first() < range.last(),
        }
    }
}

/// The conditions for "one of these ports": one list for each rule that it takes.
pub(super) fn conditions(keys: &[PortKey]) -> Vec<Vec<Match>> {
    if keys.contains(&PortKey::All) {
        return vec![Vec::new()];
    }
    let mut ranges: BTreeMap<Protocol, Option<Vec<PortRange>>> = BTreeMap::new();
    for key in keys {
        match *key {
            PortKey::All => {}
            PortKey::Every(protocol) => {
                ranges.insert(protocol, None);
            }
            PortKey::Range(protocol, range) => {
                if let Some(list) = ranges.entry(protocol).or_insert_with(|| Some(Vec::new())) {
                    list.push(range);
                }
            }
        }
    }
    let mut all = Vec::new();
    for (protocol, ranges) in ranges {
        let protocol = Match::Protocol(protocol);
        match ranges {
            None => all.push(vec![protocol]),
            Some(ranges) => {
                for slots in pack(unite(ranges)) {
                    all.push(vec![protocol.clone(), slots]);
                }
            }
        }
    }
    all
}

/// Sorts ranges and joins those that overlap or touch.
fn unite(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut united: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if let Some(last) = united.last_mut()
            && u32::from(range.first().get()) <= u32::from(last.last().get()) + 1
        {
            if let Some(wider) = PortRange::new(last.first(), last.last().max(range.last())) {
                *last = wider;
            }
        } else {
            united.push(range);
        }
    }
    united
}

/// Fills matches with ranges in order, each as far as it holds.
fn pack(ranges: Vec<PortRange>) -> Vec<Match> {
    let mut chunks: Vec<(usize, Vec<PortRange>)> = Vec::new();
    for range in ranges {
        let slots = if range.first() == range.last() { 1 } else { 2 };
        match chunks.last_mut() {
            Some((used, chunk)) if *used + slots <= SLOTS => {
                *used += slots;
                chunk.push(range);
            }
            _ => chunks.push((slots, vec![range])),
        }
    }
    let condition = |chunk: Vec<PortRange>| match chunk[..] {
        [range] => Match::DestinationPort(range),
        _ => Match::DestinationPorts(chunk),
    };
    chunks.into_iter().map(|(_, chunk)| condition(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(NonZeroU16::new(first).unwrap(), NonZeroU16::new(last).unwrap()).unwrap()
    }

    fn tcp(first: u16, last: u16) -> PortKey {
        PortKey::Range(Protocol::Tcp, range(first, last))
    }

    #[test]
    fn everything_asks_nothing_and_a_whole_protocol_only_for_the_protocol() {
        assert_eq!(conditions(&[PortKey::All, tcp(80, 80)]), vec![vec![]]);
        assert_eq!(
            conditions(&[tcp(80, 80), PortKey::Every(Protocol::Tcp), tcp(90, 90)]),
            vec![vec![Match::Protocol(Protocol::Tcp)]]
        );
    }

    #[test]
    fn every_udp_port_is_not_a_tcp_port() {
        let udp = PortKey::Every(Protocol::Udp);
        assert_eq!(conditions(&[udp]), vec![vec![Match::Protocol(Protocol::Udp)]]);
        assert!(!udp.is_wider_than(tcp(80, 80)));
        assert!(udp.is_wider_than(PortKey::Range(Protocol::Udp, range(53, 53))));
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(
            conditions(&[tcp(85, 100), tcp(80, 90), tcp(101, 101), tcp(103, 103)]),
            vec![vec![
                Match::Protocol(Protocol::Tcp),
                Match::DestinationPorts(vec![range(80, 101), range(103, 103)])
            ]]
        );
        assert_eq!(unite(vec![range(1, 65535), range(65535, 65535)]), vec![range(1, 65535)]);
    }

    #[test]
    fn a_multiport_match_holds_fifteen_slots_and_a_range_takes_two() {
        let singles: Vec<PortKey> = (0..16).map(|i| tcp(100 + 2 * i, 100 + 2 * i)).collect();
        let sizes = |keys: &[PortKey]| -> Vec<usize> {
            let size = |m: &Match| match m {
                Match::DestinationPorts(ranges) => ranges.len(),
                _ => 1,
            };
            conditions(keys).iter().map(|list| size(&list[1])).collect()
        };
        assert_eq!(sizes(&singles[..15]), [15]);
        assert_eq!(sizes(&singles), [15, 1]);
        let ranges: Vec<PortKey> = (0..8).map(|i| tcp(100 + 10 * i, 105 + 10 * i)).collect();
        assert_eq!(sizes(&ranges), [7, 1]);
        assert_eq!(
            conditions(&singles)[1],
            [Match::Protocol(Protocol::Tcp), Match::DestinationPort(range(130, 130))]
        );
    }
}
