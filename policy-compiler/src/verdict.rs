//! The answer to a [`Flow`](crate::flow::Flow): allowed or denied, and every reason.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cidr::IpBlock;
use crate::document::Location;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::{Direction, NamespaceScope};
use crate::port::{PortName, PortRange, Protocol};
use crate::selector::{Requirement, Selector};

/// What becomes of a flow, as far as the input tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// It passes.
    Allowed,
    /// It is dropped.
    Denied,
    /// The input does not say, such as the address of a template's pods against an ipBlock.
    Unknown,
}

impl Decision {
    /// Both halves have to allow; one denial suffices.
    #[must_use]
    pub fn and(self, other: Decision) -> Decision {
        match (self, other) {
            (Decision::Denied, _) | (_, Decision::Denied) => Decision::Denied,
            (Decision::Unknown, _) | (_, Decision::Unknown) => Decision::Unknown,
            (Decision::Allowed, Decision::Allowed) => Decision::Allowed,
        }
    }

    /// One that allows suffices.
    #[must_use]
    pub fn or(self, other: Decision) -> Decision {
        match (self, other) {
            (Decision::Allowed, _) | (_, Decision::Allowed) => Decision::Allowed,
            (Decision::Unknown, _) | (_, Decision::Unknown) => Decision::Unknown,
            (Decision::Denied, Decision::Denied) => Decision::Denied,
        }
    }
}

impl fmt::Display for Decision {
    /// `allowed`, `denied`, `unknown`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Decision::Allowed => "allowed",
            Decision::Denied => "denied",
            Decision::Unknown => "unknown",
        })
    }
}

/// A choice that the specification leaves open and this project has made. A verdict that rests on
/// one may differ on another implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// Protocols other than TCP, UDP and SCTP are allowed only by rules without `ports`.
    OtherProtocols,
    /// hostNetwork pods are neither subjects nor peers.
    HostNetwork,
    /// Of two pods with one address the newest started is the subject; either is a peer.
    SharedAddress,
    /// A pod reaches itself through a Service.
    Hairpin,
    /// Broadcast, multicast and link-local traffic on a bridge with isolated pods is dropped.
    LinkLocal,
    /// Traffic translated on the way is judged by the address with which it arrives.
    Translated,
    /// An address of a node's pod network that belongs to no pod known yet is denied.
    UnknownAddress,
}

impl Ruling {
    /// The ruling in a sentence.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Ruling::OtherProtocols => {
                "protocols other than TCP, UDP and SCTP are allowed only by rules without ports"
            }
            Ruling::HostNetwork => "hostNetwork pods count as their node, not as pods",
            Ruling::SharedAddress => {
                "two pods share this address: the newest started is isolated, either is a peer"
            }
            Ruling::Hairpin => "a pod reaches itself through a Service",
            Ruling::LinkLocal => {
                "broadcast, multicast and link-local traffic on a bridge with isolated pods is dropped"
            }
            Ruling::Translated => "traffic is judged by the address with which it arrives",
            Ruling::UnknownAddress => {
                "an address of the node's pod network that belongs to no pod known yet is denied"
            }
        }
    }
}

/// The answer to one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Both halves together.
    pub decision: Decision,
    /// The rulings that the decision rests on; none: the specification says so.
    pub rulings: BTreeSet<Ruling>,
    /// The source's half.
    pub egress: Half,
    /// The destination's half.
    pub ingress: Half,
}

impl Verdict {
    /// The half of `direction`.
    #[must_use]
    pub fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// One pod's say in a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// Who is judged; absent where that end is no pod.
    pub subject: Option<ObjectKey>,
    /// What this half says.
    pub decision: Decision,
    /// The reason in one word.
    pub because: Because,
    /// Every policy that isolates the subject in this direction, in key order, with each rule.
    pub policies: Vec<PolicyTrace>,
    /// Every policy that would isolate it and is audited only, in key order. None of them has a part in
    /// the decision.
    pub audits: Vec<AuditTrace>,
}

impl Half {
    /// The audited policies that would deny what passes.
    pub fn audit_denials(&self) -> impl Iterator<Item = &PolicyTrace> {
        let passes = self.decision == Decision::Allowed;
        let denying =
            self.audits.iter().filter(move |audit| passes && audit.decision == Decision::Denied);
        denying.map(|audit| &audit.trace)
    }
}

/// What one policy that is audited only says to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditTrace {
    /// What the half would decide were this one policy enforced as well.
    pub decision: Decision,
    /// What its rules say.
    pub trace: PolicyTrace,
}

/// Why a [`Half`] decides as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// This end is no pod, so nobody polices it.
    NotAPod,
    /// No policy isolates the pod in this direction.
    NotIsolated,
    /// Some rule allows it; the traces say which.
    RuleAllows,
    /// The pod is isolated and no rule allows it.
    NoRuleAllows,
    /// The pod is isolated, no rule surely allows it, and some may: information is missing.
    RuleMayAllow,
    /// Between a pod and its own node everything is allowed.
    OwnNode(NodeName),
    /// A pod reaches itself.
    Itself,
    /// Equal ends on the wire without translation: spoofed.
    Spoofed,
    /// Link-local, broadcast or multicast on a bridge that carries an isolated pod.
    LinkLocal,
    /// Neighbour discovery and group membership on a bridge are exempt.
    NeighbourDiscovery,
    /// The pod has no address of the flow's family, so there is no such flow.
    NoAddress,
    /// This end is an address of that node's pod network which belongs to no pod known yet, and the
    /// node isolates such.
    UnknownAddress(NodeName),
}

