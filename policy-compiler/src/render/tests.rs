use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::*;
use crate::cidr::Family;
use crate::port::{PortRange, Protocol};
use crate::ruleset::{
    AddressSet, Chain, ChainName, Generation, Hook, Match, Member, MemberSet, Rule, SetHash,
    SetName, SetRole, Side, Target,
};
use crate::update::ChainsUpdate;

fn chain(name: &str) -> ChainName {
    ChainName::new(name).unwrap()
}

fn rule(matches: Vec<Match>, target: Target) -> Rule {
    Rule { matches, comment: None, target }
}

fn hook(to: &str) -> Rule {
    rule(vec![Match::NotEstablished], Target::Jump(chain(to)))
}

fn range(first: u16, last: u16) -> PortRange {
    PortRange::new(NonZeroU16::new(first).unwrap(), NonZeroU16::new(last).unwrap()).unwrap()
}

fn set(family: Family, role: SetRole) -> SetName {
    SetName { family, role }
}

fn pods(family: Family) -> SetName {
    let hash = SetHash::of("abcdefghijklmnop");
    set(family, SetRole::Pods { hash, generation: Generation(36) })
}

fn chain_of(rule: Rule) -> Arc<Chain> {
    Arc::new(Chain { rules: vec![rule] })
}

#[test]
fn a_transaction_declares_what_it_fills_and_deletes_and_fills_callees_first() {
    let update = ChainsUpdate {
        family: Family::V4,
        replace: BTreeMap::from([
            (chain("NPC-A"), chain_of(rule(vec![], Target::Jump(chain("NPC-Z"))))),
            (chain("NPC-Z"), chain_of(rule(vec![], Target::Return))),
        ]),
        delete: BTreeSet::from([chain("NPC-OLD")]),
        hook: BTreeMap::from([(Hook::Forward, hook("NPC-FORWARD"))]),
        unhook: BTreeMap::from([(Hook::Output, hook("NPC-OUTPUT"))]),
    };
    assert_eq!(
        iptables_restore(&update),
        "*filter\n\
         :NPC-A - [0:0]\n\
         :NPC-OLD - [0:0]\n\
         :NPC-Z - [0:0]\n\
         -D OUTPUT -m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-OUTPUT\n\
         -A NPC-Z -j RETURN\n\
         -A NPC-A -j NPC-Z\n\
         -I FORWARD 1 -m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD\n\
         -X NPC-OLD\n\
         COMMIT\n"
    );
}

#[test]
fn nothing_to_do_is_an_empty_transaction() {
    let update = ChainsUpdate {
        family: Family::V6,
        replace: BTreeMap::new(),
        delete: BTreeSet::new(),
        hook: BTreeMap::new(),
        unhook: BTreeMap::new(),
    };
    assert_eq!(iptables_restore(&update), "*filter\nCOMMIT\n");
}

