//! The single differences between two sides that a connection can depend on, and how to make one of
//! them alone: a policy that came or went, one field of a policy, one label of a pod or namespace, and
//! what else a pod or a node is.

use std::collections::BTreeSet;

use policy_compiler::cluster::{Namespace, Pod, Snapshot};
use policy_compiler::document::Location;
use policy_compiler::labels::Labels;
use policy_compiler::name::{NamespaceName, NodeName, ObjectKey};
use policy_compiler::policy::{Direction, Grant, Peers, Policy, Ports, Rule};

/// One difference. Pods are named as the old side does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// A policy that one side lacks.
    Policy(ObjectKey),
    /// One field of a policy that both have.
    Field(ObjectKey, Field),
    /// A label of a pod.
    Label(ObjectKey, String),
    /// The ports that a pod's containers declare.
    Ports(ObjectKey),
    /// Whether a pod uses its node's network.
    HostNetwork(ObjectKey),
    /// A label of a namespace.
    NamespaceLabel(NamespaceName, String),
    /// Whether a namespace has its policies audited only.
    NamespaceAudit(NamespaceName),
    /// The node of a pod.
    Scheduled(ObjectKey),
    /// The addresses of a pod.
    Addresses(ObjectKey),
    /// The addresses of a node.
    Node(NodeName),
}

/// The fields of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Selector,
    Types(Direction),
    Rules(Direction),
    Audit,
}

/// Two small snapshots of what one connection depends on, the new one with the names of the old.
#[derive(Debug)]
pub(super) struct Both {
    pub(super) old: Snapshot,
    pub(super) new: Snapshot,
}

impl Both {
    /// All differences.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units = BTreeSet::new();
        let keys: BTreeSet<_> = self.old.policies.keys().chain(self.new.policies.keys()).collect();
        for key in keys {
            match (self.old.policies.get(key), self.new.policies.get(key)) {
                (Some(old), Some(new)) => {
                    units.extend(fields(old, new).into_iter().map(|f| Unit::Field(key.clone(), f)));
                }
                _ => {
                    units.insert(Unit::Policy(key.clone()));
                }
            }
        }
        for (key, old) in &self.old.pods {
            if let Some(new) = self.new.pods.get(key) {
                of_pod(key, old, new, &mut units);
            }
        }
        for (name, old) in &self.old.namespaces {
            if let Some(new) = self.new.namespaces.get(name) {
                let labels = differing(old.labels(), new.labels());
                units.extend(labels.into_iter().map(|l| Unit::NamespaceLabel(name.clone(), l)));
                units.extend((old.audit != new.audit).then(|| Unit::NamespaceAudit(name.clone())));
            }
        }
        for (name, old) in &self.old.nodes {
            let differs =
                self.new.nodes.get(name).is_some_and(|new| new.addresses != old.addresses);
            units.extend(differs.then(|| Unit::Node(name.clone())));
        }
        units.into_iter().collect()
    }

    /// The old side with these differences made.
    pub(super) fn with<'u>(&self, units: impl IntoIterator<Item = &'u Unit>) -> Snapshot {
        let mut snapshot = self.old.clone();
        for unit in units {
            self.make(unit, &mut snapshot);
        }
        snapshot
    }

    fn make(&self, unit: &Unit, snapshot: &mut Snapshot) {
        match unit {
            Unit::Policy(key) => match self.new.policies.get(key) {
                Some(policy) => {
                    snapshot.policies.insert(key.clone(), policy.clone());
                }
                None => {
                    snapshot.policies.remove(key);
                }
            },
            Unit::Field(key, field) => {
                if let Some(new) = self.new.policies.get(key)
                    && let Some(policy) = snapshot.policies.get_mut(key)
                {
                    take_field(policy, new, *field);
                }
            }
            Unit::NamespaceLabel(name, label) => {
                if let Some(new) = self.new.namespaces.get(name)
                    && let Some(old) = snapshot.namespaces.get(name)
                {
                    let labels = with_label(old.labels(), new.labels(), label);
                    let mut made = Namespace::new(name.clone(), labels, old.location.clone());
                    made.audit = old.audit;
                    snapshot.namespaces.insert(name.clone(), made);
                }
            }
            Unit::NamespaceAudit(name) => {
                if let Some(new) = self.new.namespaces.get(name)
                    && let Some(namespace) = snapshot.namespaces.get_mut(name)
                {
                    namespace.audit = new.audit;
                }
            }
            Unit::Node(name) => {
                if let Some(new) = self.new.nodes.get(name) {
                    snapshot.nodes.insert(name.clone(), new.clone());
                }
            }
            Unit::Label(key, _)
            | Unit::Ports(key)
            | Unit::HostNetwork(key)
            | Unit::Scheduled(key)
            | Unit::Addresses(key) => {
                if let Some(new) = self.new.pods.get(key)
                    && let Some(pod) = snapshot.pods.get_mut(key)
                {
                    take_of_pod(pod, new, unit);
                }
            }
        }
    }
}

