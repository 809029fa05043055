//! Replacing everything of ours that stands in one family.
//!
//! Whoever starts over does not know what the kernel holds, so that it is read first. Old rules enforce
//! until the one transaction that replaces them; chains that are new may be there before it, and no
//! rule leads to them.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::ruleset::{ChainName, FamilyRules, Hook, Rule, SetName};
use tracing::{debug, error};

use super::FamilyPlane;
use super::steps::{add, remove};
use crate::dataplane::backend::Backend;
use crate::dataplane::ipset::{self, FoundSets};
use crate::dataplane::iptables::{FoundTable, Transaction};
use crate::dataplane::plan::{self, SetPlan};
use crate::dataplane::refusal::Refused;
use crate::dataplane::renew::Shift;
use crate::dataplane::sessions::SetError;
use crate::dataplane::without::without_sets;
use crate::dataplane::{Changes, Kernel, START, WriteError, error_chain};

/// How long the kernel may hold on to a set that no rule of ours refers to any more.
const LET_GO: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);
/// How many new chains one transaction takes with nft, which takes the longer for each the more there
/// are; with legacy the first costs as much as all.
const PART: usize = 500;

impl FamilyPlane {
    /// Reads what stands there of ours and replaces it whole.
    pub(super) fn start_over(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Result<Changes, WriteError> {
        self.writes += 1;
        let found = self.read(kernel)?;
        self.seen.engines.clone_from(&found.0.engines);
        self.seen.hidden = found.0.hidden;
        self.shift = Shift::beyond(ipset::newest(&found.1), START);
        let shifted = self.shift.rules(desired);
        let (table, mut sets) = found;
        self.sweep_unused(kernel, &shifted, &mut sets);
        let odd = plan::of_another_kind(&shifted, &sets);
        if odd.is_empty() {
            return self.replace_all(kernel, &shifted, &table, &sets);
        }
        let rules = without_sets(&shifted, &odd.keys().cloned().collect());
        sets.retain(|name, _| !odd.keys().any(|set| set.to_string() == *name));
        self.replace_all(kernel, &rules, &table, &sets)?;
        self.let_go_of(kernel, odd)?;
        let (table, sets) = self.read(kernel)?;
        self.shift = Shift::beyond(ipset::newest(&sets), START);
        let shifted = self.shift.rules(desired);
        self.replace_all(kernel, &shifted, &table, &sets)
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

    /// Replaces what was found by rules whose sets are found as they are wanted, or not at all.
    fn replace_all(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
        table: &FoundTable,
        sets: &FoundSets,
    ) -> Result<Changes, WriteError> {
        let mut changes = Changes { whole: true, ..Changes::default() };
        let plan = SetPlan::new(desired, sets);
        self.make(kernel, &plan, &mut changes)?;
        for (name, members) in &plan.add {
            changes.members_added += add(kernel, name, members)?;
        }
        self.held.retain(|chain| table.chains.contains(chain));
        let (transaction, first) = plan::replacement(desired, table);
        self.commit_what_is_taken(kernel, transaction, &first, &table.chains, &mut changes)?;
        self.hooked.clone_from(&desired.hooks);
        for (name, members) in &plan.remove {
            changes.members_removed += remove(kernel, name, members)?;
        }
        self.leftovers.search(kernel, self.family);
        self.give_up_strays(desired, sets, &mut changes);
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
