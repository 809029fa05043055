//! Histories made to leave something stale behind: names that come back with other content, addresses
//! that change hands, numbers under one name, labels that only some time matter, lists.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::course::without_generations;
use super::events::config;
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::compile::compile;
use crate::config::{Antispoof, DenyAction, Hairpin, InterfaceName, NodeConfig};
use crate::decode;
use crate::document::Node;
use crate::engine::Engine;
use crate::engine::program::freezes_both_ways;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::packed::PackedPod;
use crate::ruleset::{Generation, Ruleset};
use crate::update::{Event, PodList};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const LABELS: [&str; 3] = ["app", "tier", "zone"];

/// What happens to an object, or to all of a kind.
#[derive(Clone, Debug)]
enum Change {
    Pod(Value),
    PodGone(usize, u8),
    Policy(Value),
    PolicyGone(usize, u8),
    Namespace(Value),
    NamespaceGone(usize),
    Node(Value),
    NodeGone,
    /// All there is once more, with the pods of that number gone.
    Relisted(u8),
    /// Pods once more, those of that number unreadable.
    PodsRelisted(u8),
    /// The node is configured so.
    Config(Configured),
    /// It is asked how far the next flush will reach.
    Asked,
    MembersAhead,
    Flush,
}

/// What of the configuration is not as usual.
#[derive(Clone, Copy, Debug)]
enum Configured {
    Nothing,
    KeepsEstablished,
    PolicesHairpins,
    Rejects,
    Logs,
    HasBridge,
    RunsIpvs,
    KnowsNetworks,
    /// What comes in by so many interfaces is checked.
    ChecksSources(u8),
    IsAnotherNode,
}

impl Configured {
    const ALL: [Self; 11] = [
        Self::Nothing,
        Self::KeepsEstablished,
        Self::PolicesHairpins,
        Self::Rejects,
        Self::Logs,
        Self::HasBridge,
        Self::RunsIpvs,
        Self::KnowsNetworks,
        Self::ChecksSources(2),
        Self::ChecksSources(20),
        Self::IsAnotherNode,
    ];

    fn config(self) -> NodeConfig {
        let mut config = config();
        let interface = |name: &str| InterfaceName::new(name).unwrap();
        match self {
            Self::Nothing => {}
            Self::KeepsEstablished => config.keep_established = true,
            Self::PolicesHairpins => config.hairpin = Hairpin::Police,
            Self::Rejects => config.deny = DenyAction::Reject,
            Self::Logs => config.log_denied = true,
            Self::HasBridge => config.bridges = [interface("br0")].into(),
            Self::RunsIpvs => config.ipvs = true,
            Self::KnowsNetworks => config.pod_networks = ["10.0.0.0/28".parse().unwrap()].into(),
            Self::ChecksSources(count) => {
                let behind = |last: u8| {
                    let addresses = [address(last).parse().unwrap()].into();
                    (interface(&format!("veth{last}")), addresses)
                };
                let interfaces = (1..=count).map(behind).collect();
                config.antispoof = Some(Antispoof { interfaces, tunnel_ports: [].into() });
            }
            Self::IsAnotherNode => config.node = NodeName::new("n2").unwrap(),
        }
        config
    }
}

fn labels() -> impl Strategy<Value = Value> {
    let value = || prop::option::of(prop_oneof![Just("a"), Just("b")]);
    [value(), value(), value()].prop_map(|values| {
        let pairs = LABELS.into_iter().zip(values);
        pairs.filter_map(|(key, value)| Some((key, value?))).collect()
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(&LABELS[..]);
    let value = prop_oneof![Just("a"), Just("b")];
    prop_oneof![
        Just(json!({})),
        (key.clone(), value.clone()).prop_map(|(key, value)| json!({"matchLabels": {key: value}})),
        (key.clone(), value).prop_map(|(key, value)| json!({
            "matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]
        })),
        key.prop_map(|key| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]})),
    ]
}

