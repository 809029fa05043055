//! Finding out whether the kernel still holds what was written, and what stands around it.

use std::time::Instant;

use policy_compiler::ruleset::{FamilyRules, Hook};
use policy_compiler::update::Update;
use tracing::warn;

use super::{FamilyPlane, HOOKS};
use crate::dataplane::backend::has_ipv6;
use crate::dataplane::iptables::{self, FoundTable};
use crate::dataplane::{Changes, Drift, Kernel, Outcome, error_chain, hooks, plan};

impl FamilyPlane {
    /// See [`crate::dataplane::Dataplane::verify`].
    pub(in crate::dataplane) fn verify(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Outcome {
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
        self.seen.hidden = table.hidden;
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

    /// See [`crate::dataplane::Dataplane::look_again`].
    pub(in crate::dataplane) fn look_again(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> bool {
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
        if self.look_at <= now && kernel.lock.is_free() {
            self.look_at = now + HOOKS;
            self.look_at_hooks(kernel, desired);
        }
        !self.in_step || self.doubtful
    }

    pub(super) fn look_at_hooks(&mut self, kernel: &Kernel, desired: &FamilyRules) {
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

    pub(super) fn see_hooks(&mut self, desired: &FamilyRules, found: &FoundTable) {
        let position = |hook: &Hook| (*hook, found.positions.get(hook).cloned());
        self.seen.hooks = desired.hooks.keys().map(position).collect();
    }
}
