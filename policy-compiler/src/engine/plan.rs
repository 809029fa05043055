//! The way from one ruleset to the next, such that no step of it opens what neither allows.
//!
//! Steps, in this order: create the sets that are new, forget known addresses, add members to live
//! sets, one transaction of chains per family, remove members from live sets, admit known addresses,
//! destroy the sets that are left over. After each, and between the single edits that one consists of,
//! the verdict of each half on every packet is that of the old ruleset or that of the new one.
//!
//! * A set of pods is edited while it is live only if no program that this update changes mentions it
//!   (see [`super::program`]). Else it is made anew under a fresh generation: every chain that mentions
//!   it is declared again with the new name, in the one transaction that changes the programs, and the
//!   set of the old name is destroyed.
//!   A program that comes or goes changes nothing of the sets that others mention as well.
//! * The set of isolated addresses only ever denies, and is edited live: an address is in it before
//!   its programs are, and until they are gone.
//! * The set of known addresses opens what the other rules then judge. An address leaves it before
//!   anything else changes, and comes in when all else is as it is to be: what it is denied meanwhile
//!   it is denied in the old or the new state, and what it is allowed the other rules of that state
//!   allow. It is made anew where the rules that ask for it change.
//! * A set of networks has its content in its name, so there is never anything to edit.
//!
//! A fresh generation is one that was never used since the engine started, so that a set waiting for
//! destruction is never taken for one that is wanted: names do not come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::edits::{Edits, edits};
use super::program::{Freezes, freezes, is_same, without_generation};
use crate::cidr::Family;
use crate::compile::{FamilyStructure, Source, Structure};
use crate::index::Index;
use crate::ruleset::{
    AddressSet, Chain, Generation, Match, MemberSet, Rule, Ruleset, SetName, SetRole,
};
use crate::update::{ChainsUpdate, Step, Update};

/// Where an update leads, and by which steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The new ruleset with the generations that its sets have in the kernel.
    pub ruleset: Ruleset,
    /// The steps from the old one.
    pub update: Update,
    /// The sets that are not edited ahead of the chains.
    pub(super) held: BTreeSet<SetName>,
}

/// Plans the way from `old`, which has the generations of the kernel, to `new`, whose generations do
/// not count. Sets that have to be made are made in generation `fresh`, which no set of `old` has.
#[must_use]
pub fn plan(old: &Ruleset, new: &Ruleset, fresh: Generation) -> Plan {
    let index = Index::default();
    let (before, called) = taken_apart(old);
    let (after, _) = taken_apart(new);
    let standing = Standing { kernel: old, structure: &before, called: &called };
    let Way { update, held, .. } = standing.way_to(&after, &index, fresh);
    let mut ruleset = old.clone();
    for step in &update.steps {
        ruleset.carry_out(step);
    }
    Plan { ruleset, update, held }
}

/// A way from what stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The steps.
    pub(super) update: Update,
    /// What the sets are called behind it.
    pub(super) called: Names,
    /// The sets, as they are called now, that are not edited ahead of the chains.
    pub(super) held: BTreeSet<SetName>,
}

/// The structure of a ruleset of which nothing else is known, and what its sets are called.
pub(super) fn taken_apart(ruleset: &Ruleset) -> (Structure, Names) {
    let mut structure = Structure::default();
    let mut called = Names::new();
    for family in Family::ALL {
        let rules = ruleset.family(family);
        let chains = rules.chains.iter();
        let chains = chains
            .map(|(name, chain)| (name.clone(), Arc::new(renamed(chain, &without_generation))));
        let hooks = rules.hooks.iter();
        let hooks = hooks.map(|(hook, rule)| (*hook, rule_renamed(rule, &without_generation)));
        let sets = rules
            .sets
            .iter()
            .map(|(name, set)| (without_generation(name), Source::Fixed(Arc::new(set.clone()))));
        let (hooks, chains, sets) = (hooks.collect(), chains.collect(), sets.collect());
        *structure.family_mut(family) = FamilyStructure { hooks, chains, sets };
        called.extend(rules.sets.keys().map(|name| (without_generation(name), name.clone())));
    }
    (structure, called)
}

/// What each set is called in the kernel, by its name in generation 0.
pub(super) type Names = BTreeMap<SetName, SetName>;

/// Members by set.
pub(super) type Members = BTreeMap<SetName, MemberSet>;

/// What stands in the kernel.
pub(super) struct Standing<'a> {
    /// All of it.
    pub(super) kernel: &'a Ruleset,
    /// Its structure.
    pub(super) structure: &'a Structure,
    /// What its sets are called.
    pub(super) called: &'a Names,
}

/// What is to be done, by kinds of steps.
#[derive(Default)]
struct Steps {
    create: BTreeMap<SetName, AddressSet>,
    join: Members,
    chains: Vec<ChainsUpdate>,
    leave: Members,
    destroy: BTreeSet<SetName>,
}

