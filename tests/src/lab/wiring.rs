//! The scripts of `ip` that make a lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{BRIDGE, Lab, LabNode, Plan, Slot, Station, StationId, Wiring};
use crate::conntrack::Conntrack;
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::probe::await_links;

/// What an endpoint's kernel must not do by itself.
pub(crate) const QUIET: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
];

/// What makes a node a router.
pub(crate) const FORWARDING: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];

/// What shows bridged packets to iptables.
pub(crate) const BRIDGE_NETFILTER: &[(&str, &str)] =
    &[("bridge/bridge-nf-call-iptables", "1"), ("bridge/bridge-nf-call-ip6tables", "1")];

/// The last byte of a node's own address among those of its slots.
const NODE: u8 = 254;
/// The third byte of the addresses of the link between the nodes, and of the link to the outside.
const PEER: u8 = 100;
const OUTSIDE: u8 = 101;

/// The address of the world outside on its link.
pub(super) const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 18, OUTSIDE, 2);

/// The address of a node on the link between the nodes.
pub(super) fn peer_address(node: usize, like: IpAddr) -> IpAddr {
    let host = if node == 0 { 1 } else { 2 };
    if like.is_ipv4() { v4(PEER, host).into() } else { v6(PEER, host).into() }
}

fn v4(net: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, net, host)
}

fn v6(net: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd5e, 0, 0, net.into(), 0, 0, 0, host.into())
}

/// The hardware address of host `host` in net `net`, on the node's end or the far one.
fn mac(net: u8, host: u8, node_end: bool) -> String {
    format!("02:00:00:{:02x}:{net:02x}:{host:02x}", u8::from(node_end))
}

fn numbered(count: usize) -> impl Iterator<Item = (u8, usize)> {
    (0..=u8::MAX).zip(0..count)
}

/// Builds all of it.
pub(super) fn build(plan: &Plan) -> Result<Lab, LabError> {
    let mut stations = Vec::new();
    let mut nodes = Vec::new();
    let mut namespaces = Vec::new();
    for _ in &plan.nodes {
        let namespace = Namespace::create()?;
        namespace.sysctl(QUIET)?;
        namespace.sysctl(FORWARDING)?;
        namespaces.push(namespace);
    }
    link_nodes(&namespaces)?;
    let outside = build_outside(&namespaces)?;
    for (((net, _), namespace), slots) in
        numbered(plan.nodes.len()).zip(namespaces).zip(&plan.nodes)
    {
        let built = build_node(net, &namespace, slots)?;
        let conntrack = Conntrack::of(&namespace)?;
        let node = push(&mut stations, &format!("node {net}"), namespace, "lo")?;
        settle(&stations, node, v6(net, NODE))?;
        let mut here = Vec::new();
        for (slot, pod) in built {
            let name = format!("slot {}/{}", net, slot.v4.octets()[3]);
            let station = push(&mut stations, &name, pod, "eth0")?;
            settle(&stations, station, slot.v6)?;
            here.push(Slot { station, ..slot });
        }
        nodes.push(LabNode {
            station: node,
            v4: v4(net, NODE),
            v6: v6(net, NODE),
            slots: here,
            conntrack,
        });
    }
    let external = push(&mut stations, "outside", outside, "node")?;
    let lab = Lab::assemble(nodes, external, stations);
    await_links(&lab)?;
    Ok(lab)
}

/// Makes an IPv6 address work at once; that of a device waits for the link and for the kernel.
fn settle(stations: &[Station], id: StationId, address: Ipv6Addr) -> Result<(), LabError> {
    stations.get(id.0).map_or(Ok(()), |station| station.addresses.add(address.into()))
}

fn push(
    stations: &mut Vec<Station>,
    name: &str,
    namespace: Namespace,
    interface: &str,
) -> Result<StationId, LabError> {
    let id = StationId(stations.len());
    stations.push(Station::open(name, namespace, interface)?);
    Ok(id)
}

/// Makes a node's slots and its way to them.
fn build_node(
    net: u8,
    node: &Namespace,
    wirings: &[Wiring],
) -> Result<Vec<(Slot, Namespace)>, LabError> {
    let bridged = wirings.contains(&Wiring::Bridged);
    let mut four = Vec::new();
    let mut six = Vec::new();
    if bridged {
        node.sysctl(BRIDGE_NETFILTER)?;
        four.push(format!(
            "link add {BRIDGE} address {} type bridge mcast_snooping 0",
            mac(net, NODE, true)
        ));
        four.push(format!("link set {BRIDGE} up"));
        four.push(format!("address add {}/24 dev {BRIDGE} brd +", v4(net, NODE)));
        six.push(format!("address add {}/64 dev {BRIDGE} nodad", v6(net, NODE)));
    } else {
        four.push(format!("address add {}/32 dev lo", v4(net, NODE)));
        six.push(format!("address add {}/128 dev lo nodad", v6(net, NODE)));
    }
    let mut slots = Vec::new();
    for ((number, _), wiring) in numbered(wirings.len()).zip(wirings) {
        let number = number + 1;
        let pod = Namespace::create()?;
        pod.sysctl(QUIET)?;
        let veth = format!("pod{number}");
        let (far, near) = (mac(net, number, false), mac(net, number, true));
        four.push(format!(
            "link add {veth} address {near} type veth peer name eth0 address {far} netns {}",
            pod.path()
        ));
        if *wiring == Wiring::Bridged {
            four.push(format!("link set {veth} master {BRIDGE}"));
            // A pod may reach itself through a Service, as kubelet's hairpin-veth has it.
            four.push(format!("link set {veth} type bridge_slave hairpin on"));
        }
        four.push(format!("link set {veth} up"));
        let device = match wiring {
            Wiring::Bridged => BRIDGE.to_owned(),
            Wiring::Routed => {
                four.push(format!("route replace {}/32 dev {veth}", v4(net, number)));
                six.push(format!("route replace {}/128 dev {veth}", v6(net, number)));
                six.push(format!("address add fe80::1/64 dev {veth} nodad"));
                veth
            }
        };
        neighbour(&mut four, &mut six, net, number, false, &device);
        let station = StationId(usize::MAX);
        let (v4, v6) = (v4(net, number), v6(net, number));
        let slot = Slot { station, wiring: *wiring, device, mac: far, v4, v6 };
        slots.push((slot, pod));
    }
    node.ip(&four)?;
    node.ip6(&six)?;
    for (slot, pod) in &slots {
        build_slot(net, slot, pod, &slots)?;
    }
    Ok(slots)
}

