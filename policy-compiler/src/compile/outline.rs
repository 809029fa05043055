//! What is compiled before the addresses of pods elsewhere matter, kept in step with the objects.
//!
//! Of the pods of the node those are judged anew that may be another matter now, and what they had and
//! nobody has any more goes. What is kept never changes the outcome: it is that of a compilation from
//! nothing. Where two contents seem to have one name, which may be that of something long gone, nothing is
//! kept and all is compiled once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::asking::asks;
use super::bodies::Bodies;
use super::body::BodyMaker;
use super::chosen::{Choices, News};
use super::digest::Registry;
use super::judged::{Course, Fate, Fates, Judge, Judged};
use super::layout::{Dispatch, Dispatched, Frame, frame, lay_isolated, root};
use super::spoof::source_check;
use super::stale::Stale;
use super::structure::Structure;
use super::subjects::contested_addresses;
use super::tree::Trees;
use super::warnings::Warnings;
use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::config::NodeConfig;
use crate::diagnostic::Diagnostic;
use crate::index::{Index, NamedId};
use crate::name::ObjectKey;
use crate::policy::Direction;

/// How many names the registry may hold besides four times those that it had when it was last emptied.
/// In tests it is emptied often.
const STALE: usize = if cfg!(test) { 0 } else { 1024 };

/// The structure of the rules, and all that is kept to keep it up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    structure: Structure,
    diagnostics: Arc<[Diagnostic]>,
    registry: Registry,
    /// Whether a name was refused although nothing had been kept.
    collides: bool,
    /// The pods of the node that are somebody.
    pods: BTreeMap<ObjectKey, Judged>,
    bodies: Bodies,
    warnings: Warnings,
    contested: Vec<Diagnostic>,
    families: [OfFamily; 2],
    trees: Trees,
    counts: Counts,
}

/// What a family has besides chains of pods and bodies.
#[derive(Clone, Debug, Default)]
pub(super) struct OfFamily {
    pub(super) dispatch: Dispatch,
    /// Whether that is another than when the trees were made.
    pub(super) redispatched: BTreeSet<Direction>,
    frame: Frame,
    sources: Frame,
    /// For whom the frame was made.
    framed: Option<Dispatched>,
}

/// What there was to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many bodies were compiled, and not kept.
    pub(crate) bodies: usize,
    /// For how many pods it was worked out which policies select them.
    pub(crate) selections: usize,
    /// How many pods of the node were judged.
    pub(crate) judged: usize,
}

impl Outline {
    /// One of nothing, behind a structure of which nothing else is known.
    pub(crate) fn behind(structure: Structure) -> Self {
        Self { structure, ..Self::default() }
    }

    /// The rules, and what their sets are filled from.
    pub(crate) fn structure(&self) -> &Structure {
        &self.structure
    }

    /// What was taken in the safe way or is probably not meant, sorted.
    pub(crate) fn diagnostics(&self) -> &Arc<[Diagnostic]> {
        &self.diagnostics
    }

    /// The names that are asked about: where other numbers are found under one of them, the structure
    /// is another.
    pub(crate) fn asked(&self) -> BTreeSet<NamedId> {
        self.bodies.asked().chain(self.warnings.asked()).collect()
    }

    /// What there was to do since this was last asked.
    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// The structure as it is now stands.
    pub(crate) fn settle(&mut self) {
        self.structure.settle();
    }

    /// Follows what has become different. The index must be that of the snapshot for the node of the
    /// configuration.
    pub(crate) fn follow(
        &mut self,
        objects: &Snapshot,
        index: &mut Index,
        config: &NodeConfig,
        stale: &Stale,
    ) {
        let outgrown = self.registry.len() > 4 * self.registry.began_with() + STALE;
        let keeps = !stale.everything && !self.collides && !outgrown;
        if keeps && !self.compile(objects, index, config, stale) {
            return;
        }
        let mut anew = Self { counts: self.counts, ..Self::default() };
        anew.collides = anew.compile(objects, index, config, &Stale::everything());
        let before = std::mem::replace(self, anew);
        self.structure.follow(before.structure);
    }

    /// Compiles what is stale; whether a name was refused.
    fn compile(
        &mut self,
        objects: &Snapshot,
        index: &mut Index,
        config: &NodeConfig,
        stale: &Stale,
    ) -> bool {
        let fates = self.fates(objects, index, stale);
        let mut maker = BodyMaker::new(objects, index);
        let said = self.judge(config, &mut maker, fates);
        if stale.everything || stale.owners {
            self.contested = contested_addresses(objects, maker.index);
        }
        for family in Family::ALL {
            self.lay_out(family, config, stale);
        }
        let warned = self.warnings.follow(&mut maker, stale.everything || stale.numbers);
        if said || warned || stale.everything || stale.owners {
            self.say();
        }
        self.registry.settle()
    }

    /// The pods to be judged, each with what policies make of it; of one that is nobody nothing.
    fn fates(&mut self, objects: &Snapshot, index: &mut Index, stale: &Stale) -> Fates {
        let mut fates = Fates::new();
        let news = self.choose(objects, index, stale, &mut fates);
        let asks = asks(objects, &news);
        index.ask(objects, &asks.labels);
        index.ask_names(asks.names);
        let outdated = if stale.numbers { self.bodies.outdated(index) } else { BTreeSet::new() };
        if stale.owners || !outdated.is_empty() {
            for (key, judged) in &self.pods {
                let is_stale = judged.has_any(&outdated)
                    || stale.owners
                        && objects.pods.get(key).is_some_and(|pod| judged.is_elsewhere(pod, index));
                if is_stale {
                    let itself = || Some(Fate { choice: judged.choice.clone(), itself: true });
                    if let Some(fate) = fates.entry(key.clone()).or_insert_with(itself) {
                        fate.itself = true;
                    }
                }
            }
        }
        fates
    }

