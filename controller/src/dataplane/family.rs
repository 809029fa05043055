//! One family of the kernel's tables: whether it is in step, and how it gets there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, FamilyRules, Hook, Member, Rule, SetName};
use policy_compiler::update::{ChainsUpdate, Step, Update};
use tracing::{debug, error, warn};

use super::backend::has_ipv6;
use super::hooks;
use super::ipset::{self, FoundSets};
use super::iptables::{self, FoundTable, Transaction, words_of};
use super::leftovers::Leftovers;
use super::plan::{self, SetPlan};
use super::refusal::Refused;
use super::removal;
use super::renew::{Sets, Shift};
use super::sessions::SetError;
use super::{
    AsWritten, Changes, Drift, FamilyState, Kernel, Outcome, START, Seen, WriteError, error_chain,
};
use crate::again::Again;

/// The first and the longest pause before a chain that others hold is removed again.
const HELD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How often the hooks are looked at.
const HOOKS: Duration = Duration::from_secs(10);
/// The first and the longest pause before the rules that the kernel refuses are tried again: a module
/// may have come since.
const REFUSED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));

/// One family as far as we know it.
#[derive(Debug)]
pub(super) struct FamilyPlane {
    family: Family,
    /// Whether the kernel holds what was last wanted.
    in_step: bool,
    /// How many times something was set out to be changed.
    writes: u64,
    /// By what the kernel's generations differ from the engine's.
    shift: Shift,
    /// The rules of ours that stand first in built-in chains.
    hooked: BTreeMap<Hook, Rule>,
    /// Sets that nobody wants and that the kernel has not let go of.
    given_up: BTreeSet<String>,
    /// What the kernel refuses and is left out.
    refused: Refused,
    /// Chains that nobody wants, empty, which rules of others lead to.
    held: BTreeSet<ChainName>,
    remove_held: Again,
    /// What we left in the other backend.
    leftovers: Leftovers,
    /// Whether a reading failed that was to show whether the kernel is as it was written.
    doubtful: bool,
    /// Whether the kernel did not have this family when it was last to be written.
    absent: bool,
    /// What others have changed and was not put right yet.
    drift: Option<Drift>,
    /// When the hooks are looked at next.
    look_at: Instant,
    /// When the refused rules are tried again.
    retest: Again,
    /// What others have beside our rules, as far as was read.
    seen: Seen,
}

