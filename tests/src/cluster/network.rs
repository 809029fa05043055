//! Nodes and the ways between them: plain routes over one network, or a VXLAN overlay across it.
//!
//! ```text
//!   client 172.18.0.200 ──┐
//!   node 0 172.18.0.10  ──┼── lan0 (bridge in the control plane's namespace, 172.18.0.1)
//!   node 1 172.18.0.11  ──┘
//!     └ pods 10.244.(n+1).0/24, fd00:10:244:(n+1)::/64: routed veths, or ports of cni0
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::control_plane::LAN;
use super::sandbox::Sandbox;
use crate::error::LabError;
use crate::lab::wiring::{BRIDGE_NETFILTER, FORWARDING, QUIET};
use crate::lab::{BRIDGE, Wiring};
use crate::namespace::Namespace;

/// How pods of one node reach those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Every node has a route to the pods of every other.
    Routes,
    /// Packets between pods travel inside UDP between the nodes.
    Vxlan,
}

/// Where a client outside the cluster is.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 200);

const OVERLAY: &str = "vxlan0";
/// The last byte of a bridge's address, which is the gateway of its pods.
const GATEWAY: u8 = 254;
/// The gateway of routed pods, which nobody has.
const NOWHERE: &str = "169.254.1.1";
const GATEWAY_MAC: &str = "02:00:00:00:00:01";

/// A node's own address.
#[must_use]
pub fn node_v4(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 18, 0, 10 + byte(node))
}

/// A node's own IPv6 address.
#[must_use]
pub fn node_v6(node: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x172, 0x18, 0, 0, 0, 0, u16::from(10 + byte(node)))
}

/// The addresses of pod number `host` of a node.
#[must_use]
pub fn pod_addresses(node: usize, host: u8) -> (Ipv4Addr, Ipv6Addr) {
    let net = byte(node) + 1;
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, net.into(), 0, 0, 0, host.into());
    (Ipv4Addr::new(10, 244, net, host), v6)
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Joins `namespace` to the nodes' network by its `eth0`.
///
/// # Errors
/// Where the kernel refuses.
pub(super) fn join_lan(
    lan: &Namespace,
    namespace: &Namespace,
    port: &str,
    addresses: &[IpAddr],
) -> Result<(), LabError> {
    namespace.sysctl(QUIET)?;
    lan.ip(&[
        format!("link add {port} type veth peer name eth0 netns {}", namespace.path()),
        format!("link set {port} master {LAN}"),
        format!("link set {port} up"),
    ])?;
    let (mut four, mut six) = (vec!["link set eth0 up".to_owned()], Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(a) => four.push(format!("address add {a}/24 dev eth0")),
            IpAddr::V6(a) => six.push(format!("address add {a}/64 dev eth0 nodad")),
        }
    }
    // What is neither on the network nor a pod is lost there and not refused here.
    four.push(format!("route add default via {}", super::control_plane::ADDRESS));
    namespace.ip(&four)?;
    namespace.ip6(&six)
}

/// Makes the namespace of node number `node` of `nodes`, with its way to the others.
pub(super) fn build_node(
    lan: &Namespace,
    node: usize,
    nodes: usize,
    wiring: Wiring,
    join: Join,
) -> Result<Namespace, LabError> {
    let namespace = Namespace::create()?;
    join_lan(
        lan,
        &namespace,
        &format!("node{node}"),
        &[node_v4(node).into(), node_v6(node).into()],
    )?;
    namespace.sysctl(FORWARDING)?;
    if wiring == Wiring::Bridged {
        namespace.sysctl(BRIDGE_NETFILTER)?;
        let (v4, v6) = pod_addresses(node, GATEWAY);
        namespace.ip(&[
            format!("link add {BRIDGE} type bridge mcast_snooping 0"),
            format!("link set {BRIDGE} up"),
            format!("address add {v4}/24 dev {BRIDGE}"),
        ])?;
        namespace.ip6(&[format!("address add {v6}/64 dev {BRIDGE} nodad")])?;
    }
    for other in (0..nodes).filter(|other| *other != node) {
        match join {
            Join::Routes => route(&namespace, other)?,
            Join::Vxlan => overlay(&namespace, node, other)?,
        }
    }
    Ok(namespace)
}

