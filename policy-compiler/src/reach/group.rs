//! Parties, their ends put together by class.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::cidr::Family;

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
    /// Whether more than the class may matter: nodes, and pods that share addresses.
    pub(super) apart: bool,
}

/// Each end and how many pods it stands for.
type Seats<'a> = Vec<(Rc<Seat<'a>>, u64)>;

impl<'a> Group<'a> {
    pub(super) fn new(family: Family, seats: impl Iterator<Item = (Rc<Seat<'a>>, u64)>) -> Self {
        let mut cells: BTreeMap<(SeatClass, bool), Seats<'a>> = BTreeMap::new();
        for (seat, instances) in seats {
            let apart = seat.is_node() || !(seat.is_alone() || seat.standing.pods.is_empty());
            cells.entry((seat.class, apart)).or_default().push((seat, instances));
        }
        let cell = |((class, apart), mut seats): ((SeatClass, bool), Seats<'a>)| {
            seats.sort_by(|(a, _), (b, _)| a.end.cmp(&b.end));
            let instances = seats.iter().map(|(_, instances)| instances).sum();
            Cell { class, seats, instances, apart }
        };
        Self { family, cells: cells.into_iter().map(cell).collect() }
    }
}

impl Cell<'_> {
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
