//! Exact sets of what a connection may carry, in one form only: two sets of the same traffic are equal.

use std::fmt;
use std::num::NonZeroU16;

use crate::flow::Traffic;
use crate::port::{PortRange, Protocol};

/// A set of port numbers, 1 to 65535: ranges in order, neither overlapping nor touching.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    /// Every port.
    #[must_use]
    pub fn all() -> Self {
        Self::from_iter(range(1, u32::from(u16::MAX)))
    }

    /// The ranges, in order.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether no port is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every port is in it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self.0.as_slice(), [only] if only.first().get() == 1 && only.last().get() == u16::MAX)
    }

    /// Whether `port` is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let at = self.0.partition_point(|range| range.last().get() < port);
        self.0.get(at).is_some_and(|range| range.contains(port))
    }

    /// How many ports are in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|range| ends(*range)).map(|(first, last)| last - first + 1).sum()
    }

    /// The ports for which `keep` holds of "in this" and "in the other". It must not hold of neither.
    fn combined(&self, other: &PortSet, keep: fn(bool, bool) -> bool) -> PortSet {
        // Ports at which a range of either begins, or the first behind its end.
        let mut edges: Vec<(u32, i8, i8)> = Vec::with_capacity(2 * (self.0.len() + other.0.len()));
        for (set, own, others) in [(self, 1, 0), (other, 0, 1)] {
            for (first, last) in set.0.iter().map(|range| ends(*range)) {
                edges.push((first, own, others));
                edges.push((last + 1, -own, -others));
            }
        }
        edges.sort_unstable();
        let (mut here, mut there) = (0, 0);
        let mut begun: Option<u32> = None;
        let mut ranges = Vec::new();
        for (i, (at, own, others)) in edges.iter().enumerate() {
            here += own;
            there += others;
            // What holds at a port is known once all that changes there has been taken in.
            if edges.get(i + 1).is_some_and(|next| next.0 == *at) {
                continue;
            }
            match (begun, keep(here > 0, there > 0)) {
                (None, true) => begun = Some(*at),
                (Some(first), false) => {
                    ranges.extend(range(first, at - 1));
                    begun = None;
                }
                _ => {}
            }
        }
        PortSet(ranges)
    }
}

impl FromIterator<PortRange> for PortSet {
    /// The union of `ranges`, in whatever order they come and however they overlap.
    fn from_iter<T: IntoIterator<Item = PortRange>>(ranges: T) -> Self {
        let mut sorted: Vec<PortRange> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted.into_iter().map(ends) {
            match joined.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self(joined.into_iter().filter_map(|(first, last)| range(first, last)).collect())
    }
}

impl fmt::Display for PortSet {
    /// `80, 8080-8090`; nothing where it is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The range from `first` to `last`, where these are ports and in order.
fn range(first: u32, last: u32) -> Option<PortRange> {
    let port = |number: u32| u16::try_from(number).ok().and_then(NonZeroU16::new);
    PortRange::new(port(first)?, port(last)?)
}

fn ends(range: PortRange) -> (u32, u32) {
    (range.first().get().into(), range.last().get().into())
}

/// A set of traffic of one family: ports of each protocol that policies can name, ICMP, and every other
/// protocol. Equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficSet {
    /// In the order of [`Protocol::ALL`].
    ports: [PortSet; 3],
    icmp: bool,
    other: bool,
}

impl TrafficSet {
    /// Nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Everything there is.
    #[must_use]
    pub fn everything() -> Self {
        Self { ports: std::array::from_fn(|_| PortSet::all()), icmp: true, other: true }
    }

    /// The set of these ports, with ICMP and every other protocol or without.
    #[must_use]
    pub fn new(ports: [PortSet; 3], icmp: bool, other: bool) -> Self {
        Self { ports, icmp, other }
    }

    /// Of one range of ports alone.
    #[must_use]
    pub fn of_ports(protocol: Protocol, range: PortRange) -> Self {
        let ports = Protocol::ALL.map(|p| (p == protocol).then_some(range).into_iter().collect());
        Self { ports, icmp: false, other: false }
    }

