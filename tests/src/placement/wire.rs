//! The packets of a flow, by the way it travels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::cidr::Family;
use policy_compiler::flow::{Flow, Traffic};
use policy_compiler::port::Protocol;

use super::{Home, Placement, Trial, Unmapped};
use crate::lab::{Slot, StationId, Wiring};
use crate::packet::Outline;
use crate::probe::Probe;

/// A Service of the lab's: what is sent to `service` arrives at `pod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Translation {
    /// The Service's address.
    pub service: IpAddr,
    /// The pod's.
    pub pod: IpAddr,
    /// The node that translates.
    pub node: usize,
}

type Place = (IpAddr, Home);

impl Placement<'_> {
    pub(super) fn station(&self, home: Home) -> StationId {
        match home {
            Home::Slot { node, slot } => self.slot(node, slot).station,
            Home::Node(node) => self.lab.nodes[node].station,
            Home::Outside => self.lab.external,
        }
    }

    fn outline(&self, flow: &Flow, source: IpAddr, destination: IpAddr) -> Outline {
        Outline::opening(source, destination, flow.traffic, self.lab.next_port())
    }

    pub(super) fn routed(
        &mut self,
        flow: &Flow,
        (source, from): Place,
        (destination, to): Place,
    ) -> Result<Trial, Unmapped> {
        for address in [source, destination] {
            if !is_routable(address) {
                return Err(Unmapped::Unroutable(address));
            }
        }
        if from == Home::Outside && to == Home::Outside {
            return Err(Unmapped::PassesNoNode);
        }
        for (address, home) in [(source, from), (destination, to)] {
            if home == Home::Outside && !self.homes.contains_key(&address) {
                self.strangers.insert(address);
            }
        }
        let mut towards = destination;
        if let (Home::Slot { node, slot }, Home::Slot { node: far, slot: peer }) = (from, to) {
            let (near, peer_slot) = (self.slot(node, slot), self.slot(far, peer));
            // What a pod sends to itself never leaves it.
            if from != to
                && node == far
                && near.wiring == Wiring::Bridged
                && peer_slot.wiring == Wiring::Bridged
                && !is_neighbour_discovery(flow)
            {
                towards = peer_slot.address_like(destination);
            }
        }
        let probe = Probe {
            sender: self.station(from),
            towards,
            outline: self.outline(flow, source, destination),
            receivers: vec![self.station(to)],
        };
        let answer = from != to && is_answered(flow);
        Ok(Trial { probes: vec![probe], answer })
    }

    pub(super) fn bridged(
        &self,
        flow: &Flow,
        (source, from): Place,
        (destination, to): Place,
    ) -> Result<Trial, Unmapped> {
        let ((Home::Slot { node, .. }, _) | (_, Home::Slot { node, .. })) = (from, to) else {
            return Err(Unmapped::PassesNoNode);
        };
        let taken = |home| match home {
            Home::Slot { slot, .. } => Some(slot),
            _ => None,
        };
        let sender = match taken(from) {
            Some(slot) => self.bridge_slot(node, slot)?,
            None => self.stranger(node, taken(to))?,
        };
        let everybody = || -> Vec<StationId> {
            let slots = self.lab.nodes[node].slots.iter();
            slots.map(|slot| slot.station).filter(|id| *id != sender.station).collect()
        };
        let (towards, receivers) = match taken(to) {
            Some(slot) => {
                let slot = self.bridge_slot(node, slot)?;
                (slot.address_like(destination), vec![slot.station])
            }
            None if destination.is_multicast() || is_broadcast(destination) => {
                (destination, everybody())
            }
            None => {
                let slot = self.stranger(node, taken(from))?;
                (slot.address_like(destination), vec![slot.station])
            }
        };
        let outline = self.outline(flow, source, destination);
        let probe = Probe { sender: sender.station, towards, outline, receivers };
        Ok(Trial { probes: vec![probe], answer: false })
    }

    /// The pod calls a Service of which it is the endpoint.
    pub(super) fn translated(
        &mut self,
        flow: &Flow,
        (pod, home): Place,
    ) -> Result<Trial, Unmapped> {
        let Home::Slot { node, .. } = home else { return Err(Unmapped::PassesNoNode) };
        let known = self.translations.iter().find(|known| known.pod == pod);
        let service = if let Some(known) = known {
            known.service
        } else {
            let number = u16::try_from(self.translations.len() + 1).unwrap_or(u16::MAX);
            let service = service_address(Family::of(pod), number);
            self.translations.push(Translation { service, pod, node });
            service
        };
        let station = self.station(home);
        let probe = Probe {
            sender: station,
            towards: service,
            outline: self.outline(flow, pod, service),
            receivers: vec![station],
        };
        Ok(Trial { probes: vec![probe], answer: false })
    }

    /// The pod sends to its own address by its gateway, and on a bridge a stranger does so directly.
    pub(super) fn spoofed(&self, flow: &Flow, (pod, home): Place) -> Result<Trial, Unmapped> {
        let Home::Slot { node, slot } = home else { return Err(Unmapped::PassesNoNode) };
        let slot_index = slot;
        let slot = self.slot(node, slot);
        let gateway = match pod {
            IpAddr::V4(_) => IpAddr::V4(self.lab.nodes[node].v4),
            IpAddr::V6(_) => IpAddr::V6(self.lab.nodes[node].v6),
        };
        let mut ways = vec![(slot.station, gateway)];
        if slot.wiring == Wiring::Bridged {
            let stranger = self.stranger(node, Some(slot_index))?;
            ways.push((stranger.station, slot.address_like(pod)));
        }
        let probes = ways
            .into_iter()
            .map(|(sender, towards)| Probe {
                sender,
                towards,
                outline: self.outline(flow, pod, pod),
                receivers: vec![slot.station],
            })
            .collect();
        Ok(Trial { probes, answer: false })
    }

    fn bridge_slot(&self, node: usize, slot: usize) -> Result<&'_ Slot, Unmapped> {
        let slot = self.slot(node, slot);
        if slot.wiring == Wiring::Bridged { Ok(slot) } else { Err(Unmapped::NeedsBridge) }
    }

    /// A slot on the bridge that no pod has, or at least not the one at the other end.
    fn stranger(&self, node: usize, other: Option<usize>) -> Result<&'_ Slot, Unmapped> {
        let slots = &self.lab.nodes[node].slots;
        let (index, slot) = slots.iter().enumerate().next_back().ok_or(Unmapped::NoSpareSlot)?;
        if slot.wiring != Wiring::Bridged {
            return Err(Unmapped::NeedsBridge);
        }
        if Some(index) == other { Err(Unmapped::NoSpareSlot) } else { Ok(slot) }
    }

    /// The Services that the trials so far call.
    #[must_use]
    pub fn translations(&self) -> &[Translation] {
        &self.translations
    }
}

fn service_address(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(198, 19, high, low).into(),
        Family::V6 => Ipv6Addr::new(0xfd5e, 0xffff, 0, 0, 0, 0, 0, number).into(),
    }
}

/// Neighbour discovery and MLD pass on a bridge only; asked about as routed it goes by the gateway.
fn is_neighbour_discovery(flow: &Flow) -> bool {
    flow.family == Family::V6 && matches!(flow.traffic, Traffic::Icmp { kind: 130..=137 | 143 })
}

/// Whether a receiver's kernel answers by itself: a reset, or an echo reply.
fn is_answered(flow: &Flow) -> bool {
    matches!(flow.traffic, Traffic::Port { protocol: Protocol::Tcp, .. })
        || flow.traffic == Traffic::ping(flow.family)
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(a) if a.is_broadcast())
}

fn is_routable(address: IpAddr) -> bool {
    let special = address.is_loopback() || address.is_multicast() || address.is_unspecified();
    let local = match address {
        IpAddr::V4(a) => a.is_broadcast() || a.octets()[0] == 0 || a.octets()[0] >= 240,
        IpAddr::V6(a) => a.is_unicast_link_local() || a.to_ipv4_mapped().is_some(),
    };
    !special && !local
}
