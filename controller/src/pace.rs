//! How often something may be done: at once where little happens, less often where much does.
//!
//! A token bucket, and no fixed delay. Its tokens come back at a steady rate, and more slowly after
//! what took long: under load whoever asks it is busy for about half of the time, whatever its work
//! costs on this machine, and what comes in meanwhile piles up to be done together. Time is given by
//! the caller.

use std::time::{Duration, Instant};

/// The longest that a token takes to come back: what took seconds, as a first load does, must not make
/// the next change wait for as long.
const LONGEST: Duration = Duration::from_millis(500);

/// A bucket of tokens; full at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// How long one token takes to come back.
    interval: Duration,
    /// How long all but one take.
    burst: Duration,
    /// When all tokens are back.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A bucket of `tokens`, of which one comes back every `interval`.
    #[must_use]
    pub fn new(interval: Duration, tokens: u32) -> Self {
        Self { interval, burst: interval * tokens.saturating_sub(1), full_at: None }
    }

    /// When there is a token; `None` where there has always been one.
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        self.full_at.and_then(|full| full.checked_sub(self.burst))
    }

    /// Whether there is a token.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.ready_at().is_none_or(|at| at <= now)
    }

    /// Takes a token for something that was done by `now` and `took` so long. What took longer than
    /// a token takes to come back delays the next by as much, within reason. There need not be a token:
    /// what cannot wait counts too.
    pub fn take(&mut self, now: Instant, took: Duration) {
        let from = self.full_at.map_or(now, |full| full.max(now));
        self.full_at = Some(from + self.interval.max(took.min(LONGEST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    /// At which milliseconds something happens that is always wanted and takes `took`.
    fn times(mut bucket: Bucket, took: u64, until: u64) -> Vec<u64> {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let (mut now, mut times) = (0, Vec::new());
        while now < until {
            if bucket.is_ready(at(now)) {
                times.push(now);
                now += took;
                bucket.take(at(now), Duration::from_millis(took));
            } else {
                now += 1;
            }
        }
        times
    }

    #[test]
    fn what_costs_nothing_is_done_at_once_and_then_at_the_rate() {
        assert_eq!(times(Bucket::new(INTERVAL, 1), 0, 70), [0, 20, 40, 60]);
        assert_eq!(times(Bucket::new(INTERVAL, 3), 0, 70), [0, 0, 0, 20, 40, 60]);
    }

    #[test]
    fn what_costs_much_takes_half_of_the_time() {
        let times = times(Bucket::new(INTERVAL, 2), 300, 6_000);
        assert_eq!(times[..3], [0, 580, 1160]);
        assert!(times.len() <= 11, "{times:?}");
    }

    #[test]
    fn what_took_seconds_delays_the_next_by_no_more_than_half_of_one() {
        let mut bucket = Bucket::new(INTERVAL, 1);
        let now = Instant::now();
        bucket.take(now, Duration::from_secs(5));
        assert_eq!(bucket.ready_at(), Some(now + LONGEST));
    }

    #[test]
    fn after_a_pause_the_tokens_are_back_and_no_more_than_there_were() {
        let start = Instant::now();
        let mut bucket = Bucket::new(INTERVAL, 2);
        for _ in 0..5 {
            bucket.take(start, Duration::ZERO);
        }
        assert_eq!(bucket.ready_at(), Some(start + 4 * INTERVAL));
        let later = start + Duration::from_mins(1);
        for _ in 0..2 {
            assert!(bucket.is_ready(later));
            bucket.take(later, Duration::ZERO);
        }
        assert!(!bucket.is_ready(later));
        assert_eq!(bucket.ready_at(), Some(later + INTERVAL));
    }
}
