//! PC017: `except` means "not granted by this block", and whatever another block grants is granted.
//!
//! Exact: addresses are compared as sets, ports as ranges, and both rules hold for the same pods. A
//! block that lies inside the except was written to open a part of it and is no mistake; one that
//! reaches beyond it was hardly written with the except in mind.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::cidr::{Family, IpBlock};
use crate::lint::Found;
use crate::lint::addresses::AddressSet;
use crate::lint::ports;
use crate::lint::rule::Rule;
use crate::lint::scene::{self, Classes, Listed, Scene, rules_of};
use crate::lint::selection;
use crate::lint::words::list;
use crate::name::ObjectKey;
use crate::policy::{Direction, PeerSelects, Peers, Policy, Ports};

/// Excepts that another block, rule or policy grants all the same.
pub(super) fn undone(scene: &Scene<'_>, found: &mut Found) {
    for namespace in scene.namespaces.keys() {
        for direction in Direction::ALL {
            let all: Vec<Other<'_>> = scene
                .policies_of(namespace)
                .flat_map(|policy| rules_of(policy, direction))
                .map(Other::new)
                .collect();
            for policy in scene.policies_of(namespace) {
                of_policy(scene, policy, direction, &all, found);
            }
        }
    }
}

fn of_policy(
    scene: &Scene<'_>,
    policy: &Policy,
    direction: Direction,
    all: &[Other<'_>],
    found: &mut Found,
) {
    let with_excepts: Vec<Listed<'_>> =
        rules_of(policy, direction).filter(|rule| excepts(rule).next().is_some()).collect();
    if with_excepts.is_empty() {
        return;
    }
    let subjects = scene.subjects(policy);
    let sharing: BTreeSet<&ObjectKey> = scene
        .policies_of(&policy.key.namespace)
        .filter(|other| shares_pods(scene, policy, &subjects, other))
        .map(|other| &other.key)
        .collect();
    let others: Vec<&Other<'_>> = all
        .iter()
        .filter(|other| sharing.contains(&other.rule.policy.key))
        // A policy that allows everything is said to by another rule.
        .filter(|other| {
            let everything = *other.rule.peers == Peers::Any && *other.rule.ports == Ports::Any;
            !everything || other.rule.policy.key == policy.key
        })
        .collect();
    for rule in with_excepts {
        for (p, e, except) in excepts(&rule) {
            judge(scene, &rule, (p, e, except), &others, found);
        }
    }
}

/// The excepts of a rule, with the indices of their peer and their own.
fn excepts<'a>(rule: &Listed<'a>) -> impl Iterator<Item = (usize, usize, IpNet)> + use<'a> {
    rule.listed_peers().iter().enumerate().flat_map(|(p, peer)| {
        let list = match &peer.selects {
            PeerSelects::Block(block) => block.except(),
            PeerSelects::Pods { .. } => &[],
        };
        list.iter().enumerate().map(move |(e, except)| (p, e, *except))
    })
}

/// A rule that may undo excepts, with the addresses of its blocks.
struct Other<'a> {
    rule: Listed<'a>,
    blocks: Vec<(&'a IpBlock, AddressSet)>,
}

impl<'a> Other<'a> {
    fn new(rule: Listed<'a>) -> Self {
        let blocks = rule.listed_peers().iter().filter_map(|peer| match &peer.selects {
            PeerSelects::Block(block) => {
                Some((block, AddressSet::of(Family::of_net(&block.cidr()), [block])))
            }
            PeerSelects::Pods { .. } => None,
        });
        Self { rule, blocks: blocks.collect() }
    }
}

fn shares_pods(scene: &Scene<'_>, policy: &Policy, subjects: &Classes, other: &Policy) -> bool {
    if policy.key == other.key {
        return true;
    }
    let theirs = scene.subjects(other);
    scene::meet(subjects, &theirs)
        || (subjects.is_empty() && selection::is_within(&policy.pod_selector, &other.pod_selector))
}

fn judge(
    scene: &Scene<'_>,
    rule: &Listed<'_>,
    (p, e, except): (usize, usize, IpNet),
    others: &[&Other<'_>],
    found: &mut Found,
) {
    let hole = AddressSet::network(except);
    let mut by = Vec::new();
    let mut related = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for other in others {
        let same = other.rule.policy.key == rule.policy.key && other.rule.index == rule.index;
        let reaches_beyond = |(block, granted): &&(&IpBlock, AddressSet)| {
            block.cidr().contains(&except) && block.cidr() != except && granted.meets(&hole)
        };
        let what = match other.rule.peers {
            Peers::Any => "everybody".to_owned(),
            Peers::Listed(_) => match other.blocks.iter().find(|b| reaches_beyond(b)) {
                Some((block, _)) => block.cidr().to_string(),
                None => continue,
            },
        };
        let ports = ports::common(rule.ports, other.rule.ports);
        if ports.is_empty() {
            continue;
        }
        let name = if same { "this rule".to_owned() } else { other.rule.name_beside(rule.policy) };
        by.push(format!("{name} ({what})"));
        related.push(scene.related(&other.rule, format!("grants {what}")));
        open.extend(ports);
    }
    if by.is_empty() {
        return;
    }
    open.sort();
    open.dedup();
    let ports = if open.iter().any(|port| port == "every port") {
        "every port".to_owned()
    } else {
        list(open)
    };
    let field = format!("{}.ipBlock.except[{e}]", rule.peer_field(p));
    let message =
        format!("{except} is left out here and granted all the same, on {ports}: by {}", list(by));
    let fix = "leave it out there too: what any rule grants is granted";
    let mut finding = scene.finding(Rule::ExceptUndone, rule.policy, &field, message, fix);
    finding.related = related;
    found.add(finding);
}
