//! Labels: the facts that selectors ask about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A key and its value.
pub(crate) type Pair = Arc<(Arc<str>, Arc<str>)>;

/// In key order, each key once. Most pairs are in many labels, so that these only point at them.
pub(crate) type Pairs = Arc<[Pair]>;

fn pair(key: &str, value: &str) -> Pair {
    Arc::new((Arc::from(key), Arc::from(value)))
}

/// The labels of a pod or namespace. A copy shares them.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Pairs);

impl Labels {
    /// The value of `key`, if the key is there.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|pair| (*pair.0).cmp(key)).ok()?;
        self.0.get(place).map(|pair| &*pair.1)
    }

    /// Sets `key` to `value`, replacing what it had.
    pub fn insert(&mut self, key: &str, value: &str) {
        let mut pairs = self.0.to_vec();
        match pairs.binary_search_by(|pair| (*pair.0).cmp(key)) {
            Ok(place) => pairs[place] = pair(key, value),
            Err(place) => pairs.insert(place, pair(key, value)),
        }
        self.0 = pairs.into();
    }

    /// Keys and values in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|pair| (&*pair.0, &*pair.1))
    }

    /// Keys and values in key order, to be shared.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|pair| (&pair.0, &pair.1))
    }

    /// Those with these keys, without the rest.
    #[must_use]
    pub fn only(&self, keys: &BTreeSet<Arc<str>>) -> Self {
        Self(self.0.iter().filter(|pair| keys.contains(&pair.0)).cloned().collect())
    }

    /// All of them, to be shared whole.
    pub(crate) fn pairs(&self) -> &Pairs {
        &self.0
    }

    /// Those of another who has the same.
    pub(crate) fn of(pairs: Pairs) -> Self {
        Self(pairs)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    /// Of a key that comes twice, the last value stays.
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> Self {
        let pairs: BTreeMap<&str, &str> = pairs.into_iter().collect();
        Self(pairs.into_iter().map(|(key, value)| pair(key, value)).collect())
    }
}

impl fmt::Display for Labels {
    /// `app=cart,tier=be`, in key order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_whatever_order_they_came_in() {
        let mut labels: Labels =
            [("tier", "be"), ("app", "cart"), ("app", "web")].into_iter().collect();
        assert_eq!(labels.to_string(), "app=web,tier=be");
        labels.insert("zone", "a");
        labels.insert("app", "api");
        labels.insert("a", "");
        assert_eq!(labels.to_string(), "a=,app=api,tier=be,zone=a");
        let found = ["a", "app", "tier", "zone", "b", ""].map(|key| labels.get(key));
        assert_eq!(found, [Some(""), Some("api"), Some("be"), Some("a"), None, None]);
        assert!(!labels.is_empty() && Labels::default().is_empty());
    }
}
