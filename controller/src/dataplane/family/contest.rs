//! Whether somebody undoes again and again what is put right.
//!
//! What opens something is put right at once, however often. Who merely stands above us and lets nothing
//! by is given way to, longer each time: two that fight for the first place only keep each other busy.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many repairs within so long are no fight yet.
const BORNE: (usize, Duration) = (5, Duration::from_mins(1));
/// The first and the longest pause before a repair that is not urgent.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));
/// After so long without a repair a fight is over.
const OVER: Duration = Duration::from_mins(2);

/// The repairs of late.
#[derive(Debug, Default)]
pub(super) struct Contest {
    repairs: VecDeque<Instant>,
    /// How long the next repair that is not urgent waits after the last, while there is a fight.
    pause: Option<Duration>,
}

impl Contest {
    /// Something was put right; whether that makes it a fight.
    pub(super) fn repaired(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.repairs.push_back(now);
        match self.pause {
            Some(pause) => {
                self.pause = Some((pause * 2).min(PAUSE.1));
                self.repairs.truncate(0);
                self.repairs.push_back(now);
                false
            }
            None if self.repairs.len() > BORNE.0 => {
                self.pause = Some(PAUSE.0);
                true
            }
            None => false,
        }
    }

    /// When what is not urgent may be put right; `None` where at once.
    pub(super) fn yields_until(&mut self, now: Instant) -> Option<Instant> {
        self.forget(now);
        let until = *self.repairs.back()? + self.pause?;
        (until > now).then_some(until)
    }

    /// For how long what is not urgent waits, while there is a fight.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let fresh = |last: &Instant| now.saturating_duration_since(*last) < OVER;
        self.pause.filter(|_| self.repairs.back().is_some_and(fresh))
    }

    fn forget(&mut self, now: Instant) {
        if self.pause(now).is_none() {
            self.pause = None;
            self.repairs.retain(|at| now.saturating_duration_since(*at) < BORNE.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_repairs_are_no_fight_and_of_many_each_waits_longer_up_to_a_bound() {
        let (mut contest, start) = (Contest::default(), Instant::now());
        let mut now = start;
        let mut begun = Vec::new();
        let mut waits = Vec::new();
        for number in 1..=14 {
            let until = contest.yields_until(now).unwrap_or(now);
            waits.push((until - now).as_secs());
            now = until;
            if contest.repaired(now) {
                begun.push(number);
            }
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(begun, [6], "it is told once");
        assert_eq!(contest.pause(now), Some(PAUSE.1));
    }

    #[test]
    fn a_repair_now_and_then_is_no_fight_and_a_fight_ends() {
        let (mut contest, mut now) = (Contest::default(), Instant::now());
        for _ in 0..20 {
            assert!(!contest.repaired(now));
            assert_eq!(contest.yields_until(now), None);
            now += Duration::from_secs(13);
        }
        for _ in 0..6 {
            contest.repaired(now);
        }
        assert!(contest.yields_until(now).is_some());
        now += OVER;
        assert_eq!((contest.yields_until(now), contest.pause(now)), (None, None));
        assert!(!contest.repaired(now));
    }
}
