//! The question: may this new connection be made?

use std::fmt;
use std::net::IpAddr;

use crate::cidr::Family;
use crate::name::{NodeName, ObjectKey};
use crate::port::Protocol;

/// The number of ICMP in the header of IPv4.
pub const ICMP: u8 = 1;

/// The number of ICMPv6 in the header of IPv6.
pub const ICMPV6: u8 = 58;

/// A new connection, asked for one family. Ports and addresses are those after service translation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// Over which family. A bare address as an end must be of it.
    pub family: Family,
    /// What is sent.
    pub traffic: Traffic,
    /// How it travels on the node of the pods.
    pub wire: Wire,
}

/// One end of a [`Flow`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A pod (or template), by the address that it has in the flow's family.
    Pod(ObjectKey),
    /// A node itself: its kubelet, its hostNetwork pods.
    Node(NodeName),
    /// An address. That of a pod is the pod, that of a node is the node, any other is the world.
    Address(IpAddr),
}

impl fmt::Display for End {
    /// `shop/web-0`, `node/node-a`, `203.0.113.7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Pod(key) => f.pad(&key.to_string()),
            End::Node(name) => f.pad(&format!("node/{name}")),
            End::Address(address) => f.pad(&address.to_string()),
        }
    }
}

/// What a flow carries. Ports are the destination's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// A transport protocol that policies can name.
    Port {
        /// Which.
        protocol: Protocol,
        /// The destination port.
        port: u16,
    },
    /// ICMP, or ICMPv6 in an IPv6 flow, of this type.
    Icmp {
        /// The ICMP type: 8 and 128 are echo requests.
        kind: u8,
    },
    /// Any other protocol by its number.
    Other {
        /// The number in the IP header.
        protocol: u8,
    },
}

impl Traffic {
    /// TCP to `port`.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Traffic::Port { protocol: Protocol::Tcp, port }
    }

    /// UDP to `port`.
    #[must_use]
    pub fn udp(port: u16) -> Self {
        Traffic::Port { protocol: Protocol::Udp, port }
    }

    /// SCTP to `port`.
    #[must_use]
    pub fn sctp(port: u16) -> Self {
        Traffic::Port { protocol: Protocol::Sctp, port }
    }

    /// An echo request of `family`.
    #[must_use]
    pub fn ping(family: Family) -> Self {
        Traffic::Icmp { kind: if family == Family::V4 { 8 } else { 128 } }
    }

    /// The number in the IP header.
    #[must_use]
    pub fn ip_protocol(self, family: Family) -> u8 {
        match self {
            Traffic::Port { protocol, .. } => protocol.number(),
            Traffic::Icmp { .. } if family == Family::V4 => ICMP,
            Traffic::Icmp { .. } => ICMPV6,
            Traffic::Other { protocol } => protocol,
        }
    }
}

impl fmt::Display for Traffic {
    /// `8080/TCP`, `icmp type 8`, `protocol 47`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traffic::Port { protocol, port } => write!(f, "{port}/{protocol}"),
            Traffic::Icmp { kind } => write!(f, "icmp type {kind}"),
            Traffic::Other { protocol } => write!(f, "protocol {protocol}"),
        }
    }
}

/// How a flow's first packet comes by the node that polices it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    /// Routed: every packet has passed the node's routing decision. A flow of a pod to itself never
    /// gets that far.
    #[default]
    Routed,
    /// Bridged between two ports of a bridge that carries pods of this flow's node: link-local,
    /// broadcast and multicast can be met here.
    Bridged,
    /// Routed, after a Service translated the destination to where it came from (hairpin): only
    /// meaningful where both ends are one address.
    Translated,
    /// On the wire with the destination's own address as source and no translation, which nobody
    /// honest sends: only meaningful where both ends are one address.
    Spoofed,
}
