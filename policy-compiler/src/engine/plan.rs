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

use super::program::{frozen, without_generation};
use crate::cidr::Family;
use crate::ruleset::{
    AddressSet, Chain, FamilyRules, Generation, Member, Rule, Ruleset, SetName, SetRole,
};
use crate::update::{ChainsUpdate, Step, Update};

/// Where an update leads, and by which steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The new ruleset with the generations that its sets have in the kernel.
    pub ruleset: Ruleset,
    /// The steps from the old one.
    pub update: Update,
}

/// Plans the way from `old`, which has the generations of the kernel, to `new`, whose generations do
/// not count. Sets that have to be made are made in generation `fresh`, which no set of `old` has.
#[must_use]
pub fn plan(old: &Ruleset, new: &Ruleset, fresh: Generation) -> Plan {
    let ruleset =
        Ruleset { v4: assign(&old.v4, &new.v4, fresh), v6: assign(&old.v6, &new.v6, fresh) };
    let update = Update { steps: steps(old, &ruleset) };
    Plan { ruleset, update }
}

/// `new` with the names under which its sets are to be in the kernel.
fn assign(old: &FamilyRules, new: &FamilyRules, fresh: Generation) -> FamilyRules {
    let old_rules = renamed(old, &without_generation);
    let new_rules = renamed(new, &without_generation);
    let frozen = frozen(&old_rules, &new_rules);
    let live: BTreeMap<SetName, &SetName> =
        old.sets.keys().map(|name| (without_generation(name), name)).collect();
    let name_of = |set: &SetName| {
        let wanted = without_generation(set);
        match live.get(&wanted) {
            Some(name) if old.sets.get(*name) == new_rules.sets.get(&wanted) => (*name).clone(),
            Some(name) if !frozen.contains(&wanted) => (*name).clone(),
            _ => wanted.in_generation(fresh),
        }
    };
    renamed(&new_rules, &name_of)
}

/// `rules` with every set called as `name_of` says.
fn renamed(rules: &FamilyRules, name_of: &dyn Fn(&SetName) -> SetName) -> FamilyRules {
    let rename = |rule: &Rule| {
        let matches = rule.matches.iter().map(|condition| condition.with_set_called(name_of));
        Rule {
            matches: matches.collect(),
            comment: rule.comment.clone(),
            target: rule.target.clone(),
        }
    };
    let chains = rules.chains.iter().map(|(name, chain)| {
        (name.clone(), Chain { rules: chain.rules.iter().map(rename).collect() })
    });
    FamilyRules {
        hooks: rules.hooks.iter().map(|(hook, rule)| (*hook, rename(rule))).collect(),
        chains: chains.collect(),
        sets: rules.sets.iter().map(|(name, set)| (name_of(name), set.clone())).collect(),
    }
}

fn steps(old: &Ruleset, new: &Ruleset) -> Vec<Step> {
    let mut steps = Vec::new();
    let create = only_in(new, old);
    if !create.is_empty() {
        let contents = create.into_iter().map(|(name, set)| (name.clone(), set.clone()));
        steps.push(Step::CreateSets(contents.collect()));
    }
    let (forget, remove) = split(surplus(old, new));
    let (admit, add) = split(surplus(new, old));
    if !forget.is_empty() {
        steps.push(Step::RemoveMembers(forget));
    }
    if !add.is_empty() {
        steps.push(Step::AddMembers(add));
    }
    for family in Family::ALL {
        let update = chains_update(family, old.family(family), new.family(family));
        steps.extend(update.map(Step::ReplaceChains));
    }
    if !remove.is_empty() {
        steps.push(Step::RemoveMembers(remove));
    }
    if !admit.is_empty() {
        steps.push(Step::AddMembers(admit));
    }
    let destroy: BTreeSet<SetName> =
        only_in(old, new).into_iter().map(|(name, _)| name.clone()).collect();
    if !destroy.is_empty() {
        steps.push(Step::DestroySets(destroy));
    }
    steps
}

fn sets(ruleset: &Ruleset) -> impl Iterator<Item = (&SetName, &AddressSet)> {
    ruleset.v4.sets.iter().chain(&ruleset.v6.sets)
}

/// The sets that are in `here` and not in `there`.
fn only_in<'a>(here: &'a Ruleset, there: &Ruleset) -> Vec<(&'a SetName, &'a AddressSet)> {
    sets(here).filter(|(name, _)| !there.family(name.family).sets.contains_key(*name)).collect()
}

/// Members by set.
pub(super) type Members = BTreeMap<SetName, BTreeSet<Member>>;

/// Those of sets of known addresses, and the others.
fn split(members: Members) -> (Members, Members) {
    members.into_iter().partition(|(name, _)| matches!(name.role, SetRole::Known { .. }))
}

/// What the sets of both have in `here` and not in `there`.
fn surplus(here: &Ruleset, there: &Ruleset) -> Members {
    let mut surplus = Members::new();
    for (name, set) in sets(here) {
        let Some(other) = there.family(name.family).sets.get(name) else { continue };
        let members: BTreeSet<Member> = set.members.difference(&other.members).copied().collect();
        if !members.is_empty() {
            surplus.insert(name.clone(), members);
        }
    }
    surplus
}

/// The chains and hooks that differ; `None` where none do.
fn chains_update(family: Family, old: &FamilyRules, new: &FamilyRules) -> Option<ChainsUpdate> {
    let changed = new.chains.iter().filter(|(name, chain)| old.chains.get(name) != Some(chain));
    let gone = old.chains.keys().filter(|name| !new.chains.contains_key(name));
    let hooked = new.hooks.iter().filter(|(hook, rule)| old.hooks.get(hook) != Some(rule));
    let unhooked = old.hooks.iter().filter(|(hook, _)| !new.hooks.contains_key(hook));
    let update = ChainsUpdate {
        family,
        replace: changed.map(|(name, chain)| (name.clone(), chain.clone())).collect(),
        delete: gone.cloned().collect(),
        hook: hooked.map(|(hook, rule)| (*hook, rule.clone())).collect(),
        unhook: unhooked.map(|(hook, rule)| (*hook, rule.clone())).collect(),
    };
    let empty = update.replace.is_empty()
        && update.delete.is_empty()
        && update.hook.is_empty()
        && update.unhook.is_empty();
    (!empty).then_some(update)
}
