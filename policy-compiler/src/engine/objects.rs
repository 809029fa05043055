//! What an event makes of the objects, and of what is known about them.
//!
//! Everything comes down to one object that was so and is so. A list is taken object by object, so that
//! one that says nothing new costs a comparison of each and no more.

use std::collections::BTreeMap;

use super::Engine;
use crate::cluster::{Namespace, Node, Pod, Snapshot};
use crate::index::Touched;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::Policy;
use crate::update::{Event, Relist};

impl Engine {
    /// Takes an event in, and says whether it made any object different. Nothing is compiled yet.
    pub fn apply(&mut self, event: Event) -> bool {
        let changed = match event {
            Event::PodApplied(pod) => self.put_pod(*pod),
            Event::PodDeleted(key) => self.remove_pod(&key),
            Event::NamespaceApplied(namespace) => self.put_namespace(namespace),
            Event::NamespaceDeleted(name) => self.remove_namespace(&name),
            Event::PolicyApplied(policy) => self.put_policy(*policy),
            Event::PolicyDeleted(key) => self.remove_policy(&key),
            Event::NodeApplied(node) => self.put_node(node),
            Event::NodeDeleted(name) => self.remove_node(&name),
            Event::Relisted(listed) => self.relist(*listed),
            Event::PodsRelisted(listed) => self.relist_pods(listed),
            Event::NamespacesRelisted(listed) => self.relist_namespaces(listed),
            Event::PoliciesRelisted(listed) => self.relist_policies(listed),
            Event::NodesRelisted(listed) => self.relist_nodes(listed),
        };
        self.dirty |= changed;
        changed
    }

    /// Takes note of what a change has touched.
    fn touched(&mut self, touched: Touched) -> bool {
        self.stale |= touched.local || touched.numbers;
        true
    }

    /// The same, of a change of a pod or of a node.
    fn moved(&mut self, touched: Touched) -> bool {
        self.local_changes += u64::from(touched.local);
        self.touched(touched)
    }

    fn put_pod(&mut self, pod: Pod) -> bool {
        let key = pod.key.clone();
        let Ok(old) = put(&mut self.snapshot.pods, key.clone(), pod) else { return false };
        let new = self.snapshot.pods.get(&key);
        let touched = self.index.pod(&self.snapshot, old.as_ref(), new);
        self.moved(touched)
    }

    fn remove_pod(&mut self, key: &ObjectKey) -> bool {
        let Some(old) = self.snapshot.pods.remove(key) else { return false };
        let touched = self.index.pod(&self.snapshot, Some(&old), None);
        self.moved(touched)
    }

    fn put_namespace(&mut self, namespace: Namespace) -> bool {
        let (name, audit) = (namespace.name().clone(), namespace.audit);
        match put(&mut self.snapshot.namespaces, name.clone(), namespace) {
            Ok(old) => self.namespace_changed(&name, old.is_some_and(|old| old.audit), audit),
            Err(Unchanged) => false,
        }
    }

    fn remove_namespace(&mut self, name: &NamespaceName) -> bool {
        match self.snapshot.namespaces.remove(name) {
            Some(old) => self.namespace_changed(name, old.audit, false),
            None => false,
        }
    }

    fn namespace_changed(&mut self, name: &NamespaceName, was: bool, is: bool) -> bool {
        self.stale |= was != is && self.index.local().any(|key| key.namespace == *name);
        let touched = self.index.namespace(&self.snapshot, name);
        self.touched(touched)
    }

    fn put_policy(&mut self, policy: Policy) -> bool {
        let key = policy.key.clone();
        let Ok(old) = put(&mut self.snapshot.policies, key.clone(), policy) else { return false };
        let new = self.snapshot.policies.get(&key);
        let touched = self.index.policy(&self.snapshot, old.as_ref(), new);
        self.touched(touched)
    }

    fn remove_policy(&mut self, key: &ObjectKey) -> bool {
        let Some(old) = self.snapshot.policies.remove(key) else { return false };
        let touched = self.index.policy(&self.snapshot, Some(&old), None);
        self.touched(touched)
    }

    fn put_node(&mut self, node: Node) -> bool {
        let name = node.name.clone();
        let Ok(old) = put(&mut self.snapshot.nodes, name.clone(), node) else { return false };
        let new = self.snapshot.nodes.get(&name);
        let touched = self.index.node(&self.snapshot, old.as_ref(), new);
        self.moved(touched)
    }

    fn remove_node(&mut self, name: &NodeName) -> bool {
        let Some(old) = self.snapshot.nodes.remove(name) else { return false };
        let touched = self.index.node(&self.snapshot, Some(&old), None);
        self.moved(touched)
    }

    fn relist(&mut self, listed: Snapshot) -> bool {
        let Snapshot { namespaces, pods, policies, nodes, services } = listed;
        let differs = self.snapshot.services != services;
        self.snapshot.services = services;
        let lists = [
            self.relist_namespaces(whole(namespaces)),
            self.relist_nodes(whole(nodes)),
            self.relist_pods(whole(pods)),
            self.relist_policies(whole(policies)),
        ];
        differs || lists.contains(&true)
    }

    fn relist_pods(&mut self, listed: Relist<ObjectKey, Pod>) -> bool {
        let gone = gone(&self.snapshot.pods, &listed);
        let mut differs = !gone.is_empty();
        for key in gone {
            self.remove_pod(&key);
        }
        for pod in listed.objects.into_values() {
            differs |= self.put_pod(pod);
        }
        differs
    }

    fn relist_namespaces(&mut self, listed: Relist<NamespaceName, Namespace>) -> bool {
        let gone = gone(&self.snapshot.namespaces, &listed);
        let mut differs = !gone.is_empty();
        for name in gone {
            self.remove_namespace(&name);
        }
        for namespace in listed.objects.into_values() {
            differs |= self.put_namespace(namespace);
        }
        differs
    }

    fn relist_policies(&mut self, listed: Relist<ObjectKey, Policy>) -> bool {
        let gone = gone(&self.snapshot.policies, &listed);
        let mut differs = !gone.is_empty();
        for key in gone {
            self.remove_policy(&key);
        }
        for policy in listed.objects.into_values() {
            differs |= self.put_policy(policy);
        }
        differs
    }

    fn relist_nodes(&mut self, listed: Relist<NodeName, Node>) -> bool {
        let gone = gone(&self.snapshot.nodes, &listed);
        let mut differs = !gone.is_empty();
        for name in gone {
            self.remove_node(&name);
        }
        for node in listed.objects.into_values() {
            differs |= self.put_node(node);
        }
        differs
    }
}

fn whole<K, V>(objects: BTreeMap<K, V>) -> Relist<K, V> {
    Relist { objects, ..Relist::default() }
}

/// What is neither listed nor there and unreadable.
fn gone<K: Ord + Clone, V>(objects: &BTreeMap<K, V>, listed: &Relist<K, V>) -> Vec<K> {
    let stays = |key: &&K| listed.objects.contains_key(*key) || listed.unread.contains(*key);
    objects.keys().filter(|key| !stays(key)).cloned().collect()
}

/// That an object was there, the same.
struct Unchanged;

/// Puts `object` under `key`, and says what was there before.
fn put<K: Ord, V: PartialEq>(
    objects: &mut BTreeMap<K, V>,
    key: K,
    object: V,
) -> Result<Option<V>, Unchanged> {
    match objects.get_mut(&key) {
        Some(there) if *there == object => Err(Unchanged),
        Some(there) => Ok(Some(std::mem::replace(there, object))),
        None => Ok(objects.insert(key, object)),
    }
}
