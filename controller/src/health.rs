//! Whether the desired state is in the kernel, and what else an operator should know.
//!
//! Ready means: every input that matters here could be read, and both families hold what follows from
//! it. Anything else is a reason not to be ready. A note is what is not as it should be though the
//! desired state is in force; whoever finds it logs it. A change of readiness is logged once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

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

/// Something that is not as it should be, and does not matter to readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub text: String,
    /// Since when, where that counts.
    pub since: Option<Instant>,
}

impl Note {
    /// In words, as of `now`.
    #[must_use]
    pub fn as_of(&self, now: Instant) -> String {
        match self.since {
            None => self.text.clone(),
            Some(since) => {
                let seconds = now.saturating_duration_since(since).as_secs();
                format!("{}, for {seconds} s", self.text)
            }
        }
    }
}

/// Notes by what they are about: what is said about the same may vary and is no news.
pub type Notes = BTreeMap<String, Note>;

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

/// Keeps readiness and notes, and logs how readiness changes.
#[derive(Debug, Default)]
pub struct Health {
    readiness: Readiness,
    notes: Notes,
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

    /// The notes as last set.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Takes the notes, of which there may be none.
    pub fn note(&mut self, notes: Notes) {
        self.notes = notes;
    }

    /// Takes the reasons not to be ready, of which there may be none; `in_force` is asked where that
    /// makes a difference.
    pub fn set(&mut self, reasons: BTreeSet<String>, in_force: impl FnOnce() -> InForce) {
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
                let InForce { policies, pods, chains, sets } = in_force();
                info!(policies, pods, chains, sets, "ready");
            }
        }
        self.readiness = next;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_note_says_for_how_long() {
        let now = Instant::now();
        let mut note = Note { text: "pods: not heard of".to_owned(), since: None };
        assert_eq!(note.as_of(now), "pods: not heard of");
        note.since = Some(now);
        assert_eq!(note.as_of(now + Duration::from_secs(35)), "pods: not heard of, for 35 s");
    }

    #[test]
    fn notes_leave_readiness_alone() {
        let mut health = Health::default();
        health.set(BTreeSet::new(), InForce::default);
        let note = Note { text: "stale".to_owned(), since: None };
        health.note(BTreeMap::from([("pods".to_owned(), note)]));
        assert!(health.is_ready());
        health.set(BTreeSet::from(["a reason".to_owned()]), InForce::default);
        assert!(!health.is_ready());
        assert_eq!(health.notes().len(), 1);
    }
}
