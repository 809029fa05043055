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

const INPUTS: [&str; 11] = [
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
            let (from, to) = choose(&reach, level, &choice);
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
                                content.outcome_of(&port),
                                connection.decision,
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
