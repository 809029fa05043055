//! Many small keys in their order, in hardly more room than they have themselves.
//!
//! They lie in chunks that are shared until one of them is edited: a copy costs a pointer a chunk, and an
//! edit of either one makes one chunk anew, however many there are. What is searched for in its order, as
//! whole sets are, is found in one go through both.
//!
//! Always: keys ascend through all chunks, no chunk is empty or holds more than [`Sorted::MOST`], and two that
//! are neighbours hold more than [`Sorted::FEW`] together. (So there are at most four times as many as are
//! needed.)

use std::sync::Arc;

/// How many bytes of keys a chunk holds at most: what an edit moves, and little enough for an allocator to
/// have it at hand.
const BYTES: usize = 768;

/// Different keys in their order.
#[derive(Clone, Debug)]
pub(super) struct Sorted<K> {
    chunks: Vec<Arc<[K]>>,
}

impl<K> Default for Sorted<K> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<K: PartialEq> PartialEq for Sorted<K> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Eq> Eq for Sorted<K> {}

impl<K> Sorted<K> {
    /// How many keys a chunk holds at most.
    const MOST: usize = if size_of::<K>() > BYTES / 16 { 16 } else { BYTES / size_of::<K>() };
    /// Up to how many keys two neighbours become one: few enough that one key more does not part them again.
    const FEW: usize = Self::MOST / 2;

    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<K: Copy + Ord> Sorted<K> {
    pub(super) fn contains(&self, key: &K) -> bool {
        self.search().finds(key)
    }

    /// A search for keys in their order.
    pub(super) fn search(&self) -> Search<'_, K> {
        Search { chunk: &[], rest: &self.chunks }
    }

    /// Those that are `held` in the other one too, or those that are not.
    pub(super) fn compared(&self, other: &Self, held: bool) -> Self {
        let mut search = other.search();
        self.iter().filter(|key| search.finds(key) == held).copied().collect()
    }

    /// Adds all keys of another one.
    pub(super) fn add(&mut self, keys: &Self) {
        if self.is_empty() {
            self.clone_from(keys);
            return;
        }
        for keys in &keys.chunks {
            self.edit(keys, united);
        }
    }

    /// Removes all keys of another one.
    pub(super) fn remove(&mut self, keys: &Self) {
        for keys in &keys.chunks {
            self.edit(keys, without);
        }
    }

    /// Makes those chunks anew which ascending `keys` belong to.
    fn edit(&mut self, mut keys: &[K], edited: fn(&[K], &[K]) -> Vec<K>) {
        while let Some(first) = keys.first() {
            let behind = self.chunks.partition_point(|chunk| chunk.first() <= Some(first));
            let at = behind.saturating_sub(1);
            let next = self.chunks.get(at + 1).and_then(|chunk| chunk.first());
            let end = next.map_or(keys.len(), |next| keys.partition_point(|key| key < next));
            let (here, rest) = keys.split_at(end);
            let chunk = self.chunks.get(at).map(|chunk| &**chunk).unwrap_or_default();
            let new = edited(chunk, here);
            if new.len() != chunk.len() {
                self.replace(at, &new);
            }
            keys = rest;
        }
    }

    /// Puts these keys in the place of those of a chunk.
    fn replace(&mut self, at: usize, keys: &[K]) {
        let after = (at + 1).min(self.chunks.len());
        self.chunks.splice(at..after, chunks(keys));
        self.join(at);
        self.join(at.saturating_sub(1));
    }

    /// Makes a chunk and the next one into one, if both hold few keys.
    fn join(&mut self, at: usize) {
        if let [one, next, ..] = self.chunks.get(at..).unwrap_or_default()
            && one.len() + next.len() <= Self::FEW
        {
            self.chunks[at] = one.iter().chain(next.iter()).copied().collect();
            self.chunks.remove(at + 1);
        }
    }
}

/// Ascending keys in as few chunks as can be, which are about equally long.
fn chunks<K: Copy>(keys: &[K]) -> impl Iterator<Item = Arc<[K]>> {
    let most = Sorted::<K>::MOST;
    let length = keys.len().div_ceil(keys.len().div_ceil(most).max(1)).max(1);
    keys.chunks(length).map(Arc::from)
}

impl<K: Copy + Ord> FromIterator<K> for Sorted<K> {
    fn from_iter<T: IntoIterator<Item = K>>(keys: T) -> Self {
        let mut keys: Vec<K> = keys.into_iter().collect();
        if !keys.is_sorted() {
            keys.sort_unstable();
        }
        keys.dedup();
        Self { chunks: chunks(&keys).collect() }
    }
}

