//! Scopes, one by one.

use std::sync::Arc;

use super::hull::hull;
use super::*;
use crate::cluster::{Addresses, Age, Phase};
use crate::document::Location;
use crate::policy::{PortMatch, Rule};
use crate::port::{PortName, Protocol};
use crate::selector::{Operator, Requirement};

fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).collect()
}

/// `app=web,tier=a|b,!debug,old!=x|y,grade`.
fn selector(text: &str) -> Selector {
    let values = |text: &str| text.split('|').map(Arc::from).collect();
    Selector::new(text.split(',').filter(|part| !part.is_empty()).map(|part| {
        let (key, operator) = match (part.split_once("!="), part.split_once('=')) {
            (Some((key, some)), _) => (key, Operator::NotIn(values(some))),
            (None, Some((key, some))) => (key, Operator::In(values(some))),
            (None, None) => match part.strip_prefix('!') {
                Some(key) => (key, Operator::DoesNotExist),
                None => (part, Operator::Exists),
            },
        };
        Requirement { key: Arc::from(key), operator }
    }))
}

fn namespace(text: &str) -> NamespaceName {
    NamespaceName::new(text).unwrap()
}

fn local(key: &str, with: &str) -> Pod {
    let (namespace, name) = key.split_once('/').unwrap();
    Pod {
        key: ObjectKey::new(namespace, name).unwrap(),
        labels: labels(with),
        node: NodeName::new("n1").ok(),
        host_network: false,
        phase: Phase::Running,
        addresses: Addresses::default(),
        ports: Vec::new(),
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: None,
        template: false,
        location: Location::default(),
    }
}

/// A peer: `block`, or selectors of namespaces and pods, the first `own` for none.
fn peer(namespaces: &str, pods: &str) -> Peer {
    let namespaces = match namespaces {
        "own" => NamespaceScope::Own,
        text => NamespaceScope::Matching(selector(text)),
    };
    let selects = PeerSelects::Pods { namespaces, pods: selector(pods) };
    Peer { selects, location: Location::default() }
}

fn block() -> Peer {
    let net = "10.0.0.0/8".parse().unwrap();
    let block = crate::cidr::IpBlock::new(net, Vec::new()).unwrap();
    Peer { selects: PeerSelects::Block(block), location: Location::default() }
}

fn rule(peers: Vec<Peer>, port: Option<&str>) -> Rule {
    let peers = if peers.is_empty() { Peers::Any } else { Peers::Listed(peers) };
    let ports = port.map_or(Ports::Any, |name| {
        let numbers = PortNumbers::Named(PortName::new(name).unwrap());
        let location = Location::default();
        Ports::Listed(vec![PortMatch { protocol: Protocol::Tcp, numbers, location }])
    });
    Rule { grant: Grant::Traffic { peers, ports }, location: Location::default() }
}

/// A policy on pods with `app=web` in x.
fn policy(name: &str, ingress: Vec<Rule>, egress: Vec<Rule>) -> Policy {
    Policy {
        key: ObjectKey::new("x", name).unwrap(),
        pod_selector: selector("app=web"),
        isolates_ingress: !ingress.is_empty(),
        isolates_egress: !egress.is_empty(),
        ingress,
        egress,
        audit: false,
        flawed: false,
        location: Location::default(),
    }
}

/// Namespaces x, and a, b, c ... of team `t`.
fn cluster(count: u8) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut declare = |name: String, with: &str| {
        let name = namespace(&name);
        let declared = Namespace::new(name.clone(), labels(with), Location::default());
        snapshot.namespaces.insert(name, declared);
    };
    declare("x".into(), "");
    for letter in (b'a'..).take(count.into()) {
        declare(char::from(letter).to_string(), "team=t");
    }
    snapshot
}

fn scope(snapshot: &Snapshot, policies: &[Policy]) -> Scope {
    let pod = local("x/web-0", "app=web");
    Scope::of(snapshot, policies, &[&pod], Limits { namespaces: 4, wide: 2, across: 2 })
}

fn namespaces(list: &[(&str, &str)]) -> Scope {
    let namespaces = list.iter().map(|(name, pods)| (namespace(name), selector(pods)));
    Scope { namespaces: namespaces.collect(), ..Scope::default() }
}

fn whole(why: Whole) -> Scope {
    Scope { across: [Selector::everything()].into(), whole: Some(why), ..Scope::default() }
}

#[test]
fn the_peers_of_policies_that_select_local_pods_are_in_scope_and_nobody_else() {
    let cluster = cluster(2);
    let from = |peers| policy("p", vec![rule(peers, None)], Vec::new());
    let to = |peers| policy("p", Vec::new(), vec![rule(peers, None)]);
    for (policy, expected) in [
        (from(vec![peer("own", "app=db")]), namespaces(&[("x", "app=db")])),
        (to(vec![peer("own", "")]), namespaces(&[("x", "")])),
        (from(vec![peer("team=t", "app=db")]), namespaces(&[("a", "app=db"), ("b", "app=db")])),
        (
            to(vec![peer("own", "app=db"), peer("own", "app=cache")]),
            namespaces(&[("x", "app=db|cache")]),
        ),
        (from(vec![peer("team=nobody", "")]), namespaces(&[])),
        (from(vec![block()]), namespaces(&[])),
        (from(Vec::new()), namespaces(&[])),
        (
            Policy {
                isolates_ingress: false,
                isolates_egress: true,
                ..from(vec![peer("own", "")])
            },
            namespaces(&[]),
        ),
        (
            Policy { pod_selector: selector("app=db"), ..from(vec![peer("own", "")]) },
            namespaces(&[]),
        ),
        (Policy { audit: true, ..from(vec![peer("own", "")]) }, namespaces(&[("x", "")])),
    ] {
        assert_eq!(scope(&cluster, std::slice::from_ref(&policy)), expected, "{policy:?}");
    }
}

