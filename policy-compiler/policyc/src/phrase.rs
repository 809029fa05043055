//! How policies, peers, ports and misses are put into words, the same in every command.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cluster::{METADATA_NAME_LABEL, Pod, Snapshot};
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::policy::{
    Direction, Grant, NamespaceScope, Peer, PeerSelects, Peers, PortMatch, Ports,
};
use policy_compiler::port::Protocol;
use policy_compiler::selector::{Operator, Selector};
use policy_compiler::verdict::{LabelMiss, PeerOutcome, PortOutcome};

use crate::text::join;

/// `from` or `to`.
#[must_use]
pub fn peers_field(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

/// Whom a peer of a policy in namespace `own` means: `pods app=web in shop`.
#[must_use]
pub fn peer(selects: &PeerSelects, own: &NamespaceName) -> String {
    match selects {
        PeerSelects::Block(block) => block.to_string(),
        PeerSelects::Pods { namespaces, pods } => {
            match (scope(namespaces, own), pods.is_everything()) {
                (Scope::Everywhere, true) => "every pod of every namespace".to_owned(),
                (Scope::Everywhere, false) => format!("pods {pods} of every namespace"),
                (Scope::One(name), true) => format!("every pod of {name}"),
                (Scope::One(name), false) => format!("pods {pods} in {name}"),
                (Scope::Some(selector), true) => format!("namespaces {selector}, every pod"),
                (Scope::Some(selector), false) => format!("namespaces {selector}, pods {pods}"),
            }
        }
    }
}

enum Scope<'a> {
    Everywhere,
    One(&'a str),
    Some(&'a Selector),
}

fn scope<'a>(namespaces: &'a NamespaceScope, own: &'a NamespaceName) -> Scope<'a> {
    match namespaces {
        NamespaceScope::Own => Scope::One(own.as_str()),
        NamespaceScope::Matching(selector) if selector.is_everything() => Scope::Everywhere,
        NamespaceScope::Matching(selector) => {
            let mut requirements = selector.requirements();
            match (requirements.next(), requirements.next()) {
                (Some(only), None) if &*only.key == METADATA_NAME_LABEL => match &only.operator {
                    Operator::In(values) if values.len() == 1 => {
                        values.first().map_or(Scope::Some(selector), |name| Scope::One(name))
                    }
                    _ => Scope::Some(selector),
                },
                _ => Scope::Some(selector),
            }
        }
    }
}

/// Which ports: `8080/TCP`, `http/TCP`, `every TCP port`.
#[must_use]
pub fn port(port: &PortMatch) -> String {
    match &port.numbers {
        policy_compiler::policy::PortNumbers::Any => format!("every {} port", port.protocol),
        _ => port.to_string(),
    }
}

/// The peers that a rule lists, in order.
#[must_use]
pub fn listed_peers(grant: &Grant) -> &[Peer] {
    match grant {
        Grant::Traffic { peers: Peers::Listed(peers), .. } => peers,
        _ => &[],
    }
}

/// The ports that a rule lists, in order.
#[must_use]
pub fn listed_ports(grant: &Grant) -> &[PortMatch] {
    match grant {
        Grant::Traffic { ports: Ports::Listed(ports), .. } => ports,
        _ => &[],
    }
}

/// What labels have where something else is wanted: `app=api`, `no label app`.
#[must_use]
pub fn has(misses: &[LabelMiss]) -> String {
    let parts: Vec<String> = misses
        .iter()
        .map(|miss| match &miss.found {
            Some(value) => format!("{}={value}", miss.wanted.key),
            None => format!("no label {}", miss.wanted.key),
        })
        .collect();
    join(&parts, "and")
}

/// What is wanted of labels: `app=web`.
#[must_use]
pub fn wants(misses: &[LabelMiss]) -> String {
    let parts: Vec<String> = misses.iter().map(|miss| miss.wanted.to_string()).collect();
    join(&parts, "and")
}

/// How labels miss what is wanted: `has app=api, wants app=web`, `lacks team=obs`.
#[must_use]
pub fn mismatch(misses: &[LabelMiss]) -> String {
    let parts: Vec<String> = misses
        .iter()
        .map(|miss| match (&miss.found, &miss.wanted.operator) {
            (None, Operator::In(_)) => format!("lacks {}", miss.wanted),
            (None, _) => format!("lacks the label {}", miss.wanted.key),
            (Some(value), _) => format!("has {}={value}, wants {}", miss.wanted.key, miss.wanted),
        })
        .collect();
    parts.join("; ")
}

/// How a namespace misses what is wanted: `namespace shop lacks team=obs`.
#[must_use]
pub fn namespace_mismatch(namespace: &NamespaceName, misses: &[LabelMiss]) -> String {
    if let [only] = misses
        && &*only.wanted.key == METADATA_NAME_LABEL
        && let Operator::In(names) = &only.wanted.operator
    {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        return format!("is in namespace {namespace}, wants {}", join(&names, "or"));
    }
    format!("namespace {namespace} {}", mismatch(misses))
}

/// Why a peer is meant or not: `has app=api, wants app=web`.
#[must_use]
pub fn peer_reason(outcome: &PeerOutcome) -> String {
    match outcome {
        PeerOutcome::MatchedPod { pod, .. } => format!("{pod} is one"),
        PeerOutcome::MatchedBlock { address, .. } => format!("{address} lies inside"),
        PeerOutcome::NotAPod => "the other end is no pod, and this means pods".to_owned(),
        PeerOutcome::OtherNamespace { pod, wanted } => {
            format!("is in namespace {pod}; without a namespaceSelector only {wanted} is meant")
        }
        PeerOutcome::NamespaceMiss { namespace, missing, pod_missing } => {
            let namespace = namespace_mismatch(namespace, missing);
            match pod_missing.as_slice() {
                [] => namespace,
                misses => format!("{namespace}; pod {}", mismatch(misses)),
            }
        }
        PeerOutcome::PodMiss { missing } => mismatch(missing),
        PeerOutcome::OutsideBlock { address, .. } => format!("{address} lies outside"),
        PeerOutcome::Excepted { address, except, .. } => {
            format!("{address} lies in the except {except}")
        }
        PeerOutcome::OtherFamily { .. } => "is of the other address family".to_owned(),
        PeerOutcome::AddressUnknown { .. } => {
            "the address of the other end is not known".to_owned()
        }
    }
}

/// The outcome in one word, for programs.
#[must_use]
pub fn peer_word(outcome: &PeerOutcome) -> &'static str {
    match outcome {
        PeerOutcome::MatchedPod { .. } => "matchedPod",
        PeerOutcome::MatchedBlock { .. } => "matchedBlock",
        PeerOutcome::NotAPod => "notAPod",
        PeerOutcome::OtherNamespace { .. } => "otherNamespace",
        PeerOutcome::NamespaceMiss { .. } => "namespaceMiss",
        PeerOutcome::PodMiss { .. } => "podMiss",
        PeerOutcome::OutsideBlock { .. } => "outsideBlock",
        PeerOutcome::Excepted { .. } => "excepted",
        PeerOutcome::OtherFamily { .. } => "otherFamily",
        PeerOutcome::AddressUnknown { .. } => "addressUnknown",
    }
}

/// Why a port is meant or not.
#[must_use]
pub fn port_reason(outcome: &PortOutcome) -> String {
    match outcome {
        PortOutcome::MatchedProtocol(_) | PortOutcome::MatchedRange(..) => String::new(),
        PortOutcome::MatchedName(..) => "the destination calls it so".to_owned(),
        PortOutcome::OtherProtocol(protocol) => format!("wants {protocol}"),
        PortOutcome::OtherNumber(..) => "another port".to_owned(),
        PortOutcome::NameMeansOther(protocol, name, numbers) => {
            let numbers: Vec<String> = numbers.iter().map(|n| format!("{n}/{protocol}")).collect();
            format!("at the destination {name} is {}", join(&numbers, "and"))
        }
        PortOutcome::NameOfOtherProtocol(protocol, name) => {
            format!("the destination's {name} is not {protocol}")
        }
        PortOutcome::NameNotFound(_, name) => {
            format!("the destination declares no port called {name}")
        }
    }
}

/// The outcome in one word, for programs.
#[must_use]
pub fn port_word(outcome: &PortOutcome) -> &'static str {
    match outcome {
        PortOutcome::MatchedProtocol(_) => "matchedProtocol",
        PortOutcome::MatchedRange(..) => "matchedRange",
        PortOutcome::MatchedName(..) => "matchedName",
        PortOutcome::OtherProtocol(_) => "otherProtocol",
        PortOutcome::OtherNumber(..) => "otherNumber",
        PortOutcome::NameMeansOther(..) => "nameMeansOther",
        PortOutcome::NameOfOtherProtocol(..) => "nameOfOtherProtocol",
        PortOutcome::NameNotFound(..) => "nameNotFound",
    }
}

