//! What the kernel shows of interfaces, and of what is behind them.
//!
//! The best witness of who is behind a port is the network namespace at its other end: there the network
//! plugin has set the pod's address, and no packet changes that. The kernel answers for another
//! namespace by the number that it has for it here, to whoever may administer that as well. Where it
//! does not tell (a sandbox with a network stack of its own leaves no address there), what is left are
//! the bridge's neighbours and its forwarding table, which hold what pods have sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::dataplane::links::{LinkError, Routes};

/// An interface of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) kind: LinkKind,
    /// The bridge that it is a port of, or what else it is subordinate to.
    pub(super) controller: Option<u32>,
    /// The other end of the pair: the number here of its namespace, and its own there.
    pub(super) peer: Option<(i32, u32)>,
}

/// What an interface is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkKind {
    Bridge,
    /// Whatever leads to one pod alone: a veth, a tap.
    Own,
    /// A tunnel that takes packets out of UDP on this port.
    Tunnel(NonZeroU16),
    Other,
}

/// The interfaces by number.
pub(super) type Links = BTreeMap<u32, Link>;

/// By which interface a host route leads to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostRoute {
    pub(super) index: u32,
    /// Whether the route is for this address alone.
    pub(super) exact: bool,
}

/// What bridges have learned from what was sent, which need not be true.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The hardware addresses of neighbours, by bridge.
    neighbours: BTreeMap<(u32, IpAddr), Vec<u8>>,
    /// The ports of hardware addresses, by bridge.
    ports: BTreeMap<(u32, Vec<u8>), u32>,
}

impl Learned {
    /// By which port of a bridge frames go to an address.
    pub(super) fn port(&self, bridge: u32, address: IpAddr) -> Option<u32> {
        let hardware = self.neighbours.get(&(bridge, address))?;
        self.ports.get(&(bridge, hardware.clone())).copied()
    }
}

/// Questions to the kernel, about the network namespace of the caller.
pub(super) struct Kernel {
    routes: Routes,
    /// For questions about other namespaces; absent where the kernel knows none.
    beyond: Option<Routes>,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, LinkError> {
        let routes = Routes::open()?;
        let beyond = Routes::open()?;
        let beyond = beyond.be_strict().is_ok().then_some(beyond);
        Ok(Self { routes, beyond })
    }

    /// All interfaces.
    pub(super) fn links(&self) -> Result<Links, LinkError> {
        let mut links = Links::new();
        self.routes.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer {
                links.extend(link(&message));
            }
        })?;
        Ok(links)
    }

    /// The addresses of the node with their networks.
    pub(super) fn own_addresses(&self) -> Result<BTreeSet<IpNet>, LinkError> {
        let mut found = BTreeSet::new();
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.routes.dump(question, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer {
                let length = message.header.prefix_len;
                found.extend(own(&message).and_then(|address| IpNet::new(address, length).ok()));
            }
        })?;
        Ok(found)
    }

    /// The route to an address, if it is direct.
    pub(super) fn route(&self, address: IpAddr) -> Result<Option<HostRoute>, LinkError> {
        let mut question = RouteMessage::default();
        let (family, length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = length;
        // The route itself and not its outcome for this address.
        question.header.flags = RouteFlags::FibMatch;
        question.attributes.push(RouteAttribute::Destination(address.into()));
        let Some(RouteNetlinkMessage::NewRoute(route)) =
            self.routes.ask(RouteNetlinkMessage::GetRoute(question))?
        else {
            return Ok(None);
        };
        let far =
            |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
        if route.header.kind != RouteType::Unicast || route.attributes.iter().any(far) {
            return Ok(None);
        }
        let index = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let exact = route.header.destination_prefix_length == length;
        Ok(index.map(|index| HostRoute { index, exact }))
    }

    /// The addresses that the interface at the other end of a pair has; none where the kernel does not
    /// tell.
    pub(super) fn addresses_behind(&self, peer: (i32, u32)) -> BTreeSet<IpAddr> {
        let mut found = BTreeSet::new();
        let Some(beyond) = &self.beyond else { return found };
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = AddressMessage::default();
            question.header.family = family;
            question.attributes.push(AddressAttribute::TargetNetNsId(peer.0));
            // A refusal is the answer of a kernel, or of a namespace, that does not tell.
            let _ = beyond.dump(RouteNetlinkMessage::GetAddress(question), |answer| {
                if let RouteNetlinkMessage::NewAddress(message) = answer
                    && message.header.index == peer.1
                {
                    found.extend(own(&message));
                }
            });
        }
        found
    }

    /// What bridges have learned.
    pub(super) fn learned(&self) -> Result<Learned, LinkError> {
        let mut learned = Learned::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            self.neighbours(family, |message| {
                let unknown = matches!(
                    message.header.state,
                    NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None
                );
                let entry = destination(message).zip(link_layer(message)).filter(|_| !unknown);
                let bridge = message.header.ifindex;
                learned.neighbours.extend(entry.map(|(a, hw)| ((bridge, a), hw.to_vec())));
            })?;
        }
        self.neighbours(AddressFamily::Bridge, |message| {
            let bridge = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Controller(bridge) => Some(*bridge),
                _ => None,
            });
            // The bridge's own entries lead to nobody behind a port.
            let own = message.header.state == NeighbourState::Permanent;
            let entry = bridge.zip(link_layer(message)).filter(|_| !own);
            let port = message.header.ifindex;
            learned.ports.extend(entry.map(|(bridge, hw)| ((bridge, hw.to_vec()), port)));
        })?;
        Ok(learned)
    }

    fn neighbours(
        &self,
        family: AddressFamily,
        mut take: impl FnMut(&NeighbourMessage),
    ) -> Result<(), LinkError> {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        self.routes.dump(RouteNetlinkMessage::GetNeighbour(question), |answer| {
            if let RouteNetlinkMessage::NewNeighbour(message) = answer {
                take(&message);
            }
        })
    }
}

fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let mut name = None;
    let (mut controller, mut namespace, mut other) = (None, None, None);
    let mut kind = LinkKind::Other;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Controller(index) => controller = Some(*index),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
            LinkAttribute::Link(index) => other = Some(*index),
            LinkAttribute::LinkInfo(infos) => kind = kind_of(infos),
            _ => {}
        }
    }
    let link = Link { name: name?, kind, controller, peer: namespace.zip(other) };
    Some((message.header.index, link))
}

fn kind_of(infos: &[LinkInfo]) -> LinkKind {
    let port = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(values)) => values.iter().find_map(|value| match value {
            InfoVxlan::Port(port) => NonZeroU16::new(*port),
            _ => None,
        }),
        _ => None,
    });
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match (kind, port) {
        (Some(InfoKind::Bridge), _) => LinkKind::Bridge,
        (Some(InfoKind::Veth | InfoKind::Tun | InfoKind::Netkit), _) => LinkKind::Own,
        (Some(InfoKind::Vxlan), Some(port)) => LinkKind::Tunnel(port),
        _ => LinkKind::Other,
    }
}

/// The address of the interface itself: where there is a far end, the other attribute is that.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    of(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        of(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((*address).into())
        }
        _ => None,
    })
}

fn link_layer(message: &NeighbourMessage) -> Option<&[u8]> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Some(bytes.as_slice()),
        _ => None,
    })
}
