//! `reach` says of every flow what `evaluate` says: for every pair of ends, every piece of traffic and
//! every address outside, and for groups what their pairs come to.

use std::net::IpAddr;
use std::sync::Arc;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Addresses, Snapshot, Workload};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::policy::Direction;
use policy_compiler::reach::{Level, Partition, Party, Reach, instances};
use policy_compiler::verdict::{Because, Decision};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::cluster::{cluster, known_addresses, node_name};
use crate::config;
use crate::flows::ports_spoken_of;

/// A cluster whose pods are of few workloads, some of them only templates.
fn workloads() -> impl Strategy<Value = Snapshot> {
    (cluster(), vec((0..4_u8, 0..4_u8, 1..3_u32), 11)).prop_map(|(mut snapshot, drawn)| {
        for (pod, (workload, template, replicas)) in snapshot.pods.values_mut().zip(drawn) {
            let name = ["w", "v"].get(usize::from(workload));
            pod.workload = name.map(|name| Workload {
                kind: Arc::from("Deployment"),
                name: Arc::from(*name),
                replicas,
            });
            if template == 0 && pod.workload.is_some() {
                pod.template = true;
                pod.addresses = Addresses::default();
                pod.node = None;
            }
        }
        snapshot
    })
}

/// Which of all pairs and of all traffic to ask about.
#[derive(Clone, Debug)]
struct Draws {
    pairs: Vec<(Index, Index)>,
    traffic: Vec<Index>,
}

fn draws(pairs: usize, traffic: usize) -> impl Strategy<Value = Draws> {
    (vec(any::<(Index, Index)>(), pairs), vec(any::<Index>(), traffic))
        .prop_map(|(pairs, traffic)| Draws { pairs, traffic })
}

/// Traffic at every edge of every rule and beside it, and what has no ports.
fn samples(snapshot: &Snapshot, family: Family) -> Vec<Traffic> {
    let spoken = ports_spoken_of(snapshot).into_iter().flat_map(|traffic| match traffic {
        Traffic::Port { protocol, port } => [port.saturating_sub(1), port, port.saturating_add(1)]
            .map(|port| Traffic::Port { protocol, port })
            .to_vec(),
        other => vec![other],
    });
    let always = [
        Traffic::tcp(7),
        Traffic::udp(7),
        Traffic::sctp(7),
        Traffic::ping(family),
        Traffic::Icmp { kind: 3 },
        Traffic::Other { protocol: 50 },
    ];
    let real = |traffic: &Traffic| !matches!(traffic, Traffic::Port { port: 0, .. });
    spoken.chain(always).filter(real).collect()
}

/// Everyone, asked for by name or by address.
fn ends(snapshot: &Snapshot) -> Vec<End> {
    let pods = snapshot.pods.keys().cloned().map(End::Pod);
    let nodes = ["n1", "n2", "n9"].map(|name| End::Node(node_name(name)));
    pods.chain(nodes).chain(known_addresses().into_iter().map(End::Address)).collect()
}

fn speaks(snapshot: &Snapshot, end: &End, family: Family) -> bool {
    match end {
        End::Pod(key) => {
            let addresses = snapshot.pods[key].addresses;
            addresses.is_empty() || addresses.of(family).is_some()
        }
        End::Node(_) => true,
        End::Address(address) => Family::of(*address) == family,
    }
}

fn flow(from: &End, to: &End, family: Family, traffic: Traffic) -> Flow {
    Flow { from: from.clone(), to: to.clone(), family, traffic, wire: Wire::Routed }
}

/// The decisions on all pairs of two parties, as `evaluate` has them.
fn decisions(
    snapshot: &Snapshot,
    evaluator: &Evaluator<'_>,
    (from, to): (&Party, &Party),
    family: Family,
    traffic: Traffic,
) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let mut itself = Vec::new();
    for a in from.members.iter().filter(|end| speaks(snapshot, end, family)) {
        for b in to.members.iter().filter(|end| speaks(snapshot, end, family)) {
            let flow = flow(a, b, family, traffic);
            let pod = match a {
                End::Pod(key) if a == b => Some(&snapshot.pods[key]),
                _ => None,
            };
            match pod {
                None => decisions.push(evaluator.verdict(&flow).decision),
                Some(pod) if instances(pod) > 1 => {
                    let half = |direction| evaluator.half(direction, &flow).decision;
                    decisions.push(half(Direction::Egress).and(half(Direction::Ingress)));
                }
                Some(_) => itself.push(Decision::Allowed),
            }
        }
    }
    if decisions.is_empty() { itself } else { decisions }
}

/// Whether an address is nobody's in the cluster.
fn is_outside(evaluator: &Evaluator<'_>, address: IpAddr) -> bool {
    evaluator.owners(address).is_empty() && evaluator.nodes_with(address).is_empty()
}