/// `8080/TCP`, and the name where the pod gives the number one: `8080/TCP (http)`.
#[must_use]
pub fn number(number: u16, protocol: Protocol, pod: Option<&Pod>) -> String {
    let names: BTreeSet<&str> = pod
        .into_iter()
        .flat_map(|pod| &pod.ports)
        .filter(|port| port.number.get() == number && port.protocol == protocol)
        .filter_map(|port| port.name.as_ref().map(policy_compiler::port::PortName::as_str))
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => format!("{number}/{protocol}"),
        names => format!("{number}/{protocol} ({})", names.join(", ")),
    }
}

/// Labels that controllers add and people do not write.
pub const ADDED_LABELS: [&str; 8] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
];

/// Pods of one workload, or one pod that has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// `shop/web`: of the workload, or of the pod.
    pub name: String,
    /// `Deployment`, ...; `Pod` where there is no workload.
    pub kind: String,
    /// How many of its pods are meant.
    pub count: u32,
    /// How many it has.
    pub of: u32,
    /// The pods by name; none where only the template is known.
    pub pods: Vec<String>,
}

impl Group {
    /// `shop/web ×2 (Deployment)`, `shop/web 1 of 2 (Deployment)`, `shop/shell`.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.kind.as_str(), self.count, self.of) {
            ("Pod", ..) => self.name.clone(),
            (kind, 1, 1) => format!("{} ({kind})", self.name),
            (kind, count, of) if count == of => format!("{} ×{count} ({kind})", self.name),
            (kind, count, of) => format!("{} {count} of {of} ({kind})", self.name),
        }
    }

    /// `shop/web ×2`, without the kind.
    #[must_use]
    pub fn short(&self) -> String {
        match (self.count, self.of) {
            (1, 1) => self.name.clone(),
            (count, of) if count == of => format!("{} ×{count}", self.name),
            (count, of) => format!("{count} of {of} {}", self.name),
        }
    }
}

