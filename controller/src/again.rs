//! Something to do again later, each time after a longer pause.

use std::time::{Duration, Instant};

/// When something is to be tried again; nothing is due until it is put off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    bounds: (Duration, Duration),
    pause: Duration,
    at: Option<Instant>,
}

impl Again {
    /// Pauses from the first of `bounds`, doubled each time, up to the second.
    #[must_use]
    pub fn new(bounds: (Duration, Duration)) -> Self {
        Self { bounds, pause: bounds.0, at: None }
    }

    /// When it is due, if it is to be done at all.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// To be done after the pause, which then grows.
    pub fn put_off(&mut self) {
        self.at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(self.bounds.1);
    }

    /// To be done after the first pause at the latest.
    pub fn hurry(&mut self) {
        if self.at.is_none_or(|at| at > Instant::now() + self.bounds.0) {
            self.forget();
            self.put_off();
        }
    }

    /// Not to be done any more; the next pause is the first again.
    pub fn forget(&mut self) {
        *self = Self::new(self.bounds);
    }

    /// Whether its time has come, which is then used up.
    pub fn is_due(&mut self) -> bool {
        let due = self.at.is_some_and(|at| at <= Instant::now());
        if due {
            self.at = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hurries_waits_for_the_first_pause_at_the_longest_however_often_that_is_asked() {
        let mut again = Again::new((Duration::from_mins(1), Duration::from_mins(10)));
        for _ in 0..4 {
            again.put_off();
        }
        again.hurry();
        let soon = again.at();
        assert!(soon <= Some(Instant::now() + Duration::from_mins(1)));
        again.hurry();
        assert_eq!(again.at(), soon, "who asks again and again puts nothing off");
    }

    #[test]
    fn each_pause_is_longer_up_to_a_bound_and_success_forgets_it() {
        let mut again = Again::new((Duration::from_secs(1), Duration::from_secs(3)));
        let mut pauses = Vec::new();
        for _ in 0..4 {
            pauses.push(again.pause.as_secs());
            again.put_off();
        }
        assert_eq!(pauses, [1, 2, 3, 3]);
        again.forget();
        assert_eq!((again.pause.as_secs(), again.at()), (1, None));
    }
}
