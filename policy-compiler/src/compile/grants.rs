//! The union of all rules of all policies that isolate a pod in one direction, by ports: one group
//! of peers for each port key, however many policies contributed.
//!
//! Ports by name become numbers here for ingress, where the selected pod declares them; a name that
//! it does not declare grants nothing. For egress they stay names, since each destination has its
//! own number. A peer that a wider port key grants already is left out of the narrower ones.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::peers::PeerUnion;
use super::ports::PortKey;
use crate::cluster::Pod;
use crate::policy::{Direction, Grant, Peers, Policy, PortMatch, PortNumbers, Ports};
use crate::port::{PortName, Protocol};

/// A port that a pod declares under a name.
pub(super) type NamedPort = (Protocol, PortName, NonZeroU16);

/// The named ports of a pod.
pub(super) fn named_ports(pod: &Pod) -> BTreeSet<NamedPort> {
    let named = |port: &crate::cluster::ContainerPort| {
        port.name.clone().map(|name| (port.protocol, name, port.number))
    };
    pod.ports.iter().filter_map(named).collect()
}

/// How many pairs of ports are compared for one lying within the other. To leave peers out of the narrower
/// one only saves memory; where it would take longer than that is worth, only ports of no number count as
/// wider.
const PAIRS: usize = 100_000;

/// What some policies together grant in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants<'a> {
    /// To whom on which ports. Ports that are granted to the same peers share them.
    pub(super) numbered: BTreeMap<PortKey, Arc<PeerUnion<'a>>>,
    /// To whom on the ports that the destination calls so; empty for ingress.
    pub(super) named: BTreeMap<(Protocol, PortName), Arc<PeerUnion<'a>>>,
}

/// Rules by their number.
type Rules = BTreeSet<usize>;

/// Which rules grant which ports.
#[derive(Default)]
struct Granting {
    numbered: BTreeMap<PortKey, Rules>,
    named: BTreeMap<(Protocol, PortName), Rules>,
}

/// The peers of rules, and what comes of them together, each worked out once for all who have these rules.
#[derive(Default)]
pub(super) struct Unions<'a> {
    /// Of the rules by their number.
    peers: Vec<PeerUnion<'a>>,
    /// By where their peers stand.
    numbers: BTreeMap<*const Peers, usize>,
    united: BTreeMap<Rules, Arc<PeerUnion<'a>>>,
    less: Subtraction<'a>,
}

impl<'a> Unions<'a> {
    /// The number of the rule of a policy that has these peers.
    fn number(&mut self, policy: &'a Policy, peers: &'a Peers) -> usize {
        *self.numbers.entry(std::ptr::from_ref(peers)).or_insert_with(|| {
            self.peers.push(PeerUnion::of(&policy.key.namespace, peers));
            self.peers.len() - 1
        })
    }

    /// The peers of all of these rules.
    fn unite(&mut self, rules: Rules) -> Arc<PeerUnion<'a>> {
        if let Some(known) = self.united.get(&rules) {
            return Arc::clone(known);
        }
        let all: Vec<_> = rules.iter().filter_map(|rule| self.peers.get(*rule)).collect();
        let union = Arc::new(PeerUnion::of_all(&all));
        self.united.insert(rules, Arc::clone(&union));
        union
    }
}

impl<'a> Grants<'a> {
    /// The union of what `policies` grant to a pod that declares `own_ports`.
    pub(super) fn of(
        direction: Direction,
        policies: &[&'a Policy],
        own_ports: &BTreeSet<NamedPort>,
        unions: &mut Unions<'a>,
    ) -> Self {
        let mut granting = Granting::default();
        for policy in policies {
            for rule in policy.rules(direction) {
                let Grant::Traffic { peers, ports } = &rule.grant else { continue };
                let number = unions.number(policy, peers);
                match ports {
                    Ports::Any => granting.add(PortKey::All, number),
                    Ports::Listed(list) => {
                        for port in list {
                            granting.add_port(direction, port, own_ports, number);
                        }
                    }
                }
            }
        }
        let numbered = granting.numbered.into_iter();
        let numbered = numbered.map(|(key, rules)| (key, unions.unite(rules))).collect();
        let named = granting.named.into_iter();
        let named = named.map(|(key, rules)| (key, unions.unite(rules))).collect();
        let mut grants = Self { numbered, named };
        grants.absorb(&mut unions.less);
        grants
    }

    /// Leaves peers out where a wider key has them.
    fn absorb(&mut self, less: &mut Subtraction<'a>) {
        let wide = widest(self.numbered.keys().copied());
        let before = self.numbered.clone();
        for wider in wide {
            let Some(absorbing) = before.get(&wider) else { continue };
            for (key, peers) in &mut self.numbered {
                if wider.is_wider_than(*key) {
                    *peers = less.of(peers, absorbing);
                }
            }
            for ((protocol, _), peers) in &mut self.named {
                if wider == PortKey::All || wider == PortKey::Every(*protocol) {
                    *peers = less.of(peers, absorbing);
                }
            }
        }
        self.numbered.retain(|_, peers| !peers.is_nobody());
        self.named.retain(|_, peers| !peers.is_nobody());
    }
}

impl Granting {
    fn add(&mut self, key: PortKey, rule: usize) {
        self.numbered.entry(key).or_default().insert(rule);
    }

    fn add_port(
        &mut self,
        direction: Direction,
        port: &PortMatch,
        own_ports: &BTreeSet<NamedPort>,
        rule: usize,
    ) {
        match (&port.numbers, direction) {
            (PortNumbers::Any, _) => self.add(PortKey::Every(port.protocol), rule),
            (PortNumbers::Range(range), _) => {
                self.add(PortKey::Range(port.protocol, *range), rule);
            }
            (PortNumbers::Named(name), Direction::Egress) => {
                self.named.entry((port.protocol, name.clone())).or_default().insert(rule);
            }
            (PortNumbers::Named(name), Direction::Ingress) => {
                for (protocol, declared, number) in own_ports {
                    if *protocol == port.protocol && declared == name {
                        self.add(PortKey::single(*protocol, *number), rule);
                    }
                }
            }
        }
    }
}

/// Those of some ports that may be wider than others of them, as far as that is worth finding out.
pub(super) fn widest(keys: impl Iterator<Item = PortKey> + Clone) -> Vec<PortKey> {
    let all = keys.clone().count();
    let wide: Vec<PortKey> = keys.filter(|key| key.is_wide()).collect();
    if wide.len().saturating_mul(all) <= PAIRS {
        return wide;
    }
    wide.into_iter().filter(|key| !matches!(key, PortKey::Range(..))).collect()
}

/// What peers are without others, each worked out once. They are kept, so that their addresses stay theirs.
#[derive(Default)]
struct Subtraction<'a>(BTreeMap<[*const PeerUnion<'a>; 2], [Arc<PeerUnion<'a>>; 3]>);

impl<'a> Subtraction<'a> {
    fn of(&mut self, peers: &Arc<PeerUnion<'a>>, wider: &Arc<PeerUnion<'a>>) -> Arc<PeerUnion<'a>> {
        let key = [Arc::as_ptr(peers), Arc::as_ptr(wider)];
        let [_, _, less] = self.0.entry(key).or_insert_with(|| {
            let same = Arc::ptr_eq(peers, wider);
            let less = if same { PeerUnion::default() } else { peers.less(wider) };
            [Arc::clone(peers), Arc::clone(wider), Arc::new(less)]
        });
        Arc::clone(less)
    }
}
