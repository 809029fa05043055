//! The engine: after every flush it holds what `compile` makes of the same objects, and on the way
//! there no step lets a packet through, or stops one, that neither the old nor the new state would,
//! however often members go ahead of the chains meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, PodNetworks};
use policy_compiler::engine::Engine;
use policy_compiler::flow::Traffic;
use policy_compiler::packet::{ConnState, Packet, Path};
use policy_compiler::policy::Direction;
use policy_compiler::ruleset::{
    AddressSet, FamilyRules, Generation, Match, MemberSet, Ruleset, SetName, SetRole,
};
use policy_compiler::simulate::{self, DEFAULT_BRIDGE, Outcome, simulate_half};
use policy_compiler::update::{Event, Reach, Step, Update};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::cluster::{cluster, known_addresses, node_name};
use crate::config;
use crate::flows::{Options, family, options, pod_networks, ports_spoken_of, traffic};
use crate::history::{Change, change, happen};

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
    Direction::ALL.map(|direction| match simulate_half(ruleset, direction, packet).outcome {
        Outcome::Passes => true,
        Outcome::Denied { .. } => false,
        Outcome::Malformed { why } => panic!("{why}"),
    })
}

fn without_generation(name: &SetName) -> SetName {
    name.in_generation(Generation(0))
}

