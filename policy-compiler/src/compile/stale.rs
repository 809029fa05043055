//! What may have become different since the structure was compiled last.

use std::collections::BTreeSet;

use crate::name::{NamespaceName, ObjectKey};

/// What has to be looked at again. Of a pod of the node everything is looked at that may be its own, so
/// that whoever notes a change need not know what it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(crate) struct Stale {
    /// All there is: nothing of the last time holds.
    pub(crate) everything: bool,
    /// What of the configuration concerns no pod by itself.
    pub(crate) frame: bool,
    /// Pods that are on the node, or were.
    pub(crate) pods: BTreeSet<ObjectKey>,
    /// Namespaces whose policies have changed, or whether these are audited.
    pub(crate) namespaces: BTreeSet<NamespaceName>,
    /// Whose the addresses of local pods are that several claim, or a node.
    pub(crate) owners: bool,
    /// Which numbers are found under names.
    pub(crate) numbers: bool,
}

impl Stale {
    /// Everything.
    pub(crate) fn everything() -> Self {
        Self { everything: true, frame: true, ..Self::default() }
    }

    /// Whether there is nothing to look at.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
