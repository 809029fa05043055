//! What may reach what, as exact sets of traffic.
//!
//! Everything here is `evaluate`'s own answer: whatever a [`Connections`] says to be allowed, denied or
//! unknown was answered by an [`Evaluator`] for one flow of each class of flows that no policy tells
//! apart. Classes are only ever too fine, never too coarse:
//!
//! * **Ports** are cut where a rule that means the other end, or a name that it asks for, begins or ends;
//!   one port of each piece is asked. Port 0, which nothing listens on, is in no set.
//! * **Addresses** outside the cluster are cut at every edge of an `ipBlock` and its excepts:
//!   [`WorldClass`].
//! * **Ends** are put into classes by which policies isolate them and by which peers mean them
//!   ([`classes`]), and each half of a verdict is asked once for a class and what its policies see of
//!   another ([`halves`]). Pods of a workload are folded where they are of one class: [`Party`].
//!
//! A pod to itself is always allowed, and so says nothing about the policies: groups are compared over
//! pairs of different pods ([`Between`]); the pods that one template is to make are different pods.
//!
//! Flows are routed ones, between ends that have the family in common; there is no way to fail. An end
//! that a snapshot lacks reaches nothing and nothing reaches it.
//!
//! ```text
//! let reach = Reach::new(&snapshot);
//! for from in reach.parties(Level::Workload) {
//!     for to in reach.parties(Level::Workload) {
//!         let between = reach.between(&from, &to, Family::V4);   // all, some, unknown
//!     }
//! }
//! ```
//!
//! To compare snapshots, build each over the same [`Partition`]: its classes of addresses are those
//! that no policy of any of them tells apart, and [`Partition::parties`] folds only pods that are alike
//! in each.
//!
//! Where a snapshot has no pods, [`Kinds`] makes up those that its policies speak of, and [`Bounds`] keeps
//! apart what is sure of them and what is not.

mod bounds;
mod classes;
mod connections;
mod group;
mod halves;
mod kinds;
mod party;
mod pieces;
mod traffic;
mod undefined;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::evaluate::Evaluator;
use crate::flow::{End, Traffic};
use crate::name::{NodeName, ObjectKey};
use crate::policy::{Direction, Rule};
use crate::verdict::Verdict;

use group::Cell;
use halves::{Halves, Seat, SeatClass};

pub use bounds::Bounds;
pub use connections::{Between, Connections, Met};
pub use group::Group;
pub use kinds::{KIND, Kinds, MOST};
pub use party::{Level, Party, Who, instances};
pub use traffic::{Part, PortSet, TrafficSet};
pub use undefined::Undefined;
pub use world::WorldClass;

/// The classes of addresses of one snapshot, or of several that are to be compared.
#[derive(Clone, Debug)]
pub struct Partition<'a> {
    snapshots: Vec<&'a Snapshot>,
    world: Arc<[WorldClass]>,
}

impl<'a> Partition<'a> {
    /// The classes that no policy of any of `snapshots` tells apart.
    #[must_use]
    pub fn of(snapshots: &[&'a Snapshot]) -> Self {
        Self { snapshots: snapshots.to_vec(), world: world::classes(snapshots).into() }
    }

    /// The classes of the addresses outside all snapshots: IPv4 first, the rest of each family last.
    #[must_use]
    pub fn world(&self) -> &[WorldClass] {
        &self.world
    }

    /// All of the world as one party; none where it has no address at all.
    #[must_use]
    pub fn outside(&self) -> Option<Party> {
        outside(&self.world)
    }

    /// Who is no pod: every node of any snapshot, then the world.
    #[must_use]
    pub fn strangers(&self) -> Vec<Party> {
        strangers(&self.snapshots, &self.world)
    }

    /// The live pods of all snapshots by `level`, folded only where they are alike in each; then every
    /// node of any; then the world.
    #[must_use]
    pub fn parties(&self, level: Level) -> Vec<Party> {
        let reaches: Vec<Reach<'_>> =
            self.snapshots.iter().map(|snapshot| Reach::over(self, snapshot)).collect();
        let class = |key: &ObjectKey| -> Vec<[Option<SeatClass>; 2]> {
            reaches.iter().map(|reach| reach.class(key)).collect()
        };
        let mut parties = party::pods(&self.snapshots, level, class);
        parties.extend(strangers(&self.snapshots, &self.world));
        parties
    }
}

/// Who is no pod: the nodes of all snapshots, then the world.
fn strangers(snapshots: &[&Snapshot], world: &[WorldClass]) -> Vec<Party> {
    let nodes: BTreeSet<&NodeName> = snapshots.iter().flat_map(|s| nodes(s)).collect();
    let nodes = nodes
        .into_iter()
        .map(|name| Party { who: Who::Node(name.clone()), members: vec![End::Node(name.clone())] });
    let classes = world.iter().map(|class| Party {
        who: Who::World(class.clone()),
        members: vec![End::Address(class.representative())],
    });
    nodes.chain(classes).collect()
}

fn outside(world: &[WorldClass]) -> Option<Party> {
    let members = world.iter().map(|class| End::Address(class.representative()));
    let members: Vec<End> = members.collect();
    (!members.is_empty()).then_some(Party { who: Who::Outside, members })
}

/// Every node that a snapshot mentions.
fn nodes(snapshot: &Snapshot) -> impl Iterator<Item = &NodeName> {
    let scheduled = snapshot.pods.values().filter_map(|pod| pod.node.as_ref());
    snapshot.nodes.keys().chain(scheduled)
}

/// Hears of pairs of ends: the number of what they may exchange, and how many they are.
type Telling<'t> = dyn FnMut(usize, u64) + 't;

/// A snapshot, ready to be asked for sets of traffic. What was asked once is remembered.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    snapshot: &'a Snapshot,
    evaluator: Evaluator<'a>,
    world: Arc<[WorldClass]>,
    taken: BTreeSet<IpAddr>,
    halves: RefCell<Halves<'a>>,
    /// What may pass where the snapshot does not tell all; of the same ends and addresses.
    possible: Option<Box<Reach<'a>>>,
}