impl FamilyPlane {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            in_step: false,
            writes: 0,
            shift: Shift::default(),
            hooked: BTreeMap::new(),
            given_up: BTreeSet::new(),
            refused: Refused::default(),
            held: BTreeSet::new(),
            remove_held: Again::new(HELD),
            leftovers: Leftovers::new(),
            doubtful: false,
            absent: false,
            drift: None,
            look_at: Instant::now() + HOOKS,
            retest: Again::new(REFUSED),
            seen: Seen::default(),
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
            self.absent = true;
            return Outcome::Absent;
        }
        self.absent = false;
        if self.in_step {
            let steps = self.shift.steps(update, self.family);
            if steps.is_empty() {
                return if self.doubtful {
                    self.verify(kernel, desired)
                } else {
                    Outcome::Unchanged
                };
            }
            match self.carry_out(kernel, &steps) {
                Ok(changes) => {
                    if !self.refused.is_empty() {
                        self.refused.retain_wanted(&self.shift.rules(desired).chains);
                    }
                    return match self.doubtful.then(|| self.verify(kernel, desired)) {
                        Some(outcome @ (Outcome::Failed(_) | Outcome::Written(_))) => outcome,
                        _ => Outcome::Written(changes),
                    };
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
                self.doubtful = false;
                Outcome::Written(Changes { repaired: self.drift.take(), ..changes })
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    fn carry_out(&mut self, kernel: &Kernel, steps: &[Step]) -> Result<Changes, WriteError> {
        self.writes += 1;
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

    /// Carries out a transaction, then puts the first rules into built-in chains. A chain that the
    /// kernel will not remove is emptied instead, and removed later.
    fn commit(
        &mut self,
        kernel: &Kernel,
        transaction: &Transaction,
        first: &BTreeMap<Hook, Rule>,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        let carry_out = |transaction: &Transaction| {
            transaction.carry_out(&kernel.runner, kernel.backend, self.family)
        };
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
        self.look_at = Instant::now();
        for (hook, rule) in first {
            hooks::insert(&kernel.runner, kernel.backend, self.family, *hook, rule)
                .map_err(WriteError::Hook)?;
        }
        changes.chains_replaced += transaction.replace.len();
        changes.chains_deleted += transaction.delete.len();
        Ok(())
    }

    fn delete(&self, kernel: &Kernel, chains: &BTreeSet<ChainName>) -> BTreeSet<ChainName> {
        removal::delete(&kernel.runner, kernel.backend, self.family, chains)
    }

    /// Reads what stands there of ours and replaces it whole.
    fn start_over(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Result<Changes, WriteError> {
        self.writes += 1;
        let (table, mut sets) = self.read(kernel)?;
        self.seen.engines.clone_from(&table.engines);
        self.shift = Shift::beyond(ipset::newest(&sets), START);
        let desired = self.shift.rules(desired);
        let mut changes = Changes { whole: true, ..Changes::default() };
        self.sweep_unused(kernel, &desired, &mut sets);
        if let Some((set, kind)) = plan::of_another_kind(&desired, &sets) {
            let (set, kind) = (set.to_owned(), kind.to_owned());
            return Err(WriteError::AnotherKind { set, kind });
        }

        let plan = SetPlan::new(&desired, &sets);
        self.make(kernel, &plan, &mut changes)?;
        for (name, members) in &plan.add {
            changes.members_added += add(kernel, name, members)?;
        }
        self.held.retain(|chain| table.chains.contains(chain));
        let (transaction, first) = plan::replacement(&desired, &table);
        self.commit_what_is_taken(kernel, transaction, &first, &mut changes)?;
        self.hooked.clone_from(&desired.hooks);
        for (name, members) in &plan.remove {
            changes.members_removed += remove(kernel, name, members)?;
        }
        self.leftovers.search(kernel, self.family);
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
        self.retest.put_off();
        Ok(())
    }

    /// The rules that are left out because the kernel refuses them, in the words of iptables.
    pub(super) fn refused(&self) -> Vec<String> {
        self.refused.words()
    }

    /// See [`super::Dataplane::states`].
    pub(super) fn state(&self) -> FamilyState {
        match (self.absent, self.in_step) {
            (true, _) => FamilyState::Absent,
            (false, true) => FamilyState::InStep,
            (false, false) => FamilyState::OutOfStep,
        }
    }

    /// See [`super::Dataplane::written`].
    pub(super) fn written(&self, rules: &FamilyRules) -> AsWritten {
        AsWritten {
            state: self.state(),
            writes: self.writes,
            rules: self.as_written(rules),
            held: self.held.clone(),
            given_up: self.given_up.clone(),
        }
    }

    /// See [`super::Dataplane::as_written`].
    pub(super) fn as_written(&self, rules: &FamilyRules) -> FamilyRules {
        let rules = self.shift.rules(rules);
        FamilyRules { chains: self.refused.without(&rules.chains), ..rules }
    }

    fn read(&self, kernel: &Kernel) -> Result<(FoundTable, FoundSets), WriteError> {
        let table = iptables::read(&kernel.runner, kernel.backend, self.family)
            .map_err(WriteError::ReadTable)?;
        let sets = ipset::read(&kernel.runner, self.family).map_err(WriteError::ReadSets)?;
        Ok((table, sets))
    }

    /// Destroys what no rule refers to and nobody wants: what an earlier attempt left behind, or what
    /// bears a wanted name but is of another type. The kernel refuses where a rule does refer to it.
    fn sweep_unused(&mut self, kernel: &Kernel, desired: &FamilyRules, sets: &mut FoundSets) {
        let wanted: BTreeMap<String, &str> =
            desired.sets.keys().map(|name| (name.to_string(), ipset::kind_of(name))).collect();
        sets.retain(|name, set| {
            if wanted.get(name) == Some(&set.kind.as_str())
                || kernel.sessions.destroy(name).is_err()
            {
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

    /// See [`super::Dataplane::verify`].
    pub(super) fn verify(&mut self, kernel: &Kernel, desired: &FamilyRules) -> Outcome {
        if !self.in_step {
            return self.write(kernel, &Update::default(), desired);
        }
        let (table, sets) = match self.read(kernel) {
            Ok(found) => found,
            Err(error) => {
                // Until a reading succeeds, nobody knows.
                self.doubtful = true;
                return Outcome::Failed(error);
            }
        };
        self.doubtful = false;
        self.see_hooks(desired, &table);
        self.seen.engines.clone_from(&table.engines);
        self.held.retain(|chain| table.chains.contains(chain));
        let shifted = self.shift.rules(desired);
        if plan::is_as_desired(&shifted, &table, &sets, &self.held) {
            let mut changes = Changes::default();
            self.give_up_strays(&shifted, &sets, &mut changes);
            self.tidy(kernel);
            return Outcome::Unchanged;
        }
        warn!(family = %self.family, "rules are not as they were written, starting over");
        self.drift = Some(Drift::Names);
        self.in_step = false;
        self.write(kernel, &Update::default(), desired)
    }

    /// See [`super::Dataplane::look_again`].
    pub(super) fn look_again(&mut self, kernel: &Kernel, desired: &FamilyRules) -> bool {
        let now = Instant::now();
        if !self.in_step {
            // A failed write has its own retry; a family that the kernel lacked has none.
            return self.absent && has_ipv6();
        }
        if self.remove_held.is_due() {
            self.held = self.delete(kernel, &self.held);
            if self.held.is_empty() {
                self.remove_held.forget();
            } else {
                self.remove_held.put_off();
            }
        }
        self.leftovers.search_again(kernel, self.family);
        if self.refused.is_empty() {
            self.retest.forget();
        } else if self.retest.is_due() {
            self.retest.put_off();
            self.in_step = !self.refused.is_outdated(kernel, self.family);
        }
        if self.look_at <= now {
            self.look_at = now + HOOKS;
            self.look_at_hooks(kernel, desired);
        }
        !self.in_step || self.doubtful
    }

    fn look_at_hooks(&mut self, kernel: &Kernel, desired: &FamilyRules) {
        let mut table = FoundTable::default();
        for hook in desired.hooks.keys() {
            match hooks::read(&kernel.runner, kernel.backend, self.family, *hook) {
                Ok(found) => {
                    table.hooks.extend(found.hooks);
                    table.positions.extend(found.positions);
                }
                Err(error) => {
                    warn!(family = %self.family, error = %error_chain(&error), "cannot look at the hooks");
                    self.doubtful = true;
                    return;
                }
            }
        }
        if !plan::is_hooked(desired, &table) {
            warn!(family = %self.family, "the hooks are not as they were written, starting over");
            self.drift = Some(Drift::Hooks);
            self.in_step = false;
            // What the rules above ours lead to takes the whole table to see.
            match iptables::read(&kernel.runner, kernel.backend, self.family) {
                Ok(whole) => table = whole,
                Err(error) => {
                    warn!(family = %self.family, error = %error_chain(&error), "cannot look at what is above the hooks");
                }
            }
        }
        self.see_hooks(desired, &table);
    }

    fn see_hooks(&mut self, desired: &FamilyRules, found: &FoundTable) {
        let position = |hook: &Hook| (*hook, found.positions.get(hook).cloned());
        self.seen.hooks = desired.hooks.keys().map(position).collect();
    }

    /// See [`super::Dataplane::seen`].
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Why the kernel may deny what no policy denies, though the family is in step.
    pub(super) fn leftovers(&self) -> Option<&str> {
        self.leftovers.reason()
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

fn addresses(members: &BTreeSet<Member>) -> BTreeSet<IpAddr> {
    members.iter().map(|member| member.net.addr()).collect()
}

fn add(kernel: &Kernel, set: &SetName, members: &BTreeSet<Member>) -> Result<usize, WriteError> {
    kernel.sessions.add(&set.to_string(), &addresses(members)).map_err(WriteError::Members)
}

fn remove(kernel: &Kernel, set: &SetName, members: &BTreeSet<Member>) -> Result<usize, WriteError> {
    kernel.sessions.remove(&set.to_string(), &addresses(members)).map_err(WriteError::Members)
}
