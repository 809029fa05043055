//! One family of the kernel's tables: whether it is in step, and how it gets there.
//!
//! ```text
//!  write ── in step ──> steps      an update's steps, in order
//!    │  └── not so ───> whole      what stands there of ours is replaced
//!  verify, follow_up ──> watch     is it still there?
//!                          └─────> repair     what others changed is put right
//! ```

mod contest;
mod repair;
mod steps;
mod watch;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, FamilyRules, Hook, Rule, SetName};
use policy_compiler::update::{Reach, Step, Update};
use tracing::{debug, warn};

use self::steps::{add, remove};
use self::watch::Watch;
use super::backend::has_ipv6;
use super::ipset::{self, FoundSets};
use super::iptables::{self, FoundTable};
use super::leftovers::Leftovers;
use super::refusal::Refused;
use super::renew::Shift;
use super::sessions::SetError;
use super::{
    AsWritten, Changes, Drift, FamilyState, Kernel, LeftOut, Outcome, Seen, WriteError, error_chain,
};
use crate::again::Again;

/// The first and the longest pause before a chain that others hold is removed again.
const HELD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
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
    drift: BTreeSet<Drift>,
    watch: Watch,
    /// When the refused rules are tried again.
    retest: Again,
    /// What others have beside our rules, as far as was read.
    seen: Seen,
}

impl FamilyPlane {
    pub(in crate::dataplane) fn new(family: Family) -> Self {
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
            drift: BTreeSet::new(),
            watch: Watch::default(),
            retest: Again::new(REFUSED),
            seen: Seen::default(),
        }
    }

    /// Forgets what is only true of the backend that was written to until now: what stands there is what
    /// the next start over leaves behind.
    pub(in crate::dataplane) fn start_elsewhere(&mut self) {
        self.in_step = false;
        self.held.clear();
        self.remove_held.forget();
        self.leftovers = Leftovers::new();
        self.drift.clear();
        self.watch = Watch::default();
    }

    /// See [`crate::dataplane::Dataplane::write`].
    pub(in crate::dataplane) fn write(
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
                    if error.is_kept_waiting() {
                        return Outcome::Failed(error);
                    }
                }
            }
        }
        match self.start_over(kernel, desired) {
            Ok(changes) => {
                self.in_step = true;
                self.doubtful = false;
                Outcome::Written(Changes { repaired: std::mem::take(&mut self.drift), ..changes })
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Whether to carry `update` out takes more than a call or two: chains change, or all is written anew.
    pub(in crate::dataplane) fn is_slow(&self, update: &Update) -> bool {
        let changes_chains = |step: &Step| matches!(step, Step::ReplaceChains(chains) if chains.family == self.family);
        !self.in_step || update.steps.iter().any(changes_chains)
    }

    /// See [`crate::dataplane::Dataplane::write_members`].
    pub(in crate::dataplane) fn write_members(
        &mut self,
        kernel: &Kernel,
        update: &Update,
    ) -> Outcome {
        debug_assert!(update.reach() <= Reach::Members, "{update:?}");
        let steps = self.shift.steps(update, self.family);
        if !self.in_step || steps.is_empty() {
            return Outcome::Unchanged;
        }
        match self.carry_out(kernel, &steps) {
            Ok(changes) => Outcome::Written(changes),
            Err(error) => {
                self.in_step = false;
                warn!(family = %self.family, error = %error_chain(&error), "members not written, starting over");
                Outcome::Failed(error)
            }
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
        Ok(changes)
    }

    /// The rules that are left out because the kernel refuses them, in the words of iptables.
    pub(in crate::dataplane) fn refused(&self) -> Vec<String> {
        self.refused.words()
    }

    /// See [`crate::dataplane::Dataplane::left_out`].
    pub(in crate::dataplane) fn left_out(&self, desired: &FamilyRules) -> Vec<LeftOut> {
        if self.refused.is_empty() {
            return Vec::new();
        }
        let wanted = self.shift.rules(desired).chains;
        let left_out = self.refused.places(&wanted).into_iter().map(|(rule, chains)| LeftOut {
            family: self.family,
            rule: rule.clone(),
            chains,
        });
        left_out.collect()
    }

    /// See [`crate::dataplane::Dataplane::states`].
    pub(in crate::dataplane) fn state(&self) -> FamilyState {
        match (self.absent, self.in_step) {
            (true, _) => FamilyState::Absent,
            (false, true) => FamilyState::InStep,
            (false, false) => FamilyState::OutOfStep,
        }
    }

    /// See [`crate::dataplane::Dataplane::written`].
    pub(in crate::dataplane) fn written(&self, rules: &FamilyRules) -> AsWritten {
        AsWritten {
            state: self.state(),
            writes: self.writes,
            rules: self.as_written(rules),
            held: self.held.clone(),
            given_up: self.given_up.clone(),
        }
    }

    /// See [`crate::dataplane::Dataplane::as_written`].
    pub(in crate::dataplane) fn as_written(&self, rules: &FamilyRules) -> FamilyRules {
        let rules = self.shift.rules(rules);
        FamilyRules { chains: self.refused.without(&rules.chains), ..rules }
    }

    fn read(&self, kernel: &Kernel) -> Result<(FoundTable, FoundSets), WriteError> {
        let table = iptables::read(&kernel.runner, kernel.backend, self.family)
            .map_err(WriteError::ReadTable)?;
        let sets = ipset::read(&kernel.runner, self.family).map_err(WriteError::ReadSets)?;
        Ok((table, sets))
    }

    /// See [`crate::dataplane::Dataplane::seen`].
    pub(in crate::dataplane) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Why the kernel may deny what no policy denies, though the family is in step.
    pub(in crate::dataplane) fn leftovers(&self) -> Option<&str> {
        self.leftovers.reason()
    }

    /// See [`crate::dataplane::Dataplane::is_tidy`].
    pub(in crate::dataplane) fn is_tidy(&self) -> bool {
        self.given_up.is_empty()
    }

    /// See [`crate::dataplane::Dataplane::tidy`].
    pub(in crate::dataplane) fn tidy(&mut self, kernel: &Kernel) -> usize {
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
