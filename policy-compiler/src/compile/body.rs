//! Turns grants into rules and the sets that they look up.
//!
//! Every rule of a body allows (RETURN), so their order decides nothing but cost: those without a
//! set lookup come first. A pod set exists even while it is empty, and is named by its definition; a
//! network set is named by its content. A set whose name is taken by other content is not made, and
//! its rule is left out: that denies, and is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};

use super::audit::audit_end;
use super::digest::{Collision, Digest, Fingerprint, Registry};
use super::grants::{Grants, NamedPort, Unions, widest};
use super::layout::{deny, goto, return_all};
use super::networks::{Coverage, coverage};
use super::peers::{PeerUnion, feed_definitions};
use super::ports::{PortKey, conditions};
use super::structure::Source;
use crate::cidr::{Family, IpBlock};
use crate::cluster::Snapshot;
use crate::index::{Definitions, Index, MembershipId, NamedId, NamedQuestion, Stamp};
use crate::policy::{Direction, Policy};
use crate::port::{PortName, Protocol};
use crate::ruleset::{
    AddressSet, Chain, ChainName, Generation, Match, Member, Rule, SetHash, SetName, SetRole, Side,
    Target,
};

/// A chain with its name.
pub(super) type Named = (ChainName, Arc<Chain>);

/// What pods are allowed, however many share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    /// The rules that allow.
    pub(super) rules: Arc<[Rule]>,
    /// The sets that they look up.
    pub(super) sets: Vec<(SetName, Source)>,
    /// The numbers that were found under names.
    pub(super) numbers: Vec<(NamedId, Vec<NonZeroU16>)>,
    /// Names that two contents have, with what was refused.
    pub(super) collisions: Vec<Collision>,
    /// The chains with these rules, where there are any.
    shared: OnceLock<Named>,
    telling: OnceLock<Named>,
}

impl Body {
    /// The chain with these rules that denies the rest.
    ///
    /// # Errors
    /// Where its name is taken.
    pub(super) fn shared(
        &self,
        direction: Direction,
        registry: &mut Registry,
    ) -> Result<&Named, Collision> {
        if let Some(known) = self.shared.get() {
            return Ok(known);
        }
        let mut rules = self.rules.to_vec();
        if !rules.contains(&return_all()) {
            rules.push(deny(direction));
        }
        let hash = registry.name("body", of_rules("body", &rules))?;
        let name = match direction {
            Direction::Egress => ChainName::of(format_args!("EB-{hash}")),
            Direction::Ingress => ChainName::of(format_args!("IB-{hash}")),
        };
        Ok(self.shared.get_or_init(|| (name, Arc::new(Chain { rules }))))
    }

    /// The chain with these rules that tells of the rest.
    ///
    /// # Errors
    /// Where its name is taken.
    pub(super) fn telling(
        &self,
        direction: Direction,
        registry: &mut Registry,
    ) -> Result<&Named, Collision> {
        if let Some(known) = self.telling.get() {
            return Ok(known);
        }
        let mut rules = self.rules.to_vec();
        rules.push(goto(Vec::new(), audit_end(direction)));
        let hash = registry.name("audit body", of_rules("audit body", &rules))?;
        let name = match direction {
            Direction::Egress => ChainName::of(format_args!("AEB-{hash}")),
            Direction::Ingress => ChainName::of(format_args!("AIB-{hash}")),
        };
        Ok(self.telling.get_or_init(|| (name, Arc::new(Chain { rules }))))
    }
}

fn of_rules(kind: &str, rules: &[Rule]) -> Fingerprint {
    let mut digest = Digest::new(kind);
    digest.number(rules.len() as u64);
    for rule in rules {
        digest.rule(rule);
    }
    digest.finish()
}

/// Makes bodies, and remembers what several of them share.
pub(super) struct BodyMaker<'v, 'a> {
    pub(super) objects: &'a Snapshot,
    pub(super) index: &'v mut Index,
    unions: Unions<'a>,
    /// The same for both families.
    grants: BTreeMap<GrantsKey, Arc<Grants<'a>>>,
    coverages: BTreeMap<(Family, BTreeSet<&'a IpBlock>), Arc<Coverage>>,
    /// Kept with what they are of, so that its address stays its own.
    memberships: BTreeMap<*const Definitions, (Arc<Definitions>, MembershipId)>,
}

/// What determines grants: the direction, the states of policies, and the ports that a pod declares by name.
type GrantsKey = (Direction, Arc<[Stamp]>, Arc<BTreeSet<NamedPort>>);

/// Whom the rules of a body allow, in the order in which they are asked.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Everybody,
    Prefix(Member),
    Pods(Arc<Definitions>),
    Networks(Arc<Coverage>),
}

impl<'v, 'a> BodyMaker<'v, 'a> {
    pub(super) fn new(objects: &'a Snapshot, index: &'v mut Index) -> Self {
        Self {
            objects,
            index,
            unions: Unions::default(),
            grants: BTreeMap::new(),
            coverages: BTreeMap::new(),
            memberships: BTreeMap::new(),
        }
    }

