//! Pods: which there are, where they run, and what they say.
//!
//! Of a pod only a few numbers are kept; everything that it says follows from these and the seed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::cluster::{Addresses, Age, Phase, Pod};
use policy_compiler::document::Location;
use policy_compiler::name::{NodeName, ObjectKey};

use super::wire;
use super::workload::{Workload, namespace_of};

/// What is kept of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    /// What made it.
    pub(super) workload: u32,
    /// Which of its pods it is.
    pub(super) ordinal: u32,
    /// No other pod, before it or after it, has the same.
    pub(super) serial: u32,
    /// Where it was scheduled to.
    pub(super) node: Option<u32>,
    /// Its address on that node, once it has one.
    pub(super) host: Option<u16>,
    pub(super) phase: Phase,
    /// What an operator calls it by.
    pub(super) role: u8,
    /// Whether it has been asked to end.
    pub(super) ending: bool,
    /// How often anything of it has changed.
    pub(super) version: u32,
}

/// One node in four is of a pool that has both families.
pub(super) fn is_dual_stack(node: u32) -> bool {
    node.is_multiple_of(4)
}

pub(super) fn node_name(node: u32) -> String {
    format!("node-{node}")
}

/// The addresses of a node.
pub(super) fn node_addresses(node: u32) -> Vec<IpAddr> {
    let v4 = Ipv4Addr::from(0xac10_0000 + 10 + node);
    let v6 = Ipv6Addr::new(0xfd00, 0x16, 0, 0, 0, 0, 0, low(10 + node));
    let mut addresses = vec![IpAddr::V4(v4)];
    if is_dual_stack(node) {
        addresses.push(IpAddr::V6(v6));
    }
    addresses
}

/// The addresses of the pod of that number on a node, whose pods have a /22.
fn pod_addresses(node: u32, host: u16) -> Vec<IpAddr> {
    let v4 = Ipv4Addr::from(0x0a00_0000 + (node << 10) + u32::from(host));
    let mut addresses = vec![IpAddr::V4(v4)];
    if is_dual_stack(node) {
        addresses.push(Ipv6Addr::new(0xfd00, 0x10, low(node), 0, 0, 0, 0, host).into());
    }
    addresses
}

fn low(number: u32) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or_default()
}

impl Instance {
    /// Its addresses, IPv4 first.
    pub(super) fn addresses(self, workload: &Workload) -> Vec<IpAddr> {
        match (self.node, self.host) {
            (Some(node), _) if workload.is_host_network() && self.phase != Phase::Pending => {
                node_addresses(node)
            }
            (Some(node), Some(host)) => pod_addresses(node, host),
            _ => Vec::new(),
        }
    }

    pub(super) fn key(self, workload: &Workload) -> ObjectKey {
        ObjectKey::new(&namespace_of(workload), &workload.pod_name(self.ordinal))
            .expect("it is made of letters and digits")
    }

    pub(super) fn created(self) -> String {
        wire::time(u64::from(self.serial))
    }

    pub(super) fn started(self) -> Option<String> {
        self.node.map(|_| wire::time(u64::from(self.serial) + 2))
    }

    pub(super) fn uid(self, seed: u64) -> String {
        wire::uid(seed, ("pod", self.serial))
    }

    /// The pod as an agent keeps it.
    pub(super) fn typed(self, workload: &Workload, seed: u64) -> Pod {
        let mut addresses = Addresses::default();
        self.addresses(workload).into_iter().for_each(|address| addresses.offer(address));
        let labels = workload.pod_labels(self.ordinal, self.role);
        Pod {
            key: self.key(workload),
            labels: labels.iter().map(|(key, value)| (*key, value.as_str())).collect(),
            node: self.node.map(|node| {
                NodeName::new(&node_name(node)).expect("it is made of letters and digits")
            }),
            host_network: workload.is_host_network(),
            phase: self.phase,
            addresses,
            ports: workload.ports().collect(),
            host_addresses: self.node.map(node_addresses).unwrap_or_default(),
            age: Age {
                started: self.started().map(Into::into),
                created: Some(self.created().into()),
                uid: Some(self.uid(seed).into()),
            },
            workload: None,
            template: false,
            location: Location::default(),
        }
    }
}
