//! The policies that fail closed where it is felt: in part or whole invalid, and selecting a pod of
//! this node, or asking for rules that this node's kernel refuses. Each is told once, and again when what
//! is wrong with it has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::engine::Engine;
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::policy::Policy;

use super::refusals::{Refusal, by_policy};
use crate::excerpt::policies_in;

/// How many mistakes of one policy are told.
const MISTAKES: usize = 3;

/// What was told of each policy that fails closed.
#[derive(Debug, Default)]
pub(super) struct Flaws {
    told: BTreeMap<ObjectKey, String>,
}

impl Flaws {
    /// The policies to tell of, and what is wrong with each.
    pub(super) fn news(
        &mut self,
        engine: &Engine,
        listed: &[Diagnostic],
        refusals: &[Refusal],
    ) -> Vec<(ObjectKey, String)> {
        let refused = by_policy(refusals);
        let mut felt: BTreeSet<&ObjectKey> = refused.keys().collect();
        let mut flawed: BTreeMap<&NamespaceName, Vec<&Policy>> = BTreeMap::new();
        for pod in engine.local_pods() {
            let here = flawed.entry(&pod.key.namespace).or_insert_with(|| {
                let policies = policies_in(engine.objects(), &pod.key.namespace);
                policies.filter(|policy| policy.flawed).collect()
            });
            let selecting = here.iter().filter(|policy| policy.pod_selector.matches(&pod.labels));
            felt.extend(selecting.map(|policy| &policy.key));
        }
        self.told.retain(|policy, _| felt.contains(policy));
        let mut news = Vec::new();
        for policy in felt {
            let reason = mistakes(policy, listed, refused.get(policy));
            // It may have come a moment ago, and what is wrong with it be listed only after this.
            if !reason.is_empty() && self.told.get(policy) != Some(&reason) {
                self.told.insert(policy.clone(), reason.clone());
                news.push((policy.clone(), reason));
            }
        }
        news
    }
}

fn mistakes(policy: &ObjectKey, listed: &[Diagnostic], refused: Option<&BTreeSet<&str>>) -> String {
    let is_about = |diagnostic: &&Diagnostic| {
        diagnostic.severity == Severity::Error
            && diagnostic.object.as_ref().is_some_and(|object| {
                object.kind == "NetworkPolicy"
                    && object.namespace.as_deref() == Some(policy.namespace.as_str())
                    && object.name == policy.name.as_str()
            })
    };
    let all: BTreeSet<String> = listed
        .iter()
        .filter(is_about)
        .map(|diagnostic| match diagnostic.field.as_str() {
            "" => diagnostic.message.clone(),
            field => format!("{field}: {}", diagnostic.message),
        })
        .chain(refused.into_iter().flatten().map(|rule| (*rule).to_owned()))
        .collect();
    let more = all.len().saturating_sub(MISTAKES);
    let mut text = all.into_iter().take(MISTAKES).collect::<Vec<_>>().join("; ");
    if more > 0 {
        let _ = write!(text, "; and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excerpt::tests::engine_of;
    use policy_compiler::cluster::Snapshot;
    use policy_compiler::decode;
    use policy_compiler::document::Node;
    use serde_json::json;

    /// A cluster with x/web on n1, and a policy whose only rule has a key that nobody knows.
    fn cluster(selects: &str) -> (Engine, Vec<Diagnostic>) {
        let (objects, listed) = objects(selects);
        (engine_of("n1", objects), listed)
    }

    fn objects(selects: &str) -> (Snapshot, Vec<Diagnostic>) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "x", "name": "web", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "x", "name": "odd"},
            "spec": {
                "podSelector": {"matchLabels": {"app": selects}},
                "ingress": [{"form": []}],
            },
        });
        let pod = decode::pod(&Node::from(pod), None).unwrap().object;
        let decoded = decode::policy(&Node::from(policy), None).unwrap();
        let snapshot = Snapshot {
            pods: [(pod.key.clone(), pod)].into(),
            policies: [(decoded.object.key.clone(), decoded.object)].into(),
            ..Snapshot::default()
        };
        (snapshot, decoded.diagnostics)
    }

    #[test]
    fn a_flawed_policy_is_told_of_once_while_it_selects_a_pod_of_this_node() {
        let (engine, listed) = cluster("web");
        let mut flaws = Flaws::default();
        let key = ObjectKey::new("x", "odd").unwrap();
        assert_eq!(flaws.news(&engine, &[], &[]), [], "it is not known yet what is wrong");
        let [(policy, reason)] = &flaws.news(&engine, &listed, &[])[..] else {
            panic!("one is told")
        };
        assert_eq!(policy, &key);
        assert!(reason.starts_with("spec.ingress[0].form: "), "{reason}");
        assert_eq!(flaws.news(&engine, &listed, &[]), []);
        assert_eq!(flaws.news(&engine_of("n1", Snapshot::default()), &listed, &[]), []);
        assert_eq!(flaws.news(&engine, &listed, &[]).len(), 1, "it came back");
    }

    #[test]
    fn one_that_selects_no_pod_of_this_node_is_another_nodes_to_tell() {
        let (engine, listed) = cluster("db");
        assert_eq!(Flaws::default().news(&engine, &listed, &[]), []);
        let (objects, listed) = objects("web");
        let elsewhere = engine_of("n2", objects);
        assert_eq!(Flaws::default().news(&elsewhere, &listed, &[]), []);
    }
    #[test]
    fn a_policy_that_the_kernel_refuses_a_rule_of_is_told_of_with_the_rule() {
        let (engine, _) = cluster("web");
        let key = ObjectKey::new("x", "odd").unwrap();
        let refusals: Vec<Refusal> = (1..=5)
            .map(|n| Refusal {
                rule: format!("IPv4: the kernel refuses `{n}`"),
                policies: [key.clone()].into(),
                pods: BTreeSet::new(),
            })
            .collect();
        let mut flaws = Flaws::default();
        let told = flaws.news(&engine, &[], &refusals[..1]);
        assert_eq!(told, [(key.clone(), "IPv4: the kernel refuses `1`".to_owned())]);
        assert_eq!(flaws.news(&engine, &[], &refusals[..1]), []);
        let [(_, reason)] = &flaws.news(&engine, &[], &refusals)[..] else { panic!("one is told") };
        assert!(reason.ends_with("`3`; and 2 more"), "{reason}");
    }
}
