//! Parties, their ends put together by class.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::cidr::Family;
use crate::name::NodeName;

use super::halves::{Seat, SeatClass};

/// The ends of a party that have one family, ready to be asked about many times.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub(super) family: Family,
    pub(super) cells: Vec<Cell<'a>>,
}

/// Ends of one class.
#[derive(Clone, Debug)]
pub(super) struct Cell<'a> {
    pub(super) class: SeatClass,
    /// In the order of their ends.
    pub(super) seats: Seats<'a>,
    /// How many pods these are together.
    pub(super) instances: u64,
    /// Whether more than the class may matter: pods that share addresses.
    apart: bool,
    /// The nodes that these are.
    nodes: BTreeSet<&'a NodeName>,
    /// The nodes that they run on.
    homes: BTreeSet<&'a NodeName>,
}

/// Each end and how many pods it stands for.
type Seats<'a> = Vec<(Rc<Seat<'a>>, u64)>;

impl<'a> Group<'a> {
    pub(super) fn new(family: Family, seats: impl Iterator<Item = (Rc<Seat<'a>>, u64)>) -> Self {
        let mut cells: BTreeMap<(SeatClass, bool), Seats<'a>> = BTreeMap::new();
        for (seat, instances) in seats {
            let apart = seat.is_ambiguous() || !(seat.is_alone() || seat.standing.pods.is_empty());
            cells.entry((seat.class, apart)).or_default().push((seat, instances));
        }
        let cell = |((class, apart), mut seats): ((SeatClass, bool), Seats<'a>)| {
            seats.sort_by(|(a, _), (b, _)| a.end.cmp(&b.end));
            let instances = seats.iter().map(|(_, instances)| instances).sum();
            let nodes = seats.iter().flat_map(|(seat, _)| seat.standing.nodes.iter().copied());
            let homes = seats.iter().filter_map(|(seat, _)| seat.node());
            let (nodes, homes) = (nodes.collect(), homes.collect());
            Cell { class, seats, instances, apart, nodes, homes }
        };
        Self { family, cells: cells.into_iter().map(cell).collect() }
    }
}

impl Cell<'_> {
    /// Whether the class does not tell what these exchange: where addresses are shared, and between pods and
    /// the nodes that some of them run on.
    pub(super) fn is_met_singly(&self, other: &Cell<'_>) -> bool {
        let at_home = |nodes: &BTreeSet<&NodeName>, homes: &BTreeSet<&NodeName>| {
            nodes.iter().any(|node| homes.contains(node))
        };
        self.apart
            || other.apart
            || (!self.nodes.is_empty() && !other.nodes.is_empty())
            || at_home(&self.nodes, &other.homes)
            || at_home(&other.nodes, &self.homes)
    }

    /// The ends that both hold and that are pods, each with how many it stands for.
    pub(super) fn shared(&self, other: &Cell<'_>) -> Vec<u64> {
        let pods = self.seats.iter().any(|(seat, _)| !seat.standing.pods.is_empty());
        if self.class != other.class || !pods {
            return Vec::new();
        }
        let within = |seat: &Seat<'_>| {
            other.seats.binary_search_by(|(known, _)| known.end.cmp(&seat.end)).is_ok()
        };
        let shared = self.seats.iter().filter(|(seat, _)| within(seat));
        shared.map(|(_, instances)| *instances).collect()
    }
}