/// Gives a slot its own addresses and its gateway.
fn build_slot(
    net: u8,
    slot: &Slot,
    pod: &Namespace,
    others: &[(Slot, Namespace)],
) -> Result<(), LabError> {
    let number = slot.v4.octets()[3];
    let mut four = vec!["link set eth0 up".to_owned()];
    let mut six = Vec::new();
    match slot.wiring {
        Wiring::Routed => {
            let near = mac(net, number, true);
            let gateway = "169.254.1.1";
            four.push(format!("address add {}/32 dev eth0", slot.v4));
            four.push(format!("neighbour replace {gateway} lladdr {near} dev eth0 nud permanent"));
            four.push(format!("route add default via {gateway} dev eth0 onlink"));
            six.push(format!("address add {}/128 dev eth0 nodad", slot.v6));
            six.push(format!("neighbour replace fe80::1 lladdr {near} dev eth0 nud permanent"));
            six.push("route add default via fe80::1 dev eth0".to_owned());
        }
        Wiring::Bridged => {
            four.push(format!("address add {}/24 dev eth0", slot.v4));
            six.push(format!("address add {}/64 dev eth0 nodad", slot.v6));
            neighbour(&mut four, &mut six, net, NODE, true, "eth0");
            for (other, _) in others.iter().filter(|(other, _)| other.wiring == slot.wiring) {
                neighbour(&mut four, &mut six, net, other.v4.octets()[3], false, "eth0");
            }
            four.push(format!("route add default via {} dev eth0", v4(net, NODE)));
            six.push(format!("route add default via {} dev eth0", v6(net, NODE)));
        }
    }
    pod.ip(&four)?;
    pod.ip6(&six)
}

fn neighbour(
    four: &mut Vec<String>,
    six: &mut Vec<String>,
    net: u8,
    host: u8,
    node_end: bool,
    device: &str,
) {
    let mac = mac(net, host, node_end);
    let (v4, v6) = (v4(net, host), v6(net, host));
    four.push(format!("neighbour replace {v4} lladdr {mac} dev {device} nud permanent"));
    six.push(format!("neighbour replace {v6} lladdr {mac} dev {device} nud permanent"));
}

/// One end of a link between two namespaces that are not slots.
fn end(namespace: &Namespace, net: u8, own: u8, other: u8, device: &str) -> Result<(), LabError> {
    let mut four = vec![
        format!("link set {device} up"),
        format!("address add {}/24 dev {device}", v4(net, own)),
    ];
    let mut six = vec![format!("address add {}/64 dev {device} nodad", v6(net, own))];
    neighbour(&mut four, &mut six, net, other, false, device);
    namespace.ip(&four)?;
    namespace.ip6(&six)
}

fn link(
    from: &Namespace,
    device: &str,
    to: &Namespace,
    far_device: &str,
    net: u8,
) -> Result<(), LabError> {
    from.ip(&[format!(
        "link add {device} address {} type veth peer name {far_device} address {} netns {}",
        mac(net, 1, false),
        mac(net, 2, false),
        to.path()
    )])?;
    end(from, net, 1, 2, device)?;
    end(to, net, 2, 1, far_device)
}

/// Links the second node with the first, by which it also reaches the outside.
fn link_nodes(nodes: &[Namespace]) -> Result<(), LabError> {
    let [first, second, ..] = nodes else { return Ok(()) };
    link(first, "peer", second, "peer", PEER)?;
    first.ip(&[format!("route add {}/24 via {}", v4(1, 0), v4(PEER, 2))])?;
    first.ip6(&[format!("route add {}/64 via {}", v6(1, 0), v6(PEER, 2))])?;
    second.ip(&[format!("route add default via {}", v4(PEER, 1))])?;
    second.ip6(&[format!("route add default via {}", v6(PEER, 1))])
}

/// Makes the world outside, behind the first node.
fn build_outside(nodes: &[Namespace]) -> Result<Namespace, LabError> {
    let outside = Namespace::create()?;
    outside.sysctl(QUIET)?;
    if let Some(first) = nodes.first() {
        link(first, "outside", &outside, "node", OUTSIDE)?;
        first.ip(&[format!("route add default via {}", v4(OUTSIDE, 2))])?;
        first.ip6(&[format!("route add default via {}", v6(OUTSIDE, 2))])?;
        outside.ip(&[format!("route add default via {}", v4(OUTSIDE, 1))])?;
        outside.ip6(&[format!("route add default via {}", v6(OUTSIDE, 1))])?;
    }
    Ok(outside)
}
