//! What one rule, one peer and one port make of a flow.
//!
//! Several pods may own the address of the other end. A peer is met where any of them meets it, and
//! an egress port name means what any of them declares; the rule as a whole allows only where one and
//! the same owner meets a peer and a port.

use std::collections::BTreeSet;

use crate::cidr::{Family, IpBlock};
use crate::cluster::{ContainerPort, Pod};
use crate::flow::{Flow, Traffic};
use crate::labels::Labels;
use crate::policy::{
    Direction, Grant, NamespaceScope, Peer, PeerSelects, Peers, PortMatch, PortNumbers, Ports, Rule,
};
use crate::port::{PortName, Protocol};
use crate::selector::Selector;
use crate::verdict::{
    Decision, LabelMiss, PeerOutcome, PeerTrace, PortOutcome, PortTrace, RuleTrace,
};

use super::party::{Index, Party};

/// What is asked of the rules of one half.
pub(super) struct Question<'q, 'a> {
    pub(super) index: &'q Index<'a>,
    pub(super) direction: Direction,
    /// The pod that the rules isolate.
    pub(super) pod: &'a Pod,
    /// The other end.
    pub(super) other: &'q Party<'a>,
    pub(super) flow: &'q Flow,
}

impl<'a> Question<'_, 'a> {
    /// The answer of one rule.
    pub(super) fn rule(&self, index: usize, rule: &Rule) -> RuleTrace {
        let location = rule.location.clone();
        match &rule.grant {
            Grant::Nothing { reason } => RuleTrace {
                index,
                location,
                decision: Decision::Denied,
                invalid: Some(reason.clone()),
                peers: Vec::new(),
                ports: Vec::new(),
            },
            Grant::Traffic { peers, ports } => RuleTrace {
                index,
                location,
                decision: self.traffic(peers, ports),
                invalid: None,
                peers: self.peer_traces(peers),
                ports: self.port_traces(ports),
            },
        }
    }

    /// Whether the flow is meant by `peers` and `ports`, as any one owner of the other address.
    fn traffic(&self, peers: &Peers, ports: &Ports) -> Decision {
        if self.other.pods.is_empty() {
            return self.of_owner(peers, ports, None);
        }
        self.other
            .pods
            .iter()
            .map(|owner| self.of_owner(peers, ports, Some(owner)))
            .fold(Decision::Denied, Decision::or)
    }

    fn of_owner(&self, peers: &Peers, ports: &Ports, owner: Option<&'a Pod>) -> Decision {
        let peer = match peers {
            Peers::Any => Decision::Allowed,
            Peers::Listed(list) => list
                .iter()
                .map(|peer| self.peer(peer, owner).decision())
                .fold(Decision::Denied, Decision::or),
        };
        let destination = match self.direction {
            Direction::Ingress => Some(self.pod),
            Direction::Egress => owner,
        };
        let port = match ports {
            Ports::Any => true,
            Ports::Listed(list) => list.iter().any(|port| self.port(port, destination).matched()),
        };
        peer.and(if port { Decision::Allowed } else { Decision::Denied })
    }

    fn peer_traces(&self, peers: &Peers) -> Vec<PeerTrace> {
        let Peers::Listed(list) = peers else { return Vec::new() };
        list.iter()
            .enumerate()
            .map(|(index, peer)| {
                let mut outcomes = self.owners().map(|owner| self.peer(peer, owner));
                let newest = outcomes.next();
                let outcome = match newest {
                    Some(outcome) if outcome.decision() != Decision::Denied => outcome,
                    other => outcomes
                        .find(|outcome| outcome.decision() != Decision::Denied)
                        .or(other)
                        .unwrap_or(PeerOutcome::NotAPod),
                };
                PeerTrace { index, location: peer.location.clone(), outcome }
            })
            .collect()
    }

    fn port_traces(&self, ports: &Ports) -> Vec<PortTrace> {
        let Ports::Listed(list) = ports else { return Vec::new() };
        list.iter()
            .enumerate()
            .map(|(index, port)| {
                let destinations: Vec<Option<&Pod>> = match self.direction {
                    Direction::Ingress => vec![Some(self.pod)],
                    Direction::Egress => self.owners().collect(),
                };
                let outcomes: Vec<PortOutcome> =
                    destinations.into_iter().map(|pod| self.port(port, pod)).collect();
                let outcome = outcomes
                    .iter()
                    .find(|outcome| outcome.matched())
                    .or(outcomes.first())
                    .cloned()
                    .unwrap_or(PortOutcome::OtherProtocol(port.protocol));
                PortTrace { index, location: port.location.clone(), outcome }
            })
            .collect()
    }

    /// The pods at the other end, or once nobody.
    fn owners(&self) -> impl Iterator<Item = Option<&'a Pod>> {
        let nobody = self.other.pods.is_empty().then_some(None);
        self.other.pods.iter().copied().map(Some).chain(nobody)
    }

    fn peer(&self, peer: &Peer, owner: Option<&Pod>) -> PeerOutcome {
        match (&peer.selects, owner) {
            (PeerSelects::Block(block), _) => self.block(block),
            (PeerSelects::Pods { .. }, None) => PeerOutcome::NotAPod,
            (PeerSelects::Pods { namespaces, pods }, Some(owner)) => {
                self.pod_peer(namespaces, pods, owner)
            }
        }
    }

    fn pod_peer(&self, scope: &NamespaceScope, pods: &Selector, owner: &Pod) -> PeerOutcome {
        let namespace = &owner.key.namespace;
        let wanted = &self.pod.key.namespace;
        let pod_missing = misses(pods, &owner.labels);
        match scope {
            NamespaceScope::Own if namespace != wanted => {
                return PeerOutcome::OtherNamespace {
                    pod: namespace.clone(),
                    wanted: wanted.clone(),
                };
            }
            NamespaceScope::Own => {}
            NamespaceScope::Matching(selector) => {
                let missing = misses(selector, &self.index.namespace_labels(namespace));
                if !missing.is_empty() {
                    let namespace = namespace.clone();
                    return PeerOutcome::NamespaceMiss { namespace, missing, pod_missing };
                }
            }
        }
        if pod_missing.is_empty() {
            PeerOutcome::MatchedPod {
                pod: owner.key.clone(),
                namespaces: scope.clone(),
                pods: pods.clone(),
            }
        } else {
            PeerOutcome::PodMiss { missing: pod_missing }
        }
    }

    /// A block against every address that the other end may have: a node may have several, and
    /// which one it sends from is not known.
    fn block(&self, block: &IpBlock) -> PeerOutcome {
        if Family::of_net(&block.cidr()) != self.flow.family {
            return PeerOutcome::OtherFamily { block: block.clone() };
        }
        let mut outcomes = self.other.addresses.iter().map(|address| {
            let (address, block) = (*address, block.clone());
            if !block.cidr().contains(&address) {
                return PeerOutcome::OutsideBlock { address, block };
            }
            match block.except().iter().copied().find(|except| except.contains(&address)) {
                Some(except) => PeerOutcome::Excepted { address, block, except },
                None => PeerOutcome::MatchedBlock { address, block },
            }
        });
        let unknown = || PeerOutcome::AddressUnknown { block: block.clone() };
        let Some(first) = outcomes.next() else { return unknown() };
        if outcomes.all(|outcome| outcome.decision() == first.decision()) {
            first
        } else {
            unknown()
        }
    }

    /// One item of `ports` against the flow, whose destination is `destination` if it is a pod.
    fn port(&self, port: &PortMatch, destination: Option<&Pod>) -> PortOutcome {
        let wanted = port.protocol;
        let Traffic::Port { protocol, port: number } = self.flow.traffic else {
            return PortOutcome::OtherProtocol(wanted);
        };
        if protocol != wanted {
            return PortOutcome::OtherProtocol(wanted);
        }
        match &port.numbers {
            PortNumbers::Any => PortOutcome::MatchedProtocol(wanted),
            PortNumbers::Range(range) if range.contains(number) => {
                PortOutcome::MatchedRange(wanted, *range)
            }
            PortNumbers::Range(range) => PortOutcome::OtherNumber(wanted, *range),
            PortNumbers::Named(name) => {
                let declared = destination.map_or(&[][..], |pod| &pod.ports);
                named_port(declared, wanted, name, number)
            }
        }
    }
}

/// What a port name means among `declared`. Several containers may declare one name: all count.
fn named_port(
    declared: &[ContainerPort],
    wanted: Protocol,
    name: &PortName,
    number: u16,
) -> PortOutcome {
    let so_called: Vec<&ContainerPort> =
        declared.iter().filter(|port| port.name.as_ref() == Some(name)).collect();
    let numbers: BTreeSet<u16> = so_called
        .iter()
        .filter(|port| port.protocol == wanted)
        .map(|port| port.number.get())
        .collect();
    if numbers.contains(&number) {
        PortOutcome::MatchedName(wanted, name.clone())
    } else if !numbers.is_empty() {
        PortOutcome::NameMeansOther(wanted, name.clone(), numbers)
    } else if !so_called.is_empty() {
        PortOutcome::NameOfOtherProtocol(wanted, name.clone())
    } else {
        PortOutcome::NameNotFound(wanted, name.clone())
    }
}

/// What `labels` lack for `selector`.
fn misses(selector: &Selector, labels: &Labels) -> Vec<LabelMiss> {
    selector
        .misses(labels)
        .map(|wanted| LabelMiss {
            wanted: wanted.clone(),
            found: labels.get(&wanted.key).map(str::to_owned),
        })
        .collect()
}
