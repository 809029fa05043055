//! What is told of the state in which things are: findings, readiness and why not, notes.

use super::scoping::Scoping;
use super::{Sync, report};
use crate::inspect::Sight;

impl Sync {
    /// Logs and counts what is wrong with the objects.
    pub(super) fn report(&mut self) {
        self.intake.report(&self.engine);
        let metrics = &self.outlets.metrics;
        metrics.problems(self.intake.problems());
        let refused = self.refusals.iter().flat_map(|refusal| &refusal.policies);
        metrics.diagnosed(self.intake.listed().iter().chain(self.engine.diagnostics()), refused);
    }

    pub(super) fn update_health(&mut self) {
        let mut reasons = self.intake.reasons();
        if !self.written {
            reasons.insert("nothing has been written yet".to_owned());
        }
        reasons.extend(self.failures.reasons());
        reasons.extend(self.cutting.reason());
        reasons.extend(self.dataplane.leftovers());
        reasons.extend(self.dataplane.kept_waiting());
        reasons.extend(self.wiring.reason().map(str::to_owned));
        reasons.extend(self.wiring.spoofing());
        self.outlets.metrics.refused(self.refusals.len());
        reasons.extend(self.refusals.iter().map(ToString::to_string));
        if self.intake.has_begun() {
            self.inspect();
        }
        reasons.extend(self.inspector.reasons());
        let mut notes = self.intake.notes();
        notes.extend(self.inspector.notes());
        notes.extend(self.dataplane.notes());
        notes.extend(self.outlets.notes());
        notes.extend(self.wiring.notes());
        notes.extend(self.scoping.iter().flat_map(Scoping::notes));
        self.health.note(notes);
        // It becomes ready when what there is stands in the kernel, and not while that waits its turn.
        let waits = reasons.is_empty() && self.engine.is_behind() && !self.health.is_ready();
        if !waits {
            self.health.set(reasons, || report::in_force(&self.engine));
        }
        self.outlets.health(&self.health);
    }

    fn inspect(&mut self) {
        let changed = self.inspector.look(&Sight {
            pods: self.local.of(&self.engine),
            backend: self.dataplane.backend(),
            tables: self.dataplane.seen(),
        });
        if changed {
            self.outlets.concerns(self.inspector.concerns());
        }
    }
}
