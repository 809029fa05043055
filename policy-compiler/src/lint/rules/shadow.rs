//! PC022: a rule all of whose traffic other rules allow, to all the pods that it is for.
//!
//! Exact over selectors (what one means is included in what another does), ports and addresses (ranges,
//! whoever may have written them), and never said on a guess: a name of a port is included in the same
//! name and in all numbers, nothing else. Several rules may cover one together.
//!
//! Rules are looked at from the last to the first, and one that is found no longer counts as cover. So
//! all that are reported can be removed together, and of two equal ones the first stays.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use super::allow_all::allows_all;
use crate::cidr::{Family, IpBlock};
use crate::diagnostic::Severity;
use crate::labels::Labels;
use crate::lint::Found;
use crate::lint::addresses::AddressSet;
use crate::lint::ports::PortSet;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene, rules_of};
use crate::lint::selection;
use crate::lint::words::list;
use crate::name::ObjectKey;
use crate::policy::{Direction, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports};
use crate::port::PortRange;

/// How many pairs of rules of one namespace are compared before it is left at that.
const PAIRS: usize = 4_000_000;

/// Rules that could go.
pub(super) fn shadowed(scene: &Scene<'_>, found: &mut Found) {
    for namespace in scene.namespaces.keys() {
        for direction in Direction::ALL {
            let rules: Vec<Cover<'_>> = scene
                .policies_of(namespace)
                .filter(|policy| !policy.flawed)
                .flat_map(|policy| rules_of(policy, direction))
                .map(Cover::new)
                .collect();
            let pool = Pool { scene, labels: scene.declared_labels(namespace), rules };
            pool.look_through(found);
        }
    }
}

/// A rule as cover for others.
struct Cover<'a> {
    rule: Listed<'a>,
    ports: PortSet,
    /// The addresses of each peer that is a block.
    blocks: Vec<Option<(&'a IpBlock, AddressSet)>>,
}

impl<'a> Cover<'a> {
    fn new(rule: Listed<'a>) -> Self {
        let mut ports = PortSet::default();
        ports.add(rule.ports);
        let blocks = rule.listed_peers().iter().map(|peer| match &peer.selects {
            PeerSelects::Block(block) => {
                Some((block, AddressSet::of(Family::of_net(&block.cidr()), [block])))
            }
            PeerSelects::Pods { .. } => None,
        });
        Self { rule, ports, blocks: blocks.collect() }
    }
}

/// The rules of one namespace and direction.
struct Pool<'s, 'a> {
    scene: &'s Scene<'a>,
    labels: Option<&'a Labels>,
    rules: Vec<Cover<'a>>,
}

