//! Ways that are not from one pod to another over their node: to itself, out of the node's own stack as
//! IPVS sends, past all pods on their bridge. And the moment between two states of the rules.

use std::net::{IpAddr, Ipv4Addr};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{Hairpin, InterfaceName, NodeConfig};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::verdict::Decision;
use policy_manifest::case;
use policy_tests::enforcement::{Backend, Loader};
use policy_tests::lab::{BRIDGE, Lab, Plan, Slot, StationId, Wiring};
use policy_tests::packet::Outline;
use policy_tests::placement::Placement;
use policy_tests::probe::{Probe, send_awaiting};
use serde_json::json;

use crate::town::{PATIENCE, State, Town, expect_nothing_wrong};

under_both_backends!(
    a_pod_reaches_itself_through_a_service_unless_that_is_policed_and_never_on_the_wire,
    what_leaves_by_output_in_a_pods_name_is_policed_where_ipvs_is_in_use,
    what_is_for_nobody_passes_no_isolated_pod_on_a_bridge,
    members_and_rules_that_change_together_are_never_open_in_between,
);

fn config() -> NodeConfig {
    let mut config = NodeConfig::new(NodeName::new("n1").unwrap());
    config.bridges.insert(InterfaceName::new(BRIDGE).unwrap());
    config
}

fn snapshot(pods: &str, policies: &str) -> Snapshot {
    let text = format!(
        "pods:\n{pods}policies:\n{policies}cases:\n- {{name: any, allow: [\"x/a -> x/a on 80\"]}}\n"
    );
    let file = case::parse("ways", &text, std::path::Path::new("")).unwrap();
    file.cases.into_iter().next().unwrap().snapshot
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("x", name).unwrap()
}

/// Both pods are isolated in both directions, and open to pods like themselves on port 80.
fn a_pod_reaches_itself_through_a_service_unless_that_is_policed_and_never_on_the_wire(
    backend: Backend,
) {
    let wirings = vec![Wiring::Bridged, Wiring::Routed, Wiring::Bridged];
    let lab = Lab::build(&Plan { nodes: vec![wirings] }).unwrap();
    let itself = "[{podSelector: {}}], ports: [{port: 80}]";
    let snapshot = snapshot(
        "  x/a: {node: n1, ips: [10.244.1.10, \"fd00:10:244:1::10\"]}\n  \
         x/b: {node: n1, ips: [10.244.1.11, \"fd00:10:244:1::11\"]}\n",
        &format!(
            "  x/p: {{podSelector: {{}}, policyTypes: [Ingress, Egress], \
             ingress: [{{from: {itself}}}], egress: [{{to: {itself}}}]}}\n"
        ),
    );
    let mut flows = Vec::new();
    for family in Family::ALL {
        for (pod, wire) in [("a", Wire::Translated), ("b", Wire::Translated), ("a", Wire::Spoofed)]
        {
            for port in [80, 81] {
                let (from, to) = (End::Pod(key(pod)), End::Pod(key(pod)));
                flows.push(Flow { from, to, family, traffic: Traffic::tcp(port), wire });
            }
        }
    }
    let mut placement = Placement::new(&lab, &snapshot, &flows).unwrap();
    let trials: Vec<_> = flows.iter().map(|flow| placement.trial(flow).unwrap()).collect();
    placement.lay(backend).unwrap();
    let node = lab.namespace(&lab.nodes[0]);
    let arrived = || -> Vec<bool> {
        lab.forget_connections().unwrap();
        let probes: Vec<Probe> = trials.iter().flat_map(|trial| trial.probes.clone()).collect();
        let mut fates = send_awaiting(&lab, &probes, &[]).unwrap().into_iter();
        let any = |trial: &policy_tests::placement::Trial| {
            fates
                .by_ref()
                .take(trial.probes.len())
                .map(|fate| fate.arrived)
                .fold(false, |a, b| a | b)
        };
        trials.iter().map(any).collect()
    };
    assert_eq!(arrived(), vec![true; flows.len()], "there are ways");
    for hairpin in [Hairpin::Allow, Hairpin::Police] {
        let ruleset = compile(&placement.snapshot, &NodeConfig { hairpin, ..config() }).ruleset;
        Loader::Policyd.load(backend, node, &ruleset).unwrap();
        let evaluator = Evaluator::new(&placement.snapshot).with_hairpin(hairpin);
        for (flow, arrived) in flows.iter().zip(arrived()) {
            let expected = match (flow.wire, flow.traffic == Traffic::tcp(80)) {
                (Wire::Spoofed, _) => false,
                (_, allowed) => allowed || hairpin == Hairpin::Allow,
            };
            assert_eq!(arrived, expected, "{flow:?} with {hairpin:?}");
            let decided = evaluator.verdict(flow).decision == Decision::Allowed;
            assert_eq!(decided, expected, "{flow:?} with {hairpin:?}");
        }
        Loader::Policyd.unload(backend, node).unwrap();
    }
}

