//! Replacing everything of ours that stands in one family.
//!
//! ```text
//!  table   read ── nothing of ours: hooks, to empty chains ─┐
//!  sets    read ── those that are missing are made ─────────┴─ chains ── surplus members, strays
//! ```
//!
//! Whoever starts over does not know what the kernel holds, so that it is read first. Old rules enforce
//! until the one transaction that replaces them; chains that are new may be there before it, and no
//! rule leads to them, but for entry chains that are empty as long. Sets are made while the table is read:
//! no rule refers to one that is new, and members that old rules know are not taken away yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, FamilyRules, Hook, MemberSet, Rule, SetName, Target};
use tracing::{debug, error};

use super::FamilyPlane;
use super::steps::{add, remove};
use crate::dataplane::backend::Backend;
use crate::dataplane::ipset::{self, FoundSets};
use crate::dataplane::iptables::{self, FoundTable, Transaction};
use crate::dataplane::plan::{self, SetPlan};
use crate::dataplane::refusal::Refused;
use crate::dataplane::renew::Shift;
use crate::dataplane::sessions::SetError;
use crate::dataplane::without::without_sets;
use crate::dataplane::{Changes, Kernel, START, WriteError, error_chain, hooks};

/// How long the kernel may hold on to a set that no rule of ours refers to any more.
const LET_GO: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);
/// How many new chains one transaction takes with nft, which takes the longer for each the more there
/// are; with legacy the first costs as much as all.
const PART: usize = 500;

/// The sets of a family once those that were missing are made.
struct MadeSets {
    found: FoundSets,
    /// What the rules to come do not want of sets that were there.
    remove: BTreeMap<SetName, MemberSet>,
    /// What was changed so far.
    changes: Changes,
}

/// Table `filter` of a family as it was found.
struct Entry {
    table: FoundTable,
    /// Whether the hooks were put in since, and lead to chains that are empty.
    hooked: bool,
}

impl Entry {
    /// Reads the table. Where nothing of ours is in it the hooks are put in at once: each leads to a chain
    /// that is empty, and lets every packet by as before. With legacy that takes the longer the more rules
    /// there are, and there are fewest now.
    fn find(
        kernel: &Kernel,
        family: Family,
        hooks: &BTreeMap<Hook, Rule>,
    ) -> Result<Self, WriteError> {
        let mut table = iptables::read(&kernel.runner, kernel.backend, family)
            .map_err(WriteError::ReadTable)?;
        let hooked = !hooks.is_empty() && table.is_empty() && !table.hidden;
        if hooked {
            let entered = hooks.values().filter_map(|rule| match &rule.target {
                Target::Jump(chain) | Target::Goto(chain) => Some(chain.clone()),
                _ => None,
            });
            table.chains.extend(entered);
            let replace = table.chains.iter().map(|name| (name.clone(), Arc::default())).collect();
            let transaction = Transaction { replace, ..Transaction::default() };
            kernel.restore.carry_out(family, &transaction).map_err(WriteError::Chains)?;
            for (hook, rule) in hooks {
                hooks::insert(&kernel.runner, kernel.backend, family, *hook, rule)
                    .map_err(WriteError::Hook)?;
            }
        }
        Ok(Self { table, hooked })
    }
}

