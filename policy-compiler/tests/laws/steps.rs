//! The engine: after every flush it holds what `compile` makes of the same objects, and on the way
//! there no step lets a packet through, or stops one, that neither the old nor the new state would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Namespace, Node, Phase, Pod, Snapshot};
use policy_compiler::compile::compile;
use policy_compiler::config::InterfaceName;
use policy_compiler::engine::Engine;
use policy_compiler::flow::Traffic;
use policy_compiler::labels::Labels;
use policy_compiler::packet::{ConnState, Packet, Path};
use policy_compiler::policy::{Direction, Policy, Rule};
use policy_compiler::ruleset::{FamilyRules, Generation, Match, Ruleset, SetName, SetRole};
use policy_compiler::simulate::{self, DEFAULT_BRIDGE, Outcome, simulate_half};
use policy_compiler::update::{Event, Step};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::cluster::{cluster, known_addresses, namespace, node, pod, pod_labels, policy, rule};
use crate::config;
use crate::flows::{Options, family, options, ports_spoken_of, traffic};

/// Something that happens, before the objects that it happens to are known.
#[derive(Clone, Debug)]
enum Change {
    Pod(Pod),
    PodGone(Index),
    Relabelled(Index, Labels),
    /// The first pod ends, or vanishes, and the second has its addresses.
    Inherits(Index, Index, bool),
    Policy(Policy),
    PolicyGone(Index),
    /// A rule of a policy is another now.
    RuleEdited(Index, Index, Rule),
    /// A policy selects what another one selects.
    SelectorTaken(Index, Index),
    Namespace(Namespace),
    NamespaceGone(Index),
    Node(Node),
    NodeGone(Index),
    Relisted(Snapshot),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        4 => pod().prop_map(Change::Pod),
        3 => index().prop_map(Change::PodGone),
        6 => (index(), pod_labels()).prop_map(|(pod, labels)| Change::Relabelled(pod, labels)),
        3 => (index(), index(), any::<bool>())
            .prop_map(|(from, to, ends)| Change::Inherits(from, to, ends)),
        3 => policy().prop_map(Change::Policy),
        2 => index().prop_map(Change::PolicyGone),
        4 => (index(), index(), rule())
            .prop_map(|(policy, place, rule)| Change::RuleEdited(policy, place, rule)),
        2 => (index(), index()).prop_map(|(to, from)| Change::SelectorTaken(to, from)),
        2 => namespace().prop_map(Change::Namespace),
        1 => index().prop_map(Change::NamespaceGone),
        1 => node().prop_map(Change::Node),
        1 => index().prop_map(Change::NodeGone),
        1 => cluster().prop_map(Change::Relisted),
    ]
}

fn nth<K, V>(map: &BTreeMap<K, V>, index: Index) -> Option<(&K, &V)> {
    map.iter().nth(index.index(map.len().max(1)))
}

