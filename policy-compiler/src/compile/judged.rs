//! What comes of one pod of the node: its chains, and the bodies that they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::audit::AuditChain;
use super::bodies::{Bodies, BodyId};
use super::body::{Body, BodyMaker};
use super::chosen::{Choice, United};
use super::digest::Registry;
use super::grants::{NamedPort, named_ports};
use super::layout::deny_chain;
use super::outline::{Counts, OfFamily, place};
use super::pod_chain::{Made, PodChain};
use super::structure::Structure;
use super::subjects::object_ref;
use crate::cidr::Family;
use crate::cluster::Pod;
use crate::config::NodeConfig;
use crate::diagnostic::{Diagnostic, Severity};
use crate::index::Index;
use crate::name::ObjectKey;
use crate::policy::{Direction, Policy};
use crate::ruleset::ChainName;

/// What is to be made of pods: nothing where one is nobody any more.
pub(super) type Fates = BTreeMap<ObjectKey, Option<Fate>>;

/// What is to be made of a pod.
#[derive(Debug)]
pub(super) struct Fate {
    /// What policies make of it.
    pub(super) choice: Choice,
    /// Whether its addresses or ports may be others than when it was last judged.
    pub(super) itself: bool,
}

/// A pod of the node that was judged.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// What policies make of it.
    pub(super) choice: Choice,
    /// The addresses at which its policies count.
    subject_at: [Option<IpAddr>; 2],
    /// The ports that it declares by name.
    ports: Arc<BTreeSet<NamedPort>>,
    /// What is its own.
    pub(super) owns: Vec<Own>,
    /// What there is to say of it.
    pub(super) said: Vec<Diagnostic>,
}

impl Judged {
    /// Whether it has any of these bodies.
    pub(super) fn has_any(&self, bodies: &BTreeSet<BodyId>) -> bool {
        !bodies.is_empty()
            && self.owns.iter().flat_map(|own| &own.bodies).any(|id| bodies.contains(id))
    }

    /// Whether it declares what another does.
    pub(super) fn declares_as(&self, other: &Self) -> bool {
        self.ports == other.ports
    }

    /// Whether its policies count at other addresses now.
    pub(super) fn is_elsewhere(&self, pod: &Pod, index: &Index) -> bool {
        self.subject_at != subject_at(pod, index)
    }
}

/// The addresses at which a pod's policies count: where several claim one, it is the newest's.
fn subject_at(pod: &Pod, index: &Index) -> [Option<IpAddr>; 2] {
    Family::ALL.map(|family| {
        let address = pod.addresses.of(family);
        address.filter(|address| index.is_newest(*address, &pod.key))
    })
}

/// What a pod has in a family and a direction.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) family: Family,
    pub(super) direction: Direction,
    pub(super) address: IpAddr,
    /// Whether it is audited there and not isolated.
    pub(super) audits: bool,
    bodies: Vec<BodyId>,
    /// Its chain, where that could be named.
    chain: Option<ChainName>,
    /// Where its packets go.
    leaf: Option<ChainName>,
    made: Option<Made>,
    /// The chains that others share with it.
    leads_to: Vec<ChainName>,
}

/// What a pod was and what it is.
pub(super) struct Course {
    pub(super) key: ObjectKey,
    pub(super) was: Option<Judged>,
    pub(super) is: Option<Judged>,
}

fn owns(judged: Option<&Judged>) -> impl Iterator<Item = &Own> {
    judged.into_iter().flat_map(|judged| &judged.owns).filter(|own| own.leaf.is_some())
}

/// Who judges pods.
pub(super) struct Judge<'c, 'v, 'a> {
    pub(super) config: &'c NodeConfig,
    pub(super) maker: &'c mut BodyMaker<'v, 'a>,
    pub(super) registry: &'c mut Registry,
    pub(super) bodies: &'c mut Bodies,
    pub(super) structure: &'c mut Structure,
    pub(super) families: &'c mut [OfFamily; 2],
    pub(super) counts: &'c mut Counts,
}

