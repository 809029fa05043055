//! Compiles a snapshot to the ruleset of one node.
//!
//! ```text
//!  Snapshot ─> index          who is live, whose an address is, whom definitions mean
//!                  │
//!                  ├─> subjects    which local pods are isolated by which policies
//!                  ├─> grants      the union of the policies' rules by ports (peers, ports)
//!                  ├─> body        rules and the sets they look up (networks: exact union)
//!                  ├─> pod_chain   a chain for each pod, long bodies shared by content
//!                  ├─> audit       a chain for each pod that policies audit and none isolates
//!                  ├─> layout      hooks, entry chains, prefix trees (tree), mid-stream check,
//!                  │               denial of unknown addresses (unknown), of forged
//!                  │               ones (spoof)
//!                  └─> structure   all of it, with sets that say what they are filled from
//! ```
//!
//! What a set is filled from is looked up in the index: [`compile`] fills all sets, the engine follows
//! what joins and leaves.
//!
//! Total: whatever the snapshot, there is a ruleset, and what cannot be written denies and is
//! reported. Deterministic: the same snapshot and configuration give the same ruleset. Every set has
//! generation 0 here.
//!
//! Allow is RETURN and deny is a goto, so that an ordered tier before or behind a body would be a
//! further chain to go to, with nothing else changed.

mod audit;
mod body;
mod digest;
mod grants;
mod layout;
pub(crate) mod networks;
mod peers;
mod pod_chain;
mod ports;
mod spoof;
mod structure;
mod subjects;
mod tree;
mod unknown;
mod unresolved;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use self::audit::AuditChain;
use self::body::{Body, BodyMaker};
use self::digest::Registry;
use self::grants::{Grants, NamedPort, named_ports};
use self::layout::{Dispatch, deny_chain, lay_out};
use self::pod_chain::{Made, PodChain};
pub(crate) use self::structure::{FamilyStructure, Source, Structure};
use self::subjects::{
    Choices, Newest, News, Subject, contested_addresses, newest, object_ref, subjects,
};
use self::tree::Trees;
use self::unknown::Unknown;
use self::unresolved::unresolved;
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::config::NodeConfig;
use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Location;
use crate::index::{Index, NamedId, PolicyState, Stamp};
use crate::name::ObjectKey;
use crate::policy::{Direction, Grant, PeerSelects, Peers, Policy, PortNumbers, Ports};
use crate::port::{PortName, Protocol};
use crate::ruleset::Ruleset;

/// A ruleset, and what there is to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The rules and sets of the node, every set in generation 0.
    pub ruleset: Ruleset,
    /// What was taken in the safe way or is probably not meant, sorted.
    pub diagnostics: Vec<Diagnostic>,
}

/// The ruleset by which `config.node` enforces the policies of `snapshot` on its pods.
#[must_use]
pub fn compile(snapshot: &Snapshot, config: &NodeConfig) -> Compiled {
    let mut index = Index::of(snapshot, config.node.clone());
    let outline = outline(snapshot, &mut index, config, &mut Memory::default());
    let ruleset = outline.structure.filled(&index);
    Compiled { ruleset, diagnostics: outline.diagnostics }
}

/// What is compiled before the addresses of pods elsewhere matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    /// The rules, and what their sets hold.
    pub(crate) structure: Structure,
    /// What was taken in the safe way or is probably not meant, sorted.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The names that were asked about: where other numbers are found under one of them, the structure
    /// is another.
    pub(crate) asked: BTreeSet<NamedId>,
}

/// What is remembered from one time to the next, so that only what is different is compiled anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    registry: Registry,
    bodies: BTreeMap<BodyKey, Arc<Body>>,
    /// The chains of pods.
    made: BTreeMap<PodKey, Made>,
    trees: Trees,
    choices: Choices,
    /// How many bodies were compiled, not remembered.
    compiled: usize,
    /// For how many pods it was worked out which policies select them.
    worked_out: usize,
}

impl Memory {
    /// Nothing but what was counted.
    fn emptied(&self) -> Self {
        let Self { compiled, worked_out, .. } = *self;
        Self { compiled, worked_out, ..Self::default() }
    }

    /// How many bodies were compiled since this was last asked.
    pub(crate) fn take_compiled(&mut self) -> usize {
        std::mem::take(&mut self.compiled)
    }

    /// For how many pods it was worked out which policies select them, since this was last asked.
    pub(crate) fn take_worked_out(&mut self) -> usize {
        std::mem::take(&mut self.worked_out)
    }
}

/// How many names the registry may hold besides four times those that it had when it was last emptied.
/// In tests it is emptied often.
const STALE: usize = if cfg!(test) { 0 } else { 1024 };

