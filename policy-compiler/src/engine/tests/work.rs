//! How much there is to do for an event: in proportion to what changes, never to the cluster.

use serde_json::json;

use super::events::{applied, config, key, lets, pod, policy};
use crate::cluster::{Namespace, Snapshot};
use crate::document::Location;
use crate::engine::{Engine, Work};
use crate::labels::Labels;
use crate::name::{NamespaceName, ObjectKey};
use crate::ruleset::Generation;
use crate::update::{Event, Step, Update};

/// Pods elsewhere, of which a tenth are clients of web.
const ELSEWHERE: u8 = 200;

/// x/web and x/db on n1; x/web lets app=client in, x/db app=other; pods elsewhere; policies for pods
/// that are not on n1.
fn started() -> Engine {
    started_beside(0)
}

/// The same, with so many more pods of web on n1.
fn started_beside(more: u8) -> Engine {
    let mut engine = Engine::new(config(), Generation(1));
    for number in 10..10 + more {
        let address = format!("10.0.0.{number}");
        engine.apply(applied(pod(&format!("web{number}"), "web", "n1", &address)));
    }
    engine.apply(applied(pod("web", "web", "n1", "10.0.0.1")));
    engine.apply(applied(pod("db", "db", "n1", "10.0.0.2")));
    for number in 0..ELSEWHERE {
        let app = if number % 10 == 0 { "client".to_owned() } else { format!("a{}", number % 7) };
        let address = format!("10.0.1.{number}");
        engine.apply(applied(pod(&format!("p{number}"), &app, "n2", &address)));
        let name = format!("for-{number}");
        engine.apply(policy(lets(&name, &format!("gone{number}"), "client", &json!({"port": 1}))));
    }
    engine.apply(policy(lets("web", "web", "client", &json!({"port": 80}))));
    engine.apply(policy(lets("db", "db", "other", &json!({"port": 81}))));
    engine.flush();
    engine.take_work();
    engine
}

/// That the structure was looked at.
fn compiled() -> Work {
    Work { structures: 1, ..Work::default() }
}

fn work_of(engine: &mut Engine, event: Event) -> (Work, Update) {
    engine.apply(event);
    let update = engine.flush();
    (engine.take_work(), update)
}

/// Lets pods of an app in that have no tier.
fn lets_untiered(name: &str, app: &str) -> crate::policy::Policy {
    let untiered = json!([{"key": "tier", "operator": "DoesNotExist"}]);
    let peer = json!({"podSelector": {"matchLabels": {"app": app}, "matchExpressions": untiered}});
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": name}}, "ingress": [{"from": [peer]}]},
    });
    crate::decode::policy(&object.into(), None).unwrap().object
}

#[test]
fn a_pod_elsewhere_of_a_known_kind_is_compared_with_nothing() {
    let mut engine = started();
    work_of(&mut engine, policy(lets_untiered("db", "client")));
    // What a kind means to policies is found out when it is first asked about.
    let (work, _) = work_of(&mut engine, applied(pod("first", "client", "n2", "10.0.2.3")));
    assert_eq!(work, Work { comparisons: 1, ..Work::default() });
    for event in [
        applied(pod("new", "client", "n2", "10.0.2.1")),
        applied(pod("new", "a1", "n2", "10.0.2.1")),
        applied(pod("new", "a1", "n2", "10.0.2.2")),
        Event::PodDeleted(key("new")),
        Event::PodDeleted(key("p0")),
    ] {
        assert_eq!(work_of(&mut engine, event.clone()).0, Work::default(), "{event:?}");
    }
}

#[test]
fn a_pod_elsewhere_of_a_new_kind_is_compared_with_the_definitions_that_may_mean_it() {
    let mut engine = started();
    let of_other = |name: &str, address: &str| pod(name, "other", "n2", address);
    let (work, update) = work_of(&mut engine, applied(of_other("new", "10.0.2.1")));
    // It asks for a value of one label: where it is found is all that there is to know.
    assert_eq!((work, update.steps.len()), (Work::default(), 1));
    work_of(&mut engine, policy(lets_untiered("db", "other")));
    let compared = Work { comparisons: 1, ..Work::default() };
    let (work, update) = work_of(&mut engine, applied(of_other("newer", "10.0.2.2")));
    assert_eq!((work, update.steps.len()), (compared, 1));
    let mut tiered = of_other("tiered", "10.0.2.3");
    tiered.labels.insert("tier", "a");
    let (work, update) = work_of(&mut engine, applied(tiered));
    assert_eq!((work, update.steps.len()), (compared, 0));
    let (work, update) = work_of(&mut engine, applied(pod("new", "nobody", "n2", "10.0.2.1")));
    assert_eq!((work, update.steps.len()), (Work::default(), 1));
}

