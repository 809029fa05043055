//! The bridges that carry pods of this node, asked of the kernel by route.
//!
//! A bridge carries a pod where the pod's address is routed to it with no gateway between. While a
//! bridge is down there are no such routes, though it will carry the pod again: so one that was found
//! is kept for as long as it exists and the address belongs to a pod that is routed to no other
//! interface, and one whose own address spans the pod's counts without a route. Asked
//! over netlink, in the network namespace of the caller; `/sys` shows the namespace in which it was
//! mounted. Where `br_netfilter` is not loaded there is nothing to find: bridged packets then never
//! meet iptables, and a rule that asks about them would load it for every bridge of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use policy_compiler::config::InterfaceName;

use super::netlink::{bound, messages};

/// Why bridges could not be found.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The netlink socket failed.
    #[error("cannot ask the kernel for routes")]
    Socket(#[from] io::Error),
    /// What came back was no answer.
    #[error("cannot read the kernel's answer about routes: {0}")]
    Answer(String),
}

/// The bridges that carry pods, as found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridges {
    /// By the pod's address: the interface's number and name.
    carried: BTreeMap<IpAddr, (u32, InterfaceName)>,
}

impl Bridges {
    /// Looks which bridges carry the addresses now; none where `br_netfilter` is not loaded.
    ///
    /// # Errors
    /// Where the kernel cannot be asked: what was found before then still holds. An address without
    /// a route is no error.
    pub fn look(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<BTreeSet<InterfaceName>, LinkError> {
        if !Path::new("/proc/sys/net/bridge").exists() {
            self.carried.clear();
            return Ok(BTreeSet::new());
        }
        let routes = Routes::open()?;
        let mut links: BTreeMap<u32, Option<InterfaceName>> = BTreeMap::new();
        let mut spans: Option<Vec<(IpNet, u32)>> = None;
        let mut carried = BTreeMap::new();
        for address in addresses {
            let mut index = routes.output(address)?;
            if index.is_none() {
                index = self.carried.get(&address).map(|(index, _)| *index);
            }
            if index.is_none() {
                let spans = match &mut spans {
                    Some(spans) => spans,
                    none => none.insert(routes.spans()?),
                };
                let around = spans.iter().filter(|(net, _)| net.contains(&address));
                index = around.max_by_key(|(net, _)| net.prefix_len()).map(|(_, index)| *index);
            }
            let Some(index) = index else { continue };
            let name = match links.get(&index) {
                Some(name) => name.clone(),
                None => links.entry(index).or_insert(routes.bridge(index)?).clone(),
            };
            carried.extend(name.map(|name| (address, (index, name))));
        }
        self.carried = carried;
        Ok(self.carried.values().map(|(_, name)| name.clone()).collect())
    }
}

/// How an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The number of the interface.
    pub(crate) index: u32,
    /// Whether a gateway stands between.
    pub(crate) far: bool,
}

/// The routes and interfaces of the caller's network namespace.
pub(crate) struct Routes {
    socket: Socket,
}

impl Routes {
    pub(crate) fn open() -> Result<Self, LinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        bound(&socket)?;
        Ok(Self { socket })
    }

    /// The interface by which an address is reached directly.
    fn output(&self, address: IpAddr) -> Result<Option<u32>, LinkError> {
        Ok(self.way(address)?.filter(|way| !way.far).map(|way| way.index))
    }

    /// How an address is reached; not at all where it is the node's own.
    pub(crate) fn way(&self, address: IpAddr) -> Result<Option<Way>, LinkError> {
        let mut question = RouteMessage::default();
        (question.header.address_family, question.header.destination_prefix_length) = match address
        {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.attributes.push(RouteAttribute::Destination(address.into()));
        let Some(RouteNetlinkMessage::NewRoute(route)) =
            self.ask(RouteNetlinkMessage::GetRoute(question))?
        else {
            return Ok(None);
        };
        Ok(way(&route))
    }

    /// The networks of the addresses that interfaces have, with the interfaces' numbers.
    fn spans(&self) -> Result<Vec<(IpNet, u32)>, LinkError> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut spans = Vec::new();
        self.dump(question, |answer| {
            if let RouteNetlinkMessage::NewAddress(address) = answer {
                spans.extend(span(&address));
            }
        })?;
        Ok(spans)
    }

    /// All that the kernel answers to a question about everything of a kind.
    pub(crate) fn dump(
        &self,
        question: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), LinkError> {
        self.send(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            for message in messages::<RouteNetlinkMessage>(&answer) {
                let message = message.map_err(|error| LinkError::Answer(error.to_string()))?;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => take(answer),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return Err(LinkError::Answer(error.to_io().to_string()));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Has the kernel take questions at their word, which those about other namespaces take.
    pub(crate) fn be_strict(&self) -> Result<(), LinkError> {
        Ok(self.socket.set_netlink_get_strict_chk(true)?)
    }

    /// The name of an interface that is a bridge. One whose name no rule could carry is passed over:
    /// iptables could not have been told of it in any other way.
    fn bridge(&self, index: u32) -> Result<Option<InterfaceName>, LinkError> {
        let Some(link) = self.link(index)? else { return Ok(None) };
        let is_bridge = link.attributes.iter().any(|a| match a {
            LinkAttribute::LinkInfo(infos) => {
                infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
            }
            _ => false,
        });
        let name = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => InterfaceName::new(name).ok(),
            _ => None,
        });
        Ok(name.filter(|_| is_bridge))
    }

    /// An interface with all that the kernel tells of it.
    pub(crate) fn link(&self, index: u32) -> Result<Option<LinkMessage>, LinkError> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        Ok(match self.ask(RouteNetlinkMessage::GetLink(question))? {
            Some(RouteNetlinkMessage::NewLink(link)) => Some(link),
            _ => None,
        })
    }

    /// One question, one answer; the kernel's refusal (no such route, no such link) is none.
    pub(crate) fn ask(
        &self,
        question: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, LinkError> {
        self.send(question, NLM_F_REQUEST)?;
        let (answer, _) = self.socket.recv_from_full()?;
        Ok(match parse(&answer)?.payload {
            NetlinkPayload::InnerMessage(inner) => Some(inner),
            _ => None,
        })
    }

    fn send(&self, question: RouteNetlinkMessage, flags: u16) -> Result<(), LinkError> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<NetlinkMessage<RouteNetlinkMessage>, LinkError> {
    NetlinkMessage::deserialize(bytes).map_err(|error| LinkError::Answer(error.to_string()))
}

/// How packets leave by a route; an address of the node's own is reached by none.
pub(super) fn way(route: &RouteMessage) -> Option<Way> {
    if route.header.kind == RouteType::Local {
        return None;
    }
    let far = |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
    let index = route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })?;
    Some(Way { index, far: route.attributes.iter().any(far) })
}

pub(super) fn span(message: &AddressMessage) -> Option<(IpNet, u32)> {
    let address = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })?;
    let net = IpNet::new(address, message.header.prefix_len).ok()?;
    Some((net.trunc(), message.header.index))
}
