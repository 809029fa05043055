//! What many pods have in common, by a number, for as long as somebody has it.

use std::hash::Hash;
use std::sync::Arc;

use crate::lookup::Lookup;

/// Different things, each once.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    /// Only looked up, so that its order does not matter.
    numbers: Lookup<Arc<T>, u32>,
    slots: Vec<Option<Used<T>>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Used<T> {
    what: Arc<T>,
    users: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { numbers: Lookup::default(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<T: Eq + Hash> Table<T> {
    pub(super) fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.slots.get(number as usize)?.as_ref().map(|used| &used.what)
    }

    /// The number of one that is there.
    pub(super) fn find(&self, what: &Arc<T>) -> Option<u32> {
        self.numbers.get(what).copied()
    }

    /// One more has this; its number, and whether nobody had it before.
    pub(super) fn take(&mut self, what: Arc<T>) -> (u32, bool) {
        if let Some(number) = self.find(&what)
            && let Some(used) = self.slots.get_mut(number as usize).and_then(Option::as_mut)
        {
            used.users += 1;
            return (number, false);
        }
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let number = self.free.pop().unwrap_or(next);
        if number == next {
            self.slots.push(None);
        }
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = Some(Used { what: Arc::clone(&what), users: 1 });
        }
        self.numbers.insert(what, number);
        (number, true)
    }

    /// One less has this; what it was, where nobody has it any more.
    pub(super) fn let_go(&mut self, number: u32) -> Option<Arc<T>> {
        let slot = self.slots.get_mut(number as usize)?;
        let used = slot.as_mut()?;
        used.users -= 1;
        if used.users > 0 {
            return None;
        }
        let what = slot.take()?.what;
        self.numbers.remove(&what);
        self.free.push(number);
        Some(what)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<T>)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(number, slot)| Some((number, &slot.as_ref()?.what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_has_one_number_until_nobody_has_it() {
        let mut table = Table::default();
        let [a, twin, b] = ["a", "a", "b"].map(|text| Arc::new(text.to_owned()));
        assert_eq!(table.take(Arc::clone(&a)), (0, true));
        assert_eq!(table.take(Arc::clone(&b)), (1, true));
        assert_eq!(table.take(twin), (0, false));
        assert!(table.get(0).is_some_and(|known| Arc::ptr_eq(known, &a)), "the first is kept");
        assert_eq!(table.let_go(0), None);
        assert_eq!(table.let_go(0), Some(Arc::clone(&a)));
        assert_eq!((table.len(), table.find(&a), table.get(0)), (1, None, None));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(1, &b)]);
        assert_eq!(table.take(Arc::new("c".to_owned())), (0, true), "its number is free again");
    }
}
