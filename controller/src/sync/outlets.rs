//! Where the loop tells what it does: metrics, what HTTP shows, Kubernetes Events.
//!
//! None of them can fail or hold the loop up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy_compiler::name::ObjectKey;
use policy_compiler::ruleset::Ruleset;

use crate::announce::{Announcement, Announcer};
use crate::dataplane::{Outcome, Written};
use crate::denied::Listening;
use crate::health::{Health, InForce, Note, Notes};
use crate::inspect::Concern;
use crate::metrics::Metrics;
use crate::serve::Board;
use crate::source::Kind;
use crate::taint::StartupTaint;

/// Where the loop tells what it does.
#[derive(Clone, Debug)]
pub struct Outlets {
    /// What Prometheus is shown.
    pub metrics: Arc<Metrics>,
    /// What probes are shown.
    pub board: Arc<Board>,
    /// What the owners of policies and nodes are told.
    pub announcer: Announcer,
    /// What keeps pods off this node until the policies are in force.
    pub taint: Option<StartupTaint>,
    /// Who hears what the rules tell of packets.
    pub listening: Arc<Listening>,
    /// Why nobody who asks policyd is answered.
    pub unanswered: Option<String>,
}

impl Default for Outlets {
    /// Where nobody looks.
    fn default() -> Self {
        let metrics = Metrics::new();
        let announcer = Announcer::silent(Arc::clone(&metrics));
        Self {
            metrics,
            board: Board::new(),
            announcer,
            taint: None,
            listening: Arc::default(),
            unanswered: None,
        }
    }
}

impl Outlets {
    /// How a write went, and what it put right.
    pub(super) fn written(&self, written: &Written, took: Duration) {
        for (family, outcome) in written.iter() {
            self.metrics.written(family, outcome, took);
            let Outcome::Written(changes) = outcome else { continue };
            for drift in &changes.repaired {
                self.metrics.drift_repaired(family, *drift);
                let what = drift.to_string();
                self.announcer.announce(Announcement::DriftRepaired { family, what });
            }
        }
    }

    /// These events are in the kernel, or turned out to make no difference to it.
    pub(super) fn enforced(&self, events: &[(Kind, Instant)], changed: bool) {
        for (kind, seen) in events.iter().filter(|_| changed) {
            self.metrics.enforced(*kind, seen.elapsed());
        }
    }

    /// How much there is.
    pub(super) fn sizes(&self, in_force: InForce, ruleset: &Ruleset) {
        self.metrics.in_force(in_force.policies, in_force.pods, ruleset);
    }

    /// These policies fail closed.
    pub(super) fn flaws(&self, policies: Vec<(ObjectKey, String)>) {
        for (policy, reason) in policies {
            self.announcer.announce(Announcement::PolicyFailsClosed { policy, reason });
        }
    }

    /// What makes enforcement doubtful here, as just found.
    pub(super) fn concerns(&self, concerns: &BTreeSet<Concern>) {
        self.metrics.concerns(concerns.iter().map(|concern| concern.kind));
        let blocking = concerns.iter().filter(|concern| concern.kind.blocks());
        let reasons: Vec<String> = blocking.map(|concern| concern.detail.clone()).collect();
        if !reasons.is_empty() {
            self.announcer.announce(Announcement::CannotEnforce { reasons });
        }
    }

    /// What stands in the way of the node's being used, besides readiness, and of being asked.
    pub(super) fn notes(&self) -> Notes {
        let mut notes = self.taint.as_ref().map(StartupTaint::notes).unwrap_or_default();
        if let Some(text) = self.unanswered.clone() {
            notes.insert("socket".to_owned(), Note { text, since: None });
        }
        notes
    }

    /// Whether all is as it should be.
    pub(super) fn health(&self, health: &Health) {
        let now = Instant::now();
        let notes = health.notes().values().map(|note| note.as_of(now)).collect();
        self.board.show(health.readiness(), notes);
        self.metrics.ready(health.is_ready());
    }
}
