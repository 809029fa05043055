//! NetworkPolicies that cannot be invalid.
//!
//! What the user wrote wrongly is already settled here: a rule that cannot be understood is a
//! [`Grant::Nothing`] with the reason, and the isolation that the policy causes still stands. Indices
//! are those of the manifest, so that an explanation can say `ingress[1].from[0]`.
//!
//! Source: the `networking.k8s.io/v1` API reference.

use std::fmt;
use std::num::NonZeroU16;

use crate::cidr::IpBlock;
use crate::document::Location;
use crate::name::ObjectKey;
use crate::port::{PortName, PortRange, Protocol};
use crate::selector::Selector;

/// The annotation on a NetworkPolicy, or on a Namespace for all of its policies, that has it audited
/// and not enforced. Nothing but `"true"` does.
pub const AUDIT_ANNOTATION: &str = "policyd.dev/audit";

/// The direction of a connection as the selected pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of the pod.
    Egress,
}

impl Direction {
    /// Both, ingress first.
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];
}

impl fmt::Display for Direction {
    /// `ingress` or `egress`, as the field of the spec is called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// One NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each says one thing that a policy says or not")]
pub struct Policy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Which pods of the namespace it isolates, and to which its rules apply.
    pub pod_selector: Selector,
    /// Whether `policyTypes`, written or defaulted, has `Ingress`.
    pub isolates_ingress: bool,
    /// Whether `policyTypes`, written or defaulted, has `Egress`.
    pub isolates_egress: bool,
    /// The ingress rules as listed, whether or not the type makes them count.
    pub ingress: Vec<Rule>,
    /// The egress rules as listed, whether or not the type makes them count.
    pub egress: Vec<Rule>,
    /// Whether its annotation says that it is only audited. Its namespace may say so too: see
    /// [`Snapshot::audits`](crate::cluster::Snapshot::audits).
    pub audit: bool,
    /// Whether something in it was invalid (its diagnostics say what).
    pub flawed: bool,
    /// Where the object stands.
    pub location: Location,
}

impl Policy {
    /// Whether it is of the type of `direction`, and so isolates the pods that it selects there, or
    /// is audited there.
    #[must_use]
    pub fn isolates(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.isolates_ingress,
            Direction::Egress => self.isolates_egress,
        }
    }

    /// Gives back what was reserved for more rules, peers and ports.
    pub(crate) fn shrink(&mut self) {
        for rules in [&mut self.ingress, &mut self.egress] {
            rules.shrink_to_fit();
            for rule in rules {
                let Grant::Traffic { peers, ports } = &mut rule.grant else { continue };
                if let Peers::Listed(peers) = peers {
                    peers.shrink_to_fit();
                }
                if let Ports::Listed(ports) = ports {
                    ports.shrink_to_fit();
                }
            }
        }
    }

    /// The rules that count in `direction`: none where `policyTypes` lacks it.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress if self.isolates_ingress => &self.ingress,
            Direction::Egress if self.isolates_egress => &self.egress,
            _ => &[],
        }
    }
}

/// One item of `ingress` or `egress`. Its index is its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it allows.
    pub grant: Grant,
    /// Where it stands.
    pub location: Location,
}

/// What a rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing, since the rule is invalid; the text says why in one line.
    Nothing {
        /// Why, such as "`form` is no field of an ingress rule".
        reason: String,
    },
    /// Traffic with these peers on these ports.
    Traffic {
        /// From or to whom.
        peers: Peers,
        /// On which ports of the destination.
        ports: Ports,
    },
}

/// `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Absent or empty: everybody, inside the cluster and out.
    Any,
    /// Any of these; never empty.
    Listed(Vec<Peer>),
}

/// One item of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whom it means.
    pub selects: PeerSelects,
    /// Where it stands.
    pub location: Location,
}

/// Whom a [`Peer`] means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerSelects {
    /// Pods by labels.
    Pods {
        /// In which namespaces.
        namespaces: NamespaceScope,
        /// Which pods there.
        pods: Selector,
    },
    /// Addresses.
    Block(IpBlock),
}

/// The namespaces that a pod peer looks into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceScope {
    /// The policy's own: no `namespaceSelector` was given.
    Own,
    /// Those that the `namespaceSelector` selects, `{}` being all.
    Matching(Selector),
}

/// `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Absent or empty: every port of every protocol, ICMP too.
    Any,
    /// Any of these; never empty.
    Listed(Vec<PortMatch>),
}

/// One item of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMatch {
    /// The protocol, TCP by default.
    pub protocol: Protocol,
    /// Which ports of it.
    pub numbers: PortNumbers,
    /// Where it stands.
    pub location: Location,
}

/// Which ports of a protocol a [`PortMatch`] means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortNumbers {
    /// All of them: `port` is absent.
    Any,
    /// These numbers: `port`, up to `endPort` where given.
    Range(PortRange),
    /// What the destination pod's containers declare under this name.
    Named(PortName),
}

impl PortNumbers {
    /// One number.
    #[must_use]
    pub fn single(port: NonZeroU16) -> Self {
        Self::Range(PortRange::single(port))
    }
}

impl fmt::Display for PortMatch {
    /// `8080/TCP`, `8000-8010/TCP`, `http/TCP`, `any/UDP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.numbers {
            PortNumbers::Any => write!(f, "any/{}", self.protocol),
            PortNumbers::Range(range) => write!(f, "{range}/{}", self.protocol),
            PortNumbers::Named(name) => write!(f, "{name}/{}", self.protocol),
        }
    }
}
