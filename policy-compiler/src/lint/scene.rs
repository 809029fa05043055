//! What all rules ask: which pods a policy selects, whom a peer means, and where something stands.
//!
//! Pods that no policy can tell apart but by their addresses are one [`Class`], so that the work grows
//! with the kinds of pods and not with their number.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Material;
use super::finding::{Finding, Related, Spot};
use super::rule::Rule;
use super::written::{Documents, Written, reference};
use crate::cluster::{ContainerPort, METADATA_NAME_LABEL, Phase, Pod, Service, Snapshot};
use crate::diagnostic::{ObjectRef, Severity};
use crate::document::Location;
use crate::evaluate::Evaluator;
use crate::labels::Labels;
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::{
    Direction, Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortMatch, Ports,
};
use crate::selector::Selector;

/// The namespaces that every cluster has.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Pods that differ in name and address alone.
#[derive(Debug)]
pub(super) struct Class<'a> {
    /// All of them, in key order; never empty.
    pub(super) pods: Vec<&'a Pod>,
}

impl<'a> Class<'a> {
    /// One that stands for all.
    pub(super) fn one(&self) -> &'a Pod {
        self.pods[0]
    }

    pub(super) fn ports(&self) -> &'a [ContainerPort] {
        &self.one().ports
    }
}

/// Indices of classes, in order.
pub(super) type Classes = Rc<Vec<usize>>;

/// A rule of a policy with its place in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub(super) policy: &'a Policy,
    pub(super) direction: Direction,
    pub(super) index: usize,
    pub(super) peers: &'a Peers,
    pub(super) ports: &'a Ports,
}

impl<'a> Listed<'a> {
    /// `spec.ingress[0]`.
    pub(super) fn field(&self) -> String {
        format!("spec.{}[{}]", self.direction, self.index)
    }

    /// `spec.ingress[0].from[1]`.
    pub(super) fn peer_field(&self, index: usize) -> String {
        format!("{}.{}[{index}]", self.field(), peers_key(self.direction))
    }

    /// `spec.ingress[0].ports[1]`.
    pub(super) fn port_field(&self, index: usize) -> String {
        format!("{}.ports[{index}]", self.field())
    }

    /// `shop/web ingress[0]`, without the policy where that is `policy`.
    pub(super) fn name_beside(&self, policy: &Policy) -> String {
        let place = format!("{}[{}]", self.direction, self.index);
        if self.policy.key == policy.key {
            place
        } else {
            format!("{place} of {}", self.policy.key)
        }
    }

    /// The peers listed; none where it is for everybody.
    pub(super) fn listed_peers(&self) -> &'a [Peer] {
        match self.peers {
            Peers::Any => &[],
            Peers::Listed(list) => list,
        }
    }

    /// The ports listed; none where it is for every one.
    pub(super) fn listed_ports(&self) -> &'a [PortMatch] {
        match self.ports {
            Ports::Any => &[],
            Ports::Listed(list) => list,
        }
    }
}

/// Whether two sorted lists have something in common.
pub(super) fn meet(a: &[usize], b: &[usize]) -> bool {
    common(a, b).next().is_some()
}

/// What two sorted lists have in common.
pub(super) fn common<'l>(a: &'l [usize], b: &'l [usize]) -> impl Iterator<Item = usize> + 'l {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.iter().copied().filter(|class| long.binary_search(class).is_ok())
}

/// `from` or `to`.
pub(super) fn peers_key(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

/// The valid rules that count in `direction`.
pub(super) fn rules_of(policy: &Policy, direction: Direction) -> impl Iterator<Item = Listed<'_>> {
    policy.rules(direction).iter().enumerate().filter_map(move |(index, rule)| match &rule.grant {
        Grant::Traffic { peers, ports } => Some(Listed { policy, direction, index, peers, ports }),
        Grant::Nothing { .. } => None,
    })
}

