//! Carrying out the steps of an update that are more than members: making sets, replacing chains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::ruleset::{ChainName, Hook, MemberSet, Rule, SetName};
use policy_compiler::update::ChainsUpdate;
use tracing::warn;

use super::FamilyPlane;
use crate::dataplane::iptables::{Transaction, words_of};
use crate::dataplane::renew::Sets;
use crate::dataplane::sessions::SetError;
use crate::dataplane::{Changes, Kernel, WriteError, hooks, ipset, removal};

impl FamilyPlane {
    /// Makes sets, few and small ones without a process. One that was given up and is still there is
    /// first tried to be destroyed; where the kernel still refers to it, it is given its members in one
    /// stroke.
    pub(super) fn create(
        &mut self,
        kernel: &Kernel,
        sets: &Sets,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        let mut create = sets.clone();
        let mut replace = Sets::new();
        for (name, set) in sets {
            let text = name.to_string();
            if self.given_up.remove(&text)
                && matches!(kernel.sessions.destroy(&text), Err(SetError::InUse { .. }))
            {
                create.remove(name);
                replace.insert(name.clone(), set.clone());
            }
        }
        if replace.is_empty()
            && let Some(few) = ipset::few(&create)
        {
            kernel.sessions.create(few).map_err(WriteError::MakeSets)?;
        } else {
            ipset::restore(&kernel.runner, self.family, &create, &replace)
                .map_err(WriteError::CreateSets)?;
        }
        changes.sets_created += sets.len();
        changes.members_added += sets.values().map(|set| set.members.len()).sum::<usize>();
        Ok(())
    }

    pub(super) fn replace_chains(
        &mut self,
        kernel: &Kernel,
        update: &ChainsUpdate,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        if !self.refused.places(&update.replace).is_empty() {
            // Whoever writes such a rule anew may know that the kernel takes it now.
            self.retest.hurry();
        }
        let mut transaction = Transaction {
            replace: self.refused.without(&update.replace),
            delete: update.delete.clone(),
            ..Transaction::default()
        };
        let mut first = BTreeMap::new();
        for hook in update.unhook.keys() {
            if let Some(rule) = self.hooked.get(hook) {
                transaction.unhook.push((*hook, words_of(rule)));
            }
        }
        for (hook, rule) in &update.hook {
            match self.hooked.get(hook) {
                None => {
                    first.insert(*hook, rule.clone());
                }
                Some(old) => {
                    if !update.unhook.contains_key(hook) {
                        transaction.unhook.push((*hook, words_of(old)));
                    }
                    transaction.hook.insert(*hook, rule.clone());
                }
            }
        }
        self.commit(kernel, &transaction, &first, changes)?;
        self.hooked.retain(|hook, _| !update.unhook.contains_key(hook));
        self.hooked.extend(update.hook.clone());
        Ok(())
    }

    /// Carries out a transaction, then puts the first rules into built-in chains. A chain that the
    /// kernel will not remove is emptied instead, and removed later.
    pub(super) fn commit(
        &mut self,
        kernel: &Kernel,
        transaction: &Transaction,
        first: &BTreeMap<Hook, Rule>,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        let carry_out =
            |transaction: &Transaction| kernel.restore.carry_out(self.family, transaction);
        let mut held = BTreeSet::new();
        match carry_out(transaction) {
            Ok(()) => {}
            Err(error) if error.is_refusal() && !transaction.delete.is_empty() => {
                carry_out(&removal::emptying(transaction)).map_err(WriteError::Chains)?;
                held = self.delete(kernel, &transaction.delete);
            }
            Err(error) => return Err(WriteError::Chains(error)),
        }
        for chain in held.difference(&self.held) {
            warn!(family = %self.family, %chain, "a rule of others leads to a chain that is no more; it is empty");
        }
        self.held.retain(|chain| !transaction.replace.contains_key(chain));
        if !held.is_empty() {
            self.held.extend(held);
            self.remove_held.put_off();
        }
        for (hook, rule) in first {
            hooks::insert(&kernel.runner, kernel.backend, self.family, *hook, rule)
                .map_err(WriteError::Hook)?;
        }
        changes.chains_replaced += transaction.replace.len();
        changes.chains_deleted += transaction.delete.len();
        Ok(())
    }

    pub(super) fn delete(
        &self,
        kernel: &Kernel,
        chains: &BTreeSet<ChainName>,
    ) -> BTreeSet<ChainName> {
        removal::delete(&kernel.restore, self.family, chains)
    }
}

fn addresses(members: &MemberSet) -> BTreeSet<IpAddr> {
    members.addresses().collect()
}

pub(super) fn add(
    kernel: &Kernel,
    set: &SetName,
    members: &MemberSet,
) -> Result<usize, WriteError> {
    kernel.sessions.add(&set.to_string(), &addresses(members)).map_err(WriteError::Members)
}

pub(super) fn remove(
    kernel: &Kernel,
    set: &SetName,
    members: &MemberSet,
) -> Result<usize, WriteError> {
    kernel.sessions.remove(&set.to_string(), &addresses(members)).map_err(WriteError::Members)
}
