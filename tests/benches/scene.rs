//! A cluster and the engine of one of its nodes, which has everything.

use policy_compiler::compile::compile;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::engine::{Engine, plan};
use policy_compiler::name::NamespaceName;
use policy_compiler::ruleset::Generation;
use policy_compiler::update::{Event, Update};
use policy_tests::generate::{Cluster, Size};
use serde_json::{Value, json};

/// A cluster and the engine of its first node.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// The engine of its first node.
    pub engine: Engine,
}

impl Scene {
    /// The engine has been told everything, and that one policy more: whoever is in a namespace that
    /// is exposed gets in, so that the label of a namespace touches all of its pods.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let cluster = Cluster::new(size, 1);
        let mut snapshot = cluster.snapshot();
        let local = snapshot.pods.values().find(|pod| {
            let tenants = pod.labels.get("pod-template-hash").is_some();
            tenants && pod.is_live() && pod.node.as_ref() == Some(&cluster.node())
        });
        let namespace = local.unwrap().key.namespace.clone();
        let exposed = json!([{"from": [{"namespaceSelector": {"matchExpressions": [
            {"key": "exposed", "operator": "Exists"},
        ]}}]}]);
        let policy = policy(&namespace, "exposed", &exposed);
        snapshot.policies.insert(policy.key.clone(), policy);
        let mut engine = Engine::new(cluster.config(), Generation(0));
        engine.apply(Event::Relisted(Box::new(snapshot)));
        engine.flush();
        Self { cluster, engine }
    }

    /// Asserts that the engine has come to what compiling makes of the same objects.
    pub fn check(&self) {
        let afresh = compile(&self.engine.snapshot(), self.engine.config()).ruleset;
        let steps = plan(self.engine.ruleset(), &afresh, Generation(u32::MAX)).update.steps;
        assert_eq!(steps, [], "the engine has come to something else");
    }
}

/// What one event leads to.
pub fn step(engine: &mut Engine, event: Event) -> Update {
    engine.apply(event);
    engine.flush()
}

fn policy(
    namespace: &NamespaceName,
    name: &str,
    ingress: &Value,
) -> policy_compiler::policy::Policy {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace.as_str(), "name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress},
    });
    decode::policy(&Node::from(object), None).unwrap().object
}

/// Edits of one policy that selects all pods of a namespace: it is written, has another port, lets in
/// others, and is deleted. Those whom it lets in are of other namespaces too, so that no policy which lets the
/// namespace talk to itself covers it.
#[must_use]
pub fn to_and_fro(namespace: &NamespaceName) -> Vec<Event> {
    let from = |app: &str| {
        json!([{
            "namespaceSelector": {"matchLabels": {"env": "prod"}},
            "podSelector": {"matchLabels": {"app": app}},
        }])
    };
    let rules = [
        json!([{"from": from("web"), "ports": [{"port": 80}]}]),
        json!([{"from": from("web"), "ports": [{"port": 443}]}]),
        json!([{"from": from("api"), "ports": [{"port": "http"}]}]),
    ];
    let written = rules.map(|rules| policy(namespace, "edited", &rules));
    let key = written[0].key.clone();
    let applied = written.into_iter().map(|policy| Event::PolicyApplied(Box::new(policy)));
    applied.chain([Event::PolicyDeleted(key)]).collect()
}
