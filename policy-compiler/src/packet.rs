//! A packet as the rules see it.

use std::net::IpAddr;

use crate::cidr::Family;
use crate::config::InterfaceName;
use crate::flow::Traffic;

/// The facts of one packet that some rule of ours can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address; of the same family as the destination.
    pub source: IpAddr,
    /// Destination address, after service translation.
    pub destination: IpAddr,
    /// Protocol and destination port or ICMP type.
    pub traffic: Traffic,
    /// Whether a TCP segment has SYN set, and neither ACK, RST nor FIN.
    pub syn: bool,
    /// What conntrack calls it.
    pub state: ConnState,
    /// The destination that the connection was first made to, where conntrack knows one.
    pub original_destination: Option<IpAddr>,
    /// How it goes by.
    pub path: Path,
    /// Whether the destination is a broadcast address of an interface here.
    pub to_broadcast: bool,
}

impl Packet {
    /// The first packet of a new connection, forwarded between interfaces.
    #[must_use]
    pub fn opening(source: IpAddr, destination: IpAddr, traffic: Traffic) -> Self {
        Self {
            source,
            destination,
            traffic,
            syn: true,
            state: ConnState::New,
            original_destination: Some(destination),
            path: Path::Forwarded { from: None, bridged: false },
            to_broadcast: false,
        }
    }

    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.destination)
    }
}

/// What conntrack calls a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnState {
    /// The first of a flow.
    New,
    /// Of a flow that has been answered.
    Established,
    /// Of a flow that another one announced; an ICMP error.
    Related,
    /// What conntrack cannot make sense of.
    Invalid,
    /// What conntrack was told to leave alone.
    Untracked,
}

/// Which hook a packet meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// FORWARD.
    Forwarded {
        /// The interface it came in by: the bridge, for a bridged one.
        from: Option<InterfaceName>,
        /// Whether it goes from one port of a bridge to another.
        bridged: bool,
    },
    /// OUTPUT: this node's own stack sends it.
    SentByNode {
        /// Whether its source address is one of the node's.
        from_local: bool,
    },
    /// INPUT: it is for the node itself, which is always allowed as far as policies go.
    ForNode {
        /// The interface it came in by.
        from: Option<InterfaceName>,
    },
}

impl Path {
    /// The interface by which a packet came in, as far as it did.
    #[must_use]
    pub fn came_in_by(&self) -> Option<&InterfaceName> {
        match self {
            Path::Forwarded { from, .. } | Path::ForNode { from } => from.as_ref(),
            Path::SentByNode { .. } => None,
        }
    }
}
