//! How the kernel is brought after the engine: when, how much at once, and again where that failed.

use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::update::Reach;

use super::{Sync, TIDY, VERIFY_AFTER, report};
use crate::dataplane::Written;

/// How often it is asked whether others have let go of the lock that chains are written under.
const LOCKED: Duration = Duration::from_millis(20);

impl Sync {
    /// Whether there is something to write that may be written.
    pub(super) fn is_wanted(&self) -> bool {
        // Before the bridges are known the rules would let pass what the old ones may deny; they are
        // looked for in their own time.
        let never_looked = !self.wiring.is_known() && self.wiring.reason().is_none();
        let known = self.wiring.is_known() || never_looked;
        self.intake.has_begun() && known && (self.engine.is_behind() || self.owed)
    }

    /// When the next step towards the kernel may be done; `None` where at once.
    pub(super) fn next_write_at(&self) -> Option<Instant> {
        if self.planned != Some(Reach::Chains) && !self.owed {
            return self.plans.ready_at();
        }
        let chains = self.chains.ready_at().max(self.locked_until);
        // What has come since may be a matter of members, which wait for no chains.
        if self.engine.is_dirty() { chains.min(self.plans.ready_at()) } else { chains }
    }

    /// Compiles for the wiring as last found.
    pub(super) fn adopt_wiring(&mut self) {
        if self.engine.config() != self.wiring.config() {
            self.engine.set_config(self.wiring.config().clone());
        }
    }

    /// Brings the kernel after what was taken in, as far as the pace allows. A plan whose turn has
    /// not come waits, and what is taken in meanwhile becomes part of it; what it changes of members
    /// alone goes ahead.
    pub(super) fn advance(&mut self) {
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at <= Instant::now());
        if !self.is_wanted() || !is_due(self.next_write_at()) {
            return;
        }
        // What is out of step is written whole.
        let whole = self.owed || !self.written || !self.failures.is_empty();
        let chains = self.plan() == Reach::Chains || whole;
        if !self.wiring.is_known() {
            return;
        }
        if chains && !(is_due(self.chains.ready_at()) && self.is_our_turn()) {
            self.write_members();
        } else {
            self.write();
        }
    }

    /// Whether others let us write chains now.
    pub(super) fn is_our_turn(&mut self) -> bool {
        let ours = self.dataplane.is_our_turn();
        self.locked_until = (!ours).then(|| Instant::now() + LOCKED);
        ours
    }

    /// Plans what has changed, and says how far that reaches.
    fn plan(&mut self) -> Reach {
        let begun = Instant::now();
        self.wiring.follow(&self.engine);
        self.adopt_wiring();
        if self.engine.is_dirty() {
            self.cutting.before(&self.engine);
            self.awaited.plan();
        }
        let reach = self.engine.pending();
        self.planned = Some(reach);
        let now = Instant::now();
        self.plans.take(now, now - begun);
        reach
    }

    /// Writes what has changed since the last write, or all where the kernel is out of step, whatever
    /// the pace.
    pub(super) fn flush(&mut self) {
        self.plan();
        if self.wiring.is_known() && self.is_our_turn() {
            self.write();
        } else {
            self.owed = self.wiring.is_known();
            self.update_health();
        }
    }

    /// Writes what of the plan may go ahead while its chains wait.
    fn write_members(&mut self) {
        let begun = Instant::now();
        let update = self.engine.flush_members();
        if update.is_empty() {
            return;
        }
        self.ahead = true;
        let written = self.dataplane.write_members(&update);
        self.outlets.written(&written, begun.elapsed());
        self.cutting.after(&written);
        self.cutting.do_due(&self.engine);
        if report::log_applied(&written, begun.elapsed()) {
            self.updated = Some(Instant::now());
        }
        if !written.is_in_step() {
            self.failures.add(&written);
            self.retry.put_off();
            self.update_health();
        }
        let now = Instant::now();
        self.plans.take(now, now - begun);
    }

    /// Writes the plan.
    fn write(&mut self) {
        let reach = self.planned.take();
        self.owed = false;
        let begun = Instant::now();
        let update = self.engine.flush();
        self.outlets.listening.set_audits(self.engine.ruleset().audits());
        let written = self.dataplane.write(&update, self.engine.ruleset());
        // Enforcement comes first: there may be many lines, and a log that is slow.
        if self.intake.differs(&self.engine) {
            self.report();
        }
        self.after(&written, begun);
        let now = Instant::now();
        if reach == Some(Reach::Chains) || report::is_whole(&written) {
            self.chains.take(now, now - begun);
        } else {
            self.plans.take(now, now - begun);
        }
    }

    pub(super) fn after(&mut self, written: &Written, begun: Instant) {
        self.failures.take(written);
        self.look_at_refusals();
        self.outlets.written(written, begun.elapsed());
        self.cutting.after(written);
        self.cutting.do_due(&self.engine);
        if report::is_whole(written) {
            self.verify_at = Some(Instant::now() + VERIFY_AFTER);
        }
        if report::log_applied(written, begun.elapsed()) {
            self.updated = Some(Instant::now());
        }
        if self.failures.is_empty() {
            self.written = true;
            self.retry.forget();
            if self.planned.is_none() {
                let changed = std::mem::take(&mut self.ahead) || report::changes(written);
                self.outlets.enforced(&self.awaited.finish(), changed);
            }
        } else {
            self.retry.put_off();
        }
        self.tidy_later();
        self.update_health();
    }

    /// Waits for the kernel to let go of sets that were given up, for a second at most. A loop that
    /// goes on need not wait; one that ends would leave them behind.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.dataplane.tidy() > 0 && Instant::now() < deadline {
            thread::sleep(TIDY.0);
        }
    }

    /// Leaves the sets that were given up to a moment when their end holds nothing up.
    pub(super) fn tidy_later(&mut self) {
        if self.dataplane.is_tidy() {
            self.tidy.forget();
        } else {
            self.tidy.hurry();
        }
    }

    pub(super) fn tidy_up(&mut self) {
        if self.dataplane.tidy() > 0 {
            self.tidy.put_off();
        } else {
            self.tidy.forget();
        }
    }
}
