//! Clusters of any size with the shapes that real ones have, and what happens in them.
//!
//! ```text
//!  Size, seed ──> Cluster ──┬──> snapshot(), pods(), ...       as an agent keeps them
//!                           ├──> objects()                     as the API server sends them
//!                           └──> change(), change_of(What) ──> Change ──> event() or object()
//! ```
//!
//! Namespaces belong to tenants and have their labels; few of them have most of the pods. Pods come
//! from Deployments with the hash of their template as a label, StatefulSets with labels that each pod
//! has for itself, Jobs of which most have finished, and DaemonSets, two of which use the network of the
//! host. One node in four has both families. Policies are of the kinds that people write, and have every
//! feature there is.
//!
//! The same size and seed give the same cluster and the same changes, on every machine. Everything
//! is valid, as what has passed an API server is. Of a pod only some thirty bytes are kept and the
//! rest is made when it is asked for: a process that measures how much memory something else takes is
//! not in its own way.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "names that are made here are valid, as the tests show"
)]

mod change;
mod dice;
mod namespace;
mod pod;
mod policy;
mod size;
#[cfg(test)]
mod tests;
mod wire;
mod workload;

use std::ops::Range;

use policy_compiler::cluster::{Namespace, Phase, Pod, Snapshot};
use policy_compiler::config::NodeConfig;
use policy_compiler::name::{NamespaceName, NodeName};
use policy_compiler::policy::Policy;
use serde_json::{Value, json};

pub use change::{Change, Subject, What};
pub use size::{Local, Size};

use dice::Dice;
use pod::Instance;
use policy::{Shape, Written};
use workload::{Kind, Workload};

/// A cluster at one moment.
#[derive(Clone, Debug)]
pub struct Cluster {
    size: Size,
    seed: u64,
    workloads: Vec<Workload>,
    /// The workloads of each namespace.
    ranges: Vec<Range<usize>>,
    /// How often the labels of each namespace have changed.
    namespaces: Vec<u32>,
    pods: Vec<Instance>,
    policies: Vec<Written>,
    nodes: Nodes,
    /// What the next pod and the next policy are called by, and the next pod of each workload.
    next_pod: u32,
    next_policy: u32,
    ordinals: Vec<u32>,
    dice: Dice,
    /// A pod that is on its way to run.
    coming: Option<usize>,
    /// A pod that is on its way to be gone.
    going: Option<usize>,
}

/// Which addresses are free on each node.
#[derive(Clone, Debug)]
struct Nodes {
    next: Vec<u16>,
    freed: Vec<Vec<u16>>,
}

impl Nodes {
    fn new(count: u32) -> Self {
        let count = count as usize;
        // The first addresses are the bridge's.
        Self { next: vec![2; count], freed: vec![Vec::new(); count] }
    }

    /// The one that was given back last, else one that nobody has had.
    fn take(&mut self, node: u32) -> u16 {
        let node = node as usize;
        self.freed[node].pop().unwrap_or_else(|| {
            let host = self.next[node];
            self.next[node] += 1;
            host
        })
    }

    fn give_back(&mut self, node: u32, host: u16) {
        self.freed[node as usize].push(host);
    }
}

impl Cluster {
    /// The cluster of that size and seed. What is too small to have every shape is raised.
    #[must_use]
    pub fn new(size: Size, seed: u64) -> Self {
        let size = size.raised();
        let workloads = workload::workloads(&size, seed);
        let ranges = (0..size.namespaces)
            .map(|namespace| {
                let first = workloads.partition_point(|w| w.namespace < namespace);
                first..workloads.partition_point(|w| w.namespace <= namespace)
            })
            .collect();
        let mut cluster = Self {
            seed,
            ordinals: workloads.iter().map(|workload| workload.replicas).collect(),
            workloads,
            ranges,
            namespaces: vec![0; size.namespaces as usize],
            pods: Vec::with_capacity(size.pods as usize),
            policies: Vec::with_capacity(size.policies as usize),
            nodes: Nodes::new(size.nodes),
            next_pod: 0,
            next_policy: 0,
            dice: Dice::of(seed, "changes"),
            coming: None,
            going: None,
            size,
        };
        cluster.schedule();
        cluster.write_policies();
        cluster
    }

    /// Its size, as it was made.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The name of the first node.
    #[must_use]
    pub fn node(&self) -> NodeName {
        NodeName::new(&pod::node_name(0)).expect("it is made of letters and digits")
    }

    /// The defaults of the first node's agent.
    #[must_use]
    pub fn config(&self) -> NodeConfig {
        NodeConfig::new(self.node())
    }

    /// The namespace that has the most pods.
    #[must_use]
    pub fn largest_namespace(&self) -> NamespaceName {
        namespace::key(namespace::LARGEST)
    }

    /// The namespaces as an agent keeps them.
    pub fn namespaces(&self) -> impl Iterator<Item = Namespace> {
        (0..).zip(&self.namespaces).map(|(n, edition)| namespace::typed(self.seed, n, *edition))
    }

    /// The pods as an agent keeps them: it does not ask who owns them.
    pub fn pods(&self) -> impl Iterator<Item = Pod> {
        self.pods.iter().map(|instance| instance.typed(self.workload(instance), self.seed))
    }

    /// The policies as an agent keeps them.
    pub fn policies(&self) -> impl Iterator<Item = Policy> {
        self.policies.iter().map(|policy| policy.typed(self.own(policy.namespace), self.seed))
    }

