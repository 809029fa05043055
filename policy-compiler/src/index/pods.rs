//! All pods, wherever they are and whatever becomes of them, each in little room: there are very many.
//!
//! A pod has a number as long as one of its name is there. It is found by its name, in the order of
//! which those of a namespace are kept. What a pod has in common with others is numbered too, so that what
//! is found out about that need not be found out for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::Table;
use crate::cluster::{Addresses, ContainerPort, Namespace, Phase, Pod};
use crate::name::{NamespaceName, NodeName, ObjectKey, OwnName};
use crate::packed::{self, Aside, Common, Own, PackedPod, Place};
use crate::policy::Policy;
use crate::pool::Pool;
use crate::update::PodList;

/// The number of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(u32);

/// The number of what some pods have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CommonId(u32);

impl CommonId {
    pub(super) fn place(self) -> usize {
        self.0 as usize
    }
}

/// What is kept of a pod besides its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// What it has in common with the pods of its workload.
    pub(super) common: CommonId,
    /// What it has in common with those on its node.
    place: u32,
    /// Its place among the live pods that have that in common.
    pub(super) rank: u32,
    /// What is its own.
    pub(super) own: Own,
}

impl Facts {
    pub(super) fn addresses(&self) -> Addresses {
        self.own.addresses
    }
}

/// What is kept of a pod.
#[derive(Clone, Debug)]
struct Record {
    name: OwnName,
    facts: Facts,
}

/// What came of putting a pod in.
pub(super) struct Put {
    pub(super) id: PodId,
    /// What it was. It is let go when nobody asks about it any more.
    pub(super) old: Option<Facts>,
    pub(super) new: Facts,
    /// Whether it is the first that says so of its node.
    pub(super) place_is_new: bool,
}

/// All pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    slots: Vec<Option<Record>>,
    free: Vec<PodId>,
    /// In the order of their names.
    of_namespace: BTreeMap<NamespaceName, Vec<PodId>>,
    commons: Table<Common>,
    places: Table<Place>,
    /// What does not fit.
    aside: BTreeMap<PodId, Box<Aside>>,
    /// What different commons have in common.
    pool: Pool,
}

impl Pods {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn record(&self, id: PodId) -> Option<&Record> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn facts(&self, id: PodId) -> Option<&Facts> {
        self.record(id).map(|record| &record.facts)
    }

