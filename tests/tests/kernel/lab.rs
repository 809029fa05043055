//! The lab itself: what it says of packets when nobody polices them, and when somebody does.

use std::net::IpAddr;
use std::process::Command;

use policy_compiler::cidr::Family;
use policy_compiler::flow::Traffic;
use policy_tests::lab::{Lab, Plan, Wiring};
use policy_tests::packet::Outline;
use policy_tests::privilege::kernel_test;
use policy_tests::probe::{Fate, Probe, send_all};

fn traffics(family: Family) -> Vec<Traffic> {
    vec![
        Traffic::tcp(80),
        Traffic::udp(53),
        Traffic::sctp(9),
        Traffic::ping(family),
        Traffic::Other { protocol: 47 },
    ]
}

/// From the first slot of the first node to the second slot of the last, both families, everything.
fn probes(lab: &Lab) -> Vec<Probe> {
    let from = &lab.nodes[0].slots[0];
    let to = &lab.nodes.last().unwrap().slots[1];
    let mut probes = Vec::new();
    for (source, destination) in
        [(IpAddr::V4(from.v4), IpAddr::V4(to.v4)), (from.v6.into(), to.v6.into())]
    {
        for traffic in traffics(Family::of(source)) {
            probes.push(Probe {
                sender: from.station,
                towards: destination,
                outline: Outline::opening(source, destination, traffic, lab.next_port()),
                receivers: vec![to.station],
            });
        }
    }
    probes
}

fn answered(traffic: Traffic) -> bool {
    matches!(traffic, Traffic::Icmp { .. }) || traffic == Traffic::tcp(80)
}

#[test]
fn every_packet_arrives_where_nobody_polices_and_none_where_all_are_dropped() {
    kernel_test(
        "lab::every_packet_arrives_where_nobody_polices_and_none_where_all_are_dropped",
        || {
            for wiring in [Wiring::Routed, Wiring::Bridged] {
                for nodes in [1, 2] {
                    let lab = Lab::build(&Plan::uniform(nodes, 3, wiring)).unwrap();
                    let probes = probes(&lab);
                    let open = send_all(&lab, &probes).unwrap();
                    for (probe, fate) in probes.iter().zip(&open) {
                        let traffic = probe.outline.traffic;
                        let expected = Fate { arrived: true, answered: answered(traffic) };
                        assert_eq!(*fate, expected, "{wiring:?}, {nodes} nodes: {probe:?}");
                    }
                    lab.forget_connections().unwrap();
                    for program in ["iptables-nft", "ip6tables-nft"] {
                        let words = ["-P", "FORWARD", "DROP"];
                        let node = lab.namespace(&lab.nodes[0]);
                        node.run(Command::new(program).args(words), "").unwrap();
                    }
                    let shut = send_all(&lab, &probes).unwrap();
                    assert_eq!(shut, vec![Fate::default(); probes.len()]);
                }
            }
        },
    );
}