#[test]
fn a_policy_for_pods_elsewhere_is_not_compiled() {
    let mut engine = started();
    let elsewhere = lets("new", "client", "web", &json!({"port": 1}));
    let (work, update) = work_of(&mut engine, policy(elsewhere));
    assert_eq!((work, update), (Work::default(), Update::default()));
}

#[test]
fn of_a_policy_that_changes_the_bodies_are_compiled_and_no_others() {
    let mut engine = started();
    let (work, _) =
        work_of(&mut engine, policy(lets("web", "web", "client", &json!({"port": 82}))));
    // Its set stands, and nobody joins or leaves it.
    // Of the two pods it selects one.
    let one_pod = Work { selections: 2, judged: 1, bodies: 1, chains: 1, ..compiled() };
    assert_eq!(work, one_pod);
    // A definition that is new is compared with the pods that have the label, by kinds.
    let (work, _) = work_of(&mut engine, policy(lets("web", "web", "a1", &json!({"port": 82}))));
    assert_eq!(work, Work { comparisons: 1, sets: 1, ..one_pod });
}

#[test]
fn a_policy_that_changes_is_read_for_the_pods_of_its_namespace_and_a_pod_that_comes_for_itself() {
    let mut engine = started();
    let elsewhere = |number: u8| {
        let address = format!("10.0.0.{number}");
        let mut pod = pod("alone", "web", "n1", &address);
        pod.key = ObjectKey::new(&format!("y{number}"), "alone").unwrap();
        pod
    };
    for number in 100..110 {
        let (work, _) = work_of(&mut engine, applied(elsewhere(number)));
        assert_eq!(work, Work { selections: 1, judged: 1, ..compiled() });
    }
    let (work, _) =
        work_of(&mut engine, policy(lets("web", "web", "client", &json!({"port": 82}))));
    // Of the two pods it selects one.
    let one_pod = Work { selections: 2, judged: 1, bodies: 1, chains: 1, ..compiled() };
    assert_eq!(work, one_pod);
}

#[test]
fn of_definitions_united_only_those_are_compared_that_nobody_had() {
    let mut engine = started();
    let from = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
    let both = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [from("client"), from("other"), from("a1")]},
        ]},
    });
    let both = crate::decode::policy(&both.into(), None).unwrap().object;
    let (work, _) = work_of(&mut engine, policy(both));
    let expected = Work {
        selections: 2,
        judged: 1,
        bodies: 1,
        comparisons: 1,
        sets: 1,
        chains: 1,
        ..compiled()
    };
    assert_eq!(work, expected);
}

#[test]
fn a_pod_of_the_node_joins_the_set_that_its_own_policy_asks_and_leaves_it() {
    let mut engine = started();
    work_of(&mut engine, policy(lets("self", "client", "client", &json!({"port": 82}))));
    work_of(&mut engine, applied(pod("first", "client", "n2", "10.0.2.3")));
    let comes = applied(pod("new", "client", "n1", "10.0.0.9"));
    // Its chain and the tree that leads there.
    let expected = Work { selections: 1, judged: 1, bodies: 1, chains: 2, ..compiled() };
    let goes = Work { chains: 2, ..compiled() };
    for (event, expected) in [(comes, expected), (Event::PodDeleted(key("new")), goes)] {
        let (work, update) = work_of(&mut engine, event);
        assert_eq!(work, expected);
        let edited = |step: &Step| matches!(step, Step::AddMembers(_) | Step::RemoveMembers(_));
        assert!(update.steps.iter().any(edited), "{update:?}");
    }
}

#[test]
fn a_pod_of_the_node_takes_a_chain_and_no_body() {
    let mut engine = started();
    let (work, _) = work_of(&mut engine, applied(pod("web2", "web", "n1", "10.0.0.3")));
    assert_eq!(work, Work { selections: 1, judged: 1, chains: 2, ..compiled() });
}

#[test]
fn a_pod_of_the_node_that_comes_or_goes_is_the_only_one_that_is_looked_at() {
    let mut engine = started_beside(90);
    work_of(&mut engine, applied(pod("web2", "web", "n1", "10.0.0.101")));
    // Its own chain, and the one of the tree that leads there.
    let comes = Work { selections: 1, judged: 1, chains: 2, ..compiled() };
    let (work, _) = work_of(&mut engine, applied(pod("web3", "web", "n1", "10.0.0.102")));
    assert_eq!(work, comes);
    let moved = applied(pod("web3", "web", "n1", "10.0.0.103"));
    assert_eq!(work_of(&mut engine, moved).0, Work { judged: 1, chains: 2, ..compiled() });
    let (work, _) = work_of(&mut engine, Event::PodDeleted(key("web3")));
    assert_eq!(work, Work { chains: 2, ..compiled() });
}