impl Change {
    /// The events that it is, given what there is.
    fn events(&self, now: &Snapshot) -> Vec<Event> {
        let applied = |pod: Pod| Event::PodApplied(Box::new(pod));
        let found: Option<Vec<Event>> = match self {
            Change::Pod(pod) => Some(vec![applied(pod.clone())]),
            Change::PodGone(index) => {
                nth(&now.pods, *index).map(|(key, _)| vec![Event::PodDeleted(key.clone())])
            }
            Change::Relabelled(index, labels) => nth(&now.pods, *index)
                .map(|(_, pod)| vec![applied(Pod { labels: labels.clone(), ..pod.clone() })]),
            Change::Inherits(from, to, ends) => {
                nth(&now.pods, *from).zip(nth(&now.pods, *to)).map(|((key, from), (_, to))| {
                    let leaves = if *ends {
                        applied(Pod { phase: Phase::Finished, ..from.clone() })
                    } else {
                        Event::PodDeleted(key.clone())
                    };
                    let heir = Pod { addresses: from.addresses, ..to.clone() };
                    if from.key == to.key || from.host_network || to.host_network {
                        Vec::new()
                    } else {
                        vec![leaves, applied(heir)]
                    }
                })
            }
            Change::Policy(policy) => Some(vec![Event::PolicyApplied(Box::new(policy.clone()))]),
            Change::PolicyGone(index) => {
                nth(&now.policies, *index).map(|(key, _)| vec![Event::PolicyDeleted(key.clone())])
            }
            Change::RuleEdited(index, place, rule) => {
                nth(&now.policies, *index).map(|(_, policy)| {
                    let mut policy = policy.clone();
                    for rules in [&mut policy.ingress, &mut policy.egress] {
                        if !rules.is_empty() {
                            let at = place.index(rules.len());
                            rules[at] = rule.clone();
                        }
                    }
                    vec![Event::PolicyApplied(Box::new(policy))]
                })
            }
            Change::SelectorTaken(to, from) => nth(&now.policies, *to)
                .zip(nth(&now.policies, *from))
                .map(|((_, to), (_, from))| {
                    let pod_selector = from.pod_selector.clone();
                    vec![Event::PolicyApplied(Box::new(Policy { pod_selector, ..to.clone() }))]
                }),
            Change::Namespace(namespace) => Some(vec![Event::NamespaceApplied(namespace.clone())]),
            Change::NamespaceGone(index) => nth(&now.namespaces, *index)
                .map(|(name, _)| vec![Event::NamespaceDeleted(name.clone())]),
            Change::Node(node) => Some(vec![Event::NodeApplied(node.clone())]),
            Change::NodeGone(index) => {
                nth(&now.nodes, *index).map(|(name, _)| vec![Event::NodeDeleted(name.clone())])
            }
            Change::Relisted(snapshot) => Some(vec![Event::Relisted(Box::new(snapshot.clone()))]),
        };
        found.unwrap_or_default()
    }
}

/// A packet before it is known which addresses are in use.
#[derive(Clone, Debug)]
struct Probe {
    from: Index,
    to: Index,
    anywhere: u8,
    family: Family,
    traffic: Traffic,
    /// Which of the ports that rules speak of to ask for instead.
    spoken_of: Option<Index>,
    syn: bool,
    bridged: bool,
    state: ConnState,
}

fn probe() -> impl Strategy<Value = Probe> {
    let state = prop_oneof![
        8 => Just(ConnState::New),
        1 => Just(ConnState::Untracked),
        1 => Just(ConnState::Established),
    ];
    let how = (0..10_u8, prop::bool::weighted(0.9), any::<bool>());
    let ends = (any::<Index>(), any::<Index>());
    let spoken_of = option::weighted(0.7, any::<Index>());
    (ends, how, family(), traffic(), spoken_of, state).prop_map(
        |((from, to), (anywhere, syn, bridged), family, traffic, spoken_of, state)| Probe {
            from,
            to,
            anywhere,
            family,
            traffic,
            spoken_of,
            syn,
            bridged,
            state,
        },
    )
}

impl Probe {
    /// The packet, mostly between addresses that some pod has.
    fn packet(&self, in_use: &BTreeSet<IpAddr>, ports: &[Traffic]) -> Packet {
        let known: Vec<IpAddr> = known_addresses();
        let pick = |index: &Index, anywhere: bool| {
            let pool: Vec<IpAddr> = if anywhere {
                known.iter().copied().filter(|a| Family::of(*a) == self.family).collect()
            } else {
                in_use.iter().copied().filter(|a| Family::of(*a) == self.family).collect()
            };
            if pool.is_empty() {
                *known.iter().find(|a| Family::of(**a) == self.family).unwrap()
            } else {
                *index.get(&pool)
            }
        };
        let source = pick(&self.from, self.anywhere == 0);
        let destination = pick(&self.to, self.anywhere == 1);
        let traffic = match self.spoken_of {
            Some(index) if !ports.is_empty() => *index.get(ports),
            _ => self.traffic,
        };
        let bridge = InterfaceName::new(DEFAULT_BRIDGE).unwrap();
        Packet {
            syn: self.syn,
            state: self.state,
            path: Path::Forwarded { from: self.bridged.then_some(bridge), bridged: self.bridged },
            ..Packet::opening(source, destination, traffic)
        }
    }
}

