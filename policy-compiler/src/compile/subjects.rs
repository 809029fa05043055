//! The local pods that policies isolate or audit, and what there is to say of their addresses.
//!
//! Where several live pods claim an address, the newest is its subject, wherever it runs, and each is a
//! peer. The address of a node is the node's, whatever pod claims it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::cluster::{Pod, Snapshot};
use crate::diagnostic::{Diagnostic, ObjectRef, Severity};
use crate::index::{Claimant, Index, Stamp};
use crate::name::ObjectKey;
use crate::policy::{Direction, Policy};

/// How many of the pods that claim an address are named.
const NAMED: usize = 5;

/// A policy in one state of it.
pub(super) type Selecting<'a> = (Stamp, &'a Policy);

/// A local pod that some policy isolates, or would isolate and is audited only.
pub(super) struct Subject<'a> {
    /// The pod.
    pub(super) pod: &'a Pod,
    /// The policies that isolate it, by direction; never without any.
    pub(super) policies: BTreeMap<Direction, Vec<Selecting<'a>>>,
    /// The policies that are audited only, in the directions in which none isolates it; never without
    /// any. Where one isolates, those that are audited could deny nothing more.
    pub(super) audited: BTreeMap<Direction, Vec<Selecting<'a>>>,
}

impl<'a> Subject<'a> {
    fn of(objects: &'a Snapshot, index: &Index, pod: &'a Pod) -> Option<Self> {
        let selecting = index.selecting(objects, pod);
        let mut subject = Self { pod, policies: BTreeMap::new(), audited: BTreeMap::new() };
        for direction in Direction::ALL {
            let (audited, isolating): (Vec<Selecting<'_>>, Vec<Selecting<'_>>) = selecting
                .iter()
                .filter(|(_, policy)| policy.isolates(direction))
                .partition(|(_, policy)| objects.audits(policy));
            if !isolating.is_empty() {
                subject.policies.insert(direction, isolating);
            } else if !audited.is_empty() {
                subject.audited.insert(direction, audited);
            }
        }
        (!subject.policies.is_empty() || !subject.audited.is_empty()).then_some(subject)
    }
}

/// The isolated and the audited pods of the node, in the order of their keys.
pub(super) fn subjects<'a>(objects: &'a Snapshot, index: &Index) -> Vec<Subject<'a>> {
    local(objects, index).filter_map(|pod| Subject::of(objects, index, pod)).collect()
}

fn local<'a>(objects: &'a Snapshot, index: &Index) -> impl Iterator<Item = &'a Pod> {
    index.local().filter_map(|key| objects.pods.get(key))
}

/// The pods whose policies count for the addresses of local pods: of several that claim one, the newest.
pub(super) type Newest = BTreeMap<IpAddr, Claimant>;

/// Looks for them, once for each address.
pub(super) fn newest(objects: &Snapshot, index: &Index) -> Newest {
    let addresses: BTreeSet<IpAddr> =
        local(objects, index).flat_map(|pod| pod.addresses.iter()).collect();
    let newest = |address: IpAddr| Some((address, index.newest(address)?));
    addresses.into_iter().filter_map(newest).collect()
}

/// A warning for each address of a local pod that is not, or not only, its own.
pub(super) fn contested_addresses(
    objects: &Snapshot,
    index: &Index,
    newest: &Newest,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for pod in local(objects, index) {
        let of_nodes = pod.addresses.iter().filter(|address| index.is_node(*address));
        diagnostics.extend(of_nodes.map(|address| of_a_node(pod, address)));
    }
    for (address, newest) in newest {
        if index.claimants(*address).count() > 1 {
            diagnostics.push(shared(index, newest, *address));
        }
    }
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
