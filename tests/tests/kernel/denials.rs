//! What a denied packet meets besides silence, and packets that only pretend to belong somewhere.

use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{DenyAction, NodeConfig};
use policy_compiler::flow::Traffic;
use policy_compiler::name::NodeName;
use policy_compiler::verdict::Decision;
use policy_manifest::case;
use policy_tests::enforcement::{Backend, Loader, check_counts};
use policy_tests::lab::{Lab, Plan, Slot, Wiring};
use policy_tests::packet::{Outline, Segment};
use policy_tests::privilege::kernel_test;
use policy_tests::probe::{Fate, Probe, send_all};
use policy_tests::verdicts::{Question, ask};

/// Two pods with the addresses of the first two slots; a may talk to b on 80, and that is all.
fn snapshot(lab: &Lab) -> Snapshot {
    let [a, b, ..] = &lab.nodes[0].slots[..] else { panic!("two slots") };
    let text = format!(
        "pods:\n  x/a: {{labels: {{app: a}}, node: n1, ips: [{}, \"{}\"]}}\n  \
         x/b: {{labels: {{app: b}}, node: n1, ips: [{}, \"{}\"]}}\npolicies:\n  \
         x/a: {{podSelector: {{matchLabels: {{app: a}}}}, policyTypes: [Ingress]}}\n  \
         x/b: {{podSelector: {{matchLabels: {{app: b}}}}, \
         ingress: [{{from: [{{podSelector: {{}}}}], ports: [{{port: 80}}]}}]}}\n\
         cases:\n- {{name: a to b, allow: [\"x/a -> x/b on 80\"]}}\n",
        a.v4, a.v6, b.v4, b.v6
    );
    let file = case::parse("denials", &text, std::path::Path::new("")).unwrap();
    file.cases[0].snapshot.clone()
}

fn lab(backend: Backend, deny: DenyAction) -> Lab {
    let lab = Lab::build(&Plan::uniform(1, 2, Wiring::Routed)).unwrap();
    let mut config = NodeConfig::new(NodeName::new("n1").unwrap());
    config.deny = deny;
    let ruleset = compile(&snapshot(&lab), &config).ruleset;
    let node = lab.namespace(&lab.nodes[0]);
    Loader::Text.load(backend, node, &ruleset).unwrap();
    check_counts(backend, node, &ruleset).unwrap();
    lab
}

/// A TCP segment to `port`, over both families.
fn segments(lab: &Lab, from: usize, to: usize, port: u16, segment: Segment) -> [Probe; 2] {
    let slot = |index: usize| -> &Slot { &lab.nodes[0].slots[index] };
    let (from, to) = (slot(from), slot(to));
    let ends: [(IpAddr, IpAddr); 2] =
        [(from.v4.into(), to.v4.into()), (from.v6.into(), to.v6.into())];
    ends.map(|(source, destination)| {
        let outline = Outline::opening(source, destination, Traffic::tcp(port), lab.next_port());
        Probe {
            sender: from.station,
            towards: destination,
            outline: Outline { segment, ..outline },
            receivers: vec![to.station],
        }
    })
}

fn fates(lab: &Lab, probes: &[[Probe; 2]]) -> Vec<[Fate; 2]> {
    let fates = send_all(lab, &probes.concat()).unwrap();
    fates.chunks(2).map(|pair| [pair[0], pair[1]]).collect()
}

const SILENCE: Fate = Fate { arrived: false, answered: false };
const REFUSED: Fate = Fate { arrived: false, answered: true };
const CONNECTED: Fate = Fate { arrived: true, answered: true };

fn a_drop_is_silent_and_a_rejection_answers(backend: Backend) {
    for (deny, denied) in [(DenyAction::Drop, SILENCE), (DenyAction::Reject, REFUSED)] {
        let lab = lab(backend, deny);
        let probes = [80, 81].map(|port| segments(&lab, 0, 1, port, Segment::Opening));
        assert_eq!(fates(&lab, &probes), [[CONNECTED; 2], [denied; 2]], "{deny:?}");
    }
}

