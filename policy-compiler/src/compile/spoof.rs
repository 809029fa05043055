//! The check that nothing comes from a pod's interface but what bears an address of the pods behind it.
//!
//! ```text
//! FORWARD, INPUT ──> NPC-SOURCES ── -i veth1a+ ──> NPC-ST-veth1a
//!                                                   ├ -s OWN -i veth1a2b ──> NPC-OWN-SOURCE
//!                                                   └ -i veth1a2b        ──> NPC-DENY-S
//! NPC-OWN-SOURCE    UDP to a tunnel's port ──> NPC-TUNNEL: for the node itself ──> NPC-DENY-S
//! ```
//!
//! Every packet meets it, of standing connections too: their packets are as easily forged as a first one.
//! Names of interfaces are told apart by a tree of their beginnings, so that a packet from another
//! interface pays for a rule or two. It mentions no set, so a pod that comes freezes none (see
//! `engine::program`).
//!
//! A tunnel's packet to the node itself is as good as a forged source, since the node believes what it
//! takes out of it. IPv6 link-local sources belong to no pod, are never forwarded, and neighbour
//! discovery cannot do without: they may go to the node, but into no tunnel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::digest::{Digest, Registry};
use super::layout::{Frame, goto, jump};
use crate::cidr::Family;
use crate::config::{Antispoof, DenyAction, InterfaceName};
use crate::port::{PortRange, Protocol};
use crate::ruleset::{Chain, ChainName, Hook, Match, Rule, Target};

/// As many interfaces as one chain lists rather than divides.
const LISTED: usize = 8;
/// The most inner chains on the way to an interface's rules.
const DEPTH: usize = 6;
/// As many ports as one multiport match takes.
const SLOTS: usize = 15;

fn named(name: &str) -> ChainName {
    ChainName::of(format_args!("{name}"))
}

fn sources() -> ChainName {
    named("SOURCES")
}

fn own_source() -> ChainName {
    named("OWN-SOURCE")
}

fn deny_spoofed() -> ChainName {
    named("DENY-S")
}

/// The rule by which FORWARD enters the check.
pub(super) fn to_sources() -> Rule {
    jump(Vec::new(), sources())
}

/// The hook of INPUT and the chains of the check. Apart from the tree of interfaces nothing depends on
/// which there are, so that the first one to come is as cheap as any.
pub(super) fn source_check(
    family: Family,
    antispoof: &Antispoof,
    registry: &mut Registry,
) -> Frame {
    let mut rules = Frame::default();
    rules.hooks.insert(Hook::Input, to_sources());
    let mut tree = Tree { family, antispoof, registry, chains: BTreeMap::new() };
    let names: Vec<&InterfaceName> = antispoof.interfaces.keys().collect();
    let top = tree.rules(&names, 0, 0);
    rules.put_all(tree.chains);
    rules.put(sources(), Chain { rules: top });
    lay_tunnels(family, &antispoof.tunnel_ports, &mut rules);
    let drop = Rule { matches: Vec::new(), comment: None, target: Target::Deny(DenyAction::Drop) };
    rules.put(deny_spoofed(), Chain { rules: vec![drop] });
    if family == Family::V6 {
        let link_local = [v6_net(0xfe80, 10), v6_net(0, 128)];
        let mut exempt: Vec<Rule> = link_local
            .into_iter()
            .map(|net| goto(vec![Match::Source(net)], own_source()))
            .collect();
        exempt.push(goto(Vec::new(), deny_spoofed()));
        rules.put(foreign(family), Chain { rules: exempt });
    }
    rules
}

/// Where packets go that do not bear an address of a pod behind their interface. It need not be
/// forged: in IPv6 every interface has addresses of its own making, for its link alone.
fn foreign(family: Family) -> ChainName {
    match family {
        Family::V4 => deny_spoofed(),
        Family::V6 => named("LINK-LOCAL"),
    }
}

