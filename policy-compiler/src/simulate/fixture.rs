//! Short ways of writing rules, sets and packets by hand, for tests.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;

use crate::cidr::Family;
use crate::config::DenyAction;
use crate::flow::Traffic;
use crate::packet::Packet;
use crate::port::{PortRange, Protocol};
use crate::ruleset::{
    AddressSet, Chain, ChainName, FamilyRules, Generation, Hook, Match, Member, Rule, Ruleset,
    SetHash, SetName, SetRole, Side, Target,
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).unwrap()
}

pub(crate) fn name(text: &str) -> ChainName {
    ChainName::new(text).unwrap()
}

pub(crate) fn src(text: &str) -> Match {
    Match::Source(net(text))
}

pub(crate) fn dst(text: &str) -> Match {
    Match::Destination(net(text))
}

pub(crate) fn tcp() -> Match {
    Match::Protocol(Protocol::Tcp)
}

pub(crate) fn range(first: u16, last: u16) -> PortRange {
    PortRange::new(NonZeroU16::new(first).unwrap(), NonZeroU16::new(last).unwrap()).unwrap()
}

pub(crate) fn port(number: u16) -> Match {
    Match::DestinationPort(range(number, number))
}

pub(crate) fn from_set(set: &SetName) -> Match {
    Match::Set { set: set.clone(), side: Side::Source }
}

pub(crate) fn to_set(set: &SetName) -> Match {
    Match::Set { set: set.clone(), side: Side::Destination }
}

pub(crate) fn jump(chain: &str) -> Target {
    Target::Jump(name(chain))
}

pub(crate) fn goto(chain: &str) -> Target {
    Target::Goto(name(chain))
}

pub(crate) const DROP: Target = Target::Deny(DenyAction::Drop);

pub(crate) fn rule<const N: usize>(matches: [Match; N], target: Target) -> Rule {
    Rule { matches: matches.into(), comment: None, target }
}

pub(crate) fn pods(hash: &str, generation: u32) -> SetName {
    let role = SetRole::Pods { hash: SetHash::of(hash), generation: Generation(generation) };
    SetName { family: Family::V4, role }
}

pub(crate) fn networks(hash: &str) -> SetName {
    SetName { family: Family::V4, role: SetRole::Networks { hash: SetHash::of(hash) } }
}

pub(crate) fn isolated() -> SetName {
    SetName { family: Family::V4, role: SetRole::Isolated }
}

pub(crate) fn known(generation: u32) -> SetName {
    let role = SetRole::Known { generation: Generation(generation) };
    SetName { family: Family::V4, role }
}

pub(crate) fn members(texts: &[&str]) -> AddressSet {
    let member = |text: &&str| match text.strip_prefix('!') {
        Some(text) => Member { net: net(text), nomatch: true },
        None => Member { net: net(text), nomatch: false },
    };
    AddressSet { members: texts.iter().map(member).collect() }
}

/// IPv4 rules with the hook in FORWARD, which leads to NPC-FORWARD.
pub(crate) fn table<const C: usize, const S: usize>(
    chains: [(&str, Vec<Rule>); C],
    sets: [(SetName, &[&str]); S],
) -> FamilyRules {
    let chains = chains.into_iter().map(|(chain, rules)| (name(chain), Chain { rules }.into()));
    let hook = rule([Match::NotEstablished], jump("NPC-FORWARD"));
    FamilyRules {
        hooks: [(Hook::Forward, hook)].into(),
        chains: chains.collect(),
        sets: sets.into_iter().map(|(name, texts)| (name, members(texts))).collect(),
    }
}

pub(crate) fn v4(rules: FamilyRules) -> Ruleset {
    Ruleset { v4: rules, v6: FamilyRules::default() }
}

/// The SYN of a TCP connection.
pub(crate) fn syn(source: &str, destination: &str, port: u16) -> Packet {
    Packet::opening(ip(source), ip(destination), Traffic::tcp(port))
}
