//! What the API server's objects say, and whether a node's kernel says the same.
//!
//! The compiler's ruleset for the objects is loaded into a namespace of its own by the text of
//! `render`, and both kernels are read back: they must hold the same chains, rules, sets and members,
//! up to the generations in the names of sets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::NodeName;
use policy_compiler::ruleset::ChainName;
use policy_compiler::verdict::Decision;
use policy_manifest::input;
use serde_json::{Value, json};

use super::sandbox::PORTS;
use super::table::Row;
use super::{Cluster, failed};
use crate::enforcement::{Backend, Loader};
use crate::error::LabError;
use crate::lab::{BRIDGE, Wiring};
use crate::namespace::Namespace;
use policy_compiler::port::Protocol;

/// The kinds that verdicts depend on, with where they are listed.
const KINDS: [(&str, &str, &str); 3] = [
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
        let reference = Namespace::create()?;
        Loader::Text.load(self.backend, &reference, &compiled.ruleset)?;
        let expected = kernel(self.backend, &reference)?;
        let start = Instant::now();
        loop {
            let found = kernel(self.backend, &self.node(node)?.namespace)?;
            if found == expected {
                return Ok(());
            }
            if start.elapsed() > patience {
                let show = |lines: BTreeSet<&String>| {
                    lines.into_iter().take(40).cloned().collect::<Vec<_>>().join("\n  ")
                };
                let what = format!(
                    "the kernel of node {node} to hold what follows\n missing:\n  {}\n foreign:\n  {}\n",
                    show(expected.difference(&found).collect()),
                    show(found.difference(&expected).collect()),
                );
                return Err(LabError::TimeOut { what, seconds: patience.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The lines about our chains and sets in a namespace, each with its place in its chain, and with
/// the names of sets without their generation.
fn kernel(backend: Backend, namespace: &Namespace) -> Result<BTreeSet<String>, LabError> {
    let mut lines = BTreeSet::new();
    for family in Family::ALL {
        let text = backend.save(namespace, family, "filter")?;
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines().filter(|line| line.contains(ChainName::PREFIX)) {
            let line = line.split(" [").next().unwrap_or_default();
            let chain = line.split(' ').nth(1).unwrap_or_default();
            let place = places.entry(chain).or_default();
            *place += 1;
            lines.insert(format!("{family} {place} {}", without_generations(line)));
        }
    }
    let sets = namespace.run(std::process::Command::new("ipset").arg("save"), "")?;
    for line in sets.lines().filter(|line| line.contains(" npc")) {
        // How large a set was made is no part of what it says.
        let line = line.split(" hashsize ").next().unwrap_or_default();
        lines.insert(without_generations(line));
    }
    Ok(lines)
}

/// `npc4-p-HASH-GENERATION` as `npc4-p-HASH`.
fn without_generations(line: &str) -> String {
    let word = |word: &str| {
        let peers = word.starts_with("npc4-p-") || word.starts_with("npc6-p-");
        match word.rsplit_once('-') {
            Some((name, _)) if peers => name.to_owned(),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