/// The material, indexed.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) material: &'a Material<'a>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) evaluator: Evaluator<'a>,
    /// Pods that have not finished, by what they have in common.
    pub(super) classes: Vec<Class<'a>>,
    /// Namespaces that are there, with their labels.
    pub(super) namespaces: BTreeMap<NamespaceName, Labels>,
    by_namespace: BTreeMap<&'a NamespaceName, Vec<usize>>,
    policies: BTreeMap<&'a NamespaceName, Vec<&'a Policy>>,
    services: BTreeMap<&'a NamespaceName, Vec<&'a Service>>,
    documents: Documents<'a>,
    meant: RefCell<BTreeMap<(NamespaceName, &'a PeerSelects), Classes>>,
    selected: BTreeMap<&'a ObjectKey, (Classes, Classes)>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(material: &'a Material<'a>) -> Self {
        let snapshot = material.snapshot;
        let classes = classes(snapshot);
        let mut by_namespace: BTreeMap<&NamespaceName, Vec<usize>> = BTreeMap::new();
        for (index, class) in classes.iter().enumerate() {
            by_namespace.entry(&class.one().key.namespace).or_default().push(index);
        }
        let mut policies: BTreeMap<&NamespaceName, Vec<&Policy>> = BTreeMap::new();
        for policy in snapshot.policies.values() {
            policies.entry(&policy.key.namespace).or_default().push(policy);
        }
        let mut services: BTreeMap<&NamespaceName, Vec<&Service>> = BTreeMap::new();
        for service in snapshot.services.values() {
            services.entry(&service.key.namespace).or_default().push(service);
        }
        let mut scene = Self {
            material,
            snapshot,
            evaluator: Evaluator::new(snapshot),
            namespaces: namespaces(snapshot),
            classes,
            by_namespace,
            policies,
            services,
            documents: Documents::of(material.written),
            meant: RefCell::default(),
            selected: BTreeMap::new(),
        };
        for policy in snapshot.policies.values() {
            let (host, own) = scene
                .in_namespace(&policy.key.namespace)
                .iter()
                .copied()
                .filter(|class| policy.pod_selector.matches(&scene.classes[*class].one().labels))
                .partition(|class| scene.classes[*class].one().host_network);
            scene.selected.insert(&policy.key, (Rc::new(own), Rc::new(host)));
        }
        scene
    }

    /// The policies in which nothing is invalid.
    pub(super) fn sound(&self) -> impl Iterator<Item = &'a Policy> {
        self.snapshot.policies.values().filter(|policy| !policy.flawed)
    }

    /// The policies of a namespace, in key order.
    pub(super) fn policies_of(
        &self,
        namespace: &NamespaceName,
    ) -> impl Iterator<Item = &'a Policy> {
        self.policies.get(namespace).into_iter().flatten().copied()
    }

    /// The Services of a namespace, in key order.
    pub(super) fn services_of(
        &self,
        namespace: &NamespaceName,
    ) -> impl Iterator<Item = &'a Service> {
        self.services.get(namespace).into_iter().flatten().copied()
    }

    /// Every valid rule that counts, of every policy.
    pub(super) fn rules(&self) -> impl Iterator<Item = Listed<'a>> {
        self.snapshot.policies.values().flat_map(|policy| {
            Direction::ALL.into_iter().flat_map(move |direction| rules_of(policy, direction))
        })
    }

    /// The classes of a namespace, those on the host's network too.
    pub(super) fn in_namespace(&self, namespace: &NamespaceName) -> &[usize] {
        self.by_namespace.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// The classes that `policy` isolates.
    pub(super) fn subjects(&self, policy: &Policy) -> Classes {
        self.selected.get(&policy.key).map(|(own, _)| own.clone()).unwrap_or_default()
    }

    /// The classes on the host's network with the labels that `policy` asks for.
    pub(super) fn host_subjects(&self, policy: &Policy) -> Classes {
        self.selected.get(&policy.key).map(|(_, host)| host.clone()).unwrap_or_default()
    }

    /// The namespaces that a pod peer of a policy in `own` looks into.
    pub(super) fn scope<'s>(
        &'s self,
        own: &'s NamespaceName,
        scope: &NamespaceScope,
    ) -> Vec<&'s NamespaceName> {
        match scope {
            NamespaceScope::Own => vec![own],
            NamespaceScope::Matching(selector) => self
                .namespaces
                .iter()
                .filter(|(_, labels)| selector.matches(labels))
                .map(|(name, _)| name)
                .collect(),
        }
    }

    /// The live classes that a peer of a policy in `own` means; of a block, those in which some pod has
    /// an address in it.
    pub(super) fn peers(&self, own: &NamespaceName, selects: &'a PeerSelects) -> Classes {
        let key = (own.clone(), selects);
        if let Some(known) = self.meant.borrow().get(&key) {
            return known.clone();
        }
        let live = |class: &usize| !self.classes[*class].one().host_network;
        let found: Vec<usize> = match selects {
            PeerSelects::Pods { namespaces, pods } => {
                self.labelled(own, namespaces, pods).into_iter().filter(live).collect()
            }
            PeerSelects::Block(block) => {
                let family = crate::cidr::Family::of_net(&block.cidr());
                let granted = super::addresses::AddressSet::of(family, [block]);
                let inside =
                    |pod: &&Pod| pod.addresses.of(family).is_some_and(|a| granted.contains(a));
                let all = 0..self.classes.len();
                all.filter(live).filter(|c| self.classes[*c].pods.iter().any(inside)).collect()
            }
        };
        let found = Rc::new(found);
        self.meant.borrow_mut().insert(key, found.clone());
        found
    }

    /// The classes that a pod peer's selectors fit, those on the host's network too.
    pub(super) fn labelled(
        &self,
        own: &NamespaceName,
        scope: &NamespaceScope,
        pods: &Selector,
    ) -> Vec<usize> {
        let mut found: Vec<usize> = self
            .scope(own, scope)
            .into_iter()
            .flat_map(|namespace| self.in_namespace(namespace))
            .copied()
            .filter(|class| pods.matches(&self.classes[*class].one().labels))
            .collect();
        found.sort_unstable();
        found
    }

    /// Whether the input tells of all pods of a namespace.
    pub(super) fn knows_pods_of(&self, namespace: &NamespaceName) -> bool {
        self.material.whole || self.by_namespace.contains_key(namespace)
    }

    /// Whether the input tells of all namespaces.
    pub(super) fn knows_namespaces(&self) -> bool {
        self.material.whole || !self.snapshot.namespaces.is_empty()
    }

    /// The labels that an object gives a namespace.
    pub(super) fn declared_labels(&self, namespace: &NamespaceName) -> Option<&'a Labels> {
        self.snapshot.namespaces.get(namespace).map(crate::cluster::Namespace::labels)
    }

    /// A policy as it was written.
    pub(super) fn document(&self, policy: &Policy) -> Option<&'a Written> {
        self.documents.get(policy)
    }

    /// Where a field of a policy stands.
    pub(super) fn locate(&self, policy: &Policy, field: &str) -> Location {
        self.document(policy).map_or_else(|| policy.location.clone(), |w| w.locate(field))
    }

    /// A field of a policy with its place.
    pub(super) fn spot(&self, policy: &Policy, field: &str) -> Spot {
        Spot {
            location: self.locate(policy, field),
            object: reference(policy),
            field: field.to_owned(),
        }
    }

    /// A finding about a field of a policy.
    pub(super) fn finding(
        &self,
        rule: Rule,
        policy: &Policy,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        let Spot { location, object, field } = self.spot(policy, field);
        finding(rule, rule.severity(), location, Some(object), field, message, fix)
    }

    /// A place in another rule.
    pub(super) fn related(&self, rule: &Listed<'_>, message: impl Into<String>) -> Related {
        Related { location: self.locate(rule.policy, &rule.field()), message: message.into() }
    }
}

