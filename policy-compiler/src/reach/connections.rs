//! What two ends, or two groups of ends, may exchange.

use std::fmt;

use crate::flow::Traffic;
use crate::verdict::Decision;

use super::traffic::TrafficSet;
use super::undefined::Undefined;

/// What becomes of all traffic from one end to another in one family. What is neither allowed nor
/// unknown is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connections {
    allowed: TrafficSet,
    /// Disjoint from what is allowed.
    unknown: TrafficSet,
    /// On what the verdicts rest that the specification leaves open.
    undefined: Undefined,
}

impl Connections {
    /// Nothing is allowed.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Everything is allowed.
    #[must_use]
    pub fn everything() -> Self {
        Self { allowed: TrafficSet::everything(), ..Self::default() }
    }

    /// `allowed` is, and of `unknown` (as far as that is not allowed) the input does not tell.
    #[must_use]
    pub fn new(allowed: TrafficSet, unknown: &TrafficSet) -> Self {
        let unknown = unknown.difference(&allowed);
        Self { allowed, unknown, undefined: Undefined::default() }
    }

    /// The same, resting on what `undefined` says and on nothing else that the specification leaves open.
    #[must_use]
    pub(super) fn resting_on(self, undefined: Undefined) -> Self {
        Self { undefined, ..self }
    }

    /// Of which traffic the specification leaves the verdict open, whatever it is.
    #[must_use]
    pub fn undefined(&self) -> &Undefined {
        &self.undefined
    }

    /// What is surely allowed.
    #[must_use]
    pub fn allowed(&self) -> &TrafficSet {
        &self.allowed
    }

    /// Of what the input does not tell.
    #[must_use]
    pub fn unknown(&self) -> &TrafficSet {
        &self.unknown
    }

    /// What is not surely denied.
    #[must_use]
    pub fn possible(&self) -> TrafficSet {
        self.allowed.union(&self.unknown)
    }

    /// The decision on `traffic`.
    #[must_use]
    pub fn decision(&self, traffic: Traffic) -> Decision {
        if self.allowed.contains(traffic) {
            Decision::Allowed
        } else if self.unknown.contains(traffic) {
            Decision::Unknown
        } else {
            Decision::Denied
        }
    }

    /// What passes where both must let it: two halves of a connection.
    #[must_use]
    pub fn and(&self, other: &Connections) -> Connections {
        let allowed = self.allowed.intersection(&other.allowed);
        let both = Connections::new(allowed, &self.possible().intersection(&other.possible()));
        let undefined = self.undefined_of(other, &both);
        both.resting_on(undefined)
    }

    /// What `both` halves together rest on: an allowance on what either does, anything else on what the
    /// halves do that say so; and a denial on nothing where one of them needs nothing.
    fn undefined_of(&self, other: &Connections, both: &Connections) -> Undefined {
        if self.undefined.is_empty() && other.undefined.is_empty() {
            return Undefined::default();
        }
        let deciding = |half: &Connections, beside: &Connections| {
            let denied = half.possible().complement();
            let settled = beside.possible().union(&beside.undefined.traffic()).complement();
            let decided = both.allowed.union(&half.unknown.intersection(&both.unknown));
            half.undefined.within(&decided.union(&denied.difference(&settled)))
        };
        deciding(self, other).union(&deciding(other, self))
    }

    /// Whether all is surely denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.unknown.is_empty()
    }

    /// Whether all is surely allowed.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.allowed.is_all()
    }
}

impl fmt::Display for Connections {
    /// `80/TCP`, `80/TCP; unknown: 53/UDP`, `unknown: everything`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.allowed.is_empty(), self.unknown.is_empty()) {
            (_, true) => write!(f, "{}", self.allowed),
            (true, false) => write!(f, "unknown: {}", self.unknown),
            (false, false) => write!(f, "{}; unknown: {}", self.allowed, self.unknown),
        }
    }
}

/// What becomes of traffic between two groups of ends in one family, over all pairs of them.
///
/// A pair is one end of the first group and another end of the second: nothing is asked of a pod and
/// itself, unless each group is that pod alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Between {
    /// Allowed for every pair; within `some`. Nothing where there are no pairs.
    pub all: TrafficSet,
    /// Allowed for one pair at least.
    pub some: TrafficSet,
    /// Of what the input does not tell for one pair at least.
    pub unknown: TrafficSet,
    /// Of which traffic the specification leaves the verdict on one pair at least open.
    pub undefined: Undefined,
    /// How many pairs there are: pods that a template is to make count each. None where the ends have
    /// no such family in common.
    pub pairs: u64,
    /// Whether both groups are one and the same single pod, which always reaches itself.
    pub itself: bool,
}

