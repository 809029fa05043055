//! How many packets were denied, or would be were it not for an audit, as the kernel counts them: exact
//! however few are told of.
//!
//! The kernel counts from zero again where the rules are written anew; what it counted between our last
//! look and that moment is not seen.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::policy::Direction;
use policy_compiler::ruleset::{Notice, Ruleset};

use crate::dataplane::backend::{Backend, has_ipv6};
use crate::dataplane::command::{CommandError, Runner};
use crate::dataplane::counted_packets;

/// What is counted.
pub(super) type Counted = (Family, Notice);

/// What there is to count: denials where they are told of, and the audits that the rules make.
pub(super) fn told(ruleset: &Ruleset, denials: bool) -> BTreeSet<Counted> {
    let all = Family::ALL.into_iter().flat_map(|family| Notice::ALL.map(|notice| (family, notice)));
    all.filter(|(family, notice)| match notice {
        Notice::Denied(_) => denials,
        Notice::Audited(_) => ruleset.family(*family).tells(*notice),
    })
    .collect()
}

/// What the kernel had counted when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// In which backend that was.
    backend: Option<Backend>,
    last: BTreeMap<Counted, u64>,
}

impl Counters {
    /// How many more there are of each since the last look.
    pub(super) fn look(
        &mut self,
        runner: &Runner,
        backend: Backend,
        counted: &BTreeSet<Counted>,
    ) -> Result<Vec<(Counted, u64)>, CommandError> {
        if self.backend.replace(backend) != Some(backend) {
            self.last.clear();
        }
        // Chains that go and come back count from zero.
        self.last.retain(|known, _| counted.contains(known));
        let mut more = Vec::new();
        let ipv6 = has_ipv6();
        for (family, notice) in counted.iter().filter(|(family, _)| *family == Family::V4 || ipv6) {
            let now = counted_packets(runner, backend, *family, chain(*notice))?;
            more.push(((*family, *notice), self.since((*family, *notice), now)));
        }
        Ok(more)
    }

    fn since(&mut self, counted: Counted, now: u64) -> u64 {
        let last = self.last.insert(counted, now).unwrap_or(0);
        // Where it is less, it began again.
        now.checked_sub(last).unwrap_or(now)
    }
}

/// The chain whose last rules count.
fn chain(notice: Notice) -> &'static str {
    match notice {
        Notice::Denied(Direction::Egress) => "NPC-DENY-E",
        Notice::Denied(Direction::Ingress) => "NPC-DENY-I",
        Notice::Audited(Direction::Egress) => "NPC-AUDIT-E",
        Notice::Audited(Direction::Ingress) => "NPC-AUDIT-I",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_added_up_over_a_new_beginning() {
        let mut counters = Counters::default();
        let ingress = Notice::Denied(Direction::Ingress);
        let counts = [5, 5, 9, 2, 0, 3];
        let more = counts.map(|now| counters.since((Family::V4, ingress), now));
        assert_eq!(more, [5, 0, 4, 2, 0, 3]);
        assert_eq!(counters.since((Family::V6, ingress), 1), 1, "each by itself");
        let audited = Notice::Audited(Direction::Ingress);
        assert_eq!(counters.since((Family::V4, audited), 4), 4, "each by itself");
    }
}
