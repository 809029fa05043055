//! Keeps a ruleset in step with events, and says how the kernel gets there.
//!
//! ```text
//!  Event ── apply ──> Snapshot ── pending: compile, plan ──> staged ── flush ──> Update (ordered steps)
//! ```
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

mod members;
mod plan;
mod program;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use plan::{Plan, plan};

use crate::cluster::Snapshot;
use crate::compile::compile;
use crate::config::NodeConfig;
use crate::diagnostic::Diagnostic;
use crate::ruleset::{Generation, Ruleset};
use crate::update::{Event, Reach, Relist, Update};

/// The rules of one node, following what happens in the cluster.
#[derive(Clone, Debug)]
pub struct Engine {
    config: NodeConfig,
    snapshot: Snapshot,
    /// As last flushed, with the generations of the kernel.
    ruleset: Ruleset,
    diagnostics: Vec<Diagnostic>,
    /// The generation in which sets of pods are made next; never used before.
    fresh: Generation,
    /// What a flush will hand out, as long as nothing changes after it.
    staged: Option<Staged>,
    /// Whether something differs from what was last compiled.
    dirty: bool,
}

/// A way that was planned and not yet gone.
#[derive(Clone, Debug)]
struct Staged {
    plan: Plan,
    diagnostics: Vec<Diagnostic>,
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
        Self {
            config,
            snapshot: Snapshot::default(),
            ruleset: Ruleset::default(),
            diagnostics: Vec::new(),
            fresh: start,
            staged: None,
            dirty: true,
        }
    }

    /// Takes an event in, and says whether it made any object different. Nothing is compiled yet.
    pub fn apply(&mut self, event: Event) -> bool {
        let objects = &mut self.snapshot;
        let changed = match event {
            Event::PodApplied(pod) => put(&mut objects.pods, pod.key.clone(), *pod),
            Event::PodDeleted(key) => objects.pods.remove(&key).is_some(),
            Event::NamespaceApplied(namespace) => {
                put(&mut objects.namespaces, namespace.name().clone(), namespace)
            }
            Event::NamespaceDeleted(name) => objects.namespaces.remove(&name).is_some(),
            Event::PolicyApplied(policy) => put(&mut objects.policies, policy.key.clone(), *policy),
            Event::PolicyDeleted(key) => objects.policies.remove(&key).is_some(),
            Event::NodeApplied(node) => put(&mut objects.nodes, node.name.clone(), node),
            Event::NodeDeleted(name) => objects.nodes.remove(&name).is_some(),
            Event::Relisted(listed) => {
                let differs = *objects != *listed;
                *objects = *listed;
                differs
            }
            Event::PodsRelisted(listed) => relist(&mut objects.pods, listed),
            Event::NamespacesRelisted(listed) => relist(&mut objects.namespaces, listed),
            Event::PoliciesRelisted(listed) => relist(&mut objects.policies, listed),
            Event::NodesRelisted(listed) => relist(&mut objects.nodes, listed),
        };
        self.dirty |= changed;
        changed
    }

    /// Changes the configuration, from the next flush on.
    pub fn set_config(&mut self, config: NodeConfig) {
        self.dirty |= self.config != config;
        self.config = config;
    }

    /// Compiles what has changed since this was last asked, and says how far the next flush will
    /// reach. Until then nothing is taken to have been carried out.
    pub fn pending(&mut self) -> Reach {
        if self.dirty {
            let compiled = compile(&self.snapshot, &self.config);
            let plan = plan(&self.ruleset, &compiled.ruleset, self.fresh);
            let reach = plan.update.reach();
            self.staged = Some(Staged { plan, diagnostics: compiled.diagnostics, reach });
            self.dirty = false;
        }
        self.staged.as_ref().map_or(Reach::Nothing, |staged| staged.reach)
    }

    /// Returns the steps that bring the kernel from the last flush to what there is now: none where
    /// nothing has changed. They are taken to have been carried out from now on.
    pub fn flush(&mut self) -> Update {
        self.pending();
        let Some(Staged { plan, diagnostics, .. }) = self.staged.take() else {
            return Update::default();
        };
        if uses(&plan.ruleset, self.fresh) {
            self.fresh = self.fresh.next();
        }
        self.ruleset = plan.ruleset;
        self.diagnostics = diagnostics;
        plan.update
    }

    /// Returns, of the steps that a flush would return, those that change members of standing sets and
    /// may be carried out although the chains stay as they are: see [`members`]. They are taken to have
    /// been carried out from now on, and a later flush returns the others.
    pub fn flush_members(&mut self) -> Update {
        self.pending();
        let Some(staged) = &mut self.staged else { return Update::default() };
        let update = members::take(&self.ruleset, &mut staged.plan);
        staged.reach = staged.plan.update.reach();
        for step in &update.steps {
            self.ruleset.carry_out(step);
        }
        update
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

    /// The objects as they are now.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
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

/// Puts `object` under `key`; returns whether that made a difference.
fn put<K: Ord, V: PartialEq>(objects: &mut BTreeMap<K, V>, key: K, object: V) -> bool {
    if objects.get(&key) == Some(&object) {
        return false;
    }
    objects.insert(key, object);
    true
}

/// Puts what was listed in the place of `objects`; returns whether that made a difference.
fn relist<K: Ord, V: PartialEq + Clone>(
    objects: &mut BTreeMap<K, V>,
    listed: Relist<K, V>,
) -> bool {
    let Relist { objects: mut next, unread } = listed;
    for key in unread {
        if let Some(last) = objects.get(&key) {
            next.entry(key).or_insert_with(|| last.clone());
        }
    }
    let differs = *objects != next;
    *objects = next;
    differs
}

fn uses(ruleset: &Ruleset, generation: Generation) -> bool {
    let mut names = ruleset.v4.sets.keys().chain(ruleset.v6.sets.keys());
    names.any(|name| name.role.generation() == Some(generation))
}
