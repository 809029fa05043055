//! A cluster on one machine: a real API server, nodes and pods as network namespaces, real policyds.
//!
//! ```text
//!   ControlPlane   etcd, kube-apiserver, the administrator's Client      (a namespace of their own)
//!        │ lan0
//!   Node 0, Node 1   policyd as a process, with a kubeconfig of its service account
//!        │ veths, or cni0
//!   Sandbox ...      pods: the test writes their objects and what kubelet would write of them
//! ```
//!
//! The test is scheduler, kubelet, network plugin and kube-proxy; policyd sees nothing but the API
//! and its node. What it makes of them is judged by connections ([`connection`]), by datagrams that
//! never stop ([`prober`]), and by comparing the node's kernel with what the compiler makes of the
//! objects that the API server has ([`truth`]).
//!
//! Everything ends with its owner, whatever the end of the test: processes are killed, namespaces
//! have no name.

#![allow(
    clippy::needless_pass_by_value,
    reason = "callers write objects where they hand them over"
)]

pub mod agent;
pub mod assets;
pub mod client;
pub mod connection;
pub mod control_plane;
pub mod credentials;
pub mod http;
pub mod manifests;
pub mod network;
pub mod objects;
pub mod prober;
pub mod proxy;
pub mod sandbox;
pub mod stored;
pub mod table;
pub mod truth;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::enforcement::Backend;
use crate::error::LabError;
use crate::lab::Wiring;
use crate::namespace::Namespace;
use client::{Call, Client};
use control_plane::ControlPlane;
use network::{Join, pod_addresses};
use objects::PodPlan;
use sandbox::Sandbox;

/// Wraps whatever went wrong with what was tried.
pub(crate) fn failed(
    operation: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> LabError {
    LabError::Cluster { operation: operation.to_owned(), source: source.into() }
}

/// What a cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How pods of each node are joined to it.
    pub wirings: Vec<Wiring>,
    /// How nodes are joined.
    pub join: Join,
    /// Which iptables everybody on the nodes uses.
    pub backend: Backend,
}

impl Plan {
    /// One node.
    pub const ONE: [Wiring; 1] = [Wiring::Routed];
    /// Two, wired both ways.
    pub const TWO: [Wiring; 2] = [Wiring::Routed, Wiring::Bridged];

    /// Nodes joined by plain routes, with `iptables-nft`.
    #[must_use]
    pub fn routes(wirings: &[Wiring]) -> Self {
        Self { wirings: wirings.to_vec(), join: Join::Routes, backend: Backend::Nft }
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub namespace: Arc<Namespace>,
    /// How its pods are joined to it.
    pub wiring: Wiring,
    hosts: u8,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Which iptables they use.
    pub backend: Backend,
    /// A client outside.
    pub outside: Arc<Namespace>,
    /// The pods that run, by `NAMESPACE/NAME`.
    pub sandboxes: BTreeMap<String, Sandbox>,
    /// The control plane.
    pub control: ControlPlane,
    devices: u32,
}

impl Cluster {
    /// Starts what `plan` says; nobody enforces anything yet.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn start(plan: &Plan) -> Result<Self, LabError> {
        let control = ControlPlane::start()?;
        let lan = &control.namespace;
        let mut nodes = Vec::new();
        for (number, wiring) in plan.wirings.iter().enumerate() {
            let count = plan.wirings.len();
            let namespace = network::build_node(lan, number, count, *wiring, plan.join)?;
            nodes.push(Node {
                name: format!("node-{number}"),
                namespace: Arc::new(namespace),
                wiring: *wiring,
                hosts: 9,
            });
        }
        let outside = Namespace::create()?;
        network::join_lan(lan, &outside, "outside", &[network::CLIENT.into()])?;
        Ok(Self {
            nodes,
            backend: plan.backend,
            outside: Arc::new(outside),
            sandboxes: BTreeMap::new(),
            control,
            devices: 0,
        })
    }

    /// The administrator's client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.control.client
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<(), LabError> {
        self.client().call(objects::create_namespace(name, labels)).map(drop)
    }

