//! A map that knows what it was when it was last settled.
//!
//! Who follows it looks at what has changed since and at nothing else. What was put and taken out again,
//! or put as it had been, is no change.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A map, and what was there before of whatever has changed.
#[derive(Clone, Debug)]
pub(crate) struct Tracked<K, V> {
    now: BTreeMap<K, V>,
    /// Of each key that has changed: never what is there now.
    was: BTreeMap<K, Option<V>>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { now: BTreeMap::new(), was: BTreeMap::new() }
    }
}

/// What has become of a key: what was there, and what is.
pub(crate) type Change<'a, K, V> = (&'a K, Option<&'a V>, Option<&'a V>);

impl<K: Ord + Clone, V: PartialEq> Tracked<K, V> {
    /// One that is `now` and was empty.
    pub(crate) fn new(now: BTreeMap<K, V>) -> Self {
        let was = now.keys().map(|key| (key.clone(), None)).collect();
        Self { now, was }
    }

    /// What is there under a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.now.get(key)
    }

    /// What there is.
    pub(crate) fn now(&self) -> &BTreeMap<K, V> {
        &self.now
    }

    /// What was there under a key.
    pub(crate) fn before(&self, key: &K) -> Option<&V> {
        self.was.get(key).map_or_else(|| self.now.get(key), Option::as_ref)
    }

    /// All that was there, in no order that means anything.
    pub(crate) fn all_before(&self) -> impl Iterator<Item = (&K, &V)> {
        let stays = self.now.iter().filter(|(key, _)| !self.was.contains_key(*key));
        let other = self.was.iter().filter_map(|(key, was)| Some((key, was.as_ref()?)));
        stays.chain(other)
    }

    /// What has changed, in the order of keys.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_, K, V>> {
        self.was.iter().map(|(key, was)| (key, was.as_ref(), self.now.get(key)))
    }

    /// Whether something has changed under a key.
    pub(crate) fn has_changed(&self, key: &K) -> bool {
        self.was.contains_key(key)
    }

    /// How much has changed.
    pub(crate) fn changed(&self) -> usize {
        self.was.len()
    }

    /// Puts `value` under `key`; whether that is a change.
    pub(crate) fn put(&mut self, key: K, value: V) -> bool {
        let old = match self.now.entry(key.clone()) {
            Entry::Occupied(there) if *there.get() == value => return false,
            Entry::Occupied(mut there) => Some(there.insert(value)),
            Entry::Vacant(place) => {
                place.insert(value);
                None
            }
        };
        self.note(key, old);
        true
    }

    /// Takes out what is there under `key`.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((key, old)) = self.now.remove_entry(key) {
            self.note(key, Some(old));
        }
    }

    /// Takes note of what was there before what is there now.
    fn note(&mut self, key: K, old: Option<V>) {
        match self.was.entry(key) {
            Entry::Vacant(place) => drop(place.insert(old)),
            Entry::Occupied(first) => {
                if first.get().as_ref() == self.now.get(first.key()) {
                    first.remove();
                }
            }
        }
    }

    /// What has changed is taken note of.
    pub(crate) fn settle(&mut self) {
        self.was.clear();
    }

    /// Lets it have been what `other` was.
    pub(crate) fn follow(&mut self, other: Self)
    where
        V: Clone,
    {
        let mut before = other.now;
        for (key, was) in other.was {
            match was {
                Some(was) => drop(before.insert(key, was)),
                None => drop(before.remove(&key)),
            }
        }
        let come = self.now.keys().filter(|key| !before.contains_key(*key));
        self.was = come.map(|key| (key.clone(), None)).collect();
        let gone = before.into_iter().filter(|(key, was)| self.now.get(key) != Some(was));
        self.was.extend(gone.map(|(key, was)| (key, Some(was))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(map: &Tracked<u8, char>) -> Vec<(u8, Option<char>, Option<char>)> {
        map.changes().map(|(key, was, is)| (*key, was.copied(), is.copied())).collect()
    }

    fn settled() -> Tracked<u8, char> {
        let mut map = Tracked::new([(1, 'a'), (2, 'b'), (3, 'c')].into());
        map.settle();
        map
    }

    #[test]
    fn what_was_put_replaced_and_taken_out_has_changed() {
        let mut map = settled();
        assert_eq!(changes(&map), []);
        assert!(map.put(4, 'd'));
        assert!(map.put(2, 'B'));
        assert!(map.put(2, 'y'));
        map.remove(&3);
        let expected = [(2, Some('b'), Some('y')), (3, Some('c'), None), (4, None, Some('d'))];
        assert_eq!(changes(&map), expected);
        assert_eq!(map.now(), &[(1, 'a'), (2, 'y'), (4, 'd')].into());
        let before: BTreeMap<u8, char> = map.all_before().map(|(key, was)| (*key, *was)).collect();
        assert_eq!(before, [(1, 'a'), (2, 'b'), (3, 'c')].into());
        for key in 0..5 {
            assert_eq!(map.before(&key), before.get(&key));
        }
    }

    #[test]
    fn what_is_again_as_it_was_has_not() {
        let mut map = settled();
        assert!(!map.put(1, 'a'));
        map.put(2, 'B');
        map.put(2, 'b');
        map.remove(&3);
        map.put(3, 'c');
        map.put(4, 'd');
        map.remove(&4);
        map.remove(&5);
        assert_eq!(changes(&map), []);
    }

    #[test]
    fn one_that_was_made_anew_follows_what_the_other_was() {
        let mut old = settled();
        old.put(1, 'A');
        old.put(4, 'd');
        let mut new = Tracked::new([(1, 'a'), (3, 'C'), (5, 'e')].into());
        new.follow(old);
        let expected = [(2, Some('b'), None), (3, Some('c'), Some('C')), (5, None, Some('e'))];
        assert_eq!(changes(&new), expected);
    }
}
