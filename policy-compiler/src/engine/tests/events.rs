//! The engine on events, with the compiler behind it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::course::without_generations;
use crate::cluster::{Namespace, Pod, Snapshot};
use crate::compile::compile;
use crate::config::{DenyAction, NodeConfig};
use crate::decode;
use crate::document::{Location, Node};
use crate::engine::Engine;
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::packed::PackedPod;
use crate::policy::Policy;
use crate::ruleset::{Generation, MemberSet, Ruleset, SetName, SetRole};
use crate::update::{Event, PodList, Reach, Step, Update};

const START: Generation = Generation(7);

pub(super) fn config() -> NodeConfig {
    NodeConfig::new(NodeName::new("n1").unwrap())
}

pub(super) fn pod(name: &str, app: &str, node: &str, address: &str) -> Pod {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "x", "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    });
    decode::pod(&Node::from(object), None).unwrap().object
}

/// Isolates app=web for ingress and lets app=`client` in, on `port`.
fn web_from(client: &str, port: u16) -> Policy {
    lets("web", "web", client, &json!({"port": port}))
}

/// Isolates app=`to` for ingress and lets app=`client` in, on `port`.
pub(super) fn lets(name: &str, to: &str, client: &str, port: &Value) -> Policy {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "x"},
        "spec": {
            "podSelector": {"matchLabels": {"app": to}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": client}}}],
                "ports": [port],
            }],
        },
    });
    decode::policy(&Node::from(object), None).unwrap().object
}

fn texts(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The addresses that join sets and those that leave them.
fn edits(update: &Update) -> (BTreeSet<String>, BTreeSet<String>) {
    let addresses = |sets: &BTreeMap<SetName, MemberSet>| -> Vec<String> {
        sets.values().flat_map(MemberSet::addresses).map(|address| address.to_string()).collect()
    };
    let (mut join, mut leave) = (BTreeSet::new(), BTreeSet::new());
    for step in &update.steps {
        match step {
            Step::AddMembers(sets) => join.extend(addresses(sets)),
            Step::RemoveMembers(sets) => leave.extend(addresses(sets)),
            _ => {}
        }
    }
    (join, leave)
}

pub(super) fn applied(pod: Pod) -> Event {
    Event::PodApplied(Box::new(pod))
}

pub(super) fn policy(policy: Policy) -> Event {
    Event::PolicyApplied(Box::new(policy))
}

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("x", name).unwrap()
}

/// x/web on n1, which x/a may reach.
fn started() -> Engine {
    let mut engine = Engine::new(config(), START);
    for event in [
        applied(pod("web", "web", "n1", "10.0.0.1")),
        applied(pod("a", "client", "n2", "10.0.0.2")),
        policy(web_from("client", 80)),
    ] {
        engine.apply(event);
    }
    engine.flush();
    engine
}

fn pod_sets(ruleset: &Ruleset) -> Vec<&SetName> {
    let names = ruleset.v4.sets.keys();
    names.filter(|name| matches!(name.role, SetRole::Pods { .. })).collect()
}

fn generations(ruleset: &Ruleset) -> Vec<Generation> {
    pod_sets(ruleset).iter().filter_map(|name| name.role.generation()).collect()
}

#[test]
fn after_every_flush_the_ruleset_is_that_of_the_compiler_and_of_the_steps() {
    let mut engine = Engine::new(config(), START);
    let mut kernel = Ruleset::default();
    let relisted = Snapshot {
        pods: [pod("web", "web", "n1", "10.0.0.9")].map(|pod| (pod.key.clone(), pod)).into(),
        ..Snapshot::default()
    };
    let namespace = NamespaceName::new("x").unwrap();
    let labelled = Namespace::new(namespace.clone(), Labels::default(), Location::default());
    for event in [
        applied(pod("web", "web", "n1", "10.0.0.1")),
        policy(web_from("client", 80)),
        applied(pod("a", "client", "n2", "10.0.0.2")),
        applied(pod("b", "client", "n1", "10.0.0.3")),
        policy(web_from("client", 443)),
        Event::NamespaceApplied(labelled),
        applied(pod("a", "web", "n1", "10.0.0.2")),
        Event::PodDeleted(key("web")),
        Event::NamespaceDeleted(namespace),
        policy(web_from("web", 443)),
        Event::PolicyDeleted(key("web")),
        policy(web_from("client", 80)),
        Event::Relisted(Box::new(relisted)),
    ] {
        engine.apply(event.clone());
        for step in &engine.flush().steps {
            kernel.carry_out(step);
        }
        let compiled = compile(&engine.snapshot(), engine.config());
        assert_eq!(kernel, *engine.ruleset(), "{event:?}");
        assert_eq!(without_generations(&kernel), compiled.ruleset, "{event:?}");
        assert_eq!(engine.diagnostics(), compiled.diagnostics, "{event:?}");
    }
}

