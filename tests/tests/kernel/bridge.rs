//! Pods of one bridge: they find each other while all of them are isolated, and the kernel shows their
//! packets to the rules where its switches say so.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::flow::Traffic;
use policy_compiler::name::NodeName;
use policy_manifest::case;
use policy_tests::enforcement::{Backend, Loader};
use policy_tests::lab::{BRIDGE, Lab, Plan, Slot, Wiring};
use policy_tests::packet::{Outline, Sighting};
use policy_tests::privilege::kernel_test;
use policy_tests::probe::{Probe, send_all};
use policy_tests::socket;

const PATIENCE: Duration = Duration::from_secs(20);

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

/// Whether a datagram from one slot's socket reaches another's. It is sent again and again, since
/// the kernel keeps few while it looks for a neighbour.
fn reaches(lab: &Lab, from: &Slot, at: &Slot, to: IpAddr) -> bool {
    let namespace = |slot: &Slot| &lab.station(slot.station).namespace;
    let server = namespace(at).enter(|| socket::udp(SocketAddr::new(to, 5000))).unwrap().unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let own = from.address_like(to);
    let client =
        namespace(from).enter(|| socket::udp(SocketAddr::new(own, 5000))).unwrap().unwrap();
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

/// Sends a packet from one slot's device to another's, in a frame whose VLAN tag names no VLAN.
fn send_tagged(lab: &Lab, from: &Slot, at: &Slot, packet: &[u8]) {
    let octets = |mac: &str| -> Vec<u8> {
        mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
    };
    let kind = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let frame =
        [&octets(&at.mac), &octets(&from.mac), &[0x81, 0x00, 0, 0][..], &kind, packet].concat();
    let send = || {
        let device: LinkAddr = getifaddrs()
            .unwrap()
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
        sendto(socket.as_raw_fd(), &frame, &device, MsgFlags::empty()).unwrap();
    };
    lab.station(from.station).namespace.enter(send).unwrap();
}

/// Whether a tagged packet arrives within `limit`.
fn arrives_tagged(lab: &Lab, from: &Slot, at: &Slot, to: IpAddr, limit: Duration) -> bool {
    let outline = Outline::opening(from.address_like(to), to, Traffic::udp(5000), lab.next_port());
    let token = lab.next_token();
    let start = Instant::now();
    let mut seen = false;
    while !seen && start.elapsed() < limit {
        send_tagged(lab, from, at, &outline.bytes(token));
        std::thread::sleep(Duration::from_millis(50));
        let receiver = lab.station(at.station);
        receiver.drain(|sighting| seen |= sighting == Sighting::Sent(token)).unwrap();
    }
    seen
}

#[test]
fn a_frame_with_an_empty_vlan_tag_passes_rules_unless_the_kernel_filters_it() {
    let name = "bridge::a_frame_with_an_empty_vlan_tag_passes_rules_unless_the_kernel_filters_it";
    kernel_test(name, || {
        let lab = Lab::build(&Plan::uniform(1, 3, Wiring::Bridged)).unwrap();
        isolate(&lab, Backend::Nft);
        let [a, b, stranger] = &lab.nodes[0].slots[..] else { panic!("three slots") };
        let filter = |value| {
            let switch = ("bridge/bridge-nf-filter-vlan-tagged", value);
            lab.namespace(&lab.nodes[0]).sysctl(&[switch]).unwrap();
        };
        for to in [IpAddr::V4(b.v4), b.v6.into()] {
            filter("0");
            assert!(arrives_tagged(&lab, stranger, b, to, PATIENCE), "{to}: nobody filters it");
            filter("1");
            let brief = Duration::from_millis(500);
            assert!(!arrives_tagged(&lab, stranger, b, to, brief), "{to} is isolated");
            assert!(arrives_tagged(&lab, a, b, to, PATIENCE), "{to} is open to its peer");
        }
    });
}

#[test]
fn bridged_packets_meet_rules_where_either_switch_is_on() {
    kernel_test("bridge::bridged_packets_meet_rules_where_either_switch_is_on", || {
        let lab = Lab::build(&Plan::uniform(1, 3, Wiring::Bridged)).unwrap();
        isolate(&lab, Backend::Nft);
        let [_, b, stranger] = &lab.nodes[0].slots[..] else { panic!("three slots") };
        let node = lab.namespace(&lab.nodes[0]);
        for (everywhere, here) in [(false, false), (false, true), (true, false), (true, true)] {
            let value = if everywhere { "1" } else { "0" };
            node.sysctl(&[
                ("bridge/bridge-nf-call-iptables", value),
                ("bridge/bridge-nf-call-ip6tables", value),
            ])
            .unwrap();
            let here_value = u8::from(here);
            node.ip(&[format!(
                "link set {BRIDGE} type bridge nf_call_iptables {here_value} nf_call_ip6tables {here_value}"
            )])
            .unwrap();
            for to in [IpAddr::V4(b.v4), b.v6.into()] {
                let passes = !everywhere && !here;
                assert_eq!(
                    arrives(&lab, stranger, b, to),
                    passes,
                    "{to}: {everywhere} in the namespace, {here} for the bridge"
                );
            }
        }
    });
}