fn of_pod(key: &ObjectKey, old: &Pod, new: &Pod, units: &mut BTreeSet<Unit>) {
    let labels = differing(&old.labels, &new.labels);
    units.extend(labels.into_iter().map(|label| Unit::Label(key.clone(), label)));
    let ports = |pod: &Pod| pod.ports.iter().cloned().collect::<BTreeSet<_>>();
    units.extend((ports(old) != ports(new)).then(|| Unit::Ports(key.clone())));
    units.extend((old.host_network != new.host_network).then(|| Unit::HostNetwork(key.clone())));
    units.extend((old.node != new.node).then(|| Unit::Scheduled(key.clone())));
    let claim = |pod: &Pod| (pod.addresses, pod.age.clone());
    units.extend((claim(old) != claim(new)).then(|| Unit::Addresses(key.clone())));
}

fn take_of_pod(pod: &mut Pod, new: &Pod, unit: &Unit) {
    match unit {
        Unit::Label(_, label) => pod.labels = with_label(&pod.labels, &new.labels, label),
        Unit::Ports(_) => pod.ports.clone_from(&new.ports),
        Unit::HostNetwork(_) => pod.host_network = new.host_network,
        Unit::Scheduled(_) => {
            pod.node.clone_from(&new.node);
            pod.host_addresses.clone_from(&new.host_addresses);
        }
        Unit::Addresses(_) => {
            pod.addresses = new.addresses;
            pod.age = new.age.clone();
        }
        _ => {}
    }
}

/// The keys of labels that are not the same in both.
fn differing(old: &Labels, new: &Labels) -> BTreeSet<String> {
    let keys = old.iter().chain(new.iter()).map(|(key, _)| key);
    keys.filter(|key| old.get(key) != new.get(key)).map(str::to_owned).collect()
}

/// `labels` with `key` as `new` has it.
fn with_label(labels: &Labels, new: &Labels, key: &str) -> Labels {
    let mut made: Labels = labels.iter().filter(|(other, _)| *other != key).collect();
    if let Some(value) = new.get(key) {
        made.insert(key, value);
    }
    made
}

fn fields(old: &Policy, new: &Policy) -> Vec<Field> {
    let mut fields = Vec::new();
    fields.extend((old.pod_selector != new.pod_selector).then_some(Field::Selector));
    for direction in Direction::ALL {
        let types = old.isolates(direction) != new.isolates(direction);
        fields.extend(types.then_some(Field::Types(direction)));
        let rules = |policy: &Policy| -> Vec<Grant> {
            let listed = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            listed.iter().map(bare).collect()
        };
        fields.extend((rules(old) != rules(new)).then_some(Field::Rules(direction)));
    }
    fields.extend((old.audit != new.audit).then_some(Field::Audit));
    fields
}

fn take_field(policy: &mut Policy, new: &Policy, field: Field) {
    match field {
        Field::Selector => policy.pod_selector = new.pod_selector.clone(),
        Field::Types(Direction::Ingress) => policy.isolates_ingress = new.isolates_ingress,
        Field::Types(Direction::Egress) => policy.isolates_egress = new.isolates_egress,
        Field::Rules(Direction::Ingress) => policy.ingress.clone_from(&new.ingress),
        Field::Rules(Direction::Egress) => policy.egress.clone_from(&new.egress),
        Field::Audit => policy.audit = new.audit,
    }
}

/// What a rule grants, wherever it stands.
pub(super) fn bare(rule: &Rule) -> Grant {
    let mut grant = rule.grant.clone();
    if let Grant::Traffic { peers, ports } = &mut grant {
        if let Peers::Listed(peers) = peers {
            for peer in peers {
                peer.location = Location::default();
            }
        }
        if let Ports::Listed(ports) = ports {
            for port in ports {
                port.location = Location::default();
            }
        }
    }
    grant
}

/// Whether two policies say the same, wherever they stand.
pub(super) fn same_policy(old: &Policy, new: &Policy) -> bool {
    fields(old, new).is_empty()
}
