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
//! a rule needs two sets to match, or denies or goes on where one matches. [`freezes`] names all sets
//! that such programs mention. A program in which nothing denies, such as an audit, lets every packet
//! pass whatever its sets hold, and freezes none.
//!
//! Nor does a program that merely grants and comes where nothing denied before, or goes where nothing
//! denies after: a pod of the node that comes joins large sets that its own policies mention, and they
//! are not made anew for it. Where it comes, a set holds all it is to hold and perhaps more once the
//! program is in place: what that denies it denies in the end, and what it allows was allowed before.
//! Where it goes the same holds the other way round, as long as its sets lose no member before it: they
//! are [`Freezes::held`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compile::FamilyStructure;
use crate::ruleset::{Chain, ChainName, Generation, Match, Rule, SetName, SetRole, Target};

/// The chains that dispatch by address: the tops of the trees, and what their inner nodes begin with.
const TOPS: [&str; 2] = ["NPC-EGRESS", "NPC-INGRESS"];
const INNER: [&str; 2] = ["NPC-ET-", "NPC-IT-"];
/// What the chains of pods and those that they share begin with.
const OF_PODS: [&str; 8] =
    ["NPC-E-", "NPC-I-", "NPC-EB-", "NPC-IB-", "NPC-AE-", "NPC-AI-", "NPC-AEB-", "NPC-AIB-"];
/// The check of sources, which stands before everything else: the chain that is entered, and what its
/// inner nodes begin with. It says nothing of policies, and which interfaces it knows is no matter for
/// any set.
const SOURCES: [&str; 2] = ["NPC-SOURCES", "NPC-ST-"];

/// `name` in generation 0, by which the set is the same however often it was made anew.
pub(super) fn without_generation(name: &SetName) -> SetName {
    name.in_generation(Generation::default())
}

/// What may not be edited, or not at once; by names in generation 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Freezes {
    /// The sets that may not be edited.
    pub(super) frozen: BTreeSet<SetName>,
    /// Those that may be edited, and not ahead of the chains.
    pub(super) held: BTreeSet<SetName>,
}

/// The sets that may not be edited on the way from what a structure was to what it is, or not ahead of it.
/// Where it is `whole`, its leaves do not tell where each leads.
///
/// A change of anything but trees and programs (hooks, entry chains, the mid-stream check, the
/// networks in which unknown addresses are denied) freezes every set: it is rare, and what it means
/// for a packet is not looked into.
pub(super) fn freezes(rules: &FamilyStructure, whole: bool) -> Freezes {
    let mut changed = rules.chains.changes().map(|(name, _, _)| name);
    if whole || rules.hooks.changed() > 0 || changed.any(|name| !is_of_pods(name)) {
        return freezes_of_all_leaves(rules);
    }
    freezes_of_leaves(rules)
}

/// The same where anything may have changed.
fn freezes_of_all_leaves(rules: &FamilyStructure) -> Freezes {
    let before = Rules {
        hooks: rules.hooks.all_before().map(|(_, rule)| rule).collect(),
        chains: rules.chains.all_before().collect(),
    };
    let after = Rules {
        hooks: rules.hooks.now().values().collect(),
        chains: rules.chains.now().iter().collect(),
    };
    let changed = rules.chains.changes().map(|(name, _, _)| name).collect();
    freezes_of_all(&before, &after, &changed, rules.hooks.changed() > 0)
}

/// The same where no chains have changed but those that pods bring with them, so that only the leaves that
/// lead to them need be looked at.
fn freezes_of_leaves(rules: &FamilyStructure) -> Freezes {
    let mut leaves = rules.touched.clone();
    leaves.extend(rules.leaves.changes().map(|(leaf, _, _)| *leaf));
    let (mut frozen, mut held) = (Gathered::default(), Gathered::default());
    for leaf in leaves {
        let (old, new) = (rules.leaves.before(&leaf), rules.leaves.get(&leaf));
        let before = Program::of(old, |name| rules.chains.before(name));
        let after = Program::of(new, |name| rules.chains.get(name));
        let stands = |program: &Program<'_>| {
            old == new && program.chains.iter().all(|(name, _)| !rules.chains.has_changed(name))
        };
        if before.denies && !(stands(&before) && before.merely_grants) {
            let lone = before.merely_grants && !after.denies;
            if lone { &mut held } else { &mut frozen }.add(&before);
        }
        // What a program that comes mentions may be edited at any time: it is not in place before.
        if after.denies
            && !(stands(&after) && after.merely_grants)
            && (before.denies || !after.merely_grants)
        {
            frozen.add(&after);
        }
    }
    Freezes { frozen: frozen.sets, held: held.sets }
}

/// Sets that programs mention, each chain of which is looked through once.
#[derive(Default)]
struct Gathered<'a> {
    chains: BTreeSet<(&'a ChainName, *const Chain)>,
    sets: BTreeSet<SetName>,
}