fn route(namespace: &Namespace, other: usize) -> Result<(), LabError> {
    let (v4, v6) = pod_addresses(other, 0);
    namespace.ip(&[format!("route add {v4}/24 via {}", node_v4(other))])?;
    namespace.ip6(&[format!("route add {v6}/64 via {}", node_v6(other))])
}

/// The tunnel to the one other node, as flannel lays it out: its far end is a neighbour on the link.
fn overlay(namespace: &Namespace, node: usize, other: usize) -> Result<(), LabError> {
    let mac = |node: usize| format!("02:00:00:00:aa:{:02x}", byte(node));
    let (own4, own6) = pod_addresses(node, 0);
    let (v4, v6) = pod_addresses(other, 0);
    namespace.ip(&[
        format!(
            "link add {OVERLAY} mtu 1450 address {} type vxlan id 1 dstport 8472 local {} \
             remote {} dev eth0 nolearning",
            mac(node),
            node_v4(node),
            node_v4(other)
        ),
        format!("link set {OVERLAY} up"),
        format!("address add {own4}/32 dev {OVERLAY}"),
        format!("neighbour replace {v4} lladdr {} dev {OVERLAY} nud permanent", mac(other)),
        format!("route add {v4}/24 via {v4} dev {OVERLAY} onlink"),
    ])?;
    namespace.ip6(&[
        format!("address add {own6}/128 dev {OVERLAY} nodad"),
        format!("neighbour replace {v6} lladdr {} dev {OVERLAY} nud permanent", mac(other)),
        format!("route add {v6}/64 via {v6} dev {OVERLAY} onlink"),
    ])
}

/// Makes the namespace of a pod on a node, and joins it.
pub(super) fn build_pod(
    name: &str,
    namespace: &Namespace,
    (node, wiring): (usize, Wiring),
    (v4, v6): (Ipv4Addr, Ipv6Addr),
    device: &str,
) -> Result<Sandbox, LabError> {
    let pod = Namespace::create()?;
    pod.sysctl(QUIET)?;
    let peer = format!("type veth peer name eth0 netns {}", pod.path());
    let mut four = vec![format!("link add {device} {peer}")];
    let mut six = Vec::new();
    match wiring {
        Wiring::Routed => {
            four.push(format!("link set {device} address {GATEWAY_MAC} up"));
            four.push(format!("route replace {v4}/32 dev {device}"));
            six.push(format!("address add fe80::1/64 dev {device} nodad"));
            six.push(format!("route replace {v6}/128 dev {device}"));
        }
        Wiring::Bridged => {
            four.push(format!("link set {device} master {BRIDGE}"));
            four.push(format!("link set {device} type bridge_slave hairpin on"));
            four.push(format!("link set {device} up"));
        }
    }
    namespace.ip(&four)?;
    namespace.ip6(&six)?;
    settle_pod(&pod, node, wiring, v4, v6)?;
    Sandbox::serve(name, pod, (v4, v6), (node, device.to_owned()))
}

fn settle_pod(
    pod: &Namespace,
    node: usize,
    wiring: Wiring,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
) -> Result<(), LabError> {
    match wiring {
        Wiring::Routed => {
            pod.ip(&[
                "link set eth0 up".to_owned(),
                format!("address add {v4}/32 dev eth0"),
                format!("neighbour replace {NOWHERE} lladdr {GATEWAY_MAC} dev eth0 nud permanent"),
                format!("route add default via {NOWHERE} dev eth0 onlink"),
            ])?;
            pod.ip6(&[
                format!("address add {v6}/128 dev eth0 nodad"),
                format!("neighbour replace fe80::1 lladdr {GATEWAY_MAC} dev eth0 nud permanent"),
                "route add default via fe80::1 dev eth0".to_owned(),
            ])
        }
        Wiring::Bridged => {
            let (gateway4, gateway6) = pod_addresses(node, GATEWAY);
            pod.ip(&[
                "link set eth0 up".to_owned(),
                format!("address add {v4}/24 dev eth0"),
                format!("route add default via {gateway4} dev eth0"),
            ])?;
            pod.ip6(&[
                format!("address add {v6}/64 dev eth0 nodad"),
                format!("route add default via {gateway6} dev eth0"),
            ])
        }
    }
}
