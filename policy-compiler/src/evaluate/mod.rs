//! Answers flows from the semantics of NetworkPolicy, with every reason.
//!
//! This is the specification in code: it walks policies, rules, peers and ports of the objects as
//! they are and knows nothing of chains and sets. It shares no code with [`crate::compile`], so that
//! the law "the simulated ruleset decides as `evaluate` does" compares two independent readings.
//!
//! * Each end of a flow is first resolved to a [`Party`]: the live pods that own its address, or a
//!   node, or neither. [`party`] does that.
//! * Each half (egress of the source, ingress of the destination) is then judged on its own by
//!   [`judge`]; [`rule`] says what single rules, peers and ports make of the flow.
//! * What the wire adds (spoofed, translated and bridged packets) is laid over the judged halves, so
//!   that traces are complete whatever decides.
//!
//! Nothing fails here: an end that does not exist, or has no address of the flow's family, makes a
//! flow that cannot be, which is denied with [`Because::NoAddress`]; what the input does not tell is
//! [`Decision::Unknown`], never a guess.

mod judge;
mod party;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::config::{Hairpin, PodNetworks};
use crate::flow::{End, Flow, Traffic, Wire};
use crate::name::{NodeName, ObjectKey};
use crate::policy::{Direction, Policy};
use crate::verdict::{Because, Decision, Half, Ruling, Verdict};

use judge::Judged;
use party::{Index, Party};

/// The verdict on one flow with the default options. To ask much of one snapshot, keep an
/// [`Evaluator`].
#[must_use]
pub fn evaluate(snapshot: &Snapshot, flow: &Flow) -> Verdict {
    Evaluator::new(snapshot).verdict(flow)
}

/// Who stands at an end of flows, as verdicts take it.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'a> {
    /// The pods that it is, the one that is judged first; none where it is no pod.
    pub(crate) pods: Vec<&'a Pod>,
    /// The hostNetwork pod that was asked for; its node stands here for it.
    pub(crate) host_pod: Option<&'a Pod>,
    /// The addresses that it may have; none where the input does not say.
    pub(crate) addresses: Vec<IpAddr>,
    /// The nodes that it is.
    pub(crate) nodes: BTreeSet<&'a NodeName>,
    /// The live pod that was asked for by name.
    pub(crate) asked: Option<&'a ObjectKey>,
}

/// A snapshot, indexed for questions.
#[derive(Clone, Debug)]
pub struct Evaluator<'a> {
    index: Index<'a>,
    hairpin: Hairpin,
}

