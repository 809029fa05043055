//! Halves of verdicts, asked once for each class.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::evaluate::{Evaluator, Standing};
use crate::flow::{End, Flow, Traffic, Wire};
use crate::lookup::Lookup;
use crate::name::{NodeName, ObjectKey};
use crate::policy::{Direction, Grant, Ports};
use crate::verdict::{Because, Decision, Half, RuleTrace, Ruling};

use super::classes::{Aspect, Classes, Interned};
use super::connections::Connections;
use super::pieces::{Edges, Gathered};
use super::traffic::TrafficSet;
use super::undefined::Undefined;

/// An end in one family: its classes, and what no class tells.
#[derive(Clone, Debug)]
pub(super) struct Seat<'a> {
    pub(super) end: End,
    pub(super) family: Family,
    /// The class of its ingress and of its egress, and that as the other end.
    pub(super) class: SeatClass,
    /// Whom it is to others; its own node stands beside its class.
    pub(super) standing: Standing<'a>,
}

/// The classes of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SeatClass {
    pub(super) ingress: usize,
    pub(super) egress: usize,
    pub(super) profile: usize,
    /// The classes that it would have were each pod alone that may be meant, by number; none where these
    /// are all its own.
    pub(super) readings: Option<usize>,
}

impl SeatClass {
    fn subject(self, direction: Direction) -> usize {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

impl<'a> Seat<'a> {
    /// The pod that is judged there.
    fn subject(&self) -> Option<&'a ObjectKey> {
        self.standing.pods.first().map(|pod| &pod.key)
    }

    /// The node that it runs on.
    pub(super) fn node(&self) -> Option<&'a NodeName> {
        self.standing.pods.first()?.node.as_ref()
    }

    /// Whether it is the one pod with its address and nothing else.
    pub(super) fn is_alone(&self) -> bool {
        let own = |key: &ObjectKey| matches!(&self.end, End::Pod(end) if end == key);
        matches!(self.standing.pods.as_slice(), [only] if own(&only.key))
    }

    /// Whether more pods than the one that is judged stand there, and rulings choose between them.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.standing.pods.len() > 1 || self.standing.host_pod.is_some()
    }

    /// Every pod that may be meant.
    fn readings(&self) -> impl Iterator<Item = &'a Pod> {
        self.standing.pods.iter().copied().chain(self.standing.host_pod)
    }

    /// Whether both may be one and the same: then the wire has a say beside the policies.
    fn may_be(&self, other: &Seat<'_>) -> bool {
        let addresses = &self.standing.addresses;
        (self.subject().is_some() && self.subject() == other.subject())
            || (!addresses.is_empty() && *addresses == other.standing.addresses)
    }
}

