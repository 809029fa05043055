//! The union of all rules of all policies that isolate a pod in one direction, by ports: one group
//! of peers for each port key, however many policies contributed.
//!
//! Ports by name become numbers here for ingress, where the selected pod declares them; a name that
//! it does not declare grants nothing. For egress they stay names, since each destination has its
//! own number. A peer that a wider port key grants already is left out of the narrower ones.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use super::peers::PeerUnion;
use super::ports::PortKey;
use crate::cluster::Pod;
use crate::policy::{Direction, Grant, Policy, PortMatch, PortNumbers, Ports};
use crate::port::{PortName, Protocol};

/// A port that a pod declares under a name.
pub(super) type NamedPort = (Protocol, PortName, NonZeroU16);

/// The named ports of a pod.
pub(super) fn named_ports(pod: &Pod) -> BTreeSet<NamedPort> {
    let named = |port: &crate::cluster::ContainerPort| {
        port.name.clone().map(|name| (port.protocol, name, port.number))
    };
    pod.ports.iter().filter_map(named).collect()
}

/// What some policies together grant in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants<'a> {
    /// To whom on which ports.
    pub(super) numbered: BTreeMap<PortKey, PeerUnion<'a>>,
    /// To whom on the ports that the destination calls so; empty for ingress.
    pub(super) named: BTreeMap<(Protocol, PortName), PeerUnion<'a>>,
}

impl<'a> Grants<'a> {
    /// The union of what `policies` grant to a pod that declares `own_ports`.
    pub(super) fn of(
        direction: Direction,
        policies: &[&'a Policy],
        own_ports: &BTreeSet<NamedPort>,
    ) -> Self {
        let mut grants = Self::default();
        for policy in policies {
            for rule in policy.rules(direction) {
                let Grant::Traffic { peers, ports } = &rule.grant else { continue };
                let peers = PeerUnion::of(&policy.key.namespace, peers);
                match ports {
                    Ports::Any => grants.add(PortKey::All, &peers),
                    Ports::Listed(list) => {
                        for port in list {
                            grants.add_port(direction, port, own_ports, &peers);
                        }
                    }
                }
            }
        }
        grants.absorb();
        grants
    }

    fn add(&mut self, key: PortKey, peers: &PeerUnion<'a>) {
        self.numbered.entry(key).or_default().unite(peers);
    }

    fn add_port(
        &mut self,
        direction: Direction,
        port: &PortMatch,
        own_ports: &BTreeSet<NamedPort>,
        peers: &PeerUnion<'a>,
    ) {
        match (&port.numbers, direction) {
            (PortNumbers::Any, _) => self.add(PortKey::Every(port.protocol), peers),
            (PortNumbers::Range(range), _) => {
                self.add(PortKey::Range(port.protocol, *range), peers);
            }
            (PortNumbers::Named(name), Direction::Egress) => {
                self.named.entry((port.protocol, name.clone())).or_default().unite(peers);
            }
            (PortNumbers::Named(name), Direction::Ingress) => {
                for (protocol, declared, number) in own_ports {
                    if *protocol == port.protocol && declared == name {
                        self.add(PortKey::single(*protocol, *number), peers);
                    }
                }
            }
        }
    }

    /// Leaves peers out where a wider key has them.
    fn absorb(&mut self) {
        let wide: Vec<(PortKey, PeerUnion<'a>)> = self
            .numbered
            .iter()
            .filter(|(key, _)| key.is_wide())
            .map(|(key, peers)| (*key, peers.clone()))
            .collect();
        for (wider, absorbing) in &wide {
            for (key, peers) in &mut self.numbered {
                if wider.is_wider_than(*key) {
                    peers.subtract(absorbing);
                }
            }
            for ((protocol, _), peers) in &mut self.named {
                if *wider == PortKey::All || *wider == PortKey::Every(*protocol) {
                    peers.subtract(absorbing);
                }
            }
        }
        self.numbered.retain(|_, peers| !peers.is_nobody());
        self.named.retain(|_, peers| !peers.is_nobody());
    }
}