    /// Sets labels of a namespace; `null` takes one away.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn label_namespace(&self, name: &str, labels: Value) -> Result<(), LabError> {
        let (collection, name) = ("/api/v1/namespaces".to_owned(), name.to_owned());
        let patch = json!({"metadata": {"labels": labels}});
        self.client().call(Call::Merge { collection, name, subresource: None, patch }).map(drop)
    }

    /// Deletes a namespace with the pods and policies in it, as the namespace controller would.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn delete_namespace(&mut self, name: &str) -> Result<(), LabError> {
        let mut calls = Vec::new();
        for collection in [objects::pods(name), objects::policies(name)] {
            for object in self.client().list(&collection)? {
                let object = objects::name_of(&object);
                calls.push(Call::Delete { collection: collection.clone(), name: object });
            }
        }
        self.client().all(calls)?;
        let prefix = format!("{name}/");
        self.sandboxes.retain(|key, _| !key.starts_with(&prefix));
        let collection = "/api/v1/namespaces".to_owned();
        self.client().call(Call::Delete { collection, name: name.to_owned() })?;
        self.client().call(Call::Finalize { name: name.to_owned() }).map(drop)
    }

    /// Runs a pod: its object, its namespace on its node, and the status that says so.
    ///
    /// # Errors
    /// Where the API server or the kernel refuses.
    pub fn run(&mut self, plan: &PodPlan) -> Result<(), LabError> {
        if !plan.host_network {
            self.attach(plan)?;
        }
        self.announce(plan)
    }

    /// Makes a pod's namespace on its node, of which the API server hears nothing yet.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn attach(&mut self, plan: &PodPlan) -> Result<(), LabError> {
        let node = self.nodes.get_mut(plan.node).ok_or_else(|| failed("run a pod", "no node"))?;
        let host = plan.host.unwrap_or_else(|| {
            node.hosts += 1;
            node.hosts
        });
        let addresses = pod_addresses(plan.node, host);
        self.devices += 1;
        let device = format!("pod{}", self.devices);
        let place = (plan.node, node.wiring);
        let sandbox = network::build_pod(&plan.key, &node.namespace, place, addresses, &device)?;
        self.sandboxes.insert(plan.key.clone(), sandbox);
        Ok(())
    }

    /// Makes a pod's object, with the status that says that it runs.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn announce(&self, plan: &PodPlan) -> Result<(), LabError> {
        let own = |sandbox: &Sandbox| (sandbox.v4, sandbox.v6);
        // A pod of the host network has none of its own.
        let addresses =
            self.sandboxes.get(&plan.key).map_or_else(|| pod_addresses(plan.node, 0), own);
        self.client().call(plan.create(&self.node(plan.node)?.name))?;
        self.client().call(plan.running(addresses)).map(drop)
    }

    /// Sets labels of a pod; `null` takes one away.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn label_pod(&self, key: &str, labels: Value) -> Result<(), LabError> {
        self.client().call(objects::label_pod(key, labels)).map(drop)
    }

    /// Ends a pod as a Job's ends: it keeps its object and its address in it, and runs no more.
    ///
    /// # Errors
    /// Where the API server or the kernel refuses.
    pub fn finish(&mut self, key: &str) -> Result<(), LabError> {
        self.client().call(objects::pod_status(key, json!({"phase": "Succeeded"})))?;
        self.stop_sandbox(key)
    }

    /// Deletes a pod.
    ///
    /// # Errors
    /// Where the API server or the kernel refuses.
    pub fn delete_pod(&mut self, key: &str) -> Result<(), LabError> {
        let (namespace, name) = objects::split(key);
        let collection = objects::pods(namespace);
        self.client().call(Call::Delete { collection, name: name.to_owned() })?;
        self.stop_sandbox(key)
    }

    fn stop_sandbox(&mut self, key: &str) -> Result<(), LabError> {
        let Some(sandbox) = self.sandboxes.remove(key) else { return Ok(()) };
        match self.nodes.get(sandbox.node) {
            Some(node) => node.namespace.ip(&[format!("link delete {}", sandbox.device)]),
            None => Ok(()),
        }
    }

    /// Makes a policy.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn policy(&self, key: &str, spec: Value) -> Result<(), LabError> {
        self.client().call(objects::create_policy(key, spec)).map(drop)
    }

    /// Replaces the spec of a policy in part, as a merge patch does.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn change_policy(&self, key: &str, spec: Value) -> Result<(), LabError> {
        let (namespace, name) = objects::split(key);
        let (collection, name) = (objects::policies(namespace), name.to_owned());
        let patch = json!({"spec": spec});
        self.client().call(Call::Merge { collection, name, subresource: None, patch }).map(drop)
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub fn delete_policy(&self, key: &str) -> Result<(), LabError> {
        let (namespace, name) = objects::split(key);
        let collection = objects::policies(namespace);
        self.client().call(Call::Delete { collection, name: name.to_owned() }).map(drop)
    }

    /// Where `name` is: a pod that runs, `node-0`, or `outside`.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn place(&self, name: &str) -> Result<Arc<Namespace>, LabError> {
        if name == "outside" {
            return Ok(Arc::clone(&self.outside));
        }
        let node = self.nodes.iter().find(|node| node.name == name).map(|node| &node.namespace);
        node.or_else(|| self.sandboxes.get(name).map(|sandbox| &sandbox.namespace))
            .map(Arc::clone)
            .ok_or_else(|| failed("find a place", name))
    }

    /// The addresses of `name`: those of a pod or node, or itself where it is one.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LabError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        if let Some(sandbox) = self.sandboxes.get(name) {
            return Ok(vec![sandbox.v4.into(), sandbox.v6.into()]);
        }
        let node = self.nodes.iter().position(|node| node.name == name);
        node.map(|node| vec![network::node_v4(node).into(), network::node_v6(node).into()])
            .ok_or_else(|| failed("find the addresses of", name))
    }
}
