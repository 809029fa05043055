//! What there is to say of the addresses of local pods.
//!
//! Where several live pods claim an address, the newest is its subject, wherever it runs, and each is a
//! peer. The address of a node is the node's, whatever pod claims it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::{Pod, Snapshot};
use crate::diagnostic::{Diagnostic, ObjectRef, Severity};
use crate::index::{Claimant, Index};
use crate::name::ObjectKey;

/// How many of the pods that claim an address are named.
const NAMED: usize = 5;

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
