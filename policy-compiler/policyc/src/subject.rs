//! Finding what the command line names: pods, workloads, nodes, addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use policy_compiler::cidr::{Family, IpBlock};
use policy_compiler::cluster::{Phase, Pod, Service, Snapshot};
use policy_compiler::flow::End;
use policy_compiler::name::{NamespaceName, NodeName, ObjectKey};
use policy_compiler::reach::{Reach, WorldClass};
use policy_compiler::selector::{Operator, Requirement, Selector};

use crate::error::CommandError;
use crate::phrase;
use crate::suggest;

/// One or several pods, as they were named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// How a person would call them: `shop/cart-0`, `shop/web (Deployment)`.
    pub text: String,
    /// Whether one pod was named, and not a workload or selector.
    pub single: bool,
    /// The pods, at least one, in the order of their names.
    pub pods: Vec<ObjectKey>,
}

/// The workload kinds by the words that kubectl takes for them.
fn kind_of(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "deploy" | "deployment" | "deployments" | "deployments.apps" | "deployment.apps" => {
            "Deployment"
        }
        "sts" | "statefulset" | "statefulsets" | "statefulset.apps" => "StatefulSet",
        "ds" | "daemonset" | "daemonsets" | "daemonset.apps" => "DaemonSet",
        "rs" | "replicaset" | "replicasets" | "replicaset.apps" => "ReplicaSet",
        "job" | "jobs" | "job.batch" => "Job",
        "cj" | "cronjob" | "cronjobs" | "cronjob.batch" => "CronJob",
        "po" | "pod" | "pods" => "Pod",
        _ => return None,
    })
}

/// The pods that `text` names: `NAME`, `NS/NAME`, `KIND/NAME` or `NS/KIND/NAME`. A name that is no
/// pod's is taken for a workload's.
///
/// # Errors
/// Where the input has no such thing, with the nearest that it has.
pub fn pods(text: &str, snapshot: &Snapshot, namespace: &str) -> Result<Named, CommandError> {
    if let Some((namespace, labels)) = labelled(text, namespace) {
        return selected(labels, snapshot, Some(namespace));
    }
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, kind, name) = match parts.as_slice() {
        [name] => (namespace, None, *name),
        [first, name] => match kind_of(first) {
            Some(kind) if !is_pod(snapshot, first, name) => (namespace, Some(kind), *name),
            _ => (*first, None, *name),
        },
        [first, second, name] => match (kind_of(second), kind_of(first)) {
            (Some(kind), _) => (*first, Some(kind), *name),
            (None, Some(kind)) => (*second, Some(kind), *name),
            (None, None) => return Err(malformed(text)),
        },
        _ => return Err(malformed(text)),
    };
    if matches!(kind, None | Some("Pod")) && is_pod(snapshot, namespace, name) {
        let pods: Vec<ObjectKey> = ObjectKey::new(namespace, name).into_iter().collect();
        return Ok(Named { text: format!("{namespace}/{name}"), single: true, pods });
    }
    let members = match kind {
        Some("Pod") => Vec::new(),
        kind => members(snapshot, namespace, kind, name),
    };
    if members.is_empty() {
        return Err(not_found(text, namespace, kind, name, snapshot));
    }
    let all: BTreeSet<ObjectKey> = members.iter().cloned().collect();
    let groups: Vec<String> =
        phrase::groups(&all, snapshot).iter().map(phrase::Group::text).collect();
    Ok(Named { text: groups.join(", "), single: false, pods: members })
}

/// The namespace and the selector of `NS/SELECTOR` or `SELECTOR`, which has a `=`. What stands before the
/// first `/` is a namespace where it can be one, and else a part of the label's key.
#[must_use]
pub fn labelled<'t>(text: &'t str, namespace: &'t str) -> Option<(&'t str, &'t str)> {
    if !text.contains('=') {
        return None;
    }
    match text.split_once('/') {
        Some((first, labels)) if NamespaceName::new(first).is_ok() => Some((first, labels)),
        _ => Some((namespace, text)),
    }
}

fn is_pod(snapshot: &Snapshot, namespace: &str, name: &str) -> bool {
    ObjectKey::new(namespace, name).is_ok_and(|key| snapshot.pods.contains_key(&key))
}