#[test]
fn a_named_port_on_egress_to_whoever_it_may_be_needs_all_pods() {
    let cluster = cluster(1);
    let named = |peers| rule(peers, Some("http"));
    let key = ObjectKey::new("x", "p").unwrap();
    let all = whole(Whole::NamedPorts(key));
    for (ingress, egress, expected) in [
        (vec![], vec![named(vec![])], all.clone()),
        (vec![], vec![named(vec![block()])], all),
        (vec![], vec![named(vec![peer("own", "app=db")])], namespaces(&[("x", "app=db")])),
        (vec![named(vec![]), named(vec![block()])], vec![], namespaces(&[])),
    ] {
        assert_eq!(scope(&cluster, &[policy("p", ingress, egress)]), expected);
    }
}

#[test]
fn what_many_namespaces_are_asked_for_is_watched_across_all() {
    let cluster = cluster(6);
    let from = |name: &str, namespaces: &str, pods: &str| {
        policy(name, vec![rule(vec![peer(namespaces, pods)], None)], Vec::new())
    };
    let across = |selectors: &[&str]| Scope {
        across: selectors.iter().map(|text| selector(text)).collect(),
        ..namespaces(&[("x", "")])
    };
    let own = from("own", "own", "");
    let key = ObjectKey::new("x", "p").unwrap();
    for (policies, expected) in [
        (vec![from("p", "team=t", "app=db"), own.clone()], across(&["app=db"])),
        (vec![from("p", "", "app=db"), own.clone()], across(&["app=db"])),
        (
            vec![from("p", "", "app=db"), from("q", "team", "app=cache"), own.clone()],
            across(&["app=db|cache"]),
        ),
        (
            vec![from("p", "", "app=db"), from("q", "", "tier=be"), own.clone()],
            across(&["app=db", "tier=be"]),
        ),
        (
            vec![from("p", "", "app"), from("q", "", "tier"), from("r", "", "zone"), own.clone()],
            whole(Whole::Selectors(3)),
        ),
        (
            vec![
                from("p", "", "app=db,!debug"),
                from("q", "", "app=cache"),
                from("r", "", "tier=be,!debug"),
                from("s", "", "tier=fe"),
                own.clone(),
            ],
            across(&["app=cache|db", "tier=be|fe"]),
        ),
        (vec![from("p", "", "app= "), own.clone()], whole(Whole::Selectors(1))),
        (vec![from("p", "", ""), own], whole(Whole::AllPods(key))),
    ] {
        assert_eq!(scope(&cluster, &policies), expected, "{policies:?}");
    }
}

#[test]
fn more_namespaces_than_are_watched_one_by_one_are_watched_as_a_whole() {
    let cluster = cluster(6);
    let name = |name: &str| peer(&format!("kubernetes.io/metadata.name={name}"), "");
    let to = |names: &[&str]| {
        let peers = names.iter().map(|one| name(one)).collect();
        [policy("p", Vec::new(), vec![rule(peers, None)])]
    };
    assert_eq!(
        scope(&cluster, &to(&["a", "b", "c", "d"])),
        namespaces(&[("a", ""), ("b", ""), ("c", ""), ("d", "")])
    );
    assert_eq!(scope(&cluster, &to(&["a", "b", "c", "d", "e"])), whole(Whole::Namespaces(5)));
}

#[test]
fn where_there_are_too_many_namespaces_those_of_the_widest_peers_are_watched_by_labels() {
    let mut cluster = cluster(6);
    for (name, team) in [("a", "u"), ("b", "u"), ("c", "v"), ("d", "v"), ("e", "w")] {
        let with = labels(&format!("team={team}"));
        let declared = Namespace::new(namespace(name), with, Location::default());
        cluster.namespaces.insert(namespace(name), declared);
    }
    let peers = [("team=u", "app=db"), ("team=v", "app=cache"), ("team=w", "app=web"), ("own", "")];
    let peers = peers.map(|(namespaces, pods)| peer(namespaces, pods)).into();
    let expected = Scope {
        across: [selector("app=cache|db")].into(),
        ..namespaces(&[("e", "app=web"), ("x", "")])
    };
    assert_eq!(scope(&cluster, &[policy("p", vec![rule(peers, None)], Vec::new())]), expected);
}

#[test]
fn the_hull_of_selectors_is_what_they_have_in_common() {
    let long = "x".repeat(63);
    let values: Vec<String> = (0..40).map(|n| format!("{n:02}{}", &long[..60])).collect();
    let long = format!("app={}", values.join("|"));
    for (selectors, expected) in [
        (&["app=a"][..], Some("app=a")),
        (&["app=a", "app=b"], Some("app=a|b")),
        (&["app=a,tier=x", "app=b,tier=x"], Some("app=a|b,tier=x")),
        (&["app=a,tier=x", "app=b"], Some("app=a|b")),
        (&["app=a", "tier=x"], None),
        (&["app=a", ""], None),
        (&[], None),
        (&["app!=a|b", "app!=b|c"], Some("app!=b")),
        (&["app!=a", "app!=b"], None),
        (&["!debug,app", "!debug"], Some("!debug")),
        (&["app=a", "app!=b"], None),
        (&["app=", "app=a"], None),
        (&["app=a b,tier=x"], Some("tier=x")),
        (&[&long], None),
    ] {
        let given: Vec<Selector> = selectors.iter().map(|text| selector(text)).collect();
        assert_eq!(hull(&given), expected.map(selector), "{selectors:?}");
    }
}