/// conntrack would take a segment of no known connection for the first of a new one.
fn a_segment_of_no_known_connection_passes_nowhere(backend: Backend) {
    let lab = lab(backend, DenyAction::Drop);
    let probes = [
        segments(&lab, 0, 1, 80, Segment::Opening),
        segments(&lab, 0, 1, 80, Segment::Midstream),
        segments(&lab, 1, 0, 80, Segment::Midstream),
    ];
    assert_eq!(fates(&lab, &probes), [[CONNECTED; 2], [SILENCE; 2], [SILENCE; 2]]);
}

/// Where conntrack adopts no segment it calls one of no known connection INVALID, and no flow can come of
/// it: it is judged like any other packet, and so are segments of allowed connections that conntrack
/// finds out of order.
fn where_conntrack_adopts_no_segment_it_is_judged_like_any_packet(backend: Backend) {
    let lab = lab(backend, DenyAction::Drop);
    let node = lab.namespace(&lab.nodes[0]);
    node.sysctl(&[("netfilter/nf_conntrack_tcp_loose", "0")]).unwrap();
    let probes = [
        segments(&lab, 0, 1, 80, Segment::Midstream),
        segments(&lab, 0, 1, 81, Segment::Midstream),
        segments(&lab, 1, 0, 80, Segment::Midstream),
    ];
    let passed = Fate { arrived: true, answered: false };
    assert_eq!(fates(&lab, &probes), [[passed; 2], [SILENCE; 2], [SILENCE; 2]]);
    // What passed has opened nothing for what goes the other way.
    let [there, back] =
        [(0, 1), (1, 0)].map(|(from, to)| segments(&lab, from, to, 80, Segment::Midstream));
    let answers = [0, 1].map(|family| {
        let outline = Outline {
            source_port: 80,
            traffic: Traffic::tcp(there[family].outline.source_port),
            ..back[family].outline
        };
        Probe { outline, ..back[family].clone() }
    });
    assert_eq!(fates(&lab, &[there]), [[passed; 2]]);
    assert_eq!(fates(&lab, &[answers]), [[SILENCE; 2]]);
}

/// A lab that agreed with everything would prove nothing.
fn a_wrong_expectation_is_told(backend: Backend) {
    let lab = Lab::build(&Plan::uniform(1, 2, Wiring::Routed)).unwrap();
    let text = "pods:\n  x/a: {labels: {app: a}, node: n1}\n  x/b: {labels: {app: b}, node: n1}\n\
                policies:\n  x/b: {podSelector: {matchLabels: {app: b}}}\n\
                cases:\n- {name: wrong, allow: [x/a -> x/b on 80], deny: [x/b -> x/a on 80]}\n";
    let file = case::parse("wrong", text, std::path::Path::new("")).unwrap();
    let case = &file.cases[0];
    let questions: Vec<Question> = case
        .expectations
        .iter()
        .flat_map(|line| line.flows.iter().map(move |flow| (flow, line.decision)))
        .filter(|(flow, _)| flow.family == Family::V4)
        .map(|(flow, expected)| Question { asked: "wrong".into(), flow: flow.clone(), expected })
        .collect();
    assert_eq!(questions[0].expected, Decision::Allowed);
    let report = ask(&lab, backend, Loader::Policyd, &case.snapshot, &questions).unwrap();
    assert_eq!(
        report.disagreements,
        [
            "wrong: x/a -> x/b on 80/TCP (IPv4): expected allowed, but its packet did not arrive",
            "wrong: x/b -> x/a on 80/TCP (IPv4): expected denied, but its packet arrived",
        ]
    );
}

macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("denials::nft::", stringify!($scenario));
                super::kernel_test(name, || super::$scenario(super::Backend::Nft));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("denials::legacy::", stringify!($scenario));
                super::kernel_test(name, || super::$scenario(super::Backend::Legacy));
            })*
        }
    };
}

under_both_backends!(
    a_drop_is_silent_and_a_rejection_answers,
    a_segment_of_no_known_connection_passes_nowhere,
    where_conntrack_adopts_no_segment_it_is_judged_like_any_packet,
    a_wrong_expectation_is_told,
);
