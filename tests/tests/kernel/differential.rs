//! Random clusters and flows: what real packets do must be what `evaluate` says.
//!
//! `LAB_SEED` chooses others than those that every run has.

use policy_compiler::evaluate::evaluate;
use policy_tests::enforcement::{Backend, Loader};
use policy_tests::lab::{Lab, Plan, Wiring};
use policy_tests::privilege::kernel_test;
use policy_tests::verdicts::{Question, Report, ask};

use crate::random::{Dice, SEED, cluster, flow, seed};

const CLUSTERS: u64 = 6;
const FLOWS: usize = 40;

fn differ(backend: Backend, wiring: Wiring, nodes: usize) {
    let seed = seed();
    let lab = Lab::build(&Plan::uniform(nodes, 12, wiring)).unwrap();
    let mut all = Report::default();
    for number in 0..CLUSTERS {
        let mut dice = Dice::new(seed.wrapping_add(number));
        let snapshot = cluster(&mut dice, nodes);
        let questions: Vec<Question> = (0..FLOWS)
            .map(|_| flow(&mut dice, &snapshot))
            .map(|flow| Question {
                asked: format!("{SEED}={}", seed.wrapping_add(number)),
                expected: evaluate(&snapshot, &flow).decision,
                flow,
            })
            .collect();
        all.merge(ask(&lab, backend, Loader::Text, &snapshot, &questions).unwrap());
    }
    println!("{} flows judged, not mapped: {:?}", all.judged, all.unmapped);
    assert!(all.disagreements.is_empty(), "{}", all.disagreements.join("\n"));
    assert!(all.judged >= 200, "only {} flows could be judged", all.judged);
}

macro_rules! labs {
    ($($name:ident: $backend:ident, $wiring:ident, $nodes:literal;)*) => {
        $(#[test]
        fn $name() {
            kernel_test(concat!("differential::", stringify!($name)), || {
                differ(Backend::$backend, Wiring::$wiring, $nodes);
            });
        })*
    };
}

labs! {
    packets_agree_with_evaluate_on_one_node_with_nft_and_routed_pods: Nft, Routed, 1;
    packets_agree_with_evaluate_on_one_node_with_nft_and_bridged_pods: Nft, Bridged, 1;
    packets_agree_with_evaluate_on_two_nodes_with_nft_and_routed_pods: Nft, Routed, 2;
    packets_agree_with_evaluate_on_two_nodes_with_nft_and_bridged_pods: Nft, Bridged, 2;
    packets_agree_with_evaluate_on_one_node_with_legacy_and_routed_pods: Legacy, Routed, 1;
    packets_agree_with_evaluate_on_one_node_with_legacy_and_bridged_pods: Legacy, Bridged, 1;
    packets_agree_with_evaluate_on_two_nodes_with_legacy_and_routed_pods: Legacy, Routed, 2;
    packets_agree_with_evaluate_on_two_nodes_with_legacy_and_bridged_pods: Legacy, Bridged, 2;
}
