//! Building a lab: nodes, pod slots and the world outside, with everything that does not depend on
//! a case.
//!
//! Slots and nodes have addresses of the lab's own (`198.18.0.0/15`, `fd5e::/16`) that never change.
//! The addresses of a case are further addresses of a slot, and routes on the nodes that lead to
//! its own, so laying a case onto the lab costs two processes a node.
//! All neighbours are known from the start: no verdict waits for ARP or neighbour discovery.

mod station;
pub(crate) mod wiring;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

pub use station::{Station, StationId};

use crate::conntrack::Conntrack;
use crate::error::LabError;
use crate::namespace::Namespace;

/// How a pod is joined to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wiring {
    /// A veth of its own, with host routes and a link-local gateway.
    Routed,
    /// A port of the bridge `cni0`, whose packets `br_netfilter` shows to iptables.
    Bridged,
}

/// The bridge of bridged pods.
pub const BRIDGE: &str = "cni0";

/// What a lab consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For each node (one or two) the wiring of each of its slots.
    pub nodes: Vec<Vec<Wiring>>,
}

impl Plan {
    /// `nodes` nodes with `slots` slots each, all wired alike.
    #[must_use]
    pub fn uniform(nodes: usize, slots: usize, wiring: Wiring) -> Self {
        Self { nodes: vec![vec![wiring; slots]; nodes] }
    }
}

/// A place for a pod.
#[derive(Debug)]
pub struct Slot {
    /// Where its packets are sent and seen.
    pub station: StationId,
    /// How it is joined.
    pub wiring: Wiring,
    /// The node's device towards it: its veth, or the bridge.
    pub device: String,
    /// The hardware address of the pod's end.
    pub mac: String,
    /// Its own IPv4 address.
    pub v4: Ipv4Addr,
    /// Its own IPv6 address.
    pub v6: Ipv6Addr,
}

impl Slot {
    /// Its own address of the family of `like`.
    #[must_use]
    pub fn address_like(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }
}

/// A node.
#[derive(Debug)]
pub struct LabNode {
    /// Where its own packets are sent and seen.
    pub station: StationId,
    /// Its own IPv4 address.
    pub v4: Ipv4Addr,
    /// Its own IPv6 address.
    pub v6: Ipv6Addr,
    /// Its slots.
    pub slots: Vec<Slot>,
    /// Its connections.
    pub conntrack: Conntrack,
}

/// A lab.
#[derive(Debug)]
pub struct Lab {
    /// The nodes; the world outside hangs on the first.
    pub nodes: Vec<LabNode>,
    /// The station of the world outside, which answers for every address that nobody else has.
    pub external: StationId,
    stations: Vec<Station>,
    token: AtomicU32,
    port: AtomicU16,
}

impl Lab {
    /// Builds what `plan` says.
    ///
    /// # Errors
    /// Where the machine lacks privilege, a program, or a feature of the kernel.
    pub fn build(plan: &Plan) -> Result<Self, LabError> {
        wiring::build(plan)
    }

    fn assemble(nodes: Vec<LabNode>, external: StationId, stations: Vec<Station>) -> Self {
        Self {
            nodes,
            external,
            stations,
            token: AtomicU32::new(0x1000_0000),
            port: AtomicU16::new(10_000),
        }
    }

    /// A station.
    #[must_use]
    pub fn station(&self, id: StationId) -> &Station {
        &self.stations[id.0]
    }

    /// All stations.
    pub fn stations(&self) -> impl Iterator<Item = (StationId, &Station)> {
        self.stations.iter().enumerate().map(|(index, station)| (StationId(index), station))
    }

    /// The namespace of a node.
    #[must_use]
    pub fn namespace(&self, node: &LabNode) -> &Namespace {
        &self.station(node.station).namespace
    }

    /// A token that no packet of this lab has had.
    pub fn next_token(&self) -> u32 {
        self.token.fetch_add(1, Ordering::Relaxed)
    }

    /// A source port or echo identifier that no recent packet of this lab has had.
    pub fn next_port(&self) -> u16 {
        let port = self.port.fetch_add(1, Ordering::Relaxed);
        if port >= 60_000 {
            self.port.store(10_000, Ordering::Relaxed);
        }
        port
    }

    /// Forgets all connections on all nodes.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_connections(&self) -> Result<(), LabError> {
        self.nodes.iter().try_for_each(|node| node.conntrack.flush())
    }

    /// The lab's own IPv4 address of a station.
    #[must_use]
    pub fn address_of(&self, id: StationId) -> IpAddr {
        let own = self.nodes.iter().find_map(|node| {
            let slot = || node.slots.iter().find(|slot| slot.station == id).map(|slot| slot.v4);
            (node.station == id).then_some(node.v4).or_else(slot)
        });
        own.unwrap_or(wiring::OUTSIDE_V4).into()
    }

    /// The address by which node `node` is reached over the link between the nodes, of the family
    /// of `like`.
    #[must_use]
    pub fn peer_address(&self, node: usize, like: IpAddr) -> IpAddr {
        wiring::peer_address(node, like)
    }

    /// Whether an address is one of the lab's own, which no case may use.
    #[must_use]
    pub fn reserves(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => a.octets()[0] == 198 && a.octets()[1] & 0xfe == 18,
            IpAddr::V6(a) => a.segments()[0] == 0xfd5e,
        }
    }
}