impl Standing<'_> {
    /// The steps to a structure whose sets are filled from the index, and what its sets are called then.
    /// What is in the index of standing sets must be what has come about since the kernel was written.
    pub(super) fn way_to(&self, new: &Structure, index: &Index, fresh: Generation) -> Way {
        let mut steps = Steps::default();
        let (mut called, mut waiting) = (Names::new(), BTreeSet::new());
        for family in Family::ALL {
            let (before, after) = (self.structure.family(family), new.family(family));
            let edited: Vec<Option<Edits>> =
                after.sets.iter().map(|(set, source)| self.edits(set, source, index)).collect();
            // Which sets may be edited matters only where one is to be.
            let stands = edited.iter().flatten().all(Edits::is_empty);
            let Freezes { frozen, held } =
                if stands { Freezes::default() } else { freezes(before, after) };
            waiting.extend(held.iter().filter_map(|set| self.called.get(set)).cloned());
            let mut anew = BTreeSet::new();
            for ((set, source), edits) in after.sets.iter().zip(edited) {
                let name = match (self.called.get(set), edits) {
                    (Some(name), Some(edits)) if edits.is_empty() => name.clone(),
                    (Some(name), Some(edits)) if !frozen.contains(set) => {
                        edits.put(name, &mut steps.join, &mut steps.leave);
                        name.clone()
                    }
                    _ => {
                        let name = set.in_generation(fresh);
                        anew.insert(set);
                        let members = source.members(index, family);
                        steps.create.insert(name.clone(), members);
                        name
                    }
                };
                called.insert(set.clone(), name);
            }
            steps.chains.extend(chains_update(family, before, after, &anew, &called));
        }
        let kept: BTreeSet<&SetName> = called.values().collect();
        let gone = self.called.values().filter(|name| !kept.contains(name));
        steps.destroy = gone.cloned().collect();
        Way { update: steps.in_order(), called, held: waiting }
    }

    /// How a set that stands changes; `None` for one that does not stand.
    fn edits(&self, set: &SetName, source: &Source, index: &Index) -> Option<Edits> {
        let kernel = self.kernel.family(set.family).sets.get(self.called.get(set)?)?;
        let old = self.structure.family(set.family).sets.get(set);
        Some(edits(set.family, kernel, old, source, index))
    }
}

impl Steps {
    fn in_order(self) -> Update {
        let (forget, remove) = split(self.leave);
        let (admit, add) = split(self.join);
        let mut steps = Vec::new();
        if !self.create.is_empty() {
            steps.push(Step::CreateSets(self.create));
        }
        steps.extend((!forget.is_empty()).then_some(Step::RemoveMembers(forget)));
        steps.extend((!add.is_empty()).then_some(Step::AddMembers(add)));
        steps.extend(self.chains.into_iter().map(Step::ReplaceChains));
        steps.extend((!remove.is_empty()).then_some(Step::RemoveMembers(remove)));
        steps.extend((!admit.is_empty()).then_some(Step::AddMembers(admit)));
        if !self.destroy.is_empty() {
            steps.push(Step::DestroySets(self.destroy));
        }
        Update { steps }
    }
}

/// The steps that change what standing sets hold, and nothing else.
pub(super) fn edit_members(join: Members, leave: Members) -> Update {
    Steps { join, leave, ..Steps::default() }.in_order()
}

/// Those of sets of known addresses, and the others.
fn split(members: Members) -> (Members, Members) {
    members.into_iter().partition(|(name, _)| matches!(name.role, SetRole::Known { .. }))
}

fn rule_renamed(rule: &Rule, name_of: &dyn Fn(&SetName) -> SetName) -> Rule {
    let matches = rule.matches.iter().map(|condition| condition.with_set_called(name_of));
    Rule { matches: matches.collect(), comment: rule.comment.clone(), target: rule.target.clone() }
}

/// `chain` with every set called as `name_of` says.
fn renamed(chain: &Chain, name_of: &dyn Fn(&SetName) -> SetName) -> Chain {
    Chain { rules: chain.rules.iter().map(|rule| rule_renamed(rule, name_of)).collect() }
}

/// The chains and hooks that differ, or mention a set that is made anew; `None` where none do.
fn chains_update(
    family: Family,
    old: &FamilyStructure,
    new: &FamilyStructure,
    anew: &BTreeSet<&SetName>,
    called: &Names,
) -> Option<ChainsUpdate> {
    let name_of = |set: &SetName| called.get(set).unwrap_or(set).clone();
    let mentions = |rule: &Rule| {
        !anew.is_empty() && rule.matches.iter().filter_map(Match::set).any(|set| anew.contains(set))
    };
    let changed = new.chains.iter().filter(|(name, chain)| {
        !old.chains.get(*name).is_some_and(|old| is_same(old, chain))
            || chain.rules.iter().any(mentions)
    });
    let gone = old.chains.keys().filter(|name| !new.chains.contains_key(*name));
    let hooked =
        new.hooks.iter().filter(|(hook, rule)| old.hooks.get(hook) != Some(rule) || mentions(rule));
    let unhooked = old.hooks.iter().filter(|(hook, _)| !new.hooks.contains_key(hook));
    let update = ChainsUpdate {
        family,
        replace: changed.map(|(name, chain)| (name.clone(), renamed(chain, &name_of))).collect(),
        delete: gone.cloned().collect(),
        hook: hooked.map(|(hook, rule)| (*hook, rule_renamed(rule, &name_of))).collect(),
        unhook: unhooked.map(|(hook, rule)| (*hook, rule.clone())).collect(),
    };
    let empty = update.replace.is_empty()
        && update.delete.is_empty()
        && update.hook.is_empty()
        && update.unhook.is_empty();
    (!empty).then_some(update)
}