impl<'a> Gathered<'a> {
    fn add(&mut self, program: &Program<'a>) {
        for (name, chain) in &program.chains {
            if self.chains.insert((name, Arc::as_ptr(chain))) {
                self.sets.extend(chain.rules.iter().flat_map(pod_sets).cloned());
            }
        }
    }
}

/// The chains that can be reached from a leaf.
struct Program<'a> {
    chains: Vec<(&'a ChainName, &'a Arc<Chain>)>,
    denies: bool,
    merely_grants: bool,
}

impl<'a> Program<'a> {
    /// That of a leaf that leads there.
    fn of(
        first: Option<&'a ChainName>,
        find: impl Fn(&ChainName) -> Option<&'a Arc<Chain>>,
    ) -> Self {
        let mut program = Self { chains: Vec::new(), denies: false, merely_grants: true };
        let mut ahead: Vec<&ChainName> = first.into_iter().collect();
        while let Some(name) = ahead.pop() {
            if program.chains.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let Some(chain) = find(name) else { continue };
            program.chains.push((name, chain));
            for rule in &chain.rules {
                program.denies |= matches!(rule.target, Target::Deny(_));
                program.merely_grants &= is_grant(rule);
                ahead.extend(successor(rule));
            }
        }
        program
    }
}

/// A family's rules as they are or were.
struct Rules<'a> {
    hooks: Vec<&'a Rule>,
    chains: BTreeMap<&'a ChainName, &'a Arc<Chain>>,
}

/// The same of what was and what is. However many addresses share a chain, it is looked through
/// once.
fn freezes_of_all<'a>(
    old: &'a Rules<'a>,
    new: &'a Rules<'a>,
    changed: &BTreeSet<&'a ChainName>,
    rehooked: bool,
) -> Freezes {
    let (before, after) = (Layout::of(old), Layout::of(new));
    let is_framed = |name: &&&ChainName| before.frames(name) || after.frames(name);
    let mut freezes = Freezes::default();
    if rehooked
        || changed.iter().any(|name| is_framed(&name))
        || before.asks_for_pods()
        || after.asks_for_pods()
    {
        let chains = old.chains.values().chain(new.chains.values());
        let rules = chains.flat_map(|chain| &chain.rules);
        freezes.frozen.extend(rules.flat_map(remade_sets).cloned());
        return freezes;
    }
    let lone = before.is_by_address() && after.is_by_address();
    before.freeze(&after, changed, lone, &mut freezes.frozen, &mut freezes.held);
    // What a program that comes mentions may be edited at any time: it is not in place before.
    after.freeze(&before, changed, lone, &mut freezes.frozen, &mut BTreeSet::new());
    freezes
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

/// What matters of a chain in a program.
struct Traits<'a> {
    denies: bool,
    merely_grants: bool,
    next: Vec<&'a ChainName>,
}

impl<'a> Traits<'a> {
    fn of(rules: impl Iterator<Item = &'a Rule> + Clone) -> Self {
        Self {
            denies: rules.clone().any(|rule| matches!(rule.target, Target::Deny(_))),
            merely_grants: rules.clone().all(is_grant),
            next: rules.filter_map(successor).collect(),
        }
    }
}

/// Which leaf: the tree's top and the conditions.
type Leaf<'a> = (&'static str, &'a [Match]);

/// A family's rules, taken apart.
struct Layout<'a> {
    rules: &'a Rules<'a>,
    /// The rules in the trees that lead to programs, one for each leaf unless two have the same
    /// conditions.
    leaves: BTreeMap<Leaf<'a>, Vec<&'a Rule>>,
    /// The chains of the trees and of programs.
    inside: BTreeSet<&'a ChainName>,
    /// Of those that programs reach.
    traits: BTreeMap<&'a ChainName, Traits<'a>>,
}

impl<'a> Layout<'a> {
    fn of(rules: &'a Rules<'a>) -> Self {
        let mut leaves: BTreeMap<Leaf<'a>, Vec<&'a Rule>> = BTreeMap::new();
        let mut inside: BTreeSet<&ChainName> = BTreeSet::new();
        for top in TOPS {
            let top_chain = ChainName::new(top).and_then(|name| rules.chains.get_key_value(&name));
            let mut ahead: Vec<&ChainName> = top_chain.into_iter().map(|(name, _)| *name).collect();
            while let Some(name) = ahead.pop() {
                let Some(chain) = rules.chains.get(name) else { continue };
                if !inside.insert(name) {
                    continue;
                }
                for rule in &chain.rules {
                    match successor(rule) {
                        Some(next) if is_inner(next) => ahead.push(next),
                        _ => leaves.entry((top, rule.matches.as_slice())).or_default().push(rule),
                    }
                }
            }
        }
        let mut traits: BTreeMap<&'a ChainName, Traits<'a>> = BTreeMap::new();
        let mut ahead: Vec<&ChainName> =
            leaves.values().flatten().filter_map(|rule| successor(rule)).collect();
        while let Some(name) = ahead.pop() {
            let Some(chain) = rules.chains.get(name) else { continue };
            if !traits.contains_key(name) {
                let found = Traits::of(chain.rules.iter());
                ahead.extend(&found.next);
                traits.insert(name, found);
            }
        }
        inside.extend(traits.keys());
        Self { rules, leaves, inside, traits }
    }