impl<'a> Judge<'_, '_, 'a> {
    /// Makes of a pod what is its fate. What it was last is to be let go.
    pub(super) fn pod<'l>(
        &mut self,
        pod: &'a Pod,
        Fate { choice, itself }: Fate,
        last: Option<&'l Judged>,
    ) -> Judged {
        self.counts.judged += 1;
        let (subject_at, ports) = match last.filter(|_| !itself) {
            Some(last) => (last.subject_at, Arc::clone(&last.ports)),
            None => (subject_at(pod, self.maker.index), Arc::new(named_ports(pod))),
        };
        let chosen = Arc::clone(&choice.chosen);
        let mut judged = Judged { choice, subject_at, ports, owns: Vec::new(), said: Vec::new() };
        for (family, address) in Family::ALL.into_iter().zip(subject_at) {
            let Some(address) = address else { continue };
            for (direction, policies) in &chosen.policies {
                let own = Own::new(family, *direction, address, false);
                let made = |last: &'l Own| last.made.as_ref().filter(|_| last.is_at(&own));
                let last = last.into_iter().flat_map(|last| &last.owns).find_map(made);
                self.isolate(pod, (policies, last), own, &mut judged);
            }
            for (direction, policies) in &chosen.audited {
                let own = Own::new(family, *direction, address, true);
                self.audit(pod, policies, own, &mut judged);
            }
        }
        judged
    }

    /// The chain by which policies isolate it; where that cannot be named, all is denied.
    fn isolate(
        &mut self,
        pod: &'a Pod,
        (policies, last): (&United, Option<&Made>),
        mut own: Own,
        judged: &mut Judged,
    ) {
        let (id, body) = self.body(judged, policies, &own);
        own.bodies.push(id);
        let chain = PodChain {
            key: &pod.key,
            address: own.address,
            direction: own.direction,
            body: &body,
            hairpin: self.config.hairpin,
        };
        let leaf = match chain.make(last, self.registry) {
            Ok(made) => {
                let rules = self.structure.family_mut(own.family);
                if rules.chains.put(made.name.clone(), Arc::clone(&made.chain)) {
                    rules.touched.insert((own.direction, own.address));
                }
                if made.leads
                    && let Ok(shared) = body.shared(own.direction, self.registry)
                {
                    self.bodies.lead_to(own.family, shared, rules);
                    own.leads_to.push(shared.0.clone());
                }
                own.chain = Some(made.name.clone());
                let name = made.name.clone();
                own.made = Some(made);
                name
            }
            Err(collision) => {
                judged.said.push(denied_whole(pod, own.direction, &collision.name));
                deny_chain(own.direction)
            }
        };
        own.leaf = Some(leaf);
        judged.owns.push(own);
    }

    /// The chain that tells what policies which are audited only would deny it.
    fn audit(&mut self, pod: &'a Pod, policies: &[United], mut own: Own, judged: &mut Judged) {
        let mut bodies = Vec::new();
        for policy in policies {
            let (id, body) = self.body(judged, policy, &own);
            own.bodies.push(id);
            bodies.push(body);
        }
        let chain = AuditChain {
            key: &pod.key,
            address: own.address,
            direction: own.direction,
            bodies: &bodies,
            hairpin: self.config.hairpin,
        };
        match chain.make(self.registry) {
            Ok(((name, chain), leads)) => {
                let rules = self.structure.family_mut(own.family);
                if rules.chains.put(name.clone(), chain) {
                    rules.touched.insert((own.direction, own.address));
                }
                for shared in &leads {
                    self.bodies.lead_to(own.family, shared, rules);
                    own.leads_to.push(shared.0.clone());
                }
                own.chain = Some(name.clone());
                own.leaf = Some(name);
            }
            Err(collision) => {
                judged.said.push(not_audited(pod, own.direction, &collision.name));
            }
        }
        judged.owns.push(own);
    }

    /// The rules that allow, for a pod isolated by `policies`.
    fn body(&mut self, judged: &Judged, policies: &United, own: &Own) -> (BodyId, Arc<Body>) {
        // On egress the pod's own port names mean nothing.
        let names_ports = || judged.choice.chosen.names_ports(own.direction);
        let ports = match own.direction {
            Direction::Ingress if names_ports() => Arc::clone(&judged.ports),
            Direction::Ingress | Direction::Egress => Arc::default(),
        };
        let key = (own.family, own.direction, Arc::clone(&policies.stamps), ports);
        let Self { maker, registry, counts, .. } = self;
        self.bodies.take(key, self.structure, |(family, direction, stamps, ports)| {
            counts.bodies += 1;
            let objects = maker.objects;
            let policies = policies.policies.iter();
            let policies = || -> Vec<&'a Policy> {
                policies.filter_map(|policy| objects.policies.get(&policy.key)).collect()
            };
            let grants = maker.grants((*direction, stamps, ports), policies);
            maker.body(&grants, *direction, *family, registry)
        })
    }

    /// Lets packets go where pods want them that were so and are so, all of them at once: another may have
    /// an address by now.
    pub(super) fn dispatch(&mut self, pods: &[Course]) {
        for Course { was, is, .. } in pods {
            for own in owns(was.as_ref()).filter(|own| !own.is_among(is.as_ref())) {
                self.redispatch(own, None);
            }
        }
        for Course { was, is, .. } in pods {
            for own in owns(is.as_ref()).filter(|own| !own.is_among(was.as_ref())) {
                self.redispatch(own, own.leaf.clone());
            }
        }
    }

    /// Lets packets for a pod go to a chain, or by.
    fn redispatch(&mut self, own: &Own, leaf: Option<ChainName>) {
        let rules = self.structure.family_mut(own.family);
        let of_family = &mut self.families[place(own.family)];
        of_family.redispatched.insert(own.direction);
        if let Some(chain) = leaf {
            rules.leaves.put((own.direction, own.address), chain.clone());
            of_family.dispatch.insert(own.direction, own.audits, own.address, chain);
        } else {
            rules.leaves.remove(&(own.direction, own.address));
            of_family.dispatch.remove(own.direction, own.audits, own.address);
        }
    }

    /// Lets go what a pod was that is now so.
    pub(super) fn let_go(&mut self, last: Judged, now: Option<&Judged>) {
        for own in last.owns {
            let rules = self.structure.family_mut(own.family);
            for name in &own.leads_to {
                self.bodies.leave(own.family, name, rules);
            }
            if let Some(name) = &own.chain {
                let mut owns = now.into_iter().flat_map(|now| &now.owns);
                if !owns.any(|is| is.family == own.family && is.chain.as_ref() == Some(name)) {
                    rules.chains.remove(name);
                }
            }
            for id in own.bodies {
                self.bodies.drop(id, self.structure);
            }
        }
    }
}

