//! Clusters written as manifests, and what is decided in them.

use std::collections::BTreeMap;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::compile::compile;
use policy_compiler::config::NodeConfig;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::NodeName;
use policy_compiler::policy::Policy;
use policy_compiler::ruleset::{FamilyRules, Ruleset};
use policy_compiler::simulate;
use policy_compiler::verdict::Decision;
use serde_json::{Value, json};

use crate::in_time;

pub(crate) fn config() -> NodeConfig {
    NodeConfig::new(NodeName::new("n1").unwrap())
}

/// A running pod of node n1.
pub(crate) fn pod(namespace: &str, name: &str, address: &str, labels: &Value) -> Pod {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "podIP": address},
    });
    decode::pod(&Node::from(manifest), None).unwrap().object
}

/// A policy without a flaw.
pub(crate) fn policy(namespace: &str, name: &str, spec: Value) -> Policy {
    let decoded = any_policy(namespace, name, spec);
    assert!(!decoded.flawed, "{namespace}/{name} is flawed");
    decoded
}

#[allow(clippy::needless_pass_by_value, reason = "a spec is written where it is handed over")]
pub(crate) fn any_policy(namespace: &str, name: &str, spec: Value) -> Policy {
    let manifest = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    });
    decode::policy(&Node::from(manifest), None).unwrap().object
}

pub(crate) fn snapshot(
    pods: impl IntoIterator<Item = Pod>,
    policies: impl IntoIterator<Item = Policy>,
) -> Snapshot {
    Snapshot {
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
        ..Snapshot::default()
    }
}

/// A cluster and the rules that its node has for it.
pub(crate) struct Enforced {
    pub(crate) snapshot: Snapshot,
    pub(crate) rulesets: BTreeMap<NodeName, Ruleset>,
}

impl Enforced {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let ruleset = in_time("compiling", || compile(&snapshot, &config()).ruleset);
        assert_eq!(simulate::check(&ruleset), Ok(()));
        Self { rulesets: [(config().node, ruleset)].into(), snapshot }
    }

    pub(crate) fn ruleset(&self) -> &Ruleset {
        &self.rulesets[&config().node]
    }

    pub(crate) fn v4(&self) -> &FamilyRules {
        self.ruleset().family(Family::V4)
    }

    /// How many rules and sets there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let rules = self.v4();
        (rules.chains.values().map(|chain| chain.rules.len()).sum(), rules.sets.len())
    }

    /// What `evaluate` decides, which the rules must decide too.
    pub(crate) fn decide(&self, flows: &[(&str, &str, Traffic)]) -> Vec<Decision> {
        let evaluator = in_time("indexing", || Evaluator::new(&self.snapshot));
        let places = simulate::Places::new(&self.snapshot);
        let ways = simulate::Ways::default();
        let judged = |(from, to, traffic): &(&str, &str, Traffic)| {
            let end = |text: &str| End::Address(text.parse().unwrap());
            let family = if from.contains(':') { Family::V6 } else { Family::V4 };
            let (from, to) = (end(from), end(to));
            let flow = Flow { from, to, family, traffic: *traffic, wire: Wire::Routed };
            let decision = evaluator.verdict(&flow).decision;
            let enforced = places.decide_over(&self.rulesets, &flow, &ways);
            assert_eq!(enforced, decision, "{flow:?}");
            decision
        };
        in_time("judging", || flows.iter().map(judged).collect())
    }
}
