//! The local pods that policies isolate or audit, and what there is to say of their addresses.
//!
//! Where several live pods claim an address, the newest is its subject, wherever it runs, and each is a
//! peer. The address of a node is the node's, whatever pod claims it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Pod, Snapshot};
use crate::diagnostic::{Diagnostic, ObjectRef, Severity};
use crate::index::{Claimant, Index, PolicyState, Stamp};
use crate::labels::Labels;
use crate::name::ObjectKey;
use crate::policy::Direction;

/// How many of the pods that claim an address are named.
const NAMED: usize = 5;

/// Policies by the direction that they concern.
pub(super) type ByDirection = BTreeMap<Direction, Vec<Arc<PolicyState>>>;

/// What policies make of a pod: it depends on the labels of the pod, the policies of its namespace, and
/// whether all of these are audited, and on nothing else.
#[derive(Debug)]
pub(super) struct Chosen {
    labels: Labels,
    state: Option<Stamp>,
    all_audited: bool,
    /// The policies that select it, in the order of their keys.
    selecting: Vec<Arc<PolicyState>>,
    /// The policies that isolate it, by direction; never without any.
    pub(super) policies: ByDirection,
    /// The policies that are audited only, in the directions in which none isolates it; never without
    /// any. Where one isolates, those that are audited could deny nothing more.
    pub(super) audited: ByDirection,
    /// Those of both that have ports by name in the direction.
    pub(super) naming: Vec<(Direction, Arc<PolicyState>)>,
}

impl Chosen {
    /// Whether what it is allowed in a direction depends on the ports that it declares.
    pub(super) fn names_ports(&self, direction: Direction) -> bool {
        self.naming.iter().any(|(of, _)| *of == direction)
    }

    fn of(
        labels: Labels,
        (state, all_audited): (Option<Stamp>, bool),
        selecting: Vec<Arc<PolicyState>>,
    ) -> Self {
        let (mut policies, mut audited) = (BTreeMap::new(), BTreeMap::new());
        let mut naming = Vec::new();
        for direction in Direction::ALL {
            let (audits, isolating): (Vec<_>, Vec<_>) = selecting
                .iter()
                .filter(|policy| policy.isolates(direction))
                .cloned()
                .partition(|policy| all_audited || policy.audit);
            let (kind, chosen) = if isolating.is_empty() {
                (&mut audited, audits)
            } else {
                (&mut policies, isolating)
            };
            let named = chosen.iter().filter(|policy| policy.names_ports(direction));
            naming.extend(named.map(|policy| (direction, Arc::clone(policy))));
            if !chosen.is_empty() {
                kind.insert(direction, chosen);
            }
        }
        Self { labels, state, all_audited, selecting, policies, audited, naming }
    }

    /// Whether the policies, and whether they are audited, are what they were.
    fn is_of(&self, context: (Option<Stamp>, bool)) -> bool {
        (self.state, self.all_audited) == context
    }
}

/// Policies that came to select a local pod.
pub(super) type News = BTreeMap<Stamp, Arc<PolicyState>>;

/// What policies make of a local pod, of which `last` was made before; those that may be new to it are put
/// into `news`. Where its labels stay only those policies are looked at that have changed in its namespace.
/// Adds to `worked_out` where there was something to choose.
pub(super) fn choose(
    objects: &Snapshot,
    index: &Index,
    pod: &Pod,
    last: Option<&Arc<Chosen>>,
    news: &mut News,
    worked_out: &mut usize,
) -> Arc<Chosen> {
    let namespace = &pod.key.namespace;
    let all_audited = objects.namespaces.get(namespace).is_some_and(|ns| ns.audit);
    let context = (index.state_of_policies(namespace), all_audited);
    let known = last.filter(|known| known.labels == pod.labels);
    if let Some(known) = known.filter(|known| known.is_of(context)) {
        return Arc::clone(known);
    }
    *worked_out += 1;
    let selecting = known.and_then(|known| followed(objects, index, pod, context, known, news));
    let selecting = selecting.unwrap_or_else(|| {
        let selecting = index.selecting(objects, pod);
        news.extend(selecting.iter().map(|policy| (policy.stamp, Arc::clone(policy))));
        selecting
    });
    Arc::new(Chosen::of(pod.labels.clone(), context, selecting))
}

/// Those that selected a pod before, with what has changed since; `None` where that is not known.
fn followed(
    objects: &Snapshot,
    index: &Index,
    pod: &Pod,
    context: (Option<Stamp>, bool),
    known: &Chosen,
    news: &mut News,
) -> Option<Vec<Arc<PolicyState>>> {
    let mut selecting = known.selecting.clone();
    if known.state != context.0 {
        for change in index.policy_changes_since(&pod.key.namespace, known.state?)? {
            let found = selecting.binary_search_by(|policy| policy.key.cmp(&change.key));
            if let Ok(at) = found {
                selecting.remove(at);
            }
            let (Ok(at) | Err(at)) = found;
            let policy = objects.policies.get(&change.key);
            if let Some(now) = &change.now
                && policy.is_some_and(|policy| policy.pod_selector.matches(&pod.labels))
            {
                news.insert(now.stamp, Arc::clone(now));
                selecting.insert(at, Arc::clone(now));
            }
        }
    }
    Some(selecting)
}

fn local<'a>(objects: &'a Snapshot, index: &Index) -> impl Iterator<Item = &'a Pod> {
    index.local().filter_map(|key| objects.pods.get(key))
}

/// A warning for each address of a local pod that is not, or not only, its own.
pub(super) fn contested_addresses(objects: &Snapshot, index: &Index) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut contested = BTreeSet::new();
    for pod in local(objects, index) {
        for address in pod.addresses.iter() {
            if index.is_node(address) {
                diagnostics.push(of_a_node(pod, address));
            } else if index.claimants(address).nth(1).is_some() {
                contested.insert(address);
            }
        }
    }
    let newest = |address: &IpAddr| Some((*address, index.newest(*address)?));
    let contested = contested.iter().filter_map(newest);
    diagnostics.extend(contested.map(|(address, newest)| shared(index, &newest, address)));
    diagnostics
}

fn of_a_node(pod: &Pod, address: IpAddr) -> Diagnostic {
    Diagnostic {
        location: pod.location.clone(),
        object: Some(object_ref("Pod", &pod.key)),
        field: "status.podIPs".to_owned(),
        severity: Severity::Warning,
        message: format!("{address} is a node's address; no policy applies to it"),
        help: Some("a pod on its node's network has `hostNetwork: true`".to_owned()),
    }
}

/// That several live pods claim an address.
fn shared(index: &Index, newest: &Claimant, address: IpAddr) -> Diagnostic {
    let mut others: Vec<ObjectKey> =
        index.claimants(address).filter(|key| *key != newest.key).collect();
    others.sort();
    let mut named: Vec<String> = others.iter().take(NAMED).map(ToString::to_string).collect();
    let more = others.len() - named.len();
    if more > 0 {
        named.push(format!("{more} more pods"));
    }
    Diagnostic {
        location: newest.location.clone(),
        object: Some(object_ref("Pod", &newest.key)),
        field: "status.podIPs".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "{address} is also the address of {}; the policies of {}, the newest, apply to it",
            named.join(", "),
            newest.key
        ),
        help: None,
    }
}

/// How diagnostics name an object.
pub(super) fn object_ref(kind: &str, key: &ObjectKey) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: Some(key.namespace.to_string()),
        name: key.name.to_string(),
    }
}
