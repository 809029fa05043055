use serde_json::{Value as Json, json};

use super::*;
use crate::document::{Entry, Value};
use crate::policy::Grant;

fn of_spec(spec: Json) -> Decoded<Policy> {
    policy_spec(ObjectKey::new("shop", "web").unwrap(), &Node::from(spec), None)
}

fn of_object(object: Json) -> Decoding<Policy> {
    policy(&Node::from(object), None)
}

fn written(diagnostics: &[crate::diagnostic::Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

/// Which directions a policy isolates: `ie`, `i`, `e`.
fn isolates(policy: &Policy) -> String {
    let letter = |on: bool, letter: &'static str| if on { letter } else { "" };
    format!("{}{}", letter(policy.isolates_ingress, "i"), letter(policy.isolates_egress, "e"))
}

/// How many rules there are that grant something, in both directions.
fn grants(policy: &Policy) -> usize {
    let traffic = |rule: &&Rule| matches!(rule.grant, Grant::Traffic { .. });
    policy.ingress.iter().chain(&policy.egress).filter(traffic).count()
}

#[test]
fn policy_types_are_defaulted_as_the_server_does_and_else_are_authoritative() {
    for (spec, isolated) in [
        (json!({}), "i"),
        (json!({"podSelector": null, "policyTypes": null, "ingress": null, "egress": null}), "i"),
        (json!({"policyTypes": []}), "i"),
        (json!({"egress": []}), "i"),
        (json!({"egress": [{}]}), "ie"),
        (json!({"ingress": [{}]}), "i"),
        (json!({"policyTypes": [], "egress": [{}]}), "ie"),
        (json!({"policyTypes": ["Ingress"], "egress": [{}]}), "i"),
        (json!({"policyTypes": ["Egress"], "ingress": [{}]}), "e"),
        (json!({"policyTypes": ["Egress"]}), "e"),
        (json!({"policyTypes": ["Egress", "Ingress"]}), "ie"),
        (json!({"policyTypes": ["Egress", "Egress"]}), "e"),
    ] {
        let decoded = of_spec(spec.clone());
        assert_eq!(decoded.diagnostics, [], "{spec}");
        assert_eq!(isolates(&decoded.object), isolated, "{spec}");
    }
}

#[test]
fn rules_of_a_type_that_is_not_listed_are_kept_and_do_not_count() {
    let policy = of_spec(json!({"policyTypes": ["Egress"], "ingress": [{}]})).object;
    assert_eq!(policy.ingress.len(), 1);
    assert_eq!(policy.rules(Direction::Ingress), []);
}

#[test]
fn policy_types_that_are_invalid_mean_both_and_leave_the_rules_alone() {
    for (types, help) in [
        (json!(["ingress"]), Some("did you mean `Ingress`?")),
        (json!(["Egres"]), Some("did you mean `Egress`?")),
        (json!(["Both"]), Some("the types are `Ingress` and `Egress`")),
        (json!(["Ingress", 7]), Some("put it in quotes: \"7\"")),
        (json!([null]), None),
        (json!("Ingress"), None),
        (json!({"Ingress": true}), Some("begin each item with `- `")),
        (json!(["Ingress", "Ingress", "Ingress"]), None),
    ] {
        let decoded = of_spec(json!({"policyTypes": types, "ingress": [{}]}));
        assert_eq!(isolates(&decoded.object), "ie", "{types}");
        assert_eq!(grants(&decoded.object), 1, "{types}");
        assert!(decoded.object.flawed, "{types}");
        let [finding] = &decoded.diagnostics[..] else { panic!("{types}: {decoded:?}") };
        assert!(
            finding.message.ends_with("; this policy isolates in both directions"),
            "{finding}"
        );
        assert_eq!(finding.help.as_deref(), help, "{types}");
    }
}

#[test]
fn a_key_beside_the_rules_that_nobody_knows_takes_every_rule_away() {
    for (spec, isolated, finding) in [
        (
            json!({"ingres": [{}], "ingress": [{}]}),
            "i",
            "spec.ingres: unknown field; every rule of this policy allows nothing (did you mean `ingress`?)",
        ),
        (
            json!({"podselector": {"matchLabels": {"a": "b"}}, "ingress": [{}]}),
            "i",
            "spec.podselector: unknown field; every rule of this policy allows nothing, and it selects every pod of its \
             namespace (did you mean `podSelector`?)",
        ),
        (
            json!({"policyType": ["Egress"], "ingress": [{}]}),
            "ie",
            "spec.policyType: unknown field; every rule of this policy allows nothing, and it isolates in both \
             directions (did you mean `policyTypes`?)",
        ),
        (
            json!({"egres": [{}], "ingress": [{}]}),
            "ie",
            "spec.egres: unknown field; every rule of this policy allows nothing, and it isolates in both directions \
             (did you mean `egress`?)",
        ),
        (
            json!({"to": [{}], "ingress": [{}]}),
            "ie",
            "spec.to: unknown field; every rule of this policy allows nothing, and it isolates in both directions (put \
             it in an item of `egress`)",
        ),
        (
            json!({"policyTypes": [], "egres": [{}], "ingress": [{}]}),
            "ie",
            "spec.egres: unknown field; every rule of this policy allows nothing, and it isolates in both directions \
             (did you mean `egress`?)",
        ),
        (
            json!({"policyTypes": ["Ingress"], "egres": [{}], "ingress": [{}]}),
            "i",
            "spec.egres: unknown field; every rule of this policy allows nothing (did you mean `egress`?)",
        ),
        (
            json!({"x-team/owner": null, "ingress": [{}], "egress": [{}]}),
            "ie",
            "spec[x-team/owner]: unknown field; every rule of this policy allows nothing (the spec of a NetworkPolicy \
             has `podSelector`, `policyTypes`, `ingress`, `egress`)",
        ),
    ] {
        let decoded = of_spec(spec.clone());
        assert_eq!(grants(&decoded.object), 0, "{spec}");
        assert_eq!(isolates(&decoded.object), isolated, "{spec}");
        assert_eq!(
            written(&decoded.diagnostics),
            [format!("error: NetworkPolicy shop/web: {finding}")],
            "{spec}"
        );
    }
}

#[test]
fn rules_that_are_no_list_take_every_rule_away() {
    for (spec, isolated) in [
        (json!({"ingress": {}, "egress": [{}]}), "ie"),
        (json!({"ingress": [{}], "egress": {"to": []}}), "ie"),
        (json!({"ingress": "all"}), "i"),
        (json!({"policyTypes": ["Ingress"], "ingress": [{}], "egress": true}), "i"),
    ] {
        let decoded = of_spec(spec.clone());
        assert_eq!((grants(&decoded.object), &*isolates(&decoded.object)), (0, isolated), "{spec}");
        assert!(
            decoded.diagnostics[0].message.ends_with("; every rule of this policy allows nothing")
        );
    }
}

#[test]
fn a_pod_selector_that_is_invalid_selects_everything_and_grants_nothing() {
    for selector in [
        json!({"matchLabel": {"app": "web"}}),
        json!({"app": "web"}),
        json!({"matchLabels": {"app": 1}}),
        json!({"matchLabels": {"app": null}}),
        json!({"matchLabels": {"-app": "web"}}),
        json!({"matchLabels": {"app": "web", "tier": "a b"}}),
        json!({"matchLabels": ["app"]}),
        json!({"matchExpressions": [{"key": "app", "operator": "In"}]}),
        json!("app=web"),
        json!([]),
    ] {
        let decoded = of_spec(json!({"podSelector": selector, "ingress": [{}]}));
        assert!(decoded.object.pod_selector.is_everything(), "{selector}");
        assert_eq!((grants(&decoded.object), &*isolates(&decoded.object)), (0, "i"), "{selector}");
        assert!(decoded.object.flawed, "{selector}");
        for finding in &decoded.diagnostics {
            assert!(finding.field.starts_with("spec.podSelector"), "{finding}");
            assert!(
                finding.message.ends_with(
                    "; this policy selects every pod of its namespace, and every rule of it allows nothing"
                ),
                "{finding}"
            );
        }
    }
}

#[test]
fn a_policy_without_spec_selects_every_pod_and_allows_no_ingress() {
    for spec in [json!(null), json!({})] {
        let policy = of_spec(spec).object;
        assert!(policy.pod_selector.is_everything() && !policy.flawed);
        assert_eq!((grants(&policy), &*isolates(&policy)), (0, "i"));
    }
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}});
    let decoded = of_object(object).unwrap();
    assert_eq!((decoded.object.flawed, &*isolates(&decoded.object)), (false, "i"));
    assert_eq!(
        written(&decoded.diagnostics),
        [
            "warning: NetworkPolicy default/web: spec: no spec: this policy selects every pod of its namespace and \
          allows no ingress"
        ]
    );
}

