//! Interfaces that lead to pods past FORWARD.
//!
//! A pod on a veth, a tap or a bridge is reached through the node's own stack. One on a macvlan or
//! ipvlan device, or on a virtual function of the network card, shares the card with the node instead:
//! the node then reaches its address directly over the card, or over a macvlan device of its own.
//!
//! A terminating pod's route goes before its object does, and its address is then what the rest of the
//! routes make of it; so only what stays so for a while is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage,
};

use super::{Attached, Concern, ConcernKind};

/// How long an address must be reached in a strange way before that is told.
const LASTING: Duration = Duration::from_secs(10);

/// What an interface does to the packets of pods that are reached by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    /// They pass FORWARD.
    Seen,
    /// They may not leave the bridge. Whether its own switches show them to iptables and ip6tables.
    Bridge { iptables: bool, ip6tables: bool },
    /// They do not pass FORWARD: it is of this type.
    PastForward(String),
}

/// What an interface is to the pods that are reached by it.
pub(super) fn attachment(link: &LinkMessage) -> Attachment {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    let infos = infos.unwrap_or_default();
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Bridge) => bridge(infos),
        Some(kind) if is_past_forward(kind) => Attachment::PastForward(kind.to_string()),
        Some(_) => Attachment::Seen,
        // What is no device of the kernel's own making is a card, or a function of one.
        None => match link.header.link_layer_type {
            LinkLayerType::Ether | LinkLayerType::Infiniband => {
                Attachment::PastForward("a network card".to_owned())
            }
            _ => Attachment::Seen,
        },
    }
}

/// Whether what is behind such a device is on the wire of a card, or in a switch of its own.
fn is_past_forward(kind: &InfoKind) -> bool {
    match kind {
        InfoKind::MacVlan
        | InfoKind::MacVtap
        | InfoKind::IpVlan
        | InfoKind::IpVtap
        | InfoKind::Vlan
        | InfoKind::Bond
        | InfoKind::Team
        | InfoKind::Ipoib => true,
        InfoKind::Other(other) => other == "openvswitch",
        _ => false,
    }
}

fn bridge(infos: &[LinkInfo]) -> Attachment {
    let values = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(values)) => Some(values.as_slice()),
        _ => None,
    });
    let values = values.unwrap_or_default();
    Attachment::Bridge {
        iptables: values.contains(&InfoBridge::NfCallIpTables(true)),
        ip6tables: values.contains(&InfoBridge::NfCallIp6Tables(true)),
    }
}

/// The name of an interface.
pub(super) fn name(link: &LinkMessage) -> &str {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    name.unwrap_or("an interface without a name")
}

/// Addresses that are reached in a strange way, since when.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    since: BTreeMap<(std::net::IpAddr, ConcernKind), Instant>,
}

impl Suspects {
    /// Judges how pods are reached, one line for each interface and kind.
    pub(super) fn judge(
        &mut self,
        attached: &Attached,
        now: Instant,
        concerns: &mut BTreeSet<Concern>,
    ) {
        let mut since = BTreeMap::new();
        let mut told = BTreeSet::new();
        for (key, address, way) in &attached.ways {
            let Some(link) = attached.links.get(&way.index) else { continue };
            let device = name(link);
            let (kind, detail) = match attachment(link) {
                _ if way.far => (
                    ConcernKind::PodBehindGateway,
                    format!(
                        "pods such as {key} ({address}) are reached over {device} by way of a \
                         gateway: make sure that what they send and receive passes FORWARD"
                    ),
                ),
                Attachment::PastForward(of) => (
                    ConcernKind::InterfaceBypasses,
                    format!(
                        "pods such as {key} ({address}) are reached directly over {device} ({of}), \
                         past FORWARD, so that no rule sees their packets: attach them by veth \
                         (bridge or routes) rather than macvlan, ipvlan or SR-IOV"
                    ),
                ),
                Attachment::Seen | Attachment::Bridge { .. } => continue,
            };
            let begun = self.since.get(&(*address, kind)).copied().unwrap_or(now);
            since.insert((*address, kind), begun);
            if now.saturating_duration_since(begun) >= LASTING && told.insert((kind, way.index)) {
                concerns.insert(Concern::new(kind, detail));
            }
        }
        self.since = since;
    }
}

#[cfg(test)]
mod tests;