fn namespace() -> impl Strategy<Value = usize> {
    0..NAMESPACES.len()
}

fn address(last: u8) -> String {
    format!("10.0.0.{last}")
}

fn pod() -> impl Strategy<Value = Change> {
    let status = (
        prop::option::weighted(0.9, prop_oneof![2 => 1..7_u8, 3 => 7..30_u8]),
        prop::option::weighted(0.2, 1..9_u8),
        prop_oneof![6 => Just("Running"), 1 => Just("Succeeded")],
    );
    let spec = (any::<bool>(), prop::bool::weighted(0.1), prop::option::of(80..83_u16));
    (namespace(), 0..8_u8, labels(), spec, status, 0..3_u8).prop_map(
        |(namespace, name, labels, (local, host, port), (own, of_node, phase), uid)| {
            let ports = port.map(|port| json!([{"name": "http", "containerPort": port}]));
            let object = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("p{name}"), "namespace": NAMESPACES[namespace],
                    "labels": labels, "uid": uid.to_string(),
                },
                "spec": {
                    "nodeName": if local { "n1" } else { "n2" }, "hostNetwork": host,
                    "containers": [{"name": "c", "ports": ports.unwrap_or(json!([]))}],
                },
                "status": {
                    "phase": phase,
                    "podIP": own.map(address),
                    "hostIP": of_node.map(address),
                },
            });
            Change::Pod(object)
        },
    )
}

fn policy() -> impl Strategy<Value = Change> {
    let port =
        prop_oneof![Just(json!([])), Just(json!([{"port": "http"}])), Just(json!([{"port": 80}]))];
    let peer = prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector()).prop_map(|(namespaces, pods)| {
            json!({"namespaceSelector": namespaces, "podSelector": pods})
        }),
        Just(json!({"ipBlock": {"cidr": "10.0.0.0/30"}})),
    ];
    let rule = (prop::collection::vec(peer, 0..3), port);
    (namespace(), 0..2_u8, selector(), prop::collection::vec(rule, 0..3), 0..3_u8, any::<bool>())
        .prop_map(|(namespace, name, pods, rules, types, audit)| {
            let with = |side: &str| -> Vec<Value> {
                rules.iter().map(|(peers, ports)| json!({side: peers, "ports": ports})).collect()
            };
            let types = [json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]
                [usize::from(types)]
            .clone();
            let object = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {
                    "name": format!("n{name}"), "namespace": NAMESPACES[namespace],
                    "annotations": {"policyd.dev/audit": (audit && name == 1).to_string()},
                },
                "spec": {
                    "podSelector": pods, "policyTypes": types,
                    "ingress": with("from"), "egress": with("to"),
                },
            });
            Change::Policy(object)
        })
}

fn change() -> impl Strategy<Value = Change> {
    let node = prop::collection::vec(1..9_u8, 0..3).prop_map(|addresses| {
        let addresses: Vec<Value> = addresses
            .into_iter()
            .map(|last| json!({"type": "InternalIP", "address": address(last)}))
            .collect();
        Change::Node(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"},
            "status": {"addresses": addresses},
        }))
    });
    let labelled = (namespace(), labels(), any::<bool>()).prop_map(|(namespace, labels, audit)| {
        let name = NAMESPACES[namespace];
        let annotations = json!({"policyd.dev/audit": audit.to_string()});
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
        });
        Change::Namespace(object)
    });
    prop_oneof![
        16 => pod(),
        3 => (namespace(), 0..8_u8).prop_map(|(namespace, name)| Change::PodGone(namespace, name)),
        5 => policy(),
        2 => (namespace(), 0..2_u8)
            .prop_map(|(namespace, name)| Change::PolicyGone(namespace, name)),
        3 => labelled,
        1 => namespace().prop_map(Change::NamespaceGone),
        2 => node,
        1 => Just(Change::NodeGone),
        1 => (0..3_u8).prop_map(Change::Relisted),
        1 => (0..3_u8).prop_map(Change::PodsRelisted),
        1 => prop::sample::select(&Configured::ALL[..]).prop_map(Change::Config),
        2 => Just(Change::Asked),
        2 => Just(Change::MembersAhead),
        6 => Just(Change::Flush),
    ]
}

