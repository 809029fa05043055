//! Who stands at the ends: pods, folded where they are alike, nodes, and the world.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::cluster::{Pod, Snapshot};
use crate::flow::End;
use crate::name::{NamespaceName, NodeName, ObjectKey};

use super::world::WorldClass;

/// How pods are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Not at all.
    Pod,
    /// By workload; pods of one that do not behave alike are parties of their own.
    Workload,
    /// By namespace, alike or not.
    Namespace,
}

/// One row or column of a matrix: ends that are spoken of as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// Who it is.
    pub who: Who,
    /// Its ends, never empty: of a class of the world the representative.
    pub members: Vec<End>,
}

/// Who a [`Party`] is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// One pod, or the pods of a template.
    Pod(ObjectKey),
    /// Pods of a workload that behave alike.
    Workload {
        /// Its namespace.
        namespace: NamespaceName,
        /// Its kind: `Deployment`.
        kind: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// How many pods these are, those that a template is to make counted each.
        count: u32,
        /// How many the workload has. More than `count` where they are not all alike.
        of: u32,
    },
    /// Every pod of a namespace.
    Namespace(NamespaceName),
    /// Pods that a selector means, whether there are any or not: see [`Kinds`](super::Kinds).
    Selected {
        /// Of which namespaces: `shop`, `namespaces team=obs`, `other namespaces`.
        place: Arc<str>,
        /// The namespace, where it is one by name.
        namespace: Option<NamespaceName>,
        /// Which pods: `app=web`, `other pods`, `every pod`.
        pods: Arc<str>,
    },
    /// A node.
    Node(NodeName),
    /// Some of the addresses that are no pod's and no node's.
    World(WorldClass),
    /// Every address that is no pod's and no node's, of both families.
    Outside,
}

impl Who {
    /// The namespace, of pods.
    #[must_use]
    pub fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Who::Pod(key) => Some(&key.namespace),
            Who::Workload { namespace, .. } | Who::Namespace(namespace) => Some(namespace),
            Who::Selected { namespace, .. } => namespace.as_ref(),
            Who::Node(_) | Who::World(_) | Who::Outside => None,
        }
    }

    /// The namespace, of pods; in words where it is none that has a name.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        match self {
            Who::Selected { place, .. } => Some(place),
            other => other.namespace().map(NamespaceName::as_str),
        }
    }

    /// Whether these are pods.
    #[must_use]
    pub fn is_pods(&self) -> bool {
        self.place().is_some()
    }
}

impl fmt::Display for Who {
    /// `shop/web-0`, `shop/web ×2`, `shop/web 1 of 3`, `namespace shop`, `shop/app=web`, `node/node-a`,
    /// `world 203.0.113.0/24`, `world`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Who::Pod(key) => key.to_string(),
            Who::Workload { namespace, name, count: 1, of: 1, .. } => format!("{namespace}/{name}"),
            Who::Workload { namespace, name, count, of, .. } if count == of => {
                format!("{namespace}/{name} ×{count}")
            }
            Who::Workload { namespace, name, count, of, .. } => {
                format!("{namespace}/{name} {count} of {of}")
            }
            Who::Namespace(name) => format!("namespace {name}"),
            Who::Selected { place, pods, .. } => format!("{place}/{pods}"),
            Who::Node(name) => format!("node/{name}"),
            Who::World(class) => format!("world {class}"),
            Who::Outside => "world".to_owned(),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Party {
    /// As [`Who`]; of a workload whose pods are not all alike with the first of these: `shop/web 2 of 3
    /// (web-0, ...)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.who.to_string();
        if let (Who::Workload { count, of, .. }, Some(End::Pod(pod))) =
            (&self.who, self.members.first())
            && count != of
        {
            let more = if self.members.len() > 1 { ", ..." } else { "" };
            text = format!("{text} ({}{more})", pod.name);
        }
        f.pad(&text)
    }
}

