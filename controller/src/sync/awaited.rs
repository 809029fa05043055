//! The events that wait for the kernel, so that their way can be timed.
//!
//! An event counts that made an object of the engine another, once the write that contains it has
//! succeeded in all families, and only where that write changed anything. What is listed anew does
//! not count: nobody knows when that happened. Bounded: while a write fails for long the later events
//! are not timed.

use std::time::Instant;

use crate::source::Kind;

/// How many events are timed at once.
const MOST: usize = 65_536;

/// Events, by whether a plan contains them.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    arrived: Vec<(Kind, Instant)>,
    planned: Vec<(Kind, Instant)>,
}

impl Awaited {
    /// An object of that kind is another, as seen then.
    pub(super) fn arrive(&mut self, kind: Kind, seen: Instant) {
        if self.arrived.len() + self.planned.len() < MOST {
            self.arrived.push((kind, seen));
        }
    }

    /// Everything that has arrived is part of the plan.
    pub(super) fn plan(&mut self) {
        self.planned.append(&mut self.arrived);
    }

    /// The plan has been carried out, or has changed nothing: what it contained.
    pub(super) fn finish(&mut self) -> Vec<(Kind, Instant)> {
        std::mem::take(&mut self.planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_comes_after_the_plan_waits_for_the_next() {
        let (mut awaited, seen) = (Awaited::default(), Instant::now());
        awaited.arrive(Kind::Pod, seen);
        awaited.plan();
        awaited.arrive(Kind::Policy, seen);
        assert_eq!(awaited.finish(), [(Kind::Pod, seen)]);
        assert_eq!(awaited.finish(), []);
        awaited.plan();
        assert_eq!(awaited.finish(), [(Kind::Policy, seen)]);
    }

    #[test]
    fn where_nothing_is_ever_written_memory_is_bounded() {
        let (mut awaited, seen) = (Awaited::default(), Instant::now());
        for _ in 0..MOST + 5 {
            awaited.arrive(Kind::Pod, seen);
            awaited.plan();
        }
        assert_eq!(awaited.finish().len(), MOST);
    }
}