/// Whether a packet passes each half; a ruleset that the kernel would not take fails.
fn halves(ruleset: &Ruleset, packet: &Packet) -> [bool; 2] {
    Direction::ALL.map(|direction| match simulate_half(ruleset, direction, packet) {
        Outcome::Passes => true,
        Outcome::Denied { .. } => false,
        Outcome::Malformed { why } => panic!("{why}"),
    })
}

fn without_generation(name: &SetName) -> SetName {
    match &name.role {
        SetRole::Pods { hash, .. } => SetName {
            family: name.family,
            role: SetRole::Pods { hash: hash.clone(), generation: Generation(0) },
        },
        _ => name.clone(),
    }
}

/// A ruleset with every generation set to nought.
fn canonical(ruleset: &Ruleset) -> Ruleset {
    let family = |rules: &FamilyRules| {
        let mut rules = rules.clone();
        for rule in rules.chains.values_mut().flat_map(|chain| &mut chain.rules) {
            for condition in &mut rule.matches {
                if let Match::Set { set, .. } = condition {
                    *set = without_generation(set);
                }
            }
        }
        let sets: Vec<_> = std::mem::take(&mut rules.sets).into_iter().collect();
        for (name, set) in sets {
            let twin = rules.sets.insert(without_generation(&name), set);
            assert_eq!(twin, None, "two generations of {name} after a flush");
        }
        rules
    };
    Ruleset { v4: family(&ruleset.v4), v6: family(&ruleset.v6) }
}

/// The sets that chains refer to.
fn referred(ruleset: &Ruleset) -> BTreeSet<&SetName> {
    Family::ALL
        .into_iter()
        .flat_map(|family| ruleset.family(family).chains.values())
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.matches)
        .filter_map(|condition| match condition {
            Match::Set { set, .. } => Some(set),
            _ => None,
        })
        .collect()
}

/// Where a step stands in an update: what is needed first, what is no longer needed last.
fn place(step: &Step) -> u8 {
    match step {
        Step::CreateSets(_) => 0,
        Step::AddMembers(_) => 1,
        Step::ReplaceChains(_) => 2,
        Step::RemoveMembers(_) => 3,
        Step::DestroySets(_) => 4,
    }
}

/// The step as the kernel may do it: sets one after another.
fn pieces(step: &Step) -> Vec<Step> {
    match step {
        Step::AddMembers(sets) => sets
            .iter()
            .map(|(name, members)| Step::AddMembers([(name.clone(), members.clone())].into()))
            .collect(),
        Step::RemoveMembers(sets) => sets
            .iter()
            .map(|(name, members)| Step::RemoveMembers([(name.clone(), members.clone())].into()))
            .collect(),
        whole => vec![whole.clone()],
    }
}

/// What a step may not do to the kernel as it is, whatever packets come by.
fn assert_possible(kernel: &Ruleset, step: &Step, started: bool) {
    let referred = referred(kernel);
    match step {
        Step::CreateSets(sets) => {
            for (name, set) in sets {
                let same = kernel.family(name.family).sets.get(name) == Some(set);
                // A start finds the sets of names that carry no generation.
                let met = !started && matches!(name.role, SetRole::Isolated);
                assert!(same || met || !referred.contains(name), "{name} is in use");
                assert!(
                    same || met || !kernel.family(name.family).sets.contains_key(name),
                    "{name} exists"
                );
            }
        }
        Step::AddMembers(sets) | Step::RemoveMembers(sets) => {
            for name in sets.keys() {
                assert!(kernel.family(name.family).sets.contains_key(name), "no {name}");
                assert!(!matches!(name.role, SetRole::Networks { .. }), "{name} is edited");
            }
        }
        Step::DestroySets(names) => {
            for name in names {
                assert!(!referred.contains(name), "{name} is still in use");
                assert!(kernel.family(name.family).sets.contains_key(name), "no {name}");
            }
        }
        Step::ReplaceChains(_) => {}
    }
}

/// An engine and the kernel that it writes to.
struct Node1 {
    engine: Engine,
    kernel: Ruleset,
    options: Options,
    started: bool,
}

impl Node1 {
    /// A start over whatever `kernel` holds.
    fn over(kernel: Ruleset, options: &Options, start: Generation) -> Self {
        let engine = Engine::new(options.on("n1"), start);
        Self { engine, kernel, options: options.clone(), started: false }
    }

