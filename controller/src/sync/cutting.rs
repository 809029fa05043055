//! When standing connections are cut: after each write that may deny, and a moment later once more.
//!
//! Reading the connections of a busy node costs some milliseconds for each ten thousand, so under load
//! several writes share one reading. Where it fails, connections live on that should not: that is a
//! reason not to be ready, and it is tried again.

use std::time::Instant;

use policy_compiler::engine::Engine;
use tracing::{info, warn};

use super::Settings;
use crate::again::Again;
use crate::cut::Cutter;
use crate::dataplane::conntrack::ConntrackError;
use crate::dataplane::{Outcome, Written, error_chain};
use crate::pace::Bucket;

/// How often connections are read: twice at once, then one in so long.
const PACE: (std::time::Duration, u32) = (std::time::Duration::from_millis(50), 2);

/// Cuts connections in the course of the loop.
#[derive(Debug)]
pub(super) struct Cutting {
    /// Absent where connections are let live.
    cutter: Option<Cutter>,
    /// When in the engine's count of local changes the owners of addresses were last looked at.
    noticed: Option<u64>,
    pace: Bucket,
    /// Whether a write has denied something since the last cut.
    wanted: bool,
    retry: Again,
    failure: Option<String>,
}

impl Cutting {
    pub(super) fn new(settings: &Settings) -> Self {
        let cutter = Cutter::new(settings.node.clone(), settings.hairpin);
        Self {
            cutter: Some(cutter).filter(|_| !settings.keep_established),
            noticed: None,
            pace: Bucket::new(PACE.0, PACE.1),
            wanted: false,
            retry: Again::new(super::RETRY),
            failure: None,
        }
    }

    /// Takes note of a write.
    pub(super) fn after(&mut self, written: &Written) {
        let denies = |outcome: &Outcome| match outcome {
            Outcome::Written(changes) => {
                changes.whole
                    || !changes.repaired.is_empty()
                    || changes.chains_replaced + changes.chains_deleted + changes.members_removed
                        > 0
            }
            _ => false,
        };
        self.wanted |= self.cutter.is_some() && written.iter().any(|(_, outcome)| denies(outcome));
    }

    /// Takes note of the objects that are about to be written.
    pub(super) fn before(&mut self, engine: &Engine) {
        let now = engine.local_changes();
        if self.noticed.replace(now) != Some(now) {
            self.wanted |= self.cutter.as_mut().is_some_and(|cutter| cutter.notice(engine));
        }
    }

    /// When there is something to do.
    pub(super) fn at(&self) -> Option<Instant> {
        let unfinished = self.cutter.as_ref().is_some_and(Cutter::is_unfinished);
        let cut =
            (self.wanted || unfinished).then(|| self.pace.ready_at().unwrap_or_else(Instant::now));
        let again = self.cutter.as_ref().and_then(Cutter::at);
        [cut, again, self.retry.at()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn do_due(&mut self, engine: &Engine) {
        let Some(cutter) = &mut self.cutter else { return };
        let begun = Instant::now();
        self.wanted |= self.retry.is_due();
        let is_paced = self.pace.ready_at().is_none_or(|at| at <= begun);
        let result = if self.wanted && is_paced {
            self.wanted = false;
            cutter.cut(engine)
        } else if cutter.at().is_some_and(|at| at <= begun) {
            cutter.cut_again(engine)
        } else if is_paced && cutter.is_unfinished() {
            cutter.go_on(engine)
        } else {
            return;
        };
        let now = Instant::now();
        self.pace.take(now, now - begun);
        self.judge(result);
    }

    fn judge(&mut self, result: Result<usize, ConntrackError>) {
        match result {
            Ok(connections) => {
                if connections > 0 {
                    info!(connections, "cut, for policy denies them now");
                }
                self.failure = None;
                self.retry.forget();
            }
            Err(error) => {
                let error = error_chain(&error);
                if self.failure.is_none() {
                    warn!(error, "cannot cut standing connections");
                }
                self.failure = Some(format!("connections may stand that policy denies: {error}"));
                self.retry.put_off();
            }
        }
    }

    /// Why connections may stand that should not.
    pub(super) fn reason(&self) -> Option<String> {
        self.failure.clone()
    }
}
