//! The index against a search through all objects, over histories made at random.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Definitions, Index, MembershipId, NamedQuestion, PodDefinition, owners};
use crate::cidr::Family;
use crate::cluster::{Addresses, Age, ContainerPort, Namespace, Node, Phase, Pod, Snapshot};
use crate::compile::networks::Coverage;
use crate::document::Location;
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::packed::PackedPod;
use crate::policy::NamespaceScope;
use crate::port::{PortName, Protocol};
use crate::ruleset::{Member, MemberSet};
use crate::selector::{Operator, Requirement, Selector};

const NAMESPACES: [&str; 3] = ["one", "two", "three"];
const KEYS: [&str; 3] = ["app", "tier", "zone"];

fn namespace_name(index: usize) -> NamespaceName {
    NamespaceName::new(NAMESPACES[index]).unwrap()
}

fn labels() -> impl Strategy<Value = Labels> {
    let value = || prop::option::of(prop_oneof![Just("x"), Just("y")]);
    [value(), value(), value()].prop_map(|values| {
        let pairs = KEYS.into_iter().zip(values);
        pairs.filter_map(|(key, value)| Some((key, value?))).collect()
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let requirement = (0..KEYS.len(), 0..6_u8, any::<bool>()).prop_map(|(key, operator, x)| {
        let values = BTreeSet::from([Arc::from(if x { "x" } else { "y" })]);
        let operator = match operator {
            0..3 => Operator::In(values),
            3 => Operator::NotIn(values),
            4 => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        Requirement { key: Arc::from(KEYS[key]), operator }
    });
    prop::collection::vec(requirement, 0..3).prop_map(Selector::new)
}

fn definitions() -> impl Strategy<Value = Definitions> {
    let scope =
        prop_oneof![Just(NamespaceScope::Own), selector().prop_map(NamespaceScope::Matching)];
    let definition = (0..NAMESPACES.len(), scope, selector()).prop_map(|(own, scope, pods)| {
        Arc::new(PodDefinition::new(&namespace_name(own), &scope, &pods))
    });
    prop::collection::btree_set(definition, 1..3)
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn pod() -> impl Strategy<Value = Pod> {
    let port = (any::<bool>(), 80..82_u16).prop_map(|(named, number)| ContainerPort {
        name: named.then(|| PortName::new("http").unwrap()),
        protocol: Protocol::Tcp,
        number: NonZeroU16::new(number).unwrap(),
    });
    let life = prop_oneof![8 => Just(Phase::Running), 1 => Just(Phase::Finished)];
    (
        (0..NAMESPACES.len(), 0..4_u8),
        labels(),
        prop::option::weighted(0.9, 1..6_u8),
        prop::collection::vec(port, 0..3),
        prop::option::weighted(0.3, 1..8_u8),
        (life, prop::bool::weighted(0.1), any::<bool>()),
    )
        .prop_map(
            |((namespace, name), labels, last, ports, host, (phase, host_network, local))| {
                let mut addresses = Addresses::default();
                if let Some(last) = last {
                    addresses.offer(address(last));
                }
                Pod {
                    key: ObjectKey::new(NAMESPACES[namespace], &format!("p{name}")).unwrap(),
                    labels,
                    node: Some(NodeName::new(if local { "here" } else { "there" }).unwrap()),
                    host_network,
                    phase,
                    addresses,
                    ports,
                    host_addresses: host.map(address).into_iter().collect(),
                    age: Age::default(),
                    workload: None,
                    template: false,
                    location: Location::default(),
                }
            },
        )
}

#[derive(Clone, Debug)]
enum Change {
    Pod(Box<Pod>),
    PodGone(usize, u8),
    Namespace(usize, Labels),
    NamespaceGone(usize),
    Node(Vec<u8>),
    NodeGone,
    Asked(Definitions),
    Retained(prop::sample::Index),
    Taken,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => pod().prop_map(|pod| Change::Pod(Box::new(pod))),
        4 => (0..NAMESPACES.len(), 0..4_u8).prop_map(|(n, p)| Change::PodGone(n, p)),
        3 => (0..NAMESPACES.len(), labels()).prop_map(|(n, labels)| Change::Namespace(n, labels)),
        1 => (0..NAMESPACES.len()).prop_map(Change::NamespaceGone),
        1 => prop::collection::vec(1..8_u8, 0..3).prop_map(Change::Node),
        1 => Just(Change::NodeGone),
        4 => definitions().prop_map(Change::Asked),
        1 => any::<prop::sample::Index>().prop_map(Change::Retained),
        2 => Just(Change::Taken),
    ]
}

/// What is followed: the index, and what it said of each membership when that was last taken.
struct Followed {
    objects: Snapshot,
    index: Index,
    asked: BTreeMap<Definitions, BTreeSet<IpAddr>>,
}

impl Followed {
    fn new() -> Self {
        let index = Index::new(NodeName::new("here").unwrap());
        Self { objects: Snapshot::default(), index, asked: BTreeMap::new() }
    }

    fn carry_out(&mut self, change: &Change) {
        let node = NodeName::new("n").unwrap();
        match change {
            Change::Pod(pod) => {
                let pod: &Pod = pod;
                let old = self.objects.pods.insert(pod.key.clone(), pod.clone());
                let touched = self.index.put_pod(&self.objects, PackedPod::new(pod.clone()));
                assert_eq!(touched.is_some(), old.as_ref() != Some(pod), "{pod:?}");
            }
            Change::PodGone(namespace, name) => {
                let key = ObjectKey::new(NAMESPACES[*namespace], &format!("p{name}")).unwrap();
                let old = self.objects.pods.remove(&key);
                let touched = self.index.remove_pod(&self.objects, &key);
                assert_eq!(touched.is_some(), old.is_some(), "{key}");
            }
            Change::Namespace(index, labels) => {
                let name = namespace_name(*index);
                let namespace = Namespace::new(name.clone(), labels.clone(), Location::default());
                self.objects.namespaces.insert(name.clone(), namespace);
                self.index.namespace(&self.objects, &name);
            }
            Change::NamespaceGone(index) => {
                self.objects.namespaces.remove(&namespace_name(*index));
                self.index.namespace(&self.objects, &namespace_name(*index));
            }
            Change::Node(addresses) => {
                let new = Node {
                    name: node.clone(),
                    addresses: addresses.iter().copied().map(address).collect(),
                    pod_networks: Vec::new(),
                    location: Location::default(),
                };
                let old = self.objects.nodes.insert(node, new.clone());
                self.index.node(old.as_ref(), Some(&new));
            }
            Change::NodeGone => {
                let old = self.objects.nodes.remove(&node);
                self.index.node(old.as_ref(), None);
            }
            Change::Asked(definitions) => {
                if !self.asked.contains_key(definitions) {
                    let members = self.searched(definitions);
                    self.asked.insert(definitions.clone(), members);
                    self.index.membership(&self.objects, &Arc::new(definitions.clone()));
                }
            }
            Change::Retained(which) => self.retain(*which),
            Change::Taken => {
                for (definitions, then) in &mut self.asked {
                    *then = search(&self.objects, definitions);
                }
                self.index.forget_deltas();
            }
        }
    }

    /// Keeps one membership and drops the others.
    fn retain(&mut self, which: prop::sample::Index) {
        let Some(kept) = self.asked.keys().nth(which.index(self.asked.len().max(1))).cloned()
        else {
            return;
        };
        self.asked.retain(|definitions, _| *definitions == kept);
        let id = self.index.membership(&self.objects, &Arc::new(kept));
        self.index.retain(&self.objects, &BTreeSet::from([id]), &BTreeSet::new());
    }

    fn searched(&self, definitions: &Definitions) -> BTreeSet<IpAddr> {
        search(&self.objects, definitions)
    }

    fn judge(&mut self) {
        let deltas: BTreeMap<_, _> =
            self.index.deltas().map(|(id, delta)| (id, delta.clone())).collect();
        for (definitions, then) in self.asked.clone() {
            let wanted = self.searched(&definitions);
            let id = self.index.membership(&self.objects, &Arc::new(definitions.clone()));
            assert!(self.index.members(id, Family::V4).iter().eq(&wanted), "{definitions:?}");
            let delta = deltas.get(&id).cloned().unwrap_or_default();
            let (joined, left) = delta.of(Family::V4);
            assert!(joined.iter().eq(&(&wanted - &then)), "joined {definitions:?}");
            assert!(left.iter().eq(&(&then - &wanted)), "left {definitions:?}");
            self.judge_beside(id, &wanted);
            for coverage in
                [Coverage::Nothing, Coverage::Entries(vec![Member::address(address(2))])]
            {
                self.judge_named(&definitions, Arc::new(coverage));
            }
        }
        let local = self.objects.pods.values().filter(|pod| is_somebody(pod));
        let local = local.filter(|pod| pod.node.as_ref().unwrap().as_str() == "here");
        assert!(self.index.local().eq(local.map(|pod| &pod.key)));
        assert!(self.index.all().eq(self.objects.pods.values().cloned()), "nothing is lost");
    }

    /// The members are found by those of every other membership.
    fn judge_beside(&mut self, id: MembershipId, wanted: &BTreeSet<IpAddr>) {
        let wanted: MemberSet = wanted.iter().copied().collect();
        for (definitions, then) in &self.asked {
            let other = self.index.membership(&self.objects, &Arc::new(definitions.clone()));
            let then = then.iter().copied().collect();
            let members = self.index.members_beside(id, (other, &then), Family::V4);
            assert_eq!(members, wanted, "beside {definitions:?}");
        }
    }

    fn judge_named(&mut self, definitions: &Definitions, coverage: Arc<Coverage>) {
        let pods = self.index.membership(&self.objects, &Arc::new(definitions.clone()));
        let (protocol, family) = (Protocol::Tcp, Family::V4);
        let name = PortName::new("http").unwrap();
        let question = NamedQuestion { protocol, name, family, pods, coverage };
        let id = self.index.named(question.clone());
        let mut wanted: BTreeMap<NonZeroU16, BTreeSet<IpAddr>> = BTreeMap::new();
        let nodes = nodes(&self.objects);
        for pod in self.objects.pods.values().filter(|pod| is_somebody(pod)) {
            if question.means(pod.addresses, is_meant(&self.objects, pod, definitions)) {
                let visible: BTreeSet<IpAddr> =
                    pod.addresses.iter().filter(|a| !nodes.contains(a)).collect();
                for number in question.declared_by(&pod.ports) {
                    wanted.entry(number).or_default().extend(&visible);
                }
            }
        }
        let found = self.index.numbers_found(id);
        let found = found.map(|number| (number, self.index.found_at(id, number)));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted);
    }
}

/// Whether a pod is subject and peer of policies.
fn is_somebody(pod: &Pod) -> bool {
    pod.is_live() && !pod.template
}

/// The addresses that a pod tells of its node.
fn of_its_node(pod: &Pod) -> impl Iterator<Item = IpAddr> + '_ {
    let own = (pod.host_network && !pod.template).then(|| pod.addresses.iter());
    pod.host_addresses.iter().copied().chain(own.into_iter().flatten())
}

fn nodes(objects: &Snapshot) -> BTreeSet<IpAddr> {
    let told = objects.pods.values().flat_map(of_its_node);
    told.chain(objects.nodes.values().flat_map(owners::of_node)).collect()
}

fn is_meant(objects: &Snapshot, pod: &Pod, definitions: &Definitions) -> bool {
    let labels = objects.namespace_labels(&pod.key.namespace);
    definitions.iter().any(|one| one.means(&pod.key.namespace, || &labels, &pod.labels))
}

fn search(objects: &Snapshot, definitions: &Definitions) -> BTreeSet<IpAddr> {
    let nodes = nodes(objects);
    let pods = objects.pods.values().filter(|pod| is_somebody(pod));
    let meant = pods.filter(|pod| is_meant(objects, pod, definitions));
    meant.flat_map(|pod| pod.addresses.iter()).filter(|a| !nodes.contains(a)).collect()
}

proptest! {
    #![proptest_config(crate::laws::config(2000))]

    #[test]
    fn it_says_what_a_search_says_after_every_change(
        changes in prop::collection::vec(change(), 1..40),
    ) {
        let mut followed = Followed::new();
        for change in &changes {
            followed.carry_out(change);
            followed.judge();
        }
    }
}
