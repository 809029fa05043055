//! What many objects have in common, kept once.
//!
//! In a cluster the pods of a workload have the same labels and ports, those of a node the same node, and all
//! of a namespace its name. Read one by one, each has copies of its own, which together are most of what
//! pods take. A [`Pool`] gives those that are equal the same memory. What a pod says does not change.

use std::hash::Hash;
use std::sync::Arc;

use crate::cluster::{ContainerPort, Namespace, Pod, Workload};
use crate::labels::{Labels, Pairs};
use crate::lookup::Lookup;
use crate::name::Shared;
use crate::packed::Common;

/// How many entries a pool has at least before it looks which of them nobody has any more.
const FEW: usize = 4_096;

/// What was met so far.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    texts: Lookup<Arc<str>>,
    labels: Lookup<Pairs>,
    ports: Lookup<Arc<[ContainerPort]>>,
    workloads: Lookup<Arc<Workload>>,
    /// How many entries there may be before it is swept.
    bound: usize,
}

impl Pool {
    /// Makes a pod share what others have too, and drop what it has in reserve.
    pub fn share(&mut self, pod: &mut Pod) {
        self.sweep();
        self.share_text(pod.key.namespace.shared());
        if let Some(node) = &mut pod.node {
            self.share_text(node.shared());
        }
        self.share_labels(&mut pod.labels);
        for name in pod.ports.iter_mut().filter_map(|port| port.name.as_mut()) {
            self.share_text(name.shared());
        }
        pod.ports.shrink_to_fit();
        pod.host_addresses.shrink_to_fit();
    }

    /// The same for a namespace.
    pub fn share_namespace(&mut self, namespace: &mut Namespace) {
        self.sweep();
        self.share_labels(namespace.shared_labels());
    }

    /// The same for what the pods of a workload have in common, as long as nobody else has that.
    pub(crate) fn share_common(&mut self, common: &mut Arc<Common>) {
        let Some(common) = Arc::get_mut(common) else { return };
        self.sweep();
        self.share_text(common.namespace.shared());
        self.share_labels(&mut common.labels);
        share(&mut self.ports, &mut common.ports);
        if let Some(workload) = &mut common.workload {
            share(&mut self.workloads, workload);
        }
    }

    fn share_text(&mut self, text: &mut Arc<str>) {
        share(&mut self.texts, text);
    }

    /// Labels that are new here still share their keys and values.
    fn share_labels(&mut self, labels: &mut Labels) {
        if let Some(known) = self.labels.known(labels.pairs()) {
            *labels = Labels::of(Arc::clone(known));
            return;
        }
        let mut pairs = labels.pairs().to_vec();
        for (key, value) in &mut pairs {
            self.share_text(key);
            self.share_text(value);
        }
        let pairs: Pairs = pairs.into();
        self.labels.insert(Arc::clone(&pairs), ());
        *labels = Labels::of(pairs);
    }

    /// Forgets what nobody else has any more, once in a while: the work is in proportion to what came.
    fn sweep(&mut self) {
        if self.len() < self.bound.max(FEW) {
            return;
        }
        self.labels.retain(|labels, ()| Arc::strong_count(labels) > 1);
        self.texts.retain(|text, ()| Arc::strong_count(text) > 1);
        self.ports.retain(|ports, ()| Arc::strong_count(ports) > 1);
        self.workloads.retain(|workload, ()| Arc::strong_count(workload) > 1);
        self.bound = 2 * self.len();
    }

    fn len(&self) -> usize {
        self.texts.len() + self.labels.len() + self.ports.len() + self.workloads.len()
    }
}

/// Takes the memory of what is equal and known.
fn share<T: Eq + Hash + ?Sized>(known: &mut Lookup<Arc<T>>, what: &mut Arc<T>) {
    if let Some(known) = known.known(what) {
        *what = Arc::clone(known);
    } else {
        known.insert(Arc::clone(what), ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use crate::document::Node;
    use serde_json::json;

    fn pod(name: &str, hash: &str) -> Pod {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "x", "name": name, "labels": {"app": "web", "hash": hash}},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        decode::pod(&Node::from(manifest), None).unwrap().object
    }

    #[test]
    fn a_pod_that_shares_says_the_same() {
        let mut pool = Pool::default();
        for name in ["a", "b", "c"] {
            let alone = pod(name, "1");
            let mut shared = alone.clone();
            pool.share(&mut shared);
            assert_eq!(shared, alone);
            assert_eq!(shared.labels.cmp(&alone.labels), std::cmp::Ordering::Equal);
        }
    }

    #[test]
    fn pods_that_are_alike_have_their_labels_once_and_others_the_keys_at_least() {
        let mut pool = Pool::default();
        let [mut a, mut twin, mut other] = [pod("a", "1"), pod("b", "1"), pod("c", "2")];
        for pod in [&mut a, &mut twin, &mut other] {
            pool.share(pod);
        }
        assert!(Arc::ptr_eq(a.labels.pairs(), twin.labels.pairs()));
        let keys =
            |pod: &Pod| pod.labels.pairs().iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert!(keys(&a).iter().zip(&keys(&other)).all(|(a, b)| Arc::ptr_eq(a, b)));
        let namespaces = [&mut a, &mut other].map(|pod| pod.key.namespace.shared().clone());
        assert!(Arc::ptr_eq(&namespaces[0], &namespaces[1]));
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let mut pool = Pool::default();
        let mut kept = pod("kept", "kept");
        pool.share(&mut kept);
        for number in 0..20_000 {
            pool.share(&mut pod("a", &number.to_string()));
        }
        let entries = pool.texts.len() + pool.labels.len();
        assert!(entries < 3 * FEW, "{entries} entries");
        let mut twin = pod("twin", "kept");
        pool.share(&mut twin);
        assert!(Arc::ptr_eq(kept.labels.pairs(), twin.labels.pairs()));
    }
}