#[test]
fn a_comment_is_quoted_whatever_it_holds_and_one_argument_in_a_spec() {
    let commented = Rule {
        comment: Some("it's \"a\\b\" --comment".to_owned()),
        ..rule(vec![], Target::Goto(chain("NPC-DENY-E")))
    };
    assert_eq!(
        rule_spec(&commented),
        ["-m", "comment", "--comment", "it's \"a\\b\" --comment", "-g", "NPC-DENY-E"]
    );
    let update = ChainsUpdate {
        family: Family::V4,
        replace: BTreeMap::from([(chain("NPC-A"), chain_of(commented))]),
        delete: BTreeSet::new(),
        hook: BTreeMap::new(),
        unhook: BTreeMap::new(),
    };
    let text = iptables_restore(&update);
    assert_eq!(
        text.lines().nth(2),
        Some(r#"-A NPC-A -m comment --comment "it's \"a\\b\" --comment" -g NPC-DENY-E"#)
    );
}

#[test]
fn every_condition_has_the_words_of_iptables() {
    let tcp = Match::Protocol(Protocol::Tcp);
    let table: Vec<(Vec<Match>, &str)> = vec![
        (vec![tcp.clone()], "-p tcp"),
        (
            vec![Match::Protocol(Protocol::Sctp), Match::DestinationPort(range(9, 9))],
            "-p sctp -m sctp --dport 9",
        ),
        (vec![tcp.clone(), Match::DestinationPort(range(80, 90))], "-p tcp -m tcp --dport 80:90"),
        (
            vec![tcp, Match::DestinationPorts(vec![range(80, 80), range(8000, 8010)])],
            "-p tcp -m multiport --dports 80,8000:8010",
        ),
        (vec![Match::Source("10.0.0.0/8".parse().unwrap())], "-s 10.0.0.0/8"),
        (vec![Match::Destination("fd00::1/128".parse().unwrap())], "-d fd00::1/128"),
        (
            vec![Match::Set { set: pods(Family::V4), side: Side::Source }],
            "-m set --match-set npc4-p-abcdefghijklmnop-10 src",
        ),
        (
            vec![Match::Set { set: set(Family::V6, SetRole::Isolated), side: Side::Destination }],
            "-m set --match-set npc6-iso dst",
        ),
        (
            vec![Match::NotInSet {
                set: set(Family::V4, SetRole::Known { generation: Generation(37) }),
                side: Side::Source,
            }],
            "-m set ! --match-set npc4-known-11 src",
        ),
        (vec![Match::Icmpv6Type(135)], "-p ipv6-icmp -m icmp6 --icmpv6-type 135"),
        (vec![Match::New], "-m conntrack --ctstate NEW"),
        (
            vec![Match::NotOriginalDestination("10.0.0.1".parse().unwrap())],
            "-m conntrack ! --ctorigdst 10.0.0.1",
        ),
        (vec![Match::ToBroadcast], "-m addrtype --dst-type BROADCAST"),
        (vec![Match::Established], "-m conntrack --ctstate RELATED,ESTABLISHED"),
        (vec![Match::InInterfaces("veth".to_owned())], "-i veth+"),
        (vec![Match::ToLocal], "-m addrtype --dst-type LOCAL"),
        (vec![Match::FromLocal], "-m addrtype --src-type LOCAL"),
    ];
    for (matches, words) in table {
        let spec = rule_spec(&rule(matches, Target::Return)).join(" ");
        assert_eq!(spec, format!("{words} -j RETURN"));
    }
}

#[test]
fn sets_are_made_large_enough_and_filled() {
    let networks = set(Family::V4, SetRole::Networks { hash: SetHash::of("qrstuvwxyz234567") });
    let member = |net: &str, nomatch| Member { net: net.parse().unwrap(), nomatch };
    let sets = BTreeMap::from([
        (
            networks,
            AddressSet {
                members: MemberSet::from([
                    member("0.0.0.0/1", false),
                    member("169.254.169.254/32", true),
                ]),
            },
        ),
        (pods(Family::V6), AddressSet { members: MemberSet::from([member("fd00::1/128", false)]) }),
    ]);
    assert_eq!(
        ipset_restore(&sets),
        "create npc4-n-qrstuvwxyz234567 hash:net family inet hashsize 64 maxelem 1048576\n\
         add npc4-n-qrstuvwxyz234567 0.0.0.0/1\n\
         add npc4-n-qrstuvwxyz234567 169.254.169.254/32 nomatch\n\
         create npc6-p-abcdefghijklmnop-10 hash:ip family inet6 hashsize 64 maxelem 1048576\n\
         add npc6-p-abcdefghijklmnop-10 fd00::1\n"
    );
}

#[test]
fn the_table_of_a_large_set_is_the_next_power_of_two() {
    let members = (0..1000_u32)
        .map(|i| Member::address(std::net::IpAddr::V4(std::net::Ipv4Addr::from(i))))
        .collect();
    let text = ipset_restore(&BTreeMap::from([(pods(Family::V4), AddressSet { members })]));
    let first = text.lines().next().unwrap_or_default();
    assert!(first.ends_with("hashsize 1024 maxelem 1048576"), "{first}");
    assert_eq!(text.lines().count(), 1001);
}
