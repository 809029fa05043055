//! Names keep apart what is apart, and every ruleset is one that the kernel takes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Addresses, Age, Phase, Pod, Snapshot};
use policy_compiler::compile::compile;
use policy_compiler::config::NodeConfig;
use policy_compiler::document::Location;
use policy_compiler::flow::Traffic;
use policy_compiler::labels::Labels;
use policy_compiler::name::ObjectKey;
use policy_compiler::packet::Packet;
use policy_compiler::policy::{
    Direction, Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers,
    Ports, Rule,
};
use policy_compiler::port::Protocol;
use policy_compiler::ruleset::{
    ChainName, FamilyRules, Match, Rule as ChainRule, Ruleset, SetRole, Target,
};
use policy_compiler::selector::Selector;
use policy_compiler::simulate::{Outcome, simulate_half};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cluster::{cluster, node_name};
use crate::config;
use crate::flows::options;

/// Keys that read alike where namespace and name are run together, and names as long as they get.
fn keys() -> impl Strategy<Value = BTreeSet<ObjectKey>> {
    let one = prop_oneof![
        3 => ("[a-z0-9]{2,12}", any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(
            |(text, one, other)| {
                [one, other]
                    .map(|at| {
                        let at = 1 + at.index(text.len() - 1);
                        (text[..at].to_owned(), text[at..].to_owned())
                    })
                    .to_vec()
            }
        ),
        1 => ("[a-z0-9]{1,63}", "[a-z0-9]", "[a-z0-9]").prop_map(|(namespace, one, other)| {
            let long = "n".repeat(252);
            vec![
                (namespace.clone(), format!("{long}{one}")),
                (namespace.clone(), format!("{one}{long}")),
                (namespace, format!("{long}{other}")),
            ]
        }),
        1 => ("[a-z0-9]{1,5}", "[a-z0-9]{1,5}", "[a-z0-9]{1,5}").prop_map(|(a, b, c)| {
            vec![
                (a.clone(), format!("{b}.{c}")),
                (a.clone(), format!("{b}-{c}")),
                (format!("{a}-{b}"), c.clone()),
                (a, format!("{b}{c}")),
            ]
        }),
    ];
    vec(one, 1..4).prop_map(|groups| {
        groups
            .into_iter()
            .flatten()
            .filter_map(|(namespace, name)| ObjectKey::new(&namespace, &name).ok())
            .collect()
    })
}

fn pod(key: &ObjectKey, number: u16) -> Pod {
    let [high, low] = number.to_be_bytes();
    let mut addresses = Addresses::default();
    addresses.offer(IpAddr::V4(Ipv4Addr::new(10, 9, high, low)));
    let name = &key.name.as_str()[..key.name.as_str().len().min(60)];
    Pod {
        key: key.clone(),
        labels: Labels::from_iter([("pod", name)]),
        node: Some(node_name("n1")),
        host_network: false,
        phase: Phase::Running,
        addresses,
        ports: Vec::new(),
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: None,
        template: false,
        location: Location::default(),
    }
}

/// Lets the pods of its namespace in on one port alone, and out on the same.
fn policy(key: &ObjectKey, number: u16) -> Policy {
    let peer = Peer {
        selects: PeerSelects::Pods {
            namespaces: NamespaceScope::Own,
            pods: Selector::everything(),
        },
        location: Location::default(),
    };
    let port = PortMatch {
        protocol: Protocol::Tcp,
        numbers: PortNumbers::single(NonZeroU16::new(number).unwrap()),
        location: Location::default(),
    };
    let rule = Rule {
        grant: Grant::Traffic {
            peers: Peers::Listed(vec![peer]),
            ports: Ports::Listed(vec![port]),
        },
        location: Location::default(),
    };
    Policy {
        key: key.clone(),
        pod_selector: Selector::everything(),
        isolates_ingress: true,
        isolates_egress: true,
        ingress: vec![rule.clone()],
        egress: vec![rule],
        flawed: false,
        location: Location::default(),
    }
}

/// How many chains of one kind there are: a pod's, a body, an inner one of a tree.
fn chains_of(rules: &FamilyRules, kind: &str) -> usize {
    rules.chains.keys().filter(|name| name.as_str().starts_with(kind)).count()
}

fn targets(rule: &ChainRule) -> Option<&ChainName> {
    match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        Target::Return | Target::Deny(_) => None,
    }
}

/// The longest way through chains from one of them, itself counted; a cycle never ends and fails.
fn depth(rules: &FamilyRules, chain: &ChainName, so_far: usize) -> usize {
    assert!(so_far < 40, "{chain} is nested without end");
    let below = rules.chains[chain].rules.iter().filter_map(targets);
    1 + below.map(|target| depth(rules, target, so_far + 1)).max().unwrap_or(0)
}

