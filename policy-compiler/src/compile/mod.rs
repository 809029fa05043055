//! Compiles a snapshot to the ruleset of one node.
//!
//! ```text
//!  Snapshot ─> index          who is live, whose an address is, whom definitions mean
//!                  │
//!                  ├─> chosen      which local pods are isolated by which policies
//!                  ├─> grants      the union of the policies' rules by ports (peers, ports)
//!                  ├─> body        rules and the sets they look up (networks: exact union)
//!                  ├─> pod_chain   a chain for each pod, long bodies shared by content
//!                  ├─> audit       a chain for each pod that policies audit and none isolates
//!                  ├─> layout      hooks, entry chains, prefix trees (tree), mid-stream check,
//!                  │               denial of unknown addresses (unknown), of forged
//!                  │               ones (spoof)
//!                  └─> structure   all of it, with sets that say what they are filled from
//! ```
//!
//! What a set is filled from is looked up in the index: [`compile`] fills all sets, the engine follows
//! what joins and leaves.
//!
//! Total: whatever the snapshot, there is a ruleset, and what cannot be written denies and is
//! reported. Deterministic: the same snapshot and configuration give the same ruleset. Every set has
//! generation 0 here.
//!
//! Allow is RETURN and deny is a goto, so that an ordered tier before or behind a body would be a
//! further chain to go to, with nothing else changed.

mod asking;
mod audit;
mod bodies;
mod body;
mod chosen;
mod digest;
mod grants;
mod judged;
mod layout;
pub(crate) mod networks;
mod outline;
mod peers;
mod pod_chain;
mod ports;
mod spoof;
mod stale;
mod structure;
mod subjects;
mod tracked;
mod tree;
mod unknown;
mod unresolved;
mod warnings;

pub(crate) use self::outline::{Counts, Outline};
pub(crate) use self::stale::Stale;
pub(crate) use self::structure::{FamilyStructure, Source, Structure};
use crate::cluster::Snapshot;
use crate::config::NodeConfig;
use crate::diagnostic::Diagnostic;
use crate::index::Index;
use crate::ruleset::Ruleset;

/// A ruleset, and what there is to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The rules and sets of the node, every set in generation 0.
    pub ruleset: Ruleset,
    /// What was taken in the safe way or is probably not meant, sorted.
    pub diagnostics: Vec<Diagnostic>,
}

/// The ruleset by which `config.node` enforces the policies of `snapshot` on its pods.
#[must_use]
pub fn compile(snapshot: &Snapshot, config: &NodeConfig) -> Compiled {
    let mut index = Index::of(snapshot, config.node.clone());
    let mut outline = Outline::default();
    outline.follow(snapshot, &mut index, config, &Stale::everything());
    let ruleset = outline.structure().filled(&index);
    Compiled { ruleset, diagnostics: outline.diagnostics().to_vec() }
}

#[cfg(test)]
mod tests;
