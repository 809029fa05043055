//! The rows of the table: which layouts meet on which traffic, and what should come of it.

mod changes;
mod loads;
mod packets;
mod peers;
mod sizes;

use policy_compiler::port::Protocol;

use super::BenchError;
use super::duel::Effort;
use super::report::{Machine, Report, Row};
use super::shape::{Directions, Shape, TOGETHER};
use crate::enforcement::Backend;

/// What there is to choose from, in the order of measuring, and what each group is.
pub const GROUPS: [(&str, &str); 10] = [
    ("rules", "how many rules a node has"),
    ("node", "an established packet that the node itself sends"),
    ("steady", "a byte to and fro on an open TCP connection"),
    ("connection", "a TCP connection opened, accepted and broken off"),
    ("flow", "the first packet of a flow, allowed"),
    ("denied", "the first packet of a flow, denied"),
    ("peer", "a pod of another node comes, to the first packet of it that passes"),
    ("change", "a pod of this node or a policy changes, to the kernel"),
    ("first", "the first rules of a node"),
    ("set", "a set of 100,000 addresses"),
];

/// How much is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// As much as the figures need.
    #[default]
    Full,
    /// Little of each, for a first look.
    Quick,
    /// A small node and next to nothing of each: to see that all of it works, and that every packet takes
    /// its way.
    Small,
}

impl Size {
    /// One of three, by size.
    fn pick<T>(self, full: T, quick: T, small: T) -> T {
        match self {
            Size::Full => full,
            Size::Quick => quick,
            Size::Small => small,
        }
    }
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Groups of [`GROUPS`]; all of them where there is none.
    pub groups: Vec<String>,
    /// Under which backends.
    pub backends: Vec<Backend>,
    /// How much.
    pub size: Size,
}

impl Default for Selection {
    fn default() -> Self {
        Self { groups: Vec::new(), backends: Backend::ALL.to_vec(), size: Size::Full }
    }
}

impl Selection {
    fn has(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|chosen| chosen == group)
    }

    /// The first that is no group.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        let known = |chosen: &&String| GROUPS.iter().any(|(group, _)| *group == chosen.as_str());
        self.groups.iter().find(|chosen| !known(chosen)).map(String::as_str)
    }

    /// The node of which most rows speak.
    fn node(&self, directions: Directions, protocol: Protocol) -> Shape {
        let pods = self.size.pick(250, 250, 20);
        Shape { pods, together: TOGETHER, policies: 10, directions, protocol }
    }

    fn effort(&self) -> Effort {
        self.size.pick(
            Effort { quads: 20, warming: 32, batches: 128 },
            Effort { quads: 4, warming: 16, batches: 64 },
            Effort { quads: 1, warming: 1, batches: 2 },
        )
    }
}

/// Measures all that was chosen. `progress` is told of each row as it comes.
///
/// # Errors
/// Where the machine cannot do it, or packets did not go where they were meant to.
pub fn measure(
    selection: &Selection,
    progress: &mut (dyn FnMut(&Row) + Send),
) -> Result<Report, BenchError> {
    let mut rows = Vec::new();
    let mut take = |measured: Vec<Row>| {
        for row in &measured {
            progress(row);
        }
        rows.extend(measured);
    };
    if selection.has("rules") {
        take(sizes::rules(selection)?);
    }
    for &backend in &selection.backends {
        packets::measure(selection, backend, &mut take)?;
        if selection.has("peer") {
            take(peers::measure(selection, backend)?);
        }
        if selection.has("change") {
            take(changes::measure(selection, backend)?);
        }
        if selection.has("first") {
            take(loads::first(selection, backend)?);
        }
    }
    if selection.has("set") {
        take(loads::set(selection)?);
    }
    Ok(Report { machine: Machine::here(), quick: selection.size != Size::Full, rows })
}