    /// A pod has another place among those that are alike.
    pub(super) fn set_rank(&mut self, id: PodId, rank: u32) {
        if let Some(record) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) {
            record.facts.rank = rank;
        }
    }

    pub(super) fn common(&self, id: CommonId) -> Option<&Arc<Common>> {
        self.commons.get(id.0)
    }

    /// What pods have in common, without the pods.
    pub(super) fn commons(&self) -> impl Iterator<Item = (CommonId, &Arc<Common>)> {
        self.commons.iter().map(|(number, common)| (CommonId(number), common))
    }

    /// How many different things pods have in common.
    pub(super) fn kinds(&self) -> usize {
        self.commons.len()
    }

    pub(super) fn place(&self, facts: &Facts) -> Option<&Arc<Place>> {
        self.places.get(facts.place)
    }

    /// The ports that a pod declares.
    pub(super) fn ports(&self, facts: &Facts) -> Arc<[ContainerPort]> {
        self.common(facts.common).map(|common| Arc::clone(&common.ports)).unwrap_or_default()
    }

    /// Whether a pod is on a node.
    pub(super) fn is_on(&self, facts: &Facts, node: Option<&NodeName>) -> bool {
        let place = self.place(facts);
        node.is_some() && place.is_some_and(|place| place.node.as_ref() == node)
    }

    /// Whether a pod is subject and peer of policies.
    pub(super) fn is_somebody(&self, facts: &Facts) -> bool {
        let common = self.common(facts.common);
        facts.own.phase != Phase::Finished
            && common.is_some_and(|common| !common.host_network && !common.template)
    }

    /// Whether the addresses of a pod are its node's.
    pub(super) fn has_its_nodes_address(&self, facts: &Facts) -> bool {
        let common = self.common(facts.common);
        common.is_some_and(|common| common.host_network && !common.template)
    }

    /// The namespace and name of a pod.
    pub(super) fn key(&self, id: PodId) -> Option<ObjectKey> {
        let record = self.record(id)?;
        let namespace = self.common(record.facts.common)?.namespace.clone();
        Some(ObjectKey { namespace, name: record.name.name() })
    }

    /// The whole pod.
    pub(super) fn pod(&self, id: PodId) -> Option<Pod> {
        let Record { name, facts } = self.record(id)?;
        let (common, place) = (self.common(facts.common)?, self.place(facts)?);
        let aside = self.aside.get(&id).map(|aside| &**aside);
        Some(packed::unpack(name.name(), common, place, &facts.own, aside))
    }

    /// The same, in little room.
    pub(super) fn packed(&self, id: PodId) -> Option<PackedPod> {
        let Record { name, facts } = self.record(id)?;
        Some(PackedPod {
            name: name.clone(),
            common: Arc::clone(self.common(facts.common)?),
            place: Arc::clone(self.place(facts)?),
            own: facts.own,
            aside: self.aside.get(&id).cloned(),
        })
    }

    /// All pods in the order of their keys.
    pub(super) fn ids(&self) -> impl Iterator<Item = PodId> {
        self.of_namespace.values().flatten().copied()
    }

    /// The name of a pod, such that it has the order of its key.
    fn name(&self, id: PodId) -> Option<(&NamespaceName, &OwnName)> {
        let record = self.record(id)?;
        Some((&self.common(record.facts.common)?.namespace, &record.name))
    }

    /// Which pods are in neither part of a list, and those of it that are not as they were. Goes through
    /// both in the order of their keys.
    pub(super) fn differing(&self, listed: PodList) -> (Vec<ObjectKey>, Vec<PackedPod>) {
        let unread = listed.unread.clone();
        let mut gone = Vec::new();
        let mut leave = |id: PodId| gone.extend(self.key(id).filter(|key| !unread.contains(key)));
        let mut known = self.ids().peekable();
        let mut pods = listed.into_pods();
        pods.retain(|said| {
            let name = Some((&said.common.namespace, &said.name));
            while let Some(id) = known.next_if(|id| self.name(*id) < name) {
                leave(id);
            }
            let same = known.next_if(|id| self.name(*id) == name);
            !same.is_some_and(|id| self.is_same(id, said))
        });
        known.for_each(leave);
        (gone, pods)
    }

    /// Packs a pod that comes alone, such that it shares what others that did so have too.
    pub(super) fn pack(&mut self, pod: Pod) -> PackedPod {
        let mut packed = PackedPod::new(pod);
        if self.commons.find(&packed.common).is_none() {
            self.pool.share_common(&mut packed.common);
        }
        packed
    }

    /// Makes a namespace share what others have too.
    pub(super) fn share_namespace(&mut self, namespace: &mut Namespace) {
        self.pool.share_namespace(namespace);
    }

    /// Makes a policy share what others have too.
    pub(super) fn share_policy(&mut self, policy: &mut Policy) {
        self.pool.share_policy(policy);
    }

    /// The number of the pod of that name.
    pub(super) fn find(&self, namespace: &NamespaceName, name: &str) -> Option<PodId> {
        let pods = self.of_namespace.get(namespace)?;
        let at = place_of(&self.slots, pods, name).ok()?;
        pods.get(at).copied()
    }

    /// Whether a pod is as it is said to be.
    pub(super) fn is_same(&self, id: PodId, said: &PackedPod) -> bool {
        let Some(Record { facts, .. }) = self.record(id) else { return false };
        let aside = self.aside.get(&id);
        facts.own == said.own
            && aside == said.aside.as_ref()
            && self.place(facts).is_some_and(|place| is_same(place, &said.place))
            && self.common(facts.common).is_some_and(|common| is_same(common, &said.common))
    }

    /// Puts a pod in, in the place of the one of that number, or as a new one.
    pub(super) fn put(&mut self, known: Option<PodId>, said: PackedPod) -> Put {
        let PackedPod { name, common, place, own, aside } = said;
        let common = CommonId(self.commons.take(common).0);
        let (place, place_is_new) = self.places.take(place);
        let new = Facts { common, place, rank: 0, own };
        let (id, old) = match known {
            Some(id) => (id, self.replace(id, new)),
            None => (self.add(name, new), None),
        };
        match aside {
            Some(aside) => drop(self.aside.insert(id, aside)),
            None => drop(self.aside.remove(&id)),
        }
        Put { id, old, new, place_is_new }
    }

    fn replace(&mut self, id: PodId, new: Facts) -> Option<Facts> {
        let record = self.slots.get_mut(id.0 as usize)?.as_mut()?;
        let rank = record.facts.rank;
        Some(std::mem::replace(&mut record.facts, Facts { rank, ..new }))
    }

    fn add(&mut self, name: OwnName, facts: Facts) -> PodId {
        let next = PodId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        if let Some(common) = self.commons.get(facts.common.0) {
            let pods = self.of_namespace.entry(common.namespace.clone()).or_default();
            let (Ok(at) | Err(at)) = place_of(&self.slots, pods, name.as_str());
            pods.insert(at, id);
        }
        if id == next {
            self.grow();
            self.slots.push(None);
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(Record { name, facts });
        }
        id
    }

    /// Makes room for an eighth more, and not for twice as many.
    fn grow(&mut self) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / 8).max(16));
        }
    }

    /// A pod is no more; what it was is let go as well.
    pub(super) fn remove(&mut self, id: PodId) -> Option<Arc<Place>> {
        if let Some(key) = self.key(id)
            && let Some(pods) = self.of_namespace.get_mut(&key.namespace)
            && let Ok(at) = place_of(&self.slots, pods, key.name.as_str())
        {
            pods.remove(at);
            if pods.is_empty() {
                self.of_namespace.remove(&key.namespace);
            }
        }
        self.aside.remove(&id);
        let record = self.slots.get_mut(id.0 as usize).and_then(Option::take)?;
        self.free.push(id);
        self.let_go(&record.facts)
    }

    /// Nobody asks any more about what a pod was; what its node's pods had in common, if it was the last
    /// that said so.
    pub(super) fn let_go(&mut self, old: &Facts) -> Option<Arc<Place>> {
        self.commons.let_go(old.common.0);
        self.places.let_go(old.place)
    }
}