/// The pods of a workload: those that exist, or its template.
fn members(snapshot: &Snapshot, namespace: &str, kind: Option<&str>, name: &str) -> Vec<ObjectKey> {
    let of_it = |pod: &&Pod| {
        pod.key.namespace.as_str() == namespace
            && pod.workload.as_ref().is_some_and(|workload| {
                &*workload.name == name && kind.is_none_or(|kind| &*workload.kind == kind)
            })
    };
    let all: Vec<&Pod> = snapshot.pods.values().filter(of_it).collect();
    let existing: Vec<&Pod> = all.iter().filter(|pod| !pod.template).copied().collect();
    unfinished(if existing.is_empty() { all } else { existing })
}

/// Those of some pods that have not finished; all of them, where all have: then the answer says so.
fn unfinished(pods: Vec<&Pod>) -> Vec<ObjectKey> {
    let left: Vec<ObjectKey> =
        pods.iter().filter(|pod| pod.phase != Phase::Finished).map(|pod| pod.key.clone()).collect();
    if left.is_empty() { pods.into_iter().map(|pod| pod.key.clone()).collect() } else { left }
}

fn malformed(text: &str) -> CommandError {
    CommandError::usage(
        format!("`{text}` names no pod"),
        "write NAMESPACE/NAME, NAME with `-n NAMESPACE`, or NAMESPACE/deploy/NAME",
    )
}

fn not_found(
    text: &str,
    namespace: &str,
    kind: Option<&'static str>,
    name: &str,
    snapshot: &Snapshot,
) -> CommandError {
    let wanted = format!("{namespace}/{name}");
    let names: BTreeSet<String> = snapshot
        .pods
        .values()
        .flat_map(|pod| {
            let (namespace, name, _) = phrase::workload_of(pod);
            [pod.key.to_string(), format!("{namespace}/{name}")]
        })
        .collect();
    let mut nearest = suggest::nearest(&wanted, names.clone());
    if nearest.is_empty() {
        let elsewhere = names.into_iter().filter(|n| n.split('/').nth(1) == Some(name));
        nearest = elsewhere.take(3).collect();
    }
    let here: Vec<String> = snapshot
        .pods
        .keys()
        .filter(|key| key.namespace.as_str() == namespace)
        .map(ToString::to_string)
        .collect();
    let help = match here.len() {
        0 if snapshot.pods.is_empty() => Some(no_pods(snapshot)),
        0 => Some(format!("the input has no pods in namespace {namespace}; choose one with `-n`")),
        n => Some(format!(
            "namespace {namespace} has {}",
            crate::text::join(&here.into_iter().take(8).collect::<Vec<_>>(), "and")
                + if n > 8 { " and more" } else { "" }
        )),
    };
    let what = match kind {
        None | Some("Pod") => "pod",
        Some(kind) => kind,
    };
    let name = if text.contains('/') { text.to_owned() } else { wanted };
    CommandError::NotFound { what, name, nearest, help }
}

/// What to ask where the input has no pods.
fn no_pods(snapshot: &Snapshot) -> String {
    if snapshot.policies.is_empty() {
        return "the input has no pods at all".to_owned();
    }
    "the input has no pods at all: `matrix`, `graph`, `explain policy` and `diff` answer for the selectors \
     of its policies, and `can` for pods that are told by their labels: `shop/app=web`"
        .to_owned()
}

/// The pods of `namespace`, or of all, with the labels that `text` asks for.
///
/// # Errors
/// Where the text is no selector, or selects nothing.
pub fn selected(
    text: &str,
    snapshot: &Snapshot,
    namespace: Option<&str>,
) -> Result<Named, CommandError> {
    let selector = selector(text)?;
    let within = |pod: &Pod| namespace.is_none_or(|name| pod.key.namespace.as_str() == name);
    let selects = |pod: &&Pod| within(pod) && selector.matches(&pod.labels);
    let pods = unfinished(snapshot.pods.values().filter(selects).collect());
    if pods.is_empty() {
        let help = namespace.map(|name| {
            format!("only namespace {name} is searched; choose another with `-n`, or all with `-A`")
        });
        let help = if snapshot.pods.is_empty() { Some(no_pods(snapshot)) } else { help };
        let nearest = Vec::new();
        return Err(CommandError::NotFound {
            what: "a pod with labels",
            name: text.to_owned(),
            nearest,
            help,
        });
    }
    let place = namespace.map_or_else(|| "all namespaces".to_owned(), str::to_owned);
    Ok(Named { text: format!("pods {selector} in {place}"), single: false, pods })
}