/// Compiles the structure. The index must be that of the snapshot for the node of the configuration.
///
/// What is remembered never changes the outcome: where two contents seem to have one name, which may be
/// that of something long gone, nothing is remembered and all is compiled once more.
pub(crate) fn outline(
    snapshot: &Snapshot,
    index: &mut Index,
    config: &NodeConfig,
    memory: &mut Memory,
) -> Outline {
    let is_new = memory.registry.is_empty();
    if !is_new && memory.registry.len() > 4 * memory.registry.began_with() + STALE {
        *memory = memory.emptied();
    }
    let (outline, collides) = compile_once(snapshot, index, config, memory);
    if !collides || is_new {
        return outline;
    }
    *memory = memory.emptied();
    compile_once(snapshot, index, config, memory).0
}

fn compile_once(
    snapshot: &Snapshot,
    index: &mut Index,
    config: &NodeConfig,
    memory: &mut Memory,
) -> (Outline, bool) {
    let (subjects, news) = subjects(snapshot, index, &mut memory.choices, &mut memory.worked_out);
    let policies = asking(snapshot, &news);
    index.ask(snapshot, &labels_asked(&policies));
    index.ask_names(names_asked(&policies));
    let newest = newest(snapshot, index);
    let diagnostics = contested_addresses(snapshot, index, &newest);
    let mut compilation = Compilation {
        config,
        newest,
        maker: BodyMaker::new(snapshot, index),
        memory,
        bodies: BTreeMap::new(),
        made: BTreeMap::new(),
        outline: Outline { diagnostics, ..Outline::default() },
    };
    for family in Family::ALL {
        compilation.family(family, &subjects);
    }
    let found = unresolved(&subjects, &mut compilation.maker, &mut compilation.outline.asked);
    compilation.outline.diagnostics.extend(found);
    compilation.finish()
}

/// What policies that are new to pods may ask the index, by the directions that they concern.
fn asking<'a>(snapshot: &'a Snapshot, news: &News) -> Vec<(Direction, &'a Policy)> {
    let policies = news.values().filter_map(|state| {
        let policy = snapshot.policies.get(&state.key)?;
        Some(Direction::ALL.into_iter().map(move |direction| (direction, policy)))
    });
    policies.flatten().filter(|(direction, policy)| policy.isolates(*direction)).collect()
}

/// The labels of pods that policies ask about.
fn labels_asked(policies: &[(Direction, &Policy)]) -> BTreeSet<Arc<str>> {
    let mut labels = BTreeSet::new();
    for (direction, policy) in policies {
        for rule in policy.rules(*direction) {
            let Grant::Traffic { peers: Peers::Listed(peers), .. } = &rule.grant else { continue };
            for peer in peers {
                if let PeerSelects::Pods { pods, .. } = &peer.selects {
                    labels.extend(pods.requirements().map(|asked| Arc::clone(&asked.key)));
                }
            }
        }
    }
    labels
}

/// The names of ports that policies ask about, of destinations elsewhere.
fn names_asked(policies: &[(Direction, &Policy)]) -> BTreeSet<(Protocol, PortName)> {
    let mut names = BTreeSet::new();
    for (direction, policy) in policies {
        if *direction == Direction::Ingress {
            continue;
        }
        for rule in policy.rules(*direction) {
            let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant else { continue };
            for port in ports {
                if let PortNumbers::Named(name) = &port.numbers {
                    names.insert((port.protocol, name.clone()));
                }
            }
        }
    }
    names
}

/// What determines a body: pods that agree in this share it.
type BodyKey = (Family, Direction, Vec<Stamp>, BTreeSet<NamedPort>);

/// A pod in a family and a direction.
type PodKey = (Family, Direction, ObjectKey);

/// A compilation under way.
struct Compilation<'c, 'a> {
    config: &'c NodeConfig,
    newest: Newest,
    maker: BodyMaker<'c, 'a>,
    memory: &'c mut Memory,
    /// Those in use this time.
    bodies: BTreeMap<BodyKey, Arc<Body>>,
    made: BTreeMap<PodKey, Made>,
    outline: Outline,
}