    /// Whether a chain, if it is there, is neither of a tree nor of a program.
    fn frames(&self, name: &ChainName) -> bool {
        self.rules.chains.contains_key(name) && !self.inside.contains(name) && !checks_sources(name)
    }

    /// Whether what a program says of a packet depends on sets of pods outside of it.
    fn asks_for_pods(&self) -> bool {
        let frame = self.rules.chains.iter().filter(|(name, _)| self.frames(name));
        let hooks = self.rules.hooks.iter().copied();
        let rules = hooks.chain(frame.flat_map(|(_, chain)| &chain.rules));
        rules.flat_map(pod_sets).next().is_some()
    }

    /// Every chain that can be reached from a leaf.
    fn program(&self, leaf: &[&'a Rule]) -> Vec<&'a ChainName> {
        let mut chains: Vec<&ChainName> = Vec::new();
        let mut ahead: Vec<&ChainName> = leaf.iter().filter_map(|rule| successor(rule)).collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = ahead.pop() {
            let Some(traits) = self.traits.get(name) else { continue };
            if seen.insert(name) {
                chains.push(name);
                ahead.extend(&traits.next);
            }
        }
        chains
    }

    /// Whether each leaf is one address, so that where a program has no counterpart nothing judges its
    /// packets.
    fn is_by_address(&self) -> bool {
        self.leaves.keys().all(|(_, conditions)| match conditions {
            [Match::Source(net) | Match::Destination(net)] => {
                net.prefix_len() == net.max_prefix_len()
            }
            _ => false,
        })
    }

    /// Whether a program can deny anything; one that is not there does not.
    fn denies(&self, leaf: &Leaf<'_>) -> bool {
        let Some(rules) = self.leaves.get(leaf) else { return false };
        let program = self.program(rules);
        Traits::of(rules.iter().copied()).denies
            || program.iter().filter_map(|name| self.traits.get(*name)).any(|traits| traits.denies)
    }

    /// Adds the sets of the programs that are not the same `there`, or that do more than grant, to
    /// `frozen`; but to `held` of those that merely grant and have no counterpart that denies.
    fn freeze(
        &self,
        there: &Layout<'_>,
        changed: &BTreeSet<&ChainName>,
        lone: bool,
        frozen: &mut BTreeSet<SetName>,
        held: &mut BTreeSet<SetName>,
    ) {
        let mut done: BTreeSet<(bool, &ChainName)> = BTreeSet::new();
        for (leaf, rules) in &self.leaves {
            let own = Traits::of(rules.iter().copied());
            let program = self.program(rules);
            let traits: Vec<&Traits<'_>> =
                program.iter().filter_map(|name| self.traits.get(*name)).collect();
            let denies = own.denies || traits.iter().any(|traits| traits.denies);
            let stands = there.leaves.get(leaf) == Some(rules)
                && program.iter().all(|name| !changed.contains(*name));
            let grants = own.merely_grants && traits.iter().all(|traits| traits.merely_grants);
            if !denies || stands && grants {
                continue;
            }
            let lone = lone && grants && !there.denies(leaf);
            let sets = if lone { &mut *held } else { &mut *frozen };
            sets.extend(rules.iter().flat_map(|rule| pod_sets(rule)).cloned());
            for name in program.into_iter().filter(|name| done.insert((lone, name))) {
                let chain = self.rules.chains.get(name);
                let rules = chain.into_iter().flat_map(|chain| &chain.rules);
                sets.extend(rules.flat_map(pod_sets).cloned());
            }
        }
    }
}

fn is_inner(chain: &ChainName) -> bool {
    INNER.iter().any(|prefix| chain.as_str().starts_with(prefix))
}

/// Whether a chain is one that pods bring with them: of a tree, a pod's own, or one that pods share.
fn is_of_pods(chain: &ChainName) -> bool {
    let name = chain.as_str();
    TOPS.contains(&name)
        || INNER.iter().chain(&OF_PODS).any(|prefix| name.starts_with(prefix))
        || checks_sources(chain)
}

fn checks_sources(chain: &ChainName) -> bool {
    let [top, inner] = SOURCES;
    chain.as_str() == top || chain.as_str().starts_with(inner)
}

/// What is found by the leaves that tell of a change and by all leaves, where the former can be asked.
#[cfg(test)]
pub(super) fn freezes_both_ways(rules: &FamilyStructure) -> [Freezes; 2] {
    [freezes(rules, false), freezes_of_all_leaves(rules)]
}
