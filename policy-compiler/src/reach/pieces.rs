//! All traffic cut into pieces that some rules do not tell apart.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use crate::cidr::Family;
use crate::cluster::Pod;
use crate::flow::Traffic;
use crate::policy::{PortMatch, PortNumbers};
use crate::port::{PortRange, Protocol};

use super::traffic::{Part, PortSet, TrafficSet};

impl Part {
    /// Some traffic of it.
    pub(super) fn representative(self, family: Family) -> Traffic {
        match self {
            Part::Ports(protocol, range) => Traffic::Port { protocol, port: range.first().get() },
            Part::Icmp => Traffic::ping(family),
            Part::Other => Traffic::Other { protocol: 47 },
        }
    }
}

/// Where the ports of rules begin and end.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges([BTreeSet<u32>; 3]);

impl Edges {
    /// Adds those of a listed port; a name is what the pods it may lead to call so.
    pub(super) fn add<'p>(
        &mut self,
        port: &PortMatch,
        destinations: impl IntoIterator<Item = &'p Pod>,
    ) {
        match &port.numbers {
            PortNumbers::Any => {}
            PortNumbers::Range(range) => self.cut(port.protocol, *range),
            PortNumbers::Named(name) => {
                for declared in destinations.into_iter().flat_map(|pod| &pod.ports) {
                    if declared.name.as_ref() == Some(name) {
                        self.cut(declared.protocol, PortRange::single(declared.number));
                    }
                }
            }
        }
    }

    fn cut(&mut self, protocol: Protocol, range: PortRange) {
        let (first, last) = (range.first().get(), range.last().get());
        self.0[index(protocol)].extend([u32::from(first), u32::from(last) + 1]);
    }

    /// The pieces between the edges, and what has no ports.
    pub(super) fn pieces(mut self) -> Vec<Part> {
        let behind = u32::from(u16::MAX) + 1;
        let port = |number: u32| u16::try_from(number).ok().and_then(NonZeroU16::new);
        let mut pieces = Vec::new();
        for protocol in Protocol::ALL {
            let edges = &mut self.0[index(protocol)];
            edges.extend([1, behind]);
            let edges: Vec<u32> = edges.iter().copied().collect();
            pieces.extend(edges.windows(2).filter_map(|pair| {
                let range = PortRange::new(port(pair[0])?, port(pair[1] - 1)?)?;
                Some(Part::Ports(protocol, range))
            }));
        }
        pieces.extend([Part::Icmp, Part::Other]);
        pieces
    }
}

fn index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

/// A [`TrafficSet`] in the making.
#[derive(Default)]
pub(super) struct Gathered {
    ports: [Vec<PortRange>; 3],
    icmp: bool,
    other: bool,
}

impl Gathered {
    pub(super) fn add(&mut self, part: Part) {
        match part {
            Part::Ports(protocol, range) => self.ports[index(protocol)].push(range),
            Part::Icmp => self.icmp = true,
            Part::Other => self.other = true,
        }
    }

    pub(super) fn set(self) -> TrafficSet {
        TrafficSet::new(self.ports.map(PortSet::from_iter), self.icmp, self.other)
    }
}
