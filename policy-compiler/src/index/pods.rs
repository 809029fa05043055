//! What is kept of every live pod, wherever it is: little, since there are very many.
//!
//! A pod has a number as long as it is the same peer. It is found again by its address, or, while it has
//! none, by its name.

use super::groups::GroupId;
use crate::cluster::Addresses;
use crate::lookup::Lookup;
use crate::name::ObjectKey;

/// The number of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(u32);

/// What is kept of a pod.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) key: ObjectKey,
    pub(super) addresses: Addresses,
    /// Whether it is on the node.
    pub(super) local: bool,
    /// Its group, once pods are grouped.
    pub(super) group: Option<GroupId>,
    /// Its place there.
    pub(super) place: usize,
}

/// All live pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    slots: Vec<Option<Record>>,
    free: Vec<PodId>,
    /// Those without an address. Only looked up, so that its order does not matter.
    unaddressed: Lookup<ObjectKey, PodId>,
}

impl Pods {
    pub(super) fn get(&self, id: PodId) -> Option<&Record> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: PodId) -> Option<&mut Record> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// The pod of that name without an address.
    pub(super) fn unaddressed(&self, key: &ObjectKey) -> Option<PodId> {
        self.unaddressed.get(key).copied()
    }

    pub(super) fn add(&mut self, record: Record) -> PodId {
        let id =
            self.free.pop().unwrap_or(PodId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX)));
        if id.0 as usize == self.slots.len() {
            self.slots.push(None);
        }
        if record.addresses.is_empty() {
            self.unaddressed.insert(record.key.clone(), id);
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(record);
        }
        id
    }

    pub(super) fn remove(&mut self, id: PodId) {
        let Some(record) = self.slots.get_mut(id.0 as usize).and_then(Option::take) else { return };
        if record.addresses.is_empty() {
            self.unaddressed.remove(&record.key);
        }
        self.free.push(id);
    }
}
