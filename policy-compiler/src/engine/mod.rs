//! Keeps a ruleset in step with events, and says how the kernel gets there.
//!
//! ```text
//!  Event ── apply ──> objects, index ── pending ──> staged ── flush ──> Update (ordered steps)
//!                        │                  ├ members that joined or left, or
//!                        └ what it touches  └ outline (compile), way (plan)
//! ```
//!
//! An event is taken in for what it changes. A pod elsewhere joins sets and leaves sets, and that is all
//! there is to do. Only what concerns a pod of the node, a policy that selects one, or which numbers a
//! name has, makes the structure of the rules be compiled anew, from what is remembered of the last time;
//! and of the sets in it those that stand are edited by what has joined and left. So the work is in
//! proportion to the change and to the pods of the node, and not to the cluster: [`Engine::take_work`]
//! counts it.
//!
//! Staging and flushing are two, so that whoever writes can see how far an update reaches before it is
//! taken to be carried out, and let one that is dear wait for what comes after it. While its chains
//! wait, what it changes of members alone can go ahead ([`Engine::flush_members`]).
//!
//! [`Engine`] is the single writer of its state. Its law: after any events and a flush, its ruleset is
//! that which `compile` makes of the same objects, but for the generations of sets; and carrying out
//! the steps of all updates in order on an empty ruleset makes that ruleset. After every step on the
//! way each half of every verdict is what it was before the update, or what it is after it.
//!
//! Nothing here fails: what cannot be compiled denies and is in the diagnostics.

mod edits;
mod local;
mod members;
mod objects;
mod plan;
mod program;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::edits::Edits;
use self::plan::{Members, Names, Standing, Way, edit_members, taken_apart};
pub use self::plan::{Plan, plan};
use self::program::without_generation;
use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::compile::{Memory, Outline, Source, Structure, outline};
use crate::config::NodeConfig;
use crate::diagnostic::Diagnostic;
use crate::index::{Index, MembershipId, NamedId};
use crate::lookup::Lookup;
use crate::name::ObjectKey;
use crate::packed::PackedPod;
use crate::ruleset::{Generation, Ruleset, SetName};
use crate::update::{Reach, Step, Update};

/// The rules of one node, following what happens in the cluster.
#[derive(Clone, Debug)]
pub struct Engine {
    config: NodeConfig,
    /// Of pods, those on the node: all of them are in the index, in little room.
    objects: Snapshot,
    /// Of all objects, for the node of the configuration. What it has kept of sets that stand is what
    /// has come about since members were last handed out.
    index: Index,
    memory: Memory,
    /// As last flushed, with the generations of the kernel.
    ruleset: Ruleset,
    /// That of the ruleset.
    structure: Structure,
    /// What its sets are called in the ruleset.
    called: Names,
    /// Which of its sets an address joins or leaves.
    fed: Fed,
    diagnostics: Vec<Diagnostic>,
    /// The generation in which sets of pods are made next; never used before.
    fresh: Generation,
    /// What was compiled last, until it is flushed.
    outline: Option<Outline>,
    /// Whether the structure may be another than was compiled last.
    stale: bool,
    /// What a flush will hand out, as long as nothing changes after it.
    staged: Option<Staged>,
    /// Whether something differs from what was last planned.
    dirty: bool,
    local_changes: u64,
    work: Work,
}

/// What there was to do, in counts that are the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How often the structure of the rules was compiled, from what is remembered of the last time.
    pub structures: usize,
    /// For how many pods of the node it was worked out which policies select them.
    pub selections: usize,
    /// How many bodies of rules were compiled in it, and not remembered.
    pub bodies: usize,
    /// How often a definition of peers was compared with a group of pods.
    pub comparisons: usize,
    /// How many pods were looked at, besides those that changed.
    pub pods: usize,
    /// How many sets were filled whole.
    pub sets: usize,
}

/// A way that was planned and not yet gone.
#[derive(Clone, Debug)]
struct Staged {
    update: Update,
    /// What the sets are called behind it, where the structure is another.
    called: Option<Names>,
    /// The sets whose members wait for the chains.
    held: BTreeSet<SetName>,
    reach: Reach,
}

/// The sets of a structure, by what they are filled from.
#[derive(Clone, Debug, Default)]
struct Fed {
    /// Only looked up, so that its order does not matter.
    by_membership: BTreeMap<MembershipId, Vec<SetName>>,
    by_number: Lookup<(NamedId, std::num::NonZeroU16), SetName>,
    known: Vec<SetName>,
}

