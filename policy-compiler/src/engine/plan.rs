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
use super::program::{Freezes, freezes, without_generation};
use crate::cidr::Family;
use crate::compile::{FamilyStructure, Source, Structure};
use crate::index::Index;
use crate::ruleset::{AddressSet, Generation, Match, MemberSet, Rule, Ruleset, SetName, SetRole};
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
    let (mut after, _) = taken_apart(new);
    after.follow(before);
    let standing = Standing { kernel: old, called: &called };
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
    /// What sets are called behind it that are called otherwise now.
    pub(super) called: Renamed,
    /// The sets, as they are called now, that are not edited ahead of the chains.
    pub(super) held: BTreeSet<SetName>,
    /// How many chains were looked at.
    pub(super) chains: usize,
}

/// The structure of a ruleset of which nothing else is known, and what its sets are called.
pub(super) fn taken_apart(ruleset: &Ruleset) -> (Structure, Names) {
    let mut structure = Structure::default();
    let mut called = Names::new();
    for family in Family::ALL {
        let rules = ruleset.family(family);
        let chains = rules.chains.iter();
        let chains =
            chains.map(|(name, chain)| (name.clone(), chain.with_sets_called(&without_generation)));
        let hooks = rules.hooks.iter();
        let hooks = hooks.map(|(hook, rule)| (*hook, rule.with_sets_called(&without_generation)));
        let sets = rules
            .sets
            .iter()
            .map(|(name, set)| (without_generation(name), Source::Fixed(Arc::new(set.clone()))));
        *structure.family_mut(family) =
            FamilyStructure::new(hooks.collect(), chains.collect(), sets.collect());
        called.extend(rules.sets.keys().map(|name| (without_generation(name), name.clone())));
    }
    structure.settle();
    (structure, called)
}

/// What each set is called in the kernel, by its name in generation 0.
pub(super) type Names = BTreeMap<SetName, SetName>;

/// What some sets come to be called; `None` where they go.
pub(super) type Renamed = BTreeMap<SetName, Option<SetName>>;

/// Members by set.
pub(super) type Members = BTreeMap<SetName, MemberSet>;

/// What stands in the kernel.
pub(super) struct Standing<'a> {
    /// All of it.
    pub(super) kernel: &'a Ruleset,
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
    /// The steps to a structure which was that of the kernel and whose sets are filled from the index. What
    /// is in the index of standing sets must be what has come about since the kernel was written.
    pub(super) fn way_to(&self, structure: &Structure, index: &Index, fresh: Generation) -> Way {
        let (mut steps, mut way) = (Steps::default(), Way::default());
        for family in Family::ALL {
            let rules = structure.family(family);
            if !structure.whole && rules.is_settled() {
                self.follow_members(family, rules, index, &mut steps);
                continue;
            }
            let sets = self.edited(rules, index);
            // Which sets may be edited matters only where one is to be.
            let stands = sets.iter().filter_map(|set| set.edits.as_ref()).all(Edits::is_empty);
            let Freezes { frozen, held } =
                if stands { Freezes::default() } else { freezes(rules, structure.whole) };
            way.held.extend(held.iter().filter_map(|set| self.called.get(set)).cloned());
            let mut anew = Anew::default();
            for Set { name: set, source, edits } in sets {
                match (self.called.get(set), edits) {
                    (Some(_), Some(edits)) if edits.is_empty() => {}
                    (Some(name), Some(edits)) if !frozen.contains(set) => {
                        edits.put(name, &mut steps.join, &mut steps.leave);
                    }
                    (old, _) => {
                        steps.destroy.extend(old.cloned());
                        anew.stood |= old.is_some();
                        anew.sets.insert(set);
                        let name = set.in_generation(fresh);
                        let filled =
                            AddressSet { members: self.filled(source, rules, index, family) };
                        steps.create.insert(name.clone(), filled);
                        way.called.insert(set.clone(), Some(name));
                    }
                }
            }
            for (set, _, _) in rules.sets().changes().filter(|(_, _, now)| now.is_none()) {
                steps.destroy.extend(self.called.get(set).cloned());
                way.called.insert(set.clone(), None);
            }
            let name_of = |set: &SetName| match way.called.get(set) {
                Some(Some(name)) => name.clone(),
                _ => self.called.get(set).unwrap_or(set).clone(),
            };
            way.chains += rules.chains.changed();
            way.chains += if anew.stood { rules.chains.now().len() } else { 0 };
            steps.chains.extend(chains_update(family, rules, &anew, &name_of));
        }
        way.update = steps.in_order();
        way
    }

    /// The edits where nothing but members has changed, which is what mostly happens: any set may be
    /// edited, and who joined or left it is known.
    fn follow_members(
        &self,
        family: Family,
        rules: &FamilyStructure,
        index: &Index,
        steps: &mut Steps,
    ) {
        for (id, delta) in index.deltas() {
            let edits = Edits::of(family, delta);
            if edits.is_empty() {
                continue;
            }
            for name in rules.fed_by(id).iter().filter_map(|set| self.called.get(set)) {
                edits.clone().put(name, &mut steps.join, &mut steps.leave);
            }
        }
        let numbers = index.number_deltas();
        let numbers = numbers.filter_map(|(id, number, _)| rules.fed_by_number(id, number));
        let moved = if index.moved().is_empty() { None } else { Some(rules.known()) };
        for set in numbers.chain(moved.into_iter().flatten()) {
            let source = rules.sets().get(set);
            let edits = source.and_then(|source| self.edits(set, source, rules, index));
            if let Some((name, edits)) = self.called.get(set).zip(edits) {
                edits.put(name, &mut steps.join, &mut steps.leave);
            }
        }
    }

    /// The sets that may be others than they are, and how.
    fn edited<'s>(&self, rules: &'s FamilyStructure, index: &Index) -> Vec<Set<'s>> {
        let changed = rules.sets().changes().map(|(set, _, _)| set);
        let mut sets: BTreeSet<&SetName> = changed.collect();
        sets.extend(index.deltas().flat_map(|(id, _)| rules.fed_by(id)));
        let numbers = index.number_deltas();
        sets.extend(numbers.filter_map(|(id, number, _)| rules.fed_by_number(id, number)));
        if !index.moved().is_empty() {
            sets.extend(rules.known());
        }
        let edited = |set: &'s SetName| {
            let source = rules.sets().get(set)?;
            Some(Set { name: set, source, edits: self.edits(set, source, rules, index) })
        };
        let mut all = Vec::with_capacity(sets.len());
        all.extend(sets.into_iter().filter_map(edited));
        all
    }

    /// What a set is to hold, by what another one holds that was filled from nearly the same.
    fn filled(
        &self,
        source: &Source,
        rules: &FamilyStructure,
        index: &Index,
        family: Family,
    ) -> MemberSet {
        let Source::Pods(id) = source else { return source.members(index, family).members };
        let stands = |(set, was)| match was {
            &Source::Pods(other) => {
                let held = self.kernel.family(family).sets.get(self.called.get(set)?)?;
                Some((other, &held.members))
            }
            _ => None,
        };
        match index.nearest(*id, rules.sets().all_before().filter_map(stands)) {
            Some(nearest) => index.members_beside(*id, nearest, family),
            None => source.members(index, family).members,
        }
    }

    /// How a set that stands changes; `None` for one that does not stand.
    fn edits(
        &self,
        set: &SetName,
        source: &Source,
        rules: &FamilyStructure,
        index: &Index,
    ) -> Option<Edits> {
        let kernel = self.kernel.family(set.family).sets.get(self.called.get(set)?)?;
        Some(edits(set.family, kernel, rules.sets().before(set), source, index))
    }
}

