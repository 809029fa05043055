//! What a node adds to the policies: its name, its wiring, and the operator's choices.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::name::NodeName;

/// Everything besides the snapshot that a ruleset depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node whose pods are policed.
    pub node: NodeName,
    /// The bridges that carry local pods; empty where bridged packets never meet iptables.
    pub bridges: BTreeSet<InterfaceName>,
    /// Whether IPVS delivers services here, so that OUTPUT needs a hook too.
    pub ipvs: bool,
    /// Whether flows that a change denies may live on (no mid-stream check is written).
    pub keep_established: bool,
    /// What a pod's traffic to itself through a Service meets.
    pub hairpin: Hairpin,
    /// What a denied packet's sender is told.
    pub deny: DenyAction,
}

impl NodeConfig {
    /// The defaults for a node of that name: no bridges, no IPVS, silent drop.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            bridges: BTreeSet::new(),
            ipvs: false,
            keep_established: false,
            hairpin: Hairpin::Allow,
            deny: DenyAction::Drop,
        }
    }
}

/// What a pod's traffic to itself through a Service meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hairpin {
    /// It is always allowed.
    #[default]
    Allow,
    /// Policies judge it like any other.
    Police,
}

/// What a denied packet's sender is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenyAction {
    /// Nothing.
    #[default]
    Drop,
    /// A TCP reset, or an ICMP port-unreachable.
    Reject,
}

/// The name of a network interface: 1 to 15 bytes, no `/`, no white space, not `.` or `..`, and
/// none of the characters that iptables takes for something else (`+` at the end, `!`, quotes).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Arc<str>);

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no interface name that a rule can carry")]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// Parses an interface name.
    ///
    /// # Errors
    /// Where the kernel or iptables would not take it literally.
    pub fn new(text: &str) -> Result<Self, InterfaceNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@:".contains(&b);
        let ok = (1..=15).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('-')
            && text != "."
            && text != "..";
        if ok { Ok(Self(Arc::from(text))) } else { Err(InterfaceNameError(text.to_owned())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
