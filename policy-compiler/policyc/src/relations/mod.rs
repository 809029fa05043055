//! What passes between all parties of an input, gathered once for every picture.
//!
//! A pod's own node always reaches it and is reached: that says nothing about the policies, so between a
//! node and pods only those on other nodes count. What passes is interned: pictures compare small
//! numbers.

mod reasons;

use std::collections::BTreeMap;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::flow::End;
use policy_compiler::name::NodeName;
use policy_compiler::policy::Direction;
use policy_compiler::reach::{Between, Group, Party, Reach, TrafficSet, Undefined, Who};

pub use reasons::Reason;

/// What passes from one party to another in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passing {
    /// What passes for every pair of ends.
    pub all: TrafficSet,
    /// What passes for one pair at least.
    pub some: TrafficSet,
    /// Of what the input does not tell for one pair at least.
    pub unknown: TrafficSet,
}

impl Passing {
    /// Whether nothing passes, and surely.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.some.is_empty() && self.unknown.is_empty()
    }

    /// `8080/TCP`, `53/UDP; in part 80/TCP`, `unknown: 5432/TCP`, `nothing`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        if !self.all.is_empty() {
            parts.push(self.all.to_string());
        }
        let partly = self.some.difference(&self.all);
        if !partly.is_empty() {
            parts.push(format!("in part {partly}"));
        }
        let unknown = self.unknown.difference(&self.all);
        if !unknown.is_empty() {
            parts.push(format!("unknown: {unknown}"));
        }
        if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
    }
}

impl From<Between> for Passing {
    fn from(between: Between) -> Self {
        Self { all: between.all, some: between.some, unknown: between.unknown }
    }
}

/// What passes in each family, IPv4 first, by number; none where the ends lack the family.
pub type Passed = [Option<usize>; 2];

/// The parties of an input and what passes between every two of them.
#[derive(Debug)]
pub struct Relations<'r, 'a> {
    reach: &'r Reach<'a>,
    /// The parties: pods, then nodes, then the world.
    pub parties: Vec<Party>,
    /// Which of them nobody isolates, in each direction.
    open: Vec<Open>,
    passings: Vec<Passing>,
    passed: Vec<Passed>,
    /// What of that rests on choices, each once; by numbers as what passes.
    undefined: Vec<Undefined>,
    resting: Vec<Passed>,
}

/// Whether no policy isolates any pod of a party. What is no pod is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// It takes whatever comes.
    pub ingress: bool,
    /// It may send whatever it wants.
    pub egress: bool,
}

impl<'r, 'a> Relations<'r, 'a> {
    /// What passes between `parties` in `families`; `step` is called before each with its number and how many
    /// there are.
    #[must_use]
    pub fn new(
        reach: &'r Reach<'a>,
        parties: Vec<Party>,
        families: &[Family],
        mut step: impl FnMut(usize, usize),
    ) -> Self {
        let open = parties.iter().map(|party| open(reach, party)).collect();
        let mut relations = Self {
            reach,
            parties,
            open,
            passings: Vec::new(),
            passed: Vec::new(),
            undefined: Vec::new(),
            resting: Vec::new(),
        };
        let groups: Vec<[Group<'a>; 2]> = relations
            .parties
            .iter()
            .map(|party| Family::ALL.map(|family| reach.group(party, family)))
            .collect();
        let mut known: BTreeMap<Passing, usize> = BTreeMap::new();
        let mut choices: BTreeMap<Undefined, usize> = BTreeMap::new();
        for (n, from) in relations.parties.iter().enumerate() {
            step(n, relations.parties.len());
            for (m, to) in relations.parties.iter().enumerate() {
                let (mut passed, mut resting): (Passed, Passed) = ([None; 2], [None; 2]);
                for (f, family) in Family::ALL.into_iter().enumerate() {
                    if !families.contains(&family) {
                        continue;
                    }
                    let among =
                        || Some(reach.among(groups.get(n)?.get(f)?, groups.get(m)?.get(f)?));
                    let between = if is_node(from) || is_node(to) {
                        elsewhere(reach, from, to, family)
                    } else {
                        among()
                    };
                    let told = between.filter(|between| between.pairs > 0 && !between.itself);
                    let places = passed.get_mut(f).zip(resting.get_mut(f));
                    if let (Some(told), Some((passed, resting))) = (told, places) {
                        let possible = told.some.union(&told.unknown);
                        let next = choices.len();
                        let undefined = told.undefined.within(&possible);
                        *resting = Some(*choices.entry(undefined).or_insert(next));
                        let next = known.len();
                        *passed = Some(*known.entry(told.into()).or_insert(next));
                    }
                }
                relations.passed.push(passed);
                relations.resting.push(resting);
            }
        }
        relations.passings = by_number(known);
        relations.undefined = by_number(choices);
        relations
    }

    /// What of what passes from the party of one number to that of another rests on choices that the
    /// specification leaves open.
    #[must_use]
    pub fn undefined(&self, from: usize, to: usize) -> Undefined {
        let at = from * self.parties.len() + to;
        let numbers = self.resting.get(at).into_iter().flatten().flatten();
        let resting = numbers.filter_map(|number| self.undefined.get(*number));
        resting.fold(Undefined::default(), |all, one| all.union(one))
    }

    /// What is asked.
    #[must_use]
    pub fn snapshot(&self) -> &'a Snapshot {
        self.reach.snapshot()
    }

