//! What becomes of a write, and how a family stands after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, FamilyRules, Hook, Rule};
use serde::{Deserialize, Serialize};

use super::above::Position;
use super::drift::Drift;
use super::engines::PolicyEngine;
use super::error::WriteError;
use super::refusal;

/// What a write changed in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether everything of ours was written anew.
    pub whole: bool,
    /// Sets made.
    pub sets_created: usize,
    /// Members put into new sets or added to standing ones.
    pub members_added: usize,
    /// Members removed from standing sets.
    pub members_removed: usize,
    /// Chains declared.
    pub chains_replaced: usize,
    /// Chains removed.
    pub chains_deleted: usize,
    /// Sets given up; the kernel may keep one for a moment.
    pub sets_destroyed: usize,
    /// What others had changed and this put right.
    pub repaired: BTreeSet<Drift>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { whole: self.whole, ..Self::default() }
    }
}

/// What the last readings of a family showed of others' rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where ours stood in each built-in chain that is to have one, before it was put right.
    pub hooks: BTreeMap<Hook, Option<Position>>,
    /// Other engines whose policies are in table `filter`.
    pub engines: BTreeSet<PolicyEngine>,
    /// Whether rules of `nft`'s own keep iptables from showing table `filter`.
    pub hidden: bool,
}

/// How one family fared.
#[derive(Debug)]
pub enum Outcome {
    /// It was in step and nothing was asked of it.
    Unchanged,
    /// It is in step.
    Written(Changes),
    /// It is out of step.
    Failed(WriteError),
    /// This kernel does not have it, so that there is nothing to enforce.
    Absent,
}

/// How both families fared.
#[derive(Debug)]
pub struct Written {
    /// IPv4.
    pub v4: Outcome,
    /// IPv6.
    pub v6: Outcome,
}

impl Written {
    /// By family, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &Outcome)> {
        [(Family::V4, &self.v4), (Family::V6, &self.v6)].into_iter()
    }

    /// Whether nothing was written, nor failed to be.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.iter().all(|(_, outcome)| matches!(outcome, Outcome::Unchanged | Outcome::Absent))
    }

    /// Whether the kernel holds what was wanted.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.iter().all(|(_, outcome)| !matches!(outcome, Outcome::Failed(_)))
    }
}

/// Whether the kernel holds what was last wanted of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyState {
    /// It does, as far as is known.
    InStep,
    /// It does not, or not yet.
    OutOfStep,
    /// It does not have the family, so that there is nothing to enforce.
    Absent,
}

/// What was written of a family.
#[derive(Clone, Debug)]
pub struct AsWritten {
    /// Whether the kernel holds it, as far as is known.
    pub state: FamilyState,
    /// How many times something was set out to be changed.
    pub writes: u64,
    /// The rules, with the names that the kernel knows and without what it refuses.
    pub rules: FamilyRules,
    /// Chains that nobody wants, empty, which rules of others lead to.
    pub held: BTreeSet<ChainName>,
    /// Sets that nobody wants and that the kernel has not let go of.
    pub given_up: BTreeSet<String>,
}

/// A rule that the kernel refuses, and so is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The family whose kernel it is.
    pub family: Family,
    /// The rule, without its comment.
    pub rule: Rule,
    /// The chains that want it.
    pub chains: BTreeSet<ChainName>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the kernel refuses `{}`", self.family, refusal::words(&self.rule))
    }
}