/// What was asked already.
#[derive(Clone, Debug)]
pub(super) struct Halves<'a> {
    classes: Classes<'a>,
    /// By family, IPv4 first.
    seats: [Lookup<End, Rc<Seat<'a>>>; 2],
    connections: Interned<Connections>,
    /// By what ends would be that are not told apart.
    readings: Interned<Vec<[usize; 3]>>,
    /// By subject and profile.
    by_profile: Lookup<(usize, usize), usize>,
    /// By subject and what its policies see of the other end.
    by_aspect: Lookup<(usize, Aspect<'a>), usize>,
    both: Lookup<(usize, usize), usize>,
    /// How many flows the evaluator has judged for this.
    asked: usize,
}

impl<'a> Halves<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            classes: Classes::new(snapshot),
            seats: Default::default(),
            connections: Interned::default(),
            readings: Interned::default(),
            by_profile: Lookup::default(),
            by_aspect: Lookup::default(),
            both: Lookup::default(),
            asked: 0,
        }
    }

    /// How many flows the evaluator has been asked about.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// The seat of an end.
    pub(super) fn seat(
        &mut self,
        evaluator: &Evaluator<'a>,
        end: &End,
        family: Family,
    ) -> Rc<Seat<'a>> {
        let of_family = usize::from(family == Family::V6);
        if let Some(seat) = self.seats[of_family].get(end) {
            return Rc::clone(seat);
        }
        let standing = evaluator.standing(end, family);
        let [ingress, egress, profile] = self.class(evaluator, family, &standing);
        let pods = standing.pods.iter().copied().chain(standing.host_pod);
        let alone = pods.map(|pod| {
            let standing = Standing { pods: vec![pod], host_pod: None, ..standing.clone() };
            self.class(evaluator, family, &standing)
        });
        let alone: Vec<[usize; 3]> = alone.collect();
        let differ = alone.iter().any(|class| *class != [ingress, egress, profile]);
        let readings = differ.then(|| self.readings.number(alone));
        let class = SeatClass { ingress, egress, profile, readings };
        let seat = Rc::new(Seat { end: end.clone(), family, class, standing });
        self.seats[of_family].insert(end.clone(), Rc::clone(&seat));
        seat
    }

    /// The class of the ingress and of the egress of whoever stands there, and that as the other end.
    fn class(
        &mut self,
        evaluator: &Evaluator<'a>,
        family: Family,
        standing: &Standing<'a>,
    ) -> [usize; 3] {
        let mut subject = |direction| self.classes.subject(direction, family, standing, evaluator);
        let (ingress, egress) = (subject(Direction::Ingress), subject(Direction::Egress));
        [ingress, egress, self.classes.profile(standing)]
    }

    /// The connections of that number.
    pub(super) fn connections(&self, number: usize) -> &Connections {
        self.connections.get(number)
    }

    /// The number of `connections`.
    pub(super) fn number(&mut self, connections: Connections) -> usize {
        self.connections.number(connections)
    }

    /// What passes from one seat to another, by number. Ends that may be one and the same are asked
    /// about as they are, unless they are to be taken for two that are just alike.
    pub(super) fn pair(
        &mut self,
        evaluator: &Evaluator<'a>,
        from: &Seat<'a>,
        to: &Seat<'a>,
        different: bool,
    ) -> usize {
        if !different && from.may_be(to) {
            let traffic = Traffic::ping(from.family);
            self.asked += 1;
            let verdict = evaluator.verdict(&flow(&from.end, &to.end, from.family, traffic));
            if verdict.egress.because == Because::Itself {
                let itself = self.itself(evaluator, from, to);
                return self.connections.number(itself);
            }
        }
        let egress = self.half(evaluator, Direction::Egress, from, to);
        let ingress = self.half(evaluator, Direction::Ingress, to, from);
        if let Some(known) = self.both.get(&(egress, ingress)) {
            return *known;
        }
        let both = self.connections.get(egress).and(self.connections.get(ingress));
        let number = self.connections.number(both);
        self.both.insert((egress, ingress), number);
        number
    }

    /// What passes where both ends are one pod: everything. That two pods are one for their address is a
    /// choice, where policies would deny something.
    fn itself(&mut self, evaluator: &Evaluator<'a>, from: &Seat<'a>, to: &Seat<'a>) -> Connections {
        let asked = from.standing.asked.zip(to.standing.asked);
        if asked.is_none_or(|(from, to)| from == to) {
            return Connections::everything();
        }
        let egress = self.half(evaluator, Direction::Egress, from, to);
        let ingress = self.half(evaluator, Direction::Ingress, to, from);
        let policed = self.connections.get(egress).and(self.connections.get(ingress));
        let otherwise = policed.allowed().complement();
        let undefined = Undefined::of([Ruling::SharedAddress], &otherwise);
        Connections::everything().resting_on(undefined)
    }

    fn half(
        &mut self,
        evaluator: &Evaluator<'a>,
        direction: Direction,
        own: &Seat<'a>,
        other: &Seat<'a>,
    ) -> usize {
        // Of what a ruling chooses between, and between a pod and its own node, its class has no say.
        let ambiguous = own.is_ambiguous() || other.is_ambiguous();
        if ambiguous || own.node().is_some_and(|node| other.standing.nodes.contains(node)) {
            return self.ask(evaluator, direction, own, other);
        }
        let subject = own.class.subject(direction);
        let key = (subject, other.class.profile);
        if let Some(known) = self.by_profile.get(&key) {
            return *known;
        }
        let aspect = (subject, self.classes.aspect(subject, other.class.profile));
        let number = match self.by_aspect.get(&aspect) {
            Some(known) => *known,
            None => self.ask(evaluator, direction, own, other),
        };
        self.by_aspect.insert(aspect, number);
        self.by_profile.insert(key, number);
        number
    }

    fn ask(
        &mut self,
        evaluator: &Evaluator<'a>,
        direction: Direction,
        own: &Seat<'a>,
        other: &Seat<'a>,
    ) -> usize {
        let (connections, flows) = asked(evaluator, direction, own, other);
        self.asked += flows;
        self.connections.number(connections)
    }
}