impl<'a> Compilation<'_, 'a> {
    /// Everything of one family.
    fn family(&mut self, family: Family, subjects: &[Subject<'a>]) {
        let mut dispatch = Dispatch::default();
        for subject in subjects {
            let Some(address) = subject.pod.addresses.of(family) else { continue };
            if self.newest.get(&address).is_none_or(|newest| newest.key != subject.pod.key) {
                continue;
            }
            for (direction, policies) in &subject.chosen.policies {
                let body = self.body(family, *direction, subject, policies);
                let chain = PodChain {
                    key: &subject.pod.key,
                    address,
                    direction: *direction,
                    body: &body,
                    hairpin: self.config.hairpin,
                };
                let rules = self.outline.structure.family_mut(family);
                let key = (family, *direction, subject.pod.key.clone());
                let last = self.memory.made.get(&key);
                let chain = match chain.make(last, &mut self.memory.registry, rules) {
                    Ok(made) => {
                        let name = made.name.clone();
                        self.made.insert(key, made);
                        name
                    }
                    Err(collision) => {
                        let said = denied_whole(subject, *direction, &collision.name);
                        self.outline.diagnostics.push(said);
                        deny_chain(*direction)
                    }
                };
                dispatch.leaves(*direction).insert(address, chain);
            }
            self.audits(family, subject, address, &mut dispatch);
        }
        let unknown = Unknown::of(family, self.config);
        let rules = self.outline.structure.family_mut(family);
        let Memory { registry, trees, .. } = &mut *self.memory;
        lay_out(family, self.config, &dispatch, &unknown, (registry, trees), rules);
    }

    /// The chains that tell what policies which are audited only would deny a pod.
    fn audits(
        &mut self,
        family: Family,
        subject: &Subject<'a>,
        address: IpAddr,
        dispatch: &mut Dispatch,
    ) {
        for (direction, policies) in &subject.chosen.audited {
            let bodies: Vec<Arc<Body>> = policies
                .iter()
                .map(|policy| self.body(family, *direction, subject, std::slice::from_ref(policy)))
                .collect();
            let chain = AuditChain {
                key: &subject.pod.key,
                address,
                direction: *direction,
                bodies: &bodies,
                hairpin: self.config.hairpin,
            };
            let rules = self.outline.structure.family_mut(family);
            match chain.make(&mut self.memory.registry, rules) {
                Ok(chain) => {
                    dispatch.audited(*direction).insert(address, chain);
                }
                Err(collision) => {
                    let said = not_audited(subject, *direction, &collision.name);
                    self.outline.diagnostics.push(said);
                }
            }
        }
    }

    /// The rules that allow, for a pod isolated by `policies`.
    fn body(
        &mut self,
        family: Family,
        direction: Direction,
        subject: &Subject<'a>,
        policies: &[Arc<PolicyState>],
    ) -> Arc<Body> {
        // On egress the subject's own port names mean nothing.
        let ports = match direction {
            Direction::Ingress => named_ports(subject.pod),
            Direction::Egress => BTreeSet::new(),
        };
        let stamps = policies.iter().map(|policy| policy.stamp).collect();
        let key = (family, direction, stamps, ports);
        if let Some(known) = self.bodies.get(&key) {
            return Arc::clone(known);
        }
        let body = if let Some(body) = self.remembered(&key) {
            body
        } else {
            self.memory.compiled += 1;
            let objects = self.maker.objects;
            let policies = policies.iter().filter_map(|policy| objects.policies.get(&policy.key));
            let policies: Vec<&Policy> = policies.collect();
            let grants = Grants::of(direction, &policies, &key.3);
            let registry = &mut self.memory.registry;
            Arc::new(self.maker.body(&grants, direction, family, registry))
        };
        self.outline.asked.extend(body.numbers.iter().map(|(id, _)| *id));
        let sets = &mut self.outline.structure.family_mut(family).sets;
        for (name, source) in &body.sets {
            sets.entry(name.clone()).or_insert_with(|| source.clone());
        }
        self.bodies.insert(key, Arc::clone(&body));
        body
    }

    /// A body of the last time, unless other numbers are found under a name now.
    fn remembered(&self, key: &BodyKey) -> Option<Arc<Body>> {
        let body = self.memory.bodies.get(key)?;
        let same = |(id, numbers): &(NamedId, Vec<_>)| {
            self.maker.index.numbers_found(*id).eq(numbers.iter().copied())
        };
        body.numbers.iter().all(same).then(|| Arc::clone(body))
    }

    fn finish(mut self) -> (Outline, bool) {
        let Outline { diagnostics, .. } = &mut self.outline;
        for collision in self.bodies.values().flat_map(|body| &body.collisions) {
            diagnostics.push(Diagnostic {
                location: Location::default(),
                object: None,
                field: String::new(),
                severity: Severity::Error,
                message: format!(
                    "two sets of addresses have the hash `{}`; rules that need the second allow nothing",
                    collision.name
                ),
                help: None,
            });
        }
        diagnostics.sort();
        diagnostics.dedup();
        let collides = self.bodies.values().any(|body| !body.collisions.is_empty());
        self.memory.bodies = self.bodies;
        self.memory.made = self.made;
        let refused = self.memory.registry.settle();
        (self.outline, refused || collides)
    }
}

/// What is said of a pod whose chain could not be named.
fn denied_whole(subject: &Subject<'_>, direction: Direction, hash: &str) -> Diagnostic {
    Diagnostic {
        location: subject.pod.location.clone(),
        object: Some(object_ref("Pod", &subject.pod.key)),
        field: String::new(),
        severity: Severity::Error,
        message: format!(
            "the hash `{hash}` of its chain is taken by other content; all its {direction} is denied"
        ),
        help: None,
    }
}

/// What is said of a pod whose audits could not be named.
fn not_audited(subject: &Subject<'_>, direction: Direction, hash: &str) -> Diagnostic {
    Diagnostic {
        message: format!(
            "the hash `{hash}` is taken by other content; its {direction} is not audited"
        ),
        ..denied_whole(subject, direction, hash)
    }
}

#[cfg(test)]
mod tests;
