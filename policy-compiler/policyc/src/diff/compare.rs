//! What differs between two snapshots: for every pair of classes of ends the exact sets of traffic that
//! open and close, each with its causes.
//!
//! Pairs of which nothing differs that a verdict depends on are passed over unasked; every other pair is
//! asked of [`Reach`] on both sides. Traffic of which the input does not tell on a side is neither open nor
//! closed: what may differ is kept apart.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::flow::{Flow, Traffic, Wire};
use policy_compiler::policy::{Grant, PortNumbers, Ports};
use policy_compiler::port::{PortRange, Protocol};
use policy_compiler::reach::{Connections, Part, Partition, Reach, TrafficSet};
use policy_compiler::verdict::Verdict;

use super::cause::{Cause, Scene, Side, Sides, lacks};
use super::ends::{self, Class, Same, Telling, TwoNamed};
use super::pair::Pairing;

/// What becomes of the connections between two ends because of one set of causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    /// Denied before, allowed now.
    pub(super) opened: TrafficSet,
    /// Allowed before, denied now.
    pub(super) closed: TrafficSet,
    /// Perhaps denied before and allowed now: the input does not tell of one side or both.
    pub(super) may_open: TrafficSet,
    /// Perhaps allowed before and denied now.
    pub(super) may_close: TrafficSet,
    /// Why.
    pub(super) causes: Vec<Cause>,
    /// Of which a verdict of either side rests on a choice that the specification leaves open.
    pub(super) undefined: TrafficSet,
}

/// A change between two classes, by their places among the classes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) families: BTreeSet<Family>,
    /// Whether the ends have another family in common, in which nothing of this changes.
    pub(super) partial: bool,
    pub(super) change: Change,
}

/// All changes between the classes of ends that both sides have.
pub(super) struct Compared<'a> {
    pub(super) classes: Vec<Class<'a>>,
    pub(super) rows: Vec<Row>,
}

/// Both snapshots, indexed.
pub(super) struct Comparer<'a> {
    pub(super) old: &'a Reach<'a>,
    pub(super) new: &'a Reach<'a>,
    pub(super) partition: &'a Partition<'a>,
    pub(super) families: &'a [Family],
}

impl<'a> Comparer<'a> {
    /// Compares what the pods of `pairing`, the nodes and the world may reach. `at` hears how many of how
    /// many classes have been asked about as sources.
    pub(super) fn compare(
        &self,
        pairing: &Pairing<'a>,
        keys: &'a BTreeSet<&'a str>,
        mut at: impl FnMut(usize, usize),
    ) -> Compared<'a> {
        let (before, after) = (self.old.snapshot(), self.new.snapshot());
        let old = Telling::new(before, self.old.evaluator(), self.partition, keys);
        let new = Telling::new(after, self.new.evaluator(), self.partition, keys);
        let classes = ends::classes(pairing, &old, &new, self.partition);
        let changed = ends::changed_policies(before, after);
        let same: Vec<Same> =
            classes.iter().map(|class| ends::same(class, &old, &new, &changed)).collect();
        let mut rows = Vec::new();
        for (i, (from, source)) in classes.iter().zip(&same).enumerate() {
            at(i, classes.len());
            for (j, (to, destination)) in classes.iter().zip(&same).enumerate() {
                let untouched = source.peer && source.egress;
                if untouched && destination.peer && destination.ingress {
                    continue;
                }
                if let Some((from, to)) = from.representatives(to, before, after) {
                    rows.extend(self.rows(i, j, &from, &to));
                }
            }
        }
        Compared { classes, rows }
    }

    /// The changes between two ends, families that agree as one.
    fn rows(&self, i: usize, j: usize, from: &TwoNamed, to: &TwoNamed) -> Vec<Row> {
        let mut changes: BTreeMap<Change, BTreeSet<Family>> = BTreeMap::new();
        let spoken = || self.families.iter().copied().filter(|f| self.speak(from, to, *f));
        for family in spoken() {
            for change in self.changes(from, to, family) {
                changes.entry(change).or_default().insert(family);
            }
        }
        let row = |(change, families): (Change, BTreeSet<Family>)| {
            let partial = families.len() < spoken().count();
            Row { from: i, to: j, families, partial, change }
        };
        changes.into_iter().map(row).collect()
    }

    /// Whether there can be packets of `family` on a side. Where an address is not known on one side, what
    /// the other speaks counts: that a template may get an address opens nothing.
    fn speak(&self, from: &TwoNamed, to: &TwoNamed, family: Family) -> bool {
        let known = |snapshot: &Snapshot, end: &policy_compiler::flow::End| match end {
            policy_compiler::flow::End::Pod(key) => {
                snapshot.pods.get(key).is_some_and(|pod| !pod.addresses.is_empty())
            }
            _ => true,
        };
        let (before, after) = (self.old.snapshot(), self.new.snapshot());
        let speaks = |end: &TwoNamed| {
            let (was, is) = (self.old.speaks(&end.old, family), self.new.speaks(&end.new, family));
            if known(before, &end.old) && known(after, &end.new) { was || is } else { was && is }
        };
        speaks(from) && speaks(to)
    }

    fn changes(&self, from: &TwoNamed, to: &TwoNamed, family: Family) -> Vec<Change> {
        let was = self.old.pair(&from.old, &to.old, family);
        let is = self.new.pair(&from.new, &to.new, family);
        if was == is && was.unknown().is_empty() {
            return Vec::new();
        }
        let sides = Sides {
            old: Side { snapshot: self.old.snapshot(), evaluator: self.old.evaluator() },
            new: Side { snapshot: self.new.snapshot(), evaluator: self.new.evaluator() },
        };
        let scene = sides.scene((&from.old, &to.old), (&from.new, &to.new));
        let mut by_cause: BTreeMap<Vec<Cause>, Change> = BTreeMap::new();
        let asked = Asked { comparer: self, from, to, family };
        for (kind, traffic) in asked.differences(&was, &is) {
            for piece in pieces(&traffic, &scene) {
                let sample = representative(piece, family);
                let causes = scene.causes(&asked.flow(sample, true));
                let change = by_cause.entry(causes).or_default();
                if asked.is_undefined(sample) {
                    change.undefined = change.undefined.union(&set_of(piece));
                }
                let set = match kind {
                    Kind::Opened => &mut change.opened,
                    Kind::Closed => &mut change.closed,
                    Kind::MayOpen => &mut change.may_open,
                    Kind::MayClose => &mut change.may_close,
                };
                *set = set.union(&set_of(piece));
            }
        }
        let made = |(causes, change)| Change { causes, ..change };
        by_cause.into_iter().map(made).collect()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Opened,
    Closed,
    MayOpen,
    MayClose,
}

