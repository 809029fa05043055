//! What holds for every document: the decoders know the whole API, never panic, and never open.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::*;
use crate::document::Position;
use crate::name::ObjectKey;
use crate::policy::Grant;

/// A policy in which every field of the API stands somewhere. The structs are written out in full,
/// so that a field that the API gains does not compile until it stands here too.
fn every_field() -> NetworkPolicy {
    let requirement = |operator: &str, values: Option<Vec<String>>| LabelSelectorRequirement {
        key: "example.com/tier".to_owned(),
        operator: operator.to_owned(),
        values,
    };
    let selector = LabelSelector {
        match_expressions: Some(vec![
            requirement("In", Some(vec!["a".to_owned()])),
            requirement("Exists", None),
        ]),
        match_labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
    };
    let pods = NetworkPolicyPeer {
        ip_block: None,
        namespace_selector: Some(selector.clone()),
        pod_selector: Some(selector.clone()),
    };
    let block = NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: "10.0.0.0/8".to_owned(),
            except: Some(vec!["10.1.0.0/16".to_owned()]),
        }),
        namespace_selector: None,
        pod_selector: None,
    };
    let range = NetworkPolicyPort {
        end_port: Some(90),
        port: Some(IntOrString::Int(80)),
        protocol: Some("TCP".to_owned()),
    };
    let named = NetworkPolicyPort {
        end_port: None,
        port: Some(IntOrString::String("http".to_owned())),
        protocol: None,
    };
    let peers = Some(vec![pods, block]);
    let ports = Some(vec![range, named]);
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            egress: Some(vec![NetworkPolicyEgressRule { ports: ports.clone(), to: peers.clone() }]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: peers, ports }]),
            pod_selector: Some(selector),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        }),
    }
}

#[test]
fn every_field_of_the_api_is_known() {
    let json = serde_json::to_value(every_field()).unwrap();
    let decoded = policy(&Node::from(json), None).unwrap();
    assert_eq!(decoded.diagnostics, []);
    for rules in [&decoded.object.ingress, &decoded.object.egress] {
        assert!(matches!(rules[0].grant, Grant::Traffic { .. }), "{rules:?}");
    }
}

#[test]
fn every_field_of_the_api_is_missed_when_it_is_misspelt() {
    let json = serde_json::to_value(every_field()).unwrap();
    let mut misspelt = 0;
    for pointer in keys(&json["spec"], "/spec") {
        let mut json = json.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let fields = json.pointer_mut(parent).and_then(serde_json::Value::as_object_mut).unwrap();
        let value = fields.remove(key).unwrap();
        fields.insert(format!("{key}x"), value);
        let decoded = policy(&Node::from(json), None).unwrap();
        assert!(decoded.object.flawed, "{pointer}");
        misspelt += 1;
    }
    assert!(misspelt > 40, "only {misspelt} keys were tried");
}

/// The pointers of all keys below `json` that the API defines (not labels, which are the user's).
fn keys(json: &serde_json::Value, at: &str) -> Vec<String> {
    match json {
        serde_json::Value::Object(fields) if !at.ends_with("/matchLabels") => fields
            .iter()
            .flat_map(|(key, value)| {
                let at = format!("{at}/{key}");
                let mut all = keys(value, &at);
                all.push(at);
                all
            })
            .collect(),
        serde_json::Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| keys(item, &format!("{at}/{i}")))
            .collect(),
        _ => Vec::new(),
    }
}

/// Keys and texts that decoders look at, so that random documents get deep into them.
const WORDS: [&str; 44] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "podSelector",
    "policyTypes",
    "ingress",
    "egress",
    "from",
    "to",
    "ports",
    "namespaceSelector",
    "ipBlock",
    "cidr",
    "except",
    "protocol",
    "port",
    "endPort",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "In",
    "Exists",
    "Ingress",
    "Egress",
    "TCP",
    "UDP",
    "http",
    "80",
    "10.0.0.0/8",
    "10.1.2.3/16",
    "fd00::/8",
    "containers",
    "podIPs",
    "ip",
    "template",
    "networking.k8s.io/v1",
    "NetworkPolicy",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn at_random(value: Value, line: Option<u32>) -> Node {
    Node { value, position: line.map(|line| Position { line, column: 1 }) }
}

/// Any document, made of the words that decoders look for.
fn document() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => prop_oneof![any::<i64>(), 0..70_000i64].prop_map(Value::Int),
        1 => any::<f64>().prop_map(Value::Float),
        4 => word().prop_map(Value::String),
    ]
    .prop_map(|value| at_random(value, None));
    leaf.prop_recursive(6, 64, 5, |inner| {
        let line = proptest::option::of(1..99u32);
        let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List);
        let entry = (word(), inner).prop_map(|(key, node)| Entry { key, position: None, node });
        let map = proptest::collection::vec(entry, 0..6).prop_map(Value::Map);
        (prop_oneof![list, map], line).prop_map(|(value, line)| at_random(value, line))
    })
}

