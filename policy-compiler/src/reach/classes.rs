//! Which ends no policy tells apart.
//!
//! Of an end two things matter. As the one that policies isolate: which ones do, and in ingress what it
//! calls its ports ([`Subject`]). As the other end: which peers of any rule mean it, which blocks hold
//! its addresses, and what it calls its ports, where egress rules ask for names ([`Profile`]). Ends that
//! are equal in these get equal answers, but for a pod and its own node, which the caller sees to.
//!
//! Nothing here decides anything: what is put into one class is asked of the evaluator once.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::net::IpAddr;

use crate::cidr::{Family, IpBlock};
use crate::cluster::{Pod, Snapshot};
use crate::compile::networks::{Span, bits, spans};
use crate::evaluate::{Evaluator, Standing};
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::{
    Direction, Grant, NamespaceScope, PeerSelects, Peers, PortNumbers, Ports, Rule,
};
use crate::port::{PortName, Protocol};
use crate::selector::Selector;

/// Values, each once, by number.
#[derive(Clone, Debug)]
pub(super) struct Interned<T> {
    values: Vec<T>,
    numbers: Lookup<T, usize>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: Lookup::default() }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    /// The number of `value`.
    pub(super) fn number(&mut self, value: T) -> usize {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.values.len();
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    /// The value of that number, which was given out for it.
    pub(super) fn get(&self, number: usize) -> &T {
        &self.values[number]
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// One bit for each of some things.
type Bits = Vec<u64>;

fn bit(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

fn set_bits(length: usize, mut is_set: impl FnMut(usize) -> bool) -> Bits {
    let mut bits = vec![0; length.div_ceil(64)];
    for index in (0..length).filter(|index| is_set(*index)) {
        bits[index / 64] |= 1 << (index % 64);
    }
    bits
}

/// What containers call ports.
type Names<'a> = BTreeSet<(&'a PortName, Protocol, u16)>;

/// What decides what the policies of an end say in one direction and family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject<'a> {
    pub(super) direction: Direction,
    pub(super) family: Family,
    /// Those that isolate it, by number; none also where it is no pod.
    policies: Vec<usize>,
    /// What it calls its ports, of the names that these ask for in ingress.
    names: Names<'a>,
}

/// What decides what the policies of others say to an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Profile {
    /// Of each pod that it is, by number.
    owners: BTreeSet<usize>,
    /// The blocks that hold each of its addresses, by number.
    addresses: BTreeSet<usize>,
}

/// One pod that an end is: the peers that mean it, and what it calls its ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner<'a> {
    peers: Bits,
    names: Names<'a>,
}

/// What some policies ask of the other end.
#[derive(Clone, Debug, Default)]
struct Asked<'a> {
    /// Peers that mean pods, by number.
    peers: BTreeSet<usize>,
    /// Blocks, by number.
    blocks: BTreeSet<usize>,
    /// Names of ports.
    names: BTreeSet<&'a PortName>,
}

/// An end as some policies see it: all that they ask of it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Aspect<'a> {
    owners: BTreeSet<(Bits, Names<'a>)>,
    addresses: BTreeSet<Bits>,
}

/// A peer that means pods: in which namespaces, where not in its own alone, and which.
type PodPeer<'a> = (Option<&'a NamespaceName>, &'a NamespaceScope, usize);

/// A pod as peers see it: its namespace, and what it has of the labels that they ask for.
type Described<'a> = (&'a NamespaceName, Vec<(&'a str, &'a str)>);

