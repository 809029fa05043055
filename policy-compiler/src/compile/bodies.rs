//! The bodies in use: each is compiled once and kept as long as some pod has it, and with it the sets that
//! it looks up. The chains that pods share are kept for as long as one of them leads there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::body::{Body, Named};
use super::grants::NamedPort;
use super::structure::{FamilyStructure, Structure};
use crate::cidr::Family;
use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Location;
use crate::index::{Index, NamedId, Stamp};
use crate::policy::Direction;
use crate::ruleset::{ChainName, SetName};

/// What determines a body: pods that agree in this share it.
pub(super) type BodyKey = (Family, Direction, Arc<[Stamp]>, Arc<BTreeSet<NamedPort>>);

/// One of the bodies in use; none comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BodyId(u64);

/// A body in use.
#[derive(Clone, Debug)]
struct Held {
    key: BodyKey,
    body: Arc<Body>,
    uses: usize,
}

/// All bodies in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Bodies {
    held: BTreeMap<BodyId, Held>,
    ids: BTreeMap<BodyKey, BodyId>,
    /// Those that rest on which numbers are found under names.
    naming: BTreeSet<BodyId>,
    /// How many bodies look a set up.
    sets: BTreeMap<SetName, usize>,
    /// How many pods' chains lead to a chain.
    led: BTreeMap<(Family, ChainName), usize>,
    last: u64,
}

impl Bodies {
    /// The body of `key`, for one more pod.
    pub(super) fn take(
        &mut self,
        key: BodyKey,
        structure: &mut Structure,
        compile: impl FnOnce(&BodyKey) -> Body,
    ) -> (BodyId, Arc<Body>) {
        if let Some(id) = self.ids.get(&key)
            && let Some(held) = self.held.get_mut(id)
        {
            held.uses += 1;
            return (*id, Arc::clone(&held.body));
        }
        self.last += 1;
        let id = BodyId(self.last);
        let body = Arc::new(compile(&key));
        let rules = structure.family_mut(key.0);
        for (name, source) in &body.sets {
            *self.sets.entry(name.clone()).or_default() += 1;
            rules.put_set(name.clone(), source.clone());
        }
        if !body.numbers.is_empty() {
            self.naming.insert(id);
        }
        self.ids.insert(key.clone(), id);
        self.held.insert(id, Held { key, body: Arc::clone(&body), uses: 1 });
        (id, body)
    }

    /// A pod less has it.
    pub(super) fn drop(&mut self, id: BodyId, structure: &mut Structure) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.uses -= 1;
        if held.uses > 0 {
            return;
        }
        let Some(Held { key, body, .. }) = self.held.remove(&id) else { return };
        self.naming.remove(&id);
        if self.ids.get(&key) == Some(&id) {
            self.ids.remove(&key);
        }
        let rules = structure.family_mut(key.0);
        for (name, _) in &body.sets {
            if is_last(&mut self.sets, name) {
                rules.remove_set(name);
            }
        }
    }

    /// One more chain leads to one that is shared.
    pub(super) fn lead_to(
        &mut self,
        family: Family,
        (name, chain): &Named,
        rules: &mut FamilyStructure,
    ) {
        let leading = self.led.entry((family, name.clone())).or_default();
        *leading += 1;
        if *leading == 1 {
            rules.chains.put(name.clone(), Arc::clone(chain));
        }
    }

    /// A chain less leads there.
    pub(super) fn leave(&mut self, family: Family, name: &ChainName, rules: &mut FamilyStructure) {
        if is_last(&mut self.led, &(family, name.clone())) {
            rules.chains.remove(name);
        }
    }

    /// Those that rest on numbers which are others now: whoever has them is to take others.
    pub(super) fn outdated(&mut self, index: &Index) -> BTreeSet<BodyId> {
        let same = |(id, numbers): &(NamedId, Vec<_>)| {
            index.numbers_found(*id).eq(numbers.iter().copied())
        };
        let mut outdated = BTreeSet::new();
        for id in &self.naming {
            let Some(held) = self.held.get(id) else { continue };
            if !held.body.numbers.iter().all(same) {
                outdated.insert(*id);
                if self.ids.get(&held.key) == Some(id) {
                    self.ids.remove(&held.key);
                }
            }
        }
        outdated
    }

    /// The names that they ask about.
    pub(super) fn asked(&self) -> impl Iterator<Item = NamedId> {
        let naming = self.naming.iter().filter_map(|id| self.held.get(id));
        naming.flat_map(|held| &held.body.numbers).map(|(id, _)| *id)
    }

    /// What is said of names that two contents have.
    pub(super) fn collisions(&self) -> impl Iterator<Item = Diagnostic> {
        let collisions = self.held.values().flat_map(|held| &held.body.collisions);
        collisions.map(|collision| Diagnostic {
            location: Location::default(),
            object: None,
            field: String::new(),
            severity: Severity::Error,
            message: format!(
                "two sets of addresses have the hash `{}`; rules that need the second allow nothing",
                collision.name
            ),
            help: None,
        })
    }
}

/// Counts one less; whether it was the last.
fn is_last<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    counts.remove(key);
    true
}