/// A ruleset with every generation set to nought.
fn canonical(ruleset: &Ruleset) -> Ruleset {
    let family = |rules: &FamilyRules| {
        let mut rules = rules.clone();
        for chain in rules.chains.values_mut() {
            *chain = chain.with_sets_called(&without_generation);
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
        .filter_map(Match::set)
        .collect()
}

/// Where a step stands in an update: what is needed first, what is no longer needed last, and around
/// all but the sets that nothing refers to what closes or opens on its own.
fn place(step: &Step) -> u8 {
    let of_known = |sets: &BTreeMap<SetName, MemberSet>| {
        let known = sets.keys().filter(|name| matches!(name.role, SetRole::Known { .. })).count();
        assert!(known == 0 || known == sets.len(), "known addresses among others: {sets:?}");
        known > 0
    };
    match step {
        Step::CreateSets(_) => 0,
        Step::RemoveMembers(sets) if of_known(sets) => 1,
        Step::AddMembers(sets) if of_known(sets) => 5,
        Step::AddMembers(_) => 2,
        Step::ReplaceChains(_) => 3,
        Step::RemoveMembers(_) => 4,
        Step::DestroySets(_) => 6,
    }
}

fn assert_in_order(update: &Update) {
    let order: Vec<u8> = update.steps.iter().map(place).collect();
    assert!(order.is_sorted(), "steps out of order: {order:?}");
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

/// The steps as a start carries them out, which finds sets whose names carry no generation: members
/// join those before the chains change, and leave them after.
fn over_what_is_found(kernel: &Ruleset, steps: &[Step]) -> Vec<Step> {
    let (mut done, mut leave) = (Vec::new(), BTreeMap::new());
    for step in steps {
        let Step::CreateSets(sets) = step else {
            done.push(step.clone());
            continue;
        };
        let (mut create, mut join) = (sets.clone(), BTreeMap::new());
        for (name, wanted) in sets.iter().filter(|(name, _)| name.role == SetRole::Isolated) {
            let Some(found) = kernel.family(name.family).sets.get(name) else { continue };
            create.remove(name);
            let less = |a: &AddressSet, b: &AddressSet| a.members.difference(&b.members);
            join.insert(name.clone(), less(wanted, found));
            leave.insert(name.clone(), less(found, wanted));
        }
        done.extend([Step::CreateSets(create), Step::AddMembers(join)]);
    }
    done.push(Step::RemoveMembers(leave));
    done
}

/// What a step may not do to the kernel as it is, whatever packets come by.
fn assert_possible(kernel: &Ruleset, step: &Step) {
    let referred = referred(kernel);
    match step {
        Step::CreateSets(sets) => {
            for (name, set) in sets {
                let same = kernel.family(name.family).sets.get(name) == Some(set);
                assert!(same || !referred.contains(name), "{name} is in use");
                assert!(
                    same || !kernel.family(name.family).sets.contains_key(name),
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

/// About how many packets go between local pods and edited members in one update.
const AIMED: usize = 200;

/// The addresses that come into live sets or leave them.
fn edited(update: &Update) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for step in &update.steps {
        if let Step::AddMembers(sets) | Step::RemoveMembers(sets) = step {
            addresses.extend(sets.values().flat_map(MemberSet::addresses));
        }
    }
    addresses
}

/// An engine and the kernel that it writes to.
struct Node1 {
    engine: Engine,
    kernel: Ruleset,
    options: Options,
    /// The objects as they are.
    objects: Snapshot,
    /// The objects at the last flush.
    former: Snapshot,
    started: bool,
    /// How many events there were.
    applied: usize,
}

impl Node1 {
    /// A start over whatever `kernel` holds.
    fn over(kernel: Ruleset, options: &Options, start: Generation) -> Self {
        let engine = Engine::new(options.on("n1"), start);
        let (objects, former) = (Snapshot::default(), Snapshot::default());
        Self {
            engine,
            kernel,
            options: options.clone(),
            objects,
            former,
            started: false,
            applied: 0,
        }
    }

    /// The networks of the node's pods are others from now on.
    fn moves(&mut self, networks: &PodNetworks) {
        self.options.pod_networks.clone_from(networks);
        self.engine.set_config(self.options.on("n1"));
    }

    fn apply(&mut self, event: Event) {
        happen(&mut self.objects, event.clone());
        self.engine.apply(event);
        // A plan may be made at any time; what it says must not depend on that.
        self.applied += 1;
        if self.applied.is_multiple_of(3) {
            self.engine.pending();
        }
    }

    /// What of the members may go ahead of the rest.
    fn flush_members(&mut self, probes: &[Probe]) {
        let wanted = compile(&self.objects, &self.options.on("n1")).ruleset;
        let update = self.engine.flush_members();
        assert_in_order(&update);
        assert_eq!(update.reach().max(Reach::Members), Reach::Members, "{update:?}");
        self.carry_out(&update, &wanted, probes);
        assert_eq!(&self.kernel, self.engine.ruleset(), "the steps end elsewhere");
        assert_eq!(self.engine.flush_members().steps, vec![], "once more, without a change");
    }

    fn flush(&mut self, probes: &[Probe]) {
        let mut update = self.engine.flush();
        assert_in_order(&update);
        let after = self.engine.ruleset().clone();
        if !self.started {
            update.steps = over_what_is_found(&self.kernel, &update.steps);
        }
        self.carry_out(&update, &after, probes);
        if !self.started {
            self.sweep();
        }
        self.started = true;
        self.former = self.objects.clone();
        assert_eq!(self.kernel, after, "the steps end elsewhere");
        assert_eq!(self.engine.snapshot(), self.objects);
        let fresh = compile(&self.objects, &self.options.on("n1"));
        assert_eq!(canonical(&after), canonical(&fresh.ruleset));
        assert_eq!(self.engine.diagnostics(), &fresh.diagnostics[..]);
        assert_eq!(self.engine.flush().steps, vec![], "a flush without a change");
    }

    /// Asserts that no step on the way says of any packet what neither the kernel said before nor
    /// `wanted` says.
    fn carry_out(&mut self, update: &Update, wanted: &Ruleset, probes: &[Probe]) {
        let before = self.kernel.clone();
        let packets: Vec<(Packet, [bool; 2], [bool; 2])> = self
            .packets(probes, update)
            .into_iter()
            .map(|packet| {
                let (old, new) = (halves(&before, &packet), halves(wanted, &packet));
                (packet, old, new)
            })
            .collect();
        for step in update.steps.iter().flat_map(pieces) {
            assert_possible(&self.kernel, &step);
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
    }

    /// What to send: the probes, and everything between local pods and the addresses whose membership
    /// in a live set changes, on every port that a rule speaks of, as far as that is bearable.
    fn packets(&self, probes: &[Probe], update: &Update) -> Vec<Packet> {
        let snapshots = [&self.former, &self.objects];
        let pods = || snapshots.into_iter().flat_map(|snapshot| snapshot.pods.values());
        let in_use: BTreeSet<IpAddr> = pods().flat_map(|pod| pod.addresses.iter()).collect();
        let local: BTreeSet<IpAddr> = pods()
            .filter(|pod| pod.node == Some(node_name("n1")))
            .flat_map(|pod| pod.addresses.iter())
            .collect();
        let ports: Vec<Traffic> = snapshots.into_iter().flat_map(ports_spoken_of).collect();
        let mut aimed = Vec::new();
        for edited in edited(update) {
            for own in local.iter().filter(|own| Family::of(**own) == Family::of(edited)) {
                for port in &ports {
                    aimed.push(Packet::opening(*own, edited, *port));
                    aimed.push(Packet::opening(edited, *own, *port));
                }
            }
        }
        // Odd, so that both directions are met.
        let every = (aimed.len() / AIMED + 1) | 1;
        let drawn = probes.iter().map(|probe| probe.packet(&in_use, &ports));
        drawn.chain(aimed.into_iter().step_by(every)).collect()
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

/// A change, and whether members go ahead after it.
fn waiting_change() -> impl Strategy<Value = (Change, bool)> {
    (change(), prop::bool::weighted(0.3))
}

proptest! {
    #![proptest_config(config("steps", 3_000))]

    #[test]
    fn every_step_leaves_each_half_as_it_was_or_as_it_will_be(
        first in cluster(),
        rounds in vec((vec(waiting_change(), 1..6), option::weighted(0.2, pod_networks())), 1..4),
        again in vec(change(), 0..4),
        moved in option::weighted(0.3, pod_networks()),
        options in options(),
        generation in 0..=Generation::LIMIT,
        probes in vec(probe(), 64),
    ) {
        let mut node = Node1::over(Ruleset::default(), &options, Generation(generation));
        node.apply(Event::Relisted(Box::new(first)));
        node.flush(&probes);
        for (round, networks) in &rounds {
            for (change, goes_ahead) in round {
                for event in change.events(&node.objects) {
                    node.apply(event);
                }
                if *goes_ahead {
                    node.flush_members(&probes);
                }
            }
            if let Some(networks) = networks {
                node.moves(networks);
            }
            node.flush(&probes);
        }
        // The next run finds what this one has left, and a cluster that has gone on meanwhile.
        let mut options = node.options.clone();
        options.pod_networks = moved.unwrap_or(options.pod_networks);
        let mut next = Node1::over(node.kernel, &options, elsewhere(generation));
        let mut objects = node.objects;
        for change in &again {
            for event in change.events(&objects) {
                happen(&mut objects, event);
            }
        }
        next.apply(Event::Relisted(Box::new(objects)));
        next.flush(&probes);
    }
}
