//! Pods as several watches tell of them, one pod each for the engine.
//!
//! A watch claims the pods that it holds; watches may overlap, and lag behind each other. The engine
//! holds a pod as long as one claims it, as the claim of the highest rank has it: the node's own
//! watch knows best of its pods, and one of a namespace better than one across all. What a watch that
//! is not heard any more has claimed is released as a whole, so that nothing of it remains.

use std::collections::BTreeMap;

use crate::cluster::Pod;
use crate::name::ObjectKey;
use crate::update::{Event, Relist};

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

/// Which watches claim which pods.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The best claim first. What it says is with the engine, what the others say is here.
    pods: BTreeMap<ObjectKey, BTreeMap<Place, Option<Box<Pod>>>>,
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
        let claims = self.pods.entry(pod.key.clone()).or_default();
        let best = claims.first_key_value().map(|(best, _)| *best);
        if best.is_some_and(|best| best < place) {
            claims.insert(place, Some(pod));
            return None;
        }
        if let Some(best) = best.filter(|best| *best != place) {
            claims.insert(best, held(&pod.key).map(Box::new));
        }
        claims.insert(place, None);
        Some(Event::PodApplied(pod))
    }

    /// A watch has a pod no more.
    pub fn release(&mut self, rank: Rank, watch: u64, key: &ObjectKey) -> Option<Event> {
        let place = (rank, std::cmp::Reverse(watch));
        let claims = self.pods.get_mut(key)?;
        let said = claims.remove(&place)?;
        if said.is_some() {
            return None;
        }
        let next = claims.first_entry().and_then(|mut next| next.get_mut().take());
        if next.is_none() {
            self.pods.remove(key);
        }
        Some(next.map_or_else(|| Event::PodDeleted(key.clone()), Event::PodApplied))
    }

    /// A watch has listed all that it has.
    pub fn relist(
        &mut self,
        rank: Rank,
        watch: u64,
        listed: Relist<ObjectKey, Pod>,
        held: Held<'_>,
    ) -> Vec<Event> {
        let Relist { objects, unread } = listed;
        let gone = self
            .of(rank, watch)
            .filter(|key| !objects.contains_key(*key) && !unread.contains(*key));
        let gone: Vec<ObjectKey> = gone.cloned().collect();
        let mut events: Vec<Event> =
            gone.iter().filter_map(|key| self.release(rank, watch, key)).collect();
        let applied = objects.into_values();
        events.extend(applied.filter_map(|pod| self.apply(rank, watch, Box::new(pod), held)));
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
        self.pods.iter().filter(move |(_, claims)| claims.contains_key(&place)).map(|(key, _)| key)
    }
}
