//! The denial of addresses that belong to nobody known yet.

use super::builders::*;
use super::reading::{chain_names, named, named_in, set_names};
use crate::cidr::Family;
use crate::cluster::{Node, Phase, Pod, Snapshot};
use crate::compile::{Compiled, compile};
use crate::config::{InterfaceName, NodeConfig};
use crate::document::Location;
use crate::name::NodeName;
use crate::simulate::check;

fn isolating(networks: &[&str]) -> NodeConfig {
    let pod_networks = networks.iter().map(|net| net.parse().unwrap()).collect();
    NodeConfig { pod_networks, ..config() }
}

fn known(compiled: &Compiled, family: Family) -> Vec<String> {
    let sets = compiled.ruleset.family(family).sets.iter();
    let known = sets.filter(|(name, _)| name.to_string().contains("-known-"));
    known.flat_map(|(_, set)| set.members.iter().map(|m| m.net.addr().to_string())).collect()
}

fn deny_ingress() -> Snapshot {
    let policy = ingress(policy("shop/deny", ""), vec![]);
    cluster([pod("shop/web-0", "app=web", 17)], [policy])
}

const DENIALS: [&str; 2] = [
    "-s 10.244.1.0/24 -m set ! --match-set npc4-known-0 src -g NPC-DENY-E",
    "-d 10.244.1.0/24 -m set ! --match-set npc4-known-0 dst -g NPC-DENY-I",
];

#[test]
fn unknown_addresses_are_denied_before_anything_else_is_asked() {
    let compiled = compile(&deny_ingress(), &isolating(&["10.244.1.0/24"]));
    let forward = named(&compiled, "NPC-FORWARD");
    assert_eq!(forward[..2], DENIALS);
    assert_eq!(forward[2..], named(&compile(&deny_ingress(), &config()), "NPC-FORWARD"));
    assert_eq!(set_names(&compiled, Family::V4), ["npc4-iso", "npc4-known-0"]);
    // The other family is as it is without.
    let without = compile(&deny_ingress(), &config());
    assert_eq!(compiled.ruleset.v6, without.ruleset.v6);
    assert_eq!(check(&compiled.ruleset), Ok(()));
}

#[test]
fn they_are_denied_where_nobody_is_isolated_too() {
    let idle = cluster([pod("shop/web-0", "", 17)], []);
    let on = NodeConfig {
        bridges: [InterfaceName::new("cni0").unwrap()].into(),
        ..isolating(&["10.244.1.0/24"])
    };
    let compiled = compile(&idle, &on);
    let chains = ["NPC-BRIDGED", "NPC-DENY-E", "NPC-DENY-I", "NPC-FORWARD"];
    assert_eq!(chain_names(&compiled, Family::V4), chains);
    assert_eq!(chain_names(&compiled, Family::V6), ["NPC-FORWARD"]);
    assert_eq!(named(&compiled, "NPC-FORWARD")[1..], DENIALS);
    // Whoever is unknown may be to be isolated, so the bridge is guarded.
    assert_eq!(
        named(&compiled, "NPC-BRIDGED")[..2],
        ["-m addrtype --dst-type BROADCAST -g NPC-DENY-I", "-d 224.0.0.0/4 -g NPC-DENY-I"]
    );
    assert_eq!(named(&compiled, "NPC-BRIDGED")[2..], DENIALS);
    assert_eq!(check(&compiled.ruleset), Ok(()));
}

#[test]
fn on_a_bridge_ipv6_is_kept_going_before_unknown_addresses_are_denied() {
    let on = NodeConfig {
        bridges: [InterfaceName::new("cni0").unwrap()].into(),
        ..isolating(&["fd00::/64"])
    };
    let bridged = named_in(&compile(&deny_ingress(), &on), Family::V6, "NPC-BRIDGED");
    let of = |part: &str| bridged.iter().position(|rule| rule.contains(part)).unwrap();
    assert!(of("--icmpv6-type 136") < of("npc6-known-0"), "{bridged:?}");
    assert!(of("npc6-known-0") < of("NPC-INGRESS"), "{bridged:?}");
}

#[test]
fn known_is_who_lives_there_wherever_it_runs_and_whatever_has_a_nodes_address() {
    let with = |name: &str, host: u8, change: &dyn Fn(&mut Pod)| {
        let mut pod = pod(name, "", host);
        change(&mut pod);
        pod
    };
    let n2 = NodeName::new("n2").unwrap();
    let mut snapshot = cluster(
        [
            pod("shop/local", "", 17),
            with("shop/elsewhere", 18, &|pod| pod.node = Some(n2.clone())),
            with("shop/nowhere", 19, &|pod| pod.node = None),
            with("shop/pending", 20, &|pod| pod.phase = Phase::Pending),
            with("shop/finished", 21, &|pod| pod.phase = Phase::Finished),
            with("shop/template", 22, &|pod| pod.template = true),
            with("shop/outside", 23, &|pod| pod.addresses.v4 = Some([10, 244, 2, 23].into())),
        ],
        [],
    );
    let addresses = vec!["10.244.1.2".parse().unwrap()];
    let location = Location::default();
    let node = Node { name: n2.clone(), addresses, pod_networks: Vec::new(), location };
    snapshot.nodes.insert(n2, node);
    let compiled = compile(&snapshot, &isolating(&["10.244.1.0/24"]));
    let expected = ["10.244.1.2", "10.244.1.17", "10.244.1.18", "10.244.1.19", "10.244.1.20"];
    assert_eq!(known(&compiled, Family::V4), expected);
    assert_eq!(known(&compiled, Family::V6), Vec::<String>::new());
}

#[test]
fn networks_that_are_one_are_asked_about_once() {
    let networks = ["10.244.1.0/25", "10.244.1.128/25", "10.244.1.64/26", "10.244.1.7/32"];
    let compiled = compile(&Snapshot::default(), &isolating(&networks));
    assert_eq!(named(&compiled, "NPC-FORWARD"), DENIALS);
    let all = compile(&Snapshot::default(), &isolating(&["0.0.0.0/0", "10.244.1.0/24"]));
    assert_eq!(
        named(&all, "NPC-FORWARD"),
        [
            "-m set ! --match-set npc4-known-0 src -g NPC-DENY-E",
            "-m set ! --match-set npc4-known-0 dst -g NPC-DENY-I",
        ]
    );
}
