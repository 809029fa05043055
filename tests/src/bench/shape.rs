//! The node that is measured: isolated pods, each selected by every policy of its namespace, and their
//! peers on other nodes.
//!
//! ```text
//!  namespace n    as many local pods as the shape says, and 40 remote ones, labelled app=a0..a9 in turn
//!  policy n/pK    selects all of them, on port 8000+K: lets app=aK in, and out to app=a(K+1)
//! ```
//!
//! So a packet from a pod of `aK` to one of `a(K+1)` on port 8000+K is allowed, by the K-th of as many
//! policies, and one to [`DENIED_PORT`] by none. Addresses are dense, as an address manager gives them
//! out: local pods in `10.244.0.0/18`, remote ones in `10.245.0.0/16`.

use std::net::Ipv4Addr;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::config::NodeConfig;
use policy_compiler::decode;
use policy_compiler::document;
use policy_compiler::name::{NameError, NodeName};
use policy_compiler::policy::Policy;
use policy_compiler::port::Protocol;
use serde_json::json;

use super::BenchError;

/// The node that has the local pods.
pub const NODE: &str = "measured";
/// How many local pods a namespace has where there are several.
pub const TOGETHER: u16 = 10;
/// How many pods a namespace has elsewhere.
pub const ELSEWHERE: u16 = 40;
/// How many values the label `app` has, dealt out to the pods of a namespace in turn.
const APPS: u16 = 10;
/// The port of the first policy's traffic.
pub const FIRST_PORT: u16 = 8_000;
/// A port that no policy allows.
pub const DENIED_PORT: u16 = 7_999;

/// Which directions the policies are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directions {
    /// Ingress alone.
    Ingress,
    /// Both.
    Both,
}

/// How large the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Local pods, all of them isolated.
    pub pods: u16,
    /// How many of them a namespace has, [`TOGETHER`] for most.
    pub together: u16,
    /// Policies in each namespace, all of which select all of its pods.
    pub policies: u16,
    /// For which directions.
    pub directions: Directions,
    /// What they allow.
    pub protocol: Protocol,
}

/// A packet that the policies allow, unless its port is [`DENIED_PORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// A local pod.
    pub source: Ipv4Addr,
    /// Another one of the same namespace.
    pub destination: Ipv4Addr,
    /// The port of the policy that allows it.
    pub port: u16,
}

impl Shape {
    /// How many namespaces there are.
    #[must_use]
    pub fn namespaces(&self) -> u16 {
        self.pods.div_ceil(self.together)
    }

    /// The name of a namespace.
    #[must_use]
    pub fn namespace(number: u16) -> String {
        format!("tenant-{number:04}")
    }

    /// The address of a local pod.
    #[must_use]
    pub fn local(number: u16) -> Ipv4Addr {
        // Network and broadcast addresses of a /24 are given to nobody.
        let (net, host) = (number / 250, number % 250 + 2);
        Ipv4Addr::from(
            u32::from(Ipv4Addr::new(10, 244, 0, 0)) + u32::from(net) * 256 + u32::from(host),
        )
    }

