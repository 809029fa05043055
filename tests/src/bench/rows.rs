//! The rows of the table: which layouts meet on which traffic, and what should come of it.

mod packets;
mod sizes;

use super::BenchError;
use super::duel::Effort;
use super::report::{Machine, Report, Row};
use crate::enforcement::Backend;

/// What there is to choose from, in the order of measuring, and what each group is.
pub const GROUPS: [(&str, &str); 6] = [
    ("rules", "how many rules a node has"),
    ("node", "an established packet that the node itself sends"),
    ("steady", "a byte to and fro on an open TCP connection"),
    ("connection", "a TCP connection opened, accepted and broken off"),
    ("flow", "the first packet of a flow, allowed"),
    ("denied", "the first packet of a flow, denied"),
];

/// What to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Groups of [`GROUPS`]; all of them where there is none.
    pub groups: Vec<String>,
    /// Little of each, for a first look.
    pub quick: bool,
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

    fn effort(&self) -> Effort {
        if self.quick {
            Effort { quads: 4, warming: 4, batches: 16 }
        } else {
            Effort { quads: 20, warming: 8, batches: 48 }
        }
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
        measured.iter().for_each(|row| progress(row));
        rows.extend(measured);
    };
    if selection.has("rules") {
        take(sizes::rules()?);
    }
    for backend in Backend::ALL {
        packets::measure(selection, backend, &mut take)?;
    }
    Ok(Report { machine: Machine::here(), quick: selection.quick, rows })
}
