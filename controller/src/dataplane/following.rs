//! Following the node's choice of iptables while policyd runs.
//!
//! Whose rules are in which backend is read once a minute, and soon after somebody was found to have
//! changed ours; on a thread of its own, since reading both may take seconds. Two readings in a row
//! must speak for the other backend. Then everything is written there first, and only what stands
//! there lets [`leftovers`](super::leftovers) take away what is here: in between the kernel carries out
//! both, which say the same. Where it cannot be written there, the backend that has enforced all along
//! goes on, and the other is left alone for a while. A backend that was forced is never left.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::ruleset::Ruleset;
use policy_compiler::update::Update;
use tracing::{debug, info, warn};

use super::backend::{Backend, BackendChoice, Traces, rejudge};
use super::command::Runner;
use super::lock::Lock;
use super::restore::Restore;
use super::{Changes, Dataplane, FamilyState, Outcome, Written, error_chain};

/// How long a program that is read may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a backend is left alone that could not be written to.
const REFRAIN: Duration = Duration::from_mins(10);

/// How often the node is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readings {
    /// Without a reason to.
    pub every: Duration,
    /// At the earliest after somebody changed our rules, or one reading spoke for the other backend.
    pub again: Duration,
}

impl Default for Readings {
    fn default() -> Self {
        Self { every: Duration::from_mins(1), again: Duration::from_secs(5) }
    }
}

/// What is known of the node's choice.
#[derive(Debug)]
pub(super) struct Following {
    follows: bool,
    readings: Readings,
    next: Instant,
    /// When the last reading began.
    last: Instant,
    reading: Option<Receiver<Option<[Traces; 2]>>>,
    /// Whether the last reading spoke for the other backend.
    doubted: bool,
    /// What was written to until now, while the other is written to for the first time.
    turning_from: Option<Backend>,
}

impl Following {
    pub(super) fn new(choice: BackendChoice) -> Self {
        let (now, readings) = (Instant::now(), Readings::default());
        Self {
            follows: choice == BackendChoice::Auto,
            readings,
            next: now + readings.every,
            last: now,
            reading: None,
            doubted: false,
            turning_from: None,
        }
    }

    fn read_at(&mut self, readings: Readings) {
        self.readings = readings;
        self.next = self.last + readings.every;
    }

    /// Somebody has changed our rules: perhaps the node has turned to the other backend.
    fn doubt(&mut self) {
        self.next = self.next.min(self.last + self.readings.again);
    }

    /// Takes what a reading showed, and begins another where it is time; the other backend where two
    /// in a row spoke for it.
    fn look(&mut self, current: Backend, now: Instant) -> Option<Backend> {
        if let Some(reading) = &self.reading {
            let traces = match reading.try_recv() {
                Ok(traces) => traces,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => None,
            };
            self.reading = None;
            return self.judge(current, traces, now);
        }
        if self.follows && self.next <= now {
            self.read(now);
        }
        None
    }

    fn judge(
        &mut self,
        current: Backend,
        traces: Option<[Traces; 2]>,
        now: Instant,
    ) -> Option<Backend> {
        let [nft, legacy] = traces?;
        let judged = rejudge(current, nft, legacy);
        let speaks_for_other = judged != current;
        let agreed = speaks_for_other && self.doubted;
        self.doubted = speaks_for_other && !agreed;
        if self.doubted {
            self.next = now + self.readings.again;
        }
        agreed.then_some(judged)
    }

    fn read(&mut self, now: Instant) {
        self.last = now;
        self.next = now + self.readings.every;
        let (to, reading) = mpsc::channel();
        // In the network namespace of the caller, as every thread that it starts.
        let thread = thread::Builder::new().name("backend".to_owned()).spawn(move || {
            let runner = Runner::new(LIMIT);
            let read = |backend| {
                let traces = Traces::read(&runner, backend);
                traces
                    .map_err(|error| debug!(%backend, error = %error_chain(&error), "not read"))
                    .ok()
            };
            let traces = read(Backend::Nft).zip(read(Backend::Legacy));
            // Nobody listens where policyd ends.
            let _ = to.send(traces.map(|(nft, legacy)| [nft, legacy]));
        });
        match thread {
            Ok(_) => self.reading = Some(reading),
            Err(error) => warn!(%error, "cannot look at what iptables the node uses"),
        }
    }
}

