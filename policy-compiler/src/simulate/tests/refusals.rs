//! What the kernel or iptables-restore would not take.

use super::super::fixture::*;
use super::super::{Fault, Outcome, Place, Refusal, check, simulate};
use crate::cidr::Family;
use crate::packet::ConnState;
use crate::ruleset::{
    AddressSet, FamilyRules, Hook, Match, Member, Rule, Ruleset, SetName, SetRole, Target,
};

/// The fault of an IPv4 rule that a packet comes by, which both ways of looking have to find.
fn fault_of(rule: Rule) -> Fault {
    fault_in(
        &v4(table([("NPC-FORWARD", vec![rule])], [(pods("p", 0), &[])])),
        "10.0.0.1",
        "10.0.0.2",
    )
}

fn fault_in(ruleset: &Ruleset, source: &str, destination: &str) -> Fault {
    let place = Place::Rule { chain: name("NPC-FORWARD"), number: 1 };
    let checked = check(ruleset).unwrap_err();
    assert_eq!(checked.place, place);
    let outcome = simulate(ruleset, &syn(source, destination, 80)).outcome;
    assert_eq!(outcome, Outcome::Malformed { why: checked.clone() });
    checked.fault
}

#[test]
fn ports_need_a_protocol_before_them() {
    assert_eq!(fault_of(rule([port(80)], DROP)), Fault::PortWithoutProtocol);
    assert_eq!(fault_of(rule([port(80), tcp()], DROP)), Fault::PortWithoutProtocol);
    let ports = Match::DestinationPorts(vec![range(1, 1), range(2, 2)]);
    assert_eq!(fault_of(rule([ports], DROP)), Fault::PortWithoutProtocol);
}

#[test]
fn multiport_has_fifteen_slots_and_a_range_takes_two() {
    let singles = |n: u16| (1..=n).map(|p| range(p * 2, p * 2)).collect::<Vec<_>>();
    let fits = |ports| check(&v4(table([("NPC-FORWARD", vec![rule([tcp(), ports], DROP)])], [])));
    assert_eq!(fits(Match::DestinationPorts(singles(15))), Ok(()));
    let mut with_range = singles(13);
    with_range.push(range(100, 200));
    assert_eq!(fits(Match::DestinationPorts(with_range.clone())), Ok(()));
    with_range.push(range(300, 300));
    for (ports, slots) in [(singles(16), 16), (with_range, 16), (vec![], 0)] {
        let ports = Match::DestinationPorts(ports);
        assert_eq!(fault_of(rule([tcp(), ports], DROP)), Fault::MultiportSlots(slots));
    }
}

#[test]
fn chains_and_sets_have_to_be_there() {
    assert_eq!(fault_of(rule([], jump("NPC-X"))), Fault::UnknownChain(name("NPC-X")));
    assert_eq!(fault_of(rule([], goto("NPC-X"))), Fault::UnknownChain(name("NPC-X")));
    let absent = pods("p", 1);
    assert_eq!(fault_of(rule([from_set(&absent)], DROP)), Fault::UnknownSet(absent));
}

#[test]
fn families_do_not_mix() {
    let v6 = SetName { family: Family::V6, ..pods("p", 0) };
    assert_eq!(fault_of(rule([from_set(&v6)], DROP)), Fault::SetOfOtherFamily(v6));
    assert_eq!(fault_of(rule([src("fd00::1")], DROP)), Fault::NetOfOtherFamily(net("fd00::1")));
    let original = Match::NotOriginalDestination(ip("fd00::1"));
    assert_eq!(fault_of(rule([original], DROP)), Fault::NetOfOtherFamily(net("fd00::1")));
    assert_eq!(fault_of(rule([Match::Icmpv6Type(135)], DROP)), Fault::NotInFamily("icmpv6"));
    let rules = table([("NPC-FORWARD", vec![rule([Match::ToBroadcast], DROP)])], []);
    let ipv6 = Ruleset { v4: FamilyRules::default(), v6: rules };
    assert_eq!(fault_in(&ipv6, "fd00::1", "fd00::2"), Fault::NotInFamily("BROADCAST"));
    let mixed = simulate(&Ruleset::default(), &syn("10.0.0.1", "fd00::2", 80)).outcome;
    let why = Refusal { place: Place::Packet, fault: Fault::MixedFamilies };
    assert_eq!(mixed, Outcome::Malformed { why });
}

#[test]
fn an_option_is_given_once_and_a_comment_fits() {
    for (twice, option) in [
        ([tcp(), tcp()], "-p"),
        ([tcp(), Match::NotSyn], "-p"),
        ([src("10.0.0.1"), src("10.0.0.0/8")], "-s"),
        ([dst("10.0.0.2"), dst("10.0.0.0/8")], "-d"),
    ] {
        assert_eq!(fault_of(rule(twice, DROP)), Fault::GivenTwice(option));
    }
    let comment = Some("x".repeat(256));
    let long = Rule { comment, ..rule([], DROP) };
    assert_eq!(fault_of(long), Fault::CommentTooLong(256));
}

#[test]
fn a_hook_leads_to_a_chain_of_ours() {
    for target in [Target::Return, DROP] {
        let mut rules = table([], []);
        rules.hooks = [(Hook::Forward, rule([], target))].into();
        let why = Refusal { place: Place::Hook("FORWARD"), fault: Fault::HookWithoutChain };
        assert_eq!(check(&v4(rules.clone())), Err(why.clone()));
        let outcome = simulate(&v4(rules), &syn("10.0.0.1", "10.0.0.2", 80)).outcome;
        assert_eq!(outcome, Outcome::Malformed { why });
    }
    let gone = simulate(&v4(table([], [])), &syn("10.0.0.1", "10.0.0.2", 80)).outcome;
    let fault = Fault::UnknownChain(name("NPC-FORWARD"));
    assert_eq!(gone, Outcome::Malformed { why: Refusal { place: Place::Hook("FORWARD"), fault } });
}