/// What one policy says to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTrace {
    /// Which policy.
    pub policy: ObjectKey,
    /// Where it stands.
    pub location: Location,
    /// The selector by which it selects the subject.
    pub pod_selector: Selector,
    /// The best that any of its rules says.
    pub decision: Decision,
    /// Each rule of the direction, in order.
    pub rules: Vec<RuleTrace>,
}

/// What one rule says to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// Its index in `ingress` or `egress`.
    pub index: usize,
    /// Where it stands.
    pub location: Location,
    /// Whether it allows the flow. `Denied` means that it does not apply.
    pub decision: Decision,
    /// Why it can allow nothing at all, where it is invalid.
    pub invalid: Option<String>,
    /// Each peer, in order; empty where the rule names none and so means everybody.
    pub peers: Vec<PeerTrace>,
    /// Each port, in order; empty where the rule names none and so means every one.
    pub ports: Vec<PortTrace>,
}

/// Whether one peer is meant, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTrace {
    /// Its index in `from` or `to`.
    pub index: usize,
    /// Where it stands.
    pub location: Location,
    /// The answer.
    pub outcome: PeerOutcome,
}

/// How a peer of a rule relates to the other end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerOutcome {
    /// The selectors match this pod.
    MatchedPod {
        /// Which (of several that share the address, the first that matches).
        pod: ObjectKey,
        /// The namespaces it may be in.
        namespaces: NamespaceScope,
        /// The pod selector that it meets.
        pods: Selector,
    },
    /// The address lies in the block.
    MatchedBlock {
        /// The address.
        address: IpAddr,
        /// The block.
        block: IpBlock,
    },
    /// The other end is no pod (or a hostNetwork one), and the peer means pods.
    NotAPod,
    /// The peer means only pods of the policy's namespace.
    OtherNamespace {
        /// Where the pod is.
        pod: NamespaceName,
        /// Where it would have to be.
        wanted: NamespaceName,
    },
    /// The namespace's labels miss these requirements.
    NamespaceMiss {
        /// The namespace.
        namespace: NamespaceName,
        /// What its labels do not meet.
        missing: Vec<LabelMiss>,
        /// What the pod's labels do not meet besides.
        pod_missing: Vec<LabelMiss>,
    },
    /// The namespace is right, the pod's labels miss these requirements.
    PodMiss {
        /// What the labels do not meet.
        missing: Vec<LabelMiss>,
    },
    /// The address is not in the block.
    OutsideBlock {
        /// The address.
        address: IpAddr,
        /// The block.
        block: IpBlock,
    },
    /// The address is in the block, but in one of its excepts.
    Excepted {
        /// The address.
        address: IpAddr,
        /// The block.
        block: IpBlock,
        /// The first except that has it.
        except: IpNet,
    },
    /// The block is of the other family.
    OtherFamily {
        /// The block.
        block: IpBlock,
    },
    /// The address of the other end is not known, so the block cannot be judged.
    AddressUnknown {
        /// The block.
        block: IpBlock,
    },
}

impl PeerOutcome {
    /// What this peer says.
    #[must_use]
    pub fn decision(&self) -> Decision {
        match self {
            PeerOutcome::MatchedPod { .. } | PeerOutcome::MatchedBlock { .. } => Decision::Allowed,
            PeerOutcome::AddressUnknown { .. } => Decision::Unknown,
            _ => Decision::Denied,
        }
    }
}

/// A requirement that labels do not meet, and what they have instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMiss {
    /// What was wanted.
    pub wanted: Requirement,
    /// The label's value; absent where the key is.
    pub found: Option<String>,
}

/// Whether one port is meant, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTrace {
    /// Its index in `ports`.
    pub index: usize,
    /// Where it stands.
    pub location: Location,
    /// The answer.
    pub outcome: PortOutcome,
}

/// How a port of a rule relates to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOutcome {
    /// Every port of the protocol is meant.
    MatchedProtocol(Protocol),
    /// The number is in the range.
    MatchedRange(Protocol, PortRange),
    /// The destination pod calls this number so.
    MatchedName(Protocol, PortName),
    /// The rule wants another protocol, or the flow has one that no rule can name.
    OtherProtocol(Protocol),
    /// Outside the range.
    OtherNumber(Protocol, PortRange),
    /// The destination pod calls other numbers so.
    NameMeansOther(Protocol, PortName, BTreeSet<u16>),
    /// The destination pod calls a port of another protocol so.
    NameOfOtherProtocol(Protocol, PortName),
    /// The destination declares no port of that name (a pod), or is no pod at all.
    NameNotFound(Protocol, PortName),
}

impl PortOutcome {
    /// Whether this port is meant.
    #[must_use]
    pub fn matched(&self) -> bool {
        matches!(
            self,
            PortOutcome::MatchedProtocol(_)
                | PortOutcome::MatchedRange(..)
                | PortOutcome::MatchedName(..)
        )
    }
}