    /// The ports of `protocol`.
    #[must_use]
    pub fn ports(&self, protocol: Protocol) -> &PortSet {
        match protocol {
            Protocol::Tcp => &self.ports[0],
            Protocol::Udp => &self.ports[1],
            Protocol::Sctp => &self.ports[2],
        }
    }

    /// Whether ICMP (in IPv6, ICMPv6) is in it.
    #[must_use]
    pub fn icmp(&self) -> bool {
        self.icmp
    }

    /// Whether protocols other than TCP, UDP, SCTP and ICMP are in it.
    #[must_use]
    pub fn other(&self) -> bool {
        self.other
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.icmp && !self.other && self.ports.iter().all(PortSet::is_empty)
    }

    /// Whether everything is in it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.icmp && self.other && self.ports.iter().all(PortSet::is_all)
    }

    /// Whether `traffic` is in it. Port 0 never is.
    #[must_use]
    pub fn contains(&self, traffic: Traffic) -> bool {
        match traffic {
            Traffic::Port { protocol, port } => self.ports(protocol).contains(port),
            Traffic::Icmp { .. } => self.icmp,
            Traffic::Other { .. } => self.other,
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &TrafficSet) -> TrafficSet {
        self.combined(other, |a, b| a || b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &TrafficSet) -> TrafficSet {
        self.combined(other, |a, b| a && b)
    }

    /// What is in this and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &TrafficSet) -> TrafficSet {
        self.combined(other, |a, b| a && !b)
    }

    /// Everything that is not in it.
    #[must_use]
    pub fn complement(&self) -> TrafficSet {
        TrafficSet::everything().difference(self)
    }

    /// Whether all of it is in `other`.
    #[must_use]
    pub fn is_within(&self, other: &TrafficSet) -> bool {
        self.difference(other).is_empty()
    }

    /// The parts that are read one by one, in order: a range of ports, ICMP, other protocols.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let ports = Protocol::ALL.into_iter().flat_map(|protocol| {
            self.ports(protocol).ranges().iter().map(move |range| Part::Ports(protocol, *range))
        });
        let rest = [(self.icmp, Part::Icmp), (self.other, Part::Other)];
        ports.chain(rest.into_iter().filter(|(there, _)| *there).map(|(_, part)| part))
    }

    fn combined(&self, other: &TrafficSet, keep: fn(bool, bool) -> bool) -> TrafficSet {
        TrafficSet {
            ports: std::array::from_fn(|i| self.ports[i].combined(&other.ports[i], keep)),
            icmp: keep(self.icmp, other.icmp),
            other: keep(self.other, other.other),
        }
    }

    /// As [`fmt::Display`], of a set that is not easier told by what it lacks.
    fn listed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for protocol in Protocol::ALL {
            let ports = self.ports(protocol);
            if ports.is_all() {
                write!(f, "{between}every {protocol} port")?;
            } else if !ports.is_empty() {
                write!(f, "{between}{ports}/{protocol}")?;
            }
            if !ports.is_empty() {
                between = "; ";
            }
        }
        for (there, name) in [(self.icmp, "icmp"), (self.other, "other protocols")] {
            if there {
                write!(f, "{between}{name}")?;
                between = "; ";
            }
        }
        Ok(())
    }
}

/// One part of a [`TrafficSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A range of ports of a protocol.
    Ports(Protocol, PortRange),
    /// ICMP, or ICMPv6.
    Icmp,
    /// Every protocol that is none of these.
    Other,
}

