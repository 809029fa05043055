//! What a node adds to the policies: its name, its wiring, and the operator's choices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

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
    /// The networks that the addresses of this node's pods are taken from: traffic of an address in
    /// them that belongs to nobody known yet is denied. None: no address is denied for being unknown.
    ///
    /// They must be this node's own. In the network of a whole cluster lie the addresses that other
    /// nodes have there for themselves (of bridges and tunnels), which no object tells.
    pub pod_networks: BTreeSet<IpNet>,
    /// Whether the kernel tells of packets that it denies, so many a second.
    pub log_denied: bool,
    /// Whose interfaces may send from which addresses only; `None` where that is not checked.
    pub antispoof: Option<Antispoof>,
}

/// The nodes that deny unknown addresses in the networks of their pods, with these networks: what
/// every node's [`NodeConfig::pod_networks`] says, for those who look at more than one.
pub type PodNetworks = BTreeMap<NodeName, BTreeSet<IpNet>>;

impl NodeConfig {
    /// The defaults for a node of that name: no bridges, no IPVS, silent drop, unknown
    /// addresses not denied.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            bridges: BTreeSet::new(),
            ipvs: false,
            keep_established: false,
            hairpin: Hairpin::Allow,
            deny: DenyAction::Drop,
            pod_networks: BTreeSet::new(),
            log_denied: false,
            antispoof: None,
        }
    }
}

/// What is known of the pods' interfaces, for the check that none sends from another's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Antispoof {
    /// The interfaces by which this node routes to its pods, each with the addresses behind it. What
    /// else comes in there is dropped. Ports of bridges are not among them: their frames are checked
    /// before iptables sees them.
    pub interfaces: BTreeMap<InterfaceName, BTreeSet<IpAddr>>,
    /// The UDP ports on which this node takes packets out of tunnels, and so believes what is within.
    pub tunnel_ports: BTreeSet<NonZeroU16>,
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