    fn flush(&mut self, probes: &[Probe]) {
        let before = self.kernel.clone();
        let update = self.engine.flush();
        let after = self.engine.ruleset().clone();
        let in_use: BTreeSet<IpAddr> = known_addresses()
            .into_iter()
            .filter(|address| {
                let mut pods = self.engine.snapshot().pods.values();
                pods.any(|pod| pod.addresses.iter().any(|own| own == *address))
            })
            .collect();
        let ports = ports_spoken_of(self.engine.snapshot());
        let packets: Vec<(Packet, [bool; 2], [bool; 2])> = probes
            .iter()
            .map(|probe| probe.packet(&in_use, &ports))
            .map(|packet| {
                let (old, new) = (halves(&before, &packet), halves(&after, &packet));
                (packet, old, new)
            })
            .collect();
        let order: Vec<u8> = update.steps.iter().map(place).collect();
        assert!(order.is_sorted(), "steps out of order: {order:?}");
        for step in update.steps.iter().flat_map(pieces) {
            assert_possible(&self.kernel, &step, self.started);
            self.kernel.carry_out(&step);
            assert_eq!(simulate::check(&self.kernel), Ok(()), "after {step:?}");
            for (packet, old, new) in &packets {
                let now = halves(&self.kernel, packet);
                for half in 0..2 {
                    assert!(
                        now[half] == old[half] || now[half] == new[half],
                        "{:?} of {packet:?}: {} before, {} in the end, {} after {step:#?}",
                        Direction::ALL[half],
                        old[half],
                        new[half],
                        now[half],
                    );
                }
            }
        }
        if !self.started {
            self.sweep();
        }
        self.started = true;
        assert_eq!(self.kernel, after, "the steps end elsewhere");
        let fresh = compile(self.engine.snapshot(), &self.options.on("n1"));
        assert_eq!(canonical(&after), canonical(&fresh.ruleset));
        assert_eq!(self.engine.diagnostics(), &fresh.diagnostics[..]);
        assert_eq!(self.engine.flush().steps, vec![], "a flush without a change");
    }

    /// What a start finds and does not want goes once the new rules stand.
    fn sweep(&mut self) {
        for family in Family::ALL {
            let wanted = self.engine.ruleset().family(family);
            let rules = self.kernel.family_mut(family);
            rules.chains.retain(|name, _| wanted.chains.contains_key(name));
            rules.sets.retain(|name, _| wanted.sets.contains_key(name));
            rules.hooks.retain(|hook, _| wanted.hooks.contains_key(hook));
        }
    }
}

/// A generation that a run which began at this one has never reached.
fn elsewhere(generation: u32) -> Generation {
    Generation((generation + Generation::LIMIT / 2) % Generation::LIMIT)
}

proptest! {
    #![proptest_config(config("steps", 3_000))]

    #[test]
    fn every_step_leaves_each_half_as_it_was_or_as_it_will_be(
        first in cluster(),
        rounds in vec(vec(change(), 1..6), 1..4),
        again in vec(change(), 0..4),
        options in options(),
        generation in 0..=Generation::LIMIT,
        probes in vec(probe(), 96),
    ) {
        let mut node = Node1::over(Ruleset::default(), &options, Generation(generation));
        node.engine.apply(Event::Relisted(Box::new(first)));
        node.flush(&probes);
        for round in &rounds {
            for change in round {
                for event in change.events(&node.engine.snapshot().clone()) {
                    node.engine.apply(event);
                }
            }
            node.flush(&probes);
        }
        // The next run finds what this one has left, and a cluster that has gone on meanwhile.
        let mut snapshot = node.engine.snapshot().clone();
        let mut next = Node1::over(node.kernel, &options, elsewhere(generation));
        for change in &again {
            let events = change.events(&snapshot);
            let mut world = Engine::new(options.on("n1"), Generation(0));
            world.apply(Event::Relisted(Box::new(snapshot)));
            for event in events {
                world.apply(event);
            }
            snapshot = world.snapshot().clone();
        }
        next.engine.apply(Event::Relisted(Box::new(snapshot)));
        next.flush(&probes);
    }
}
