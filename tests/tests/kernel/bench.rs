//! The benchmark on a small node: every layout takes the way that is measured, and one that does not is
//! noticed. Nothing is timed here.

use std::collections::BTreeSet;
use std::time::Duration;

use policy_compiler::port::Protocol;
use policy_compiler::update::Event;
use policy_tests::bench::BenchError;
use policy_tests::bench::duel::{Duel, Effort, fight};
use policy_tests::bench::enforced::Enforced;
use policy_tests::bench::layout::Layout;
use policy_tests::bench::path::Passage;
use policy_tests::bench::processor::pin;
use policy_tests::bench::report::Unit;
use policy_tests::bench::road::Road;
use policy_tests::bench::rows::{GROUPS, Selection, Size, measure};
use policy_tests::bench::shape::{
    self, DENIED_PORT, Directions, Ends, FIRST_PORT, NODE, Shape, TOGETHER,
};
use policy_tests::bench::traffic::{Connections, NewFlows, RoundTrips, SentByNode, Traffic};
use policy_tests::enforcement::Backend;

under_both_backends!(
    new_flows_pass_by_the_rules_of_every_layout,
    connections_and_what_the_node_sends_pass_by_the_rules_of_every_layout,
    denied_packets_end_where_they_are_denied,
    packets_that_go_another_way_are_noticed,
    no_event_starts_a_process_once_the_node_is_programmed,
    all_of_it_works_on_a_small_node,
);

const EFFORT: Effort = Effort { quads: 2, warming: 1, batches: 2 };

fn shape(directions: Directions, protocol: Protocol) -> Shape {
    Shape { pods: 2 * TOGETHER, together: TOGETHER, policies: 10, directions, protocol }
}

/// A road with ours and the linear layout on it, and a thread at its near end.
fn on_the_road(
    backend: Backend,
    shape: Shape,
    story: impl FnOnce(&Road, &[Ends], &Layout, &Layout) + Send,
) {
    let turns = shape.turns();
    let road = Road::build(backend, &turns).unwrap();
    let (ours, linear) = (Layout::ours(&shape, true, 'C').unwrap(), Layout::linear(&shape));
    road.load(&ours).unwrap();
    road.load(&linear).unwrap();
    road.from
        .enter(|| {
            pin().unwrap();
            story(&road, &turns, &ours, &linear);
        })
        .unwrap();
}

fn against_nothing(
    road: &Road,
    tested: &Layout,
    traffic: &mut dyn Traffic,
) -> Result<Duel, BenchError> {
    fight(road, "row", (&Layout::nothing(), tested), traffic, EFFORT)
}

fn new_flows_pass_by_the_rules_of_every_layout(backend: Backend) {
    for directions in [Directions::Ingress, Directions::Both] {
        on_the_road(backend, shape(directions, Protocol::Udp), |road, turns, ours, linear| {
            let mut flows = NewFlows::open(road, turns, Passage::Allowed).unwrap();
            let duel = against_nothing(road, ours, &mut flows).unwrap();
            assert!(duel.ratio.middle > 0.0 && duel.control.middle > 0.0, "{duel:?}");
            if directions == Directions::Both {
                against_nothing(road, linear, &mut flows).unwrap();
            }
            let large = Shape { pods: 64, ..shape(directions, Protocol::Udp) };
            let large = Layout::ours(&large, true, 'B').unwrap();
            road.load(&large).unwrap();
            fight(road, "row", (ours, &large), &mut flows, EFFORT).unwrap();
        });
    }
}

fn connections_and_what_the_node_sends_pass_by_the_rules_of_every_layout(backend: Backend) {
    on_the_road(backend, shape(Directions::Both, Protocol::Tcp), |road, turns, ours, linear| {
        let mut trips = RoundTrips::open(road, turns[0]).unwrap();
        for layout in [ours, linear] {
            against_nothing(road, layout, &mut trips).unwrap();
        }
        // Closed first: an acknowledgement of its last byte would be counted with what comes next.
        drop(trips);
        let mut sent = SentByNode::open(road, turns[1]).unwrap();
        against_nothing(road, ours, &mut sent).unwrap();
        let mut connections = Connections::open(road, turns).unwrap();
        for layout in [ours, linear] {
            against_nothing(road, layout, &mut connections).unwrap();
        }
    });
}