/// The key by which pods are folded: namespace, kind and name of the workload.
#[must_use]
pub fn workload_of(pod: &Pod) -> (String, String, String) {
    let namespace = pod.key.namespace.to_string();
    match &pod.workload {
        Some(workload) => (namespace, workload.name.to_string(), workload.kind.to_string()),
        None => (namespace, pod.key.name.to_string(), "Pod".to_owned()),
    }
}

/// `pods` folded by workload, in the order of their names.
#[must_use]
pub fn groups(pods: &BTreeSet<ObjectKey>, snapshot: &Snapshot) -> Vec<Group> {
    let mut members: BTreeMap<_, (Vec<&Pod>, Vec<&Pod>)> = BTreeMap::new();
    for pod in pods.iter().filter_map(|key| snapshot.pods.get(key)) {
        members.entry(workload_of(pod)).or_default().0.push(pod);
    }
    for pod in snapshot.pods.values().filter(|pod| pod.is_live()) {
        if let Some((_, all)) = members.get_mut(&workload_of(pod)) {
            all.push(pod);
        }
    }
    let group =
        |((namespace, name, kind), (pods, all)): ((String, String, String), (Vec<&Pod>, _))| {
            let named = pods.iter().filter(|pod| !pod.template);
            Group {
                name: format!("{namespace}/{name}"),
                kind,
                pods: named.map(|pod| pod.key.to_string()).collect(),
                count: replicas(pods),
                of: replicas(all),
            }
        };
    members.into_iter().map(group).collect()
}

/// How many pods these are: the ones that exist, or as many as a template is to make.
fn replicas(pods: Vec<&Pod>) -> u32 {
    let (mut existing, mut templated) = (0, 0);
    for pod in pods {
        if pod.template {
            templated += pod.workload.as_ref().map_or(1, |workload| workload.replicas);
        } else {
            existing += 1;
        }
    }
    if existing > 0 { existing } else { templated }
}