/// What is in either.
fn united<K: Copy + Ord>(chunk: &[K], keys: &[K]) -> Vec<K> {
    let mut all = Vec::with_capacity(chunk.len() + keys.len());
    let mut rest = chunk;
    for key in keys {
        let (before, from) = rest.split_at(rest.partition_point(|other| other < key));
        all.extend_from_slice(before);
        all.push(*key);
        rest = if from.first() == Some(key) { &from[1..] } else { from };
    }
    all.extend_from_slice(rest);
    all
}

/// What is in the first and not in the second.
fn without<K: Copy + Ord>(chunk: &[K], keys: &[K]) -> Vec<K> {
    let mut left = Vec::with_capacity(chunk.len());
    let mut rest = chunk;
    for key in keys {
        let (before, from) = rest.split_at(rest.partition_point(|other| other < key));
        left.extend_from_slice(before);
        rest = if from.first() == Some(key) { &from[1..] } else { from };
    }
    left.extend_from_slice(rest);
    left
}

/// A search for keys that ascend, each from where the one before was found.
pub(super) struct Search<'a, K> {
    chunk: &'a [K],
    rest: &'a [Arc<[K]>],
}

impl<K: Ord> Search<'_, K> {
    /// Whether a key is there that is not less than the one before.
    pub(super) fn finds(&mut self, key: &K) -> bool {
        if self.chunk.last() < Some(key) {
            let skipped = self.rest.partition_point(|chunk| chunk.last() < Some(key));
            let Some((chunk, rest)) = self.rest[skipped..].split_first() else {
                (self.chunk, self.rest) = (&[], &[]);
                return false;
            };
            (self.chunk, self.rest) = (chunk, rest);
        }
        if self.chunk.first() < Some(key) {
            self.chunk = &self.chunk[self.chunk.partition_point(|other| other < key)..];
        }
        self.chunk.first() == Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn well_formed(keys: &Sorted<u16>) {
        assert!(keys.iter().is_sorted_by(|a, b| a < b), "they ascend");
        assert!(keys.chunks.iter().all(|chunk| (1..=Sorted::<u16>::MOST).contains(&chunk.len())));
        let sizes: Vec<usize> = keys.chunks.iter().map(|chunk| chunk.len()).collect();
        assert!(sizes.windows(2).all(|pair| pair[0] + pair[1] > Sorted::<u16>::FEW), "{sizes:?}");
    }

    /// Keys that lie so close that many are met again, in runs as those of a node's pods.
    fn keys() -> impl Strategy<Value = BTreeSet<u16>> {
        let run = (0..3_000_u16, 0..700_u16).prop_map(|(first, length)| first..first + length);
        let lone = (0..4_000_u16).prop_map(|key| key..key + 1);
        proptest::collection::vec(prop_oneof![run, lone], 0..6)
            .prop_map(|runs| runs.into_iter().flatten().collect())
    }

    fn sorted(keys: &BTreeSet<u16>) -> Sorted<u16> {
        keys.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_does_after_the_same_edits(
            first in keys(), edits in proptest::collection::vec((any::<bool>(), keys()), 0..8)
        ) {
            let (mut keys, mut model) = (sorted(&first), first);
            for (added, edit) in edits {
                let (before, was) = (keys.clone(), model.clone());
                if added {
                    keys.add(&sorted(&edit));
                    model.extend(&edit);
                } else {
                    keys.remove(&sorted(&edit));
                    model.retain(|key| !edit.contains(key));
                }
                well_formed(&keys);
                prop_assert!(keys.iter().eq(&model));
                prop_assert_eq!(&keys, &sorted(&model), "however they lie in chunks");
                prop_assert_eq!(keys.len(), model.len());
                prop_assert!(before.iter().eq(&was), "a copy is not edited");
                for key in 0..4_000 {
                    prop_assert_eq!(keys.contains(&key), model.contains(&key));
                }
                let other = sorted(&edit);
                let found = keys.compared(&other, true);
                prop_assert!(found.iter().eq(model.intersection(&edit)));
                let found = keys.compared(&other, false);
                prop_assert!(found.iter().eq(model.difference(&edit)));
            }
        }
    }

    #[test]
    fn one_key_more_or_less_makes_one_chunk_anew() {
        let all: Sorted<u16> = (0..40_000).step_by(2).collect();
        for (key, added) in [(20_001, true), (20_000, false)] {
            let mut edited = all.clone();
            let one = [key].into_iter().collect();
            if added {
                edited.add(&one);
            } else {
                edited.remove(&one);
            }
            assert_ne!(edited, all);
            let kept = |chunk: &&Arc<[u16]>| all.chunks.iter().any(|old| Arc::ptr_eq(old, chunk));
            assert_eq!(edited.chunks.iter().filter(kept).count(), all.chunks.len() - 1);
        }
    }
}
