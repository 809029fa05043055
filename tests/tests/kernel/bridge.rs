//! Pods of one bridge find each other by ARP and neighbour discovery while all of them are isolated.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::name::NodeName;
use policy_manifest::case;
use policy_tests::enforcement::{Backend, load};
use policy_tests::lab::{BRIDGE, Lab, Plan, Slot, Wiring};
use policy_tests::privilege::kernel_test;

/// Both slots are pods by the lab's own addresses; a may talk to b, nobody else to anybody.
fn isolate(lab: &Lab, backend: Backend) {
    let slot = |index: usize| &lab.nodes[0].slots[index];
    let text = format!(
        "pods:\n  x/a: {{labels: {{app: a}}, node: n1, ips: [{}, \"{}\"]}}\n  \
         x/b: {{labels: {{app: b}}, node: n1, ips: [{}, \"{}\"]}}\npolicies:\n  \
         x/a: {{podSelector: {{matchLabels: {{app: a}}}}, policyTypes: [Ingress, Egress], \
         egress: [{{to: [{{podSelector: {{matchLabels: {{app: b}}}}}}]}}]}}\n  \
         x/b: {{podSelector: {{matchLabels: {{app: b}}}}, policyTypes: [Ingress, Egress], \
         ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a}}}}}}]}}]}}\n\
         cases:\n- {{name: a to b, allow: [\"x/a -> x/b on 80\"]}}\n",
        slot(0).v4,
        slot(0).v6,
        slot(1).v4,
        slot(1).v6
    );
    let cases = case::parse("bridge", &text, std::path::Path::new("")).unwrap();
    let mut config = NodeConfig::new(NodeName::new("n1").unwrap());
    config.bridges.insert(InterfaceName::new(BRIDGE).unwrap());
    let ruleset = compile(&cases.cases[0].snapshot, &config).ruleset;
    load(backend, lab.namespace(&lab.nodes[0]), &ruleset).unwrap();
}

/// Whether a datagram from one slot's socket reaches another's, neighbours unknown.
fn reaches(lab: &Lab, from: &Slot, to: IpAddr, at: &Slot) -> bool {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let namespace = |slot: &Slot| &lab.station(slot.station).namespace;
    let server = namespace(at).enter(|| UdpSocket::bind(SocketAddr::new(to, 5000))).unwrap();
    let server = server.unwrap();
    server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    namespace(from)
        .enter(|| {
            let client = UdpSocket::bind(SocketAddr::new(any, 0)).unwrap();
            client.send_to(b"hello", SocketAddr::new(to, 5000)).unwrap();
        })
        .unwrap();
    server.recv(&mut [0; 8]).is_ok()
}

fn neighbours_are_found(backend: Backend) {
    let lab = Lab::build(&Plan::uniform(1, 3, Wiring::Bridged)).unwrap();
    isolate(&lab, backend);
    let slots = &lab.nodes[0].slots;
    for slot in slots {
        for family in ["-4", "-6"] {
            let mut flush = Command::new("ip");
            flush.args([family, "neighbour", "flush", "dev", "eth0", "nud", "permanent"]);
            lab.station(slot.station).namespace.run(&mut flush, "").unwrap();
        }
    }
    let mut seen = BTreeMap::new();
    for to in [IpAddr::V4(slots[1].v4), slots[1].v6.into()] {
        seen.insert(("a", to), reaches(&lab, &slots[0], to, &slots[1]));
        seen.insert(("a stranger", to), reaches(&lab, &slots[2], to, &slots[1]));
    }
    for ((who, to), reached) in seen {
        assert_eq!(reached, who == "a", "{who} to {to}");
    }
}

#[test]
fn isolated_pods_find_their_neighbours_with_nft() {
    kernel_test("bridge::isolated_pods_find_their_neighbours_with_nft", || {
        neighbours_are_found(Backend::Nft);
    });
}

#[test]
fn isolated_pods_find_their_neighbours_with_legacy() {
    kernel_test("bridge::isolated_pods_find_their_neighbours_with_legacy", || {
        neighbours_are_found(Backend::Legacy);
    });
}