/// Slots by the lab's own addresses: a may talk to b, and nobody else to anybody.
fn strict(lab: &Lab) -> Snapshot {
    let slot = |index: usize| &lab.nodes[0].slots[index];
    let pod = |name: &str, slot: &Slot| {
        format!(
            "  x/{name}: {{labels: {{app: {name}}}, node: n1, ips: [{}, \"{}\"]}}\n",
            slot.v4, slot.v6
        )
    };
    let both = "policyTypes: [Ingress, Egress]";
    let app = |name: &str| format!("podSelector: {{matchLabels: {{app: {name}}}}}");
    snapshot(
        &[pod("a", slot(0)), pod("b", slot(1))].concat(),
        &format!(
            "  x/a: {{{}, {both}, egress: [{{to: [{{{}}}]}}]}}\n  \
             x/b: {{{}, {both}, ingress: [{{from: [{{{}}}]}}]}}\n",
            app("a"),
            app("b"),
            app("b"),
            app("a"),
        ),
    )
}

fn arrive(lab: &Lab, packets: &[(StationId, IpAddr, Traffic, IpAddr, StationId)]) -> Vec<bool> {
    let probe = |(sender, source, traffic, to, receiver): &(_, _, _, _, _)| Probe {
        sender: *sender,
        towards: *to,
        outline: Outline::opening(*source, *to, *traffic, lab.next_port()),
        receivers: vec![*receiver],
    };
    let probes: Vec<Probe> = packets.iter().map(probe).collect();
    lab.forget_connections().unwrap();
    send_awaiting(lab, &probes, &[]).unwrap().iter().map(|fate| fate.arrived).collect()
}

/// The node's raw socket stands for IPVS, which sends what comes for a Service from OUTPUT on.
fn what_leaves_by_output_in_a_pods_name_is_policed_where_ipvs_is_in_use(backend: Backend) {
    let wirings = vec![Wiring::Bridged, Wiring::Routed, Wiring::Bridged];
    let lab = Lab::build(&Plan { nodes: vec![wirings] }).unwrap();
    let home = &lab.nodes[0];
    let node = lab.namespace(home);
    let [a, b, stranger] = &home.slots[..] else { panic!("three slots") };
    let mut packets = Vec::new();
    for to in [IpAddr::V4(b.v4), b.v6.into()] {
        let own: IpAddr = if to.is_ipv4() { home.v4.into() } else { home.v6.into() };
        for source in [a.address_like(to), stranger.address_like(to), own] {
            for traffic in [Traffic::tcp(80), Traffic::udp(80)] {
                packets.push((home.station, source, traffic, to, b.station));
            }
        }
    }
    assert_eq!(arrive(&lab, &packets), vec![true; packets.len()], "there are ways");
    for ipvs in [true, false] {
        let ruleset = compile(&strict(&lab), &NodeConfig { ipvs, ..config() }).ruleset;
        Loader::Policyd.load(backend, node, &ruleset).unwrap();
        for (packet, arrived) in packets.iter().zip(arrive(&lab, &packets)) {
            let strange = packet.1 == stranger.address_like(packet.1);
            assert_eq!(arrived, !(ipvs && strange), "{packet:?}, IPVS: {ipvs}");
        }
        Loader::Policyd.unload(backend, node).unwrap();
    }
}

