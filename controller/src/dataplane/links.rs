//! The bridges that carry pods of this node, asked of the kernel by route.
//!
//! A bridge carries a pod where the pod's address is routed to it with no gateway between. Asked
//! over netlink, in the network namespace of the caller; `/sys` shows the namespace in which it was
//! mounted. Where `br_netfilter` is not loaded there is nothing to find: bridged packets then never
//! meet iptables, and a rule that asks about them would load it for every bridge of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use policy_compiler::config::InterfaceName;

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

/// The bridges that the addresses are routed to; none where `br_netfilter` is not loaded.
///
/// # Errors
/// Where the kernel cannot be asked. An address without a route is no error.
pub fn bridges(
    addresses: impl IntoIterator<Item = IpAddr>,
) -> Result<BTreeSet<InterfaceName>, LinkError> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Ok(BTreeSet::new());
    }
    let routes = Routes::open()?;
    let mut links: BTreeMap<u32, Option<InterfaceName>> = BTreeMap::new();
    for address in addresses {
        if let Some(index) = routes.output(address)?
            && !links.contains_key(&index)
        {
            links.insert(index, routes.bridge(index)?);
        }
    }
    Ok(links.into_values().flatten().collect())
}

struct Routes(Socket);

impl Routes {
    fn open() -> Result<Self, LinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The interface by which an address is reached directly.
    fn output(&self, address: IpAddr) -> Result<Option<u32>, LinkError> {
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
        let far =
            |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
        if route.attributes.iter().any(far) {
            return Ok(None);
        }
        Ok(route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        }))
    }

    /// The name of an interface that is a bridge. One whose name no rule could carry is passed over:
    /// iptables could not have been told of it in any other way.
    fn bridge(&self, index: u32) -> Result<Option<InterfaceName>, LinkError> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        let Some(RouteNetlinkMessage::NewLink(link)) =
            self.ask(RouteNetlinkMessage::GetLink(question))?
        else {
            return Ok(None);
        };
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

    /// One question, one answer; the kernel's refusal (no such route, no such link) is none.
    fn ask(&self, question: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, LinkError> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| LinkError::Answer(error.to_string()))?;
        Ok(match answer.payload {
            NetlinkPayload::InnerMessage(inner) => Some(inner),
            _ => None,
        })
    }
}
