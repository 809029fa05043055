//! Keeps a ruleset in step with events, and says how the kernel gets there.
//!
//! ```text
//!  Event ── apply ──> objects, index ── pending ──> staged ── flush ──> Update (ordered steps)
//!                        │                  ├ members that joined or left, or
//!                        └ what is stale    └ outline (compile), way (plan)
//! ```
//!
//! An event is taken in for what it changes. A pod elsewhere joins sets and leaves sets, and that is all
//! there is to do. What concerns a pod of the node, a policy that selects one, or which numbers a name
//! has, makes stale what pods have of the structure of the rules: they are judged anew, and the way to the
//! kernel leads by the chains that are others then. Of the sets those that stand are edited by what has
//! joined and left. So the work is in proportion to the change, and neither to the cluster nor to the pods of
//! the node: [`Engine::take_work`] counts it.
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

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use self::plan::{Names, Renamed, Standing, Way, taken_apart};
pub use self::plan::{Plan, plan};
use self::program::without_generation;
use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::compile::{Counts, FamilyStructure, Outline, Source, Stale};
use crate::config::NodeConfig;
use crate::diagnostic::Diagnostic;
use crate::index::{Index, NamedId};
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
    /// What was compiled last. What its structure was is that of the ruleset.
    outline: Outline,
    /// As last flushed, with the generations of the kernel.
    ruleset: Ruleset,
    /// What its sets are called, by their names in generation 0.
    called: Names,
    /// As last flushed.
    diagnostics: Arc<[Diagnostic]>,
    /// The names that are asked about.
    asked: BTreeSet<NamedId>,
    /// Whether the index may answer what nobody asks any more.
    answers_more: bool,
    /// The generation in which sets of pods are made next; never used before.
    fresh: Generation,
    /// What of the structure may be another than was compiled last.
    stale: Stale,
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
    /// How often the structure of the rules was looked at for what of it is another.
    pub structures: usize,
    /// For how many pods of the node it was worked out which policies select them.
    pub selections: usize,
    /// For how many pods of the node it was looked at whether they have the chains that are theirs.
    pub judged: usize,
    /// How many bodies of rules were compiled in it, and not kept from before.
    pub bodies: usize,
    /// How often a definition of peers was compared with a group of pods.
    pub comparisons: usize,
    /// How many pods were looked at, besides those that changed.
    pub pods: usize,
    /// How many sets were filled whole.
    pub sets: usize,
    /// How many chains were looked at for the way to the kernel.
    pub chains: usize,
}

/// A way that was planned and not yet gone.
#[derive(Clone, Debug)]
struct Staged {
    update: Update,
    /// What sets are called behind it that are called otherwise now.
    called: Renamed,
    /// The sets whose members wait for the chains.
    held: BTreeSet<SetName>,
    reach: Reach,
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
            outline: Outline::default(),
            ruleset: Ruleset::default(),
            called: Names::new(),
            diagnostics: Arc::default(),
            asked: BTreeSet::new(),
            answers_more: false,
            fresh: start,
            stale: Stale::everything(),
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
            let (structure, called) = taken_apart(&self.ruleset);
            (self.outline, self.called) = (Outline::behind(structure), called);
            self.stale = Stale::everything();
        }
        self.stale.everything |= self.config.hairpin != config.hairpin;
        self.stale.frame = true;
        self.config = config;
        self.dirty = true;
    }

    /// Compiles what has changed since this was last asked, and says how far the next flush will
    /// reach. Until then nothing is taken to have been carried out.
    pub fn pending(&mut self) -> Reach {
        if self.dirty {
            if !self.stale.is_nothing() {
                self.compile();
            }
            let Self { ruleset: kernel, called, .. } = self;
            let Way { update, called, held, chains } = Standing { kernel, called }.way_to(
                self.outline.structure(),
                &self.index,
                self.fresh,
            );
            self.work.sets += update.steps.iter().map(filled).sum::<usize>();
            self.work.chains += chains;
            let reach = update.reach();
            self.staged = Some(Staged { update, called, held, reach });
            self.dirty = false;
        }
        self.staged.as_ref().map_or(Reach::Nothing, |staged| staged.reach)
    }

    /// Compiles what is stale.
    fn compile(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        self.outline.follow(&self.objects, &mut self.index, &self.config, &stale);
        self.work.structures += 1;
        let asked = self.outline.asked();
        let structure = self.outline.structure();
        let refilled =
            Family::ALL.iter().any(|family| structure.family(*family).sets().changed() > 0);
        self.answers_more |= refilled || structure.whole || asked != self.asked;
        self.asked = asked;
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
        self.stand(called);
        update
    }

    /// What was compiled last stands now, its sets called so.
    fn stand(&mut self, called: Renamed) {
        let is_fresh = |name: &SetName| name.role.generation() == Some(self.fresh);
        if called.values().flatten().any(is_fresh) {
            self.fresh = self.fresh.next();
        }
        for (set, name) in called {
            match name {
                Some(name) => drop(self.called.insert(set, name)),
                None => drop(self.called.remove(&set)),
            }
        }
        self.outline.settle();
        self.diagnostics = Arc::clone(self.outline.diagnostics());
        if std::mem::take(&mut self.answers_more) {
            let structure = self.outline.structure();
            let families = Family::ALL.into_iter().map(|family| structure.family(family));
            let memberships = families.flat_map(FamilyStructure::memberships).collect();
            self.index.retain(&self.objects, &memberships, &self.asked);
        }
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
        let structure = self.outline.structure();
        for step in &update.steps {
            let (Step::AddMembers(sets) | Step::RemoveMembers(sets)) = step else { continue };
            for (name, members) in sets {
                let source = structure.family(name.family).sets().get(&without_generation(name));
                let taken: Vec<IpAddr> = members.iter().map(|member| member.net.addr()).collect();
                match source {
                    Some(Source::Pods(id)) => self.index.settle(*id, &taken),
                    Some(Source::Number(id, number)) => {
                        self.index.settle_number(*id, *number, &taken);
                    }
                    Some(Source::Known(_) | Source::Fixed(_)) | None => {}
                }
            }
        }
    }

    /// What there was to do since this was last asked. It is in proportion to what has changed, and never to
    /// the cluster.
    pub fn take_work(&mut self) -> Work {
        let Work { structures, sets, chains, .. } = std::mem::take(&mut self.work);
        let (comparisons, pods) = self.index.take_work();
        let Counts { selections, judged, bodies } = self.outline.take_counts();
        Work { structures, selections, judged, bodies, comparisons, pods, sets, chains }
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