/// A set that is looked at.
struct Set<'s> {
    name: &'s SetName,
    source: &'s Source,
    /// How it changes, where it stands.
    edits: Option<Edits>,
}

/// Sets that are made anew.
#[derive(Default)]
struct Anew<'s> {
    sets: BTreeSet<&'s SetName>,
    /// Whether one of them stood, so that chains mention it which are what they were.
    stood: bool,
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

/// Those of sets of known addresses, and the others.
fn split(members: Members) -> (Members, Members) {
    let is_known = |name: &SetName| matches!(name.role, SetRole::Known { .. });
    if !members.keys().any(is_known) {
        return (Members::new(), members);
    }
    members.into_iter().partition(|(name, _)| is_known(name))
}

/// The chains and hooks that differ, or mention a set that is made anew; `None` where none do.
fn chains_update(
    family: Family,
    rules: &FamilyStructure,
    anew: &Anew<'_>,
    name_of: &dyn Fn(&SetName) -> SetName,
) -> Option<ChainsUpdate> {
    let FamilyStructure { hooks, chains, .. } = rules;
    let mut update = ChainsUpdate {
        family,
        replace: BTreeMap::new(),
        delete: BTreeSet::new(),
        hook: BTreeMap::new(),
        unhook: BTreeMap::new(),
    };
    for (name, _, now) in chains.changes() {
        match now {
            Some(chain) => {
                drop(update.replace.insert(name.clone(), chain.with_sets_called(name_of)));
            }
            None => drop(update.delete.insert(name.clone())),
        }
    }
    for (hook, was, now) in hooks.changes() {
        match (was, now) {
            (_, Some(rule)) => drop(update.hook.insert(*hook, rule.with_sets_called(name_of))),
            (Some(rule), None) => drop(update.unhook.insert(*hook, rule.clone())),
            (None, None) => {}
        }
    }
    if anew.stood {
        let is_anew =
            |condition: &Match| condition.set().is_some_and(|set| anew.sets.contains(set));
        let mentions = |rule: &Rule| rule.matches.iter().any(is_anew);
        for (name, chain) in chains.now() {
            if !chains.has_changed(name) && chain.rules.iter().any(mentions) {
                update.replace.insert(name.clone(), chain.with_sets_called(name_of));
            }
        }
        for (hook, rule) in hooks.now() {
            if !hooks.has_changed(hook) && mentions(rule) {
                update.hook.insert(*hook, rule.with_sets_called(name_of));
            }
        }
    }
    let empty = update.replace.is_empty()
        && update.delete.is_empty()
        && update.hook.is_empty()
        && update.unhook.is_empty();
    (!empty).then_some(update)
}