fn take_in(engine: &mut Engine, events: Vec<Event>) {
    for event in events {
        engine.apply(event);
    }
}

#[test]
fn members_go_ahead_of_chains_and_the_rest_comes_later() {
    let mut engine = started();
    let mut kernel = engine.ruleset().clone();
    let mut carry_out = |update: &Update| update.steps.iter().for_each(|s| kernel.carry_out(s));
    take_in(
        &mut engine,
        vec![
            applied(pod("db", "db", "n1", "10.0.0.5")),
            applied(pod("o", "other", "n2", "10.0.0.6")),
            policy(lets("db", "db", "other", &json!({"port": 81}))),
        ],
    );
    carry_out(&engine.flush());

    // web is reached on another port, and by one more client; db by another client.
    take_in(
        &mut engine,
        vec![
            policy(web_from("client", 443)),
            applied(pod("b", "client", "n2", "10.0.0.7")),
            applied(pod("o", "other", "n2", "10.0.0.8")),
        ],
    );
    assert_eq!(engine.pending(), Reach::Chains);
    let ahead = engine.flush_members();
    assert_eq!(edits(&ahead), (texts(&["10.0.0.8"]), texts(&["10.0.0.6"])));
    carry_out(&ahead);
    assert_eq!(engine.flush_members(), Update::default(), "once");
    assert_eq!((engine.is_behind(), engine.pending()), (true, Reach::Chains));

    // What comes then goes ahead as well.
    take_in(&mut engine, vec![applied(pod("o", "other", "n2", "10.0.0.9"))]);
    let ahead = engine.flush_members();
    assert_eq!(edits(&ahead), (texts(&["10.0.0.9"]), texts(&["10.0.0.8"])));
    carry_out(&ahead);
    carry_out(&engine.flush());
    let compiled = compile(&engine.snapshot(), engine.config());
    assert_eq!(without_generations(&kernel), compiled.ruleset);
}

#[test]
fn who_leaves_for_a_set_that_is_made_anew_leaves_with_the_chains() {
    let mut engine = started();
    // The others may reach web as well, by a rule of their own, which looks up the set that db's does.
    take_in(
        &mut engine,
        vec![
            policy(lets("second", "web", "other", &json!({"port": 80, "endPort": 90}))),
            policy(lets("db", "db", "other", &json!({"port": 81}))),
            applied(pod("db", "db", "n1", "10.0.0.5")),
            applied(pod("b", "client", "n2", "10.0.0.3")),
        ],
    );
    engine.flush();
    // 10.0.0.2 goes from the clients to the others, and 10.0.0.3 just goes.
    take_in(
        &mut engine,
        vec![
            policy(lets("db", "db", "other", &json!({"port": 82}))),
            applied(pod("a", "other", "n2", "10.0.0.2")),
            Event::PodDeleted(key("b")),
        ],
    );
    assert_eq!(edits(&engine.flush_members()), (texts(&[]), texts(&["10.0.0.3"])));
    assert_eq!(edits(&engine.flush()), (texts(&[]), texts(&["10.0.0.2"])));
}

#[test]
fn what_changes_nothing_is_not_compiled() {
    let mut engine = started();
    assert!(!engine.is_dirty());
    for event in [
        applied(pod("a", "client", "n2", "10.0.0.2")),
        policy(web_from("client", 80)),
        Event::PodDeleted(key("absent")),
        Event::PolicyDeleted(key("absent")),
        Event::NodeDeleted(NodeName::new("absent").unwrap()),
        Event::NamespaceDeleted(NamespaceName::new("absent").unwrap()),
        Event::Relisted(Box::new(started().snapshot())),
    ] {
        engine.apply(event.clone());
        assert!(!engine.is_dirty(), "{event:?}");
    }
    engine.set_config(config());
    assert!(!engine.is_dirty());
    assert_eq!(engine.flush(), Update::default());
}

#[test]
fn an_event_that_no_rule_depends_on_makes_no_steps() {
    let mut engine = started();
    engine.apply(applied(pod("c", "other", "n2", "10.0.0.4")));
    assert!(engine.is_dirty());
    assert_eq!(engine.flush(), Update::default());
}

#[test]
fn a_client_elsewhere_is_one_member_more_or_less() {
    let mut engine = started();
    let set = pod_sets(engine.ruleset())[0].clone();
    engine.apply(applied(pod("b", "client", "n2", "10.0.0.3")));
    let added = crate::simulate::fixture::members(&["10.0.0.3"]).members;
    let edit = [(set, added)];
    assert_eq!(engine.flush().steps, [Step::AddMembers(edit.clone().into())]);
    engine.apply(Event::PodDeleted(key("b")));
    assert_eq!(engine.flush().steps, [Step::RemoveMembers(edit.into())]);
}