fn lay_tunnels(family: Family, ports: &BTreeSet<std::num::NonZeroU16>, rules: &mut Frame) {
    let tunnel = named("TUNNEL");
    let ports: Vec<PortRange> =
        ports.iter().filter_map(|port| PortRange::new(*port, *port)).collect();
    let to_tunnel = |ports: &[PortRange]| {
        let condition = match ports {
            [port] => Match::DestinationPort(*port),
            ports => Match::DestinationPorts(ports.to_vec()),
        };
        goto(vec![Match::Protocol(Protocol::Udp), condition], tunnel.clone())
    };
    let own = Chain { rules: ports.chunks(SLOTS).map(to_tunnel).collect() };
    let for_node = match family {
        Family::V4 => vec![Match::ToLocal, Match::ToBroadcast, Match::Destination(v4_multicast())],
        Family::V6 => vec![Match::ToLocal, Match::Destination(v6_net(0xff00, 8))],
    };
    if !ports.is_empty() {
        let denials = for_node.into_iter().map(|to| goto(vec![to], deny_spoofed())).collect();
        rules.put(tunnel, Chain { rules: denials });
    }
    rules.put(own_source(), own);
}

fn v4_multicast() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(224, 0, 0, 0), 4))
}

fn v6_net(first: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length))
}

/// The tree of beginnings of names.
struct Tree<'c> {
    family: Family,
    antispoof: &'c Antispoof,
    registry: &'c mut Registry,
    chains: BTreeMap<ChainName, Chain>,
}

impl Tree<'_> {
    /// The rules for these interfaces, sorted by name, of which the first `known` bytes are known.
    fn rules(&mut self, names: &[&InterfaceName], known: usize, depth: usize) -> Vec<Rule> {
        let shared = shared_beginning(names);
        if names.len() <= LISTED && depth > 0 || names.len() == 1 || depth == DEPTH {
            return names.iter().flat_map(|name| self.leaf(name)).collect();
        }
        if shared > known {
            // What all of them share is asked for first: most other interfaces lack it.
            return self.inner(names, shared, depth);
        }
        let byte = |name: &InterfaceName| name.as_str().as_bytes().get(shared).copied();
        let mut rules = Vec::new();
        for group in names.chunk_by(|a, b| byte(a) == byte(b)) {
            match group {
                [name] => rules.extend(self.leaf(name)),
                _ => rules.extend(self.inner(group, shared_beginning(group), depth)),
            }
        }
        rules
    }

    /// The rule for interfaces that share a beginning, with the chain that it leads to; their own
    /// rules, should the chain's name be taken.
    fn inner(&mut self, names: &[&InterfaceName], shared: usize, depth: usize) -> Vec<Rule> {
        let [first, ..] = names else { return Vec::new() };
        // Names are of single bytes.
        let beginning = first.as_str().get(..shared).unwrap_or_default();
        let rules = self.rules(names, shared, depth + 1);
        match self.name(beginning) {
            Some(chain) if !beginning.is_empty() => {
                self.chains.insert(chain.clone(), Chain { rules });
                vec![goto(vec![Match::InInterfaces(beginning.to_owned())], chain)]
            }
            _ => rules,
        }
    }

    /// What comes in by one interface.
    fn leaf(&self, name: &InterfaceName) -> Vec<Rule> {
        let by = || Match::InInterface(name.clone());
        let addresses = self.antispoof.interfaces.get(name).into_iter().flatten();
        let own = addresses.filter(|address| Family::of(**address) == self.family);
        let mut rules: Vec<Rule> = own
            // In the order in which iptables-save has them, so that what is read back is what was written.
            .map(|address: &IpAddr| {
                goto(vec![Match::Source(IpNet::from(*address)), by()], own_source())
            })
            .collect();
        rules.push(goto(vec![by()], foreign(self.family)));
        rules
    }

    /// `NPC-ST-veth1a`; one with characters that a chain's name lacks is hashed.
    fn name(&mut self, beginning: &str) -> Option<ChainName> {
        if beginning.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Some(ChainName::of(format_args!("ST-{beginning}")));
        }
        let mut digest = Digest::new("interfaces");
        digest.text(beginning);
        let hash = self.registry.name("interfaces", digest.finish()).ok()?;
        Some(ChainName::of(format_args!("ST-{hash}")))
    }
}

/// How many bytes all of these names begin with.
fn shared_beginning(names: &[&InterfaceName]) -> usize {
    match names {
        [first, .., last] => {
            let pairs = first.as_str().bytes().zip(last.as_str().bytes());
            pairs.take_while(|(a, b)| a == b).count()
        }
        [only] => only.as_str().len(),
        [] => 0,
    }
}