impl Pool<'_, '_> {
    fn look_through(&self, found: &mut Found) {
        let over = self.overriding();
        let none = BTreeSet::new();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        let mut left = PAIRS;
        for (index, cover) in self.rules.iter().enumerate().rev() {
            let rule = &cover.rule;
            let Some(rest) = left.checked_sub(self.rules.len()) else {
                let reason = "the namespace has too many rules to compare each with each";
                found.lacks(Rule::Shadowed, reason, self.scene.spot(rule.policy, &rule.field()));
                continue;
            };
            left = rest;
            let wider = over.get(&rule.policy.key).unwrap_or(&none);
            let candidates: Vec<&Cover<'_>> = self
                .rules
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index && !gone.contains(other))
                .map(|(_, other)| other)
                .filter(|other| {
                    other.rule.policy.key == rule.policy.key
                        || (wider.contains(&other.rule.policy.key)
                            // Which another rule of the lint says.
                            && !allows_all(&other.rule))
                })
                .collect();
            if let Some(by) = self.covered(cover, &candidates) {
                gone.insert(index);
                self.report(rule, &by, found);
            }
        }
    }

    /// For each policy those that select all that it does.
    fn overriding(&self) -> BTreeMap<&ObjectKey, BTreeSet<&ObjectKey>> {
        let policies: BTreeMap<&ObjectKey, _> =
            self.rules.iter().map(|cover| (&cover.rule.policy.key, cover.rule.policy)).collect();
        let wider = |a: &ObjectKey, inner: &Policy| {
            let outer = policies.iter().filter(|(b, outer)| {
                **b != a && selection::is_within(&inner.pod_selector, &outer.pod_selector)
            });
            outer.map(|(b, _)| *b).collect()
        };
        policies.iter().map(|(a, inner)| (*a, wider(a, inner))).collect()
    }

    /// The rules that allow all that `rule` does; `None` where they do not. One that does so alone is
    /// preferred.
    fn covered<'c>(
        &self,
        cover: &Cover<'_>,
        candidates: &[&'c Cover<'c>],
    ) -> Option<Vec<&'c Cover<'c>>> {
        let all = self.covered_by(cover, candidates)?;
        let alone = all.iter().find(|one| self.covered_by(cover, &[**one]).is_some());
        Some(alone.map_or(all.clone(), |one| vec![*one]))
    }

    fn covered_by<'c>(
        &self,
        cover: &Cover<'_>,
        candidates: &[&'c Cover<'c>],
    ) -> Option<Vec<&'c Cover<'c>>> {
        let rule = &cover.rule;
        let mut by: BTreeMap<(&ObjectKey, usize), &'c Cover<'c>> = BTreeMap::new();
        let mut take = |covers: Vec<&'c Cover<'c>>| {
            by.extend(covers.into_iter().map(|c| ((&c.rule.policy.key, c.rule.index), c)));
        };
        match rule.peers {
            Peers::Any => {
                let near: Vec<_> =
                    candidates.iter().copied().filter(|c| *c.rule.peers == Peers::Any).collect();
                for piece in pieces(rule.ports, &near) {
                    take(vec![*near.iter().find(|c| c.ports.includes(&piece))?]);
                }
            }
            Peers::Listed(peers) => {
                for (peer, block) in peers.iter().zip(&cover.blocks) {
                    let own = block.as_ref().map(|(_, addresses)| addresses);
                    let near: Vec<_> = candidates
                        .iter()
                        .copied()
                        .filter(|c| self.touches(rule, (peer, own), c))
                        .collect();
                    for piece in pieces(rule.ports, &near) {
                        let open = near.iter().copied().filter(|c| c.ports.includes(&piece));
                        take(peer_covered(own, &open.collect::<Vec<_>>())?);
                    }
                }
            }
        }
        Some(by.into_values().collect())
    }

    /// Whether a rule may cover a peer: it means all the pods, or some of the addresses.
    fn touches(
        &self,
        rule: &Listed<'_>,
        (peer, addresses): (&Peer, Option<&AddressSet>),
        cover: &Cover<'_>,
    ) -> bool {
        if *cover.rule.peers == Peers::Any {
            return true;
        }
        match addresses {
            Some(own) => cover.blocks.iter().flatten().any(|(_, granted)| granted.meets(own)),
            None => cover.rule.listed_peers().iter().any(|other| {
                let namespace = &rule.policy.key.namespace;
                selection::peer_is_within(&peer.selects, &other.selects, namespace, self.labels)
            }),
        }
    }

    fn report(&self, rule: &Listed<'_>, by: &[&Cover<'_>], found: &mut Found) {
        let names = list(by.iter().map(|cover| cover.rule.name_beside(rule.policy)));
        let verb = if by.len() == 1 { "allows" } else { "together allow" };
        let message = format!("all that this rule allows {names} {verb} already");
        let fix = "remove it, or narrow the other if this was meant to be all";
        let mut finding =
            self.scene.finding(Rule::Shadowed, rule.policy, &rule.field(), message, fix);
        let elsewhere = by.iter().any(|cover| cover.rule.policy.key != rule.policy.key);
        // Policies that are kept apart may say the same on purpose.
        if elsewhere {
            finding.severity = Severity::Note;
        }
        finding.related =
            by.iter().map(|cover| self.scene.related(&cover.rule, "allows it")).collect();
        found.add(finding);
    }
}

/// Those of `open` that mean all of a peer, together. Each of them touches it.
fn peer_covered<'c>(
    addresses: Option<&AddressSet>,
    open: &[&'c Cover<'c>],
) -> Option<Vec<&'c Cover<'c>>> {
    if let Some(any) = open.iter().find(|cover| *cover.rule.peers == Peers::Any) {
        return Some(vec![*any]);
    }
    let Some(wanted) = addresses else {
        // Whoever touches a pod peer means all of it.
        return open.first().map(|cover| vec![*cover]);
    };
    let all = open.iter().flat_map(|cover| cover.blocks.iter().flatten().map(|(block, _)| *block));
    AddressSet::of(wanted.family(), all).includes(wanted).then(|| open.to_vec())
}

/// `ports` in pieces that each of `covers` allows whole or, as far as is known, not at all.
fn pieces(ports: &Ports, covers: &[&Cover<'_>]) -> Vec<Ports> {
    let Ports::Listed(list) = ports else { return vec![Ports::Any] };
    let mut pieces = Vec::new();
    for port in list {
        let PortNumbers::Range(range) = &port.numbers else {
            pieces.push(Ports::Listed(vec![port.clone()]));
            continue;
        };
        let (lowest, highest) = (range.first().get(), range.last().get());
        let mut starts: BTreeSet<u16> = [lowest].into();
        for other in covers.iter().flat_map(|cover| cover.rule.listed_ports()) {
            if let PortNumbers::Range(cut) = &other.numbers
                && other.protocol == port.protocol
            {
                let ends = [Some(cut.first().get()), cut.last().get().checked_add(1)];
                starts
                    .extend(ends.into_iter().flatten().filter(|n| (lowest..=highest).contains(n)));
            }
        }
        let starts: Vec<u16> = starts.into_iter().collect();
        for (i, start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).map_or(highest, |next| next - 1);
            pieces.extend(piece(port, *start, end));
        }
    }
    pieces
}

fn piece(port: &PortMatch, first: u16, last: u16) -> Option<Ports> {
    let range = PortRange::new(NonZeroU16::new(first)?, NonZeroU16::new(last)?)?;
    Some(Ports::Listed(vec![PortMatch { numbers: PortNumbers::Range(range), ..port.clone() }]))
}