    /// What passes from the party of one number to that of another.
    #[must_use]
    pub fn passed(&self, from: usize, to: usize) -> Passed {
        let at = from * self.parties.len() + to;
        self.passed.get(at).copied().unwrap_or_default()
    }

    /// Whether nobody isolates the party of this number.
    #[must_use]
    pub fn open(&self, party: usize) -> Open {
        self.open.get(party).copied().unwrap_or(Open { ingress: true, egress: true })
    }

    /// Whether anything passes, or may.
    #[must_use]
    pub fn is_any(&self, passed: Passed) -> bool {
        let any = |n: usize| self.passings.get(n).is_some_and(|passing| !passing.is_empty());
        passed.into_iter().flatten().any(any)
    }

    /// What passes, in words: `8080/TCP`, or by family where they differ.
    #[must_use]
    pub fn text(&self, passed: Passed) -> String {
        match passed.map(|n| n.and_then(|n| self.passings.get(n))) {
            [Some(v4), Some(v6)] if v4 == v6 => v4.text(),
            [Some(v4), Some(v6)] if v6.is_empty() => format!("{} (IPv4 only)", v4.text()),
            [Some(v4), Some(v6)] if v4.is_empty() => format!("{} (IPv6 only)", v6.text()),
            [Some(v4), Some(v6)] => format!("IPv4: {} · IPv6: {}", v4.text(), v6.text()),
            [Some(only), None] | [None, Some(only)] => only.text(),
            [None, None] => "no family in common".to_owned(),
        }
    }

    /// Whether these are a pod and the node that it runs on.
    fn are_at_home(&self, a: &End, b: &End) -> bool {
        match (a, b) {
            (End::Node(node), end) | (end, End::Node(node)) => is_on(self.reach, end, node),
            _ => false,
        }
    }

    /// What passes in each family, for those that ask of one.
    #[must_use]
    pub fn passing(&self, number: usize) -> Option<&Passing> {
        self.passings.get(number)
    }
}

/// What is known by number, in that order.
fn by_number<T>(known: BTreeMap<T, usize>) -> Vec<T> {
    let mut known: Vec<(usize, T)> = known.into_iter().map(|(one, number)| (number, one)).collect();
    known.sort_unstable_by_key(|(number, _)| *number);
    known.into_iter().map(|(_, one)| one).collect()
}

fn is_node(party: &Party) -> bool {
    matches!(party.who, Who::Node(_))
}

/// What passes between a node and the pods that run on others; none where there are none.
fn elsewhere(reach: &Reach<'_>, from: &Party, to: &Party, family: Family) -> Option<Between> {
    let without = |party: &Party, other: &Party| {
        let Who::Node(node) = &other.who else { return Some(party.clone()) };
        let members: Vec<End> =
            party.members.iter().filter(|end| !is_on(reach, end, node)).cloned().collect();
        (!members.is_empty()).then(|| Party { who: party.who.clone(), members })
    };
    Some(reach.between(&without(from, to)?, &without(to, from)?, family))
}

fn is_on(reach: &Reach<'_>, end: &End, node: &NodeName) -> bool {
    match end {
        End::Pod(key) => {
            let pod = reach.snapshot().pods.get(key);
            pod.is_some_and(|pod| pod.node.as_ref() == Some(node))
        }
        End::Node(name) => name == node,
        End::Address(_) => false,
    }
}

fn open(reach: &Reach<'_>, party: &Party) -> Open {
    let isolated = |direction| {
        party.members.iter().any(|end| match end {
            End::Pod(key) => {
                let pod = reach.snapshot().pods.get(key);
                pod.is_some_and(|pod| !reach.evaluator().isolating(pod, direction).is_empty())
            }
            End::Node(_) | End::Address(_) => false,
        })
    };
    Open { ingress: !isolated(Direction::Ingress), egress: !isolated(Direction::Egress) }
}