/// NPC-FORWARD and `more` chains below it, each leading to the next.
fn nested(more: usize, target: fn(&str) -> Target) -> Ruleset {
    let mut rules = table([("NPC-FORWARD", vec![rule([], target("NPC-1"))])], []);
    for depth in 1..=more {
        let next =
            if depth == more { Target::Return } else { target(&format!("NPC-{}", depth + 1)) };
        let chain = crate::ruleset::Chain { rules: vec![rule([], next)] };
        rules.chains.insert(name(&format!("NPC-{depth}")), chain.into());
    }
    v4(rules)
}

#[test]
fn fifteen_chains_are_nested_at_most_gotos_counted() {
    for target in [jump, goto] {
        let packet = syn("10.0.0.1", "10.0.0.2", 80);
        assert_eq!(check(&nested(14, target)), Ok(()));
        assert_eq!(simulate(&nested(14, target), &packet).outcome, Outcome::Passes);
        assert_eq!(check(&nested(15, target)).unwrap_err().fault, Fault::NestedTooDeep);
        let place = Place::Rule { chain: name("NPC-14"), number: 1 };
        let why = Refusal { place, fault: Fault::NestedTooDeep };
        assert_eq!(simulate(&nested(15, target), &packet).outcome, Outcome::Malformed { why });
    }
}

#[test]
fn a_chain_left_by_return_no_longer_counts_as_nested() {
    let twice = |n: usize| vec![rule([], jump("NPC-A")); n];
    let chains = [("NPC-FORWARD", twice(20)), ("NPC-A", vec![rule([], Target::Return)])];
    let rules = v4(table(chains, []));
    assert_eq!(check(&rules), Ok(()));
    assert_eq!(simulate(&rules, &syn("10.0.0.1", "10.0.0.2", 80)).outcome, Outcome::Passes);
}

#[test]
fn a_loop_is_refused() {
    for target in [jump, goto] {
        let rules = v4(table(
            [
                ("NPC-A", vec![rule([], target("NPC-FORWARD"))]),
                ("NPC-FORWARD", vec![rule([], target("NPC-A"))]),
            ],
            [],
        ));
        assert_eq!(check(&rules).unwrap_err().fault, Fault::Loop(name("NPC-A")));
        let place = Place::Rule { chain: name("NPC-A"), number: 1 };
        let why = Refusal { place, fault: Fault::Loop(name("NPC-FORWARD")) };
        let outcome = simulate(&rules, &syn("10.0.0.1", "10.0.0.2", 80)).outcome;
        assert_eq!(outcome, Outcome::Malformed { why });
    }
}

#[test]
fn a_rule_that_no_packet_reaches_is_still_checked() {
    let rules =
        v4(table([("NPC-FORWARD", vec![]), ("NPC-STRAY", vec![rule([port(80)], DROP)])], []));
    let outcome = simulate(&rules, &syn("10.0.0.1", "10.0.0.2", 80)).outcome;
    assert_eq!(outcome, Outcome::Passes);
    let place = Place::Rule { chain: name("NPC-STRAY"), number: 1 };
    assert_eq!(check(&rules), Err(Refusal { place, fault: Fault::PortWithoutProtocol }));
}

#[test]
fn an_established_packet_does_not_come_by_a_bad_rule() {
    let rules = v4(table([("NPC-FORWARD", vec![rule([port(80)], DROP)])], []));
    let mut packet = syn("10.0.0.1", "10.0.0.2", 80);
    packet.state = ConnState::Established;
    assert_eq!(simulate(&rules, &packet).outcome, Outcome::Passes);
}

#[test]
fn a_set_holds_what_its_type_can() {
    let member = |text: &str, nomatch| Member { net: net(text), nomatch };
    let refused = |set: SetName, content: &[Member], unfit: Member| {
        let mut rules = FamilyRules::default();
        let members = content.iter().copied().collect();
        rules.sets.insert(set.clone(), AddressSet { members });
        let why = Refusal { place: Place::Set(set), fault: Fault::UnfitMember(unfit) };
        assert_eq!(check(&v4(rules)), Err(why));
    };
    let (network, nomatch) = (member("10.0.0.0/8", false), member("10.0.0.0/8", true));
    refused(pods("p", 0), &[network], network);
    refused(isolated(), &[member("10.0.0.1", true)], member("10.0.0.1", true));
    refused(networks("n"), &[member("0.0.0.0/0", false)], member("0.0.0.0/0", false));
    refused(networks("n"), &[network, nomatch], nomatch);
    refused(networks("n"), &[member("fd00::/8", false)], member("fd00::/8", false));
    let good =
        v4(table([("NPC-FORWARD", vec![])], [(networks("n"), &["10.0.0.0/8", "!10.1.0.0/16"])]));
    assert_eq!(check(&good), Ok(()));
    let mut stray = FamilyRules::default();
    let v6 = SetName { family: Family::V6, role: SetRole::Isolated };
    stray.sets.insert(v6.clone(), AddressSet::default());
    let fault = Fault::SetOfOtherFamily(v6.clone());
    assert_eq!(check(&v4(stray)), Err(Refusal { place: Place::Set(v6), fault }));
}