impl<'a> Evaluator<'a> {
    /// Indexes `snapshot`.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self { index: Index::new(snapshot), hairpin: Hairpin::Allow }
    }

    /// Judges a pod's traffic to itself through a Service as `hairpin` says.
    #[must_use]
    pub fn with_hairpin(mut self, hairpin: Hairpin) -> Self {
        self.hairpin = hairpin;
        self
    }

    /// Isolates the addresses in these networks that belong to nobody, as these nodes do.
    #[must_use]
    pub fn with_pod_networks(mut self, networks: &'a PodNetworks) -> Self {
        self.index.pod_networks = Some(networks);
        self
    }

    /// The live pods that claim `address`, the one that is judged for it first.
    #[must_use]
    pub fn owners(&self, address: IpAddr) -> &[&'a Pod] {
        self.index.owners(address)
    }

    /// The nodes that have `address`; one, unless the input contradicts itself.
    #[must_use]
    pub fn nodes_with(&self, address: IpAddr) -> BTreeSet<&'a NodeName> {
        self.index.nodes_with(address)
    }

    /// The known addresses of a node.
    #[must_use]
    pub fn node_addresses(&self, node: &NodeName) -> BTreeSet<IpAddr> {
        self.index.node_addresses(node, None).collect()
    }

    /// The policies that isolate `pod` in `direction`, in key order; none where it is neither
    /// subject nor peer.
    #[must_use]
    pub fn isolating(&self, pod: &Pod, direction: Direction) -> Vec<&'a Policy> {
        if pod.is_live() { self.index.isolating(pod, direction) } else { Vec::new() }
    }

    /// The policies that isolate `pod`, or would if it were a subject.
    pub(crate) fn selecting(&self, pod: &Pod, direction: Direction) -> Vec<&'a Policy> {
        self.index.isolating(pod, direction)
    }

    /// The policies that would isolate `pod` in `direction` and are audited only, in key order; none
    /// where it is neither subject nor peer.
    #[must_use]
    pub fn auditing(&self, pod: &Pod, direction: Direction) -> Vec<&'a Policy> {
        if pod.is_live() { self.index.auditing(pod, direction) } else { Vec::new() }
    }

    /// The answer to one flow.
    #[must_use]
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        let from = self.index.party(&flow.from, flow.family);
        let to = self.index.party(&flow.to, flow.family);
        let mut egress = self.index.judge(Direction::Egress, &from, &to, flow);
        let mut ingress = self.index.judge(Direction::Ingress, &to, &from, flow);
        if same(&from, &to) {
            self.to_itself(flow, &from, &to, &mut egress, &mut ingress);
        } else if flow.wire == Wire::Bridged {
            self.on_bridge(flow, &from, &to, &mut egress, &mut ingress);
        }
        if is_met(flow, &from, &to) {
            isolate_unknown(&from, &to, &mut egress);
            isolate_unknown(&to, &from, &mut ingress);
        }
        conclude(egress, ingress)
    }

    /// Who stands at `end` in flows of `family`.
    pub(crate) fn standing(&self, end: &End, family: Family) -> Standing<'a> {
        let party = self.index.party(end, family);
        Standing {
            pods: party.pods,
            host_pod: party.host_pod,
            addresses: party.addresses,
            nodes: party.nodes,
            asked: party.asked,
        }
    }

    /// One half of the answer to a flow, as the policies of its subject have it: nothing that is so on the
    /// wire alone has its say. Of a flow of a pod to itself it is what they say to another pod that is
    /// just the same.
    #[must_use]
    pub fn half(&self, direction: Direction, flow: &Flow) -> Half {
        self.resting_half(direction, flow).0
    }

    /// The same, and the rulings that it rests on.
    #[must_use]
    pub fn resting_half(&self, direction: Direction, flow: &Flow) -> (Half, BTreeSet<Ruling>) {
        let from = self.index.party(&flow.from, flow.family);
        let to = self.index.party(&flow.to, flow.family);
        let (own, other) = match direction {
            Direction::Egress => (&from, &to),
            Direction::Ingress => (&to, &from),
        };
        let judged = self.index.judge(direction, own, other, flow);
        (judged.half, judged.rulings)
    }

    /// Both ends are one pod.
    fn to_itself(
        &self,
        flow: &Flow,
        from: &Party<'_>,
        to: &Party<'_>,
        egress: &mut Judged,
        ingress: &mut Judged,
    ) {
        let policed = egress.half.decision.and(ingress.half.decision);
        let mut rulings = BTreeSet::new();
        if policed != Decision::Allowed {
            if flow.wire == Wire::Translated {
                rulings.insert(Ruling::Hairpin);
            }
            if from.asked.zip(to.asked).is_some_and(|(a, b)| a != b) {
                rulings.insert(Ruling::SharedAddress);
            }
        }
        for half in [egress, ingress] {
            match flow.wire {
                Wire::Spoofed => {
                    if half.isolated() {
                        half.overrule(Decision::Denied, Because::Spoofed, BTreeSet::new());
                    } else {
                        half.overrule_audits(Decision::Denied);
                    }
                }
                Wire::Translated if self.hairpin == Hairpin::Police => {
                    half.rulings.extend(&rulings);
                }
                Wire::Translated | Wire::Routed | Wire::Bridged => {
                    half.overrule(Decision::Allowed, Because::Itself, rulings.clone());
                }
            }
        }
    }

    /// Both ends are ports of one bridge: what belongs to no pod's address passes no unnoticed way.
    fn on_bridge(
        &self,
        flow: &Flow,
        from: &Party<'_>,
        to: &Party<'_>,
        egress: &mut Judged,
        ingress: &mut Judged,
    ) {
        let Some(node) = from.behind().or_else(|| to.behind()) else { return };
        let guarded = self.index.has_isolated_pod(node, flow.family);
        let rulings: BTreeSet<Ruling> =
            if guarded { [Ruling::LinkLocal].into() } else { BTreeSet::new() };
        if is_neighbour_discovery(flow) {
            for half in [egress, ingress] {
                if half.half.subject.is_some() {
                    half.overrule(Decision::Allowed, Because::NeighbourDiscovery, rulings.clone());
                }
            }
        } else if guarded && (from.addresses.iter().any(is_link_local) || belongs_to_nobody(to)) {
            for half in [egress, ingress] {
                if half.half.subject.is_some() {
                    half.overrule(Decision::Denied, Because::LinkLocal, rulings.clone());
                }
            }
        }
    }
}

