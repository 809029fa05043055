//! What a start over does to what it finds, and whether anything is left to do.

use std::collections::BTreeMap;

use policy_compiler::ruleset::{AddressSet, FamilyRules, Hook, MemberSet, Rule, SetName, SetRole};

use super::ipset::{FoundSets, header_of};
use super::iptables::{FoundTable, Transaction};
use super::removal;
use super::renew::Sets;

/// What a start over does to sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SetPlan {
    pub(super) create: Sets,
    /// Sets that are there with another content and must change in one stroke.
    pub(super) replace: Sets,
    pub(super) add: BTreeMap<SetName, MemberSet>,
    pub(super) remove: BTreeMap<SetName, MemberSet>,
}

impl SetPlan {
    pub(super) fn new(desired: &FamilyRules, found: &FoundSets) -> Self {
        let mut plan = Self::default();
        for (name, set) in &desired.sets {
            match found.get(&name.to_string()) {
                None => {
                    plan.create.insert(name.clone(), set.clone());
                }
                Some(there) if there.is(name, set) => {}
                Some(there) if name.role == SetRole::Isolated => {
                    // Whatever old rules deny mid-stream stays denied until new rules stand.
                    plan.edit(name, set, &there.members);
                }
                Some(_) => {
                    plan.replace.insert(name.clone(), set.clone());
                }
            }
        }
        plan
    }

    fn edit(&mut self, name: &SetName, wanted: &AddressSet, there: &MemberSet) {
        let missing = wanted.members.difference(there);
        let extra = there.difference(&wanted.members);
        if !missing.is_empty() {
            self.add.insert(name.clone(), missing);
        }
        if !extra.is_empty() {
            self.remove.insert(name.clone(), extra);
        }
    }
}

/// The sets that bear a name of ours but are of a type that our rules cannot use, or have options that
/// ours do not have, with their headers.
pub(super) fn of_another_kind(
    desired: &FamilyRules,
    found: &FoundSets,
) -> BTreeMap<SetName, String> {
    let names = desired.sets.keys().filter_map(|name| {
        let there = found.get(&name.to_string())?;
        (there.header != header_of(name)).then(|| (name.clone(), there.header.clone()))
    });
    names.collect()
}

/// The transaction that replaces all that was found, and the hooks that have no rule yet.
pub(super) fn replacement(
    desired: &FamilyRules,
    found: &FoundTable,
) -> (Transaction, BTreeMap<Hook, Rule>) {
    let mut transaction = removal::whole(found);
    transaction.delete.retain(|chain| !desired.chains.contains_key(chain));
    transaction.replace.clone_from(&desired.chains);
    let (standing, first) =
        desired.hooks.clone().into_iter().partition(|(hook, _)| found.hooks.contains_key(hook));
    transaction.hook = standing;
    (transaction, first)
}