/// A selector as `kubectl -l` writes it.
///
/// # Errors
/// Where it is none.
pub fn selector(text: &str) -> Result<Selector, CommandError> {
    let parts = split_outside_parentheses(text);
    let requirements: Option<Vec<Requirement>> = parts.iter().map(|p| requirement(p)).collect();
    requirements.map(Selector::new).ok_or_else(|| {
        CommandError::usage(
            format!("`{text}` is no label selector"),
            "write `app=web`, `app!=web`, `app in (a,b)`, `app notin (a,b)`, `app` or `!app`, joined by commas",
        )
    })
}

fn split_outside_parentheses(text: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut parts = vec![String::new()];
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    let text = text.trim();
    let one = |value: &str| BTreeSet::from([Arc::from(value.trim())]);
    let many = |list: &str| -> Option<BTreeSet<Arc<str>>> {
        let inner = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|v| Arc::from(v.trim())).collect())
    };
    let (key, operator) = if let Some((key, value)) = text.split_once("!=") {
        (key, Operator::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Operator::In(one(value)))
    } else if let Some((key, list)) = text.split_once(" notin ") {
        (key, Operator::NotIn(many(list)?))
    } else if let Some((key, list)) = text.split_once(" in ") {
        (key, Operator::In(many(list)?))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (text, Operator::Exists)
    };
    let key = key.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!key.is_empty() && key.chars().all(legal))
        .then(|| Requirement { key: Arc::from(key), operator })
}

/// One end of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEnd {
    /// As a person would call it.
    pub text: String,
    /// The ends: several for a workload's pods.
    pub ends: Vec<End>,
    /// The Service behind which the ends are, where one was named or its address.
    pub service: Option<Service>,
    /// What the ends stand for where `world` was named.
    pub outside: BTreeMap<End, Outside>,
}

/// Addresses outside that no policy tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// In words: `world 203.0.113.0/24`.
    pub text: String,
    /// Exactly.
    pub networks: Vec<String>,
    /// The same as a policy can grant it.
    pub blocks: Vec<IpBlock>,
}

impl NamedEnd {
    /// Whether there is a way to it over `family`: a Service has only those of its addresses, and
    /// without any (headless) those of its pods.
    #[must_use]
    pub fn reachable_over(&self, family: Family) -> bool {
        let addresses = self.service.as_ref().map_or(&[][..], |service| &service.addresses);
        addresses.is_empty() || addresses.iter().any(|address| Family::of(*address) == family)
    }
}

/// The end that `text` names: a pod, a workload, an address, `node/NAME`, `svc/NAMESPACE/NAME`.
///
/// # Errors
/// Where the input has no such thing, or where it is one that this version cannot ask about.
pub fn end(text: &str, snapshot: &Snapshot, namespace: &str) -> Result<NamedEnd, CommandError> {
    if let Some(address) = policy_manifest::address::end(text) {
        let address = address.map_err(|reason| CommandError::Usage {
            message: format!("`{text}` is no end of a connection: {reason}"),
            help: None,
        })?;
        if let Some(service) = service_with(address, snapshot) {
            let text = format!("{address} (svc/{})", service.key);
            let by_address = Service { addresses: vec![address], ..service.clone() };
            return behind(text, &by_address, snapshot);
        }
        return Ok(NamedEnd {
            text: address.to_string(),
            ends: vec![End::Address(address)],
            service: None,
            outside: BTreeMap::new(),
        });
    }
    match text.split_once('/') {
        Some(("node" | "nodes" | "no", name)) => {
            let node = node(name, snapshot)?;
            return Ok(NamedEnd {
                text: format!("node/{node}"),
                ends: vec![End::Node(node)],
                service: None,
                outside: BTreeMap::new(),
            });
        }
        Some(("svc" | "service" | "services", name)) => {
            let service = service(name, snapshot, namespace)?;
            return behind(format!("svc/{}", service.key), service, snapshot);
        }
        None if text == "world" => return Ok(world(snapshot)),
        _ => {}
    }
    let named = pods(text, snapshot, namespace)?;
    let ends = named.pods.into_iter().map(End::Pod).collect();
    Ok(NamedEnd { text: named.text, ends, service: None, outside: BTreeMap::new() })
}

