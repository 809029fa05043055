//! Turns grants into rules and the sets that they look up.
//!
//! Every rule of a body allows (RETURN), so their order decides nothing but cost: those without a
//! set lookup come first. A pod set exists even while it is empty, and is named by its definition; a
//! network set is named by its content. A set whose name is taken by other content is not made, and
//! its rule is left out: that denies, and is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;

use super::cluster_view::ClusterView;
use super::digest::{Collision, Digest, Registry};
use super::grants::{Grants, widest};
use super::networks::{Coverage, coverage};
use super::peers::{Definitions, Memberships, PeerUnion, feed_definitions};
use super::ports::{PortKey, conditions};
use crate::cidr::{Family, IpBlock};
use crate::policy::Direction;
use crate::port::{PortName, Protocol};
use crate::ruleset::{
    AddressSet, Generation, Match, Member, Rule, Ruleset, SetName, SetRole, Side, Target,
};

/// The pods that declare a port of a protocol under a name, each with its number.
type Declared<'a> = BTreeMap<(Protocol, &'a PortName), Vec<(usize, NonZeroU16)>>;

/// Makes bodies, and remembers what several of them share.
pub(super) struct BodyMaker<'v, 'a> {
    view: &'v ClusterView<'a>,
    memberships: Memberships<'a>,
    /// The pods that declare a port under a name, and its number; worked out when first asked for.
    declared: Option<Declared<'a>>,
    coverages: BTreeMap<(Family, BTreeSet<&'a IpBlock>), Rc<Coverage>>,
    /// Names that two contents have, with what was refused.
    pub(super) collisions: Vec<Collision>,
}

/// Whom the rules of a body allow, in the order in which they are asked.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Everybody,
    Prefix(Member),
    Pods(Rc<Definitions>),
    Networks(Rc<Coverage>),
}

impl<'v, 'a> BodyMaker<'v, 'a> {
    pub(super) fn new(view: &'v ClusterView<'a>) -> Self {
        Self {
            view,
            memberships: Memberships::default(),
            declared: None,
            coverages: BTreeMap::new(),
            collisions: Vec::new(),
        }
    }

    /// The rules of `family` for these grants. Their sets are put into `ruleset`.
    pub(super) fn rules(
        &mut self,
        grants: &Grants<'a>,
        direction: Direction,
        family: Family,
        registry: &mut Registry,
        ruleset: &mut Ruleset,
    ) -> Vec<Rule> {
        let groups = self.groups(grants, family);
        let everybody = groups.get(&Whom::Everybody).cloned().unwrap_or_default();
        let mut rules = Vec::new();
        for (whom, keys) in groups {
            let address = match self.address_match(whom, direction, family, registry, ruleset) {
                Ok(address) => address,
                Err(collision) => {
                    self.collisions.push(collision);
                    continue;
                }
            };
            rules.extend(conditions(&keys).into_iter().map(|ports| allow(ports, address.clone())));
        }
        for ((protocol, name), peers) in &grants.named {
            let covered = |key: &PortKey| *key == PortKey::All || *key == PortKey::Every(*protocol);
            if !everybody.iter().any(covered) {
                rules.extend(self.named(*protocol, name, peers, family, registry, ruleset));
            }
        }
        rules
    }

