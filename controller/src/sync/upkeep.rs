//! What is due without an input's doing: another try, a look at the node and at what others have
//! changed in the kernel.

use std::time::Instant;

use super::refusals::refusals;
use super::{RECHECK, Sync, VERIFY_AFTER, report};

impl Sync {
    pub(super) fn do_due(&mut self) {
        let now = Instant::now();
        if self.retry.is_due() {
            self.flush();
        }
        if self.verify_at.is_some_and(|at| at <= now) && !self.is_our_turn() {
            // What it finds it puts right.
            self.verify_at = self.locked_until;
        } else if self.verify_at.is_some_and(|at| at <= now) {
            let interval = self.settings.verify_interval;
            self.verify_at = (!interval.is_zero()).then(|| now + interval);
            let written = self.dataplane.verify(self.engine.ruleset());
            self.after(&written, now);
        }
        if self.tidy.is_due() {
            self.tidy_up();
        }
        self.cutting.do_due(&self.engine);
        if self.recheck_at <= now {
            self.recheck_at = now + RECHECK;
            if self.intake.has_begun() {
                self.recheck();
            }
        } else if self.dataplane.is_reading() {
            self.follow_up();
        }
    }

    /// Looks at what changes without an input's doing, and writes where that is needed.
    fn recheck(&mut self) {
        let was_known = self.wiring.is_known();
        self.wiring.look(&self.engine);
        self.adopt_wiring();
        let out_of_step = self.dataplane.look_again();
        self.dataplane.look_out(self.engine.ruleset());
        self.follow_up();
        if out_of_step || !was_known {
            self.flush();
        } else {
            self.update_health();
        }
        self.tell();
    }

    /// Puts right what others have changed, as far as it is known by now.
    fn follow_up(&mut self) {
        let begun = Instant::now();
        let written = self.dataplane.follow_up(self.engine.ruleset());
        if written.is_unchanged() {
            return;
        }
        self.failures.add(&written);
        self.outlets.written(&written, begun.elapsed());
        self.cutting.after(&written);
        self.cutting.do_due(&self.engine);
        if report::is_whole(&written) {
            self.verify_at = Some(Instant::now() + VERIFY_AFTER);
        }
        if report::log_applied(&written, begun.elapsed()) {
            self.updated = Some(Instant::now());
        }
        if !written.is_in_step() {
            self.retry.put_off();
        }
        self.tidy_later();
        self.update_health();
    }

    /// Looks whom the rules concern that the kernel refuses.
    pub(super) fn look_at_refusals(&mut self) {
        let ruleset = self.engine.ruleset();
        let left_out = self.dataplane.left_out(ruleset);
        let refusals = refusals(&left_out, &self.engine);
        if refusals != self.refusals {
            self.refusals = refusals;
            self.report();
        }
    }

    /// Tells of the state in which things are, which need not be done at every turn.
    fn tell(&mut self) {
        self.look_at_refusals();
        if self.intake.is_cluster() {
            self.wiring.recognise(&self.engine);
        }
        self.outlets.sizes(report::in_force(&self.engine), self.engine.ruleset());
        self.outlets.metrics.processes(self.dataplane.processes());
        self.outlets.metrics.writes_to(self.dataplane.backend());
        self.outlets.flaws(self.flaws.news(&self.engine, self.intake.listed(), &self.refusals));
    }
}
