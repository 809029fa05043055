//! Whether there is anything to listen to.
//!
//! The rules tell of denied packets where the operator asked for that, and of what audited policies would
//! deny wherever there are any. While they tell of nothing the listener sleeps, and holds no group that
//! somebody else might want.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What the rules tell of.
#[derive(Debug, Default)]
pub struct Listening {
    /// Of denied packets.
    denials: bool,
    /// Of what audited policies would deny.
    audits: Mutex<bool>,
    changed: Condvar,
}

impl Listening {
    /// The rules tell of denied packets or not, and of audits not yet.
    #[must_use]
    pub fn to(denials: bool) -> Self {
        Self { denials, ..Self::default() }
    }

    /// From now on the rules tell of audits, or not.
    pub fn set_audits(&self, audits: bool) {
        *self.audits.lock().unwrap_or_else(PoisonError::into_inner) = audits;
        self.changed.notify_all();
    }

    /// Whether they tell of denied packets.
    #[must_use]
    pub fn hears_denials(&self) -> bool {
        self.denials
    }

    /// Whether they tell of anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.denials || *self.audits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until they tell of something, but no longer than that.
    pub(super) fn wait(&self, limit: Duration) {
        if self.denials {
            return;
        }
        let audits = self.audits.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(audits, limit, |audits| !*audits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn denials_are_heard_whatever_is_audited_and_audits_while_there_are_any() {
        let denials = Listening::to(true);
        assert!(denials.is_on() && denials.hears_denials());
        let audits = Listening::default();
        assert!(!audits.is_on() && !audits.hears_denials());
        audits.set_audits(true);
        assert!(audits.is_on() && !audits.hears_denials());
        audits.set_audits(false);
        assert!(!audits.is_on());
    }

    #[test]
    fn who_waits_goes_on_as_soon_as_something_is_audited() {
        let listening = Arc::new(Listening::default());
        let waiting = Arc::clone(&listening);
        let begun = Instant::now();
        let waiter = thread::spawn(move || waiting.wait(Duration::from_mins(5)));
        listening.set_audits(true);
        waiter.join().unwrap();
        assert!(begun.elapsed() < Duration::from_mins(1));
    }
}