#[test]
fn a_spec_that_cannot_be_read_isolates_the_namespace_in_both_directions() {
    let head = |mut rest: Json| {
        rest["apiVersion"] = json!("networking.k8s.io/v1");
        rest["kind"] = json!("NetworkPolicy");
        rest["metadata"] = json!({"name": "web", "namespace": "shop"});
        rest
    };
    for (rest, field) in [
        (json!({"spec": "deny"}), "spec"),
        (json!({"spec": [{"podSelector": {}}]}), "spec"),
        (json!({"Spec": {"podSelector": {}}}), "Spec"),
        (json!({"podSelector": {}, "ingress": [{}]}), "podSelector"),
        (json!({"policytypes": ["Egress"]}), "policytypes"),
    ] {
        let decoded = of_object(head(rest.clone())).unwrap();
        assert!(decoded.object.pod_selector.is_everything(), "{rest}");
        assert_eq!((grants(&decoded.object), &*isolates(&decoded.object)), (0, "ie"), "{rest}");
        assert_eq!(decoded.diagnostics[0].field, field, "{rest}");
        assert!(decoded.diagnostics[0].message.ends_with(NAMESPACE_CLOSED), "{rest}");
    }
}

#[test]
fn another_api_version_isolates_what_its_selector_selects_and_grants_nothing() {
    for version in [
        json!("extensions/v1beta1"),
        json!("networking.k8s.io/v2"),
        json!("v1"),
        json!(1),
        json!(null),
    ] {
        let decoded = of_object(json!({
            "apiVersion": version, "kind": "NetworkPolicy", "metadata": {"name": "web"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{}]},
        }))
        .unwrap();
        assert_eq!(decoded.object.pod_selector.to_string(), "app=web", "{version}");
        assert_eq!((grants(&decoded.object), &*isolates(&decoded.object)), (0, "ie"), "{version}");
        let [finding] = &decoded.diagnostics[..] else { panic!("{version}: {decoded:?}") };
        assert_eq!(finding.field, "apiVersion");
        assert!(finding.message.ends_with(CLOSED), "{finding}");
    }
}

