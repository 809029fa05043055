//! What the loop shows to those who ask over HTTP.
//!
//! The loop writes and goes on; readers take copies. No lock is held longer than a copy takes, so
//! nobody who asks can hold up enforcement.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::health::Readiness;

/// How long the loop may take for one turn. A program may take a minute before it is killed, and a
/// turn in which everything goes wrong runs two such one after the other; a loop that hangs longer
/// than that does not come back by itself.
pub const TURN_LIMIT: Duration = Duration::from_secs(150);

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Whether the kernel holds what it should.
    pub readiness: Readiness,
    /// What is worth knowing and no reason not to be ready: a line each.
    pub notes: BTreeSet<String>,
}

/// The loop's state as others see it.
#[derive(Debug)]
pub struct Board {
    begun: Instant,
    /// The last turn of the loop, in milliseconds since `begun`.
    turned: AtomicU64,
    shown: RwLock<Shown>,
}

impl Board {
    /// The board of a loop that has just begun.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            turned: AtomicU64::new(0),
            shown: RwLock::default(),
        })
    }

    /// The loop turns.
    pub fn beat(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(now, Ordering::Relaxed);
    }

    /// Shows this from now on.
    pub fn show(&self, readiness: &Readiness, notes: BTreeSet<String>) {
        let next = Shown { readiness: readiness.clone(), notes };
        // One writer: what was read still stands when it is replaced.
        if self.shown() != next {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = next;
        }
    }

    /// What is shown now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For how long the loop has not turned.
    #[must_use]
    pub fn still_for(&self) -> Duration {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(turned)
    }

    /// A board whose loop last turned so long ago.
    #[cfg(test)]
    pub(super) fn still(since: Duration) -> Arc<Self> {
        let begun = Instant::now().checked_sub(since).unwrap();
        Arc::new(Self { begun, turned: AtomicU64::new(0), shown: RwLock::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_shows_what_was_last_written_and_when_the_loop_turned() {
        let board = Board::still(Duration::from_mins(5));
        assert_eq!(board.shown(), Shown::default());
        assert!(board.still_for() >= Duration::from_mins(5));
        board.beat();
        assert!(board.still_for() < Duration::from_mins(1));
        let notes = BTreeSet::from(["the API server is away".to_owned()]);
        board.show(&Readiness::Ready, notes.clone());
        assert_eq!(board.shown(), Shown { readiness: Readiness::Ready, notes });
    }
}