/// How many pods `pod` stands for: as many as its template is to make (one where that is none), else
/// itself.
#[must_use]
pub fn instances(pod: &Pod) -> u32 {
    match &pod.workload {
        Some(workload) if pod.template => workload.replicas.max(1),
        _ => 1,
    }
}

/// The live pods of `snapshots` as parties of `level`, in the order of their names. Pods of one
/// workload stand together where `class` gives them one class. A template stands for pods only where
/// none of its workload exists.
pub(super) fn pods<C: Ord>(
    snapshots: &[&Snapshot],
    level: Level,
    class: impl Fn(&ObjectKey) -> C,
) -> Vec<Party> {
    let mut live: BTreeMap<&ObjectKey, &Pod> = BTreeMap::new();
    for pod in snapshots.iter().flat_map(|snapshot| snapshot.pods.values()) {
        if pod.is_live() {
            live.entry(&pod.key).or_insert(pod);
        }
    }
    let workload = |pod: &Pod| {
        let workload = pod.workload.as_ref();
        workload.map(|of| (pod.key.namespace.clone(), of.kind.clone(), of.name.clone()))
    };
    let existing: BTreeSet<_> =
        live.values().filter(|pod| !pod.template).filter_map(|pod| workload(pod)).collect();
    live.retain(|_, pod| !pod.template || workload(pod).is_none_or(|key| !existing.contains(&key)));
    let end = |pod: &&Pod| End::Pod(pod.key.clone());
    match level {
        Level::Pod => live
            .values()
            .map(|pod| Party { who: Who::Pod(pod.key.clone()), members: vec![end(pod)] })
            .collect(),
        Level::Namespace => {
            let mut namespaces: BTreeMap<&NamespaceName, Vec<End>> = BTreeMap::new();
            for pod in live.values() {
                namespaces.entry(&pod.key.namespace).or_default().push(end(pod));
            }
            let party = |(name, members): (&NamespaceName, _)| Party {
                who: Who::Namespace(name.clone()),
                members,
            };
            namespaces.into_iter().map(party).collect()
        }
        Level::Workload => workloads(&live, class),
    }
}

/// By namespace, name and kind of workload; a pod without one is its own.
type WorkloadKey<'p> = (&'p NamespaceName, &'p str, Option<&'p Arc<str>>);

fn workloads<C: Ord>(
    live: &BTreeMap<&ObjectKey, &Pod>,
    class: impl Fn(&ObjectKey) -> C,
) -> Vec<Party> {
    let mut workloads: BTreeMap<WorkloadKey<'_>, BTreeMap<C, Vec<&Pod>>> = BTreeMap::new();
    for pod in live.values() {
        let key = match &pod.workload {
            Some(workload) => (&pod.key.namespace, &*workload.name, Some(&workload.kind)),
            None => (&pod.key.namespace, pod.key.name.as_str(), None),
        };
        workloads.entry(key).or_default().entry(class(&pod.key)).or_default().push(pod);
    }
    let mut parties = Vec::new();
    for ((namespace, name, kind), classes) in workloads {
        let count = |pods: &Vec<&Pod>| pods.iter().map(|pod| instances(pod)).sum::<u32>();
        let of = classes.values().map(count).sum();
        let mut folds: Vec<Vec<&Pod>> = classes.into_values().collect();
        folds.sort_by(|a, b| a.first().map(|pod| &pod.key).cmp(&b.first().map(|pod| &pod.key)));
        for pods in folds {
            let who = match (kind, pods.as_slice()) {
                (None, [pod, ..]) => Who::Pod(pod.key.clone()),
                (kind, pods) => Who::Workload {
                    namespace: namespace.clone(),
                    kind: kind.cloned().unwrap_or_else(|| Arc::from("Pod")),
                    name: Arc::from(name),
                    count: count(&pods.to_vec()),
                    of,
                },
            };
            let members = pods.iter().map(|pod| End::Pod(pod.key.clone())).collect();
            parties.push(Party { who, members });
        }
    }
    parties
}
