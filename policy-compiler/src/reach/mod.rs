//! What may reach what, as exact sets of traffic.
//!
//! Everything here is `evaluate`'s own answer: whatever a [`Connections`] says to be allowed, denied or
//! unknown was answered by an [`Evaluator`] for one flow of each class of flows that no policy tells
//! apart. Classes are only ever too fine, never too coarse:
//!
//! * **Ports** are cut at every number at which a rule or a named port begins or ends; one port of each
//!   piece is asked. Port 0, which nothing listens on, is in no set.
//! * **Addresses** outside the cluster are cut at every edge of an `ipBlock` and its excepts:
//!   [`WorldClass`].
//! * **Pods** are folded by workload where they are alike in what they declare and in all that any
//!   selector asks of them: [`Party`].
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

mod connections;
mod party;
mod traffic;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::evaluate::Evaluator;
use crate::flow::{End, Flow, Traffic, Wire};
use crate::name::{NodeName, ObjectKey};
use crate::policy::{Direction, Grant, PeerSelects, Peers, PortNumbers, Ports, Rule};
use crate::port::{PortRange, Protocol};
use crate::selector::Selector;
use crate::verdict::{Decision, Verdict};

pub use connections::{Between, Connections};
pub use party::{Level, Party, Who, instances};
pub use traffic::{Part, PortSet, TrafficSet};
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

    /// The live pods of all snapshots by `level`, folded only where they are alike in each; then every
    /// node of any; then the world.
    #[must_use]
    pub fn parties(&self, level: Level) -> Vec<Party> {
        let reaches: Vec<Reach<'_>> =
            self.snapshots.iter().map(|snapshot| Reach::over(self, snapshot)).collect();
        let class = |key: &ObjectKey| -> Vec<Option<PodClass<'_>>> {
            reaches.iter().map(|reach| reach.class(key)).collect()
        };
        let mut parties = party::pods(&self.snapshots, level, class);
        let nodes: BTreeSet<&NodeName> = self.snapshots.iter().flat_map(|s| nodes(s)).collect();
        parties.extend(nodes.into_iter().map(|name| Party {
            who: Who::Node(name.clone()),
            members: vec![End::Node(name.clone())],
        }));
        parties.extend(self.world.iter().map(|class| Party {
            who: Who::World(class.clone()),
            members: vec![End::Address(class.representative())],
        }));
        parties
    }
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

/// A snapshot, ready to be asked for sets of traffic.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    snapshot: &'a Snapshot,
    evaluator: Evaluator<'a>,
    world: Arc<[WorldClass]>,
    taken: BTreeSet<IpAddr>,
    /// The label keys that pod selectors ask for.
    keys: BTreeSet<&'a str>,
    pieces: Vec<Piece>,
}

/// Traffic that no policy tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    part: Part,
}

impl Piece {
    fn representative(self, family: Family) -> Traffic {
        match self.part {
            Part::Ports(protocol, range) => Traffic::Port { protocol, port: range.first().get() },
            Part::Icmp => Traffic::ping(family),
            Part::Other => Traffic::Other { protocol: 47 },
        }
    }
}

/// What decides how a pod fares, beside its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PodClass<'a> {
    labels: Vec<(&'a str, &'a str)>,
    ports: &'a [crate::cluster::ContainerPort],
    /// The class of its address in each family; none where it has none.
    addresses: Vec<Option<usize>>,
    /// Whom else its addresses belong to, where it is not alone.
    shared: Option<&'a ObjectKey>,
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
        let keys = asked_keys(snapshot);
        Self { snapshot, evaluator, world, taken, keys, pieces: pieces(snapshot) }
    }

    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// The live pods by `level`, folded where they are alike; then the nodes; then the world.
    #[must_use]
    pub fn parties(&self, level: Level) -> Vec<Party> {
        Partition { snapshots: vec![self.snapshot], world: Arc::clone(&self.world) }.parties(level)
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
        self.gathered(from, to, family, |traffic| self.because(from, to, family, traffic).decision)
    }

    /// As [`Reach::pair`] between two pods that are just as `end` is.
    fn replicas(&self, end: &End, family: Family) -> Connections {
        self.gathered(end, end, family, |traffic| {
            let flow = flow(end, end, family, traffic);
            let half = |direction| self.evaluator.half(direction, &flow).decision;
            half(Direction::Egress).and(half(Direction::Ingress))
        })
    }

    fn gathered(
        &self,
        from: &End,
        to: &End,
        family: Family,
        decide: impl Fn(Traffic) -> Decision,
    ) -> Connections {
        if !self.speaks(from, family) || !self.speaks(to, family) {
            return Connections::nothing();
        }
        let mut allowed = Gathered::default();
        let mut unknown = Gathered::default();
        for piece in &self.pieces {
            match decide(piece.representative(family)) {
                Decision::Allowed => allowed.add(piece.part),
                Decision::Unknown => unknown.add(piece.part),
                Decision::Denied => {}
            }
        }
        Connections::new(allowed.set(), &unknown.set())
    }

    /// What becomes of all traffic between two groups.
    #[must_use]
    pub fn between(&self, from: &Party, to: &Party, family: Family) -> Between {
        let mut between = Between::default();
        let mut itself = false;
        for source in from.members.iter().filter(|end| self.speaks(end, family)) {
            for destination in to.members.iter().filter(|end| self.speaks(end, family)) {
                let (m, n) = (self.instances(source), self.instances(destination));
                if source == destination && self.is_pod(source) {
                    itself = true;
                    if n > 1 {
                        between.add(&self.replicas(source, family), n * (n - 1));
                    }
                } else {
                    between.add(&self.pair(source, destination, family), m * n);
                }
            }
        }
        if itself && between.pairs == 0 {
            between.add(&Connections::everything(), 1);
            between.itself = true;
        }
        between
    }

    /// The verdict on one flow, with every reason.
    #[must_use]
    pub fn because(&self, from: &End, to: &End, family: Family, traffic: Traffic) -> Verdict {
        self.evaluator.verdict(&flow(from, to, family, traffic))
    }

    /// The evaluator that everything here is asked of.
    #[must_use]
    pub fn evaluator(&self) -> &Evaluator<'a> {
        &self.evaluator
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

    fn class(&self, key: &ObjectKey) -> Option<PodClass<'a>> {
        let pod = self.snapshot.pods.get(key)?;
        let class = |address: IpAddr| {
            self.world.iter().position(|class| class.contains(address)).unwrap_or(usize::MAX)
        };
        let alone = pod
            .addresses
            .iter()
            .all(|address| matches!(self.evaluator.owners(address), [only] if only.key == pod.key));
        Some(PodClass {
            labels: pod.labels.iter().filter(|(key, _)| self.keys.contains(key)).collect(),
            ports: &pod.ports,
            addresses: Family::ALL.map(|family| pod.addresses.of(family).map(class)).to_vec(),
            shared: (!alone).then_some(&pod.key),
        })
    }
}

