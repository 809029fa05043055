//! Pods as several watches tell of them, one pod each for the engine.
//!
//! A watch claims the pods that it holds; watches may overlap, and lag behind each other. The engine
//! holds a pod as long as one claims it, as the claim of the highest rank has it: the node's own
//! watch knows best of its pods, and one of a namespace better than one across all. What a watch that
//! is not heard any more has claimed is released as a whole, so that nothing of it remains.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Pod;
use crate::name::ObjectKey;
use crate::packed::PackedPod;
use crate::update::{Event, PodList};

/// Whose word counts where several watches tell of one pod: the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The watch of the node's own pods.
    Own,
    /// One of a namespace.
    Namespace,
    /// One across all namespaces.
    Across,
}

/// A watch that is listened to: by rank, the later the better.
type Place = (Rank, std::cmp::Reverse<u64>);

/// Who claims a pod.
#[derive(Clone, Debug)]
struct Claim {
    /// Whose word counts. What it says is with the engine.
    best: Place,
    /// What the others say; of most pods there are none.
    others: BTreeMap<Place, Box<Pod>>,
}

/// Which watches claim which pods.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    pods: BTreeMap<ObjectKey, Claim>,
}

/// What the engine has of a pod.
type Held<'h> = &'h dyn Fn(&ObjectKey) -> Option<Pod>;

impl Claims {
    /// A watch has a pod that is now so: what the engine is to be told.
    pub fn apply(
        &mut self,
        rank: Rank,
        watch: u64,
        pod: Box<Pod>,
        held: Held<'_>,
    ) -> Option<Event> {
        let place = (rank, std::cmp::Reverse(watch));
        let Some(claim) = self.pods.get_mut(&pod.key) else {
            let claim = Claim { best: place, others: BTreeMap::new() };
            self.pods.insert(pod.key.clone(), claim);
            return Some(Event::PodApplied(pod));
        };
        if claim.best < place {
            claim.others.insert(place, pod);
            return None;
        }
        if place < claim.best {
            let second = std::mem::replace(&mut claim.best, place);
            claim.others.extend(held(&pod.key).map(|said| (second, Box::new(said))));
        }
        Some(Event::PodApplied(pod))
    }

    /// A watch has a pod no more.
    pub fn release(&mut self, rank: Rank, watch: u64, key: &ObjectKey) -> Option<Event> {
        let place = (rank, std::cmp::Reverse(watch));
        let claim = self.pods.get_mut(key)?;
        if claim.best != place {
            claim.others.remove(&place);
            return None;
        }
        let Some((next, said)) = claim.others.pop_first() else {
            self.pods.remove(key);
            return Some(Event::PodDeleted(key.clone()));
        };
        claim.best = next;
        Some(Event::PodApplied(said))
    }

    /// A watch has listed all that it has.
    pub fn relist(
        &mut self,
        rank: Rank,
        watch: u64,
        listed: &PodList,
        held: Held<'_>,
    ) -> Vec<Event> {
        let keys: BTreeSet<ObjectKey> = listed.pods().iter().map(PackedPod::key).collect();
        let gone = self
            .of(rank, watch)
            .filter(|key| !keys.contains(*key) && !listed.unread.contains(*key));
        let gone: Vec<ObjectKey> = gone.cloned().collect();
        let mut events: Vec<Event> =
            gone.iter().filter_map(|key| self.release(rank, watch, key)).collect();
        let applied = listed.pods().iter().map(|pod| Box::new(pod.unpack()));
        events.extend(applied.filter_map(|pod| self.apply(rank, watch, pod, held)));
        events
    }

    /// A watch is not listened to any more.
    pub fn drop_watch(&mut self, rank: Rank, watch: u64) -> Vec<Event> {
        let claimed: Vec<ObjectKey> = self.of(rank, watch).cloned().collect();
        claimed.iter().filter_map(|key| self.release(rank, watch, key)).collect()
    }

    /// The pods that a watch claims.
    pub fn of(&self, rank: Rank, watch: u64) -> impl Iterator<Item = &ObjectKey> {
        let place = (rank, std::cmp::Reverse(watch));
        let claims = move |claim: &Claim| claim.best == place || claim.others.contains_key(&place);
        self.pods.iter().filter(move |(_, claim)| claims(claim)).map(|(key, _)| key)
    }
}