    /// The address of a pod on another node.
    #[must_use]
    pub fn remote(number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 245, 0, 1)) + number)
    }

    /// The pods of a namespace that are labelled as peers of policy `policy`, local and remote.
    #[must_use]
    pub fn peers(&self, namespace: u16, policy: u16) -> Vec<Ipv4Addr> {
        let members = self.local_pods(namespace).chain(Self::remote_pods(namespace));
        members.filter(|(number, _)| number % APPS == policy % APPS).map(|(_, at)| at).collect()
    }

    /// All pods of a namespace, local and remote.
    #[must_use]
    pub fn members(&self, namespace: u16) -> Vec<Ipv4Addr> {
        let members = self.local_pods(namespace).chain(Self::remote_pods(namespace));
        members.map(|(_, address)| address).collect()
    }

    /// The local pods of a namespace, each by its number there.
    fn local_pods(&self, namespace: u16) -> impl Iterator<Item = (u16, Ipv4Addr)> {
        let first = namespace * self.together;
        (0..self.together).map(move |number| (number, Self::local(first + number)))
    }

    fn remote_pods(namespace: u16) -> impl Iterator<Item = (u16, Ipv4Addr)> {
        let first = u32::from(namespace) * u32::from(ELSEWHERE);
        (0..ELSEWHERE).map(move |number| (number, Self::remote(first + u32::from(number))))
    }

    /// Packets over which a measurement takes turns: one in each namespace, each allowed by another policy
    /// than the one before it.
    #[must_use]
    pub fn turns(&self) -> Vec<Ends> {
        let ends = |namespace: u16| {
            let policy = namespace % self.policies;
            let pod = |app: u16| Self::local(namespace * self.together + app % APPS);
            Ends { source: pod(policy), destination: pod(policy + 1), port: FIRST_PORT + policy }
        };
        (0..self.namespaces()).map(ends).collect()
    }

    /// The cluster.
    ///
    /// # Errors
    /// None, unless the decoder refuses what is written here.
    pub fn snapshot(&self) -> Result<Snapshot, BenchError> {
        let mut snapshot = Snapshot::default();
        for namespace in 0..self.namespaces() {
            for (number, address) in self.local_pods(namespace) {
                let pod = pod(namespace, number, NODE, address)?;
                snapshot.pods.insert(pod.key.clone(), pod);
            }
            for (number, address) in Self::remote_pods(namespace) {
                let pod = pod(namespace, self.together + number, "another", address)?;
                snapshot.pods.insert(pod.key.clone(), pod);
            }
            for number in 0..self.policies {
                let policy = self.policy(namespace, number, FIRST_PORT + number)?;
                snapshot.policies.insert(policy.key.clone(), policy);
            }
        }
        Ok(snapshot)
    }

    /// A policy of a namespace.
    ///
    /// # Errors
    /// As [`Shape::snapshot`].
    pub fn policy(&self, namespace: u16, number: u16, port: u16) -> Result<Policy, BenchError> {
        let ports = json!([{"protocol": self.protocol.to_string().to_uppercase(), "port": port}]);
        let labelled = |app: u16| json!([{"podSelector": {"matchLabels": {"app": format!("a{}", app % APPS)}}}]);
        let mut spec = json!({
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": labelled(number), "ports": ports}],
        });
        if self.directions == Directions::Both {
            spec["policyTypes"] = json!(["Ingress", "Egress"]);
            spec["egress"] = json!([{"to": labelled(number + 1), "ports": ports}]);
        }
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": Self::namespace(namespace), "name": format!("p{number}")},
            "spec": spec,
        });
        match decode::policy(&document::Node::from(object), None) {
            Ok(decoded) if decoded.diagnostics.is_empty() => Ok(decoded.object),
            Ok(decoded) => Err(BenchError::Shape(format!("{:?}", decoded.diagnostics))),
            Err(diagnostics) => Err(BenchError::Shape(format!("{diagnostics:?}"))),
        }
    }

    /// The node's configuration.
    ///
    /// # Errors
    /// None, unless the name is refused.
    pub fn config(ipvs: bool) -> Result<NodeConfig, BenchError> {
        let node =
            NodeName::new(NODE).map_err(|error: NameError| BenchError::Shape(error.to_string()))?;
        Ok(NodeConfig { ipvs, ..NodeConfig::new(node) })
    }
}

/// A pod whose number says its name and its label `app`.
///
/// # Errors
/// None, unless the decoder refuses what is written here.
pub fn pod(namespace: u16, number: u16, node: &str, address: Ipv4Addr) -> Result<Pod, BenchError> {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": Shape::namespace(namespace),
            "name": format!("pod-{number}"),
            "labels": {"app": format!("a{}", number % APPS)},
        },
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "podIP": address.to_string()},
    });
    match decode::pod(&document::Node::from(object), None) {
        Ok(decoded) => Ok(decoded.object),
        Err(diagnostics) => Err(BenchError::Shape(format!("{diagnostics:?}"))),
    }
}