impl Fed {
    fn by(structure: &Structure) -> Self {
        let mut fed = Self::default();
        let families = Family::ALL.into_iter().map(|family| structure.family(family));
        for (name, source) in families.flat_map(|rules| &rules.sets) {
            match source {
                Source::Pods(id) => fed.by_membership.entry(*id).or_default().push(name.clone()),
                Source::Number(id, number) => {
                    fed.by_number.insert((*id, *number), name.clone());
                }
                Source::Known(_) => fed.known.push(name.clone()),
                Source::Fixed(_) => {}
            }
        }
        fed
    }
}

impl Engine {
    /// An engine that knows no objects and takes the kernel to be empty. The sets of the first
    /// update that carry a generation are made in generation `start`, those of a later one in one that
    /// follows.
    ///
    /// Where the kernel still has what an earlier run wrote, `start` must be one that none of its
    /// sets has: then the first update edits no such set that it finds.
    #[must_use]
    pub fn new(config: NodeConfig, start: Generation) -> Self {
        let index = Index::new(config.node.clone());
        Self {
            config,
            objects: Snapshot::default(),
            index,
            memory: Memory::default(),
            ruleset: Ruleset::default(),
            structure: Structure::default(),
            called: Names::new(),
            fed: Fed::default(),
            diagnostics: Vec::new(),
            fresh: start,
            outline: None,
            stale: true,
            staged: None,
            dirty: true,
            local_changes: 0,
            work: Work::default(),
        }
    }

    /// Changes the configuration, from the next flush on.
    pub fn set_config(&mut self, config: NodeConfig) {
        if self.config == config {
            return;
        }
        if self.config.node != config.node {
            // What the kernel has is filled from an index that is no more.
            self.index = self.index.moved_to(&self.objects, config.node.clone());
            let here = self.index.all().filter(|pod| pod.node.as_ref() == Some(&config.node));
            self.objects.pods = here.map(|pod| (pod.key.clone(), pod)).collect();
            self.local_changes += 1;
            self.memory = Memory::default();
            (self.structure, self.called) = taken_apart(&self.ruleset);
            self.fed = Fed::default();
        }
        self.config = config;
        self.stale = true;
        self.dirty = true;
    }

    /// Compiles what has changed since this was last asked, and says how far the next flush will
    /// reach. Until then nothing is taken to have been carried out.
    pub fn pending(&mut self) -> Reach {
        if self.dirty {
            if std::mem::take(&mut self.stale) {
                let compiled =
                    outline(&self.objects, &mut self.index, &self.config, &mut self.memory);
                self.outline = Some(compiled);
                self.work.structures += 1;
            }
            let staged = self.way();
            self.work.sets += staged.update.steps.iter().map(filled).sum::<usize>();
            self.staged = Some(staged);
            self.dirty = false;
        }
        self.staged.as_ref().map_or(Reach::Nothing, |staged| staged.reach)
    }

    /// The steps from the ruleset to what there is now.
    fn way(&self) -> Staged {
        let Some(outline) = &self.outline else {
            let update = self.members_changed();
            let reach = update.reach();
            return Staged { update, called: None, held: BTreeSet::new(), reach };
        };
        let Self { ruleset: kernel, structure, called, .. } = self;
        let standing = Standing { kernel, structure, called };
        let Way { update, called, held } =
            standing.way_to(&outline.structure, &self.index, self.fresh);
        let reach = update.reach();
        Staged { update, called: Some(called), held, reach }
    }

    /// The steps where the structure is what it was. All programs stay, and merely grant, so that every
    /// set may be edited.
    fn members_changed(&self) -> Update {
        let (mut join, mut leave) = (Members::new(), Members::new());
        let mut edit = |set: &SetName, edits: &dyn Fn(&_) -> Edits| {
            let Some(name) = self.called.get(set) else { return };
            if let Some(kernel) = self.ruleset.family(set.family).sets.get(name) {
                edits(kernel).put(name, &mut join, &mut leave);
            }
        };
        for (id, delta) in self.index.deltas() {
            for set in self.fed.by_membership.get(&id).into_iter().flatten() {
                edit(set, &|kernel| Edits::of_delta(set.family, kernel, delta));
            }
        }
        for (id, number, delta) in self.index.number_deltas() {
            if let Some(set) = self.fed.by_number.get(&(id, number)) {
                edit(set, &|kernel| Edits::of_delta(set.family, kernel, delta));
            }
        }
        for set in &self.fed.known {
            if let Some(Source::Known(networks)) = self.structure.family(set.family).sets.get(set) {
                edit(set, &|kernel| Edits::of_known(kernel, networks, &self.index));
            }
        }
        edit_members(join, leave)
    }

    /// Returns the steps that bring the kernel from the last flush to what there is now: none where
    /// nothing has changed. They are taken to have been carried out from now on.
    pub fn flush(&mut self) -> Update {
        self.pending();
        let Some(Staged { update, called, .. }) = self.staged.take() else {
            return Update::default();
        };
        for step in &update.steps {
            self.ruleset.carry_out(step);
        }
        self.index.forget_deltas();
        if let (Some(called), Some(outline)) = (called, self.outline.take()) {
            self.stand(called, outline);
        }
        update
    }

