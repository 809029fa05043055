//! Which pods of other nodes are watched, and what becomes of what these watches say.
//!
//! ```text
//!  policies, namespaces, local pods ── Scope ──> wanted watches ──> source
//!  what a watch says ── is it still listened to? ── Claims ──> engine
//! ```
//!
//! Invariants: the engine holds a pod of another node only while a watch that is listened to, and has
//! ended its list, has it. A watch that nobody wants any more is forgotten with all that it said, in
//! the turn in which that is found out; only while what takes its place has not been listed does it
//! go on, and then it is as fresh as any other. What is wanted again gets a new number and a new list.
//! Pods out of scope tell of no node's address, so nothing is complete before the nodes were listed: a
//! watched pod that claims such an address would be let in as what it is.
//!
//! What is missing is denied, so that nothing has to wait for a list, except this: a policy that
//! isolates a local pod for the first time, and names peers that are not watched yet, would deny what
//! it allows and cut their connections. It is held back until they are listed, for [`HOLD`] at most,
//! as if it had come later. A pod of this node never waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::engine::Engine;
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::policy::{Direction, Policy};
use policy_compiler::scope::{Claims, Limits, Rank, Scope, Whole};
use policy_compiler::selector::Selector;
use policy_compiler::update::Event;
use tokio::sync::watch;
use tracing::{info, warn};

use super::intake::Intake;
use crate::excerpt::policies_in;
use crate::health::{Note, Notes};
use crate::metrics::{Metrics, Watches};
use crate::source::scoped::{OWN, PodWatch, PodWatches, Said, Watched};
use crate::source::{Change, Kind, Standing};

/// How long a policy waits for the pods that it names.
const HOLD: Duration = Duration::from_secs(1);

/// What a watch is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Own,
    Namespace(NamespaceName, Selector),
    Across(Selector),
}

impl Place {
    fn rank(&self) -> Rank {
        match self {
            Place::Own => Rank::Own,
            Place::Namespace(..) => Rank::Namespace,
            Place::Across(_) => Rank::Across,
        }
    }

    fn asked(&self) -> Option<PodWatch> {
        let (namespace, selector) = match self {
            Place::Own => return None,
            Place::Namespace(namespace, selector) => (Some(namespace.clone()), selector),
            Place::Across(selector) => (None, selector),
        };
        Some(PodWatch { namespace, selector: selector.clone() })
    }

    /// Whether pods that it has may be among those of `other`.
    fn may_meet(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Namespace(one, _), Place::Namespace(other, _)) => one == other,
            _ => true,
        }
    }
}

/// A watch that is listened to.
#[derive(Debug)]
struct Ear {
    place: Place,
    wanted: bool,
    standing: Standing,
    /// The objects that it found something wrong with.
    found: BTreeSet<Arc<str>>,
}

impl Ear {
    fn new(place: Place) -> Self {
        let standing = Standing { kind: Kind::Pod, listed: false, failing: None };
        Self { place, wanted: true, standing, found: BTreeSet::new() }
    }
}

/// A policy that waits.
#[derive(Debug)]
struct Held {
    change: Change,
    until: Instant,
}

/// The pods that are watched.
#[derive(Debug)]
pub(super) struct Scoping {
    wanted: watch::Sender<PodWatches>,
    ears: BTreeMap<u64, Ear>,
    /// The number of the next watch.
    next: u64,
    claims: Claims,
    /// As last found out.
    scope: Option<Scope>,
    /// Whether something has changed that it depends on.
    stale: bool,
    /// Whether everything that was wanted was listed once.
    complete: bool,
    held: BTreeMap<ObjectKey, Held>,
    /// How long one waits.
    hold: Duration,
}

impl Scoping {
    /// Listens to the watch of the node's own pods, and has none other yet.
    pub(super) fn new(wanted: watch::Sender<PodWatches>) -> Self {
        Self {
            wanted,
            ears: [(OWN, Ear::new(Place::Own))].into(),
            next: OWN + 1,
            claims: Claims::default(),
            scope: None,
            stale: true,
            complete: false,
            held: BTreeMap::new(),
            hold: HOLD,
        }
    }