impl Dataplane {
    /// Looks at the node so often instead.
    #[must_use]
    pub fn reading_the_node(mut self, readings: Readings) -> Self {
        self.following.read_at(readings);
        self
    }

    /// Turns to the other backend where the node has; whether everything is to be written there.
    pub(super) fn follow_the_node(&mut self) -> bool {
        let current = self.kernel.backend;
        let Some(to) = self.following.look(current, Instant::now()) else { return false };
        info!(from = %current, %to, "the node uses the other iptables now");
        self.following.turning_from = Some(current);
        self.turn_to(to);
        true
    }

    /// Takes note of how a write fared: whether the backend that was turned to can be kept, and whether
    /// somebody had changed our rules.
    pub(super) fn after_write(&mut self, written: Written, desired: &Ruleset) -> Written {
        let repaired = |outcome: &Outcome| matches!(outcome, Outcome::Written(Changes { repaired, .. }) if !repaired.is_empty());
        if written.iter().any(|(_, outcome)| repaired(outcome)) {
            self.following.doubt();
        }
        let Some(from) = self.following.turning_from.take() else { return written };
        let backend = self.kernel.backend;
        let failed = written.iter().find_map(|(family, outcome)| match outcome {
            Outcome::Failed(error) => Some((family, error)),
            _ => None,
        });
        let Some((family, error)) = failed else {
            if self.states().iter().any(|(_, state)| *state == FamilyState::OutOfStep) {
                // It waits for the lock that others hold.
                self.following.turning_from = Some(from);
                return written;
            }
            info!(%backend, "rules are in the iptables that the node uses");
            return written;
        };
        if error.is_kept_waiting() {
            self.following.turning_from = Some(from);
            return written;
        }
        let error = error_chain(error);
        warn!(%family, error, %backend, back_to = %from, "cannot write to the iptables that the node uses");
        self.following.next = Instant::now() + REFRAIN;
        self.turn_to(from);
        self.write_families(&Update::default(), desired)
    }

    fn turn_to(&mut self, backend: Backend) {
        self.kernel.backend = backend;
        self.kernel.restore = Restore::new(&self.kernel.runner, backend);
        self.kernel.lock = Mutex::new(Lock::of(backend));
        self.v4.start_elsewhere();
        self.v6.start_elsewhere();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(kubelet: bool) -> Traces {
        Traces { installed: true, kubelet, rules: 0 }
    }

    #[test]
    fn two_readings_in_a_row_must_agree() {
        let mut following = Following::new(BackendChoice::Auto);
        let now = Instant::now();
        let mut read = |nft: bool, legacy: bool| {
            following.judge(Backend::Nft, Some([traces(nft), traces(legacy)]), now)
        };
        assert_eq!(read(false, true), None, "one");
        assert_eq!(read(true, false), None, "and another that takes it back");
        assert_eq!(read(false, true), None);
        assert_eq!(read(false, true), Some(Backend::Legacy));
        assert_eq!(read(false, true), None, "then it begins anew");
    }

    #[test]
    fn a_reading_that_failed_says_nothing() {
        let mut following = Following::new(BackendChoice::Auto);
        let now = Instant::now();
        let legacy = Some([traces(false), traces(true)]);
        assert_eq!(following.judge(Backend::Nft, legacy, now), None);
        assert_eq!(following.judge(Backend::Nft, None, now), None);
        assert_eq!(following.judge(Backend::Nft, legacy, now), Some(Backend::Legacy));
    }

    #[test]
    fn a_reading_comes_by_its_time_or_soon_after_a_doubt_and_never_where_the_backend_is_forced() {
        let readings = Readings::default();
        let mut following = Following::new(BackendChoice::Auto);
        let begun = following.last;
        following.look(Backend::Nft, begun + readings.every / 2);
        assert!(following.reading.is_none());
        following.doubt();
        following.look(Backend::Nft, begun + readings.again);
        assert!(following.reading.is_some());

        let mut forced = Following::new(BackendChoice::Forced(Backend::Nft));
        forced.doubt();
        assert_eq!(forced.look(Backend::Nft, begun + readings.every * 10), None);
        assert!(forced.reading.is_none());
    }
}
