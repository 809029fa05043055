//! A pod in little room, with nothing lost.
//!
//! A cluster has very many pods, of which a node cares for a few hundred; the others are kept so that
//! they can be compared with what is said of them next, and told of. Most of what a pod says others
//! say too: those of its workload ([`Common`]) and those on its node ([`Place`]). That is kept once; its
//! own are a name, addresses, and how old it is, which fit into a few words. What is written in a way
//! that does not fit is kept beside as it is, so that [`PackedPod::unpack`] always gives back what was
//! packed.

mod age;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use self::age::PackedAge;
use crate::cluster::{Addresses, Age, ContainerPort, Phase, Pod, Workload};
use crate::document::Location;
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey, ObjectName, OwnName};

/// What the pods of a workload have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// Of all that follows; first, since it tells most others apart.
    hash: u64,
    /// Where they are.
    pub(crate) namespace: NamespaceName,
    /// Their labels.
    pub(crate) labels: Labels,
    /// The ports of their containers.
    pub(crate) ports: Arc<[ContainerPort]>,
    /// What made them.
    pub(crate) workload: Option<Arc<Workload>>,
    /// Whether they have their nodes' network.
    pub(crate) host_network: bool,
    /// Whether this is a template's.
    pub(crate) template: bool,
}

impl Hash for Common {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// What the pods of a node have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of all that follows.
    hash: u64,
    /// The node, for pods that are on one.
    pub(crate) node: Option<NodeName>,
    /// Its addresses as they tell of them.
    pub(crate) host_addresses: Box<[IpAddr]>,
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// What a pod has of its own, besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// Its addresses.
    pub(crate) addresses: Addresses,
    /// Where in its life it is.
    pub(crate) phase: Phase,
    /// How old it is, unless that is kept beside.
    age: PackedAge,
}

/// What of a pod does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Aside {
    age: Age,
    location: Location,
}

/// A [`Pod`] in little room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedPod {
    pub(crate) name: OwnName,
    pub(crate) common: Arc<Common>,
    pub(crate) place: Arc<Place>,
    pub(crate) own: Own,
    pub(crate) aside: Option<Box<Aside>>,
}

impl PackedPod {
    /// Packs a pod. It shares nothing with others yet.
    #[must_use]
    pub fn new(pod: Pod) -> Self {
        let Pod { key, labels, node, host_network, phase, addresses, .. } = pod;
        let Pod { ports, host_addresses, age, workload, template, location, .. } = pod;
        let common = Common {
            hash: hash_of((&key.namespace, &labels, &ports, &workload, host_network, template)),
            namespace: key.namespace,
            labels,
            ports: ports.into(),
            workload: workload.map(Arc::new),
            host_network,
            template,
        };
        let packed = PackedAge::of(&age).filter(|_| location == Location::default());
        Self {
            name: OwnName::from(&key.name),
            common: Arc::new(common),
            place: Arc::new(Place {
                hash: hash_of((&node, &host_addresses)),
                node,
                host_addresses: host_addresses.into(),
            }),
            own: Own { addresses, phase, age: packed.unwrap_or_default() },
            aside: packed.is_none().then(|| Box::new(Aside { age, location })),
        }
    }

    /// The pod that was packed.
    #[must_use]
    pub fn unpack(&self) -> Pod {
        unpack(self.name.name(), &self.common, &self.place, &self.own, self.aside.as_deref())
    }

    /// How its key stands to that of another.
    pub(crate) fn cmp_key(&self, other: &Self) -> std::cmp::Ordering {
        (&self.common.namespace, &self.name).cmp(&(&other.common.namespace, &other.name))
    }

    /// Its namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.common.namespace.clone(), name: self.name.name() }
    }
}

/// The same for what is equal, in every run; whoever looks something up by it hashes it once more.
fn hash_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl From<Pod> for PackedPod {
    fn from(pod: Pod) -> Self {
        Self::new(pod)
    }
}

/// The pod that has these parts.
pub(crate) fn unpack(
    name: ObjectName,
    common: &Common,
    place: &Place,
    own: &Own,
    aside: Option<&Aside>,
) -> Pod {
    let (age, location) = match aside {
        Some(aside) => (aside.age.clone(), aside.location.clone()),
        None => (own.age.unpack(), Location::default()),
    };
    Pod {
        key: ObjectKey { namespace: common.namespace.clone(), name },
        labels: common.labels.clone(),
        node: place.node.clone(),
        host_network: common.host_network,
        phase: own.phase,
        addresses: own.addresses,
        ports: common.ports.to_vec(),
        host_addresses: place.host_addresses.to_vec(),
        age,
        workload: common.workload.as_deref().cloned(),
        template: common.template,
        location,
    }
}
