//! Services as kube-proxy lays them out in table `nat` (iptables mode), written by the test itself.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use policy_compiler::cidr::Family;
use policy_compiler::port::Protocol;

use crate::enforcement::Backend;
use crate::error::LabError;
use crate::namespace::Namespace;

/// Where pods are.
const PODS: &str = "10.244.0.0/16";

/// A NodePort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// Its number.
    pub port: u16,
    /// `externalTrafficPolicy: Local`: only to endpoints of the node that was asked, and the client
    /// keeps its address.
    pub local: bool,
}

/// A Service with one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What its chains are called by, at most 16 capital letters and digits.
    pub tag: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
    /// The cluster's address for it.
    pub cluster_ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Its node port.
    pub node_port: Option<NodePort>,
    /// Its endpoints, each with the node that it is on.
    pub endpoints: Vec<(usize, SocketAddrV4)>,
}

/// Writes the rules of all `services` on node number `node`.
///
/// # Errors
/// Where iptables refuses.
pub fn install(
    backend: Backend,
    namespace: &Namespace,
    node: usize,
    services: &[Service],
) -> Result<(), LabError> {
    backend.restore(namespace, Family::V4, &script(node, services))
}

fn script(node: usize, services: &[Service]) -> String {
    let mut chains = String::new();
    let mut rules = String::from(BASE);
    for service in services {
        write_service(&mut chains, &mut rules, node, service);
    }
    format!("{FILTER}*nat\n{CHAINS}{chains}{rules}{LAST}COMMIT\n")
}

/// What kube-proxy adds to FORWARD, behind whatever is there.
const FILTER: &str = "\
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

const CHAINS: &str = "\
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

const BASE: &str = "\
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE
";

/// Node ports come behind all portals.
const LAST: &str = "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n";

fn write_service(chains: &mut String, rules: &mut String, node: usize, service: &Service) {
    let protocol = match service.protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp | Protocol::Sctp => "tcp",
    };
    let portal = format!(
        "-d {}/32 -p {protocol} -m {protocol} --dport {}",
        service.cluster_ip, service.port
    );
    let balance = format!("KUBE-SVC-{}", service.tag);
    let endpoint = |number: usize| format!("KUBE-SEP-{}{number}", service.tag);
    let mut line = |text: String| {
        let _ = writeln!(rules, "-A {text}");
    };
    line(format!("KUBE-SERVICES ! -s {PODS} {portal} -j KUBE-MARK-MASQ"));
    line(format!("KUBE-SERVICES {portal} -j {balance}"));
    let every: Vec<usize> = (0..service.endpoints.len()).collect();
    spread(&mut line, &balance, &every, endpoint);
    for (number, (_, address)) in service.endpoints.iter().enumerate() {
        let chain = endpoint(number);
        let _ = writeln!(chains, ":{chain} - [0:0]");
        line(format!("{chain} -s {}/32 -j KUBE-MARK-MASQ", address.ip()));
        line(format!("{chain} -p {protocol} -m {protocol} -j DNAT --to-destination {address}"));
    }
    let _ = writeln!(chains, ":{balance} - [0:0]");
    let Some(node_port) = service.node_port else { return };
    let asked = format!("KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {}", node_port.port);
    if !node_port.local {
        line(format!("{asked} -j KUBE-MARK-MASQ"));
        line(format!("{asked} -j {balance}"));
        return;
    }
    let external = format!("KUBE-XLB-{}", service.tag);
    let _ = writeln!(chains, ":{external} - [0:0]");
    line(format!("{asked} -j {external}"));
    line(format!("{external} -s {PODS} -j {balance}"));
    line(format!("{external} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"));
    line(format!("{external} -m addrtype --src-type LOCAL -j {balance}"));
    let here: Vec<usize> = every
        .into_iter()
        .filter(|number| service.endpoints.get(*number).is_some_and(|(on, _)| *on == node))
        .collect();
    spread(&mut line, &external, &here, endpoint);
}

/// Leads to each of `endpoints` equally often.
fn spread(
    line: &mut impl FnMut(String),
    chain: &str,
    endpoints: &[usize],
    name: impl Fn(usize) -> String,
) {
    for (index, number) in endpoints.iter().enumerate() {
        let left = endpoints.len() - index;
        let chance = match left {
            1 => String::new(),
            // Three digits are enough for the few endpoints of a test.
            _ => format!("-m statistic --mode random --probability 0.{:03} ", 1000 / left),
        };
        line(format!("{chain} {chance}-j {}", name(*number)));
    }
}
