//! What many objects have in common, kept once.
//!
//! In a cluster the pods of a workload have the same labels and ports, those of a node the same node, and all
//! of a namespace its name. Read one by one, each has copies of its own, which together are most of what
//! pods take. A [`Pool`] gives those that are equal the same memory. What a pod says does not change.

use std::hash::Hash;
use std::sync::Arc;

use crate::cluster::{ContainerPort, Namespace, Pod, Workload};
use crate::labels::{Labels, Pair, Pairs};
use crate::lookup::Lookup;
use crate::name::Shared;
use crate::packed::{Common, PackedPod, Place};
use crate::policy::{Grant, NamespaceScope, PeerSelects, Peers, Policy, PortNumbers, Ports, Rule};
use crate::selector::{Requirement, Selector};

/// How many entries a pool has at least before it looks which of them nobody has any more.
const FEW: usize = 4_096;

/// What was met so far.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    commons: Lookup<Arc<Common>>,
    places: Lookup<Arc<Place>>,
    texts: Lookup<Arc<str>>,
    pairs: Lookup<Pair>,
    ports: Lookup<Arc<[ContainerPort]>>,
    workloads: Lookup<Arc<Workload>>,
    selectors: Lookup<Arc<[Requirement]>>,
    /// How many entries there may be before it is swept.
    bound: usize,
}

impl Pool {
    /// Packs a pod such that it shares what others have too.
    pub fn pack(&mut self, pod: Pod) -> PackedPod {
        self.sweep();
        let mut packed = PackedPod::new(pod);
        if let Some(known) = self.commons.known(&packed.common) {
            packed.common = Arc::clone(known);
        } else {
            self.share_common(&mut packed.common);
            self.commons.insert(Arc::clone(&packed.common), ());
        }
        share(&mut self.places, &mut packed.place);
        packed
    }

    /// Makes a namespace share the labels that others have too.
    pub(crate) fn share_namespace(&mut self, namespace: &mut Namespace) {
        self.sweep();
        self.share_labels(namespace.shared_labels());
    }

    /// Makes a policy share its selectors and names with others: most ask for what others ask for too.
    pub(crate) fn share_policy(&mut self, policy: &mut Policy) {
        self.sweep();
        share(&mut self.texts, policy.key.namespace.shared());
        self.share_selector(&mut policy.pod_selector);
        for Rule { grant, .. } in policy.ingress.iter_mut().chain(&mut policy.egress) {
            let Grant::Traffic { peers, ports } = grant else { continue };
            if let Peers::Listed(peers) = peers {
                for peer in peers {
                    self.share_peer(&mut peer.selects);
                }
            }
            if let Ports::Listed(ports) = ports {
                for port in ports {
                    if let PortNumbers::Named(name) = &mut port.numbers {
                        share(&mut self.texts, name.shared());
                    }
                }
            }
        }
    }

    fn share_peer(&mut self, peer: &mut PeerSelects) {
        let PeerSelects::Pods { namespaces, pods } = peer else { return };
        if let NamespaceScope::Matching(namespaces) = namespaces {
            self.share_selector(namespaces);
        }
        self.share_selector(pods);
    }

    fn share_selector(&mut self, selector: &mut Selector) {
        share(&mut self.selectors, selector.shared());
    }

    /// Makes what the pods of a workload have in common share its parts with other workloads', as long as
    /// nobody else has it.
    pub(crate) fn share_common(&mut self, common: &mut Arc<Common>) {
        let Some(common) = Arc::get_mut(common) else { return };
        self.sweep();
        share(&mut self.texts, common.namespace.shared());
        self.share_labels(&mut common.labels);
        if self.ports.known(&common.ports).is_none() {
            self.share_ports(&mut common.ports);
        }
        share(&mut self.ports, &mut common.ports);
        if let Some(workload) = &mut common.workload {
            share(&mut self.workloads, workload);
        }
    }

    fn share_ports(&mut self, ports: &mut Arc<[ContainerPort]>) {
        for port in Arc::get_mut(ports).into_iter().flatten() {
            if let Some(name) = &mut port.name {
                share(&mut self.texts, name.shared());
            }
        }
    }

    fn share_labels(&mut self, labels: &mut Labels) {
        let pairs = labels.pairs().iter().map(|pair| self.shared_pair(pair));
        let pairs: Pairs = pairs.collect();
        *labels = Labels::of(pairs);
    }

    fn shared_pair(&mut self, pair: &Pair) -> Pair {
        if let Some(known) = self.pairs.known(pair) {
            return Arc::clone(known);
        }
        let (mut key, mut value) = (Arc::clone(&pair.0), Arc::clone(&pair.1));
        share(&mut self.texts, &mut key);
        share(&mut self.texts, &mut value);
        let pair = Arc::new((key, value));
        self.pairs.insert(Arc::clone(&pair), ());
        pair
    }