/// Two ends in one family.
struct Asked<'c, 'a> {
    comparer: &'c Comparer<'a>,
    from: &'c TwoNamed,
    to: &'c TwoNamed,
    family: Family,
}

impl Asked<'_, '_> {
    fn differences(&self, was: &Connections, is: &Connections) -> [(Kind, TrafficSet); 4] {
        let opened = is.allowed().difference(&was.possible());
        let closed = was.allowed().difference(&is.possible());
        let both = was.unknown().intersection(is.unknown());
        let mut unsettled = Vec::new();
        for part in both.parts() {
            let sample = representative(part, self.family);
            if lacks(&self.verdict(sample, true)) != lacks(&self.verdict(sample, false)) {
                unsettled.push(part);
            }
        }
        let unsettled =
            unsettled.into_iter().fold(TrafficSet::nothing(), |set, part| set.union(&set_of(part)));
        let may = |one: &Connections, other: &Connections| {
            let new = one.unknown().difference(&other.possible());
            let settled = one.allowed().intersection(other.unknown());
            new.union(&settled).union(&unsettled)
        };
        [
            (Kind::Opened, opened),
            (Kind::Closed, closed),
            (Kind::MayOpen, may(is, was)),
            (Kind::MayClose, may(was, is)),
        ]
    }

    fn flow(&self, traffic: Traffic, old: bool) -> Flow {
        let name = |end: &TwoNamed| if old { end.old.clone() } else { end.new.clone() };
        Flow {
            from: name(self.from),
            to: name(self.to),
            family: self.family,
            traffic,
            wire: Wire::Routed,
        }
    }

    fn verdict(&self, traffic: Traffic, old: bool) -> Verdict {
        let side = if old { self.comparer.old } else { self.comparer.new };
        side.evaluator().verdict(&self.flow(traffic, old))
    }

    fn is_undefined(&self, traffic: Traffic) -> bool {
        [true, false].into_iter().any(|old| !self.verdict(traffic, old).rulings.is_empty())
    }
}

fn representative(part: Part, family: Family) -> Traffic {
    match part {
        Part::Ports(protocol, range) => Traffic::Port { protocol, port: range.first().get() },
        Part::Icmp => Traffic::ping(family),
        Part::Other => Traffic::Other { protocol: 47 },
    }
}

fn set_of(part: Part) -> TrafficSet {
    match part {
        Part::Ports(protocol, range) => TrafficSet::of_ports(protocol, range),
        Part::Icmp => TrafficSet::new(Default::default(), true, false),
        Part::Other => TrafficSet::new(Default::default(), false, true),
    }
}

/// `traffic` in pieces that nothing of `scene` tells apart.
fn pieces(traffic: &TrafficSet, scene: &Scene) -> Vec<Part> {
    let mut edges: BTreeSet<(Protocol, u32)> = BTreeSet::new();
    let mut cut = |protocol, range: PortRange| {
        edges.insert((protocol, u32::from(range.first().get())));
        edges.insert((protocol, u32::from(range.last().get()) + 1));
    };
    let rules = scene.policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    for rule in rules {
        let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant else { continue };
        for port in ports {
            if let PortNumbers::Range(range) = port.numbers {
                cut(port.protocol, range);
            }
        }
    }
    for port in scene.pods().flat_map(|pod| &pod.ports) {
        cut(port.protocol, PortRange::single(port.number));
    }
    let mut pieces = Vec::new();
    for part in traffic.parts() {
        let Part::Ports(protocol, range) = part else {
            pieces.push(part);
            continue;
        };
        let (first, last) = (range.first().get().into(), u32::from(range.last().get()));
        let within = edges.range((protocol, first + 1)..(protocol, last + 1)).map(|(_, at)| *at);
        let starts: Vec<u32> = std::iter::once(first).chain(within).collect();
        for (n, start) in starts.iter().enumerate() {
            let end = starts.get(n + 1).map_or(last, |next| next - 1);
            pieces.extend(ports(*start, end).map(|range| Part::Ports(protocol, range)));
        }
    }
    pieces
}

fn ports(first: u32, last: u32) -> Option<PortRange> {
    let port = |n: u32| u16::try_from(n).ok().and_then(std::num::NonZeroU16::new);
    PortRange::new(port(first)?, port(last)?)
}
