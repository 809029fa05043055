//! How many packets were denied, as the kernel counts them: exact however few are told of.
//!
//! The kernel counts from zero again where the rules are written anew; what it counted between our last
//! look and that moment is not seen.

use std::collections::BTreeMap;

use policy_compiler::cidr::Family;
use policy_compiler::policy::Direction;

use crate::dataplane::backend::{Backend, has_ipv6};
use crate::dataplane::command::{CommandError, Runner};
use crate::dataplane::denied_packets;

/// What the kernel had counted when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// In which backend that was.
    backend: Option<Backend>,
    last: BTreeMap<(Family, Direction), u64>,
}

impl Counters {
    /// How many more there are of each since the last look.
    pub(super) fn look(
        &mut self,
        runner: &Runner,
        backend: Backend,
    ) -> Result<Vec<(Family, Direction, u64)>, CommandError> {
        if self.backend.replace(backend) != Some(backend) {
            self.last.clear();
        }
        let mut more = Vec::new();
        let families = Family::ALL.into_iter().filter(|family| *family == Family::V4 || has_ipv6());
        for family in families {
            for direction in Direction::ALL {
                let now = denied_packets(runner, backend, family, direction)?;
                more.push((family, direction, self.since(family, direction, now)));
            }
        }
        Ok(more)
    }

    fn since(&mut self, family: Family, direction: Direction, now: u64) -> u64 {
        let last = self.last.insert((family, direction), now).unwrap_or(0);
        // Where it is less, it began again.
        now.checked_sub(last).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_added_up_over_a_new_beginning() {
        let mut counters = Counters::default();
        let counts = [5, 5, 9, 2, 0, 3];
        let more = counts.map(|now| counters.since(Family::V4, Direction::Ingress, now));
        assert_eq!(more, [5, 0, 4, 2, 0, 3]);
        assert_eq!(counters.since(Family::V6, Direction::Ingress, 1), 1, "each by itself");
    }
}