/// Where a name is among those of a namespace, or would be.
fn place_of(slots: &[Option<Record>], pods: &[PodId], name: &str) -> Result<usize, usize> {
    let name_of = |id: &PodId| Some(slots.get(id.0 as usize)?.as_ref()?.name.as_str());
    // Lists come in order.
    if pods.last().is_none_or(|last| name_of(last) < Some(name)) {
        return Err(pods.len());
    }
    pods.binary_search_by(|id| name_of(id).cmp(&Some(name)))
}

/// Whether two are equal: mostly they are one.
fn is_same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use serde_json::json;

    use super::*;
    use crate::decode;
    use crate::document::Node;

    fn pod(name: &str, app: &str, node: &str) -> Pod {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "x", "name": name, "labels": {"app": app},
                "uid": "d9607e19-f88f-11e6-a518-42010a800195", "creationTimestamp": "2024-02-29T23:59:59Z",
            },
            "spec": {"nodeName": node, "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "hostIP": "172.16.0.1"},
        });
        decode::pod(&Node::from(manifest), None).unwrap().object
    }

    #[test]
    fn a_pod_takes_eighty_bytes_and_its_name() {
        assert!(size_of::<Option<Record>>() <= 80, "{} bytes", size_of::<Option<Record>>());
    }

    #[test]
    fn what_pods_have_in_common_is_kept_once_and_for_as_long_as_one_has_it() {
        let mut pods = Pods::default();
        let put = |pods: &mut Pods, name: &str, app: &str| {
            let packed = pods.pack(pod(name, app, "n1"));
            let Put { id, old, .. } = pods.put(None, packed);
            assert!(old.is_none());
            id
        };
        let web: Vec<PodId> =
            (0..100).map(|n| put(&mut pods, &format!("web-{n}"), "web")).collect();
        let api = put(&mut pods, "api", "api");
        assert_eq!((pods.len(), pods.kinds(), pods.places.len()), (101, 2, 1));
        assert!(pods.aside.is_empty(), "all of it fits");
        let [one, other] = [web[0], api].map(|id| pods.ports(pods.facts(id).unwrap()));
        assert!(Arc::ptr_eq(&one, &other), "both declare the same ports");
        for id in web {
            assert!(pods.remove(id).is_none(), "its node has other pods");
        }
        assert_eq!((pods.len(), pods.kinds(), pods.places.len()), (1, 1, 1));
        assert_eq!(pods.remove(api).and_then(|place| place.node.clone()).unwrap().as_str(), "n1");
        assert_eq!((pods.len(), pods.kinds(), pods.places.len()), (0, 0, 0));
        assert!(pods.of_namespace.is_empty());
    }
}
