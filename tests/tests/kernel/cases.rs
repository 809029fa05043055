//! Every case file, judged by real packets in every lab.
//!
//! A lab that cannot put a case to the test says so, and the list of what was said must be the one
//! below: nothing is left out unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use policy_compiler::flow::Wire;
use policy_manifest::case::{self, Case};
use policy_tests::enforcement::{Backend, Loader};
use policy_tests::lab::{Lab, Plan, Wiring};
use policy_tests::privilege::kernel_test;
use policy_tests::verdicts::{Question, Report, ask_isolating};

/// More than any case needs.
const SLOTS: usize = 12;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The case files, by the name that reports give them.
fn files() -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root().join("tests/cases")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), path);
        }
    }
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let folder = entry.unwrap().path();
        let path = folder.join("test.yaml");
        if path.is_file() {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            files.insert(format!("examples/{name}"), path);
        }
    }
    files
}

fn questions(file: &str, case: &Case) -> Vec<Question> {
    let asked = format!("{file}: {}", case.name);
    let lines = case.expectations.iter();
    lines
        .flat_map(|line| line.flows.iter().map(move |flow| (flow, line.decision)))
        .map(|(flow, expected)| Question { asked: asked.clone(), flow: flow.clone(), expected })
        .collect()
}

/// Cases of one file that speak of one cluster go together: its rules are loaded once.
fn by_cluster(cases: &[Case]) -> Vec<Vec<&Case>> {
    let mut groups: Vec<Vec<&Case>> = Vec::new();
    for case in cases.iter().filter(|case| case.kernel) {
        let alike = |group: &&mut Vec<&Case>| {
            group[0].snapshot == case.snapshot && group[0].pod_networks == case.pod_networks
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    groups
}

fn judge(backend: Backend, wiring: Wiring, nodes: usize) {
    let lab = Lab::build(&Plan::uniform(nodes, SLOTS, wiring)).unwrap();
    let mut all = Report::default();
    let mut on_bridges = BTreeSet::new();
    for (name, path) in files() {
        let file = case::load(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        for cases in by_cluster(&file.cases) {
            let Case { snapshot, pod_networks, .. } = cases[0];
            let questions: Vec<Question> =
                cases.iter().flat_map(|case| questions(&name, case)).collect();
            let bridged = questions.iter().filter(|question| question.flow.wire == Wire::Bridged);
            on_bridges.extend(bridged.map(|question| question.asked.clone()));
            let loader = Loader::Policyd;
            let said = ask_isolating(&lab, backend, loader, snapshot, pod_networks, &questions)
                .unwrap_or_else(|error| panic!("{name}: {}: {error:?}", cases[0].name));
            all.merge(said);
        }
    }
    println!("{} flows judged; in part not mapped: {} cases", all.judged, all.unmapped.len());
    for (asked, reasons) in &all.unmapped {
        println!("  {asked}: {reasons:?}");
    }
    let unmapped: BTreeSet<String> = all
        .unmapped
        .iter()
        .flat_map(|(asked, reasons)| reasons.iter().map(move |reason| format!("{asked}: {reason}")))
        .collect();
    let expected = expected_unmapped(wiring, nodes, &on_bridges);
    let surprises: Vec<&String> = unmapped.symmetric_difference(&expected).collect();
    assert!(all.disagreements.is_empty(), "{}", all.disagreements.join("\n"));
    assert!(surprises.is_empty(), "not mapped, or no longer so: {surprises:#?}");
}

/// What a lab is expected not to put to the test: on routed veths what needs a bridge, which the
/// other labs have; on one node what is listed below.
fn expected_unmapped(
    wiring: Wiring,
    nodes: usize,
    on_bridges: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut expected = BTreeSet::new();
    if wiring == Wiring::Routed {
        expected.extend(on_bridges.iter().map(|case| format!("{case}: it needs a bridge")));
    }
    if nodes == 1 {
        let reason = "it is about nodes and needs 2 of them";
        expected.extend(NEEDS_TWO_NODES.iter().map(|case| format!("{case}: {reason}")));
    }
    expected
}

/// Cases with flows about nodes where one node would have to be the pod's own and another.
const NEEDS_TWO_NODES: &[&str] = &[
    "audit: an audited default deny lets everything pass and is told of",
    "audit: an audited policy grants nothing to whom another isolates",
    "examples/audit: while it is audited everything passes, and what it would deny is told of",
    "known-bugs: 7. NotIn excludes each of its values, and a negative selector matches no address outside",
    "pods-and-nodes: a hostNetwork pod is no peer, and its address is its node's",
    "pods-and-nodes: a pod always reaches its own node",
    "pods-and-nodes: only an ipBlock covers a node",
    "pods-and-nodes: the own node is always let in",
    "unknown: its own node reaches it and is reached by it",
    "unknown: other nodes are addresses like any other",
];

macro_rules! labs {
    ($($name:ident: $backend:ident, $wiring:ident, $nodes:literal;)*) => {
        $(#[test]
        fn $name() {
            kernel_test(concat!("cases::", stringify!($name)), || {
                judge(Backend::$backend, Wiring::$wiring, $nodes);
            });
        })*
    };
}

labs! {
    packets_decide_every_case_on_one_node_with_nft_and_routed_pods: Nft, Routed, 1;
    packets_decide_every_case_on_one_node_with_nft_and_bridged_pods: Nft, Bridged, 1;
    packets_decide_every_case_on_two_nodes_with_nft_and_routed_pods: Nft, Routed, 2;
    packets_decide_every_case_on_two_nodes_with_nft_and_bridged_pods: Nft, Bridged, 2;
    packets_decide_every_case_on_one_node_with_legacy_and_routed_pods: Legacy, Routed, 1;
    packets_decide_every_case_on_one_node_with_legacy_and_bridged_pods: Legacy, Bridged, 1;
    packets_decide_every_case_on_two_nodes_with_legacy_and_routed_pods: Legacy, Routed, 2;
    packets_decide_every_case_on_two_nodes_with_legacy_and_bridged_pods: Legacy, Bridged, 2;
}
