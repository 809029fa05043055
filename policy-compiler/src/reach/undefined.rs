//! Of which traffic a verdict rests on choices that the specification leaves open.
//!
//! Invariant: no ruling is kept with an empty set.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::Traffic;
use crate::verdict::Ruling;

use super::traffic::TrafficSet;

/// For each ruling the traffic on which the verdict rests on it; the specification settles the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Undefined(BTreeMap<Ruling, TrafficSet>);

impl Undefined {
    /// Verdicts on `traffic` rest on each of `rulings`.
    #[must_use]
    pub fn of(rulings: impl IntoIterator<Item = Ruling>, traffic: &TrafficSet) -> Self {
        let mut undefined = Self::default();
        for ruling in rulings {
            undefined.add(ruling, traffic);
        }
        undefined
    }

    fn add(&mut self, ruling: Ruling, traffic: &TrafficSet) {
        if !traffic.is_empty() {
            let known = self.0.entry(ruling).or_default();
            *known = known.union(traffic);
        }
    }

    /// Whether the specification settles everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The traffic that it does not settle.
    #[must_use]
    pub fn traffic(&self) -> TrafficSet {
        self.0.values().fold(TrafficSet::nothing(), |all, set| all.union(set))
    }

    /// The rulings, in order.
    #[must_use]
    pub fn rulings(&self) -> BTreeSet<Ruling> {
        self.0.keys().copied().collect()
    }

    /// The rulings on which the verdict on `traffic` rests.
    #[must_use]
    pub fn on(&self, traffic: Traffic) -> BTreeSet<Ruling> {
        let resting = self.0.iter().filter(|(_, set)| set.contains(traffic));
        resting.map(|(ruling, _)| *ruling).collect()
    }

    /// What of it is about `traffic`.
    #[must_use]
    pub fn within(&self, traffic: &TrafficSet) -> Self {
        let mut within = Self::default();
        for (ruling, set) in &self.0 {
            within.add(*ruling, &set.intersection(traffic));
        }
        within
    }

    /// What either has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (ruling, set) in &other.0 {
            union.add(*ruling, set);
        }
        union
    }
}