impl fmt::Display for TrafficSet {
    /// `80, 8080-8090/TCP; 53/UDP`, `every TCP port; icmp`, `everything`, `everything but 22/TCP`,
    /// `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            f.write_str("nothing")
        } else if self.is_all() {
            f.write_str("everything")
        } else if self.icmp && self.other {
            f.write_str("everything but ")?;
            self.complement().listed(f)
        } else {
            self.listed(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(ranges: &[(u32, u32)]) -> PortSet {
        ranges.iter().filter_map(|(first, last)| range(*first, *last)).collect()
    }

    fn tcp(ranges: &[(u32, u32)]) -> TrafficSet {
        TrafficSet::new([ports(ranges), PortSet::default(), PortSet::default()], false, false)
    }

    #[test]
    fn ranges_that_touch_or_overlap_are_one() {
        let one = ports(&[(80, 90), (1, 5), (91, 91), (85, 100), (200, 200)]);
        assert_eq!(one, ports(&[(1, 5), (80, 100), (200, 200)]));
        assert_eq!(one.to_string(), "1-5, 80-100, 200");
        assert_eq!(one.count(), 27);
        assert_eq!(ports(&[(1, 65_534), (65_535, 65_535)]), PortSet::all());
    }

    #[test]
    fn sets_read_as_people_write_them() {
        let none = PortSet::default;
        let both = TrafficSet::new(
            [ports(&[(80, 80), (8080, 8090)]), ports(&[(53, 53)]), none()],
            false,
            false,
        );
        for (set, text) in [
            (TrafficSet::nothing(), "nothing"),
            (TrafficSet::everything(), "everything"),
            (both, "80, 8080-8090/TCP; 53/UDP"),
            (
                TrafficSet::new([PortSet::all(), none(), none()], true, false),
                "every TCP port; icmp",
            ),
            (tcp(&[(22, 22)]).complement(), "everything but 22/TCP"),
            (
                TrafficSet::new([none(), none(), none()], true, true),
                "everything but every TCP port; every UDP port; every SCTP port",
            ),
            (TrafficSet::new([none(), none(), none()], false, true), "other protocols"),
        ] {
            assert_eq!(set.to_string(), text);
        }
    }

    fn port_set() -> impl Strategy<Value = PortSet> {
        // Numbers at both ends, close together: ranges touch, nest and reach the borders.
        let number = || prop_oneof![1..=12_u32, 65_525..=65_535_u32];
        proptest::collection::vec((number(), number()), 0..6).prop_map(|ranges| ports(&ranges))
    }

    fn set() -> impl Strategy<Value = TrafficSet> {
        ([port_set(), port_set(), port_set()], any::<bool>(), any::<bool>())
            .prop_map(|(ports, icmp, other)| TrafficSet::new(ports, icmp, other))
    }

    fn samples() -> impl Iterator<Item = Traffic> {
        let numbers = (0..=14_u16).chain(65_523..=65_535);
        let ported =
            numbers.flat_map(|port| Protocol::ALL.map(|protocol| Traffic::Port { protocol, port }));
        ported.chain([Traffic::Icmp { kind: 8 }, Traffic::Other { protocol: 47 }])
    }

    /// Whether the form is the only one that the set has.
    fn canonical(set: &TrafficSet) -> bool {
        set.ports
            .iter()
            .all(|ports| ports.0.windows(2).all(|pair| ends(pair[0]).1 + 1 < ends(pair[1]).0))
    }

    proptest! {
        #[test]
        fn sets_combine_as_their_members_do(a in set(), b in set()) {
            let (union, both, less) = (a.union(&b), a.intersection(&b), a.difference(&b));
            for traffic in samples() {
                let (in_a, in_b) = (a.contains(traffic), b.contains(traffic));
                prop_assert_eq!(union.contains(traffic), in_a || in_b, "{} in the union", traffic);
                prop_assert_eq!(both.contains(traffic), in_a && in_b, "{} in both", traffic);
                prop_assert_eq!(less.contains(traffic), in_a && !in_b, "{} in the difference", traffic);
            }
            for set in [&union, &both, &less] {
                prop_assert!(canonical(set), "{:?}", set);
            }
            prop_assert_eq!(less.union(&both), a.clone());
            prop_assert_eq!(a.complement().complement(), a);
        }
    }
}