#[test]
fn a_name_that_is_invalid_is_replaced_and_the_policy_isolates() {
    let named = |metadata: Json| {
        of_object(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]},
        }))
    };
    let mut keys = std::collections::BTreeSet::new();
    for metadata in [
        json!({"name": "Web", "namespace": "shop"}),
        json!({"name": "web_", "namespace": "shop"}),
        json!({"name": 7, "namespace": "shop"}),
        json!({"namespace": "shop"}),
        json!({"name": "", "namespace": "shop"}),
        json!({"name": "x".repeat(254), "namespace": "shop"}),
    ] {
        let decoded = named(metadata.clone()).unwrap();
        let policy = &decoded.object;
        assert_eq!(policy.key.namespace.as_str(), "shop");
        assert!(policy.key.name.as_str().starts_with("invalid-"), "{metadata}");
        assert!(keys.insert(policy.key.clone()), "{metadata}: the name stands for another policy");
        assert_eq!(
            (grants(policy), &*isolates(policy), policy.flawed),
            (0, "i", true),
            "{metadata}"
        );
        assert_eq!(policy.pod_selector.to_string(), "app=web");
        let [finding] = &decoded.diagnostics[..] else { panic!("{metadata}: {decoded:?}") };
        let consequence = format!(
            "the policy is kept as `{}`, and every rule of it allows nothing",
            policy.key.name
        );
        assert!(finding.message.ends_with(&consequence), "{finding}");
    }
    assert_eq!(named(json!({"name": "Web"})).unwrap().object.key.namespace.as_str(), "default");
    assert_eq!(
        named(json!({"name": "Web", "labels": {"a": "b"}})).unwrap().object.key.name,
        named(json!({"name": "Web"})).unwrap().object.key.name,
        "the same name is the same policy, whatever else it says"
    );
}

#[test]
fn a_generated_name_is_no_error() {
    let decoded = of_object(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"generateName": "web-"}, "spec": {"ingress": [{}]},
    }))
    .unwrap();
    assert!(decoded.object.key.name.as_str().starts_with("web-"));
    assert_eq!((grants(&decoded.object), decoded.object.flawed), (1, false));
}