/// Every place in a document, as the indices that lead there.
fn places(node: &Node, here: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    all.push(here.clone());
    let children: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().collect(),
        Value::Map(entries) => entries.iter().map(|entry| &entry.node).collect(),
        _ => Vec::new(),
    };
    for (index, child) in children.into_iter().enumerate() {
        here.push(index);
        places(child, here, all);
        here.pop();
    }
}

fn place<'n>(node: &'n mut Node, path: &[usize]) -> &'n mut Node {
    let Some((first, rest)) = path.split_first() else { return node };
    match &mut node.value {
        Value::List(items) => place(&mut items[*first], rest),
        Value::Map(entries) => place(&mut entries[*first].node, rest),
        _ => panic!("no such place"),
    }
}

/// A valid spec in which some places were overwritten and some keys renamed.
fn damaged_spec() -> impl Strategy<Value = Node> {
    let damage = (any::<proptest::sample::Index>(), document(), proptest::option::of(word()));
    proptest::collection::vec(damage, 0..4).prop_map(|damages| {
        let mut spec = Node::from(serde_json::to_value(every_field().spec).unwrap());
        for (index, replacement, key) in damages {
            let mut all = Vec::new();
            places(&spec, &mut Vec::new(), &mut all);
            let target = place(&mut spec, &all[index.index(all.len())]);
            match (&mut target.value, key) {
                (Value::Map(entries), Some(key)) if !entries.is_empty() => {
                    let which = index.index(entries.len());
                    entries[which].key = key;
                }
                _ => *target = replacement,
            }
        }
        spec
    })
}

fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
}

/// What must hold of every policy, whatever was written.
fn assert_sound(decoded: &Decoded<Policy>) {
    let policy = &decoded.object;
    assert!(policy.isolates_ingress || policy.isolates_egress, "isolates nothing: {decoded:?}");
    assert_eq!(policy.flawed, errors(&decoded.diagnostics) > 0, "{decoded:?}");
    for rule in policy.ingress.iter().chain(&policy.egress) {
        if let Grant::Nothing { reason } = &rule.grant {
            assert!(policy.flawed && !reason.is_empty() && !reason.contains('\n'), "{decoded:?}");
        }
    }
    for finding in &decoded.diagnostics {
        if finding.severity == Severity::Error {
            assert!(finding.message.contains("; "), "says not what follows: {finding}");
        }
    }
}

proptest! {
    #![proptest_config(crate::laws::config(2_000))]

    #[test]
    fn any_document_is_decoded_or_refused_with_an_error(node in document()) {
        let _ = object(&node, None);
        for findings in [
            pod(&node, None).err(),
            workload(&node, None).err(),
            namespace(&node, None).err(),
            self::node(&node, None).err(),
            service(&node, None).err(),
        ].into_iter().flatten() {
            prop_assert!(errors(&findings) > 0);
        }
        match policy(&node, None) {
            Ok(decoded) => assert_sound(&decoded),
            Err(findings) => prop_assert!(errors(&findings) > 0),
        }
    }

    #[test]
    fn a_policy_in_a_valid_namespace_always_isolates(spec in document(), extra in document(), key in word()) {
        let entry = |key: &str, node: Node| Entry { key: key.to_owned(), position: None, node };
        let metadata = Node::from(serde_json::json!({"name": "web", "namespace": "shop"}));
        prop_assume!(key != "metadata");
        let object = at_random(Value::Map(vec![
            entry("metadata", metadata), entry("spec", spec), entry(&key, extra),
        ]), Some(1));
        match policy(&object, None) {
            Ok(decoded) => assert_sound(&decoded),
            Err(findings) => prop_assert!(false, "{findings:?}"),
        }
    }

    #[test]
    fn a_damaged_spec_always_isolates(spec in damaged_spec()) {
        let decoded = policy_spec(ObjectKey::new("shop", "web").unwrap(), &spec, None);
        assert_sound(&decoded);
    }

    #[test]
    fn what_is_accepted_is_what_a_typed_decoder_accepts_and_loses_nothing(spec in damaged_spec()) {
        let decoded = policy_spec(ObjectKey::new("shop", "web").unwrap(), &spec, None);
        // A spec that is null is as good as none to the API server, and no spec to the typed decoder.
        if !decoded.object.flawed && !spec.is_null() {
            let plain = json(&spec);
            let typed: NetworkPolicySpec = serde_json::from_value(plain.clone()).unwrap();
            let again = serde_json::to_value(typed).unwrap();
            let read = |json| policy_spec(ObjectKey::new("shop", "web").unwrap(), &Node::from(json), None);
            prop_assert_eq!(read(plain), read(again));
        }
    }
}

/// A document as JSON.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), json(&e.node))).collect(),
    }
}
