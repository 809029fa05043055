//! Pods of one bridge find each other by ARP and neighbour discovery while all of them are isolated.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::flow::Traffic;
use policy_compiler::name::NodeName;
use policy_manifest::case;
use policy_tests::enforcement::{Backend, Loader};
use policy_tests::lab::{BRIDGE, Lab, Plan, Slot, Wiring};
use policy_tests::packet::Outline;
use policy_tests::privilege::kernel_test;
use policy_tests::probe::{Probe, send_all};

const PATIENCE: Duration = Duration::from_secs(10);

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
    Loader::Text.load(backend, lab.namespace(&lab.nodes[0]), &ruleset).unwrap();
}

/// An IPv6 address of a device that has just come up cannot be bound to at once.
fn bind(address: IpAddr) -> UdpSocket {
    let start = Instant::now();
    loop {
        match UdpSocket::bind(SocketAddr::new(address, 5000)) {
            Ok(socket) => return socket,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a datagram from one slot's socket reaches another's. It is sent again and again, since
/// the kernel keeps few while it looks for a neighbour.
fn reaches(lab: &Lab, from: &Slot, at: &Slot, to: IpAddr) -> bool {
    let namespace = |slot: &Slot| &lab.station(slot.station).namespace;
    let server = namespace(at).enter(|| bind(to)).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let own = from.address_like(to);
    let client = namespace(from).enter(|| bind(own)).unwrap();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        client.send_to(b"hello", SocketAddr::new(to, 5000)).unwrap();
        if server.recv(&mut [0; 8]).is_ok() {
            return true;
        }
    }
    false
}

/// What the rules let a raw packet do while neighbours are still known.
fn arrives(lab: &Lab, from: &Slot, at: &Slot, to: IpAddr) -> bool {
    let outline = Outline::opening(from.address_like(to), to, Traffic::udp(5000), lab.next_port());
    let probe = Probe { sender: from.station, towards: to, outline, receivers: vec![at.station] };
    send_all(lab, &[probe]).unwrap()[0].arrived
}

fn neighbours_are_found(backend: Backend) {
    let lab = Lab::build(&Plan::uniform(1, 3, Wiring::Bridged)).unwrap();
    isolate(&lab, backend);
    let [a, b, stranger] = &lab.nodes[0].slots[..] else { panic!("three slots") };
    let targets = [IpAddr::V4(b.v4), b.v6.into()];
    for to in targets {
        assert!(arrives(&lab, a, b, to), "{to} is open to its peer");
        assert!(!arrives(&lab, stranger, b, to), "{to} is isolated");
    }
    for slot in [a, b] {
        for family in ["-4", "-6"] {
            let mut flush = Command::new("ip");
            flush.args([family, "neighbour", "flush", "dev", "eth0", "nud", "permanent"]);
            lab.station(slot.station).namespace.run(&mut flush, "").unwrap();
        }
    }
    for to in targets {
        assert!(reaches(&lab, a, b, to), "nobody told who has {to}");
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
