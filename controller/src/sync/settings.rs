//! The operator's choices, as the loop needs them.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use policy_compiler::config::{DenyAction, Hairpin};
use policy_compiler::name::NodeName;

/// The operator's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
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
    /// Whether addresses of the pods' networks that belong to nobody known yet are denied.
    pub unknown: Unknown,
    /// Whether the kernel tells of packets that it denies.
    pub log_denied: bool,
    /// Whether pods may send from their own addresses alone.
    pub antispoof: bool,
    /// How often chains and sets are read back and put right without a sign that others changed them;
    /// never where zero.
    pub verify_interval: Duration,
    /// Whether the kernel's switches for bridges are put on wherever they are found off.
    pub set_bridge_sysctls: bool,
}

/// What traffic of an address meets that may be a pod's of this node and belongs to nobody known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// What any other address of the world meets.
    #[default]
    Allowed,
    /// It is denied where the address lies in one of these networks.
    DeniedIn(BTreeSet<IpNet>),
    /// It is denied where the address lies in one of the networks that the Node object has.
    DeniedInPodCidrs,
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
