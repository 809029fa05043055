//! Putting right what somebody else has changed, and nothing else.
//!
//! Sets that are missing are made first, since rules refer to them; then one transaction replaces every
//! chain and every hook that is not as it was written; then sets that stand are brought to their members.
//! Nothing is opened in between: whatever is done leads from what somebody else made of the rules
//! towards what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::ruleset::{ChainName, FamilyRules, SetName};

use super::FamilyPlane;
use crate::dataplane::ipset::{self, kind_of};
use crate::dataplane::iptables::{FoundTable, HOOKS, Transaction};
use crate::dataplane::renew::Sets;
use crate::dataplane::verify::Difference;
use crate::dataplane::{Changes, Kernel, WriteError};

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Repair {
    create: Sets,
    /// Sets that are given their members, and their options, in one stroke.
    replace: Sets,
    add: BTreeMap<SetName, BTreeSet<IpAddr>>,
    remove: BTreeMap<SetName, BTreeSet<IpAddr>>,
    transaction: Transaction,
    /// Sets that nobody made.
    strays: BTreeSet<String>,
}

impl Repair {
    /// What makes `rules` of what was found, which has these differences. Nothing, where that takes a
    /// start over: rules that look a set of another type up would stand in the way of that set's end.
    pub(super) fn new(
        rules: &FamilyRules,
        found: &FoundTable,
        differences: &[Difference],
    ) -> Option<Self> {
        if differences.iter().any(is_of_another_type) {
            return None;
        }
        let mut repair = Self::default();
        let sets: BTreeMap<String, &SetName> =
            rules.sets.keys().map(|name| (name.to_string(), name)).collect();
        for difference in differences {
            use Difference as D;
            match difference {
                D::HookMissing { chain, .. }
                | D::HookNotFirst { chain, .. }
                | D::HookRepeated { chain, .. }
                | D::HookAltered { chain, .. }
                | D::HookUnknown { chain, .. } => repair.rehook(rules, found, chain),
                D::ChainMissing { chain }
                | D::ChainEmpty { chain, .. }
                | D::RuleMissing { chain, .. }
                | D::RuleUnknown { chain, .. }
                | D::RulesReordered { chain } => {
                    let chain = ChainName::new(chain).and_then(|n| rules.chains.get_key_value(&n));
                    let chain = chain.map(|(name, chain)| (name.clone(), chain.clone()));
                    repair.transaction.replace.extend(chain);
                }
                D::ChainUnknown { chain, .. } => {
                    repair.transaction.delete.extend(ChainName::new(chain));
                }
                D::SetUnknown { set } => _ = repair.strays.insert(set.clone()),
                D::SetMissing { set } => copy(rules, sets.get(set), &mut repair.create),
                D::SetHeader { set, .. } => copy(rules, sets.get(set), &mut repair.replace),
                D::MemberMissing { set, member } => {
                    let Some(name) = sets.get(set) else { continue };
                    match address(name, member) {
                        Some(address) => {
                            repair.add.entry((*name).clone()).or_default().insert(address);
                        }
                        None => copy(rules, Some(name), &mut repair.replace),
                    }
                }
                D::MemberUnknown { set, member } => {
                    let Some(name) = sets.get(set) else { continue };
                    match address(name, member) {
                        Some(address) => {
                            repair.remove.entry((*name).clone()).or_default().insert(address);
                        }
                        None => copy(rules, Some(name), &mut repair.replace),
                    }
                }
            }
        }
        let replaced = &repair.replace;
        repair.add.retain(|name, _| !replaced.contains_key(name));
        repair.remove.retain(|name, _| !replaced.contains_key(name));
        Some(repair)
    }

    /// Whether nothing is to be done. There may be differences that nothing can be done about: a chain
    /// whose name only begins as ours do.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes every rule that leads to us out of a built-in chain, and puts ours first where one is wanted.
    fn rehook(&mut self, rules: &FamilyRules, found: &FoundTable, builtin: &str) {
        let Some(hook) = HOOKS.into_iter().find(|hook| hook.builtin() == builtin) else { return };
        let unhook = &mut self.transaction.unhook;
        if unhook.iter().any(|(done, _)| *done == hook) {
            return;
        }
        let there = found.hooks.get(&hook).into_iter().flatten();
        unhook.extend(there.map(|rule| (hook, rule.words.clone())));
        self.transaction.hook.extend(rules.hooks.get(&hook).map(|rule| (hook, rule.clone())));
    }
}

fn is_of_another_type(difference: &Difference) -> bool {
    let kind = |header: &str| header.split(' ').next().map(str::to_owned);
    matches!(difference, Difference::SetHeader { expected, found, .. } if kind(expected) != kind(found))
}

fn copy(rules: &FamilyRules, name: Option<&&SetName>, to: &mut Sets) {
    let set = name.and_then(|name| rules.sets.get_key_value(*name));
    to.extend(set.map(|(name, set)| (name.clone(), set.clone())));
}

/// The address that a member is, where it is no more than that and its set can be edited.
fn address(set: &SetName, member: &str) -> Option<IpAddr> {
    (kind_of(set) == "hash:ip").then(|| member.parse().ok()).flatten()
}

impl FamilyPlane {
    /// Carries a repair out; `rules` are those that were written.
    pub(super) fn carry_out_repair(
        &mut self,
        kernel: &Kernel,
        rules: &FamilyRules,
        repair: Repair,
    ) -> Result<Changes, WriteError> {
        self.writes += 1;
        let mut changes = Changes::default();
        self.create(kernel, &repair.create, &mut changes)?;
        self.commit(kernel, &repair.transaction, &BTreeMap::new(), &mut changes)?;
        self.hooked.clone_from(&rules.hooks);
        ipset::restore(&kernel.runner, self.family, &BTreeMap::new(), &repair.replace)
            .map_err(WriteError::CreateSets)?;
        changes.sets_created += repair.replace.len();
        // Of what is in a set by somebody else's doing most is a permission.
        for (name, addresses) in &repair.remove {
            let removed = kernel.sessions.remove(&name.to_string(), addresses);
            changes.members_removed += removed.map_err(WriteError::Members)?;
        }
        for (name, addresses) in &repair.add {
            let added = kernel.sessions.add(&name.to_string(), addresses);
            changes.members_added += added.map_err(WriteError::Members)?;
        }
        changes.sets_destroyed += repair.strays.len();
        self.given_up.extend(repair.strays);
        self.tidy(kernel);
        Ok(changes)
    }
}
