//! What the API server's objects say, and whether a node's kernel says the same.
//!
//! The compiler's ruleset for the objects is what the kernel must hold: see [`in_kernel`].

use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::NodeName;
use policy_compiler::verdict::Decision;
use policy_manifest::input;
use serde_json::{Value, json};

use super::sandbox::PORTS;
use super::table::Row;
use super::{Cluster, failed};
use crate::error::LabError;
use crate::in_kernel;
use crate::lab::{BRIDGE, Wiring};
use policy_compiler::port::Protocol;

/// The kinds that verdicts depend on, with where they are listed.
const KINDS: [(&str, &str, &str); 4] = [
    ("v1", "Node", "/api/v1/nodes"),
    ("v1", "Namespace", "/api/v1/namespaces"),
    ("v1", "Pod", "/api/v1/pods"),
    ("networking.k8s.io/v1", "NetworkPolicy", "/apis/networking.k8s.io/v1/networkpolicies"),
];

impl Cluster {
    /// The cluster as the API server has it.
    ///
    /// # Errors
    /// Where it cannot be listed, or holds an object that cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, LabError> {
        let mut items = Vec::new();
        for (version, kind, collection) in KINDS {
            for mut item in self.client().list(collection)? {
                if let Value::Object(fields) = &mut item {
                    fields.insert("apiVersion".to_owned(), json!(version));
                    fields.insert("kind".to_owned(), json!(kind));
                }
                items.push(item);
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let path = self.control.file("objects.json", &list.to_string())?;
        let read = input::read(&[path.as_path()], &input::Options::default());
        if read.unreadable.is_empty() {
            return Ok(read.snapshot);
        }
        Err(failed("read the cluster's objects", format!("{:?}", read.unreadable)))
    }

    /// Every connection between two pods that run, on every port that they serve, with the verdict
    /// of the semantics.
    ///
    /// # Errors
    /// Where the cluster cannot be listed, or the semantics do not decide.
    pub fn verdicts(&self) -> Result<Vec<Row>, LabError> {
        let snapshot = self.snapshot()?;
        let evaluator = Evaluator::new(&snapshot);
        let mut rows = Vec::new();
        for from in self.sandboxes.values() {
            for (to_name, to) in self.sandboxes.iter().filter(|(_, to)| to.v4 != from.v4) {
                for port in PORTS {
                    let flow = Flow {
                        from: End::Address(from.v4.into()),
                        to: End::Address(to.v4.into()),
                        family: Family::V4,
                        traffic: Traffic::tcp(port),
                        wire: Wire::Routed,
                    };
                    let decision = evaluator.verdict(&flow).decision;
                    let from_name = self.name_of(from.v4.into())?;
                    rows.push(Row {
                        from: from_name,
                        to: to_name.clone(),
                        port,
                        protocol: Protocol::Tcp,
                        allow: decision == Decision::Allowed,
                        by: None,
                        seen_as: None,
                    });
                }
            }
        }
        Ok(rows)
    }

    fn name_of(&self, address: std::net::IpAddr) -> Result<String, LabError> {
        let found = self.sandboxes.iter().find(|(_, sandbox)| sandbox.v4 == address);
        found.map(|(name, _)| name.clone()).ok_or_else(|| failed("name", address.to_string()))
    }

    /// Waits until every pod reaches exactly whom the semantics let it reach.
    ///
    /// # Errors
    /// Where they differ for too long.
    pub fn expect_semantics(&self, when: &str) -> Result<(), LabError> {
        self.expect_rows(when, &self.verdicts()?)
    }

    /// What a node is to policyd.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn node_config(&self, node: usize) -> Result<NodeConfig, LabError> {
        let node = self.node(node)?;
        let name = NodeName::new(&node.name).map_err(|error| failed("name a node", error))?;
        let mut config = NodeConfig::new(name);
        if node.wiring == Wiring::Bridged {
            let bridge =
                InterfaceName::new(BRIDGE).map_err(|error| failed("name a bridge", error))?;
            config.bridges.insert(bridge);
        }
        Ok(config)
    }

    /// Waits until the kernel of a node holds what follows from the API server's objects.
    ///
    /// # Errors
    /// Where it does not in time; the error has the lines that differ.
    pub fn expect_kernel(&self, node: usize, patience: Duration) -> Result<(), LabError> {
        let compiled = compile(&self.snapshot()?, &self.node_config(node)?);
        let namespace = &self.node(node)?.namespace;
        in_kernel::expect(self.backend, namespace, &compiled.ruleset, patience)
    }
}