    /// What policies make of pods of which something may be different; those that are new to pods.
    fn choose(
        &mut self,
        objects: &Snapshot,
        index: &Index,
        stale: &Stale,
        fates: &mut Fates,
    ) -> News {
        let mut choices = Choices::new(objects, index);
        let everybody = index.local().filter(|_| stale.everything);
        for key in everybody.chain(&stale.pods) {
            let fate = local(objects, index, key).map(|pod| {
                let last = self.pods.get(key).map(|judged| &judged.choice);
                Fate { choice: choices.of(pod, last), itself: true }
            });
            fates.insert(key.clone(), fate);
        }
        // What they were is what was followed, until all have been.
        let mut stand = Vec::new();
        for (key, judged) in &mut self.pods {
            let itself = stale.everything || stale.pods.contains(key);
            if itself || !stale.namespaces.contains(&key.namespace) {
                continue;
            }
            let after = choices.after(&key.namespace, &judged.choice);
            let afresh = || local(objects, index, key).map(|pod| choices.of(pod, None));
            let Some(choice) = after.or_else(afresh) else { continue };
            if Arc::ptr_eq(&choice.chosen, &judged.choice.chosen) {
                stand.push((judged, choice));
            } else {
                fates.insert(key.clone(), Some(Fate { choice, itself: false }));
            }
        }
        for (judged, choice) in stand {
            judged.choice = choice;
        }
        self.counts.selections += choices.worked_out;
        choices.news
    }

    /// Judges pods, and lets go what they had; whether anything was said of them, now or before.
    fn judge(&mut self, config: &NodeConfig, maker: &mut BodyMaker<'_, '_>, fates: Fates) -> bool {
        let mut judge = Judge {
            config,
            maker,
            registry: &mut self.registry,
            bodies: &mut self.bodies,
            structure: &mut self.structure,
            families: &mut self.families,
            counts: &mut self.counts,
        };
        let mut pods = Vec::with_capacity(fates.len());
        for (key, fate) in fates {
            let was = self.pods.remove(&key);
            let pod = judge.maker.objects.pods.get(&key);
            let is = fate.zip(pod).map(|(fate, pod)| judge.pod(pod, fate, was.as_ref()));
            pods.push(Course { key, was, is });
        }
        judge.dispatch(&pods);
        let mut said = false;
        for Course { key, was, is } in pods {
            let both = was.as_ref().zip(is.as_ref());
            let declares = !both.is_some_and(|(was, is)| was.declares_as(is));
            let [last, now] = [&was, &is].map(|pod| pod.as_ref().map(|pod| &*pod.choice.chosen));
            self.warnings.changed(&key, last, now, declares);
            said |= [&was, &is].into_iter().flatten().any(|pod| !pod.said.is_empty());
            if let Some(was) = was {
                judge.let_go(was, is.as_ref());
            }
            self.pods.extend(is.map(|is| (key, is)));
        }
        said
    }

    /// Lays out what is no pod's own.
    fn lay_out(&mut self, family: Family, config: &NodeConfig, stale: &Stale) {
        let of_family = &mut self.families[place(family)];
        let rules = self.structure.family_mut(family);
        if stale.frame {
            let check = |antispoof| source_check(family, antispoof, &mut self.registry);
            let sources = config.antispoof.as_ref().map(check).unwrap_or_default();
            sources.replace(&of_family.sources, rules);
            of_family.sources = sources;
        }
        let dispatched = of_family.dispatch.dispatched();
        if stale.frame || of_family.framed != Some(dispatched) {
            let frame = frame(family, config, dispatched);
            frame.replace(&of_family.frame, rules);
            of_family.frame = frame;
            of_family.framed = Some(dispatched);
        }
        let redispatched = std::mem::take(&mut of_family.redispatched);
        if stale.frame || !redispatched.is_empty() {
            lay_isolated(family, config, &of_family.dispatch, rules);
        }
        for direction in redispatched {
            let leaves = of_family.dispatch.all(direction);
            self.trees.grow(
                direction,
                family,
                &leaves,
                (root(direction), &mut self.registry),
                rules,
            );
        }
    }

    /// Says what there is to say.
    fn say(&mut self) {
        let mut diagnostics = self.contested.clone();
        diagnostics.extend(self.pods.values().flat_map(|judged| judged.said.iter().cloned()));
        diagnostics.extend(self.bodies.collisions());
        diagnostics.extend(self.warnings.said().cloned());
        diagnostics.sort();
        diagnostics.dedup();
        self.diagnostics = diagnostics.into();
    }
}

/// Where what is kept of a family lies.
pub(super) fn place(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// A pod that is on the node and somebody.
fn local<'a>(objects: &'a Snapshot, index: &Index, key: &ObjectKey) -> Option<&'a Pod> {
    objects.pods.get(key).filter(|_| index.is_local(key))
}
