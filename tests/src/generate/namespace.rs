//! Namespaces: the system's three, and those of tenants, each with some for every stage of its
//! software.

use policy_compiler::cluster::Namespace;
use policy_compiler::document::Location;
use policy_compiler::labels::Labels;
use policy_compiler::name::NamespaceName;
use serde_json::{Value, json};

use super::dice::Dice;
use super::wire;

/// The namespaces of the system, which come first.
pub(super) const SYSTEM: [&str; 3] = ["kube-system", "monitoring", "ingress"];
/// The first of the tenants', which is the largest.
pub(super) const LARGEST: u32 = 3;

const ENVIRONMENTS: [&str; 4] = ["prod", "prod", "staging", "dev"];
const TEAMS: [&str; 8] =
    ["payments", "search", "identity", "ledger", "media", "growth", "data", "core"];

/// How many namespaces a tenant has.
const OF_A_TENANT: u32 = 20;

/// The tenant that a namespace belongs to.
pub(super) fn tenant(namespace: u32) -> String {
    format!("t{}", namespace.saturating_sub(LARGEST) / OF_A_TENANT)
}

pub(super) fn name(namespace: u32) -> String {
    match SYSTEM.get(namespace as usize) {
        Some(name) => (*name).to_owned(),
        None => format!("{}-ns{namespace}", tenant(namespace)),
    }
}

/// The labels of a namespace after so many changes, but for the one that it always has.
pub(super) fn labels(seed: u64, namespace: u32, edition: u32) -> Vec<(&'static str, String)> {
    if (namespace as usize) < SYSTEM.len() {
        return vec![
            ("pod-security.kubernetes.io/enforce", "privileged".to_owned()),
            ("zone", "system".to_owned()),
        ];
    }
    let mut dice = Dice::of(seed, ("namespace", namespace));
    let environment = (*dice.pick(&ENVIRONMENTS)).to_owned();
    let team = dice.index(TEAMS.len()) + edition as usize / 2;
    let mut labels = vec![
        ("env", environment),
        ("pod-security.kubernetes.io/enforce", "baseline".to_owned()),
        ("team", TEAMS[team % TEAMS.len()].to_owned()),
        ("tenant", tenant(namespace)),
    ];
    let exposed = dice.percent(25);
    if exposed != (edition % 2 == 1) {
        labels.push(("exposed", "true".to_owned()));
    }
    labels
}

/// A team's name.
pub(super) fn team(dice: &mut Dice) -> &'static str {
    TEAMS[dice.index(TEAMS.len())]
}

pub(super) fn typed(seed: u64, namespace: u32, edition: u32) -> Namespace {
    let labels = labels(seed, namespace, edition);
    let labels: Labels = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Namespace::new(key(namespace), labels, Location::default())
}

pub(super) fn key(namespace: u32) -> NamespaceName {
    NamespaceName::new(&name(namespace)).expect("it is made of letters and digits")
}

pub(super) fn json(seed: u64, namespace: u32, edition: u32) -> Value {
    let name = name(namespace);
    let mut labels = labels(seed, namespace, edition);
    labels.push((policy_compiler::cluster::METADATA_NAME_LABEL, name.clone()));
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name,
            "uid": wire::uid(seed, ("namespace", namespace)),
            "resourceVersion": wire::version(u64::from(namespace) + u64::from(edition)),
            "creationTimestamp": wire::time(u64::from(namespace)),
            "labels": wire::map(labels.iter().map(|(key, value)| (*key, value.as_str()))),
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}