fn flow(from: &End, to: &End, family: Family, traffic: Traffic) -> Flow {
    Flow { from: from.clone(), to: to.clone(), family, traffic, wire: Wire::Routed }
}

/// A [`TrafficSet`] in the making.
#[derive(Default)]
struct Gathered {
    ports: [Vec<PortRange>; 3],
    icmp: bool,
    other: bool,
}

impl Gathered {
    fn add(&mut self, part: Part) {
        match part {
            Part::Ports(protocol, range) => self.ports[protocol as usize].push(range),
            Part::Icmp => self.icmp = true,
            Part::Other => self.other = true,
        }
    }

    fn set(self) -> TrafficSet {
        TrafficSet::new(self.ports.map(PortSet::from_iter), self.icmp, self.other)
    }
}

/// The label keys that selectors of pods ask for.
fn asked_keys(snapshot: &Snapshot) -> BTreeSet<&str> {
    let peers = rules(snapshot).filter_map(|rule| match &rule.grant {
        Grant::Traffic { peers: Peers::Listed(peers), .. } => Some(peers),
        _ => None,
    });
    let of_peers = peers.flatten().filter_map(|peer| match &peer.selects {
        PeerSelects::Pods { pods, .. } => Some(pods),
        PeerSelects::Block(_) => None,
    });
    let of_policies = snapshot.policies.values().map(|policy| &policy.pod_selector);
    let requirements = of_peers.chain(of_policies).flat_map(Selector::requirements);
    requirements.map(|requirement| &*requirement.key).collect()
}

/// Every rule that counts.
fn rules(snapshot: &Snapshot) -> impl Iterator<Item = &Rule> {
    let policies = snapshot.policies.values();
    policies.flat_map(|policy| Direction::ALL.into_iter().flat_map(|d| policy.rules(d)))
}

/// All traffic in pieces that no policy of `snapshot` tells apart.
fn pieces(snapshot: &Snapshot) -> Vec<Piece> {
    let mut edges: BTreeMap<Protocol, BTreeSet<u32>> = BTreeMap::new();
    let mut cut = |protocol: Protocol, range: PortRange| {
        let edges = edges.entry(protocol).or_default();
        edges.extend([u32::from(range.first().get()), u32::from(range.last().get()) + 1]);
    };
    for rule in rules(snapshot) {
        let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant else { continue };
        for port in ports {
            if let PortNumbers::Range(range) = port.numbers {
                cut(port.protocol, range);
            }
        }
    }
    for port in snapshot.pods.values().flat_map(|pod| &pod.ports) {
        cut(port.protocol, PortRange::single(port.number));
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for protocol in Protocol::ALL {
        let end = u32::from(u16::MAX) + 1;
        let mut points = edges.remove(&protocol).unwrap_or_default();
        points.extend([1, end]);
        let points: Vec<u32> = points.into_iter().filter(|at| *at <= end).collect();
        let port = |number: u32| u16::try_from(number).ok().and_then(NonZeroU16::new);
        pieces.extend(points.windows(2).filter_map(|pair| {
            let range = PortRange::new(port(pair[0])?, port(pair[1] - 1)?)?;
            Some(Piece { part: Part::Ports(protocol, range) })
        }));
    }
    pieces.extend([Piece { part: Part::Icmp }, Piece { part: Part::Other }]);
    pieces
}

#[cfg(test)]
mod tests;
