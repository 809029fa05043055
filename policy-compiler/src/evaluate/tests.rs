use std::net::IpAddr;

use super::*;
use crate::cidr::IpBlock;
use crate::cluster::{Addresses, Age, ContainerPort, Node, Phase};
use crate::document::Location;
use crate::flow::End;
use crate::labels::Labels;
use crate::name::ObjectKey;
use crate::policy::{
    Grant, NamespaceScope, Peer, PeerSelects, Peers, PortMatch, PortNumbers, Ports, Rule,
};
use crate::port::{PortName, PortRange, Protocol};
use crate::selector::{Operator, Requirement, Selector};
use crate::verdict::{PeerOutcome, PortOutcome};
use std::num::NonZeroU16;
use std::sync::Arc;

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn app(value: &str) -> Selector {
    Selector::new([Requirement {
        key: Arc::from("app"),
        operator: Operator::In([Arc::from(value)].into()),
    }])
}

fn not_app(value: &str) -> Selector {
    Selector::new([Requirement {
        key: Arc::from("app"),
        operator: Operator::NotIn([Arc::from(value)].into()),
    }])
}

/// A running pod on `n1`, labelled `app=<name>`.
fn pod(name: &str, addresses: &[&str]) -> Pod {
    let key = key(name);
    let mut own = Addresses::default();
    for address in addresses {
        own.offer(ip(address));
    }
    Pod {
        labels: [("app", key.name.as_str())].into_iter().collect::<Labels>(),
        key,
        node: Some(node("n1")),
        host_network: false,
        phase: Phase::Running,
        addresses: own,
        ports: Vec::new(),
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: None,
        template: false,
        location: Location::default(),
    }
}

fn container_port(name: &str, protocol: Protocol, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(PortName::new(name).unwrap()),
        protocol,
        number: NonZeroU16::new(number).unwrap(),
    }
}

fn peer(selects: PeerSelects) -> Peer {
    Peer { selects, location: Location::default() }
}

fn own_pods(pods: Selector) -> Peer {
    peer(PeerSelects::Pods { namespaces: NamespaceScope::Own, pods })
}

fn all_pods(pods: Selector) -> Peer {
    let namespaces = NamespaceScope::Matching(Selector::everything());
    peer(PeerSelects::Pods { namespaces, pods })
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|e| e.parse().unwrap()).collect();
    peer(PeerSelects::Block(IpBlock::new(cidr.parse().unwrap(), except).unwrap()))
}

fn port(protocol: Protocol, numbers: PortNumbers) -> PortMatch {
    PortMatch { protocol, numbers, location: Location::default() }
}

fn number(protocol: Protocol, number: u16) -> PortMatch {
    port(protocol, PortNumbers::single(NonZeroU16::new(number).unwrap()))
}

fn named(protocol: Protocol, name: &str) -> PortMatch {
    port(protocol, PortNumbers::Named(PortName::new(name).unwrap()))
}

fn rule(peers: Vec<Peer>, ports: Vec<PortMatch>) -> Rule {
    let peers = if peers.is_empty() { Peers::Any } else { Peers::Listed(peers) };
    let ports = if ports.is_empty() { Ports::Any } else { Ports::Listed(ports) };
    Rule { grant: Grant::Traffic { peers, ports }, location: Location::default() }
}

fn policy(
    name: &str,
    pod_selector: Selector,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
) -> Policy {
    Policy {
        key: key(name),
        pod_selector,
        isolates_ingress: ingress.is_some(),
        isolates_egress: egress.is_some(),
        ingress: ingress.unwrap_or_default(),
        egress: egress.unwrap_or_default(),
        audit: false,
        flawed: false,
        location: Location::default(),
    }
}

fn cluster(pods: Vec<Pod>, policies: Vec<Policy>) -> Snapshot {
    Snapshot {
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
        ..Snapshot::default()
    }
}

fn end(text: &str) -> End {
    match text.split_once('/') {
        Some(("node", name)) => End::Node(node(name)),
        Some(_) => End::Pod(key(text)),
        None => End::Address(ip(text)),
    }
}

fn flow(from: &str, to: &str, traffic: Traffic) -> Flow {
    let v6 = [from, to].iter().any(|text| text.contains(':'));
    let family = if v6 { Family::V6 } else { Family::V4 };
    Flow { from: end(from), to: end(to), family, traffic, wire: Wire::Routed }
}

