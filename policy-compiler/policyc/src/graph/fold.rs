//! Which connections are drawn, and how many arrows become one.
//!
//! * Where neither end is isolated for a connection, no policy has anything to do with it: it is not
//!   drawn, and the ends say themselves that they are open.
//! * Arrows of one traffic from all of a namespace, from every pod, or from anybody at all to one end
//!   become one arrow from a node that says so; likewise arrows to all of a namespace or to every pod.
//!
//! Nothing is lost: an arrow from "every pod of shop" says the same as one from each of them, except
//! that none leads from a pod to itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::relations::{Passed, Relations};

use super::ends::Ends;

/// One end of an arrow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tip {
    /// One that is drawn, by its number in [`Ends`].
    One(usize),
    /// Every pod of the namespace of this number.
    Namespace(usize),
    /// Every pod.
    Pods,
    /// Every pod, every node and every address.
    Anyone,
}

/// An arrow: traffic that passes from one end to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    /// Whence.
    pub from: Tip,
    /// Whither.
    pub to: Tip,
    /// What passes.
    pub passed: Passed,
    /// The pairs of ends that it stands for.
    pub pairs: BTreeSet<(usize, usize)>,
}

/// Ends by namespace: the number of each pod's namespace; none for what is no pod.
pub(super) type Namespaces = Vec<Option<usize>>;

/// A namespace of fewer pods (or workloads) is never folded: the arrow from "every pod of it" would say
/// less than one from its only pod.
const FEWEST: usize = 2;

/// The arrows of a picture, in order.
#[must_use]
pub(super) fn arrows(
    relations: &Relations<'_, '_>,
    ends: &Ends,
    namespaces: &Namespaces,
) -> Vec<Arrow> {
    let drawn = told(relations, ends);
    let crowd = Crowd { ends, namespaces };
    let by_source = folded(drawn, &crowd, Side::From);
    let mut arrows = folded(by_source, &crowd, Side::To);
    arrows.sort();
    arrows
}

/// An arrow for each pair with which policies have to do.
fn told(relations: &Relations<'_, '_>, ends: &Ends) -> Vec<Arrow> {
    let open = |end: usize| {
        let party = ends.drawn.get(end).and_then(|drawn| drawn.parties.first());
        relations.open(party.copied().unwrap_or_default())
    };
    let mut arrows = Vec::new();
    for from in 0..ends.drawn.len() {
        for to in 0..ends.drawn.len() {
            let passed = ends.passed(from, to);
            let implied = open(from).egress && open(to).ingress;
            if !implied && relations.is_any(passed) {
                let (from, to, pairs) = (Tip::One(from), Tip::One(to), [(from, to)].into());
                arrows.push(Arrow { from, to, passed, pairs });
            }
        }
    }
    arrows
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

/// `arrows` with those that leave (or reach) all of a group as one.
fn folded(arrows: Vec<Arrow>, crowd: &Crowd<'_>, side: Side) -> Vec<Arrow> {
    let mut alike: BTreeMap<(Tip, Passed), Vec<Arrow>> = BTreeMap::new();
    for arrow in arrows {
        let fixed = if side == Side::From { &arrow.to } else { &arrow.from };
        alike.entry((fixed.clone(), said(arrow.passed))).or_default().push(arrow);
    }
    let mut left = Vec::new();
    for ((fixed, _), arrows) in alike {
        let mut bundle = Bundle { crowd, fixed, arrows, side };
        bundle.all();
        bundle.by_namespace();
        left.append(&mut bundle.arrows);
    }
    left
}

/// What is said of both families: a family that the ends lack says nothing else than the other.
fn said(passed: Passed) -> Passed {
    [passed[0].or(passed[1]), passed[1].or(passed[0])]
}

/// All who are drawn, and their namespaces.
struct Crowd<'n> {
    ends: &'n Ends,
    namespaces: &'n Namespaces,
}

/// Arrows of one traffic that have one tip in common.
struct Bundle<'n> {
    crowd: &'n Crowd<'n>,
    fixed: Tip,
    arrows: Vec<Arrow>,
    side: Side,
}