fn key(namespace: usize, name: &str) -> ObjectKey {
    ObjectKey::new(NAMESPACES[namespace], name).unwrap()
}

/// The event that a change is, given what there is.
fn event(change: &Change, now: &Snapshot) -> Option<Event> {
    let namespace = |index: usize| NamespaceName::new(NAMESPACES[index]).unwrap();
    let node = |value: &Value| Node::from(value.clone());
    Some(match change {
        Change::Pod(object) => {
            Event::PodApplied(Box::new(decode::pod(&node(object), None).unwrap().object))
        }
        Change::PodGone(at, name) => Event::PodDeleted(key(*at, &format!("p{name}"))),
        Change::Policy(object) => {
            Event::PolicyApplied(Box::new(decode::policy(&node(object), None).unwrap().object))
        }
        Change::PolicyGone(at, name) => Event::PolicyDeleted(key(*at, &format!("n{name}"))),
        Change::Namespace(object) => {
            Event::NamespaceApplied(decode::namespace(&node(object), None).unwrap().object)
        }
        Change::NamespaceGone(at) => Event::NamespaceDeleted(namespace(*at)),
        Change::Node(object) => {
            Event::NodeApplied(decode::node(&node(object), None).unwrap().object)
        }
        Change::NodeGone => Event::NodeDeleted(NodeName::new("n3").unwrap()),
        Change::Relisted(gone) => {
            let mut listed = now.clone();
            listed.pods.retain(|key, _| key.name.as_str() != format!("p{gone}"));
            Event::Relisted(Box::new(listed))
        }
        Change::PodsRelisted(unread) => {
            let mut objects = now.pods.clone();
            let name = format!("p{unread}");
            objects.retain(|key, _| key.name.as_str() != name);
            let unread = now.pods.keys().filter(|key| key.name.as_str() == name).cloned();
            let objects = objects.into_values().map(PackedPod::new).collect();
            Event::PodsRelisted(PodList::new(objects, unread.collect()))
        }
        Change::Config(_) | Change::Asked | Change::MembersAhead | Change::Flush => return None,
    })
}

/// Which sets may not be edited is found by the leaves that have changed as it is by all of them.
fn freezes_the_same_either_way(engine: &Engine) {
    let structure = engine.outline.structure();
    for rules in Family::ALL.map(|family| structure.family(family)) {
        if !structure.whole {
            let [by_leaves, by_all] = freezes_both_ways(rules);
            assert_eq!(by_leaves, by_all);
        }
    }
}

proptest! {
    #![proptest_config(crate::laws::config(600))]

    #[test]
    fn nothing_stale_is_left_of_any_history(changes in prop::collection::vec(change(), 1..90)) {
        let mut engine = Engine::new(config(), Generation(3));
        let mut kernel = Ruleset::default();
        for change in changes.iter().chain([&Change::Flush]) {
            if let Some(event) = event(change, &engine.snapshot().clone()) {
                engine.apply(event);
                continue;
            }
            match change {
                Change::Config(configured) => {
                    engine.set_config(configured.config());
                    continue;
                }
                Change::Asked => {
                    engine.pending();
                    freezes_the_same_either_way(&engine);
                    continue;
                }
                _ => {}
            }
            let ahead = matches!(change, Change::MembersAhead);
            let update = if ahead { engine.flush_members() } else { engine.flush() };
            update.steps.iter().for_each(|step| kernel.carry_out(step));
            assert_eq!(kernel, *engine.ruleset());
            if !ahead {
                let compiled = compile(&engine.snapshot(), engine.config());
                assert_eq!(without_generations(&kernel), compiled.ruleset);
                assert_eq!(engine.diagnostics(), compiled.diagnostics);
                assert!(engine.flush().is_empty());
            }
        }
    }
}
