//! How long to wait before the next attempt.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::delays::Delays;

/// Pauses that double. Chance spreads the agents of all nodes, which an API server that comes back
/// would otherwise see at the same moment.
#[derive(Debug)]
pub(super) struct Pause {
    bounds: (Duration, Duration),
    /// How long it must have worked for them to begin anew.
    enough: Duration,
    next: Duration,
    /// Since when it works.
    sound: Option<Instant>,
}

impl Pause {
    pub(super) fn new(delays: &Delays) -> Self {
        Self { bounds: delays.pause, enough: delays.sound, next: delays.pause.0, sound: None }
    }

    /// It works from now on.
    pub(super) fn works(&mut self) {
        self.sound.get_or_insert_with(Instant::now);
    }

    /// Whether it is known to work.
    pub(super) fn is_sound(&self) -> bool {
        self.sound.is_some()
    }

    /// It has failed: how long to wait. Not less than what the server asked for.
    pub(super) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        if self.sound.take().is_some_and(|since| since.elapsed() >= self.enough) {
            self.next = self.bounds.0;
        }
        let chance =
            f64::from(u32::try_from(random() >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        let pause = self.next.mul_f64(0.5 + chance / 2.0);
        self.next = (self.next * 2).min(self.bounds.1);
        pause.max(asked.unwrap_or_default().min(self.bounds.1))
    }
}

/// The standard library seeds its hashers by chance, which is chance enough for a pause.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(30));

    fn fresh() -> Pause {
        let sound = Duration::from_secs(30);
        Pause::new(&Delays { pause: BOUNDS, sound, ..Delays::default() })
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let mut pause = fresh();
        let pauses: Vec<Duration> = (0..12).map(|_| pause.after_failure(None)).collect();
        let mut longest = BOUNDS.0;
        for pause in &pauses {
            assert!(*pause >= longest / 2 && *pause <= longest, "{pauses:?}");
            longest = (longest * 2).min(BOUNDS.1);
        }
        let other: Vec<Duration> = {
            let mut pause = fresh();
            (0..12).map(|_| pause.after_failure(None)).collect()
        };
        assert_ne!(pauses, other);
    }

    #[test]
    fn a_server_that_asks_for_more_gets_it_within_bounds() {
        let asked = |seconds| fresh().after_failure(Some(Duration::from_secs(seconds)));
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(86_400), BOUNDS.1);
    }

    #[test]
    fn pauses_begin_anew_only_after_it_has_worked_for_a_while() {
        let mut pause = fresh();
        for _ in 0..6 {
            pause.after_failure(None);
        }
        pause.works();
        assert!(pause.after_failure(None) > BOUNDS.0, "it worked for a moment only");
        pause.sound = Instant::now().checked_sub(Duration::from_secs(30));
        assert!(pause.after_failure(None) <= BOUNDS.0);
    }
}
