//! What comes of one pod of the node: its chains, and the bodies that they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::audit::AuditChain;
use super::bodies::{Bodies, BodyId};
use super::body::{Body, BodyMaker};
use super::digest::Registry;
use super::grants::{Grants, named_ports};
use super::layout::deny_chain;
use super::outline::{Counts, OfFamily, place};
use super::pod_chain::{Made, PodChain};
use super::structure::Structure;
use super::subjects::{Chosen, object_ref};
use crate::cidr::Family;
use crate::cluster::Pod;
use crate::config::NodeConfig;
use crate::diagnostic::{Diagnostic, Severity};
use crate::index::{Index, PolicyState};
use crate::name::ObjectKey;
use crate::policy::{Direction, Policy};
use crate::ruleset::ChainName;

/// What is to be made of pods: of each what policies make of it, or nothing where it is nobody any more.
pub(super) type Fates = BTreeMap<ObjectKey, Option<Arc<Chosen>>>;

/// A pod of the node that was judged.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// What policies make of it.
    pub(super) chosen: Arc<Chosen>,
    /// The addresses at which its policies count.
    subject_at: [Option<IpAddr>; 2],
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
    made: Option<Made>,
    /// The chains that others share with it.
    leads_to: Vec<ChainName>,
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
    /// Makes of a pod what `chosen` says. What it was last is to be let go.
    pub(super) fn pod<'l>(
        &mut self,
        pod: &'a Pod,
        chosen: Arc<Chosen>,
        last: Option<&'l Judged>,
    ) -> Judged {
        self.counts.judged += 1;
        let subject_at = subject_at(pod, self.maker.index);
        let mut judged = Judged { chosen, subject_at, owns: Vec::new(), said: Vec::new() };
        let chosen = Arc::clone(&judged.chosen);
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
        (policies, last): (&[Arc<PolicyState>], Option<&Made>),
        mut own: Own,
        judged: &mut Judged,
    ) {
        let (id, body) = self.body(pod, &judged.chosen, policies, &own);
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
        self.dispatch(&own, leaf);
        judged.owns.push(own);
    }

    /// The chain that tells what policies which are audited only would deny it.
    fn audit(
        &mut self,
        pod: &'a Pod,
        policies: &[Arc<PolicyState>],
        mut own: Own,
        judged: &mut Judged,
    ) {
        let mut bodies = Vec::new();
        for policy in policies {
            let policy = std::slice::from_ref(policy);
            let (id, body) = self.body(pod, &judged.chosen, policy, &own);
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
                self.dispatch(&own, name);
            }
            Err(collision) => {
                judged.said.push(not_audited(pod, own.direction, &collision.name));
            }
        }
        judged.owns.push(own);
    }

    fn dispatch(&mut self, own: &Own, chain: ChainName) {
        let rules = self.structure.family_mut(own.family);
        rules.leaves.put((own.direction, own.address), chain.clone());
        let of_family = &mut self.families[place(own.family)];
        of_family.dispatch.insert(own.direction, own.audits, own.address, chain);
        of_family.redispatched.insert(own.direction);
    }

    /// The rules that allow, for a pod isolated by `policies`.
    fn body(
        &mut self,
        pod: &Pod,
        chosen: &Chosen,
        policies: &[Arc<PolicyState>],
        own: &Own,
    ) -> (BodyId, Arc<Body>) {
        // On egress the pod's own port names mean nothing.
        let ports = match own.direction {
            Direction::Ingress if chosen.names_ports(own.direction) => named_ports(pod),
            Direction::Ingress | Direction::Egress => BTreeSet::new(),
        };
        let stamps = policies.iter().map(|policy| policy.stamp).collect();
        let key = (own.family, own.direction, stamps, ports);
        let Self { maker, registry, counts, .. } = self;
        self.bodies.take(key, self.structure, |(family, direction, _, ports)| {
            counts.bodies += 1;
            let objects = maker.objects;
            let policies = policies.iter().filter_map(|policy| objects.policies.get(&policy.key));
            let policies: Vec<&Policy> = policies.collect();
            let grants = Grants::of(*direction, &policies, ports);
            maker.body(&grants, *direction, *family, registry)
        })
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
            made: None,
            leads_to: Vec::new(),
        }
    }

    fn is_at(&self, other: &Self) -> bool {
        self.family == other.family && self.direction == other.direction
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