impl<'a> Reach<'a> {
    /// What may reach what in `snapshot`.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self::over(&Partition::of(&[snapshot]), snapshot)
    }

    /// What may reach what in `snapshot`, which is one of those that `partition` is of.
    #[must_use]
    pub fn over(partition: &Partition<'_>, snapshot: &'a Snapshot) -> Self {
        let evaluator = Evaluator::new(snapshot);
        let taken = world::taken(snapshot, &evaluator);
        let world = Arc::clone(&partition.world);
        let halves = RefCell::new(Halves::new(snapshot));
        Self { snapshot, evaluator, world, taken, halves, possible: None }
    }

    /// The same, of which what `possible` allows besides is not told.
    #[must_use]
    fn bounded_by(self, possible: Reach<'a>) -> Self {
        Self { possible: Some(Box::new(possible)), ..self }
    }

    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// The live pods by `level`, folded where they are alike; then the nodes; then the world.
    #[must_use]
    pub fn parties(&self, level: Level) -> Vec<Party> {
        let snapshots = vec![self.snapshot];
        let class = |key: &ObjectKey| self.class(key);
        let mut parties = party::pods(&snapshots, level, class);
        parties.extend(strangers(&snapshots, &self.world));
        parties
    }

    /// Who is no pod: the nodes, then the world.
    #[must_use]
    pub fn strangers(&self) -> Vec<Party> {
        strangers(&[self.snapshot], &self.world)
    }

    /// The classes of the addresses outside: IPv4 first, the rest of each family last.
    #[must_use]
    pub fn world(&self) -> &[WorldClass] {
        &self.world
    }

    /// All of the world as one party; none where it has no address at all.
    #[must_use]
    pub fn outside(&self) -> Option<Party> {
        outside(&self.world)
    }

    /// The addresses that are some pod's or some node's: what [`WorldClass::prefixes`] leaves out.
    #[must_use]
    pub fn taken(&self) -> &BTreeSet<IpAddr> {
        &self.taken
    }

    /// Whether `end` is there and can have packets of `family`: it has an address of it, or none that is
    /// known at all.
    #[must_use]
    pub fn speaks(&self, end: &End, family: Family) -> bool {
        match end {
            End::Pod(key) => {
                self.snapshot.pods.get(key).is_some_and(|pod| {
                    pod.addresses.is_empty() || pod.addresses.of(family).is_some()
                })
            }
            End::Node(_) => true,
            End::Address(address) => Family::of(*address) == family,
        }
    }

    /// What becomes of all traffic from one end to another; nothing where they lack the family. A pod
    /// reaches itself.
    #[must_use]
    pub fn pair(&self, from: &End, to: &End, family: Family) -> Connections {
        if !self.speaks(from, family) || !self.speaks(to, family) {
            return Connections::nothing();
        }
        let number = self.number(&self.seat(from, family), &self.seat(to, family), false);
        self.halves.borrow().connections(number).clone()
    }

    /// The ends of `party` that have `family`, to be asked about many times.
    #[must_use]
    pub fn group(&self, party: &Party, family: Family) -> Group<'a> {
        let spoken = party.members.iter().filter(|end| self.speaks(end, family));
        let seats = spoken.map(|end| (self.seat(end, family), self.instances(end)));
        Group::new(family, seats)
    }

    /// What becomes of all traffic between two parties.
    #[must_use]
    pub fn between(&self, from: &Party, to: &Party, family: Family) -> Between {
        self.among(&self.group(from, family), &self.group(to, family))
    }

    /// What becomes of all traffic between two groups of one family; nothing where they differ in it.
    #[must_use]
    pub fn among(&self, from: &Group<'a>, to: &Group<'a>) -> Between {
        let mut between = Between::default();
        let itself = self.pairs(from, to, &mut |number, pairs| {
            between.add(self.halves.borrow().connections(number), pairs);
        });
        if itself && between.pairs == 0 {
            between.add(&Connections::everything(), 1);
            between.itself = true;
        }
        between
    }

    /// What decides what is said [`among`](Self::among) two groups, but for the number of pairs; for
    /// whoever asks about so many groups that a set for each two of them is too much.
    #[must_use]
    pub fn met(&self, from: &Group<'a>, to: &Group<'a>) -> Met {
        let mut met = Met::default();
        let itself = self.pairs(from, to, &mut |number, _| met.add(number));
        met.end(itself);
        met
    }

    /// Tells the numbers of what two groups may exchange, each with how many pairs may; says whether some
    /// end is in both.
    fn pairs(&self, from: &Group<'a>, to: &Group<'a>, tell: &mut Telling<'_>) -> bool {
        let mut itself = false;
        if from.family == to.family {
            for source in &from.cells {
                for destination in &to.cells {
                    itself |= if self.possible.is_some() || source.is_met_singly(destination) {
                        self.one_by_one(source, destination, tell)
                    } else {
                        self.all_alike(source, destination, tell)
                    };
                }
            }
        }
        itself
    }

    /// The number of what becomes of the traffic between two seats; what may pass besides is unknown.
    fn number(&self, from: &Seat<'a>, to: &Seat<'a>, different: bool) -> usize {
        let sure = self.halves.borrow_mut().pair(&self.evaluator, from, to, different);
        let Some(possible) = &self.possible else { return sure };
        let (from, to) = (possible.seat(&from.end, from.family), possible.seat(&to.end, to.family));
        let may = possible.number(&from, &to, different);
        let may = possible.halves.borrow().connections(may).possible();
        let mut halves = self.halves.borrow_mut();
        let sure = halves.connections(sure);
        let told = Connections::new(sure.allowed().clone(), &sure.unknown().union(&may));
        let told = told.resting_on(sure.undefined().clone());
        halves.number(told)
    }

    /// Tells of the pairs of two classes; says whether some end is in both.
    fn all_alike(&self, from: &Cell<'a>, to: &Cell<'a>, tell: &mut Telling<'_>) -> bool {
        let shared = from.shared(to);
        let themselves = shared.iter().fold(0_u64, |sum, instances| sum.saturating_add(*instances));
        let all = from.instances.saturating_mul(to.instances);
        let pairs = all.saturating_sub(themselves);
        if let (true, Some((source, _)), Some((destination, _))) =
            (pairs > 0, from.seats.first(), to.seats.first())
        {
            // Ends that are equal stand for two that are alike.
            tell(self.number(source, destination, true), pairs);
        }
        !shared.is_empty()
    }

    /// The same, end by end.
    fn one_by_one(&self, from: &Cell<'a>, to: &Cell<'a>, tell: &mut Telling<'_>) -> bool {
        let mut shared = false;
        for (source, m) in &from.seats {
            for (destination, n) in &to.seats {
                let equal = source.end == destination.end && self.is_pod(&source.end);
                shared |= equal;
                let pairs = if equal { n.saturating_mul(n - 1) } else { m.saturating_mul(*n) };
                if pairs > 0 {
                    tell(self.number(source, destination, equal), pairs);
                }
            }
        }
        shared
    }

    /// The verdict on one flow, with every reason.
    #[must_use]
    pub fn because(&self, from: &End, to: &End, family: Family, traffic: Traffic) -> Verdict {
        self.evaluator.verdict(&halves::flow(from, to, family, traffic))
    }

    /// The evaluator that everything here is asked of.
    #[must_use]
    pub fn evaluator(&self) -> &Evaluator<'a> {
        &self.evaluator
    }

    /// How many flows the evaluator has been asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.halves.borrow().asked()
    }

    fn seat(&self, end: &End, family: Family) -> Rc<Seat<'a>> {
        self.halves.borrow_mut().seat(&self.evaluator, end, family)
    }

    fn is_pod(&self, end: &End) -> bool {
        matches!(end, End::Pod(key) if self.snapshot.pods.get(key).is_some_and(Pod::is_live))
    }

    fn instances(&self, end: &End) -> u64 {
        match end {
            End::Pod(key) => self.snapshot.pods.get(key).map_or(1, |pod| instances(pod).into()),
            End::Node(_) | End::Address(_) => 1,
        }
    }

    /// The classes of a pod in each family; none where it lacks it.
    fn class(&self, key: &ObjectKey) -> [Option<SeatClass>; 2] {
        let end = End::Pod(key.clone());
        Family::ALL.map(|family| self.speaks(&end, family).then(|| self.seat(&end, family).class))
    }
}

/// Every rule that counts.
fn rules(snapshot: &Snapshot) -> impl Iterator<Item = &Rule> {
    let policies = snapshot.policies.values();
    policies.flat_map(|policy| Direction::ALL.into_iter().flat_map(|d| policy.rules(d)))
}

#[cfg(test)]
mod tests;
