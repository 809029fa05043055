//! Names keep apart what is apart, and every ruleset is one that the kernel takes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use policy_compiler::cidr::{Family, IpBlock};
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
use policy_compiler::selector::{Operator, Requirement, Selector};
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
    Pod {
        key: key.clone(),
        labels: Labels::from_iter([("number", number.to_string().as_str())]),
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

fn grant(selects: PeerSelects, protocol: Protocol, number: u16) -> Rule {
    let location = Location::default;
    let numbers = PortNumbers::single(NonZeroU16::new(number).unwrap());
    Rule {
        grant: Grant::Traffic {
            peers: Peers::Listed(vec![Peer { selects, location: location() }]),
            ports: Ports::Listed(vec![PortMatch { protocol, numbers, location: location() }]),
        },
        location: location(),
    }
}

/// Lets the pods of its namespace into the pod of that number on the port of that number alone, and
/// out on the same; with enough besides, the same for all, that the body is one that pods share.
fn policy(key: &ObjectKey, number: u16) -> Policy {
    let own = PeerSelects::Pods { namespaces: NamespaceScope::Own, pods: Selector::everything() };
    let besides = (1..=4).map(|last| {
        let net = IpNet::from(IpAddr::from([203, 0, 113, last]));
        let block = IpBlock::new(net, Vec::new()).unwrap();
        grant(PeerSelects::Block(block), Protocol::Udp, last.into())
    });
    let rules: Vec<Rule> =
        std::iter::once(grant(own, Protocol::Tcp, number)).chain(besides).collect();
    let the_number = Requirement {
        key: Arc::from("number"),
        operator: Operator::In([Arc::from(number.to_string())].into()),
    };
    Policy {
        key: key.clone(),
        pod_selector: Selector::new([the_number]),
        isolates_ingress: true,
        isolates_egress: true,
        ingress: rules.clone(),
        egress: rules,
        audit: false,
        flawed: false,
        location: Location::default(),
    }
}

/// The address with each bit of `bits` three places from the next, which makes a tree of strides of
/// three as deep as there are bits.
fn stretched(bits: u32) -> Ipv6Addr {
    let spread =
        |bits: u32| (0..32).fold(0_u128, |sum, i| sum | u128::from(bits >> i & 1) << (3 * i));
    Ipv6Addr::from(0xfd << 120 | spread(bits))
}

/// How many chains of one kind there are: a pod's, a body, an inner one of a tree.
fn chains_of(rules: &FamilyRules, kind: &str) -> usize {
    rules.chains.keys().filter(|name| name.as_str().starts_with(kind)).count()
}

fn targets(rule: &ChainRule) -> Option<&ChainName> {
    match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        Target::Return | Target::Log(_) | Target::Deny(_) => None,
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
                        Match::Set { set, .. } | Match::NotInSet { set, .. } => {
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
            for member in set.members.iter() {
                let length = member.net.prefix_len();
                let whole = length == member.net.max_prefix_len();
                assert!(length > 0 && (networks || whole && !member.nomatch), "{name} {member:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(config("names", 2_000))]

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
                    let granted = from.namespace == to.namespace && of == to;
                    let outcome = simulate_half(&compiled.ruleset, Direction::Ingress, &packet).outcome;
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
        base in any::<u32>(),
        branches in vec((0..32_u8, any::<u32>()), 1..120),
    ) {
        // Addresses that leave the way to one of them at every depth.
        let all: BTreeSet<u32> = branches
            .into_iter()
            .map(|(at, below)| base ^ 1 << at ^ below & ((1 << at) - 1))
            .collect();
        let mut snapshot = Snapshot::default();
        for (number, bits) in (1..).zip(&all) {
            let key = ObjectKey::new("x", &format!("p{number}")).unwrap();
            let addresses =
                Addresses { v4: Some(Ipv4Addr::from(*bits)), v6: Some(stretched(*bits)) };
            snapshot.pods.insert(key.clone(), Pod { addresses, ..pod(&key, number) });
        }
        let deny = Policy {
            pod_selector: Selector::everything(),
            ingress: Vec::new(),
            egress: Vec::new(),
            ..policy(&ObjectKey::new("x", "deny").unwrap(), 1)
        };
        snapshot.policies.insert(deny.key.clone(), deny);
        let ruleset = compile(&snapshot, &NodeConfig::new(node_name("n1"))).ruleset;
        assert_loadable(&ruleset);
        let outside = base ^ u32::MAX;
        for bits in all.into_iter().filter(|bits| *bits != outside) {
            for (source, destination) in [
                (IpAddr::from(Ipv4Addr::from(bits)), IpAddr::from(Ipv4Addr::from(outside))),
                (IpAddr::from(stretched(bits)), IpAddr::from(stretched(outside))),
            ] {
                let out = Packet::opening(source, destination, Traffic::tcp(80));
                let back = Packet::opening(destination, source, Traffic::tcp(80));
                let denied = |direction, packet| {
                    matches!(simulate_half(&ruleset, direction, packet).outcome, Outcome::Denied { .. })
                };
                prop_assert!(denied(Direction::Egress, &out), "{}", out.source);
                prop_assert!(denied(Direction::Ingress, &back), "{}", out.source);
            }
        }
    }
}