/// Every address that is no pod's and no node's: one end for each class of them that no policy tells
/// apart.
fn world(snapshot: &Snapshot) -> NamedEnd {
    let reach = Reach::new(snapshot);
    let named = |class: &WorldClass| {
        let end = End::Address(class.representative());
        let networks = class.prefixes(reach.taken()).iter().map(ToString::to_string).collect();
        let blocks = class.blocks(reach.taken());
        (end, Outside { text: format!("world {class}"), networks, blocks })
    };
    let outside: BTreeMap<End, Outside> = reach.world().iter().map(named).collect();
    let ends = reach.world().iter().map(|class| End::Address(class.representative())).collect();
    NamedEnd { text: "world".to_owned(), ends, service: None, outside }
}

/// The Service that is reached at `address`, unless a pod or node is.
fn service_with(address: IpAddr, snapshot: &Snapshot) -> Option<&Service> {
    let of_pod = snapshot.pods.values().any(|pod| pod.addresses.iter().any(|own| own == address));
    let of_node = snapshot.nodes.values().any(|node| node.addresses.contains(&address));
    let mut services = snapshot.services.values();
    services.find(|service| service.addresses.contains(&address)).filter(|_| !of_pod && !of_node)
}

/// The Service called `name`: `NAME` or `NS/NAME`.
fn service<'s>(
    name: &str,
    snapshot: &'s Snapshot,
    namespace: &str,
) -> Result<&'s Service, CommandError> {
    let wanted = if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") };
    let found = snapshot.services.values().find(|service| service.key.to_string() == wanted);
    found.ok_or_else(|| {
        let names: Vec<String> = snapshot.services.keys().map(ToString::to_string).collect();
        let help = match names.as_slice() {
            [] => "the input has no Services; name the pods behind it, and their port".to_owned(),
            names => format!("the input has {}", crate::text::join(names, "and")),
        };
        let nearest = suggest::nearest(&wanted, names);
        CommandError::NotFound { what: "Service", name: wanted, nearest, help: Some(help) }
    })
}

/// The pods behind `service`: policies judge traffic after its translation, so they are the ends.
fn behind(text: String, service: &Service, snapshot: &Snapshot) -> Result<NamedEnd, CommandError> {
    let selects = |pod: &&Pod| {
        pod.key.namespace == service.key.namespace
            && pod.phase != Phase::Finished
            && service.selector.as_ref().is_some_and(|s| s.matches(&pod.labels))
    };
    let pods = snapshot.pods.values().filter(selects);
    let ends: Vec<End> = pods.map(|pod| End::Pod(pod.key.clone())).collect();
    if ends.is_empty() {
        let why = match &service.selector {
            None => "has no selector, so the input does not tell where it leads".to_owned(),
            Some(selector) => format!("leads nowhere: no pod of the input has {selector}"),
        };
        return Err(CommandError::usage(
            format!("Service {} {why}", service.key),
            "name the address that it leads to, and the port there",
        ));
    }
    Ok(NamedEnd { text, ends, service: Some(service.clone()), outside: BTreeMap::new() })
}

/// Every node that the input mentions.
#[must_use]
pub fn nodes(snapshot: &Snapshot) -> BTreeSet<NodeName> {
    let scheduled = snapshot.pods.values().filter_map(|pod| pod.node.clone());
    snapshot.nodes.keys().cloned().chain(scheduled).collect()
}

/// The node of that name.
///
/// # Errors
/// Where the input mentions none, with the nearest that it does.
pub fn node(name: &str, snapshot: &Snapshot) -> Result<NodeName, CommandError> {
    let known = nodes(snapshot);
    if let Some(node) = known.iter().find(|node| node.as_str() == name) {
        return Ok(node.clone());
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    let help = if names.is_empty() {
        "no pod of the input has a `spec.nodeName`, and it has no Node objects".to_owned()
    } else {
        format!("the input has {}", crate::text::join(&names, "and"))
    };
    let nearest = suggest::nearest(name, names);
    Err(CommandError::NotFound { what: "node", name: name.to_owned(), nearest, help: Some(help) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_kubectl_writes_them() {
        for (text, canonical) in [
            ("app=web", "app=web"),
            ("app==web,tier!=fe", "app=web,tier!=fe"),
            ("app in (a, b),!debug,x", "app in (a,b),!debug,x"),
            ("example.com/app notin (a,b)", "example.com/app notin (a,b)"),
        ] {
            let parsed = selector(text).expect(text);
            let wanted = selector(canonical).expect(canonical);
            assert_eq!(parsed, wanted, "{text}");
        }
        for text in ["", "a b", "app in a", "=x", "app in (a"] {
            assert!(selector(text).is_err(), "{text:?}");
        }
    }
}