#[test]
fn a_policy_whose_namespace_cannot_be_known_is_an_error() {
    for object in [
        json!({"kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "Shop"}}),
        json!({"kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": 7}}),
        json!({"kind": "NetworkPolicy", "metadata": ["web"]}),
        json!(["NetworkPolicy"]),
        json!(null),
    ] {
        let findings = of_object(object.clone()).unwrap_err();
        let last = &findings.last().unwrap().message;
        assert!(last.ends_with("; this policy cannot be enforced"), "{object}: {last}");
    }
}

/// A mapping with a key that may stand twice, which JSON cannot say.
fn map(entries: Vec<(&str, Node)>) -> Node {
    let entry = |(key, node): (&str, Node)| Entry { key: key.to_owned(), position: None, node };
    Node { value: Value::Map(entries.into_iter().map(entry).collect()), position: None }
}

#[test]
fn a_key_of_the_spec_that_stands_twice_denies() {
    let key = || ObjectKey::new("shop", "web").unwrap();
    let web = || Node::from(json!({"matchLabels": {"app": "web"}}));
    let list = || Node::from(json!([{}]));
    for (twice, node, selected, isolated) in [
        ("podSelector", web(), "everything", "i"),
        ("policyTypes", Node::from(json!(["Ingress"])), "app=web", "ie"),
        ("ingress", list(), "app=web", "i"),
        ("egress", list(), "app=web", "ie"),
    ] {
        let mut entries = vec![("podSelector", web()), ("ingress", list()), (twice, node.clone())];
        if !matches!(twice, "podSelector" | "ingress") {
            entries.push((twice, node));
        }
        let decoded = policy_spec(key(), &map(entries), None);
        assert_eq!(decoded.object.pod_selector.to_string(), selected, "{twice}");
        assert_eq!(
            (grants(&decoded.object), &*isolates(&decoded.object)),
            (0, isolated),
            "{twice}"
        );
        let [finding] = &decoded.diagnostics[..] else { panic!("{twice}: {decoded:?}") };
        assert_eq!(finding.field, format!("spec.{twice}"));
        assert!(finding.message.starts_with("written more than once; every rule of this policy"));
    }
}

#[test]
fn a_second_spec_leaves_nothing_to_be_read() {
    let object = map(vec![
        ("apiVersion", Node::from(json!("networking.k8s.io/v1"))),
        ("kind", Node::from(json!("NetworkPolicy"))),
        ("metadata", Node::from(json!({"name": "web"}))),
        ("spec", Node::from(json!({"podSelector": {"matchLabels": {"app": "web"}}}))),
        ("spec", Node::from(json!({"ingress": [{}]}))),
    ]);
    let policy = policy(&object, None).unwrap().object;
    assert!(policy.pod_selector.is_everything());
    assert_eq!((grants(&policy), &*isolates(&policy)), (0, "ie"));
}

#[test]
fn a_policy_whose_own_labels_are_invalid_isolates_and_grants_nothing() {
    let decoded = of_object(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "labels": {"version": 1}}, "spec": {"ingress": [{}]},
    }))
    .unwrap();
    assert_eq!((grants(&decoded.object), &*isolates(&decoded.object)), (0, "i"));
    assert_eq!(
        written(&decoded.diagnostics),
        [
            "error: NetworkPolicy default/web: metadata.labels.version: must be text, is a number; every rule of this \
          policy allows nothing (put it in quotes: \"1\")"
        ]
    );
}

#[test]
fn a_name_made_up_for_a_policy_does_not_depend_on_where_it_stands() {
    let at = |line| {
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"ingress": [{}]},
        });
        let mut node = Node::from(object);
        node.position = Some(Position { line, column: 1 });
        policy(&node, None).unwrap().object.key
    };
    assert_eq!(at(1), at(7));
}

#[test]
fn metadata_and_status_may_have_keys_that_nobody_knows() {
    let decoded = of_object(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "owner": "me", "annotations": {"a": 1}, "managedFields": [{"f:spec": {}}]},
        "spec": {"ingress": [{}]}, "status": {"conditions": [], "anything": true},
    }))
    .unwrap();
    assert_eq!((decoded.diagnostics.len(), grants(&decoded.object)), (0, 1));
}

#[test]
fn a_finding_tells_the_place_of_the_node_that_is_wrong() {
    let at = |line, column, value| Node { value, position: Some(Position { line, column }) };
    let entry = |line, column, key: &str, node| Entry {
        key: key.to_owned(),
        position: Some(Position { line, column }),
        node,
    };
    let rule = at(9, 5, Value::Map(vec![entry(9, 5, "form", at(9, 11, Value::List(vec![])))]));
    let rules = at(9, 3, Value::List(vec![rule]));
    let spec = at(8, 3, Value::Map(vec![entry(8, 3, "ingress", rules)]));
    let file = Arc::from("web.yaml");
    let decoded = policy_spec(ObjectKey::new("shop", "web").unwrap(), &spec, Some(&file));
    assert_eq!(decoded.object.location.to_string(), "web.yaml:8:3");
    assert_eq!(decoded.object.ingress[0].location.to_string(), "web.yaml:9:5");
    assert_eq!(
        written(&decoded.diagnostics),
        [
            "web.yaml:9:5: error: NetworkPolicy shop/web: spec.ingress[0].form: unknown field; this rule allows \
          nothing (did you mean `from`?)"
        ]
    );
}
