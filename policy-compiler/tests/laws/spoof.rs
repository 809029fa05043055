//! Forged sources: what comes from a pod's interface bears an address of the pods behind it, and into no
//! tunnel of the node; of all other packets the check knows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use policy_compiler::cidr::Family;
use policy_compiler::compile::compile;
use policy_compiler::config::{Antispoof, InterfaceName, NodeConfig};
use policy_compiler::engine::Engine;
use policy_compiler::flow::Traffic;
use policy_compiler::packet::{ConnState, Packet, Path};
use policy_compiler::port::Protocol;
use policy_compiler::ruleset::{ChainName, Generation};
use policy_compiler::simulate::{Outcome, check, simulate};
use policy_compiler::update::{Event, Step};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::cluster::{cluster, known_addresses, node_name};
use crate::config;
use crate::flows::{options, traffic};

/// Names that begin alike, many of which are the beginning of others.
fn interface() -> impl Strategy<Value = InterfaceName> {
    prop_oneof!["veth[0-9a-f]{0,3}", "[ab]{1,5}", "a[_.:@]b{0,2}", "veth[0-9a-f]{8}"]
        .prop_map(|name| InterfaceName::new(&name).unwrap())
}

/// What pods have, and what belongs to no pod.
fn address() -> impl Strategy<Value = IpAddr> {
    let others = ["fe80::1", "::", "0.0.0.0", "224.0.0.5", "ff02::1", "169.254.0.9"];
    let mut all = known_addresses();
    all.extend(others.map(|address| address.parse::<IpAddr>().unwrap()));
    select(all)
}

fn antispoof() -> impl Strategy<Value = Antispoof> {
    let interfaces = btree_map(interface(), btree_set(address(), 0..4), 0..60);
    let ports = btree_set((4780..4800_u16).prop_map(|port| NonZeroU16::new(port).unwrap()), 0..20);
    (interfaces, ports)
        .prop_map(|(interfaces, tunnel_ports)| Antispoof { interfaces, tunnel_ports })
}

/// A packet before it is known which interfaces there are.
#[derive(Clone, Debug)]
struct Probe {
    source: IpAddr,
    destination: IpAddr,
    traffic: Traffic,
    state: ConnState,
    way: u8,
    to_broadcast: bool,
    /// One of the interfaces, or another.
    by: (Index, Option<InterfaceName>),
    own_source: bool,
}

fn probe() -> impl Strategy<Value = Probe> {
    let tunnelled =
        (4778..4802_u16).prop_map(|port| Traffic::Port { protocol: Protocol::Udp, port });
    let traffic = prop_oneof![traffic(), tunnelled];
    let state = select(vec![ConnState::New, ConnState::Established, ConnState::Invalid]);
    let by = (any::<Index>(), prop::option::weighted(0.3, interface()));
    let how = (0..4_u8, prop::bool::weighted(0.2), any::<bool>());
    (address(), address(), traffic, state, by, how).prop_map(
        |(source, destination, traffic, state, by, (way, to_broadcast, own_source))| Probe {
            source,
            destination,
            traffic,
            state,
            way,
            to_broadcast,
            by,
            own_source,
        },
    )
}

impl Probe {
    /// The packet, of one family; often with a source that the interface may use.
    fn packet(&self, known: &Antispoof) -> Option<Packet> {
        let names: Vec<&InterfaceName> = known.interfaces.keys().collect();
        let by = match &self.by {
            (_, Some(other)) => Some(other.clone()),
            (index, None) => (!names.is_empty()).then(|| (*index.get(&names)).clone()),
        };
        let family = Family::of(self.destination);
        let own = by.as_ref().and_then(|by| known.interfaces.get(by)).and_then(|addresses| {
            addresses.iter().find(|address| Family::of(**address) == family).copied()
        });
        let source = own.filter(|_| self.own_source).unwrap_or(self.source);
        let path = match self.way {
            0 => Path::ForNode { from: by },
            1 => Path::SentByNode { from_local: false },
            _ => Path::Forwarded { from: by, bridged: false },
        };
        (Family::of(source) == family).then(|| Packet {
            path,
            state: self.state,
            to_broadcast: self.to_broadcast && family == Family::V4,
            ..Packet::opening(source, self.destination, self.traffic)
        })
    }
}

/// Whether the check is to drop it.
fn is_foul(known: &Antispoof, packet: &Packet) -> bool {
    let behind = packet.path.came_in_by().and_then(|by| known.interfaces.get(by));
    let Some(own) = behind else { return false };
    let link_local = match packet.source {
        IpAddr::V4(_) => false,
        IpAddr::V6(source) => source.is_unicast_link_local() || source.is_unspecified(),
    };
    if !own.contains(&packet.source) && !link_local {
        return true;
    }
    let for_node = matches!(packet.path, Path::ForNode { .. })
        || packet.to_broadcast
        || packet.destination.is_multicast();
    let into_tunnel = match packet.traffic {
        Traffic::Port { protocol: Protocol::Udp, port } => {
            known.tunnel_ports.iter().any(|known| known.get() == port)
        }
        _ => false,
    };
    into_tunnel && for_node
}

