//! Whether the desired state is in the kernel.
//!
//! Ready means: every input could be read, and both families hold what follows from it. Anything
//! else is a reason not to be ready. A change of either is logged once.

use std::collections::BTreeSet;

use tracing::{info, warn};

/// Whether the kernel holds what it should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing has been written yet.
    #[default]
    Starting,
    /// It does.
    Ready,
    /// It may not, for these reasons.
    NotReady(BTreeSet<String>),
}

/// What is in force, for the line that says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Policies of the cluster.
    pub policies: usize,
    /// Pods of this node.
    pub pods: usize,
    /// Chains in both families.
    pub chains: usize,
    /// Sets in both families.
    pub sets: usize,
}

/// Keeps the readiness and logs its changes.
#[derive(Debug, Default)]
pub struct Health {
    readiness: Readiness,
}

impl Health {
    /// The readiness as last set.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Whether it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness == Readiness::Ready
    }

    /// Takes the reasons not to be ready, of which there may be none.
    pub fn set(&mut self, reasons: BTreeSet<String>, in_force: InForce) {
        let next = if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons) };
        if next == self.readiness {
            return;
        }
        match &next {
            Readiness::NotReady(reasons) => {
                let reason = reasons.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
                warn!(reason, "not ready");
            }
            Readiness::Ready | Readiness::Starting => {
                let InForce { policies, pods, chains, sets } = in_force;
                info!(policies, pods, chains, sets, "ready");
            }
        }
        self.readiness = next;
    }
}
