use super::*;
use crate::cidr::IpBlock;
use crate::cluster::{Addresses, Age, ContainerPort, Phase, Workload};
use crate::document::Location;
use crate::policy::{
    Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports,
};
use crate::port::{PortName, Protocol};
use crate::selector::{Operator, Requirement, Selector};
use crate::verdict::Ruling;
use std::num::NonZeroU16;

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name).unwrap()
}

fn app(value: &str) -> Selector {
    Selector::new([Requirement {
        key: Arc::from("app"),
        operator: Operator::In([Arc::from(value)].into()),
    }])
}

/// A running pod of Deployment `app` on node `n1`, labelled `app=<app>`.
fn pod(name: &str, app: &str, address: &str) -> Pod {
    let mut addresses = Addresses::default();
    addresses.offer(address.parse().unwrap());
    Pod {
        key: key(name),
        labels: [("app", app), ("serial", name)].into_iter().collect(),
        node: Some(NodeName::new("n1").unwrap()),
        host_network: false,
        phase: Phase::Running,
        addresses,
        ports: Vec::new(),
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: Some(Workload {
            kind: Arc::from("Deployment"),
            name: Arc::from(app),
            replicas: 1,
        }),
        template: false,
        location: Location::default(),
    }
}

fn calling(mut pod: Pod, name: &str, number: u16) -> Pod {
    pod.ports.push(ContainerPort {
        name: Some(PortName::new(name).unwrap()),
        protocol: Protocol::Tcp,
        number: NonZeroU16::new(number).unwrap(),
    });
    pod
}

fn template(name: &str, app: &str, replicas: u32) -> Pod {
    let mut pod = pod(name, app, "10.0.0.1");
    pod.addresses = Addresses::default();
    pod.template = true;
    pod.node = None;
    pod.workload = Some(Workload { kind: Arc::from("Deployment"), name: Arc::from(app), replicas });
    pod
}

fn from_pods(selector: Selector) -> PeerSelects {
    PeerSelects::Pods { namespaces: NamespaceScope::Own, pods: selector }
}

fn from_block(cidr: &str, except: &[&str]) -> PeerSelects {
    let except = except.iter().map(|e| e.parse().unwrap()).collect();
    PeerSelects::Block(IpBlock::new(cidr.parse().unwrap(), except).unwrap())
}

fn number(number: u16) -> PortNumbers {
    PortNumbers::single(NonZeroU16::new(number).unwrap())
}

fn named(name: &str) -> PortNumbers {
    PortNumbers::Named(PortName::new(name).unwrap())
}

/// An ingress policy of `app=<app>` in `x` with one rule a peer.
fn ingress(name: &str, selects: &str, rules: Vec<(PeerSelects, PortNumbers)>) -> Policy {
    let location = Location::default;
    let rule = |(selects, numbers)| Rule {
        grant: Grant::Traffic {
            peers: Peers::Listed(vec![Peer { selects, location: location() }]),
            ports: Ports::Listed(vec![PortMatch {
                protocol: Protocol::Tcp,
                numbers,
                location: location(),
            }]),
        },
        location: location(),
    };
    Policy {
        key: key(name),
        pod_selector: app(selects),
        isolates_ingress: true,
        isolates_egress: false,
        ingress: rules.into_iter().map(rule).collect(),
        egress: Vec::new(),
        audit: false,
        flawed: false,
        location: location(),
    }
}

fn cluster(pods: Vec<Pod>, policies: Vec<Policy>) -> Snapshot {
    Snapshot {
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
        ..Snapshot::default()
    }
}

fn named_parties(snapshot: &Snapshot, level: Level) -> Vec<String> {
    Reach::new(snapshot).parties(level).iter().map(|party| party.who.to_string()).collect()
}

/// The party whose name begins so.
fn party(reach: &Reach<'_>, level: Level, name: &str) -> Party {
    let found = |party: &Party| party.who.to_string().starts_with(name);
    reach.parties(level).into_iter().find(found).unwrap()
}

fn told(snapshot: &Snapshot, level: Level, from: &str, to: &str) -> String {
    let reach = Reach::new(snapshot);
    let (from, to) = (party(&reach, level, from), party(&reach, level, to));
    let between = reach.between(&from, &to, Family::V4);
    match (between.itself, between.is_uniform()) {
        (true, _) => "itself".to_owned(),
        (_, true) => between.all.to_string(),
        _ => format!(
            "{}, partly {}, unknown {} of {}",
            between.all,
            between.partly(),
            between.unknown,
            between.pairs
        ),
    }
}

/// Two of `web`, one `db`, which takes `web` on its port `pg`, and 203.0.113.0/24 but .64/26 on 9090.
fn shop() -> Snapshot {
    cluster(
        vec![
            pod("x/web-0", "web", "10.0.0.1"),
            pod("x/web-1", "web", "10.0.0.2"),
            calling(pod("x/db-0", "db", "10.0.0.3"), "pg", 5432),
        ],
        vec![ingress(
            "x/db",
            "db",
            vec![
                (from_pods(app("web")), named("pg")),
                (from_block("203.0.113.0/24", &["203.0.113.64/26"]), number(9090)),
            ],
        )],
    )
}

