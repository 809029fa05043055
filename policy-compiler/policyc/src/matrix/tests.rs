//! The matrix and `can` say the same of every cell.

use std::collections::BTreeMap;
use std::path::PathBuf;

use policy_compiler::cidr::Family;
use policy_compiler::port::Protocol;
use policy_compiler::reach::{Level, Party, Reach};
use policy_manifest::input::{self, Options};

use super::*;
use crate::can;
use crate::question::Questions;
use crate::subject::NamedEnd;

const INPUTS: [&str; 12] = [
    "../../examples/audit",
    "../../examples/dual-stack",
    "../../examples/metadata-guard",
    "../../examples/named-ports",
    "../../examples/port-ranges",
    "../../examples/shop",
    "../../examples/tenants",
    "tests/fixtures/shop",
    "tests/fixtures/half.yaml",
    "tests/fixtures/halves.yaml",
    "tests/fixtures/shared.yaml",
    "tests/fixtures/templates",
];

/// Numbers that the inputs speak of, those beside them, and none.
fn ports() -> Vec<Port> {
    let tcp = [21, 22, 53, 80, 443, 5432, 8000, 8080, 8081, 8100, 8101, 9080, 9090, 30_000];
    let udp = [53, 4999, 5000, 6000, 6001];
    let tcp = tcp.map(|number| Port::Number(number, Protocol::Tcp));
    let udp = udp.map(|number| Port::Number(number, Protocol::Udp));
    tcp.into_iter().chain(udp).chain([Port::Number(7, Protocol::Sctp), Port::Icmp]).collect()
}

fn named(party: &Party) -> NamedEnd {
    NamedEnd {
        text: party.to_string(),
        ends: party.members.clone(),
        service: None,
        outside: BTreeMap::new(),
    }
}

#[test]
fn every_cell_says_what_can_says() {
    let mut compared = 0;
    for path in INPUTS {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
        let options = Options::in_namespace("default").expect("a namespace");
        let loaded = input::read(std::slice::from_ref(&path), &options);
        let reach = Reach::new(&loaded.snapshot);
        let questions = Questions::new(&loaded.snapshot);
        let choice = Choice { nodes: true, networks: true, ..Choice::default() };
        for level in [Level::Pod, Level::Workload, Level::Namespace] {
            let (from, to) =
                choose(&reach, reach.parties(level), &choice).expect("nothing is named");
            let grid = fill(&reach, level, &Family::ALL, None, (from, to), |_| {});
            for (row, from) in grid.from.iter().enumerate() {
                for (column, to) in grid.to.iter().enumerate() {
                    // Of a pod and itself `can` says that it always reaches itself, the matrix says
                    // nothing where there are other pairs.
                    let shares = from.members.iter().any(|end| to.members.contains(end));
                    let Some(content) = grid.content(row, column).filter(|_| !shares) else {
                        continue;
                    };
                    for port in ports() {
                        let asked =
                            can::ask(&questions, &named(from), &named(to), &port, &Family::ALL);
                        match asked {
                            Ok(connection) => assert_eq!(
                                (content.outcome_of(&port), content.certainty(Some(&port))),
                                (connection.decision, connection.certainty),
                                "{}: {from} to {to} on {}",
                                path.display(),
                                port.text()
                            ),
                            Err(_) => assert!(content.families.is_empty(), "{from} to {to}"),
                        }
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 10_000, "only {compared} cells");
}

#[test]
fn every_cell_says_what_can_says_of_a_port_by_name() {
    let (mut compared, mut seen) = (0, std::collections::BTreeSet::new());
    for path in INPUTS {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
        let options = Options::in_namespace("default").expect("a namespace");
        let loaded = input::read(std::slice::from_ref(&path), &options);
        let reach = Reach::new(&loaded.snapshot);
        let questions = Questions::new(&loaded.snapshot);
        let names = loaded.snapshot.pods.values().flat_map(|pod| &pod.ports);
        let names: std::collections::BTreeSet<String> =
            names.filter_map(|port| port.name.as_ref().map(ToString::to_string)).collect();
        for (port, level) in names
            .iter()
            .flat_map(|name| [Level::Pod, Level::Workload, Level::Namespace].map(|l| (name, l)))
        {
            let port = Port::parse(port).expect("a name");
            let (from, to) =
                choose(&reach, reach.parties(level), &Choice::default()).expect("nothing is named");
            let grid = fill(&reach, level, &Family::ALL, Some(port.clone()), (from, to), |_| {});
            for (row, from) in grid.from.iter().enumerate() {
                for (column, to) in grid.to.iter().enumerate() {
                    let shares = from.members.iter().any(|end| to.members.contains(end));
                    let Some(content) = grid.content(row, column).filter(|_| !shares) else {
                        continue;
                    };
                    // `can` asks of all pods, and some may call nothing so.
                    let asked = can::ask(&questions, &named(from), &named(to), &port, &Family::ALL);
                    let Ok(connection) = asked else { continue };
                    let outcome = content.outcome_of(&port);
                    assert_eq!(outcome, connection.decision, "{from} to {to}: {port:?}");
                    let certainty = content.certainty(Some(&port));
                    assert_eq!(certainty, connection.certainty, "{from} to {to}: {port:?}");
                    seen.insert(outcome);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 250, "only {compared} cells");
    assert!(seen.len() >= 3, "only {seen:?}");
}

#[test]
fn a_name_that_means_several_numbers_is_allowed_where_each_is_at_its_own_pod() {
    let number = |port: u16| {
        let port = std::num::NonZeroU16::new(port).expect("a port");
        TrafficSet::of_ports(Protocol::Tcp, policy_compiler::port::PortRange::single(port))
    };
    let at = |named: &TrafficSet, all: &TrafficSet| Exchange {
        all: all.clone(),
        named: named.clone(),
        ..Exchange::default()
    };
    let (a, b) = (number(80), number(81));
    let both = a.union(&b);
    for (one, other, outcome) in [
        (at(&a, &a), at(&b, &b), Outcome::Allowed),
        (at(&a, &TrafficSet::nothing()), at(&b, &TrafficSet::nothing()), Outcome::Denied),
        (at(&a, &a), at(&b, &TrafficSet::nothing()), Outcome::Partly),
        // 80 is denied at one and allowed at the other.
        (at(&a, &TrafficSet::nothing()), at(&both, &both), Outcome::Partly),
    ] {
        assert_eq!(one.and(&other).outcome_of_name(), outcome, "{one:?} {other:?}");
        assert_eq!(other.and(&one).outcome_of_name(), outcome, "{other:?} {one:?}");
    }
}