impl Between {
    /// Whether the same is allowed for every pair, and surely.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.all == self.some && self.unknown.is_empty()
    }

    /// What some pairs have and others lack.
    #[must_use]
    pub fn partly(&self) -> TrafficSet {
        self.some.difference(&self.all)
    }

    /// Whether all is surely denied for every pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.some.is_empty() && self.unknown.is_empty()
    }

    /// Whether everything is allowed for every pair, of which there is one at least.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.all.is_all()
    }

    /// The same with `times` further pairs that have `connections`.
    pub(super) fn add(&mut self, connections: &Connections, times: u64) {
        if times == 0 {
            return;
        }
        if self.pairs == 0 {
            self.all = connections.allowed.clone();
        } else if self.all != connections.allowed {
            self.all = self.all.intersection(&connections.allowed);
        }
        if self.some != connections.allowed {
            self.some = self.some.union(&connections.allowed);
        }
        if !connections.unknown.is_empty() {
            self.unknown = self.unknown.union(&connections.unknown);
        }
        if self.undefined != connections.undefined {
            self.undefined = self.undefined.union(&connections.undefined);
        }
        self.pairs = self.pairs.saturating_add(times);
    }
}

/// What decides what two groups may exchange. Of one `Reach`, groups that meet alike have equal sets of
/// traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Met {
    /// What some pair of ends may exchange, by number, each once. Mostly there is no more than one.
    first: Option<usize>,
    more: Vec<usize>,
    /// Whether both groups are one and the same single pod.
    itself: bool,
}

impl Met {
    /// Some pair may exchange what has this number.
    pub(super) fn add(&mut self, number: usize) {
        match self.first {
            None => self.first = Some(number),
            Some(first) if first == number => {}
            Some(_) => self.more.push(number),
        }
    }

    /// There are no more pairs; `itself` says whether some end is in both groups.
    pub(super) fn end(&mut self, itself: bool) {
        self.more.sort_unstable();
        self.more.dedup();
        // Whichever came first, the same numbers are the same.
        if let (Some(first), Some(least)) = (&mut self.first, self.more.first_mut())
            && *least < *first
        {
            std::mem::swap(first, least);
            self.more.sort_unstable();
        }
        self.itself = itself && self.first.is_none();
    }

    /// Whether there is no pair that has such a family.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.first.is_none() && !self.itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Protocol;

    fn tcp(port: u16) -> TrafficSet {
        let port = std::num::NonZeroU16::new(port).expect("a port");
        TrafficSet::of_ports(Protocol::Tcp, crate::port::PortRange::single(port))
    }

    #[test]
    fn a_connection_needs_both_halves_and_is_unknown_where_one_is_and_none_denies() {
        let a = Connections::new(tcp(1).union(&tcp(2)), &tcp(3).union(&tcp(4)));
        let b = Connections::new(tcp(1).union(&tcp(3)), &tcp(2).union(&tcp(4)));
        let both = a.and(&b);
        assert_eq!(both, Connections::new(tcp(1), &tcp(2).union(&tcp(3)).union(&tcp(4))));
        for port in 1..=5 {
            let traffic = Traffic::tcp(port);
            assert_eq!(both.decision(traffic), a.decision(traffic).and(b.decision(traffic)));
        }
        assert_eq!(both.to_string(), "1/TCP; unknown: 2-4/TCP");
        assert_eq!(a.and(&Connections::everything()), a);
        assert_eq!(a.and(&Connections::nothing()), Connections::nothing());
    }

    #[test]
    fn a_group_has_in_part_what_only_some_pairs_have() {
        let mut between = Between::default();
        between.add(&Connections::new(tcp(1).union(&tcp(2)), &TrafficSet::nothing()), 2);
        assert!(between.is_uniform());
        between.add(&Connections::new(tcp(2), &tcp(3)), 1);
        assert_eq!((&between.all, &between.partly()), (&tcp(2), &tcp(1)));
        assert_eq!((&between.unknown, between.pairs), (&tcp(3), 3));
        assert!(!between.is_uniform());
    }
}