    /// Forgets what nobody else has any more, once in a while: the work is in proportion to what came.
    fn sweep(&mut self) {
        if self.len() < self.bound.max(FEW) {
            return;
        }
        forget(&mut self.commons);
        forget(&mut self.places);
        forget(&mut self.pairs);
        forget(&mut self.ports);
        forget(&mut self.workloads);
        forget(&mut self.selectors);
        forget(&mut self.texts);
        self.bound = 2 * self.len();
    }

    fn len(&self) -> usize {
        let common = self.commons.len() + self.places.len();
        let parts = self.texts.len() + self.pairs.len() + self.ports.len() + self.workloads.len();
        common + parts + self.selectors.len()
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

/// Forgets what nobody else has.
fn forget<T: Eq + Hash + ?Sized>(known: &mut Lookup<Arc<T>>) {
    known.retain(|what, ()| Arc::strong_count(what) > 1);
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
            let packed = pool.pack(alone.clone());
            assert_eq!(packed, PackedPod::new(alone.clone()));
            assert_eq!(packed.unpack(), alone);
        }
    }

    #[test]
    fn pods_that_are_alike_have_what_they_say_once_and_others_its_parts() {
        let mut pool = Pool::default();
        let [a, twin, other] =
            [("a", "1"), ("b", "1"), ("c", "2")].map(|(name, hash)| pool.pack(pod(name, hash)));
        assert!(Arc::ptr_eq(&a.common, &twin.common) && Arc::ptr_eq(&a.place, &other.place));
        assert!(!Arc::ptr_eq(&a.common, &other.common));
        let [one, two] = [&a, &other].map(|pod| pod.common.labels.pairs());
        assert!(Arc::ptr_eq(&one[0], &two[0]), "app=web");
        assert!(Arc::ptr_eq(&one[1].0, &two[1].0), "the key of the hash");
        assert!(Arc::ptr_eq(&a.common.ports, &other.common.ports));
        let [mut one, mut two] = [a, other].map(|pod| pod.key().namespace);
        assert!(Arc::ptr_eq(one.shared(), two.shared()));
    }

    fn policy(name: &str, app: &str) -> Policy {
        let selector = |app: &str| json!({"matchLabels": {"app": app}});
        let peer = json!({"namespaceSelector": selector("x"), "podSelector": selector(app)});
        let rule = json!({"from": [peer], "ports": [{"port": "http"}]});
        let manifest = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "x", "name": name},
            "spec": {"podSelector": selector("web"), "ingress": [rule]},
        });
        decode::policy(&Node::from(manifest), None).unwrap().object
    }

    #[test]
    fn policies_share_the_selectors_that_are_equal_and_say_the_same() {
        let mut pool = Pool::default();
        let [mut one, mut other] = [policy("a", "web"), policy("b", "api")].map(|alone| {
            let mut shared = alone.clone();
            pool.share_policy(&mut shared);
            assert_eq!(shared, alone);
            shared
        });
        assert!(Arc::ptr_eq(one.pod_selector.shared(), other.pod_selector.shared()));
        let mut peers = [&mut one, &mut other].map(|policy| {
            let Grant::Traffic { peers: Peers::Listed(peers), .. } = &mut policy.ingress[0].grant
            else {
                panic!("{policy:?} grants nothing")
            };
            let PeerSelects::Pods { namespaces: NamespaceScope::Matching(namespaces), pods } =
                &mut peers[0].selects
            else {
                panic!("{peers:?} are no pods")
            };
            (Arc::clone(namespaces.shared()), Arc::clone(pods.shared()))
        });
        let [(one_place, one_pods), (other_place, other_pods)] = &mut peers;
        assert!(Arc::ptr_eq(one_place, other_place) && !Arc::ptr_eq(one_pods, other_pods));
        assert!(Arc::ptr_eq(one_pods, one.pod_selector.shared()), "of pods and peers alike");
        assert!(Arc::ptr_eq(one.key.namespace.shared(), other.key.namespace.shared()));
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let mut pool = Pool::default();
        let kept = pool.pack(pod("kept", "kept"));
        for number in 0..20_000 {
            pool.pack(pod("a", &number.to_string()));
        }
        assert!(pool.len() < 3 * FEW, "{} entries", pool.len());
        let twin = pool.pack(pod("twin", "kept"));
        assert!(Arc::ptr_eq(&kept.common, &twin.common));
    }
}