/// A finding without related places.
pub(super) fn finding(
    rule: Rule,
    severity: Severity,
    location: Location,
    object: Option<ObjectRef>,
    field: impl Into<String>,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        location,
        rule,
        object,
        field: field.into(),
        severity,
        message: message.into(),
        fix: Some(fix.into()),
        related: Vec::new(),
    }
}

fn classes(snapshot: &Snapshot) -> Vec<Class<'_>> {
    let mut alike: BTreeMap<_, Vec<&Pod>> = BTreeMap::new();
    for pod in snapshot.pods.values().filter(|pod| pod.phase != Phase::Finished) {
        let key = (&pod.key.namespace, &pod.labels, &pod.ports, pod.host_network);
        alike.entry(key).or_default().push(pod);
    }
    alike.into_values().map(|pods| Class { pods }).collect()
}

/// The namespaces that are declared, mentioned by an object, or in every cluster.
fn namespaces(snapshot: &Snapshot) -> BTreeMap<NamespaceName, Labels> {
    let built_in = BUILT_IN.iter().filter_map(|name| NamespaceName::new(name).ok());
    let of_pods = snapshot.pods.keys().map(|key| key.namespace.clone());
    let of_policies = snapshot.policies.keys().map(|key| key.namespace.clone());
    let declared = snapshot.namespaces.keys().cloned();
    let all: BTreeSet<_> = built_in.chain(of_pods).chain(of_policies).chain(declared).collect();
    all.into_iter().map(|name| (name.clone(), snapshot.namespace_labels(&name))).collect()
}

/// The one value that a selector demands of the namespace's name.
pub(super) fn wanted_name(selector: &Selector) -> Option<&str> {
    selector.requirements().find(|r| &*r.key == METADATA_NAME_LABEL).and_then(|r| {
        match &r.operator {
            crate::selector::Operator::In(values) if values.len() == 1 => {
                values.first().map(|v| &**v)
            }
            _ => None,
        }
    })
}