impl Bundle<'_> {
    /// Folds those of anybody, or of every pod.
    fn all(&mut self) {
        let everyone: BTreeSet<usize> = (0..self.crowd.namespaces.len()).collect();
        let pods: BTreeSet<usize> =
            everyone.iter().copied().filter(|end| self.namespace(*end).is_some()).collect();
        if pods.len() <= FEWEST {
            return;
        }
        if everyone.len() > pods.len() && self.has(&everyone) {
            self.fold(&everyone, Tip::Anyone);
        } else if self.has(&pods) {
            self.fold(&pods, Tip::Pods);
        }
    }

    /// Folds those of all of a namespace.
    fn by_namespace(&mut self) {
        let mut members: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (end, namespace) in self.crowd.namespaces.iter().enumerate() {
            if let Some(namespace) = namespace {
                members.entry(*namespace).or_default().insert(end);
            }
        }
        for (namespace, members) in members {
            if members.len() >= FEWEST && self.has(&members) {
                self.fold(&members, Tip::Namespace(namespace));
            }
        }
    }

    fn namespace(&self, end: usize) -> Option<usize> {
        self.crowd.namespaces.get(end).copied().flatten()
    }

    fn moving<'a>(&self, arrow: &'a Arrow) -> &'a Tip {
        if self.side == Side::From { &arrow.from } else { &arrow.to }
    }

    /// Whether there is an arrow of each of `members` (but of those that have nothing to do
    /// with the tip in common), and more than one.
    fn has(&self, members: &BTreeSet<usize>) -> bool {
        let there: BTreeSet<usize> = self
            .arrows
            .iter()
            .filter_map(|arrow| match self.moving(arrow) {
                Tip::One(end) => Some(*end),
                _ => None,
            })
            .collect();
        let wanted: Vec<&usize> = members.iter().filter(|end| !self.excused(**end)).collect();
        wanted.len() >= FEWEST && wanted.iter().all(|end| there.contains(end))
    }

    /// Whether there is nothing between `end` and the tip in common: they are one, a pod and its own node,
    /// or ends without a family in common.
    fn excused(&self, end: usize) -> bool {
        let Tip::One(fixed) = self.fixed else { return false };
        let (from, to) = if self.side == Side::From { (end, fixed) } else { (fixed, end) };
        fixed == end || self.crowd.ends.passed(from, to) == [None, None]
    }

    fn fold(&mut self, members: &BTreeSet<usize>, tip: Tip) {
        let (gone, left): (Vec<Arrow>, Vec<Arrow>) =
            std::mem::take(&mut self.arrows).into_iter().partition(
                |arrow| matches!(self.moving(arrow), Tip::One(end) if members.contains(end)),
            );
        self.arrows = left;
        let Some(first) = gone.first() else { return };
        let passed = first.passed;
        let pairs = gone.iter().flat_map(|arrow| arrow.pairs.iter().copied()).collect();
        let (from, to) = match self.side {
            Side::From => (tip, self.fixed.clone()),
            Side::To => (self.fixed.clone(), tip),
        };
        self.arrows.push(Arrow { from, to, passed, pairs });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use policy_compiler::cidr::Family;
    use policy_compiler::cluster::Snapshot;
    use policy_compiler::reach::{Level, Reach};
    use policy_manifest::input::{self, Options};

    use super::*;

    fn examples() -> Vec<(String, Snapshot)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .expect("there are examples")
            .map(|entry| entry.expect("it can be read").path())
            .collect();
        paths.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shop"));
        let options = Options::in_namespace("default").expect("a name");
        let read = |path: std::path::PathBuf| {
            let snapshot = input::read(std::slice::from_ref(&path), &options).snapshot;
            (path.display().to_string(), snapshot)
        };
        paths.into_iter().map(read).collect()
    }

    /// Whom a tip stands for, towards the other end of a pair.
    fn members(tip: &Tip, namespaces: &Namespaces) -> Vec<usize> {
        let among = |is: &dyn Fn(usize, Option<usize>) -> bool| {
            let all = namespaces.iter().enumerate();
            all.filter(|(end, namespace)| is(*end, **namespace)).map(|(end, _)| end).collect()
        };
        match tip {
            Tip::One(one) => among(&|end, _| end == *one),
            Tip::Namespace(n) => among(&|_, namespace| namespace == Some(*n)),
            Tip::Pods => among(&|_, namespace| namespace.is_some()),
            Tip::Anyone => among(&|_, _| true),
        }
    }

    #[test]
    fn folded_arrows_say_what_each_pair_alone_would_no_more_and_no_less() {
        let mut folds = 0;
        for (name, snapshot) in examples() {
            for level in [Level::Pod, Level::Workload] {
                let reach = Reach::new(&snapshot);
                let relations =
                    Relations::new(&reach, reach.parties(level), &Family::ALL, |_, _| {});
                let ends = Ends::of(&relations);
                let mut names: Vec<_> =
                    relations.parties.iter().map(|p| p.who.namespace()).collect();
                names.sort();
                names.dedup();
                let namespaces: Namespaces = ends
                    .drawn
                    .iter()
                    .map(|drawn| relations.parties[drawn.parties[0]].who.namespace())
                    .map(|own| own.and_then(|own| names.iter().position(|n| *n == Some(own))))
                    .collect();
                let mut alone: BTreeMap<(usize, usize), Passed> = BTreeMap::new();
                for arrow in told(&relations, &ends) {
                    alone.extend(arrow.pairs.iter().map(|pair| (*pair, arrow.passed)));
                }
                let mut shown: BTreeMap<(usize, usize), Passed> = BTreeMap::new();
                for arrow in arrows(&relations, &ends, &namespaces) {
                    folds += usize::from(arrow.pairs.len() > 1);
                    for from in members(&arrow.from, &namespaces) {
                        for to in members(&arrow.to, &namespaces) {
                            // Of a pod and itself, and of ends with no family in common, nothing is said.
                            if from != to && ends.passed(from, to) != [None, None] {
                                let before = shown.insert((from, to), said(arrow.passed));
                                assert_eq!(before, None, "{name}: {from} to {to} is told twice");
                            }
                        }
                    }
                }
                let alone: BTreeMap<_, _> = alone
                    .into_iter()
                    .filter(|((from, to), _)| from != to)
                    .map(|(pair, passed)| (pair, said(passed)))
                    .collect();
                assert_eq!(shown, alone, "{name} by {level:?}");
            }
        }
        assert!(folds > 5, "only {folds} arrows were folded");
    }
}