fn on(wire: Wire, flow: Flow) -> Flow {
    Flow { wire, ..flow }
}

fn tcp(from: &str, to: &str, port: u16) -> Flow {
    flow(from, to, Traffic::tcp(port))
}

/// The decision and the reasons of both halves.
fn judged(snapshot: &Snapshot, flow: &Flow) -> (Decision, Because, Because) {
    let verdict = evaluate(snapshot, flow);
    (verdict.decision, verdict.egress.because, verdict.ingress.because)
}

fn decided(snapshot: &Snapshot, flow: &Flow) -> Decision {
    evaluate(snapshot, flow).decision
}

fn rulings(snapshot: &Snapshot, flow: &Flow) -> Vec<Ruling> {
    evaluate(snapshot, flow).rulings.into_iter().collect()
}

/// `x/a` and `x/b` on `n1`, `y/c` on `n2`, dual stack.
fn three_pods() -> Vec<Pod> {
    let mut c = pod("y/c", &["10.0.2.1", "fd00:2::1"]);
    c.node = Some(node("n2"));
    vec![pod("x/a", &["10.0.1.1", "fd00:1::1"]), pod("x/b", &["10.0.1.2", "fd00:1::2"]), c]
}

#[test]
fn without_a_policy_everything_is_allowed() {
    let cluster = cluster(three_pods(), vec![]);
    assert_eq!(
        judged(&cluster, &tcp("x/a", "y/c", 80)),
        (Decision::Allowed, Because::NotIsolated, Because::NotIsolated)
    );
    assert_eq!(
        judged(&cluster, &tcp("203.0.113.7", "x/a", 80)),
        (Decision::Allowed, Because::NotAPod, Because::NotIsolated)
    );
}

#[test]
fn isolation_denies_what_no_rule_allows_and_either_half_suffices() {
    let policies = vec![
        policy("x/in", app("a"), Some(vec![rule(vec![own_pods(app("b"))], vec![])]), None),
        policy("y/out", app("c"), None, Some(vec![])),
    ];
    let cluster = cluster(three_pods(), policies);
    assert_eq!(
        judged(&cluster, &tcp("x/b", "x/a", 80)),
        (Decision::Allowed, Because::NotIsolated, Because::RuleAllows)
    );
    assert_eq!(
        judged(&cluster, &tcp("y/c", "x/a", 80)),
        (Decision::Denied, Because::NoRuleAllows, Because::NoRuleAllows)
    );
    assert_eq!(
        judged(&cluster, &tcp("y/c", "x/b", 80)),
        (Decision::Denied, Because::NoRuleAllows, Because::NotIsolated)
    );
}

#[test]
fn an_egress_rule_of_a_policy_with_both_types_opens_no_ingress() {
    let both =
        policy("x/both", Selector::everything(), Some(vec![]), Some(vec![rule(vec![], vec![])]));
    let cluster = cluster(three_pods(), vec![both]);
    assert_eq!(
        judged(&cluster, &tcp("x/a", "x/b", 80)),
        (Decision::Denied, Because::RuleAllows, Because::NoRuleAllows)
    );
}

