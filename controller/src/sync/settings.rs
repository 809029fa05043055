//! The operator's choices, as the loop needs them.

use std::time::Duration;

use policy_compiler::config::{DenyAction, Hairpin};
use policy_compiler::name::NodeName;

/// The operator's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub node: NodeName,
    /// Whether IPVS delivers services here.
    pub ipvs: Ipvs,
    /// What a pod's traffic to itself through a Service meets.
    pub hairpin: Hairpin,
    /// What a denied packet's sender is told.
    pub deny: DenyAction,
    /// Whether flows that a change denies may live on.
    pub keep_established: bool,
    /// How often the names of chains and sets are read back and put right; never where zero.
    pub verify_interval: Duration,
    /// Whether the kernel's switches for bridges are put on wherever they are found off.
    pub set_bridge_sysctls: bool,
}

/// Whether IPVS delivers services on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipvs {
    /// As the kernel shows.
    #[default]
    Auto,
    /// It does.
    On,
    /// It does not.
    Off,
}