fn denied_packets_end_where_they_are_denied(backend: Backend) {
    for directions in [Directions::Ingress, Directions::Both] {
        on_the_road(backend, shape(directions, Protocol::Udp), |road, turns, ours, linear| {
            let turns: Vec<Ends> =
                turns.iter().map(|ends| Ends { port: DENIED_PORT, ..*ends }).collect();
            let mut flows = NewFlows::open(road, &turns, Passage::Denied).unwrap();
            let drop = Layout::one_drop("udp", DENIED_PORT);
            for layout in [ours, linear] {
                fight(road, "row", (&drop, layout), &mut flows, EFFORT).unwrap();
                // Where nobody polices it arrives.
                against_nothing(road, layout, &mut flows).unwrap();
            }
        });
    }
}

fn packets_that_go_another_way_are_noticed(backend: Backend) {
    on_the_road(backend, shape(Directions::Both, Protocol::Udp), |road, turns, ours, _| {
        let wrong = |tested: &Layout, traffic: &mut dyn Traffic| {
            let error = against_nothing(road, tested, traffic).unwrap_err();
            assert!(error.is_wrong_path(), "{error}");
            error.to_string()
        };
        let mut flows = NewFlows::open(road, turns, Passage::Allowed).unwrap();
        let unhooked = Layout { hooks: Vec::new(), ..ours.clone() };
        let error = wrong(&unhooked, &mut flows);
        assert!(error.contains("entered (NPC-FORWARD*: -j NPC-EGRESS): 0 packets"), "{error}");
        drop(flows);
        // A policy allows what is taken to be denied.
        let mut flows = NewFlows::open(road, turns, Passage::Denied).unwrap();
        wrong(ours, &mut flows);
    });
}

fn no_event_starts_a_process_once_the_node_is_programmed(backend: Backend) {
    let shape = shape(Directions::Both, Protocol::Udp);
    let road = Road::build(backend, &[]).unwrap();
    let local = || shape::pod(1, 3, NODE, Shape::local(TOGETHER + 3)).unwrap();
    let remote = || shape::pod(1, 77, "another", "10.245.200.1".parse().unwrap()).unwrap();
    let policy = |port: u16| shape.policy(1, 1, port).unwrap();
    road.node
        .enter(|| {
            let mut node = Enforced::open(backend, shape.snapshot().unwrap()).unwrap();
            node.write().unwrap();
            let begun = node.processes();
            for _ in 0..2 {
                for (name, event) in [
                    ("a local pod goes", Event::PodDeleted(local().key)),
                    ("a policy changes", Event::PolicyApplied(Box::new(policy(9_000)))),
                    ("a peer comes", Event::PodApplied(Box::new(remote()))),
                    ("a local pod comes", Event::PodApplied(Box::new(local()))),
                    ("a policy goes", Event::PolicyDeleted(policy(9_000).key)),
                    ("a peer goes", Event::PodDeleted(remote().key)),
                    ("a policy comes", Event::PolicyApplied(Box::new(policy(FIRST_PORT + 1)))),
                ] {
                    node.take(event).unwrap();
                    assert_eq!(node.processes(), begun, "{name}");
                }
                // What was given up is destroyed without one, too.
                node.rest(Duration::from_millis(300));
                assert_eq!(node.processes(), begun);
            }
        })
        .unwrap();
}

fn all_of_it_works_on_a_small_node(backend: Backend) {
    let selection = Selection { groups: Vec::new(), backends: vec![backend], size: Size::Small };
    let mut told = 0;
    let report = measure(&selection, &mut |_| told += 1).unwrap();
    assert_eq!(told, report.rows.len());
    let groups: BTreeSet<&str> = report.rows.iter().map(|row| row.group).collect();
    assert_eq!(groups, GROUPS.iter().map(|(group, _)| *group).collect());
    for row in &report.rows {
        let counted = row.unit == Unit::Count;
        assert!(row.figure.is_finite() && (counted || row.figure > 0.0), "{row:?}");
        assert!(row.backend.is_none_or(|under| under == backend), "{row:?}");
    }
    let figure = |title: &str| {
        let row = report.rows.iter().find(|row| row.title.trim_start() == title);
        row.unwrap_or_else(|| panic!("no row `{title}`")).figure
    };
    assert!(figure("processes started").abs() < 0.5, "{}", report.table());
    assert!(figure("rules for what the node sends, without IPVS").abs() < 0.5);
}
