//! What the loop shows to those who ask over HTTP.
//!
//! The loop writes and goes on; readers take copies. No lock is held longer than a copy takes, so
//! nobody who asks can hold up enforcement.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::health::Readiness;

/// How long the loop may take without a sign of life: a turn, or a program that it starts. A program
/// may take a minute before it is killed; a loop that hangs for much longer does not come back by
/// itself. (A turn in which everything goes wrong runs many programs: being started anew would not
/// help it.)
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
    /// What counts up while the loop is at work within a turn, and how far it was when last looked at.
    work: OnceLock<Arc<AtomicU64>>,
    worked: AtomicU64,
    shown: RwLock<Shown>,
}

impl Board {
    /// The board of a loop that has just begun.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::begun(Instant::now())
    }

    fn begun(begun: Instant) -> Arc<Self> {
        Arc::new(Self {
            begun,
            turned: AtomicU64::new(0),
            work: OnceLock::new(),
            worked: AtomicU64::new(0),
            shown: RwLock::default(),
        })
    }

    /// Takes each step of `work` for a sign of life too.
    pub fn follow(&self, work: Arc<AtomicU64>) {
        // Of two loops the first is followed; there is one.
        let _ = self.work.set(work);
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

    /// For how long the loop has shown no sign of life. That it is at work counts from when it is
    /// first seen, which is when probes ask.
    #[must_use]
    pub fn still_for(&self) -> Duration {
        if let Some(work) = self.work.get() {
            let now = work.load(Ordering::Relaxed);
            if self.worked.swap(now, Ordering::Relaxed) != now {
                self.beat();
            }
        }
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(turned)
    }

    /// A board whose loop last turned so long ago.
    #[cfg(test)]
    pub(super) fn still(since: Duration) -> Arc<Self> {
        let begun = Instant::now().checked_sub(since).unwrap();
        Self::begun(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_at_work_within_a_turn_is_alive_until_the_work_stops() {
        let board = Board::still(Duration::from_mins(5));
        let work = Arc::new(AtomicU64::new(0));
        board.follow(Arc::clone(&work));
        assert!(board.still_for() >= Duration::from_mins(5));
        work.store(3, Ordering::Relaxed);
        assert!(board.still_for() < Duration::from_mins(1));
        board.turned.store(0, Ordering::Relaxed);
        assert!(board.still_for() >= Duration::from_mins(5), "nothing more was done");
    }

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