    /// What policies in these states grant together.
    pub(super) fn grants(
        &mut self,
        (direction, stamps, ports): (Direction, &Arc<[Stamp]>, &Arc<BTreeSet<NamedPort>>),
        policies: impl FnOnce() -> Vec<&'a Policy>,
    ) -> Arc<Grants<'a>> {
        let Self { unions, grants, .. } = self;
        let known = grants.entry((direction, Arc::clone(stamps), Arc::clone(ports)));
        let make = || Arc::new(Grants::of(direction, &policies(), ports, unions));
        Arc::clone(known.or_insert_with(make))
    }

    /// The rules of `family` for these grants.
    pub(super) fn body(
        &mut self,
        grants: &Grants<'a>,
        direction: Direction,
        family: Family,
        registry: &mut Registry,
    ) -> Body {
        let groups = self.groups(grants, family);
        let everybody = groups.get(&Whom::Everybody).cloned().unwrap_or_default();
        let (mut body, mut rules) = (Body::default(), Vec::new());
        for (whom, keys) in groups {
            let address = match self.address_match(whom, direction, family, registry, &mut body) {
                Ok(address) => address,
                Err(collision) => {
                    body.collisions.push(collision);
                    continue;
                }
            };
            rules.extend(conditions(&keys).into_iter().map(|ports| allow(ports, address.clone())));
        }
        for ((protocol, name), peers) in &grants.named {
            let covered = |key: &PortKey| *key == PortKey::All || *key == PortKey::Every(*protocol);
            if !everybody.iter().any(covered) {
                rules.extend(self.named(*protocol, name, peers, family, registry, &mut body));
            }
        }
        body.rules = Arc::from(rules);
        body
    }

    /// The port keys of each distinct group of peers, pods and networks apart.
    fn groups(&mut self, grants: &Grants<'a>, family: Family) -> BTreeMap<Whom, Vec<PortKey>> {
        // Ports of the same peers are taken together: there may be many of both.
        let mut places: BTreeMap<*const PeerUnion<'a>, usize> = BTreeMap::new();
        let mut covered: Vec<(&PeerUnion<'a>, Vec<PortKey>, Arc<Coverage>)> = Vec::new();
        for (key, peers) in &grants.numbered {
            let place = *places.entry(Arc::as_ptr(peers)).or_insert(covered.len());
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
                groups.entry(Whom::Pods(Arc::clone(&peers.pods))).or_default().extend(&keys);
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
    fn coverage(&mut self, peers: &PeerUnion<'a>, family: Family) -> Arc<Coverage> {
        if peers.any {
            return Arc::new(Coverage::Everything);
        }
        if peers.blocks.is_empty() {
            return Arc::new(Coverage::Nothing);
        }
        let known = self.coverages.entry((family, peers.blocks.clone()));
        Arc::clone(
            known.or_insert_with(|| Arc::new(coverage(family, peers.blocks.iter().copied()))),
        )
    }

    fn address_match(
        &mut self,
        whom: Whom,
        direction: Direction,
        family: Family,
        registry: &mut Registry,
        body: &mut Body,
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
                let membership = self.membership(&definitions);
                body.sets.push((name.clone(), Source::Pods(membership)));
                Match::Set { set: name, side }
            }
            Whom::Networks(coverage) => {
                let mut digest = Digest::new("networks");
                feed_coverage(&mut digest, &coverage);
                let hash = SetHash::of(&registry.name("networks", digest.finish())?);
                let name = SetName { family, role: SetRole::Networks { hash } };
                if let Coverage::Entries(entries) = &*coverage {
                    let members = entries.iter().copied().collect();
                    let source = Source::Fixed(Arc::new(AddressSet { members }));
                    body.sets.push((name.clone(), source));
                }
                Match::Set { set: name, side }
            }
        }))
    }

    /// The membership that definitions make.
    fn membership(&mut self, definitions: &Arc<Definitions>) -> MembershipId {
        let address = Arc::as_ptr(definitions);
        if let Some((_, known)) = self.memberships.get(&address) {
            return *known;
        }
        let id = self.index.membership(self.objects, definitions);
        self.memberships.insert(address, (Arc::clone(definitions), id));
        id
    }

    /// One rule, and one set, for each number that destinations among `peers` have under `name`.
    fn named(
        &mut self,
        protocol: Protocol,
        name: &PortName,
        peers: &PeerUnion<'a>,
        family: Family,
        registry: &mut Registry,
        body: &mut Body,
    ) -> Vec<Rule> {
        let coverage = self.coverage(peers, family);
        let id = self.question(protocol, name, peers, family);
        let numbers: Vec<NonZeroU16> = self.index.numbers_found(id).collect();
        let mut rules = Vec::new();
        for number in &numbers {
            let mut digest = Digest::new("named port");
            feed_coverage(&mut digest, &coverage);
            if *coverage != Coverage::Everything {
                feed_definitions(&mut digest, &peers.pods);
            }
            digest.number(protocol.number().into()).text(name.as_str());
            digest.number(number.get().into());
            match pod_set(digest, family, registry) {
                Ok(set) => {
                    body.sets.push((set.clone(), Source::Number(id, *number)));
                    let ports = conditions(&[PortKey::single(protocol, *number)]);
                    let address = Match::Set { set, side: Side::Destination };
                    rules
                        .extend(ports.into_iter().map(|ports| allow(ports, Some(address.clone()))));
                }
                Err(collision) => body.collisions.push(collision),
            }
        }
        body.numbers.push((id, numbers));
        rules
    }

    /// What is asked of the pods among `peers`: the numbers that they declare under a name, and who
    /// declares each. A number of a pod that has no address yet counts, with no member.
    pub(super) fn question(
        &mut self,
        protocol: Protocol,
        name: &PortName,
        peers: &PeerUnion<'a>,
        family: Family,
    ) -> NamedId {
        let coverage = self.coverage(peers, family);
        // Where every address is meant it does not matter which pods are.
        let pods = match *coverage {
            Coverage::Everything => Arc::default(),
            _ => Arc::clone(&peers.pods),
        };
        let pods = self.membership(&pods);
        let name = name.clone();
        let question = NamedQuestion { protocol, name, family, pods, coverage };
        self.index.named(question)
    }
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
    let hash = SetHash::of(&registry.name("pods", digest.finish())?);
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
