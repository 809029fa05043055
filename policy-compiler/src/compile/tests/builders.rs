//! Small clusters.

use std::num::NonZeroU16;
use std::sync::Arc;

use crate::cidr::IpBlock;
use crate::cluster::{Addresses, Age, ContainerPort, Phase, Pod, Snapshot};
use crate::config::NodeConfig;
use crate::document::Location;
use crate::labels::Labels;
use crate::name::{NodeName, ObjectKey};
use crate::policy::{
    Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports, Rule,
};
use crate::port::{PortName, PortRange, Protocol};
use crate::selector::{Operator, Requirement, Selector};

pub(super) fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name).unwrap()
}

pub(super) fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).collect()
}

/// `app=web,tier=be`; empty selects everything.
pub(super) fn selector(text: &str) -> Selector {
    Selector::new(labels(text).iter().map(|(key, value)| Requirement {
        key: Arc::from(key),
        operator: Operator::In([Arc::from(value)].into()),
    }))
}

/// `key notin (values)`.
pub(super) fn not_in(key: &str, values: &[&str]) -> Selector {
    let values = values.iter().map(|value| Arc::from(*value)).collect();
    Selector::new([Requirement { key: Arc::from(key), operator: Operator::NotIn(values) }])
}

/// A running pod on node `n1` with the address in both families: `10.244.1.I`, `fd00::I`.
pub(super) fn pod(name: &str, with: &str, host: u8) -> Pod {
    Pod {
        key: key(name),
        labels: labels(with),
        node: Some(NodeName::new("n1").unwrap()),
        host_network: false,
        phase: Phase::Running,
        addresses: Addresses {
            v4: Some([10, 244, 1, host].into()),
            v6: Some([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)].into()),
        },
        ports: Vec::new(),
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: None,
        template: false,
        location: Location::default(),
    }
}

pub(super) fn declare(mut pod: Pod, name: &str, number: u16) -> Pod {
    pod.ports.push(ContainerPort {
        name: Some(PortName::new(name).unwrap()),
        protocol: Protocol::Tcp,
        number: NonZeroU16::new(number).unwrap(),
    });
    pod
}

pub(super) fn policy(name: &str, select: &str) -> Policy {
    Policy {
        key: key(name),
        pod_selector: selector(select),
        isolates_ingress: false,
        isolates_egress: false,
        ingress: Vec::new(),
        egress: Vec::new(),
        audit: false,
        flawed: false,
        location: Location::default(),
    }
}

pub(super) fn ingress(mut policy: Policy, rules: Vec<(Peers, Ports)>) -> Policy {
    policy.isolates_ingress = true;
    policy.ingress = rules.into_iter().map(rule).collect();
    policy
}

pub(super) fn egress(mut policy: Policy, rules: Vec<(Peers, Ports)>) -> Policy {
    policy.isolates_egress = true;
    policy.egress = rules.into_iter().map(rule).collect();
    policy
}

fn rule((peers, ports): (Peers, Ports)) -> Rule {
    Rule { grant: Grant::Traffic { peers, ports }, location: Location::default() }
}

pub(super) fn listed(peers: Vec<PeerSelects>) -> Peers {
    let peer = |selects| Peer { selects, location: Location::default() };
    Peers::Listed(peers.into_iter().map(peer).collect())
}

pub(super) fn pods(select: &str) -> PeerSelects {
    PeerSelects::Pods { namespaces: NamespaceScope::Own, pods: selector(select) }
}

pub(super) fn pods_in(namespaces: Selector, select: &str) -> PeerSelects {
    let namespaces = NamespaceScope::Matching(namespaces);
    PeerSelects::Pods { namespaces, pods: selector(select) }
}

pub(super) fn block(cidr: &str, except: &[&str]) -> PeerSelects {
    let except = except.iter().map(|e| e.parse().unwrap()).collect();
    PeerSelects::Block(IpBlock::new(cidr.parse().unwrap(), except).unwrap())
}

/// `80`, `80-90`, `http`, `any`, each with `/UDP` or `/SCTP` or, without, TCP.
pub(super) fn ports(list: &[&str]) -> Ports {
    Ports::Listed(list.iter().map(|text| port(text)).collect())
}

fn port(text: &str) -> PortMatch {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let protocol = Protocol::ALL.into_iter().find(|p| p.to_string() == protocol).unwrap();
    let number = |text: &str| NonZeroU16::new(text.parse().ok()?);
    let numbers = match numbers.split_once('-') {
        Some((first, last)) if number(first).is_some() => PortNumbers::Range(
            PortRange::new(number(first).unwrap(), number(last).unwrap()).unwrap(),
        ),
        _ if numbers == "any" => PortNumbers::Any,
        _ => match number(numbers) {
            Some(number) => PortNumbers::single(number),
            None => PortNumbers::Named(PortName::new(numbers).unwrap()),
        },
    };
    PortMatch { protocol, numbers, location: Location::default() }
}

pub(super) fn cluster(
    pods: impl IntoIterator<Item = Pod>,
    policies: impl IntoIterator<Item = Policy>,
) -> Snapshot {
    Snapshot {
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
        ..Snapshot::default()
    }
}

pub(super) fn config() -> NodeConfig {
    NodeConfig::new(NodeName::new("n1").unwrap())
}
