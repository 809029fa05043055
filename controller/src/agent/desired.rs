//! What the kernel should hold, as the running agent has written it, for those who compare.
//!
//! The loop hands out clones; they are put into words on the client's thread.

use policy_compiler::cidr::Family;
use serde::{Deserialize, Serialize};

use super::look::Unanswered;
use super::serve::Context;
use crate::dataplane::backend::Backend;
use crate::dataplane::verify::Expected;
use crate::dataplane::{AsWritten, FamilyState};

/// What the kernel should hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// In which iptables.
    pub backend: Backend,
    /// By family, IPv4 first.
    pub families: Vec<DesiredFamily>,
    /// What the kernel refuses and is left out, a line each.
    pub refused: Vec<String>,
}

/// What the kernel should hold of a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredFamily {
    /// Whether it was written, as far as the agent knows.
    pub state: FamilyState,
    /// How many times the agent has set out to change the kernel: where this is the same before and
    /// after a reading, the agent changed nothing meanwhile.
    pub writes: u64,
    /// What was written.
    pub expected: Expected,
}

impl Desired {
    /// What is said of each family.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &DesiredFamily)> {
        Family::ALL.into_iter().zip(&self.families)
    }
}

/// What the kernel should hold.
pub(super) fn of(context: &Context) -> Result<Desired, Unanswered> {
    let (backend, written, refused) = context.look(|view| {
        let dataplane = view.dataplane;
        (dataplane.backend(), dataplane.written(view.engine.ruleset()), dataplane.refused())
    })?;
    let families = Family::ALL.into_iter().zip(written).map(|(family, written)| {
        let AsWritten { state, writes, rules, held, given_up } = written;
        let held = held.iter().map(ToString::to_string).collect();
        let expected = Expected { held, given_up, ..Expected::new(family, &rules) };
        DesiredFamily { state, writes, expected }
    });
    Ok(Desired { backend, families: families.collect(), refused })
}