#[test]
fn labels_of_a_namespace_are_compared_for_its_kinds_of_pods_and_not_for_each() {
    let mut engine = started();
    let but = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["y"]}]});
    let from_team = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "team", "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [
            {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": but},
        ]}]},
    });
    let from_team = crate::decode::policy(&from_team.into(), None).unwrap().object;
    work_of(&mut engine, policy(from_team));
    let labels: Labels = [("team", "a")].into_iter().collect();
    let name = NamespaceName::new("x").unwrap();
    let labelled = Namespace::new(name.clone(), labels, Location::default());
    let (work, update) = work_of(&mut engine, Event::NamespaceApplied(labelled.clone()));
    // Ten kinds: client, web, db and seven others, each with the definition that asks for no value of theirs.
    assert_eq!(work, Work { comparisons: 10, pods: 202, ..Work::default() });
    assert_eq!(update.steps.len(), 1);
    assert_eq!(work_of(&mut engine, Event::NamespaceApplied(labelled)).0, Work::default());
}

#[test]
fn a_list_that_says_nothing_new_costs_a_comparison_of_objects_and_no_step() {
    let mut engine = started();
    let listed: Snapshot = engine.snapshot().clone();
    assert!(!engine.apply(Event::Relisted(Box::new(listed.clone()))));
    assert!(!engine.is_dirty());
    let mut other = listed;
    other.pods.remove(&key("p0"));
    let (work, update) = work_of(&mut engine, Event::Relisted(Box::new(other)));
    assert_eq!((work, update.steps.len()), (Work::default(), 1));
}

/// Pods elsewhere, one in each of 50 namespaces: ten have team=a, of which one is exposed, and the others
/// team=b.
fn teams() -> Engine {
    let mut engine = started();
    for number in 0..50_u8 {
        let name = NamespaceName::new(&format!("n{number}")).unwrap();
        let mut labels: Labels =
            [("team", if number < 10 { "a" } else { "b" })].into_iter().collect();
        if number == 0 {
            labels.insert("exposed", "true");
        }
        engine.apply(Event::NamespaceApplied(Namespace::new(name, labels, Location::default())));
        let mut pod = pod("p", "peer", "n2", &format!("10.0.3.{number}"));
        pod.key = ObjectKey::new(&format!("n{number}"), "p").unwrap();
        engine.apply(applied(pod));
    }
    engine.flush();
    engine.take_work();
    engine
}

/// x/web lets in all pods of the namespaces with these labels.
fn from_namespaces(name: &str, selector: &serde_json::Value, pods: &serde_json::Value) -> Event {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [
            {"namespaceSelector": selector, "podSelector": pods},
        ]}]},
    });
    policy(crate::decode::policy(&object.into(), None).unwrap().object)
}

#[test]
fn a_new_definition_looks_at_the_namespaces_that_have_the_label_and_at_no_others() {
    let label = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let is = |key: &str, operator: &str| json!({"matchExpressions": [{"key": key, "operator": operator}]});
    let both = json!({
        "matchLabels": {"team": "b"}, "matchExpressions": [{"key": "exposed", "operator": "Exists"}],
    });
    // How many namespaces have the rarest label that is asked for, and how many kinds of pods are in those
    // that are meant. Of a label that is not to be there all 51 are asked.
    for (selector, namespaces, kinds) in [
        (label("team", "a"), 10, 10),
        (label("team", "nobody"), 0, 0),
        (is("exposed", "Exists"), 1, 1),
        (both, 1, 0),
        (is("exposed", "DoesNotExist"), 51, 49 + 10),
    ] {
        let mut engine = teams();
        let (work, _) = work_of(&mut engine, from_namespaces("teams", &selector, &json!({})));
        assert_eq!(work.comparisons, namespaces + kinds, "{selector}");
    }
}

#[test]
fn definitions_that_mean_the_same_namespaces_look_for_them_once() {
    let mut engine = teams();
    let a = json!({"matchLabels": {"team": "a"}});
    let but = |app: &str| json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [app]}]});
    engine.apply(from_namespaces("one", &a, &but("y")));
    engine.apply(from_namespaces("two", &a, &but("z")));
    engine.flush();
    assert_eq!(engine.take_work().comparisons, 10 + 10 + 10);
}

#[test]
fn a_definition_is_compared_again_with_the_kinds_that_came_meanwhile_and_with_no_others() {
    let mut engine = teams();
    let a = json!({"matchLabels": {"team": "a"}});
    let but = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["y"]}]});
    work_of(&mut engine, from_namespaces("teams", &a, &but));
    let mut new = pod("new", "unheard-of", "n2", "10.0.4.1");
    new.key = ObjectKey::new("n5", "new").unwrap();
    // Once to know what the new kind feeds.
    assert_eq!(work_of(&mut engine, applied(new)).0.comparisons, 1);
    // Once to know who feeds the union of what is known and of what is new.
    let from = |app: &str| json!({"matchLabels": {"app": app}});
    let (work, update) = work_of(&mut engine, from_namespaces("more", &from("x"), &from("none")));
    assert_eq!((work.comparisons, work.sets), (1, 1), "{update:?}");
}