    /// The port keys of each distinct group of peers, pods and networks apart.
    fn groups(&mut self, grants: &Grants<'a>, family: Family) -> BTreeMap<Whom, Vec<PortKey>> {
        // Ports of the same peers are taken together: there may be many of both.
        let mut places: BTreeMap<*const PeerUnion<'a>, usize> = BTreeMap::new();
        let mut covered: Vec<(&PeerUnion<'a>, Vec<PortKey>, Rc<Coverage>)> = Vec::new();
        for (key, peers) in &grants.numbered {
            let place = *places.entry(Rc::as_ptr(peers)).or_insert(covered.len());
            match covered.get_mut(place) {
                Some((_, keys, _)) => keys.push(*key),
                None => covered.push((peers, vec![*key], self.coverage(peers, family))),
            }
        }
        let everybody = covered
            .iter()
            .filter(|(.., coverage)| **coverage == Coverage::Everything)
            .flat_map(|(_, keys, _)| keys.iter().copied());
        let everybody = widest(everybody);
        let mut groups: BTreeMap<Whom, Vec<PortKey>> = BTreeMap::new();
        for (peers, mut keys, coverage) in covered {
            keys.retain(|key| !everybody.iter().any(|wider| wider.is_wider_than(*key)));
            if keys.is_empty() {
                continue;
            }
            if !peers.pods.is_empty() && *coverage != Coverage::Everything {
                groups.entry(Whom::Pods(Rc::clone(&peers.pods))).or_default().extend(&keys);
            }
            let whom = match &*coverage {
                Coverage::Nothing => continue,
                Coverage::Everything => Whom::Everybody,
                Coverage::Entries(entries) => match entries[..] {
                    [entry] => Whom::Prefix(entry),
                    _ => Whom::Networks(coverage),
                },
            };
            groups.entry(whom).or_default().extend(keys);
        }
        groups
    }

    /// The addresses that `peers` grant whoever has them.
    fn coverage(&mut self, peers: &PeerUnion<'a>, family: Family) -> Rc<Coverage> {
        if peers.any {
            return Rc::new(Coverage::Everything);
        }
        if peers.blocks.is_empty() {
            return Rc::new(Coverage::Nothing);
        }
        let known = self.coverages.entry((family, peers.blocks.clone()));
        Rc::clone(known.or_insert_with(|| Rc::new(coverage(family, peers.blocks.iter().copied()))))
    }

    fn address_match(
        &mut self,
        whom: Whom,
        direction: Direction,
        family: Family,
        registry: &mut Registry,
        ruleset: &mut Ruleset,
    ) -> Result<Option<Match>, Collision> {
        let side = peer_side(direction);
        Ok(Some(match whom {
            Whom::Everybody => return Ok(None),
            Whom::Prefix(Member { net, .. }) => match side {
                Side::Source => Match::Source(net),
                Side::Destination => Match::Destination(net),
            },
            Whom::Pods(definitions) => {
                let mut digest = Digest::new("pods");
                feed_definitions(&mut digest, &definitions);
                let name = pod_set(digest, family, registry)?;
                let sets = &mut ruleset.family_mut(family).sets;
                if !sets.contains_key(&name) {
                    let pods = self.memberships.of_all(self.view, &definitions);
                    let members = pods.iter().filter_map(|pod| self.view.member(*pod, family));
                    let members = members.collect();
                    sets.insert(name.clone(), AddressSet { members });
                }
                Match::Set { set: name, side }
            }
            Whom::Networks(coverage) => {
                let mut digest = Digest::new("networks");
                feed_coverage(&mut digest, &coverage);
                let hash = Arc::from(registry.name("networks", digest.finish())?);
                let name = SetName { family, role: SetRole::Networks { hash } };
                let sets = &mut ruleset.family_mut(family).sets;
                if let (Coverage::Entries(entries), false) = (&*coverage, sets.contains_key(&name))
                {
                    let members = entries.iter().copied().collect();
                    sets.insert(name.clone(), AddressSet { members });
                }
                Match::Set { set: name, side }
            }
        }))
    }

    /// One rule, and one set, for each number that destinations among `peers` have under `name`.
    fn named(
        &mut self,
        protocol: Protocol,
        name: &PortName,
        peers: &PeerUnion<'a>,
        family: Family,
        registry: &mut Registry,
        ruleset: &mut Ruleset,
    ) -> Vec<Rule> {
        let coverage = self.coverage(peers, family);
        let mut rules = Vec::new();
        for (number, members) in self.resolve(protocol, name, peers, family) {
            let mut digest = Digest::new("named port");
            feed_coverage(&mut digest, &coverage);
            if *coverage != Coverage::Everything {
                feed_definitions(&mut digest, &peers.pods);
            }
            digest.number(protocol.number().into()).text(name.as_str());
            digest.number(number.get().into());
            match pod_set(digest, family, registry) {
                Ok(set) => {
                    let sets = &mut ruleset.family_mut(family).sets;
                    sets.insert(set.clone(), AddressSet { members });
                    let ports = conditions(&[PortKey::single(protocol, number)]);
                    let address = Match::Set { set, side: Side::Destination };
                    rules
                        .extend(ports.into_iter().map(|ports| allow(ports, Some(address.clone()))));
                }
                Err(collision) => self.collisions.push(collision),
            }
        }
        rules
    }

    /// The numbers that the pods among `peers` declare under a name, and who declares each. A number
    /// of a pod that has no address yet counts, with no member.
    pub(super) fn resolve(
        &mut self,
        protocol: Protocol,
        name: &PortName,
        peers: &PeerUnion<'a>,
        family: Family,
    ) -> BTreeMap<NonZeroU16, BTreeSet<Member>> {
        let view = self.view;
        let coverage = self.coverage(peers, family);
        let pods = self.memberships.of_all(view, &peers.pods);
        let mut numbers: BTreeMap<NonZeroU16, BTreeSet<Member>> = BTreeMap::new();
        let declared = self.declared.get_or_insert_with(|| declared(view));
        for (index, number) in declared.get(&(protocol, name)).into_iter().flatten() {
            let meant = pods.contains(index)
                || *coverage == Coverage::Everything
                || view.pod(*index).addresses.of(family).is_some_and(|a| coverage.contains(a));
            if meant {
                numbers.entry(*number).or_default().extend(view.member(*index, family));
            }
        }
        numbers
    }
}

/// The named ports of all live pods.
fn declared<'a>(
    view: &ClusterView<'a>,
) -> BTreeMap<(Protocol, &'a PortName), Vec<(usize, NonZeroU16)>> {
    let mut declared: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for index in view.indices() {
        for port in &view.pod(index).ports {
            if let Some(name) = &port.name {
                let so_called = declared.entry((port.protocol, name)).or_default();
                so_called.push((index, port.number));
            }
        }
    }
    declared
}

/// With which address of a packet the peer is looked up.
pub(super) fn peer_side(direction: Direction) -> Side {
    match direction {
        Direction::Ingress => Side::Source,
        Direction::Egress => Side::Destination,
    }
}

/// The rule that allows these ports with this peer: prefixes are compared before ports, sets looked
/// up after.
fn allow(ports: Vec<Match>, address: Option<Match>) -> Rule {
    let mut matches = ports;
    match address {
        Some(set @ Match::Set { .. }) => matches.push(set),
        Some(prefix) => matches.insert(0, prefix),
        None => {}
    }
    Rule { matches, comment: None, target: Target::Return }
}

fn pod_set(digest: Digest, family: Family, registry: &mut Registry) -> Result<SetName, Collision> {
    let hash = Arc::from(registry.name("pods", digest.finish())?);
    Ok(SetName { family, role: SetRole::Pods { hash, generation: Generation::default() } })
}

fn feed_coverage(digest: &mut Digest, coverage: &Coverage) {
    let entries = match coverage {
        Coverage::Nothing => {
            digest.text("nothing");
            return;
        }
        Coverage::Everything => {
            digest.text("everything");
            return;
        }
        Coverage::Entries(entries) => entries,
    };
    digest.text("entries").number(entries.len() as u64);
    for entry in entries {
        digest.text(&entry.net.to_string()).number(entry.nomatch.into());
    }
}