#[test]
fn the_trace_says_of_every_peer_and_port_why_it_does_not_match() {
    let mut pods = three_pods();
    pods[0].ports =
        vec![container_port("http", Protocol::Tcp, 8080), container_port("dns", Protocol::Udp, 53)];
    let peers = vec![
        own_pods(app("b")),
        all_pods(app("web")),
        block("10.0.0.0/8", &["10.0.2.0/24"]),
        block("192.0.2.0/24", &[]),
        block("fd00::/8", &[]),
        all_pods(app("c")),
    ];
    let ports = vec![
        named(Protocol::Tcp, "http"),
        named(Protocol::Tcp, "dns"),
        named(Protocol::Tcp, "metrics"),
        number(Protocol::Udp, 80),
        number(Protocol::Tcp, 443),
    ];
    let invalid =
        Rule { grant: Grant::Nothing { reason: "`form`".into() }, location: Location::default() };
    let from_c = policy("x/p", app("a"), Some(vec![rule(peers, ports), invalid]), None);
    let cluster = cluster(pods, vec![from_c]);
    let verdict = evaluate(&cluster, &tcp("y/c", "x/a", 80));
    assert_eq!(verdict.ingress.because, Because::NoRuleAllows);
    let rules = &verdict.ingress.policies[0].rules;
    assert_eq!(rules[1].invalid.as_deref(), Some("`form`"));
    let outcomes: Vec<PeerOutcome> = rules[0].peers.iter().map(|p| p.outcome.clone()).collect();
    assert!(matches!(outcomes[0], PeerOutcome::OtherNamespace { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], PeerOutcome::PodMiss { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[2], PeerOutcome::Excepted { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[3], PeerOutcome::OutsideBlock { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[4], PeerOutcome::OtherFamily { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[5], PeerOutcome::MatchedPod { .. }), "{outcomes:?}");
    let name = |text| PortName::new(text).unwrap();
    let https = PortRange::single(NonZeroU16::new(443).unwrap());
    assert_eq!(
        rules[0].ports.iter().map(|p| p.outcome.clone()).collect::<Vec<_>>(),
        vec![
            PortOutcome::NameMeansOther(Protocol::Tcp, name("http"), [8080].into()),
            PortOutcome::NameOfOtherProtocol(Protocol::Tcp, name("dns")),
            PortOutcome::NameNotFound(Protocol::Tcp, name("metrics")),
            PortOutcome::OtherProtocol(Protocol::Udp),
            PortOutcome::OtherNumber(Protocol::Tcp, https),
        ]
    );
    assert_eq!(decided(&cluster, &tcp("y/c", "x/a", 8080)), Decision::Allowed);
}

#[test]
fn except_is_not_granted_by_its_block_and_may_be_by_another() {
    let blocks = vec![block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.0.0.0/12", &[])];
    let cluster = cluster(
        three_pods(),
        vec![policy("x/p", app("a"), Some(vec![rule(blocks, vec![])]), None)],
    );
    assert_eq!(decided(&cluster, &tcp("10.1.2.3", "x/a", 80)), Decision::Allowed);
    assert_eq!(decided(&cluster, &tcp("10.99.0.1", "x/a", 80)), Decision::Allowed);
    assert_eq!(decided(&cluster, &tcp("11.0.0.1", "x/a", 80)), Decision::Denied);
    assert_eq!(decided(&cluster, &tcp("fd00:2::1", "x/a", 80)), Decision::Denied);
}

#[test]
fn a_negative_selector_matches_no_address_that_is_no_pod() {
    let cluster = cluster(
        three_pods(),
        vec![policy("x/p", app("a"), Some(vec![rule(vec![all_pods(not_app("b"))], vec![])]), None)],
    );
    assert_eq!(decided(&cluster, &tcp("y/c", "x/a", 80)), Decision::Allowed);
    assert_eq!(decided(&cluster, &tcp("10.0.2.1", "x/a", 80)), Decision::Allowed);
    assert_eq!(decided(&cluster, &tcp("x/b", "x/a", 80)), Decision::Denied);
    assert_eq!(decided(&cluster, &tcp("203.0.113.7", "x/a", 80)), Decision::Denied);
}

#[test]
fn an_egress_port_name_means_what_each_destination_calls_so() {
    let mut pods = three_pods();
    pods[1].ports = vec![container_port("http", Protocol::Tcp, 8080)];
    pods[2].ports = vec![
        container_port("http", Protocol::Tcp, 9090),
        container_port("http", Protocol::Tcp, 9091),
    ];
    let rules =
        vec![rule(vec![all_pods(Selector::everything())], vec![named(Protocol::Tcp, "http")])];
    let cluster = cluster(pods, vec![policy("x/p", app("a"), None, Some(rules))]);
    for (to, port, expected) in [
        ("x/b", 8080, Decision::Allowed),
        ("x/b", 9090, Decision::Denied),
        ("y/c", 9090, Decision::Allowed),
        ("y/c", 9091, Decision::Allowed),
        ("y/c", 8080, Decision::Denied),
    ] {
        assert_eq!(decided(&cluster, &tcp("x/a", to, port)), expected, "{to} on {port}");
    }
}

#[test]
fn other_protocols_need_a_rule_without_ports_and_the_verdict_rests_on_the_ruling() {
    let tcp_only = rule(vec![own_pods(app("b"))], vec![port(Protocol::Tcp, PortNumbers::Any)]);
    let anything = rule(vec![all_pods(app("c"))], vec![]);
    let cluster =
        cluster(three_pods(), vec![policy("x/p", app("a"), Some(vec![tcp_only, anything]), None)]);
    for (from, to, traffic, expected, ruled) in [
        ("x/b", "x/a", Traffic::Icmp { kind: 8 }, Decision::Denied, true),
        ("y/c", "x/a", Traffic::Icmp { kind: 8 }, Decision::Allowed, true),
        ("y/c", "x/a", Traffic::Other { protocol: 47 }, Decision::Allowed, true),
        ("y/c", "x/a", Traffic::sctp(9), Decision::Allowed, false),
        ("x/b", "x/a", Traffic::udp(53), Decision::Denied, false),
        ("x/a", "x/b", Traffic::Icmp { kind: 8 }, Decision::Allowed, false),
    ] {
        let flow = flow(from, to, traffic);
        assert_eq!(decided(&cluster, &flow), expected, "{flow:?}");
        assert_eq!(rulings(&cluster, &flow) == [Ruling::OtherProtocols], ruled, "{flow:?}");
    }
}

#[test]
fn a_pod_and_its_own_node_always_reach_each_other_and_other_nodes_are_addresses() {
    let deny = |name| policy(name, Selector::everything(), Some(vec![]), Some(vec![]));
    let mut snapshot = cluster(three_pods(), vec![deny("x/p"), deny("y/p")]);
    for (name, address) in [("n1", "192.0.2.1"), ("n2", "192.0.2.2")] {
        let location = Location::default();
        let node = Node {
            name: node(name),
            addresses: vec![ip(address)],
            pod_networks: Vec::new(),
            location,
        };
        snapshot.nodes.insert(node.name.clone(), node);
    }
    for (from, to, expected) in [
        ("node/n1", "x/a", Decision::Allowed),
        ("x/a", "node/n1", Decision::Allowed),
        ("192.0.2.1", "x/a", Decision::Allowed),
        ("node/n2", "x/a", Decision::Denied),
        ("192.0.2.1", "y/c", Decision::Denied),
        ("node/n2", "y/c", Decision::Allowed),
        ("node/n1", "node/n2", Decision::Allowed),
    ] {
        assert_eq!(decided(&snapshot, &tcp(from, to, 80)), expected, "{from} -> {to}");
    }
    let open = rule(vec![block("192.0.2.2/32", &[])], vec![]);
    let grant = policy("x/nodes", Selector::everything(), Some(vec![open]), None);
    snapshot.policies.insert(grant.key.clone(), grant);
    assert_eq!(decided(&snapshot, &tcp("node/n2", "x/a", 80)), Decision::Allowed);
}

#[test]
fn a_host_network_pod_is_its_node_and_never_a_peer() {
    let mut host = pod("x/b", &["192.0.2.2"]);
    host.host_network = true;
    host.node = Some(node("n2"));
    let allow_b = rule(vec![own_pods(app("b"))], vec![]);
    let cluster = cluster(
        vec![pod("x/a", &["10.0.1.1"]), host],
        vec![policy("x/p", Selector::everything(), Some(vec![allow_b]), Some(vec![]))],
    );
    let to_a = tcp("x/b", "x/a", 80);
    assert_eq!(
        judged(&cluster, &to_a),
        (Decision::Denied, Because::NotAPod, Because::NoRuleAllows)
    );
    assert_eq!(rulings(&cluster, &to_a), [Ruling::HostNetwork]);
    assert_eq!(decided(&cluster, &tcp("192.0.2.2", "x/a", 80)), Decision::Denied);
}

#[test]
fn a_finished_pod_is_neither_and_its_address_belongs_to_whoever_has_it_now() {
    let mut finished = pod("x/b", &["10.0.1.9"]);
    finished.phase = Phase::Finished;
    let from_b = rule(vec![own_pods(app("b"))], vec![]);
    let deny_b = policy("x/deny", app("b"), Some(vec![]), Some(vec![]));
    let policies = vec![deny_b, policy("x/p", app("a"), Some(vec![from_b]), None)];
    let mut snapshot = cluster(vec![pod("x/a", &["10.0.1.1"]), finished], policies);
    assert_eq!(decided(&snapshot, &tcp("10.0.1.9", "x/a", 80)), Decision::Denied);
    assert_eq!(decided(&snapshot, &tcp("x/a", "10.0.1.9", 80)), Decision::Allowed);
    let heir = pod("y/c", &["10.0.1.9"]);
    snapshot.pods.insert(heir.key.clone(), heir);
    assert_eq!(
        judged(&snapshot, &tcp("x/a", "x/b", 80)),
        (Decision::Allowed, Because::NotIsolated, Because::NotIsolated)
    );
}

#[test]
fn of_two_owners_of_an_address_the_newest_is_judged_and_either_is_a_peer() {
    let mut older = pod("x/b", &["10.0.1.9"]);
    older.age.started = Some(Arc::from("2025-01-01T00:00:00Z"));
    let mut newer = pod("x/c", &["10.0.1.9"]);
    newer.age.started = Some(Arc::from("2025-01-02T00:00:00Z"));
    let allow = |name| rule(vec![own_pods(app(name))], vec![]);
    let policies = vec![
        policy("x/a-in", app("a"), Some(vec![allow("b")]), None),
        policy("x/b-in", app("b"), Some(vec![]), None),
        policy("x/c-in", app("c"), Some(vec![allow("a")]), None),
    ];
    let cluster = cluster(vec![pod("x/a", &["10.0.1.1"]), older, newer], policies);
    for (from, to) in [("x/c", "x/a"), ("x/b", "x/a"), ("x/a", "x/b"), ("x/a", "10.0.1.9")] {
        let flow = tcp(from, to, 80);
        assert_eq!(decided(&cluster, &flow), Decision::Allowed, "{from} -> {to}");
        assert_eq!(rulings(&cluster, &flow), [Ruling::SharedAddress], "{from} -> {to}");
    }
    assert_eq!(evaluate(&cluster, &tcp("x/a", "x/b", 80)).ingress.subject, Some(key("x/c")));
}

#[test]
fn what_a_block_means_for_a_pod_without_address_is_unknown() {
    let mut template = pod("x/b", &[]);
    template.template = true;
    let peers = vec![block("10.0.0.0/8", &[])];
    let cluster = cluster(
        vec![pod("x/a", &["10.0.1.1"]), template],
        vec![policy(
            "x/p",
            app("a"),
            Some(vec![rule(peers, vec![number(Protocol::Tcp, 80)])]),
            None,
        )],
    );
    assert_eq!(
        judged(&cluster, &tcp("x/b", "x/a", 80)),
        (Decision::Unknown, Because::NotIsolated, Because::RuleMayAllow)
    );
    assert_eq!(decided(&cluster, &tcp("x/b", "x/a", 81)), Decision::Denied);
    assert_eq!(decided(&cluster, &tcp("x/a", "x/b", 81)), Decision::Allowed);
}

#[test]
fn there_is_no_flow_in_a_family_that_a_pod_lacks() {
    let cluster = cluster(vec![pod("x/a", &["10.0.1.1"]), pod("x/b", &["fd00::2"])], vec![]);
    assert_eq!(
        judged(&cluster, &tcp("x/b", "x/a", 80)),
        (Decision::Denied, Because::NoAddress, Because::NotIsolated)
    );
    assert_eq!(decided(&cluster, &tcp("x/a", "x/nobody", 80)), Decision::Denied);
}

#[test]
fn a_pod_reaches_itself_unless_the_packet_is_spoofed_or_hairpins_are_policed() {
    let deny = policy("x/p", Selector::everything(), Some(vec![]), Some(vec![]));
    let cluster = cluster(three_pods(), vec![deny]);
    let itself = tcp("x/a", "x/a", 80);
    assert_eq!(judged(&cluster, &itself), (Decision::Allowed, Because::Itself, Because::Itself));
    assert_eq!(rulings(&cluster, &itself), []);
    let hairpin = on(Wire::Translated, itself.clone());
    assert_eq!(decided(&cluster, &hairpin), Decision::Allowed);
    assert_eq!(rulings(&cluster, &hairpin), [Ruling::Hairpin]);
    let strict = Evaluator::new(&cluster).with_hairpin(Hairpin::Police).verdict(&hairpin);
    assert_eq!(strict.decision, Decision::Denied);
    assert!(strict.rulings.contains(&Ruling::Hairpin));
    assert_eq!(
        judged(&cluster, &on(Wire::Spoofed, itself)),
        (Decision::Denied, Because::Spoofed, Because::Spoofed)
    );
    let open = on(Wire::Spoofed, tcp("y/c", "10.0.2.1", 80));
    assert_eq!(decided(&cluster, &open), Decision::Allowed);
}

#[test]
fn on_a_bridge_with_an_isolated_pod_nothing_that_belongs_to_nobody_passes() {
    let policies = vec![policy("x/p", app("a"), Some(vec![rule(vec![], vec![])]), None)];
    let guarded = cluster(three_pods(), policies);
    let open = cluster(three_pods(), vec![]);
    for (from, to) in [
        ("x/b", "224.0.0.1"),
        ("x/b", "255.255.255.255"),
        ("x/b", "ff02::1"),
        ("x/b", "fe80::1"),
        ("fe80::1", "x/a"),
    ] {
        let flow = on(Wire::Bridged, flow(from, to, Traffic::udp(5353)));
        assert_eq!(decided(&guarded, &flow), Decision::Denied, "{from} -> {to}");
        assert_eq!(rulings(&guarded, &flow), [Ruling::LinkLocal], "{from} -> {to}");
        assert_eq!(decided(&open, &flow), Decision::Allowed, "{from} -> {to}");
    }
    let elsewhere = on(Wire::Bridged, flow("y/c", "ff02::1", Traffic::udp(5353)));
    assert_eq!(decided(&guarded, &elsewhere), Decision::Allowed);
    let routed = flow("fe80::1", "x/a", Traffic::udp(5353));
    assert_eq!(decided(&guarded, &routed), Decision::Allowed);
}

#[test]
fn neighbour_discovery_is_exempt_on_a_bridge_only() {
    let deny = policy("x/p", Selector::everything(), Some(vec![]), Some(vec![]));
    let cluster = cluster(three_pods(), vec![deny]);
    for kind in [130, 131, 132, 135, 136, 143] {
        let bridged = on(Wire::Bridged, flow("x/b", "ff02::1", Traffic::Icmp { kind }));
        assert_eq!(decided(&cluster, &bridged), Decision::Allowed, "type {kind}");
        let routed = flow("fd00:2::1", "x/b", Traffic::Icmp { kind });
        assert_eq!(decided(&cluster, &routed), Decision::Denied, "type {kind}");
    }
    for kind in [128, 133, 134, 137] {
        let bridged = on(Wire::Bridged, flow("x/b", "ff02::1", Traffic::Icmp { kind }));
        assert_eq!(decided(&cluster, &bridged), Decision::Denied, "type {kind}");
    }
}

#[test]
fn an_address_of_a_pod_network_that_belongs_to_nobody_is_denied_but_by_its_own_node() {
    let open = policy("x/open", Selector::everything(), Some(vec![rule(vec![], vec![])]), None);
    let mut finished = pod("x/done", &["10.0.1.7"]);
    finished.phase = Phase::Finished;
    let mut pods = three_pods();
    pods.push(finished);
    let snapshot = cluster(pods, vec![open]);
    let networks = [(node("n1"), ["10.0.1.0/24".parse().unwrap()].into())].into();
    let evaluator = Evaluator::new(&snapshot).with_pod_networks(&networks);
    let unknown = || Because::UnknownAddress(node("n1"));
    for (from, to, decision, egress, ingress) in [
        ("10.0.1.200", "x/a", Decision::Denied, unknown(), Because::RuleAllows),
        ("x/a", "10.0.1.200", Decision::Denied, Because::NotIsolated, unknown()),
        ("10.0.1.200", "10.0.1.201", Decision::Denied, unknown(), unknown()),
        ("10.0.1.200", "203.0.113.7", Decision::Denied, unknown(), Because::NotAPod),
        ("x/done", "x/a", Decision::Denied, unknown(), Because::RuleAllows),
        ("node/n2", "10.0.1.200", Decision::Denied, Because::NotAPod, unknown()),
        ("node/n1", "10.0.1.200", Decision::Allowed, Because::NotAPod, Because::NotAPod),
        ("10.0.1.200", "node/n1", Decision::Allowed, Because::NotAPod, Because::NotAPod),
        ("10.0.1.200", "10.0.1.200", Decision::Allowed, Because::NotAPod, Because::NotAPod),
        ("10.0.9.9", "x/a", Decision::Allowed, Because::NotAPod, Because::RuleAllows),
        ("x/b", "x/a", Decision::Allowed, Because::NotIsolated, Because::RuleAllows),
    ] {
        let verdict = evaluator.verdict(&tcp(from, to, 80));
        let found = (verdict.decision, verdict.egress.because, verdict.ingress.because);
        assert_eq!(found, (decision, egress, ingress), "{from} -> {to}");
        let rulings: Vec<Ruling> = verdict.rulings.into_iter().collect();
        let expected: &[Ruling] =
            if decision == Decision::Denied { &[Ruling::UnknownAddress] } else { &[] };
        assert_eq!(rulings, expected, "{from} -> {to}");
    }
}