/// Whether the rules of a node meet the packet and ask whether its ends are known: neither where it
/// never leaves its pod, nor on a bridge where it keeps IPv6 going.
fn is_met(flow: &Flow, from: &Party<'_>, to: &Party<'_>) -> bool {
    match flow.wire {
        Wire::Routed => from.addresses != to.addresses,
        Wire::Bridged => from.addresses != to.addresses && !is_neighbour_discovery(flow),
        Wire::Translated | Wire::Spoofed => true,
    }
}

/// Denies the half of an address that belongs to nobody and lies in the pod network of a node, except
/// towards that node itself.
fn isolate_unknown(own: &Party<'_>, other: &Party<'_>, judged: &mut Judged) {
    if let Some(node) = own.unknown_on.first()
        && own.unknown_on.is_disjoint(&other.nodes)
    {
        let because = Because::UnknownAddress((*node).clone());
        judged.overrule(Decision::Denied, because, [Ruling::UnknownAddress].into());
    }
}

/// Whether both ends are one and the same pod, or one address that is no node's.
fn same(from: &Party<'_>, to: &Party<'_>) -> bool {
    match (from.subject(), to.subject()) {
        (Some(a), Some(b)) => {
            a.key == b.key || (!from.addresses.is_empty() && from.addresses == to.addresses)
        }
        _ => false,
    }
}

/// MLD, and neighbour solicitation and advertisement: a bridge without them carries no IPv6.
fn is_neighbour_discovery(flow: &Flow) -> bool {
    flow.family == Family::V6
        && matches!(flow.traffic, Traffic::Icmp { kind: 130..=132 | 135 | 136 | 143 })
}

/// IPv6 link-local: it is on every interface, and the kernel cannot tell whose it is.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// Whether packets to `to` are for nobody in particular, or for a link-local address. Of broadcast
/// addresses only the general one can be told without knowing the bridge's networks.
fn belongs_to_nobody(to: &Party<'_>) -> bool {
    to.addresses.iter().any(|address| {
        is_link_local(address)
            || address.is_multicast()
            || matches!(address, IpAddr::V4(a) if a.is_broadcast())
    })
}

/// Puts two halves together. The decision rests on what the deciding halves rest on: an allowance on
/// both, a denial on the halves that deny, and on no ruling where one of them needs none.
fn conclude(egress: Judged, ingress: Judged) -> Verdict {
    let decision = egress.half.decision.and(ingress.half.decision);
    let deciding: Vec<&Judged> = [&egress, &ingress]
        .into_iter()
        .filter(|judged| decision == Decision::Allowed || judged.half.decision == decision)
        .collect();
    let settled =
        decision == Decision::Denied && deciding.iter().any(|judged| judged.rulings.is_empty());
    let rulings = if settled {
        BTreeSet::new()
    } else {
        deciding.iter().flat_map(|judged| judged.rulings.iter().copied()).collect()
    };
    Verdict { decision, rulings, egress: egress.half, ingress: ingress.half }
}