proptest! {
    #![proptest_config(config("reach", 96))]

    #[test]
    fn a_pair_may_exchange_what_evaluate_allows(snapshot in workloads(), drawn in draws(16, 12)) {
        let reach = Reach::new(&snapshot);
        let ends = ends(&snapshot);
        for family in Family::ALL {
            let samples = samples(&snapshot, family);
            for (from, to) in &drawn.pairs {
                let (from, to) = (from.get(&ends), to.get(&ends));
                if !speaks(&snapshot, from, family) || !speaks(&snapshot, to, family) {
                    continue;
                }
                let connections = reach.pair(from, to, family);
                for traffic in drawn.traffic.iter().map(|index| *index.get(&samples)) {
                    let verdict = reach.because(from, to, family, traffic);
                    prop_assert_eq!(
                        connections.decision(traffic),
                        verdict.decision,
                        "{} to {}: {} in {}, {}", from, to, traffic, connections, family
                    );
                    prop_assert_eq!(
                        connections.undefined().on(traffic),
                        verdict.rulings,
                        "{} to {}: {} rests on, {}", from, to, traffic, family
                    );
                }
            }
        }
    }

    #[test]
    fn a_group_may_exchange_what_its_pairs_may(snapshot in workloads(), drawn in draws(8, 6)) {
        let reach = Reach::new(&snapshot);
        let evaluator = Evaluator::new(&snapshot);
        for level in [Level::Pod, Level::Workload, Level::Namespace] {
            let mut parties = reach.parties(level);
            parties.extend(reach.outside());
            for (from, to) in &drawn.pairs {
                let (from, to) = (from.get(&parties), to.get(&parties));
                for family in Family::ALL {
                    let between = reach.between(from, to, family);
                    let samples = samples(&snapshot, family);
                    for traffic in drawn.traffic.iter().map(|index| *index.get(&samples)) {
                        let decisions =
                            decisions(&snapshot, &evaluator, (from, to), family, traffic);
                        let some = |wanted| decisions.contains(&wanted);
                        let all = !decisions.is_empty()
                            && decisions.iter().all(|d| *d == Decision::Allowed);
                        prop_assert_eq!(
                            [&between.all, &between.some, &between.unknown]
                                .map(|set| set.contains(traffic)),
                            [all, some(Decision::Allowed), some(Decision::Unknown)],
                            "{} to {}: {} in {:?}, {}", from, to, traffic, between, family
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn folded_pods_are_alike_towards_everybody_but_their_nodes(snapshot in workloads()) {
        let reach = Reach::new(&snapshot);
        // To packets a pod with the address of a node is that node.
        let is_a_node = |end: &End| match end {
            End::Pod(key) => {
                let addresses = snapshot.pods[key].addresses;
                addresses.iter().any(|a| !reach.evaluator().nodes_with(a).is_empty())
            }
            End::Node(_) | End::Address(_) => false,
        };
        let others: Vec<End> = ends(&snapshot).into_iter().filter(|end| match end {
            End::Pod(key) => snapshot.pods[key].is_live() && !is_a_node(end),
            End::Node(_) => false,
            End::Address(address) => is_outside(reach.evaluator(), *address),
        }).collect();
        for party in reach.parties(Level::Workload) {
            for (a, b) in party.members.iter().zip(party.members.iter().skip(1)) {
                for (other, family) in others.iter().flat_map(|o| Family::ALL.map(|f| (o, f))) {
                    // Pods that share an address with the other are the same to packets.
                    let same = |end: &End| {
                        reach.because(end, other, family, Traffic::tcp(7)).egress.because
                            == Because::Itself
                    };
                    if same(a) || same(b) || is_a_node(a) || is_a_node(b) {
                        continue;
                    }
                    let of = |end| [reach.pair(end, other, family), reach.pair(other, end, family)];
                    prop_assert_eq!(of(a), of(b), "{} and {} with {}", a, b, other);
                }
            }
        }
    }

    #[test]
    fn an_address_outside_fares_as_the_one_that_stands_for_its_class(a in workloads(), b in workloads()) {
        let partition = Partition::of(&[&a, &b]);
        for snapshot in [&a, &b] {
            let reach = Reach::over(&partition, snapshot);
            for class in partition.world() {
                prop_assert!(class.contains(class.representative()));
                prop_assert!(is_outside(reach.evaluator(), class.representative()));
            }
            for address in known_addresses() {
                let free = [&a, &b].iter().all(|s| is_outside(&Evaluator::new(s), address));
                if !free {
                    continue;
                }
                let classes = partition.world().iter().filter(|class| class.contains(address));
                let of: Vec<End> =
                    classes.map(|class| End::Address(class.representative())).collect();
                prop_assert_eq!(of.len(), 1, "{} is of one class", address);
                let family = Family::of(address);
                for pod in snapshot.pods.keys().cloned().map(End::Pod) {
                    let (own, stands) = (End::Address(address), &of[0]);
                    prop_assert_eq!(reach.pair(&own, &pod, family), reach.pair(stands, &pod, family));
                    prop_assert_eq!(reach.pair(&pod, &own, family), reach.pair(&pod, stands, family));
                }
            }
        }
    }
}