impl FamilyPlane {
    /// Reads what stands there of ours and replaces it whole. Sets are made while the table is read.
    pub(super) fn start_over(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Result<Changes, WriteError> {
        self.writes += 1;
        let (family, mut entered) = (self.family, None);
        let enter = || Entry::find(kernel, family, &desired.hooks);
        let sets = thread::scope(|scope| {
            let beside = || entered = Some(enter());
            // Without a thread to give it is done afterwards.
            let _ = thread::Builder::new().name("table".to_owned()).spawn_scoped(scope, beside);
            self.find_and_make_sets(kernel, desired)
        });
        let entry = entered.unwrap_or_else(enter)?;
        self.seen.engines.clone_from(&entry.table.engines);
        self.seen.hidden = entry.table.hidden;
        let (rules, sets, odd) = sets?;
        let changes = self.replace_all(kernel, &rules, &entry, sets)?;
        if odd.is_empty() {
            return Ok(changes);
        }
        self.let_go_of(kernel, odd)?;
        let (table, found) = self.read(kernel)?;
        self.shift = Shift::beyond(ipset::newest(&found), START);
        let rules = self.shift.rules(desired);
        let sets = self.make_sets(kernel, &rules, found)?;
        self.replace_all(kernel, &rules, &Entry { table, hooked: false }, sets)
    }

    /// Makes the sets that are wanted and not there, of a generation that was not found. Those of another
    /// type stand in the way of ours: they are named, and what looks them up is left out of the rules.
    fn find_and_make_sets(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Result<(FamilyRules, MadeSets, BTreeMap<SetName, String>), WriteError> {
        let mut found = ipset::read(&kernel.runner, self.family).map_err(WriteError::ReadSets)?;
        self.shift = Shift::beyond(ipset::newest(&found), START);
        let mut rules = self.shift.rules(desired);
        self.sweep_unused(kernel, &rules, &mut found);
        let odd = plan::of_another_kind(&rules, &found);
        if !odd.is_empty() {
            rules = without_sets(&rules, &odd.keys().cloned().collect());
            found.retain(|name, _| !odd.keys().any(|set| set.to_string() == *name));
        }
        let sets = self.make_sets(kernel, &rules, found)?;
        Ok((rules, sets, odd))
    }

    /// Makes the sets that are not there, and adds members to those that are; what is too much in them
    /// is left for later.
    fn make_sets(
        &mut self,
        kernel: &Kernel,
        rules: &FamilyRules,
        found: FoundSets,
    ) -> Result<MadeSets, WriteError> {
        let mut changes = Changes { whole: true, ..Changes::default() };
        let plan = SetPlan::new(rules, &found);
        self.make(kernel, &plan, &mut changes)?;
        for (name, members) in &plan.add {
            changes.members_added += add(kernel, name, members)?;
        }
        Ok(MadeSets { found, remove: plan.remove, changes })
    }

    /// Destroys sets that nothing of ours refers to any more; the kernel may need a moment.
    fn let_go_of(
        &mut self,
        kernel: &Kernel,
        sets: BTreeMap<SetName, String>,
    ) -> Result<(), WriteError> {
        let deadline = Instant::now() + LET_GO;
        for (name, kind) in sets {
            let set = name.to_string();
            while let Err(error) = kernel.sessions.destroy(&set) {
                match error {
                    SetError::Missing { .. } => break,
                    SetError::InUse { .. } if Instant::now() < deadline => thread::sleep(PAUSE),
                    _ => return Err(WriteError::AnotherKind { set, kind }),
                }
            }
            self.given_up.remove(&set);
            debug!(set, kind, "set of another type destroyed");
        }
        Ok(())
    }

    /// Replaces what was found by rules whose sets are there.
    fn replace_all(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
        entry: &Entry,
        sets: MadeSets,
    ) -> Result<Changes, WriteError> {
        let MadeSets { found, remove: surplus, mut changes } = sets;
        self.held.retain(|chain| entry.table.chains.contains(chain));
        let (transaction, mut first) = plan::replacement(desired, &entry.table);
        if entry.hooked {
            first.clear();
        }
        let there = &entry.table.chains;
        self.commit_what_is_taken(kernel, transaction, &first, there, &mut changes)?;
        self.hooked.clone_from(&desired.hooks);
        for (name, members) in &surplus {
            changes.members_removed += remove(kernel, name, members)?;
        }
        self.leftovers.search(kernel, self.family);
        self.give_up_strays(desired, &found, &mut changes);
        self.tidy(kernel);
        Ok(changes)
    }

    /// Commits, leaving out the rules that the kernel refuses. `found` are the chains that it had.
    fn commit_what_is_taken(
        &mut self,
        kernel: &Kernel,
        mut transaction: Transaction,
        first: &BTreeMap<Hook, Rule>,
        found: &BTreeSet<ChainName>,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        self.refused = Refused::default();
        let refusal = match self.commit_in_parts(kernel, &transaction, first, found, changes) {
            Err(WriteError::Chains(error)) => error,
            other => return other,
        };
        let refused = Refused::find(kernel, self.family, &transaction.replace, &refusal);
        if refused.is_empty() {
            return Err(WriteError::Chains(refusal));
        }
        transaction.replace = refused.without(&transaction.replace);
        self.commit_in_parts(kernel, &transaction, first, found, changes)?;
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

    /// Commits many new chains in several transactions where that is faster. No packet meets a chain
    /// before the last of them, which has all that stands already, with the hooks.
    fn commit_in_parts(
        &mut self,
        kernel: &Kernel,
        transaction: &Transaction,
        first: &BTreeMap<Hook, Rule>,
        found: &BTreeSet<ChainName>,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        let size = match kernel.backend {
            Backend::Nft => PART,
            Backend::Legacy => usize::MAX,
        };
        let (parts, last) = transaction.in_parts(found, size);
        for part in &parts {
            self.commit(kernel, part, &BTreeMap::new(), changes)?;
        }
        self.commit(kernel, &last, first, changes)
    }

    /// Destroys what no rule refers to and nobody wants: what an earlier attempt left behind, or what
    /// bears a wanted name but is of another type or has other options. The kernel refuses where a rule does refer to it.
    pub(super) fn sweep_unused(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
        sets: &mut FoundSets,
    ) {
        let wanted: BTreeMap<String, &str> =
            desired.sets.keys().map(|name| (name.to_string(), ipset::header_of(name))).collect();
        sets.retain(|name, set| {
            if wanted.get(name) == Some(&set.header.as_str())
                || kernel.sessions.destroy(name).is_err()
            {
                return true;
            }
            self.given_up.remove(name);
            debug!(set = name, "unused set destroyed");
            false
        });
    }

    pub(super) fn make(
        &mut self,
        kernel: &Kernel,
        plan: &SetPlan,
        changes: &mut Changes,
    ) -> Result<(), WriteError> {
        ipset::restore(&kernel.runner, self.family, &plan.create, &plan.replace)
            .map_err(WriteError::CreateSets)?;
        for sets in [&plan.create, &plan.replace] {
            changes.sets_created += sets.len();
            changes.members_added += sets.values().map(|s| s.members.len()).sum::<usize>();
        }
        Ok(())
    }

    pub(super) fn give_up_strays(
        &mut self,
        desired: &FamilyRules,
        sets: &FoundSets,
        changes: &mut Changes,
    ) {
        let wanted: BTreeSet<String> = desired.sets.keys().map(SetName::to_string).collect();
        let strays: Vec<&String> = sets.keys().filter(|name| !wanted.contains(*name)).collect();
        changes.sets_destroyed += strays.len();
        self.given_up.extend(strays.into_iter().cloned());
        self.given_up.retain(|name| !wanted.contains(name));
    }
}
