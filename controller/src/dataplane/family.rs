//! One family of the kernel's tables: whether it is in step, and how it gets there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{AddressSet, FamilyRules, Hook, Member, Rule, SetName, Target};
use policy_compiler::update::{ChainsUpdate, Step, Update};
use tracing::{debug, error, info, warn};

use super::backend::has_ipv6;
use super::hooks;
use super::ipset::{self, FoundSets};
use super::iptables::{self, FoundTable, Transaction, words_of};
use super::refusal::Refused;
use super::renew::{Sets, Shift};
use super::sessions::SetError;
use super::{Changes, Kernel, Outcome, START, WriteError, error_chain};

/// One family as far as we know it.
#[derive(Debug)]
pub(super) struct FamilyPlane {
    family: Family,
    /// Whether the kernel holds what was last wanted.
    in_step: bool,
    /// By what the kernel's generations differ from the engine's.
    shift: Shift,
    /// The rules of ours that stand first in built-in chains.
    hooked: BTreeMap<Hook, Rule>,
    /// Sets that nobody wants and that the kernel has not let go of.
    given_up: BTreeSet<String>,
    /// What the kernel refuses and is left out.
    refused: Refused,
    /// Whether the other backend still has to be searched for what we left there.
    other_backend: bool,
}

impl FamilyPlane {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            in_step: false,
            shift: Shift::default(),
            hooked: BTreeMap::new(),
            given_up: BTreeSet::new(),
            refused: Refused::default(),
            other_backend: true,
        }
    }

    /// See [`super::Dataplane::write`].
    pub(super) fn write(
        &mut self,
        kernel: &Kernel,
        update: &Update,
        desired: &FamilyRules,
    ) -> Outcome {
        if self.family == Family::V6 && !has_ipv6() {
            return Outcome::Absent;
        }
        if self.in_step {
            let steps = self.shift.steps(update, self.family);
            if steps.is_empty() {
                return Outcome::Unchanged;
            }
            match self.carry_out(kernel, &steps) {
                Ok(changes) => {
                    if !self.refused.is_empty() {
                        self.refused.retain_wanted(&self.shift.rules(desired).chains);
                    }
                    return Outcome::Written(changes);
                }
                Err(error) => {
                    self.in_step = false;
                    warn!(family = %self.family, error = %error_chain(&error), "write failed, starting over");
                }
            }
        }
        match self.start_over(kernel, desired) {
            Ok(changes) => {
                self.in_step = true;
                Outcome::Written(changes)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    fn carry_out(&mut self, kernel: &Kernel, steps: &[Step]) -> Result<Changes, WriteError> {
        let mut changes = Changes::default();
        for step in steps {
            match step {
                Step::CreateSets(sets) => self.create(kernel, sets, &mut changes)?,
                Step::AddMembers(sets) => {
                    for (name, members) in sets {
                        changes.members_added += add(kernel, name, members)?;
                    }
                }
                Step::ReplaceChains(update) => self.replace_chains(kernel, update, &mut changes)?,
                Step::RemoveMembers(sets) => {
                    for (name, members) in sets {
                        changes.members_removed += remove(kernel, name, members)?;
                    }
                }
                Step::DestroySets(names) => {
                    changes.sets_destroyed += names.len();
                    self.given_up.extend(names.iter().map(SetName::to_string));
                }
            }
        }
        self.tidy(kernel);
        Ok(changes)
    }

    /// Makes sets. One that was given up and is still there is first tried to be destroyed; where
    /// the kernel still refers to it, it is given its members in one stroke.
    fn create(
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
        let text = ipset::restore_text(self.family, &create, &replace);
        ipset::restore(&kernel.runner, &text).map_err(WriteError::CreateSets)?;
        changes.sets_created += sets.len();
        changes.members_added += sets.values().map(|set| set.members.len()).sum::<usize>();
        Ok(())
    }

    fn replace_chains(
        &mut self,
        kernel: &Kernel,
        update: &ChainsUpdate,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
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

    /// Carries out a transaction, then puts the first rules into built-in chains.
    fn commit(
        &self,
        kernel: &Kernel,
        transaction: &Transaction,
        first: &BTreeMap<Hook, Rule>,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        transaction
            .carry_out(&kernel.runner, kernel.backend, self.family)
            .map_err(WriteError::Chains)?;
        for (hook, rule) in first {
            hooks::insert(&kernel.runner, kernel.backend, self.family, *hook, rule)
                .map_err(WriteError::Hook)?;
        }
        changes.chains_replaced += transaction.replace.len();
        changes.chains_deleted += transaction.delete.len();
        Ok(())
    }

    /// Reads what stands there of ours and replaces it whole.
    fn start_over(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Result<Changes, WriteError> {
        let (table, mut sets) = self.read(kernel)?;
        self.shift = Shift::beyond(ipset::newest(&sets), START);
        let desired = self.shift.rules(desired);
        let mut changes = Changes { whole: true, ..Changes::default() };
        self.sweep_unused(kernel, &desired, &mut sets);

        let plan = SetPlan::new(&desired, &sets);
        self.make(kernel, &plan, &mut changes)?;
        for (name, members) in &plan.add {
            changes.members_added += add(kernel, name, members)?;
        }
        let (transaction, first) = replacement(&desired, &table);
        self.commit_what_is_taken(kernel, transaction, &first, &mut changes)?;
        self.hooked.clone_from(&desired.hooks);
        for (name, members) in &plan.remove {
            changes.members_removed += remove(kernel, name, members)?;
        }
        self.search_other_backend(kernel);
        self.give_up_strays(&desired, &sets, &mut changes);
        self.tidy(kernel);
        Ok(changes)
    }

    /// Commits, leaving out the rules that the kernel refuses.
    fn commit_what_is_taken(
        &mut self,
        kernel: &Kernel,
        mut transaction: Transaction,
        first: &BTreeMap<Hook, Rule>,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        self.refused = Refused::default();
        let refusal = match self.commit(kernel, &transaction, first, changes) {
            Err(WriteError::Chains(error)) => error,
            other => return other,
        };
        let refused = Refused::find(kernel, self.family, &transaction.replace, &refusal);
        if refused.is_empty() {
            return Err(WriteError::Chains(refusal));
        }
        transaction.replace = refused.without(&transaction.replace);
        self.commit(kernel, &transaction, first, changes)?;
        for rule in refused.words() {
            error!(
                family = %self.family, rule, error = %error_chain(&refusal),
                "the kernel refuses a rule, and what it would allow stays denied"
            );
        }
        self.refused = refused;
        Ok(())
    }

    /// The rules that are left out because the kernel refuses them, in the words of iptables.
    pub(super) fn refused(&self) -> Vec<String> {
        self.refused.words()
    }

    fn read(&self, kernel: &Kernel) -> Result<(FoundTable, FoundSets), WriteError> {
        let table = iptables::read(&kernel.runner, kernel.backend, self.family)
            .map_err(WriteError::ReadTable)?;
        let [v4, v6] = ipset::read(&kernel.runner).map_err(WriteError::ReadSets)?;
        let sets = match self.family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        Ok((table, sets))
    }

    /// Destroys what no rule refers to and nobody wants: what an earlier attempt left behind. The
    /// kernel refuses where a rule does refer to it.
    fn sweep_unused(&mut self, kernel: &Kernel, desired: &FamilyRules, sets: &mut FoundSets) {
        let wanted: BTreeSet<String> = desired.sets.keys().map(SetName::to_string).collect();
        sets.retain(|name, _| {
            if wanted.contains(name) || kernel.sessions.destroy(name).is_err() {
                return true;
            }
            self.given_up.remove(name);
            debug!(set = name, "unused set destroyed");
            false
        });
    }

    fn make(
        &mut self,
        kernel: &Kernel,
        plan: &SetPlan,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        let text = ipset::restore_text(self.family, &plan.create, &plan.replace);
        ipset::restore(&kernel.runner, &text).map_err(WriteError::CreateSets)?;
        for sets in [&plan.create, &plan.replace] {
            changes.sets_created += sets.len();
            changes.members_added += sets.values().map(|s| s.members.len()).sum::<usize>();
        }
        Ok(())
    }

    fn give_up_strays(&mut self, desired: &FamilyRules, sets: &FoundSets, changes: &mut Changes) {
        let wanted: BTreeSet<String> = desired.sets.keys().map(SetName::to_string).collect();
        let strays: Vec<&String> = sets.keys().filter(|name| !wanted.contains(*name)).collect();
        changes.sets_destroyed += strays.len();
        self.given_up.extend(strays.into_iter().cloned());
        self.given_up.retain(|name| !wanted.contains(name));
    }

    /// Removes what we left in the other backend. Failing there is no failure of the write: the
    /// rules that are left are older, and only deny more.
    fn search_other_backend(&mut self, kernel: &Kernel) {
        if !std::mem::take(&mut self.other_backend) {
            return;
        }
        let other = kernel.backend.other();
        let found = match iptables::read_if_used(&kernel.runner, other, self.family) {
            Ok(found) if found.is_empty() => return,
            Ok(found) => found,
            Err(error) => {
                debug!(backend = %other, error = %error_chain(&error), "other backend not searched");
                return;
            }
        };
        let removed = removal(&found).carry_out(&kernel.runner, other, self.family);
        match removed {
            Ok(()) => info!(
                family = %self.family, backend = %other, chains = found.chains.len(),
                "removed leftovers from the other backend"
            ),
            Err(error) => warn!(
                family = %self.family, backend = %other, error = %error_chain(&error),
                "cannot remove leftovers from the other backend"
            ),
        }
    }

    /// See [`super::Dataplane::verify`].
    pub(super) fn verify(&mut self, kernel: &Kernel, desired: &FamilyRules) -> Outcome {
        if !self.in_step {
            return self.write(kernel, &Update::default(), desired);
        }
        let (table, sets) = match self.read(kernel) {
            Ok(found) => found,
            Err(error) => return Outcome::Failed(error),
        };
        let shifted = self.shift.rules(desired);
        if is_as_desired(&shifted, &table, &sets) {
            let mut changes = Changes::default();
            self.give_up_strays(&shifted, &sets, &mut changes);
            self.tidy(kernel);
            return Outcome::Unchanged;
        }
        warn!(family = %self.family, "rules are not as they were written, starting over");
        self.in_step = false;
        self.write(kernel, &Update::default(), desired)
    }

    /// See [`super::Dataplane::tidy`].
    pub(super) fn tidy(&mut self, kernel: &Kernel) -> usize {
        self.given_up.retain(|name| match kernel.sessions.destroy(name) {
            Ok(()) | Err(SetError::Missing { .. }) => false,
            Err(SetError::InUse { .. }) => true,
            Err(error) => {
                debug!(set = name, %error, "set not destroyed");
                true
            }
        });
        self.given_up.len()
    }
}

/// What a start over does to sets.
#[derive(Debug, Default, PartialEq, Eq)]
struct SetPlan {
    create: Sets,
    /// Sets that are there with another content and must change in one stroke.
    replace: Sets,
    add: BTreeMap<SetName, BTreeSet<Member>>,
    remove: BTreeMap<SetName, BTreeSet<Member>>,
}

impl SetPlan {
    fn new(desired: &FamilyRules, found: &FoundSets) -> Self {
        let mut plan = Self::default();
        for (name, set) in &desired.sets {
            match found.get(&name.to_string()) {
                None => {
                    plan.create.insert(name.clone(), set.clone());
                }
                Some(there) if there.is(name, set) => {}
                Some(there) if name.role == policy_compiler::ruleset::SetRole::Isolated => {
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

    fn edit(&mut self, name: &SetName, wanted: &AddressSet, there: &BTreeSet<Member>) {
        let missing: BTreeSet<Member> = wanted.members.difference(there).copied().collect();
        let extra: BTreeSet<Member> = there.difference(&wanted.members).copied().collect();
        if !missing.is_empty() {
            self.add.insert(name.clone(), missing);
        }
        if !extra.is_empty() {
            self.remove.insert(name.clone(), extra);
        }
    }
}

/// The transaction that replaces all that was found, and the hooks that have no rule yet.
fn replacement(desired: &FamilyRules, found: &FoundTable) -> (Transaction, BTreeMap<Hook, Rule>) {
    let mut transaction = removal(found);
    transaction.delete.retain(|chain| !desired.chains.contains_key(chain));
    transaction.replace.clone_from(&desired.chains);
    let (standing, first) =
        desired.hooks.clone().into_iter().partition(|(hook, _)| found.hooks.contains_key(hook));
    transaction.hook = standing;
    (transaction, first)
}

/// The transaction that removes all that was found.
pub(super) fn removal(found: &FoundTable) -> Transaction {
    let copies = found.hooks.iter();
    Transaction {
        delete: found.chains.clone(),
        unhook: copies
            .flat_map(|(hook, rules)| rules.iter().map(|rule| (*hook, rule.words.clone())))
            .collect(),
        ..Transaction::default()
    }
}

/// Whether chains, hooks and sets bear the names that they should. What they hold is not compared.
fn is_as_desired(desired: &FamilyRules, table: &FoundTable, sets: &FoundSets) -> bool {
    let hooked = desired.hooks.iter().all(|(hook, rule)| match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) => table.is_hooked(*hook, chain.as_str()),
        Target::Return | Target::Deny(_) => true,
    });
    hooked
        && table.hooks.keys().all(|hook| desired.hooks.contains_key(hook))
        && table.chains.iter().eq(desired.chains.keys())
        && desired.sets.keys().all(|name| sets.contains_key(&name.to_string()))
}

fn addresses(members: &BTreeSet<Member>) -> BTreeSet<IpAddr> {
    members.iter().map(|member| member.net.addr()).collect()
}

fn add(kernel: &Kernel, set: &SetName, members: &BTreeSet<Member>) -> Result<usize, WriteError> {
    kernel.sessions.add(&set.to_string(), &addresses(members)).map_err(WriteError::Members)
}

fn remove(kernel: &Kernel, set: &SetName, members: &BTreeSet<Member>) -> Result<usize, WriteError> {
    kernel.sessions.remove(&set.to_string(), &addresses(members)).map_err(WriteError::Members)
}