    /// Another structure stands now.
    fn stand(&mut self, called: Names, outline: Outline) {
        let Outline { structure, diagnostics, asked } = outline;
        if called.values().any(|name| name.role.generation() == Some(self.fresh)) {
            self.fresh = self.fresh.next();
        }
        self.called = called;
        self.fed = Fed::by(&structure);
        self.structure = structure;
        self.diagnostics = diagnostics;
        let memberships = self.fed.by_membership.keys().copied().collect();
        self.index.retain(&self.objects, &memberships, &asked);
    }

    /// Returns, of the steps that a flush would return, those that change members of standing sets and
    /// may be carried out although the chains stay as they are: see [`members`]. They are taken to have
    /// been carried out from now on, and a later flush returns the others.
    pub fn flush_members(&mut self) -> Update {
        self.pending();
        let Some(staged) = &mut self.staged else { return Update::default() };
        let update = members::take(&self.ruleset, &mut staged.update, &staged.held);
        staged.reach = staged.update.reach();
        for step in &update.steps {
            self.ruleset.carry_out(step);
        }
        self.settle(&update);
        update
    }

    /// Takes note that members were handed out.
    fn settle(&mut self, update: &Update) {
        let structure = self.outline.as_ref().map_or(&self.structure, |next| &next.structure);
        for step in &update.steps {
            let (Step::AddMembers(sets) | Step::RemoveMembers(sets)) = step else { continue };
            for (name, members) in sets {
                let source = structure.family(name.family).sets.get(&without_generation(name));
                for address in members.iter().map(|member| member.net.addr()) {
                    match source {
                        Some(Source::Pods(id)) => self.index.settle(*id, address),
                        Some(Source::Number(id, number)) => {
                            self.index.settle_number(*id, *number, address);
                        }
                        Some(Source::Known(_) | Source::Fixed(_)) | None => {}
                    }
                }
            }
        }
    }

    /// What there was to do since this was last asked. It is in proportion to what has changed, and to the
    /// pods of the node, and never to the cluster.
    pub fn take_work(&mut self) -> Work {
        let Work { structures, sets, .. } = std::mem::take(&mut self.work);
        let (comparisons, pods) = self.index.take_work();
        let selections = self.memory.take_worked_out();
        let bodies = self.memory.take_compiled();
        Work { structures, selections, bodies, comparisons, pods, sets }
    }

    /// Whether something has changed since it was last asked what is pending.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether a flush would hand out what was planned, or plan anew.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.dirty || self.staged.is_some()
    }

    /// The rules as last flushed.
    #[must_use]
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The objects as they are now; of the pods those on the node alone, in whatever state.
    #[must_use]
    pub fn objects(&self) -> &Snapshot {
        &self.objects
    }

    /// All objects as they are now. It takes as long as there are pods, and much more room than they
    /// have here.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let pods = self.index.all().map(|pod| (pod.key.clone(), pod)).collect();
        let Snapshot { namespaces, policies, nodes, services, .. } = self.objects.clone();
        Snapshot { namespaces, pods, policies, nodes, services }
    }

    /// A pod, wherever it is.
    #[must_use]
    pub fn pod(&self, key: &ObjectKey) -> Option<Pod> {
        self.index.get(key)
    }

    /// All pods in the order of their keys, in little room.
    pub fn packed_pods(&self) -> impl Iterator<Item = PackedPod> {
        self.index.packed()
    }

    /// How many pods there are, wherever they are and in whatever state.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.index.count()
    }

    /// The pods of the node that have a network of their own and have not finished, in the order of their
    /// keys. They are kept apart from the others: to go through them costs nothing for the cluster.
    pub fn local_pods(&self) -> impl Iterator<Item = &Pod> {
        self.index.local().filter_map(|key| self.objects.pods.get(key))
    }

    /// How many pods are on the node, of whatever kind and in whatever state.
    #[must_use]
    pub fn scheduled_pods(&self) -> usize {
        self.index.scheduled()
    }

    /// A number that is another one after every event that concerns [`Engine::local_pods`]: a pod of the
    /// node came, went or changed, or whose their addresses are, since a pod elsewhere or a node claims
    /// one or claims it no more. As long as it stays, so do the local pods, and the owners of their
    /// addresses.
    #[must_use]
    pub fn local_changes(&self) -> u64 {
        self.local_changes
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// What there was to say about the objects when they were last flushed.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// How many sets a step fills whole.
fn filled(step: &Step) -> usize {
    match step {
        Step::CreateSets(sets) => sets.len(),
        _ => 0,
    }
}