    /// How all pods stand that are wanted.
    pub(super) fn standing(&self) -> Standing {
        let wanted = self.ears.values().filter(|ear| ear.wanted);
        let failing = wanted.filter_map(|ear| ear.standing.failing.clone());
        let failing = failing.min_by_key(|(since, _)| *since);
        Standing { kind: Kind::Pod, listed: self.complete, failing }
    }

    /// Takes in what a watch says, and whether an object is now another, with when it came.
    pub(super) fn take(
        &mut self,
        watched: Watched,
        intake: &mut Intake,
        engine: &mut Engine,
    ) -> Option<Instant> {
        let Watched { watch, said } = watched;
        // It may have spoken before it heard that nobody listens.
        let ear = self.ears.get_mut(&watch)?;
        let change = match said {
            Said::Standing(standing) => {
                ear.standing = standing;
                return None;
            }
            Said::Changed(change) => change,
        };
        let Change { subject, event, found, seen } = change;
        let about = match &subject.object {
            Some(object) => [Arc::clone(object)].into(),
            None => std::mem::take(&mut ear.found),
        };
        ear.found.retain(|object| !about.contains(object));
        ear.found.extend(found.keys().cloned());
        intake.find(Kind::Pod, about, found);
        let rank = ear.place.rank();
        let held = |key: &ObjectKey| engine.pod(key);
        let events: Vec<Event> = match event? {
            Event::PodApplied(pod) => {
                self.claims.apply(rank, watch, pod, &held).into_iter().collect()
            }
            Event::PodDeleted(key) => self.claims.release(rank, watch, &key).into_iter().collect(),
            Event::PodsRelisted(relist) => self.claims.relist(rank, watch, &relist, &held),
            other => vec![other],
        };
        let changed = apply(events, engine);
        self.stale |= changed && rank == Rank::Own;
        (changed && subject.object.is_some()).then_some(seen)
    }

    /// Holds a change back, or gives it back.
    pub(super) fn hold(&mut self, change: Change, engine: &Engine) -> Option<Change> {
        match &change.event {
            Some(Event::PolicyApplied(policy)) => {
                let key = policy.key.clone();
                let before = self.held.remove(&key);
                if self.complete && self.isolates_anew_unlisted(policy, engine) {
                    // Another version of it has no more time.
                    let until =
                        before.map_or_else(|| Instant::now() + self.hold, |held| held.until);
                    self.held.insert(key, Held { change, until });
                    self.stale = true;
                    return None;
                }
                self.stale |= before.is_some();
            }
            Some(Event::PolicyDeleted(key)) => self.stale |= self.held.remove(key).is_some(),
            Some(Event::PoliciesRelisted(_)) => {
                self.stale |= !self.held.is_empty();
                self.held.clear();
            }
            _ => {}
        }
        Some(change)
    }

    /// Whether what may be watched follows from an event that is no pod's: policies of namespaces
    /// without a pod of this node ask for nobody.
    pub(super) fn depends_on(event: &Event, engine: &Engine) -> bool {
        let has_pods = |namespace: &NamespaceName| {
            engine.local_pods().any(|pod| pod.key.namespace == *namespace)
        };
        match event {
            Event::PolicyApplied(policy) => has_pods(&policy.key.namespace),
            Event::PolicyDeleted(key) => has_pods(&key.namespace),
            Event::NodeApplied(_) | Event::NodeDeleted(_) | Event::NodesRelisted(_) => false,
            _ => true,
        }
    }

    /// Something has changed that it depends on.
    pub(super) fn notice(&mut self) {
        self.stale = true;
    }

    /// When a policy has waited for long enough.
    pub(super) fn at(&self) -> Option<Instant> {
        self.held.values().map(|held| held.until).min()
    }

