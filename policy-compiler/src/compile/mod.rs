//! Compiles a snapshot to the ruleset of one node.
//!
//! ```text
//!  Snapshot ─> cluster_view   who is live, who is subject, who is isolated by which policies
//!                  │
//!                  ├─> grants      the union of the policies' rules by ports (peers, ports)
//!                  ├─> body        rules and the sets they look up (networks: exact union)
//!                  ├─> pod_chain   a chain for each pod, long bodies shared by content
//!                  ├─> audit       a chain for each pod that policies audit and none isolates
//!                  └─> layout      hooks, entry chains, prefix trees (tree), mid-stream check,
//!                                  denial of unknown addresses (unknown), of forged
//!                                  ones (spoof)
//! ```
//!
//! Total: whatever the snapshot, there is a ruleset, and what cannot be written denies and is
//! reported. Deterministic: the same snapshot and configuration give the same ruleset. Every set has
//! generation 0 here.
//!
//! Allow is RETURN and deny is a goto, so that an ordered tier before or behind a body would be a
//! further chain to go to, with nothing else changed.

mod audit;
mod body;
mod cluster_view;
mod digest;
mod grants;
mod layout;
pub(crate) mod networks;
mod peers;
mod pod_chain;
mod ports;
mod spoof;
mod tree;
mod unknown;
mod unresolved;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use self::audit::AuditChain;
use self::body::BodyMaker;
use self::cluster_view::{ClusterView, Subject, object_ref};
use self::digest::Registry;
use self::grants::{Grants, NamedPort, named_ports};
use self::layout::{Dispatch, deny_chain, lay_out};
use self::pod_chain::PodChain;
use self::unknown::Unknown;
use self::unresolved::unresolved;
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::config::NodeConfig;
use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Location;
use crate::name::ObjectKey;
use crate::policy::{Direction, Policy};
use crate::ruleset::{Rule, Ruleset};

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
    let view = ClusterView::new(snapshot);
    let subjects = view.subjects(snapshot, &config.node);
    let mut compilation = Compilation {
        config,
        view: &view,
        maker: BodyMaker::new(&view),
        registry: Registry::default(),
        bodies: BTreeMap::new(),
        ruleset: Ruleset::default(),
        diagnostics: view.contested_addresses(&config.node),
    };
    for family in Family::ALL {
        compilation.family(family, &subjects);
    }
    compilation.diagnostics.extend(unresolved(&subjects, &mut compilation.maker));
    compilation.finish()
}

/// What determines a body: pods that agree in this share it.
type BodyKey<'a> = (Family, Direction, Vec<&'a ObjectKey>, BTreeSet<NamedPort>);

/// A compilation under way.
struct Compilation<'c, 'a> {
    config: &'c NodeConfig,
    view: &'c ClusterView<'a>,
    maker: BodyMaker<'c, 'a>,
    registry: Registry,
    bodies: BTreeMap<BodyKey<'a>, Rc<[Rule]>>,
    ruleset: Ruleset,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Compilation<'_, 'a> {
    /// Everything of one family.
    fn family(&mut self, family: Family, subjects: &[Subject<'a>]) {
        let mut dispatch = Dispatch::default();
        for subject in subjects {
            let Some(address) = subject.pod.addresses.of(family) else { continue };
            if !self.view.is_subject_of(subject.pod, address) {
                continue;
            }
            for (direction, policies) in &subject.policies {
                let rules = self.body(family, *direction, subject, policies);
                let chain = PodChain {
                    key: &subject.pod.key,
                    address,
                    direction: *direction,
                    rules: &rules,
                    hairpin: self.config.hairpin,
                };
                let rules = self.ruleset.family_mut(family);
                let chain = match chain.make(&mut self.registry, rules) {
                    Ok(chain) => chain,
                    Err(collision) => {
                        self.diagnostics.push(denied_whole(subject, *direction, &collision.name));
                        deny_chain(*direction)
                    }
                };
                dispatch.leaves(*direction).insert(address, chain);
            }
            self.audits(family, subject, address, &mut dispatch);
        }
        let unknown = Unknown::of(family, self.config, self.view);
        let rules = self.ruleset.family_mut(family);
        lay_out(family, self.config, &dispatch, &unknown, &mut self.registry, rules);
    }

    /// The chains that tell what policies which are audited only would deny a pod.
    fn audits(
        &mut self,
        family: Family,
        subject: &Subject<'a>,
        address: IpAddr,
        dispatch: &mut Dispatch,
    ) {
        for (direction, policies) in &subject.audited {
            let bodies: Vec<Rc<[Rule]>> = policies
                .iter()
                .map(|policy| self.body(family, *direction, subject, &[policy]))
                .collect();
            let chain = AuditChain {
                key: &subject.pod.key,
                address,
                direction: *direction,
                bodies: &bodies,
                hairpin: self.config.hairpin,
            };
            match chain.make(&mut self.registry, self.ruleset.family_mut(family)) {
                Ok(chain) => {
                    dispatch.audited(*direction).insert(address, chain);
                }
                Err(collision) => {
                    self.diagnostics.push(not_audited(subject, *direction, &collision.name));
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
        policies: &[&'a Policy],
    ) -> Rc<[Rule]> {
        // On egress the subject's own port names mean nothing.
        let ports = match direction {
            Direction::Ingress => named_ports(subject.pod),
            Direction::Egress => BTreeSet::new(),
        };
        let keys = policies.iter().map(|policy| &policy.key).collect();
        let key = (family, direction, keys, ports);
        if let Some(known) = self.bodies.get(&key) {
            return Rc::clone(known);
        }
        let grants = Grants::of(direction, policies, &key.3);
        let rules =
            self.maker.rules(&grants, direction, family, &mut self.registry, &mut self.ruleset);
        let rules: Rc<[Rule]> = Rc::from(rules);
        self.bodies.insert(key, Rc::clone(&rules));
        rules
    }

    fn finish(mut self) -> Compiled {
        for collision in self.maker.collisions {
            self.diagnostics.push(Diagnostic {
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
        self.diagnostics.sort();
        self.diagnostics.dedup();
        Compiled { ruleset: self.ruleset, diagnostics: self.diagnostics }
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