#[test]
fn pods_of_a_workload_that_are_alike_are_one_party() {
    assert_eq!(
        named_parties(&shop(), Level::Workload),
        [
            "x/db",
            "x/web ×2",
            "node/n1",
            "world 203.0.113.0/26, 203.0.113.128/25",
            "world all of IPv4 but 203.0.113.0/26, 203.0.113.128/25",
            "world all of IPv6",
        ]
    );
    assert_eq!(named_parties(&shop(), Level::Namespace)[..2], ["namespace x", "node/n1"]);
    assert_eq!(named_parties(&shop(), Level::Pod)[..3], ["x/db-0", "x/web-0", "x/web-1"]);
}

#[test]
fn a_replica_that_differs_is_a_party_of_its_own() {
    let mut shop = shop();
    let odd = pod("x/web-2", "canary", "10.0.0.9");
    let workload = shop.pods[&key("x/web-0")].workload.clone();
    shop.pods.insert(odd.key.clone(), Pod { workload, ..odd });
    assert_eq!(
        named_parties(&shop, Level::Workload)[..3],
        ["x/db", "x/web 2 of 3", "x/web 1 of 3"]
    );
    assert_eq!(told(&shop, Level::Workload, "x/web 1 of 3", "x/db"), "nothing");
}

#[test]
fn traffic_is_exact_with_names_resolved_at_the_destination() {
    for (from, to, connections) in [
        ("x/web", "x/db", "5432/TCP"),
        ("x/db", "x/web", "everything"),
        ("x/web", "x/web", "everything"),
        ("x/db", "x/db", "itself"),
        ("node/n1", "x/db", "everything"),
        ("world 203", "x/db", "9090/TCP"),
        ("world all of IPv4", "x/db", "nothing"),
        ("x/db", "world 203", "everything"),
        ("x/db", "world all of IPv6", "nothing"),
    ] {
        assert_eq!(told(&shop(), Level::Workload, from, to), connections, "{from} to {to}");
    }
}

#[test]
fn an_egress_rule_by_name_means_what_each_destination_calls_so() {
    let rules = vec![(from_pods(Selector::everything()), named("pg"))];
    let own = ingress("x/web", "web", rules);
    let out = Policy {
        isolates_ingress: false,
        isolates_egress: true,
        egress: own.ingress.clone(),
        ingress: Vec::new(),
        ..own
    };
    let snapshot = cluster(
        vec![
            pod("x/web-0", "web", "10.0.0.1"),
            calling(pod("x/db-0", "db", "10.0.0.3"), "pg", 5432),
            calling(pod("x/old-0", "old", "10.0.0.4"), "pg", 5433),
            pod("x/none-0", "none", "10.0.0.5"),
        ],
        vec![out],
    );
    for (to, connections) in [("x/db", "5432/TCP"), ("x/old", "5433/TCP"), ("x/none", "nothing")] {
        assert_eq!(told(&snapshot, Level::Workload, "x/web", to), connections, "to {to}");
    }
    let reach = Reach::new(&snapshot);
    let of = |name| reach.pair(&End::Pod(key("x/web-0")), &End::Pod(key(name)), Family::V4);
    let each = ["x/db-0", "x/old-0", "x/none-0"].map(|name| of(name).to_string());
    assert_eq!(each, ["5432/TCP", "5433/TCP", "nothing"], "asked of one that remembers");
}

#[test]
fn a_namespace_has_in_part_what_some_of_its_pods_have() {
    // Of six pairs four end at web, which nothing isolates, and two at db.
    assert_eq!(
        told(&shop(), Level::Namespace, "namespace x", "namespace x"),
        "5432/TCP, partly everything but 5432/TCP, unknown nothing of 6"
    );
}

#[test]
fn the_pods_of_one_template_are_different_pods() {
    let one = ingress("x/db", "db", vec![(from_block("10.0.0.0/8", &[]), number(1))]);
    let of = |replicas| cluster(vec![template("x/db", "db", replicas)], vec![one.clone()]);
    assert_eq!(
        told(&of(3), Level::Workload, "x/db", "x/db"),
        "nothing, partly nothing, unknown 1/TCP of 6"
    );
    assert_eq!(told(&of(1), Level::Workload, "x/db", "x/db"), "itself");
    assert_eq!(named_parties(&of(3), Level::Workload)[0], "x/db ×3");
}

#[test]
fn parties_of_several_snapshots_are_alike_in_each() {
    let old = shop();
    let mut new = shop();
    let odd = new.pods.get_mut(&key("x/web-1")).unwrap();
    odd.labels.insert("app", "canary");
    new.policies.insert(
        key("x/w"),
        ingress("x/w", "web", vec![(from_block("198.51.100.0/24", &[]), number(80))]),
    );
    let partition = Partition::of(&[&old, &new]);
    let names: Vec<String> =
        partition.parties(Level::Workload).iter().map(|party| party.who.to_string()).collect();
    assert_eq!(names[..3], ["x/db", "x/web 1 of 2", "x/web 1 of 2"]);
    assert_eq!(partition.world().len(), 4, "{names:?}");
    let web = &partition.parties(Level::Workload)[1];
    let world = partition
        .parties(Level::Workload)
        .into_iter()
        .find(|p| p.who.to_string().contains("198"))
        .unwrap();
    let between = |snapshot| Reach::over(&partition, snapshot).between(&world, web, Family::V4);
    assert_eq!(between(&old).all.to_string(), "everything");
    assert_eq!(between(&new).all.to_string(), "80/TCP");
}