fn assert_loadable(ruleset: &Ruleset) {
    for family in Family::ALL {
        let rules = ruleset.family(family);
        let mut used = BTreeSet::new();
        for (name, chain) in &rules.chains {
            assert!(name.as_str().len() <= 28, "{name}");
            assert!(depth(rules, name, 0) <= 15, "{name} is nested too deep");
            for rule in &chain.rules {
                assert!(rule.comment.as_ref().is_none_or(|comment| comment.len() <= 255));
                for condition in &rule.matches {
                    match condition {
                        Match::Set { set, .. } => {
                            assert!(rules.sets.contains_key(set), "{name} refers to no set {set}");
                            used.insert(set);
                        }
                        Match::DestinationPorts(ranges) => {
                            let slots: usize = ranges
                                .iter()
                                .map(|range| if range.first() == range.last() { 1 } else { 2 })
                                .sum();
                            assert!((2..=15).contains(&slots), "{name} has {slots} slots");
                        }
                        Match::Source(net) | Match::Destination(net) => {
                            assert!(net.prefix_len() > 0, "{name} matches {net}");
                        }
                        _ => {}
                    }
                }
            }
        }
        for rule in rules.hooks.values().chain(rules.chains.values().flat_map(|c| &c.rules)) {
            assert!(
                targets(rule).is_none_or(|chain| rules.chains.contains_key(chain)),
                "{rule:?} leads nowhere"
            );
        }
        for (name, set) in &rules.sets {
            assert!(name.to_string().len() <= 31 && name.family == family, "{name}");
            assert!(used.contains(name), "nothing refers to {name}");
            let networks = matches!(name.role, SetRole::Networks { .. });
            for member in &set.members {
                let length = member.net.prefix_len();
                let whole = length == member.net.max_prefix_len();
                assert!(length > 0 && (networks || whole && !member.nomatch), "{name} {member:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(config("names"))]

    #[test]
    fn pods_and_definitions_never_share_a_name(keys in keys()) {
        let numbered: Vec<(&ObjectKey, u16)> = keys.iter().zip(1000..).collect();
        let snapshot = Snapshot {
            pods: numbered.iter().map(|(key, n)| ((*key).clone(), pod(key, *n))).collect(),
            policies: numbered.iter().map(|(key, n)| ((*key).clone(), policy(key, *n))).collect(),
            ..Snapshot::default()
        };
        let compiled = compile(&snapshot, &NodeConfig::new(node_name("n1")));
        assert_loadable(&compiled.ruleset);
        let namespaces: BTreeSet<_> = keys.iter().map(|key| &key.namespace).collect();
        let rules = &compiled.ruleset.v4;
        prop_assert_eq!(chains_of(rules, "NPC-E-"), keys.len());
        prop_assert_eq!(chains_of(rules, "NPC-I-"), keys.len());
        let pod_sets =
            rules.sets.keys().filter(|name| matches!(name.role, SetRole::Pods { .. })).count();
        prop_assert_eq!(pod_sets, namespaces.len());
        for (from, _) in &numbered {
            for (to, _) in &numbered {
                for (of, port) in &numbered {
                    let address = |key: &ObjectKey| IpAddr::V4(snapshot.pods[key].addresses.v4.unwrap());
                    if from == to {
                        continue;
                    }
                    let packet = Packet::opening(address(from), address(to), Traffic::tcp(*port));
                    let granted = from.namespace == to.namespace && of.namespace == to.namespace;
                    let outcome = simulate_half(&compiled.ruleset, Direction::Ingress, &packet);
                    prop_assert_eq!(outcome == Outcome::Passes, granted, "{} -> {} on {}", from, to, port);
                }
            }
        }
    }

    #[test]
    fn every_ruleset_can_be_loaded(snapshot in cluster(), options in options()) {
        assert_loadable(&compile(&snapshot, &options.on("n1")).ruleset);
    }

    #[test]
    fn a_tree_over_many_addresses_is_never_nested_too_deep(
        seeds in vec((any::<u32>(), 0..32_u8), 1..120),
    ) {
        // Addresses that share prefixes of every length, which makes trees as deep as they get.
        let mut before = 0_u32;
        let mut addresses = BTreeSet::new();
        for (bits, shared) in seeds {
            let mask = u32::MAX >> shared;
            before = before & !mask | bits & mask;
            addresses.insert(Ipv4Addr::from(before));
        }
        let mut snapshot = Snapshot::default();
        for (number, address) in (1..).zip(&addresses) {
            let key = ObjectKey::new("x", &format!("p{number}")).unwrap();
            let mut pod = pod(&key, number);
            pod.addresses = Addresses { v4: Some(*address), v6: Some(address.to_ipv6_mapped()) };
            snapshot.pods.insert(key, pod);
        }
        let deny = Policy { egress: Vec::new(), ingress: Vec::new(), ..policy(&ObjectKey::new("x", "deny").unwrap(), 1) };
        snapshot.policies.insert(deny.key.clone(), deny);
        let ruleset = compile(&snapshot, &NodeConfig::new(node_name("n1"))).ruleset;
        assert_loadable(&ruleset);
        let outside = Ipv4Addr::new(203, 0, 113, 7);
        for address in addresses {
            for (source, destination) in [
                (IpAddr::V4(address), IpAddr::V4(outside)),
                (IpAddr::V6(address.to_ipv6_mapped()), IpAddr::V6(outside.to_ipv6_mapped())),
            ] {
                if source == destination {
                    continue;
                }
                let out = Packet::opening(source, destination, Traffic::tcp(80));
                let back = Packet::opening(destination, source, Traffic::tcp(80));
                let denied = |direction, packet| {
                    matches!(simulate_half(&ruleset, direction, packet), Outcome::Denied { .. })
                };
                prop_assert!(denied(Direction::Egress, &out), "{}", out.source);
                prop_assert!(denied(Direction::Ingress, &back), "{}", out.source);
            }
        }
    }
}
