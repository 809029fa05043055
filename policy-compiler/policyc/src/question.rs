//! Asking `evaluate`: the only way in which a command learns what policies say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Addresses, Pod, Snapshot};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::port::Protocol;
use policy_compiler::verdict::Verdict;

use crate::args::Families;

/// The families that a command was asked for.
#[must_use]
pub fn asked(families: Families) -> Vec<Family> {
    match (families.ipv4, families.ipv6) {
        (true, _) => vec![Family::V4],
        (_, true) => vec![Family::V6],
        _ => Family::ALL.to_vec(),
    }
}

/// The families that `pod` speaks: those of its addresses, or both where it has none yet.
#[must_use]
pub fn spoken(pod: &Pod) -> Vec<Family> {
    Family::ALL
        .into_iter()
        .filter(|family| pod.addresses.is_empty() || pod.addresses.of(*family).is_some())
        .collect()
}

/// `snapshot` as it would be if hostNetwork pods had networks of their own, without addresses: shows
/// which peers would mean them.
#[must_use]
pub fn without_host_networks(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    for pod in snapshot.pods.values_mut().filter(|pod| pod.host_network) {
        pod.host_network = false;
        pod.addresses = Addresses::default();
    }
    snapshot
}

/// A port of `protocol` that no rule can name: what it meets shows what the rules want.
#[must_use]
pub fn no_port(protocol: Protocol) -> Traffic {
    Traffic::Port { protocol, port: 0 }
}

/// A snapshot ready to be asked.
#[derive(Debug)]
pub struct Questions<'a> {
    /// What is asked about.
    pub snapshot: &'a Snapshot,
    evaluator: Evaluator<'a>,
}

impl<'a> Questions<'a> {
    /// Questions about `snapshot`.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, evaluator: Evaluator::new(snapshot) }
    }

    /// The policies that isolate `pod` in `direction`, in the order of their names.
    #[must_use]
    pub fn isolating(&self, pod: &Pod, direction: Direction) -> Vec<ObjectKey> {
        self.evaluator.isolating(pod, direction).iter().map(|policy| policy.key.clone()).collect()
    }

    /// The policies that would isolate `pod` in `direction` and are audited only, in the order of their
    /// names.
    #[must_use]
    pub fn auditing(&self, pod: &Pod, direction: Direction) -> Vec<ObjectKey> {
        self.evaluator.auditing(pod, direction).iter().map(|policy| policy.key.clone()).collect()
    }

    /// The policies that select one of `pods` for any direction, audited or not.
    #[must_use]
    pub fn selecting(&self, pods: &[ObjectKey]) -> Vec<ObjectKey> {
        let pods = pods.iter().filter_map(|key| self.snapshot.pods.get(key));
        let both = |pod| {
            let of = |direction| [self.isolating(pod, direction), self.auditing(pod, direction)];
            Direction::ALL.map(of)
        };
        pods.flat_map(both).flatten().flatten().collect()
    }

    /// The verdict on one flow.
    #[must_use]
    pub fn verdict(&self, from: &End, to: &End, family: Family, traffic: Traffic) -> Verdict {
        self.evaluator.verdict(&Flow {
            from: from.clone(),
            to: to.clone(),
            family,
            traffic,
            wire: Wire::Routed,
        })
    }

    /// The verdict on a flow between `subject` and `other`, `subject` being the end that `direction`
    /// polices.
    #[must_use]
    pub fn between(
        &self,
        direction: Direction,
        subject: &End,
        other: &End,
        family: Family,
        traffic: Traffic,
    ) -> Verdict {
        match direction {
            Direction::Ingress => self.verdict(other, subject, family, traffic),
            Direction::Egress => self.verdict(subject, other, family, traffic),
        }
    }

    /// An address of `family` that is no pod's and no node's, out of the blocks for documentation.
    #[must_use]
    pub fn stranger(&self, family: Family) -> End {
        let candidates = (1..=254_u8).map(|n| match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, n.into())),
        });
        let free = candidates.into_iter().find(|address| {
            self.evaluator.owners(*address).is_empty()
                && self.evaluator.nodes_with(*address).is_empty()
        });
        End::Address(free.unwrap_or(match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 1)),
        }))
    }
}