/// So many pods of `web` and of `job`, each with labels of its own, on several nodes, and one `db`, which
/// takes `web`.
fn crowd(pods: u8) -> Snapshot {
    let mut all = vec![calling(pod("x/db-0", "db", "10.0.0.3"), "pg", 5432)];
    for n in 0..pods {
        for (app, block) in [("web", 1), ("job", 2)] {
            let pod = pod(&format!("x/{app}-{n}"), app, &format!("10.0.{block}.{n}"));
            all.push(Pod { node: NodeName::new(&format!("n{}", n % 4)).ok(), ..pod });
        }
    }
    cluster(all, vec![ingress("x/db", "db", vec![(from_pods(app("web")), named("pg"))])])
}

#[test]
fn the_evaluator_is_asked_for_classes_of_pods_and_not_for_pairs_of_them() {
    let asked = |pods| {
        let snapshot = crowd(pods);
        let reach = Reach::new(&snapshot);
        let parties = reach.parties(Level::Pod);
        let pods: Vec<&Party> = parties.iter().filter(|party| party.who.is_pods()).collect();
        let mut pairs = 0;
        for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
            pairs += u64::from(!reach.between(from, to, Family::V4).is_empty());
        }
        (pairs, reach.asked())
    };
    let (few, many) = (asked(8), asked(80));
    assert!(few.0 > 200 && many.0 > 20_000, "{few:?} {many:?}");
    assert_eq!(few.1, many.1, "ten times the pods, and not one question more");
    assert!(few.1 < 30, "{few:?}");
}

#[test]
fn groups_that_meet_alike_have_the_same_sets() {
    let snapshot = crowd(9);
    let reach = Reach::new(&snapshot);
    for level in [Level::Pod, Level::Workload, Level::Namespace] {
        let parties = reach.parties(level);
        let groups: Vec<Group<'_>> = parties.iter().map(|p| reach.group(p, Family::V4)).collect();
        let mut known: Vec<(Met, Between)> = Vec::new();
        for (from, to) in groups.iter().flat_map(|from| groups.iter().map(move |to| (from, to))) {
            let met = reach.met(from, to);
            let between = reach.among(from, to);
            assert_eq!(met.is_nothing(), between.pairs == 0);
            let sets = Between { pairs: between.pairs.min(1), ..between };
            match known.iter().find(|(other, _)| *other == met) {
                Some((_, other)) => assert_eq!(*other, sets, "{level:?} {met:?}"),
                None => known.push((met, sets)),
            }
        }
        assert!(known.len() > 2 && known.len() < 12, "{level:?}: {known:?}");
    }
}

#[test]
fn a_pod_is_reached_by_its_own_node_and_its_kind_elsewhere_is_not() {
    let snapshot = crowd(8);
    let reach = Reach::new(&snapshot);
    let [db, n1, n2] =
        ["x/db", "node/n1", "node/n2"].map(|name| party(&reach, Level::Workload, name));
    assert!(reach.between(&n1, &db, Family::V4).is_all(), "db runs there");
    assert!(reach.between(&n2, &db, Family::V4).is_empty(), "and not there");
    let mut closed = snapshot.clone();
    closed.policies.insert(key("x/w"), ingress("x/w", "web", Vec::new()));
    let reach = Reach::new(&closed);
    let [web, n1] = ["x/web", "node/n1"].map(|name| party(&reach, Level::Workload, name));
    let between = reach.between(&n1, &web, Family::V4);
    assert!(between.all.is_empty() && between.some.is_all(), "two of eight run there");
}

#[test]
fn that_a_finished_pod_left_its_address_to_another_is_no_choice() {
    let heir = pod("x/heir", "web", "10.0.0.1");
    let mut left = pod("x/left", "web", "10.0.0.1");
    let policies = vec![ingress("x/w", "web", Vec::new())];
    let undefined = |left: &Pod| {
        let snapshot = cluster(vec![heir.clone(), left.clone()], policies.clone());
        let reach = Reach::new(&snapshot);
        let (heir, left) = (End::Pod(heir.key.clone()), End::Pod(left.key.clone()));
        let traffic = Traffic::tcp(7);
        let rulings = reach.pair(&heir, &left, Family::V4).undefined().on(traffic);
        assert_eq!(rulings, reach.because(&heir, &left, Family::V4, traffic).rulings);
        rulings
    };
    assert_eq!(undefined(&left), [Ruling::SharedAddress].into(), "while it runs");
    left.phase = Phase::Finished;
    assert_eq!(undefined(&left), BTreeSet::new());
}