    /// All of these. Of nodes an agent knows its own at most, and here none.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            namespaces: self.namespaces().map(|n| (n.name().clone(), n)).collect(),
            pods: self.pods().map(|pod| (pod.key.clone(), pod)).collect(),
            policies: self.policies().map(|policy| (policy.key.clone(), policy)).collect(),
            ..Snapshot::default()
        }
    }

    /// The namespaces as the API server sends them.
    pub fn namespace_objects(&self) -> impl Iterator<Item = Value> {
        (0..).zip(&self.namespaces).map(|(n, edition)| namespace::json(self.seed, n, *edition))
    }

    /// The pods as the API server sends them.
    pub fn pod_objects(&self) -> impl Iterator<Item = Value> {
        self.pods.iter().map(|instance| wire::pod(*instance, self.workload(instance), self.seed))
    }

    /// The policies as the API server sends them.
    pub fn policy_objects(&self) -> impl Iterator<Item = Value> {
        self.policies.iter().map(|policy| policy.json(self.own(policy.namespace), self.seed))
    }

    /// The nodes as the API server sends them, as far as policy cares.
    pub fn node_objects(&self) -> impl Iterator<Item = Value> {
        (0..self.size.nodes).map(|node| {
            let address = |ip: &std::net::IpAddr| json!({"type": "InternalIP", "address": ip});
            let addresses: Vec<Value> = pod::node_addresses(node).iter().map(address).collect();
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": pod::node_name(node), "labels": {"kubernetes.io/hostname": pod::node_name(node)}},
                "status": {"addresses": addresses},
            })
        })
    }

    /// All of these, in an order in which they can be made.
    pub fn objects(&self) -> impl Iterator<Item = Value> {
        let made_first = self.namespace_objects().chain(self.node_objects());
        made_first.chain(self.pod_objects()).chain(self.policy_objects())
    }

    fn workload(&self, instance: &Instance) -> &Workload {
        &self.workloads[instance.workload as usize]
    }

    /// The workloads of a namespace.
    fn own(&self, namespace: u32) -> &[Workload] {
        &self.workloads[self.ranges[namespace as usize].clone()]
    }

    fn serial(&mut self) -> u32 {
        self.next_pod += 1;
        self.next_pod
    }

    /// Makes the pods, and puts each on a node.
    fn schedule(&mut self) {
        let mut dice = Dice::of(self.seed, "schedule");
        let mut places = Vec::new();
        for number in 0..self.workloads.len() {
            let workload = self.workloads[number].clone();
            for ordinal in 0..workload.replicas {
                let phase = match (workload.kind, dice.roll(200)) {
                    (Kind::Job, 0..150) => Phase::Finished,
                    (Kind::Deployment, 0) => Phase::Pending,
                    _ => Phase::Running,
                };
                let serial = self.serial();
                let node = match workload.kind {
                    Kind::DaemonSet { .. } => Some(ordinal),
                    _ if phase == Phase::Pending => None,
                    _ => Some(elsewhere(self.size.nodes, &mut dice)),
                };
                let is_tenants = workload.namespace >= namespace::LARGEST;
                if is_tenants && phase == Phase::Running {
                    places.push(self.pods.len());
                }
                let role = u8::try_from(dice.roll(6)).unwrap_or_default();
                self.pods.push(Instance {
                    workload: workload.number,
                    ordinal,
                    serial,
                    node,
                    host: None,
                    phase,
                    role,
                    ending: false,
                    version: 0,
                });
            }
        }
        self.fill_first_node(&places);
        for number in 0..self.pods.len() {
            self.give_address(number);
        }
    }

    /// Moves so many of the tenants' running pods there as there are to be, and a few that have finished.
    fn fill_first_node(&mut self, running: &[usize]) {
        let wanted = (self.size.local_pods as usize).min(running.len());
        let step = match self.size.local {
            Local::Scattered => running.len() / wanted.max(1),
            Local::Together => 1,
        };
        for number in running.iter().step_by(step.max(1)).take(wanted) {
            self.pods[*number].node = Some(0);
        }
        let finished = self.pods.iter_mut().filter(|pod| pod.phase == Phase::Finished);
        for pod in finished.step_by(7).take(wanted / 20) {
            pod.node = Some(0);
        }
    }

    /// Gives a pod that runs, or has run, its address. One that has finished gives it back at once,
    /// and another may get it.
    fn give_address(&mut self, number: usize) {
        let instance = self.pods[number];
        let host_network = self.workload(&instance).is_host_network();
        let Some(node) = instance.node.filter(|_| !host_network) else { return };
        if instance.phase == Phase::Pending {
            return;
        }
        let host = self.nodes.take(node);
        self.pods[number].host = Some(host);
        if instance.phase == Phase::Finished {
            self.nodes.give_back(node, host);
        }
    }

    /// Half of the policies are spread evenly over the namespaces, half go where the pods are.
    fn write_policies(&mut self) {
        let mut dice = Dice::of(self.seed, "policies");
        for number in 0..self.size.policies {
            let namespace = if number % 2 == 0 {
                number / 2 * 2 % self.size.namespaces
            } else {
                let pod = self.pods[dice.index(self.pods.len())];
                self.workload(&pod).namespace
            };
            self.write_policy(namespace.max(namespace::LARGEST));
        }
    }

    fn write_policy(&mut self, namespace: u32) -> Written {
        let serial = self.next_policy;
        self.next_policy += 1;
        let written = Written { namespace, serial, shape: Shape::of(serial), edition: 0 };
        self.policies.push(written);
        written
    }
}

/// A node that is not the first, unless there is no other.
fn elsewhere(nodes: u32, dice: &mut Dice) -> u32 {
    if nodes == 1 { 0 } else { 1 + dice.roll(nodes - 1) }
}
