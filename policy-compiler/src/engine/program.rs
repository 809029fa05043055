//! What a ruleset says to the packets of each local address, and which live sets may be edited while
//! that changes.
//!
//! The program of an address in a direction is the leaf of the tree that names it, with every chain
//! that can be reached from there. Set names count without their generation: a set made anew with the
//! members it should have is no change of a program.
//!
//! While an update is carried out, a set that it edits holds for a time what it held and what it is
//! to hold together. For a program that stays the same and merely grants (each rule returns, by one
//! set at most) a packet is then allowed iff the old or the new members allow it: the verdict is the
//! old or the new one at every moment, however many sets are edited, in whatever order. For a program
//! that changes it is not: a member that joins "P on 80" while that becomes "P on 443" would reach 80
//! in between, which neither state allows. The same goes for programs that do more than grant, in which
//! a rule needs two sets to match, or denies or goes on where one matches. [`frozen`] names all sets
//! that such programs mention. A program in which nothing denies, such as an audit, lets every packet
//! pass whatever its sets hold, and freezes none.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{
    Chain, ChainName, FamilyRules, Generation, Hook, Match, Rule, SetName, SetRole, Target,
};

/// The chains that dispatch by address: the tops of the trees, and what their inner nodes begin with.
const TOPS: [&str; 2] = ["NPC-EGRESS", "NPC-INGRESS"];
const INNER: [&str; 2] = ["NPC-ET-", "NPC-IT-"];
/// The check of sources, which stands before everything else: the chain that is entered, and what its
/// inner nodes begin with. It says nothing of policies, and which interfaces it knows is no matter for
/// any set.
const SOURCES: [&str; 2] = ["NPC-SOURCES", "NPC-ST-"];

/// `name` in generation 0, by which the set is the same however often it was made anew.
pub(super) fn without_generation(name: &SetName) -> SetName {
    name.in_generation(Generation::default())
}

/// The sets, in generation 0, that may not be edited on the way from `old` to `new`. Both have their
/// sets' names in generation 0 in all rules.
///
/// A change of anything but trees and programs (hooks, entry chains, the mid-stream check, the
/// networks in which unknown addresses are denied) freezes every set: it is rare, and what it means
/// for a packet is not looked into.
pub(super) fn frozen(old: &FamilyRules, new: &FamilyRules) -> BTreeSet<SetName> {
    let (before, after) = (Layout::of(old), Layout::of(new));
    let mut frozen = BTreeSet::new();
    if before.frame != after.frame || before.asks_for_pods() || after.asks_for_pods() {
        let chains = old.chains.values().chain(new.chains.values());
        frozen.extend(chains.flat_map(|chain| &chain.rules).flat_map(remade_sets).cloned());
        return frozen;
    }
    for (here, there) in [(&before, &after), (&after, &before)] {
        for (leaf, program) in &here.programs {
            let stands = there.programs.get(leaf) == Some(program);
            if program.denies() && !(stands && program.rules().all(is_grant)) {
                frozen.extend(program.rules().flat_map(pod_sets).cloned());
            }
        }
    }
    frozen
}

/// Whether a rule does no more than allow what at most one set of pods allows.
fn is_grant(rule: &Rule) -> bool {
    pod_sets(rule).count() == 0 || rule.target == Target::Return && pod_sets(rule).count() == 1
}

fn sets(rule: &Rule) -> impl Iterator<Item = &SetName> {
    rule.matches.iter().filter_map(Match::set)
}

fn pod_sets(rule: &Rule) -> impl Iterator<Item = &SetName> {
    sets(rule).filter(|set| matches!(set.role, SetRole::Pods { .. }))
}

/// The sets that can be made anew.
fn remade_sets(rule: &Rule) -> impl Iterator<Item = &SetName> {
    sets(rule).filter(|set| set.role.generation().is_some())
}

fn successor(rule: &Rule) -> Option<&ChainName> {
    match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        Target::Return | Target::Log(_) | Target::Deny(_) => None,
    }
}

/// What happens to the packets that a leaf takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Program<'a> {
    /// The rules in the tree, one unless two leaves have the same conditions.
    leaf: Vec<&'a Rule>,
    /// Every chain that can be reached from there.
    chains: BTreeMap<&'a ChainName, &'a Chain>,
}

impl<'a> Program<'a> {
    fn rules(&self) -> impl Iterator<Item = &'a Rule> {
        let leaf = self.leaf.iter().copied();
        leaf.chain(self.chains.values().flat_map(|chain| &chain.rules))
    }

    fn denies(&self) -> bool {
        self.rules().any(|rule| matches!(rule.target, Target::Deny(_)))
    }

    fn add(&mut self, rules: &'a FamilyRules, leaf: &'a Rule) {
        self.leaf.push(leaf);
        let mut ahead: Vec<&ChainName> = successor(leaf).into_iter().collect();
        while let Some(name) = ahead.pop() {
            let Some(chain) = rules.chains.get(name) else { continue };
            if self.chains.insert(name, chain).is_none() {
                ahead.extend(chain.rules.iter().filter_map(successor));
            }
        }
    }
}

/// Which leaf: the tree's top and the conditions.
type Leaf<'a> = (&'static str, &'a [Match]);

/// A family's rules, taken apart.
struct Layout<'a> {
    programs: BTreeMap<Leaf<'a>, Program<'a>>,
    /// All that is neither tree nor program.
    frame: (&'a BTreeMap<Hook, Rule>, BTreeMap<&'a ChainName, &'a Chain>),
}

impl<'a> Layout<'a> {
    fn of(rules: &'a FamilyRules) -> Self {
        let mut programs: BTreeMap<Leaf<'a>, Program<'a>> = BTreeMap::new();
        let mut inside: BTreeSet<&ChainName> = BTreeSet::new();
        for top in TOPS {
            let mut ahead: Vec<&ChainName> = ChainName::new(top)
                .and_then(|name| rules.chains.get_key_value(&name))
                .map(|(name, _)| name)
                .into_iter()
                .collect();
            while let Some(name) = ahead.pop() {
                let Some(chain) = rules.chains.get(name) else { continue };
                if !inside.insert(name) {
                    continue;
                }
                for rule in &chain.rules {
                    match successor(rule) {
                        Some(next) if is_inner(next) => ahead.push(next),
                        _ => {
                            let leaf = (top, rule.matches.as_slice());
                            programs.entry(leaf).or_default().add(rules, rule);
                        }
                    }
                }
            }
        }
        inside.extend(programs.values().flat_map(|program| program.chains.keys().copied()));
        let frame = rules
            .chains
            .iter()
            .filter(|(name, _)| !inside.contains(name) && !checks_sources(name))
            .collect();
        Self { programs, frame: (&rules.hooks, frame) }
    }

    /// Whether what a program says of a packet depends on sets of pods outside of it.
    fn asks_for_pods(&self) -> bool {
        let (hooks, chains) = &self.frame;
        let rules = hooks.values().chain(chains.values().flat_map(|chain| &chain.rules));
        rules.flat_map(pod_sets).next().is_some()
    }
}

fn is_inner(chain: &ChainName) -> bool {
    INNER.iter().any(|prefix| chain.as_str().starts_with(prefix))
}

fn checks_sources(chain: &ChainName) -> bool {
    let [top, inner] = SOURCES;
    chain.as_str() == top || chain.as_str().starts_with(inner)
}