impl Own {
    fn new(family: Family, direction: Direction, address: IpAddr, audits: bool) -> Self {
        Self {
            family,
            direction,
            address,
            audits,
            bodies: Vec::new(),
            chain: None,
            leaf: None,
            made: None,
            leads_to: Vec::new(),
        }
    }

    fn is_at(&self, other: &Self) -> bool {
        self.family == other.family && self.direction == other.direction
    }

    /// Whether the packets go where those of a pod go that has the same address.
    fn is_among(&self, judged: Option<&Judged>) -> bool {
        owns(judged).any(|other| {
            self.is_at(other)
                && (self.address, self.audits) == (other.address, other.audits)
                && self.leaf == other.leaf
        })
    }
}

/// What is said of a pod whose chain could not be named.
fn denied_whole(pod: &Pod, direction: Direction, hash: &str) -> Diagnostic {
    Diagnostic {
        location: pod.location.clone(),
        object: Some(object_ref("Pod", &pod.key)),
        field: String::new(),
        severity: Severity::Error,
        message: format!(
            "the hash `{hash}` of its chain is taken by other content; all its {direction} is denied"
        ),
        help: None,
    }
}

/// What is said of a pod whose audits could not be named.
fn not_audited(pod: &Pod, direction: Direction, hash: &str) -> Diagnostic {
    Diagnostic {
        message: format!(
            "the hash `{hash}` is taken by other content; its {direction} is not audited"
        ),
        ..denied_whole(pod, direction, hash)
    }
}