proptest! {
    #![proptest_config(config("spoof", 96))]

    #[test]
    fn what_is_forged_is_dropped_and_all_else_fares_as_without_the_check(
        snapshot in cluster(),
        options in options(),
        known in antispoof(),
        probes in vec(probe(), 40),
    ) {
        let plain = options.on("n1");
        let checked = NodeConfig { antispoof: Some(known.clone()), ..plain.clone() };
        let (plain, checked) = (compile(&snapshot, &plain), compile(&snapshot, &checked));
        prop_assert_eq!(check(&checked.ruleset), Ok(()));
        for probe in probes {
            let Some(packet) = probe.packet(&known) else { continue };
            let outcome = simulate(&checked.ruleset, &packet).outcome;
            let expected = if is_foul(&known, &packet) {
                Outcome::Denied { by: ChainName::new("NPC-DENY-S").unwrap() }
            } else {
                simulate(&plain.ruleset, &packet).outcome
            };
            prop_assert_eq!(outcome, expected, "{:?}", packet);
        }
    }

    /// Neither a live set is made anew nor any other chain touched: a pod that comes is cheap.
    #[test]
    fn an_interface_that_comes_or_goes_changes_nothing_but_the_tree_of_interfaces(
        snapshot in cluster(),
        options in options(),
        before in antispoof(),
        after in antispoof(),
    ) {
        let with = |interfaces: &Antispoof| NodeConfig {
            antispoof: Some(Antispoof {
                tunnel_ports: before.tunnel_ports.clone(),
                ..interfaces.clone()
            }),
            ..options.on("n1")
        };
        let mut engine = Engine::new(with(&before), Generation(0));
        engine.apply(Event::Relisted(Box::new(snapshot)));
        engine.flush();
        engine.set_config(with(&after));
        for step in engine.flush().steps {
            let Step::ReplaceChains(update) = step else { panic!("{step:?}") };
            prop_assert!(update.hook.is_empty() && update.unhook.is_empty());
            for chain in update.replace.keys().chain(&update.delete) {
                let chain = chain.as_str();
                prop_assert!(chain == "NPC-SOURCES" || chain.starts_with("NPC-ST-"), "{}", chain);
            }
        }
    }
}

/// 250 interfaces as the reference plugins name them, each with an address of both families.
fn full_node() -> Antispoof {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let interfaces: BTreeMap<InterfaceName, BTreeSet<IpAddr>> = (0..250_u16)
        .map(|number| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let name = format!("veth{:08x}", state >> 32);
            let [high, low] = number.to_be_bytes();
            let v4 = IpAddr::from([10, 244, high, low]);
            let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number]);
            (InterfaceName::new(&name).unwrap(), [v4, v6].into())
        })
        .collect();
    let tunnel_ports = [4789, 8472].map(|port| NonZeroU16::new(port).unwrap()).into();
    Antispoof { interfaces, tunnel_ports }
}

#[test]
fn a_packet_of_a_full_node_pays_for_few_rules() {
    let known = full_node();
    let config = NodeConfig { antispoof: Some(known.clone()), ..NodeConfig::new(node_name("n1")) };
    let ruleset = compile(&policy_compiler::cluster::Snapshot::default(), &config).ruleset;
    let cost = |from: Option<&InterfaceName>, source: IpAddr, destination: &str| {
        let path = Path::Forwarded { from: from.cloned(), bridged: false };
        let destination = destination.parse().unwrap();
        let packet = Packet {
            path,
            state: ConnState::Established,
            ..Packet::opening(source, destination, Traffic::tcp(80))
        };
        let fate = simulate(&ruleset, &packet);
        assert_eq!(fate.outcome, Outcome::Passes, "{packet:?}");
        fate.evaluated
    };
    let mut costs = Vec::new();
    for (name, addresses) in &known.interfaces {
        for source in addresses {
            let destination = if source.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
            costs.push(cost(Some(name), *source, destination));
        }
    }
    let most = costs.iter().max().copied().unwrap_or_default();
    let mean = costs.iter().sum::<usize>() / costs.len();
    assert!(most <= 45 && mean <= 25, "{most} at most, {mean} on the average");
    let uplink = InterfaceName::new("eth0").unwrap();
    assert!(cost(Some(&uplink), "192.0.2.1".parse().unwrap(), "10.244.0.9") <= 3);
}
