//! What an event makes of the objects, and of what is known about them.
//!
//! Everything comes down to one object that was so and is so. A list is taken object by object, so that
//! one that says nothing new costs a comparison of each and no more.

use std::collections::BTreeMap;

use super::Engine;
use crate::cluster::{Namespace, Node, Snapshot};
use crate::index::Touched;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::packed::PackedPod;
use crate::policy::Policy;
use crate::update::{Event, PodList, Relist};

impl Engine {
    /// Takes an event in, and says whether it made any object different. Nothing is compiled yet.
    pub fn apply(&mut self, event: Event) -> bool {
        let changed = match event {
            Event::PodApplied(pod) => {
                let packed = self.index.pack(*pod);
                self.put_pod(packed)
            }
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

    /// Takes note of what a change has touched besides a pod or a policy itself.
    fn touched(&mut self, touched: Touched) -> bool {
        self.stale.owners |= touched.owners;
        self.stale.numbers |= touched.numbers;
        true
    }

    /// The same, of a change of a pod or of a node.
    fn moved(&mut self, touched: Touched) -> bool {
        self.local_changes += u64::from(touched.local);
        self.touched(touched)
    }

    /// The same, of a change of a policy.
    fn ruled(&mut self, namespace: NamespaceName, touched: Touched) -> bool {
        if touched.local {
            self.stale.namespaces.insert(namespace);
        }
        self.touched(touched)
    }

    fn put_pod(&mut self, pod: PackedPod) -> bool {
        let key = pod.key();
        let Some(touched) = self.index.put_pod(&self.objects, pod) else { return false };
        self.keep_whole(key, touched);
        self.moved(touched)
    }

    fn remove_pod(&mut self, key: &ObjectKey) -> bool {
        let Some(touched) = self.index.remove_pod(&self.objects, key) else { return false };
        self.keep_whole(key.clone(), touched);
        self.moved(touched)
    }

    /// A pod of the node is kept whole too.
    fn keep_whole(&mut self, key: ObjectKey, touched: Touched) {
        if !touched.here {
            return;
        }
        if touched.local {
            self.stale.pods.insert(key.clone());
        }
        match self.index.get(&key).filter(|pod| pod.node.as_ref() == Some(&self.config.node)) {
            Some(pod) => drop(self.objects.pods.insert(key, pod)),
            None => drop(self.objects.pods.remove(&key)),
        }
    }

    fn put_namespace(&mut self, mut namespace: Namespace) -> bool {
        self.index.share_namespace(&mut namespace);
        let (name, audit) = (namespace.name().clone(), namespace.audit);
        match put(&mut self.objects.namespaces, name.clone(), namespace) {
            Ok(old) => self.namespace_changed(&name, old.is_some_and(|old| old.audit), audit),
            Err(Unchanged) => false,
        }
    }

    fn remove_namespace(&mut self, name: &NamespaceName) -> bool {
        match self.objects.namespaces.remove(name) {
            Some(old) => self.namespace_changed(name, old.audit, false),
            None => false,
        }
    }

    fn namespace_changed(&mut self, name: &NamespaceName, was: bool, is: bool) -> bool {
        if was != is {
            self.stale.namespaces.insert(name.clone());
        }
        let touched = self.index.namespace(&self.objects, name);
        self.touched(touched)
    }

    fn put_policy(&mut self, mut policy: Policy) -> bool {
        policy.shrink();
        self.index.share_policy(&mut policy);
        let key = policy.key.clone();
        let Ok(old) = put(&mut self.objects.policies, key.clone(), policy) else { return false };
        let new = self.objects.policies.get(&key);
        let touched = self.index.policy(&self.objects, old.as_ref(), new);
        self.ruled(key.namespace, touched)
    }

    fn remove_policy(&mut self, key: &ObjectKey) -> bool {
        let Some(old) = self.objects.policies.remove(key) else { return false };
        let touched = self.index.policy(&self.objects, Some(&old), None);
        self.ruled(old.key.namespace, touched)
    }

    fn put_node(&mut self, node: Node) -> bool {
        let name = node.name.clone();
        let Ok(old) = put(&mut self.objects.nodes, name.clone(), node) else { return false };
        let touched = self.index.node(old.as_ref(), self.objects.nodes.get(&name));
        self.moved(touched)
    }

    fn remove_node(&mut self, name: &NodeName) -> bool {
        let Some(old) = self.objects.nodes.remove(name) else { return false };
        let touched = self.index.node(Some(&old), None);
        self.moved(touched)
    }

    fn relist(&mut self, listed: Snapshot) -> bool {
        let Snapshot { namespaces, pods, policies, nodes, services } = listed;
        let differs = self.objects.services != services;
        self.objects.services = services;
        let lists = [
            self.relist_namespaces(whole(namespaces)),
            self.relist_nodes(whole(nodes)),
            self.relist_pods(pods.into_values().collect()),
            self.relist_policies(whole(policies)),
        ];
        differs || lists.contains(&true)
    }

    fn relist_pods(&mut self, listed: PodList) -> bool {
        let (gone, news) = self.index.differing(listed);
        for key in &gone {
            self.remove_pod(key);
        }
        news.into_iter().fold(!gone.is_empty(), |differs, pod| self.put_pod(pod) || differs)
    }

    fn relist_namespaces(&mut self, mut listed: Relist<NamespaceName, Namespace>) -> bool {
        let Differing { gone, news } = differing(&self.objects.namespaces, &listed);
        for name in &gone {
            self.remove_namespace(name);
        }
        let news = news.into_iter().filter_map(|name| listed.objects.remove(&name));
        news.fold(!gone.is_empty(), |differs, new| self.put_namespace(new) || differs)
    }

    fn relist_policies(&mut self, mut listed: Relist<ObjectKey, Policy>) -> bool {
        let Differing { gone, news } = differing(&self.objects.policies, &listed);
        for key in &gone {
            self.remove_policy(key);
        }
        let news = news.into_iter().filter_map(|key| listed.objects.remove(&key));
        news.fold(!gone.is_empty(), |differs, policy| self.put_policy(policy) || differs)
    }

    fn relist_nodes(&mut self, mut listed: Relist<NodeName, Node>) -> bool {
        let Differing { gone, news } = differing(&self.objects.nodes, &listed);
        for name in &gone {
            self.remove_node(name);
        }
        let news = news.into_iter().filter_map(|name| listed.objects.remove(&name));
        news.fold(!gone.is_empty(), |differs, node| self.put_node(node) || differs)
    }
}

fn whole<K, V>(objects: BTreeMap<K, V>) -> Relist<K, V> {
    Relist { objects, ..Relist::default() }
}

/// What a list says anew.
struct Differing<K> {
    /// What is neither listed nor there and unreadable.
    gone: Vec<K>,
    /// What is listed and was not so.
    news: Vec<K>,
}

/// Goes through both in the order of their keys.
fn differing<K: Ord + Clone, V: PartialEq>(
    objects: &BTreeMap<K, V>,
    listed: &Relist<K, V>,
) -> Differing<K> {
    let (mut gone, mut news) = (Vec::new(), Vec::new());
    let mut old = objects.iter().peekable();
    let mut leave = |key: &K| {
        if !listed.unread.contains(key) {
            gone.push(key.clone());
        }
    };
    for (key, object) in &listed.objects {
        while let Some((before, _)) = old.next_if(|(other, _)| *other < key) {
            leave(before);
        }
        let same = old.next_if(|(other, _)| *other == key).is_some_and(|(_, was)| was == object);
        if !same {
            news.push(key.clone());
        }
    }
    for (key, _) in old {
        leave(key);
    }
    Differing { gone, news }
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
