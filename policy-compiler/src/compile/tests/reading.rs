//! Compiled rules in words, names with hashes replaced by what they stand for.

use std::net::IpAddr;

use crate::cidr::Family;
use crate::compile::Compiled;
use crate::policy::Direction;
use crate::render;
use crate::ruleset::{ChainName, Match, Member, Target};

/// The rules of a chain in the words of iptables.
pub(super) fn chain(compiled: &Compiled, family: Family, name: &ChainName) -> Vec<String> {
    let rules = &compiled.ruleset.family(family).chains[name].rules;
    rules.iter().map(|rule| render::rule_spec(rule).join(" ")).collect()
}

/// The rules of an IPv4 chain.
pub(super) fn named(compiled: &Compiled, name: &str) -> Vec<String> {
    named_in(compiled, Family::V4, name)
}

/// The rules of a chain.
pub(super) fn named_in(compiled: &Compiled, family: Family, name: &str) -> Vec<String> {
    chain(compiled, family, &ChainName::new(name).unwrap())
}

/// The chains there are.
pub(super) fn chain_names(compiled: &Compiled, family: Family) -> Vec<String> {
    compiled.ruleset.family(family).chains.keys().map(ToString::to_string).collect()
}

/// The sets there are.
pub(super) fn set_names(compiled: &Compiled, family: Family) -> Vec<String> {
    compiled.ruleset.family(family).sets.keys().map(ToString::to_string).collect()
}

/// Where the dispatch of a direction leads for an address.
pub(super) fn chain_of(compiled: &Compiled, direction: Direction, address: IpAddr) -> ChainName {
    let family = Family::of(address);
    let root = match direction {
        Direction::Egress => "NPC-EGRESS",
        Direction::Ingress => "NPC-INGRESS",
    };
    let condition = match direction {
        Direction::Egress => Match::Source(address.into()),
        Direction::Ingress => Match::Destination(address.into()),
    };
    let rules = &compiled.ruleset.family(family).chains[&ChainName::new(root).unwrap()].rules;
    let rule = rules.iter().find(|rule| rule.matches == [condition.clone()]);
    match rule.map(|rule| &rule.target) {
        Some(Target::Goto(chain)) => chain.clone(),
        other => panic!("{address} is not led anywhere: {other:?}"),
    }
}

/// What the chain of the pod with `10.244.1.HOST` allows: its rules, or those of its body,
/// without the own-address rules before and the denial behind, sets named by their members.
pub(super) fn allows(compiled: &Compiled, direction: Direction, host: u8) -> Vec<String> {
    let own = chain_of(compiled, direction, [10, 244, 1, host].into());
    let mut rules = chain(compiled, Family::V4, &own);
    if let Some(body) = rules.last().and_then(|last| last.strip_prefix("-g ")) {
        rules = chain(compiled, Family::V4, &ChainName::new(body).unwrap());
    }
    rules.retain(|rule| rule.ends_with("-j RETURN") && !rule.contains("--ctorigdst"));
    for (name, set) in &compiled.ruleset.v4.sets {
        let members: Vec<String> = set.members.iter().map(|m| member(&m)).collect();
        for rule in &mut rules {
            let text = format!("-m set --match-set {name} ");
            *rule = rule.replace(&text, &format!("{{{}}} ", members.join(" ")));
        }
    }
    for rule in &mut rules {
        *rule = rule.trim_end_matches("-j RETURN").trim_end().to_owned();
    }
    rules
}

fn member(member: &Member) -> String {
    let net = member.net.to_string();
    format!("{}{}", if member.nomatch { "!" } else { "" }, net.trim_end_matches("/32"))
}
