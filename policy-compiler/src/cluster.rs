//! The cluster as policy sees it: pods, namespaces, nodes and policies, and nothing else of them
//! than what a verdict can depend on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cidr::Family;
use crate::document::Location;
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::Policy;
use crate::port::{PortName, Protocol};

/// A namespace. Its labels always have `kubernetes.io/metadata.name` with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: NamespaceName,
    labels: Labels,
    /// Whether its annotation says that its policies are only audited.
    pub audit: bool,
    /// Where it stands; empty for one that no object declares.
    pub location: Location,
}

/// The label that every namespace has, with its name as value.
pub const METADATA_NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Namespace {
    /// A namespace with these labels, whose policies are enforced. `kubernetes.io/metadata.name` is set to the name, whatever it
    /// was, as the API server does.
    #[must_use]
    pub fn new(name: NamespaceName, mut labels: Labels, location: Location) -> Self {
        labels.insert(METADATA_NAME_LABEL, name.as_str());
        Self { name, labels, audit: false, location }
    }

    /// The namespace as it exists where only its name is known.
    #[must_use]
    pub fn undeclared(name: NamespaceName) -> Self {
        Self::new(name, Labels::default(), Location::default())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &NamespaceName {
        &self.name
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its labels, to be replaced by equal ones.
    pub(crate) fn shared_labels(&mut self) -> &mut Labels {
        &mut self.labels
    }
}

/// A pod, or the pods that a workload's template will make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name (of the workload, for a template).
    pub key: ObjectKey,
    /// Its labels.
    pub labels: Labels,
    /// The node that it was scheduled to.
    pub node: Option<NodeName>,
    /// Whether it shares the node's network: then it is neither subject nor peer.
    pub host_network: bool,
    /// Where in its life it is.
    pub phase: Phase,
    /// Its addresses, one a family at most.
    pub addresses: Addresses,
    /// The named ports of its containers and of its restartable init containers, and the unnamed.
    pub ports: Vec<ContainerPort>,
    /// The node's addresses as the pod's status has them.
    pub host_addresses: Vec<IpAddr>,
    /// How two claims to one address are settled: the greatest wins.
    pub age: Age,
    /// The workload that made it or would make it, with the number of replicas for a template.
    pub workload: Option<Workload>,
    /// Whether this stands for the pods of a template that has not been run.
    pub template: bool,
    /// Where it stands.
    pub location: Location,
}

impl Pod {
    /// A pod that there might be, with these labels: nothing else is known of it.
    #[must_use]
    pub fn described(key: ObjectKey, labels: Labels) -> Self {
        Self {
            key,
            labels,
            node: None,
            host_network: false,
            phase: Phase::default(),
            addresses: Addresses::default(),
            ports: Vec::new(),
            host_addresses: Vec::new(),
            age: Age::default(),
            workload: None,
            template: true,
            location: Location::default(),
        }
    }

    /// Whether it is subject and peer of policies: it has its own network and has not finished.
    /// One without an address is live too, though nothing can be written for it yet.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.host_network && self.phase != Phase::Finished
    }
}

/// Where a pod is in its life, as far as policy cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Pending.
    Pending,
    /// Running, terminating while still running, or unknown.
    #[default]
    Running,
    /// Succeeded or Failed: neither subject nor peer; its address may be another pod's.
    Finished,
}

/// The addresses of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The address of `family`.
    #[must_use]
    pub fn of(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// All of them, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        Family::ALL.into_iter().filter_map(move |family| self.of(family))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// Takes `address` as that of its family, unless one is there already: the first counts.
    pub fn offer(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(a) => {
                self.v4.get_or_insert(a);
            }
            IpAddr::V6(a) => {
                self.v6.get_or_insert(a);
            }
        }
    }
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    /// Its name, by which policies may call it.
    pub name: Option<PortName>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: NonZeroU16,
}

/// How old a pod is, for deciding who owns an address that two pods claim: by start time, then
/// creation time (RFC 3339 in UTC, so that text order is time order; absent is oldest), then uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age {
    /// `status.startTime`.
    pub started: Option<Arc<str>>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Arc<str>>,
    /// `metadata.uid`.
    pub uid: Option<Arc<str>>,
}

/// The controller of a pod, as far as a person names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, ...
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// How many pods a template is to make; 1 for a pod that exists.
    pub replicas: u32,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its addresses as given by its own object.
    pub addresses: Vec<IpAddr>,
    /// The networks that its pods' addresses are taken from, masked; none where its object does not say.
    pub pod_networks: Vec<IpNet>,
    /// Where it stands.
    pub location: Location,
}

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the service's address.
    pub port: NonZeroU16,
    /// The port on the pod: a number, or the name of a container port; absent: the same number.
    pub target: Option<TargetPort>,
}

/// Where a [`ServicePort`] leads on the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(NonZeroU16),
    /// What the pod's containers call so.
    Named(PortName),
}

/// A Service. It has no part in verdicts, which are about pods after translation; it serves to
/// translate what a person asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Whom it leads to; `None` where it has no selector.
    pub selector: Option<crate::selector::Selector>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its cluster, external and load balancer addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it stands.
    pub location: Location,
}

/// Everything that verdicts are computed from, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The declared namespaces. One that is only mentioned exists too: see [`Snapshot::namespace_labels`].
    pub namespaces: BTreeMap<NamespaceName, Namespace>,
    /// The pods.
    pub pods: BTreeMap<ObjectKey, Pod>,
    /// The policies.
    pub policies: BTreeMap<ObjectKey, Policy>,
    /// The declared nodes.
    pub nodes: BTreeMap<NodeName, Node>,
    /// The Services.
    pub services: BTreeMap<ObjectKey, Service>,
}

impl Snapshot {
    /// The labels of a namespace: those declared, or `kubernetes.io/metadata.name` alone where only
    /// the name is known.
    #[must_use]
    pub fn namespace_labels(&self, name: &NamespaceName) -> Labels {
        match self.namespaces.get(name) {
            Some(namespace) => namespace.labels.clone(),
            None => Namespace::undeclared(name.clone()).labels,
        }
    }

    /// Whether `policy` is only audited: it neither isolates nor grants anything. A namespace that is
    /// not known has nothing audited.
    #[must_use]
    pub fn audits(&self, policy: &Policy) -> bool {
        let namespace = self.namespaces.get(&policy.key.namespace);
        policy.audit || namespace.is_some_and(|namespace| namespace.audit)
    }
}