/// The classes of one snapshot, numbered as they are met.
#[derive(Clone, Debug)]
pub(super) struct Classes<'a> {
    policies: Lookup<&'a ObjectKey, usize>,
    /// What each policy asks, ingress then egress.
    asked: Vec<[Asked<'a>; 2]>,
    selectors: Interned<&'a Selector>,
    peers: Interned<PodPeer<'a>>,
    blocks: Vec<(Family, Vec<Span>)>,
    /// The label keys that selectors of peers ask for.
    keys: BTreeSet<&'a str>,
    /// The names that egress rules ask for.
    names: BTreeSet<&'a PortName>,
    subjects: Interned<Subject<'a>>,
    /// What the policies of each subject ask together.
    asked_by: Vec<Asked<'a>>,
    profiles: Interned<Profile>,
    owners: Interned<Owner<'a>>,
    addresses: Interned<Bits>,
    /// The peers that mean pods of a namespace with labels.
    meant: Lookup<Described<'a>, Bits>,
    /// The peers that mean pods of a namespace, whatever labels they ask for.
    within: BTreeMap<&'a NamespaceName, Bits>,
    namespaces: BTreeMap<&'a NamespaceName, Labels>,
}

impl<'a> Classes<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let mut blocks: Interned<&'a IpBlock> = Interned::default();
        let mut classes = Self {
            policies: Lookup::default(),
            asked: Vec::new(),
            selectors: Interned::default(),
            peers: Interned::default(),
            blocks: Vec::new(),
            keys: BTreeSet::new(),
            names: BTreeSet::new(),
            subjects: Interned::default(),
            asked_by: Vec::new(),
            profiles: Interned::default(),
            owners: Interned::default(),
            addresses: Interned::default(),
            meant: Lookup::default(),
            within: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        };
        for (number, policy) in snapshot.policies.values().enumerate() {
            classes.policies.insert(&policy.key, number);
            let own = &policy.key.namespace;
            let asked = Direction::ALL
                .map(|direction| classes.asked(policy.rules(direction), own, &mut blocks));
            classes.names.extend(asked[1].names.iter().copied());
            classes.asked.push(asked);
        }
        classes.keys = (0..classes.selectors.len())
            .flat_map(|number| classes.selectors.get(number).requirements())
            .map(|requirement| &*requirement.key)
            .collect();
        classes.blocks = blocks
            .values
            .iter()
            .map(|block| {
                let family = Family::of_net(&block.cidr());
                (family, spans(family, [*block]))
            })
            .collect();
        for pod in snapshot.pods.values() {
            let name = &pod.key.namespace;
            classes.namespaces.entry(name).or_insert_with(|| snapshot.namespace_labels(name));
        }
        classes
    }

    fn asked(
        &mut self,
        rules: &'a [Rule],
        own: &'a NamespaceName,
        blocks: &mut Interned<&'a IpBlock>,
    ) -> Asked<'a> {
        let mut asked = Asked::default();
        for rule in rules {
            let Grant::Traffic { peers, ports } = &rule.grant else { continue };
            let peers = if let Peers::Listed(peers) = peers { peers.as_slice() } else { &[] };
            for peer in peers {
                match &peer.selects {
                    PeerSelects::Block(block) => {
                        asked.blocks.insert(blocks.number(block));
                    }
                    PeerSelects::Pods { namespaces, pods } => {
                        let within = (*namespaces == NamespaceScope::Own).then_some(own);
                        let selector = self.selectors.number(pods);
                        asked.peers.insert(self.peers.number((within, namespaces, selector)));
                    }
                }
            }
            let ports = if let Ports::Listed(ports) = ports { ports.as_slice() } else { &[] };
            for port in ports {
                if let PortNumbers::Named(name) = &port.numbers {
                    asked.names.insert(name);
                }
            }
        }
        asked
    }

    /// The class of the policies of whoever stands there, in one direction.
    pub(super) fn subject(
        &mut self,
        direction: Direction,
        family: Family,
        standing: &Standing<'a>,
        evaluator: &Evaluator<'a>,
    ) -> usize {
        let pod = standing.pods.first().copied();
        let isolating = pod.map_or_else(Vec::new, |pod| evaluator.isolating(pod, direction));
        let policies: Vec<usize> =
            isolating.iter().filter_map(|policy| self.policies.get(&policy.key).copied()).collect();
        let mut asked = Asked::default();
        for of_policy in policies.iter().filter_map(|number| self.asked.get(*number)) {
            let of_policy = &of_policy[usize::from(direction == Direction::Egress)];
            asked.peers.extend(&of_policy.peers);
            asked.blocks.extend(&of_policy.blocks);
            asked.names.extend(&of_policy.names);
        }
        let names = match (direction, pod) {
            (Direction::Ingress, Some(pod)) => named(pod, &asked.names),
            _ => Names::new(),
        };
        let number = self.subjects.number(Subject { direction, family, policies, names });
        if number == self.asked_by.len() {
            self.asked_by.push(asked);
        }
        number
    }

    /// The class of whoever stands there as the other end.
    pub(super) fn profile(&mut self, standing: &Standing<'a>) -> usize {
        let owners = standing.pods.iter().map(|pod| self.owner(pod)).collect();
        let addresses = standing.addresses.iter().map(|address| self.address(*address)).collect();
        self.profiles.number(Profile { owners, addresses })
    }

    fn owner(&mut self, pod: &'a Pod) -> usize {
        let labels: Vec<(&str, &str)> =
            pod.labels.iter().filter(|(key, _)| self.keys.contains(key)).collect();
        let key = (&pod.key.namespace, labels);
        let peers = if let Some(known) = self.meant.get(&key) {
            known.clone()
        } else {
            let peers = self.meaning(pod);
            self.meant.insert(key, peers.clone());
            peers
        };
        self.owners.number(Owner { peers, names: named(pod, &self.names) })
    }

    /// The peers that mean `pod`.
    fn meaning(&mut self, pod: &'a Pod) -> Bits {
        let selectors = &self.selectors;
        let met = set_bits(selectors.len(), |number| selectors.get(number).matches(&pod.labels));
        let namespace = &pod.key.namespace;
        let (peers, labels) = (&self.peers, self.namespaces.get(namespace));
        let within = self.within.entry(namespace).or_insert_with(|| {
            let mut scopes: Lookup<&Selector, bool> = Lookup::default();
            let is_within = |number| match peers.get(number) {
                (own, NamespaceScope::Own, _) => *own == Some(namespace),
                (_, NamespaceScope::Matching(scope), _) => *scopes
                    .entry(scope)
                    .or_insert_with(|| labels.is_some_and(|labels| scope.matches(labels))),
            };
            set_bits(peers.len(), is_within)
        });
        set_bits(peers.len(), |number| bit(within, number) && bit(&met, peers.get(number).2))
    }

    fn address(&mut self, address: IpAddr) -> usize {
        let at = bits(address);
        let own = Family::of(address);
        let blocks = &self.blocks;
        let within = set_bits(blocks.len(), |number| {
            let (family, spans) = &blocks[number];
            let next = spans.partition_point(|span| span.last < at);
            *family == own && spans.get(next).is_some_and(|span| span.first <= at)
        });
        self.addresses.number(within)
    }

    /// What the policies of `subject` see of `profile`.
    pub(super) fn aspect(&self, subject: usize, profile: usize) -> Aspect<'a> {
        let asked = &self.asked_by[subject];
        let profile = self.profiles.get(profile);
        let chosen = |bits: &Bits, numbers: &BTreeSet<usize>| {
            let numbers: Vec<usize> = numbers.iter().copied().collect();
            set_bits(numbers.len(), |index| bit(bits, numbers[index]))
        };
        let egress = self.subjects.get(subject).direction == Direction::Egress;
        let owner = |number: &usize| {
            let owner = self.owners.get(*number);
            let names =
                owner.names.iter().filter(|(name, ..)| egress && asked.names.contains(name));
            (chosen(&owner.peers, &asked.peers), names.copied().collect())
        };
        Aspect {
            owners: profile.owners.iter().map(owner).collect(),
            addresses: profile
                .addresses
                .iter()
                .map(|number| chosen(self.addresses.get(*number), &asked.blocks))
                .collect(),
        }
    }
}

/// The ports that `pod` calls by one of `names`.
fn named<'a>(pod: &'a Pod, names: &BTreeSet<&'a PortName>) -> Names<'a> {
    let ports = pod.ports.iter().filter_map(|port| {
        let name = port.name.as_ref()?;
        names.contains(name).then_some((name, port.protocol, port.number.get()))
    });
    ports.collect()
}
