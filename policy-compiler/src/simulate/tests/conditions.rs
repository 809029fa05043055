//! Every condition, on packets that meet it and packets that do not.

use super::super::fixture::*;
use super::super::{Outcome, simulate};
use crate::config::InterfaceName;
use crate::flow::Traffic;
use crate::packet::{ConnState, Packet, Path};
use crate::port::Protocol;
use crate::ruleset::{AddressSet, FamilyRules, Match, Ruleset, SetName, Side};

/// Whether a rule with these conditions applies to `packet`.
fn meets<const N: usize>(conditions: [Match; N], packet: &Packet) -> bool {
    let sets = conditions.iter().filter_map(Match::set);
    let sets = sets.map(|set| (set.clone(), AddressSet::default())).collect();
    meets_with(conditions, sets, packet)
}

fn meets_with<const N: usize>(
    conditions: [Match; N],
    sets: std::collections::BTreeMap<SetName, AddressSet>,
    packet: &Packet,
) -> bool {
    let mut rules = table([("NPC-FORWARD", vec![rule(conditions, DROP)])], []);
    rules.hooks.values_mut().for_each(|hook| hook.matches.clear());
    rules.sets = sets;
    let ruleset = match packet.family() {
        crate::cidr::Family::V4 => v4(rules),
        crate::cidr::Family::V6 => Ruleset { v4: FamilyRules::default(), v6: rules },
    };
    match simulate(&ruleset, packet).outcome {
        Outcome::Passes => false,
        Outcome::Denied { by } => by == name("NPC-FORWARD"),
        Outcome::Malformed { why } => panic!("{why}"),
    }
}

fn packet() -> Packet {
    syn("10.0.0.1", "10.0.0.2", 80)
}

fn carrying(traffic: Traffic) -> Packet {
    Packet { traffic, ..packet() }
}

#[test]
fn addresses_match_by_prefix() {
    assert!(meets([src("10.0.0.0/31"), dst("10.0.0.2")], &packet()));
    assert!(!meets([src("10.0.0.2")], &packet()));
    assert!(!meets([dst("10.0.0.0/31")], &packet()));
}

#[test]
fn ports_match_within_their_protocol() {
    let ports = Match::DestinationPorts(vec![range(22, 22), range(80, 90)]);
    assert!(meets([tcp(), port(80)], &packet()));
    assert!(!meets([tcp(), port(81)], &packet()));
    assert!(meets([tcp(), ports.clone()], &carrying(Traffic::tcp(90))));
    assert!(!meets([tcp(), ports.clone()], &carrying(Traffic::tcp(91))));
    assert!(!meets([tcp(), port(80)], &carrying(Traffic::udp(80))));
    assert!(meets([Match::Protocol(Protocol::Sctp), ports], &carrying(Traffic::sctp(22))));
}

#[test]
fn a_protocol_by_number_has_no_ports() {
    let bare = carrying(Traffic::Other { protocol: 6 });
    assert!(meets([tcp()], &bare));
    assert!(!meets([tcp(), port(80)], &bare));
    assert!(!meets([tcp()], &carrying(Traffic::Icmp { kind: 8 })));
}

#[test]
fn icmpv6_types_are_those_of_ipv6() {
    let icmp = |kind| Packet { traffic: Traffic::Icmp { kind }, ..syn("fd00::1", "fd00::2", 1) };
    assert!(meets([Match::Icmpv6Type(135)], &icmp(135)));
    assert!(!meets([Match::Icmpv6Type(135)], &icmp(136)));
    assert!(!meets([Match::Icmpv6Type(135)], &syn("fd00::1", "fd00::2", 135)));
}

#[test]
fn only_a_tcp_segment_can_lack_syn() {
    assert!(!meets([Match::NotSyn], &packet()));
    assert!(meets([Match::NotSyn], &Packet { syn: false, ..packet() }));
    assert!(!meets([Match::NotSyn], &Packet { syn: false, ..carrying(Traffic::udp(80)) }));
}

#[test]
fn connection_states_match_as_conntrack_names_them() {
    for (state, not_established, new) in [
        (ConnState::New, true, true),
        (ConnState::Established, false, false),
        (ConnState::Related, false, false),
        (ConnState::Invalid, true, false),
        (ConnState::Untracked, true, false),
    ] {
        let packet = Packet { state, ..packet() };
        assert_eq!(meets([Match::NotEstablished], &packet), not_established, "{state:?}");
        assert_eq!(meets([Match::New], &packet), new, "{state:?}");
    }
}

#[test]
fn the_original_destination_is_known_only_to_conntrack() {
    let own = || [Match::NotOriginalDestination(ip("10.0.0.2"))];
    let to = |original: &str| Packet { original_destination: Some(ip(original)), ..packet() };
    assert!(meets(own(), &to("10.96.0.1")));
    assert!(!meets(own(), &to("10.0.0.2")));
    assert!(!meets(own(), &Packet { original_destination: None, ..packet() }));
    for state in [ConnState::Invalid, ConnState::Untracked] {
        assert!(!meets(own(), &Packet { state, ..to("10.96.0.1") }), "{state:?}");
    }
}

#[test]
fn interfaces_and_bridges_are_seen_only_where_packets_are_forwarded() {
    let bridge = InterfaceName::new("cni0").unwrap();
    let on = |path| Packet { path, ..packet() };
    let over = |bridged| on(Path::Forwarded { from: Some(bridge.clone()), bridged });
    let by = || [Match::InInterface(InterfaceName::new("cni0").unwrap())];
    assert!(meets(by(), &over(false)));
    assert!(!meets(by(), &packet()));
    let other = [Match::InInterface(InterfaceName::new("eth0").unwrap())];
    assert!(!meets(other, &over(false)));
    assert!(meets([Match::Bridged], &over(true)));
    assert!(!meets([Match::Bridged], &over(false)));
}

#[test]
fn broadcast_is_a_fact_of_the_packet() {
    assert!(meets([Match::ToBroadcast], &Packet { to_broadcast: true, ..packet() }));
    assert!(!meets([Match::ToBroadcast], &packet()));
    assert!(!meets([Match::FromLocal], &packet()));
}

#[test]
fn a_set_of_addresses_is_looked_up_by_side() {
    let set = pods("p", 0);
    let sets = || [(set.clone(), members(&["10.0.0.1"]))].into();
    let with = |side| [Match::Set { set: set.clone(), side }];
    assert!(meets_with(with(Side::Source), sets(), &packet()));
    assert!(!meets_with(with(Side::Destination), sets(), &packet()));
    assert!(!meets(with(Side::Source), &packet()));
    let without = |side| [Match::NotInSet { set: set.clone(), side }];
    assert!(!meets_with(without(Side::Source), sets(), &packet()));
    assert!(meets_with(without(Side::Destination), sets(), &packet()));
    assert!(meets(without(Side::Source), &packet()));
}

#[test]
fn in_a_set_of_networks_the_longest_prefix_decides() {
    let set = networks("n");
    let content = members(&["0.0.0.0/1", "128.0.0.0/1", "!10.0.0.0/8", "10.1.0.0/16", "!10.1.2.3"]);
    for (destination, in_set) in [
        ("9.9.9.9", true),
        ("200.0.0.1", true),
        ("10.0.0.1", false),
        ("10.1.0.1", true),
        ("10.1.2.3", false),
        ("10.1.2.4", true),
    ] {
        let sets = [(set.clone(), content.clone())].into();
        let packet = syn("10.0.0.1", destination, 80);
        assert_eq!(meets_with([to_set(&set)], sets, &packet), in_set, "{destination}");
    }
}
