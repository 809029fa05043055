//! Which announcements are published.
//!
//! A cluster's event store is shared, and events are for people: the same one is told once in a
//! while, and only so many in a row. What is about policies, which their authors can break as often as they
//! like, has an allowance of its own, so that it cannot silence what is about the node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Announcement;

/// How long the same announcement is not repeated.
const SAME: Duration = Duration::from_mins(10);
/// How many are remembered to that end.
const REMEMBERED: usize = 1024;
/// How many may come at once, and how long each further one takes to be earned.
const BURST: u32 = 10;
const EARNED: Duration = Duration::from_secs(30);

/// Whether an announcement is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is.
    Publish,
    /// It was, not long ago.
    Repeated,
    /// Too many were.
    TooMany,
}

/// What was published of late.
#[derive(Debug)]
pub(super) struct Gate {
    told: BTreeMap<Announcement, Instant>,
    policies: Allowance,
    node: Allowance,
}

impl Gate {
    pub(super) fn new(now: Instant) -> Self {
        let full = Allowance { left: BURST, earned_until: now };
        Self { told: BTreeMap::new(), policies: full, node: full }
    }

    /// Judges an announcement, and counts it where it is to be published.
    pub(super) fn admit(&mut self, announcement: &Announcement, now: Instant) -> Admission {
        self.told.retain(|_, told| now.saturating_duration_since(*told) < SAME);
        if self.told.contains_key(announcement) {
            return Admission::Repeated;
        }
        let allowance = match announcement {
            Announcement::PolicyFailsClosed { .. } => &mut self.policies,
            Announcement::DriftRepaired { .. } | Announcement::CannotEnforce { .. } => {
                &mut self.node
            }
        };
        if self.told.len() >= REMEMBERED || !allowance.spend(now) {
            return Admission::TooMany;
        }
        self.told.insert(announcement.clone(), now);
        Admission::Publish
    }

    /// It was not published after all: the next of its like may be.
    pub(super) fn forget(&mut self, announcement: &Announcement) {
        self.told.remove(announcement);
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    /// Up to when what was earned is counted.
    earned_until: Instant,
}

impl Allowance {
    fn spend(&mut self, now: Instant) -> bool {
        while self.left < BURST && self.earned_until + EARNED <= now {
            self.left += 1;
            self.earned_until += EARNED;
        }
        if self.left == BURST {
            self.earned_until = now;
        }
        let can = self.left > 0;
        self.left = self.left.saturating_sub(1);
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::cidr::Family;
    use policy_compiler::name::ObjectKey;

    fn drift(what: &str) -> Announcement {
        Announcement::DriftRepaired { family: Family::V4, what: what.to_owned() }
    }

    fn policy(number: u64) -> Announcement {
        let policy = ObjectKey::new("shop", &format!("p{number}")).unwrap();
        Announcement::PolicyFailsClosed { policy, reason: "unknown field".to_owned() }
    }

    #[test]
    fn the_same_is_told_again_only_after_a_while_or_where_it_was_not_told() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        assert_eq!(gate.admit(&drift("hook"), start), Admission::Publish);
        assert_eq!(gate.admit(&drift("set"), start), Admission::Publish, "another");
        let almost = start + SAME.saturating_sub(Duration::from_secs(1));
        assert_eq!(gate.admit(&drift("hook"), almost), Admission::Repeated);
        assert_eq!(gate.admit(&drift("hook"), start + SAME), Admission::Publish);
        gate.forget(&drift("hook"));
        assert_eq!(gate.admit(&drift("hook"), start + SAME), Admission::Publish);
    }

    #[test]
    fn many_in_a_row_are_held_back_and_policies_do_not_silence_the_node() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        let published = |gate: &mut Gate, range: std::ops::Range<u64>, now| {
            let admitted = range.map(|n| gate.admit(&policy(n), now));
            admitted.filter(|admission| *admission == Admission::Publish).count()
        };
        assert_eq!(published(&mut gate, 0..50, start), 10);
        assert_eq!(gate.admit(&drift("hook"), start), Admission::Publish);
        assert_eq!(published(&mut gate, 50..60, start + EARNED * 3), 3);
        let later = start + EARNED * 1000;
        assert_eq!(published(&mut gate, 60..160, later), 10, "no more is saved up than a burst");
    }
}
