//! Many small keys in their order, in hardly more room than they have themselves.
//!
//! They lie in chunks that are shared until one of them is edited: a copy costs a pointer a chunk, and an
//! edit of either one makes one chunk anew, however many there are. What is searched for in its order, as
//! whole sets are, is found in one go through both.
//!
//! A set is edited in very many sets' company, and seldom twice in a row, so that what counts is how much memory
//! an edit meets: a search passes chunks by their first keys, which lie side by side.
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
    chunks: Box<[Chunk<K>]>,
}

/// Keys that lie together.
#[derive(Clone, Debug)]
struct Chunk<K> {
    /// The first of them, by which a search passes chunks without a look into them.
    first: K,
    /// All of them. They are edited in their place as long as nobody else has them.
    keys: Arc<Vec<K>>,
}

impl<K> Default for Sorted<K> {
    fn default() -> Self {
        Self { chunks: Box::default() }
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
    /// How many keys of very many are put in one: a few less, so that there is room for some that come later.
    const FULL: usize = Self::MOST - Self::MOST / 16;
    /// Up to how many keys two neighbours become one: few enough that one key more does not part them again.
    const FEW: usize = Self::MOST / 2;

    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.keys.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.chunks.iter().flat_map(|chunk| chunk.keys.iter())
    }
}

impl<K: Copy + Ord> Sorted<K> {
    pub(super) fn contains(&self, key: &K) -> bool {
        self.search().finds(key)
    }

    /// A search for keys in their order.
    pub(super) fn search(&self) -> Search<'_, K> {
        Search { keys: &[], rest: &self.chunks }
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
        if let Some(key) = keys.alone() {
            return self.add_one(key);
        }
        for chunk in &keys.chunks {
            self.edit(&chunk.keys, united);
        }
    }

    /// Removes all keys of another one.
    pub(super) fn remove(&mut self, keys: &Self) {
        if let Some(key) = keys.alone() {
            return self.remove_one(key);
        }
        for chunk in &keys.chunks {
            self.edit(&chunk.keys, without);
        }
    }

    /// The only key.
    fn alone(&self) -> Option<K> {
        match &*self.chunks {
            [Chunk { first, keys }] if keys.len() == 1 => Some(*first),
            _ => None,
        }
    }

    /// The place of the chunk that a key belongs to.
    fn place(&self, key: &K) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= *key).saturating_sub(1)
    }

    fn add_one(&mut self, key: K) {
        let at = self.place(&key);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Err(place) = chunk.keys.binary_search(&key) else { return };
        if chunk.keys.len() == Self::MOST {
            return self.edit(&[key], united);
        }
        chunk.first = chunk.first.min(key);
        let keys = Arc::make_mut(&mut chunk.keys);
        if keys.len() == keys.capacity() {
            keys.reserve_exact((keys.len() / 8).max(1).min(Self::MOST - keys.len()));
        }
        keys.insert(place, key);
    }

    fn remove_one(&mut self, key: K) {
        let at = self.place(&key);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Ok(place) = chunk.keys.binary_search(&key) else { return };
        if chunk.keys.len() == 1 {
            return self.replace(at, Vec::new());
        }
        let keys = Arc::make_mut(&mut chunk.keys);
        keys.remove(place);
        chunk.first = keys.first().copied().unwrap_or(key);
        self.join(at);
        self.join(at.saturating_sub(1));
    }

    /// Makes those chunks anew which ascending `keys` belong to.
    fn edit(&mut self, mut keys: &[K], edited: fn(&[K], &[K]) -> Vec<K>) {
        while let Some(first) = keys.first() {
            let at = self.place(first);
            let next = self.chunks.get(at + 1).map(|chunk| chunk.first);
            let end = next.map_or(keys.len(), |next| keys.partition_point(|key| *key < next));
            let (here, rest) = keys.split_at(end);
            let chunk = self.chunks.get(at).map(|chunk| chunk.keys.as_slice()).unwrap_or_default();
            let new = edited(chunk, here);
            if new.len() != chunk.len() {
                self.replace(at, new);
            }
            keys = rest;
        }
    }

    /// Puts these keys in the place of those of a chunk.
    fn replace(&mut self, at: usize, keys: Vec<K>) {
        let fits = keys.len() <= Self::MOST;
        if let (Some(chunk), Some(first), true) = (self.chunks.get_mut(at), keys.first(), fits) {
            *chunk = Chunk { first: *first, keys: Arc::new(keys) };
        } else {
            let mut all = std::mem::take(&mut self.chunks).into_vec();
            let after = (at + 1).min(all.len());
            all.splice(at..after, chunks(&keys));
            self.chunks = all.into();
        }
        self.join(at);
        self.join(at.saturating_sub(1));
    }

    /// Makes a chunk and the next one into one, if both hold few keys.
    fn join(&mut self, at: usize) {
        if let [one, next, ..] = self.chunks.get(at..).unwrap_or_default()
            && one.keys.len() + next.keys.len() <= Self::FEW
        {
            let (first, keys) = (one.first, one.keys.iter().chain(next.keys.iter()).copied());
            let joined = Chunk { first, keys: Arc::new(keys.collect()) };
            let mut all = std::mem::take(&mut self.chunks).into_vec();
            all.splice(at..at + 2, [joined]);
            self.chunks = all.into();
        }
    }
}

/// Ascending keys in chunks that have some room left, and are about equally long.
fn chunks<K: Copy>(keys: &[K]) -> impl Iterator<Item = Chunk<K>> {
    let count = keys.len().div_ceil(Sorted::<K>::FULL).max(1);
    let length = keys.len().div_ceil(count).max(1);
    let chunks = keys.chunks(length);
    chunks.filter_map(|keys| Some(Chunk { first: *keys.first()?, keys: Arc::new(keys.to_vec()) }))
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
    keys: &'a [K],
    rest: &'a [Chunk<K>],
}

impl<K: Ord> Search<'_, K> {
    /// Whether a key is there that is not less than the one before.
    pub(super) fn finds(&mut self, key: &K) -> bool {
        if self.rest.first().is_some_and(|next| next.first <= *key) {
            let (passed, rest) =
                self.rest.split_at(self.rest.partition_point(|chunk| chunk.first <= *key));
            self.keys = passed.last().map(|chunk| chunk.keys.as_slice()).unwrap_or_default();
            self.rest = rest;
        }
        if self.keys.first() < Some(key) {
            self.keys = &self.keys[self.keys.partition_point(|other| other < key)..];
        }
        self.keys.first() == Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn well_formed(keys: &Sorted<u16>) {
        assert!(keys.iter().is_sorted_by(|a, b| a < b), "they ascend");
        assert!(
            keys.chunks.iter().all(|chunk| (1..=Sorted::<u16>::MOST).contains(&chunk.keys.len())
                && chunk.first == chunk.keys[0])
        );
        let sizes: Vec<usize> = keys.chunks.iter().map(|chunk| chunk.keys.len()).collect();
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
            let kept = |chunk: &&Chunk<u16>| {
                all.chunks.iter().any(|old| Arc::ptr_eq(&old.keys, &chunk.keys))
            };
            assert_eq!(edited.chunks.iter().filter(kept).count(), all.chunks.len() - 1);
        }
    }
}