    /// Finds out what is to be watched where that may have changed, forgets what is not, and lets
    /// policies go on that have waited.
    pub(super) fn follow(&mut self, intake: &mut Intake, engine: &mut Engine, metrics: &Metrics) {
        if !self.is_known(intake) {
            return;
        }
        self.look(engine);
        if self.let_go(intake, engine) {
            self.look(engine);
        }
        self.forget(intake, engine);
        self.complete |= self.has_listed_all();
        self.count(metrics);
    }

    /// What is worth to be known.
    pub(super) fn notes(&self) -> Notes {
        let note = |whole: &Whole| {
            let text = format!("all pods of the cluster are watched: {whole}");
            ("scope".to_owned(), Note { text, since: None })
        };
        let whole = self.scope.as_ref().and_then(|scope| scope.whole.as_ref());
        whole.map(note).into_iter().collect()
    }

    /// Whether everything was listed that a scope follows from.
    fn is_known(&self, intake: &Intake) -> bool {
        let listed = |kind| intake.standing().get(&kind).is_some_and(|standing| standing.listed);
        let own = self.ears.get(&OWN).is_some_and(|ear| ear.standing.listed);
        own && [Kind::Policy, Kind::Namespace, Kind::Node].into_iter().all(listed)
    }

    fn look(&mut self, engine: &Engine) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let snapshot = engine.objects();
        let local: Vec<&Pod> = engine.local_pods().collect();
        let inside: BTreeSet<&NamespaceName> = local.iter().map(|pod| &pod.key.namespace).collect();
        let known = inside.into_iter().flat_map(|name| policies_in(snapshot, name));
        let held = self.held.values().filter_map(|held| policy_of(&held.change));
        let policies = known.chain(held);
        let scope = Scope::of(snapshot, policies, &local, Limits::default());
        if self.scope.as_ref() == Some(&scope) {
            return;
        }
        let whole_before = self.scope.as_ref().and_then(|scope| scope.whole.as_ref());
        match &scope.whole {
            Some(whole) if whole_before != Some(whole) => {
                warn!(reason = %whole, "all pods of the cluster are watched");
            }
            None if whole_before.is_some() => {
                info!("not all pods of the cluster are watched any more");
            }
            _ => {}
        }
        self.want(&scope);
        self.scope = Some(scope);
    }

    /// Listens to what is in scope.
    fn want(&mut self, scope: &Scope) {
        let namespaces = scope.namespaces.iter();
        let namespaces =
            namespaces.map(|(name, pods)| Place::Namespace(name.clone(), pods.clone()));
        let across = scope.across.iter().cloned().map(Place::Across);
        let mut places: BTreeSet<Place> = namespaces.chain(across).collect();
        for ear in self.ears.values_mut() {
            ear.wanted = places.remove(&ear.place) || ear.place == Place::Own;
        }
        for place in places {
            self.ears.insert(self.next, Ear::new(place));
            self.next += 1;
        }
        self.tell();
    }

    fn tell(&self) {
        let asked = self.ears.iter().filter_map(|(watch, ear)| Some((*watch, ear.place.asked()?)));
        let asked: PodWatches = asked.collect();
        self.wanted.send_if_modified(|now| {
            let differs = *now != asked;
            *now = asked;
            differs
        });
    }

    fn has_listed_all(&self) -> bool {
        self.unlisted().next().is_none()
    }

    fn unlisted(&self) -> impl Iterator<Item = &Ear> {
        self.ears.values().filter(|ear| ear.wanted && !ear.standing.listed)
    }

    /// Forgets the watches that nobody wants, unless what may take their place is still to come.
    fn forget(&mut self, intake: &mut Intake, engine: &mut Engine) {
        let idle = self.ears.iter().filter(|(_, ear)| {
            let awaited = || self.unlisted().any(|other| other.place.may_meet(&ear.place));
            let stands_in = ear.standing.listed && awaited();
            !(ear.wanted || stands_in)
        });
        let idle: Vec<u64> = idle.map(|(watch, _)| *watch).collect();
        for watch in &idle {
            let Some(ear) = self.ears.remove(watch) else { continue };
            apply(self.claims.drop_watch(ear.place.rank(), *watch), engine);
            intake.find(Kind::Pod, ear.found, BTreeMap::new());
        }
        if !idle.is_empty() {
            self.tell();
        }
    }

    /// Lets policies go on whose time has come; whether there were any.
    fn let_go(&mut self, intake: &mut Intake, engine: &mut Engine) -> bool {
        let (listed, now) = (self.has_listed_all(), Instant::now());
        let ready = self.held.iter().filter(|(_, held)| listed || held.until <= now);
        let ready: Vec<ObjectKey> = ready.map(|(key, _)| key.clone()).collect();
        for key in &ready {
            if let Some(held) = self.held.remove(key) {
                intake.apply(held.change, engine);
            }
        }
        self.stale |= !ready.is_empty();
        !ready.is_empty()
    }

    /// Whether a policy isolates a pod of this node in a direction in which none does, and names peers
    /// that are not listed.
    fn isolates_anew_unlisted(&self, policy: &Policy, engine: &Engine) -> bool {
        let snapshot = engine.objects();
        if snapshot.audits(policy) {
            return false;
        }
        let selected = engine.local_pods().filter(|pod| {
            pod.key.namespace == policy.key.namespace && policy.pod_selector.matches(&pod.labels)
        });
        let selected: Vec<&Pod> = selected.collect();
        let anew = Direction::ALL.into_iter().any(|direction| {
            policy.isolates(direction)
                && selected.iter().any(|pod| !is_isolated(pod, direction, snapshot))
        });
        anew && !self.has_listed(&Scope::of(snapshot, [policy], &selected, Limits::default()))
    }

    /// Whether watches that have been listed hold all of a scope.
    fn has_listed(&self, scope: &Scope) -> bool {
        let listed = || self.ears.values().filter(|ear| ear.wanted && ear.standing.listed);
        let across = |pods: &Selector| {
            listed().any(|ear| matches!(&ear.place, Place::Across(has) if includes(has, pods)))
        };
        let within = |name: &NamespaceName, pods: &Selector| {
            listed().any(|ear| match &ear.place {
                Place::Namespace(of, has) => of == name && includes(has, pods),
                _ => false,
            })
        };
        scope.across.iter().all(across)
            && scope.namespaces.iter().all(|(name, pods)| within(name, pods) || across(pods))
    }

    fn count(&self, metrics: &Metrics) {
        let mut watches = Watches::default();
        for ear in self.ears.values() {
            match &ear.place {
                Place::Own => watches.node += 1,
                Place::Namespace(..) => watches.namespace += 1,
                Place::Across(pods) if pods.is_everything() => watches.all += 1,
                Place::Across(_) => watches.labels += 1,
            }
        }
        metrics.watches(watches);
    }
}

fn apply(events: Vec<Event>, engine: &mut Engine) -> bool {
    let mut changed = false;
    for event in events {
        changed |= engine.apply(event);
    }
    changed
}

fn policy_of(change: &Change) -> Option<&Policy> {
    match &change.event {
        Some(Event::PolicyApplied(policy)) => Some(policy),
        _ => None,
    }
}

fn is_isolated(pod: &Pod, direction: Direction, snapshot: &Snapshot) -> bool {
    policies_in(snapshot, &pod.key.namespace).any(|policy| {
        policy.isolates(direction)
            && policy.pod_selector.matches(&pod.labels)
            && !snapshot.audits(policy)
    })
}

/// Whether one selector surely selects whatever another does.
fn includes(one: &Selector, other: &Selector) -> bool {
    one.requirements().all(|asked| other.requirements().any(|has| has == asked))
}

#[cfg(test)]
mod tests;
