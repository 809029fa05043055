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

    fn relist_pods(&mut self, mut listed: Relist<ObjectKey, Pod>) -> bool {
        let Differing { gone, news } = differing(&self.snapshot.pods, &listed);
        if self.snapshot.pods.is_empty() {
            self.snapshot.pods = listed.objects;
            for pod in self.snapshot.pods.values() {
                let touched = self.index.pod(&self.snapshot, None, Some(pod));
                self.local_changes += u64::from(touched.local);
                self.stale |= touched.local || touched.numbers;
            }
            return !news.is_empty();
        }
        for key in &gone {
            self.remove_pod(key);
        }
        let news = news.into_iter().filter_map(|key| listed.objects.remove(&key));
        news.fold(!gone.is_empty(), |differs, pod| self.put_pod(pod) || differs)
    }

    fn relist_namespaces(&mut self, mut listed: Relist<NamespaceName, Namespace>) -> bool {
        let Differing { gone, news } = differing(&self.snapshot.namespaces, &listed);
        for name in &gone {
            self.remove_namespace(name);
        }
        let news = news.into_iter().filter_map(|name| listed.objects.remove(&name));
        news.fold(!gone.is_empty(), |differs, new| self.put_namespace(new) || differs)
    }

    fn relist_policies(&mut self, mut listed: Relist<ObjectKey, Policy>) -> bool {
        let Differing { gone, news } = differing(&self.snapshot.policies, &listed);
        for key in &gone {
            self.remove_policy(key);
        }
        let news = news.into_iter().filter_map(|key| listed.objects.remove(&key));
        news.fold(!gone.is_empty(), |differs, policy| self.put_policy(policy) || differs)
    }

    fn relist_nodes(&mut self, mut listed: Relist<NodeName, Node>) -> bool {
        let Differing { gone, news } = differing(&self.snapshot.nodes, &listed);
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