fn what_is_for_nobody_passes_no_isolated_pod_on_a_bridge(backend: Backend) {
    let lab = Lab::build(&Plan::uniform(1, 3, Wiring::Bridged)).unwrap();
    let node = lab.namespace(&lab.nodes[0]);
    let [_, b, stranger] = &lab.nodes[0].slots[..] else { panic!("three slots") };
    let subnet = b.v4.octets();
    let directed = Ipv4Addr::new(subnet[0], subnet[1], subnet[2], 255);
    let link_local: IpAddr = "fe80::2:1".parse().unwrap();
    let udp = Traffic::udp(5353);
    let icmp = |kind| Traffic::Icmp { kind };
    let of = |to: &str| to.parse::<IpAddr>().unwrap();
    let cases = [
        ("broadcast", stranger.v4.into(), udp, of("255.255.255.255"), false),
        ("the network's broadcast", stranger.v4.into(), udp, directed.into(), false),
        ("multicast", stranger.v4.into(), udp, of("224.0.0.251"), false),
        ("multicast of IPv6", stranger.v6.into(), udp, of("ff02::fb"), false),
        ("from a link-local address", link_local, udp, b.v6.into(), false),
        ("a router's advertisement", link_local, icmp(134), of("ff02::1"), false),
        ("a redirect", link_local, icmp(137), b.v6.into(), false),
        ("a query for listeners", link_local, icmp(130), of("ff02::1"), true),
        ("a report of a listener", link_local, icmp(131), of("ff02::fb"), true),
        ("reports of listeners", link_local, icmp(143), of("ff02::16"), true),
        ("a neighbour's solicitation", stranger.v6.into(), icmp(135), of("ff02::1"), true),
        ("a neighbour's advertisement", stranger.v6.into(), icmp(136), b.v6.into(), true),
    ];
    let packets =
        cases.map(|(_, source, traffic, to, _)| (stranger.station, source, traffic, to, b.station));
    assert_eq!(arrive(&lab, &packets), vec![true; packets.len()], "there are ways");
    for (isolated, snapshot) in [(true, strict(&lab)), (false, Snapshot::default())] {
        let ruleset = compile(&snapshot, &config()).ruleset;
        Loader::Policyd.load(backend, node, &ruleset).unwrap();
        for ((name, .., passes), arrived) in cases.iter().zip(arrive(&lab, &packets)) {
            assert_eq!(arrived, *passes || !isolated, "{name}, with isolated pods: {isolated}");
        }
        Loader::Policyd.unload(backend, node).unwrap();
    }
}

/// What neither of two states allows and a mixture of them would: the members of one with the rules of
/// the other.
fn members_and_rules_that_change_together_are_never_open_in_between(backend: Backend) {
    let opens = |port: u16, protocol: &str, role: &str| {
        let ports = json!([{"port": port, "protocol": protocol}]);
        json!([{"from": [{"podSelector": {"matchLabels": {"role": role}}}], "ports": ports}])
    };
    let for_app = |app: &str, rules: serde_json::Value| json!({"podSelector": {"matchLabels": {"app": app}}, "ingress": rules});
    let state = |member: &str, datagrams: u16, connections: u16| {
        State::with(
            [member, member],
            &[
                ("server-too", for_app("server", opens(datagrams, "UDP", "a"))),
                ("flux", for_app("flux", opens(connections, "TCP", "a"))),
            ],
        )
    };
    let states = [state("b", 53, 80), state("a", 5353, 443)];
    let town = Town::new(backend);
    town.put(&states[0]);
    let daemon = town.start();
    let vigil = town.watch(&states[0]);
    let mut read = daemon.lines().len();
    for turn in 1..=ROUNDS {
        let state = &states[turn % 2];
        let newest = vigil.may_become(town.verdicts(state));
        town.put(state);
        read = daemon.await_line("applied", read, PATIENCE).unwrap();
        if turn % 10 == 0 {
            town.expect_kernel(state);
            vigil.is_in_force(newest);
        }
    }
    expect_nothing_wrong(vigil);
}

/// How often that is done.
const ROUNDS: usize = 40;