#[test]
fn what_is_pending_is_handed_out_by_the_flush_and_planned_anew_after_another_event() {
    let mut engine = started();
    assert_eq!(engine.pending(), Reach::Nothing);
    assert!(!engine.is_behind());
    let before = engine.ruleset().clone();

    assert!(engine.apply(applied(pod("b", "client", "n2", "10.0.0.3"))));
    assert_eq!(engine.pending(), Reach::Members);
    assert!(engine.is_behind() && !engine.is_dirty());
    assert_eq!(*engine.ruleset(), before, "nothing has been carried out");

    engine.apply(policy(web_from("client", 443)));
    assert_eq!(engine.pending(), Reach::Chains);
    engine.apply(policy(web_from("client", 80)));
    assert!(engine.apply(Event::PodDeleted(key("b"))));
    assert!(!engine.apply(Event::PodDeleted(key("b"))));
    assert_eq!(engine.pending(), Reach::Nothing, "all of it was taken back");
    assert_eq!(engine.flush(), Update::default());
    assert!(!engine.is_behind());
    assert_eq!(*engine.ruleset(), before);

    // A plan that is not gone uses up no generation.
    for port in [443, 8443] {
        engine.apply(policy(web_from("other", port)));
        assert_eq!(engine.pending(), Reach::Chains);
    }
    assert_eq!(engine.flush().reach(), Reach::Chains);
    assert_eq!(generations(engine.ruleset()), [START.next()]);
}

#[test]
fn sets_begin_at_the_given_generation_and_no_name_comes_back() {
    let mut engine = started();
    assert_eq!(generations(engine.ruleset()), [START]);

    engine.apply(policy(web_from("client", 443)));
    engine.apply(applied(pod("b", "client", "n2", "10.0.0.3")));
    engine.flush();
    assert_eq!(generations(engine.ruleset()), [START.next()]);

    engine.apply(Event::PolicyDeleted(key("web")));
    engine.flush();
    assert_eq!(generations(engine.ruleset()), []);
    engine.apply(policy(web_from("client", 443)));
    engine.flush();
    assert_eq!(generations(engine.ruleset()), [START.next().next()]);
}

#[test]
fn a_change_of_configuration_is_flushed() {
    let mut engine = started();
    let refusing = NodeConfig { deny: DenyAction::Reject, ..config() };
    engine.set_config(refusing.clone());
    assert!(engine.is_dirty());
    let steps = engine.flush().steps;
    assert!(matches!(&steps[..], [Step::ReplaceChains(_)]), "{steps:?}");
    let compiled = compile(&engine.snapshot(), &refusing).ruleset;
    assert_eq!(without_generations(engine.ruleset()), compiled);
}

#[test]
fn a_kind_that_is_listed_anew_loses_what_is_not_listed_and_keeps_what_cannot_be_read() {
    let mut engine = started();
    let web = || PackedPod::new(pod("web", "web", "n1", "10.0.0.1"));
    let unread = [key("a"), key("never-seen")].into();
    engine.apply(Event::PodsRelisted(PodList::new(vec![web()], unread)));
    assert!(!engine.is_dirty(), "the same pods");
    engine.apply(Event::PodsRelisted(PodList::new(vec![web()], BTreeSet::new())));
    engine.flush();
    assert_eq!(engine.snapshot().pods.keys().collect::<Vec<_>>(), [&key("web")]);
    assert_eq!(engine.snapshot().policies.len(), 1, "another kind is not touched");
}

#[test]
fn what_changes_in_a_namespace_is_none_of_another_whose_pods_were_alike() {
    let in_y = |name: &str| ObjectKey::new("y", name).unwrap();
    let mut alone = pod("alone", "web", "n1", "10.0.0.3");
    alone.key = in_y("alone");
    let for_nobody = |key| Policy { key, ..lets("gone", "gone", "client", &json!({"port": 1})) };
    let mut engine = Engine::new(config(), START);
    for event in [
        applied(pod("web", "web", "n1", "10.0.0.1")),
        applied(alone),
        policy(for_nobody(key("gone"))),
        policy(for_nobody(in_y("gone"))),
    ] {
        engine.apply(event);
    }
    engine.flush();
    // No policy selects either pod, until each namespace has one of its own that does.
    for (key, port) in [(key("web"), 80), (in_y("web"), 81)] {
        engine.apply(policy(Policy { key, ..web_from("client", port) }));
    }
    engine.flush();
    let compiled = compile(&engine.snapshot(), engine.config());
    assert_eq!(without_generations(engine.ruleset()), compiled.ruleset);
}
