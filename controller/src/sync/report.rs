//! What is told of each write.

use std::collections::BTreeMap;
use std::time::Duration;

use policy_compiler::engine::Engine;
use tracing::{debug, error, info};

use crate::dataplane::{Changes, Outcome, Written, error_chain};
use crate::health::InForce;

/// Why the families that are out of step are so, by the kind of failure.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<String, String>);

impl Failures {
    /// Takes how a write of all went. A failure that lasts is told once.
    pub(super) fn take(&mut self, written: &Written) {
        let before = std::mem::take(&mut self.0);
        self.tell(written, &before);
    }

    /// Takes how a write went that leaves alone what has failed before.
    pub(super) fn add(&mut self, written: &Written) {
        let before = self.0.clone();
        self.tell(written, &before);
    }

    fn tell(&mut self, written: &Written, before: &BTreeMap<String, String>) {
        for (family, outcome) in written.iter() {
            match outcome {
                Outcome::Unchanged | Outcome::Absent => {}
                Outcome::Written(changes) => debug!(%family, ?changes, "written"),
                Outcome::Failed(error) => {
                    // Details such as line numbers differ each time; what is told stays the first.
                    let kind = format!("{family}: {}", error.kind());
                    let reason = before.get(&kind).cloned().unwrap_or_else(|| {
                        error!(%family, error = %error_chain(error), "not applied");
                        format!("{family}: {}", error_chain(error))
                    });
                    self.0.insert(kind, reason);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = String> {
        self.0.values().cloned()
    }
}

/// Whether a write wrote a family anew.
pub(super) fn is_whole(written: &Written) -> bool {
    written.iter().any(|(_, outcome)| matches!(outcome, Outcome::Written(changes) if changes.whole))
}

/// Whether a write changed anything in the kernel.
pub(super) fn changes(written: &Written) -> bool {
    written
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Written(changes) if !changes.is_empty()))
}

/// One line for one update, both families together; whether anything changed.
pub(super) fn log_applied(written: &Written, duration: Duration) -> bool {
    if !changes(written) {
        return false;
    }
    let mut sum = Changes::default();
    for (_, outcome) in written.iter() {
        if let Outcome::Written(changes) = outcome {
            sum.whole |= changes.whole;
            sum.sets_created += changes.sets_created;
            sum.sets_destroyed += changes.sets_destroyed;
            sum.members_added += changes.members_added;
            sum.members_removed += changes.members_removed;
            sum.chains_replaced += changes.chains_replaced;
            sum.chains_deleted += changes.chains_deleted;
        }
    }
    info!(
        whole = sum.whole,
        sets_created = sum.sets_created,
        sets_destroyed = sum.sets_destroyed,
        members_added = sum.members_added,
        members_removed = sum.members_removed,
        chains_replaced = sum.chains_replaced,
        chains_deleted = sum.chains_deleted,
        ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "applied"
    );
    true
}

/// What is in force as of the last flush.
pub(super) fn in_force(engine: &Engine) -> InForce {
    let rules = engine.ruleset();
    let (v4, v6) = (rules.v4.sizes(), rules.v6.sizes());
    InForce {
        policies: engine.objects().policies.len(),
        pods: engine.local_pods().count(),
        chains: v4.chains + v6.chains,
        sets: v4.sets + v6.sets,
    }
}