/// What the policies of `own` say to all traffic with `other`, and how many flows were judged for it.
fn asked(
    evaluator: &Evaluator<'_>,
    direction: Direction,
    own: &Seat<'_>,
    other: &Seat<'_>,
) -> (Connections, usize) {
    let family = own.family;
    let resting = |traffic| {
        let (from, to) = match direction {
            Direction::Egress => (&own.end, &other.end),
            Direction::Ingress => (&other.end, &own.end),
        };
        evaluator.resting_half(direction, &flow(from, to, family, traffic))
    };
    let ambiguous = own.is_ambiguous() || other.is_ambiguous();
    let (probe, rulings) = resting(Traffic::ping(family));
    let policed = matches!(
        probe.because,
        Because::RuleAllows | Because::NoRuleAllows | Because::RuleMayAllow
    );
    // What is not for rules to say is so of all traffic.
    if !policed && !ambiguous {
        let connections = match probe.decision {
            Decision::Allowed => Connections::everything(),
            Decision::Denied | Decision::Unknown => Connections::nothing(),
        };
        return (connections, 1);
    }
    let edges = if ambiguous {
        Some(edges_of_all(evaluator, direction, own, other))
    } else {
        edges(evaluator, direction, &probe, own, other)
    };
    let Some(edges) = edges else {
        let portless = TrafficSet::new(Default::default(), true, true);
        return (Connections::nothing().resting_on(Undefined::of(rulings, &portless)), 1);
    };
    let pieces = edges.pieces();
    let flows = pieces.len() + 1;
    let mut allowed = Gathered::default();
    let mut unknown = Gathered::default();
    let mut undefined: BTreeMap<Ruling, Gathered> = BTreeMap::new();
    for part in pieces {
        let (half, rulings) = resting(part.representative(family));
        match half.decision {
            Decision::Allowed => allowed.add(part),
            Decision::Unknown => unknown.add(part),
            Decision::Denied => {}
        }
        for ruling in rulings {
            undefined.entry(ruling).or_default().add(part);
        }
    }
    let undefined = undefined.into_iter().fold(Undefined::default(), |all, (ruling, gathered)| {
        all.union(&Undefined::of([ruling], &gathered.set()))
    });
    (Connections::new(allowed.set(), &unknown.set()).resting_on(undefined), flows)
}

/// The edges of the ports of all rules that any pod has that may be meant.
fn edges_of_all(
    evaluator: &Evaluator<'_>,
    direction: Direction,
    own: &Seat<'_>,
    other: &Seat<'_>,
) -> Edges {
    let destinations: Vec<&Pod> = match direction {
        Direction::Ingress => own.readings().collect(),
        Direction::Egress => other.readings().collect(),
    };
    let mut edges = Edges::default();
    for policy in own.readings().flat_map(|pod| evaluator.selecting(pod, direction)) {
        for rule in policy.rules(direction) {
            if let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant {
                for port in ports {
                    edges.add(port, destinations.iter().copied());
                }
            }
        }
    }
    edges
}

/// The edges of the ports of all rules that mean the other end, or may; none where none does.
fn edges(
    evaluator: &Evaluator<'_>,
    direction: Direction,
    probe: &Half,
    own: &Seat<'_>,
    other: &Seat<'_>,
) -> Option<Edges> {
    let means = |rule: &&RuleTrace| {
        let peer = |trace: &crate::verdict::PeerTrace| trace.outcome.decision() != Decision::Denied;
        rule.invalid.is_none() && (rule.peers.is_empty() || rule.peers.iter().any(peer))
    };
    let destinations = match direction {
        Direction::Ingress => &own.standing.pods,
        Direction::Egress => &other.standing.pods,
    };
    let subject = own.standing.pods.first()?;
    let isolating = evaluator.isolating(subject, direction);
    let mut edges = Edges::default();
    let mut any = false;
    for (trace, policy) in probe.policies.iter().zip(isolating) {
        let rules = policy.rules(direction);
        let meaning = trace.rules.iter().filter(means);
        for rule in meaning.filter_map(|rule| rules.get(rule.index)) {
            any = true;
            if let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant {
                for port in ports {
                    edges.add(port, destinations.iter().copied());
                }
            }
        }
    }
    any.then_some(edges)
}

pub(super) fn flow(from: &End, to: &End, family: Family, traffic: Traffic) -> Flow {
    Flow { from: from.clone(), to: to.clone(), family, traffic, wire: Wire::Routed }
}
