//! The cluster that a case file describes: manifests, whole objects, and shorthands.
//!
//! The base and each case are two [`Description`]s of the same shape. Laid over one another, key by
//! key, they make one snapshot. Addresses are given out after that, over all pods together, so that
//! they follow from the keys alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use policy_compiler::cluster;
use policy_compiler::config::PodNetworks;
use policy_compiler::decode;
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::{Entry, Node, Position, Value};
use policy_compiler::name::{NodeName, ObjectKey};

use super::reader::{Reader, Section};
use crate::input::{self, InputError, Loaded, Object, Options, ParsedFile};

/// The keys of a description, in a file and in a case.
pub(super) const KEYS: [&str; 7] =
    ["manifests", "nodes", "namespaces", "pods", "policies", "objects", "podNetworks"];

const POD_KEYS: [&str; 8] =
    ["labels", "node", "ports", "ips", "hostNetwork", "phase", "ipv4Only", "ipv6Only"];

/// The node of pods that name none.
const DEFAULT_NODE: &str = "node-1";

/// What a file or a case says of the cluster.
#[derive(Default)]
pub(super) struct Description {
    manifests: Vec<ParsedFile>,
    nodes: BTreeMap<NodeName, OwnAddresses>,
    pods: BTreeMap<ObjectKey, PodShorthand>,
    /// Of the nodes that isolate unknown addresses.
    pod_networks: PodNetworks,
    /// Namespaces, policies and whole objects: what stands for itself.
    objects: Option<ParsedFile>,
}

struct OwnAddresses {
    addresses: Vec<IpAddr>,
    position: Option<Position>,
}

/// A pod as the shorthand has it.
struct PodShorthand {
    position: Option<Position>,
    labels: Option<Node>,
    node: String,
    ports: Vec<Node>,
    ips: Option<Vec<Node>>,
    host_network: bool,
    phase: Node,
    families: (bool, bool),
}

impl Description {
    /// Reads the part of a file or case that speaks of the cluster. Manifests are looked for from
    /// `directory`; what cannot be read of them goes to `unreadable`.
    pub(super) fn read(
        reader: &mut Reader,
        section: Section<'_>,
        directory: &Path,
        unreadable: &mut Vec<InputError>,
    ) -> Self {
        let mut inline = reader.inline();
        read_namespaces(reader, section, &mut inline);
        read_policies(reader, section, &mut inline);
        for node in section.map("objects", |n| reader.list(n, "`objects`")).unwrap_or_default() {
            input::add_document(&mut inline, node.clone(), &Options::default());
        }
        Self {
            manifests: read_manifests(reader, section, directory, unreadable),
            nodes: read_nodes(reader, section),
            pods: read_pods(reader, section),
            pod_networks: read_pod_networks(reader, section),
            objects: Some(inline),
        }
    }
}

fn read_manifests(
    reader: &mut Reader,
    section: Section<'_>,
    directory: &Path,
    unreadable: &mut Vec<InputError>,
) -> Vec<ParsedFile> {
    let mut parsed = Vec::new();
    let paths = section.map("manifests", |n| reader.texts(n, "`manifests`")).unwrap_or_default();
    for (node, path) in paths {
        let listing = input::list(&directory.join(path));
        if listing.files.is_empty() && listing.errors.is_empty() {
            reader.error(node.position, format!("`{path}` has no manifests"));
        }
        unreadable.extend(listing.errors);
        for file in listing.files {
            match input::read_text(&file) {
                Ok(text) => {
                    let name = file.display().to_string();
                    let file = input::parse_file(&name, &text, &Options::default());
                    // What a template would hold is missing from the cluster, whatever a case says.
                    let refused = file.diagnostics.iter().filter(|_| file.template).cloned();
                    let error = |d| Diagnostic { severity: Severity::Error, ..d };
                    reader.diagnostics.extend(refused.map(error));
                    parsed.push(file);
                }
                Err(error) => unreadable.push(error),
            }
        }
    }
    parsed
}

fn read_nodes(reader: &mut Reader, section: Section<'_>) -> BTreeMap<NodeName, OwnAddresses> {
    let mut nodes = BTreeMap::new();
    let entries = section.map("nodes", |n| reader.entries(n, "`nodes`")).unwrap_or_default();
    for entry in entries {
        let Some(name) = node_name(reader, entry) else { continue };
        let mut addresses = Vec::new();
        for (item, text) in reader.texts(&entry.node, "the addresses of a node") {
            match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => reader.error(item.position, format!("`{text}` is no address")),
            }
        }
        nodes.insert(name, OwnAddresses { addresses, position: entry.position });
    }
    nodes
}

fn read_pod_networks(reader: &mut Reader, section: Section<'_>) -> PodNetworks {
    let mut networks = PodNetworks::new();
    let entries = section.map("podNetworks", |n| reader.entries(n, "`podNetworks`"));
    for entry in entries.unwrap_or_default() {
        let Some(name) = node_name(reader, entry) else { continue };
        let own = networks.entry(name).or_default();
        for (item, text) in reader.texts(&entry.node, "the networks of a node's pods") {
            match text.parse::<IpNet>() {
                Ok(network) => drop(own.insert(network.trunc())),
                Err(_) => reader.error(item.position, format!("`{text}` is no network")),
            }
        }
    }
    networks
}

fn node_name(reader: &mut Reader, entry: &Entry) -> Option<NodeName> {
    match NodeName::new(&entry.key) {
        Ok(name) => Some(name),
        Err(error) => {
            reader.error(entry.position, format!("this is no node name: {error}"));
            None
        }
    }
}

fn read_namespaces(reader: &mut Reader, section: Section<'_>, inline: &mut ParsedFile) {
    let entries = section.map("namespaces", |n| reader.entries(n, "`namespaces`"));
    for entry in entries.unwrap_or_default() {
        let at = entry.position;
        let name = Node { value: Value::String(entry.key.clone()), position: at };
        let metadata = mapping(at, [("name", Some(name)), ("labels", Some(entry.node.clone()))]);
        let object = object("v1", "Namespace", at, [("metadata", Some(metadata))]);
        input::add_document(inline, object, &Options::default());
    }
}

fn read_policies(reader: &mut Reader, section: Section<'_>, inline: &mut ParsedFile) {
    let entries = section.map("policies", |n| reader.entries(n, "`policies`"));
    for entry in entries.unwrap_or_default() {
        let Some(key) = object_key(reader, entry) else { continue };
        let decoded = decode::policy_spec(key, &entry.node, Some(&reader.file));
        let mut policy = decoded.object;
        policy.location = reader.location(entry.position);
        inline.objects.push(Object::Policy(policy));
        let diagnostics = input::quoting(decoded.diagnostics, &inline.text);
        inline.diagnostics.extend(diagnostics);
    }
}

fn object_key(reader: &mut Reader, entry: &Entry) -> Option<ObjectKey> {
    let Some((namespace, name)) = entry.key.split_once('/') else {
        reader.error(entry.position, format!("`{}` must be namespace/name", entry.key));
        return None;
    };
    match ObjectKey::new(namespace, name) {
        Ok(key) => Some(key),
        Err(error) => {
            reader
                .error(entry.position, format!("`{}` must be namespace/name: {error}", entry.key));
            None
        }
    }
}

fn read_pods(reader: &mut Reader, section: Section<'_>) -> BTreeMap<ObjectKey, PodShorthand> {
    let entries = section.map("pods", |n| reader.entries(n, "`pods`")).unwrap_or_default();
    let mut pods = BTreeMap::new();
    for entry in entries {
        if let Some(key) = object_key(reader, entry) {
            pods.insert(key, read_pod(reader, entry));
        }
    }
    pods
}

fn read_pod(reader: &mut Reader, entry: &Entry) -> PodShorthand {
    let section = reader.section(&entry.node, "a pod", &POD_KEYS);
    let node = section.get("node").and_then(|n| reader.text(n, "`node`")).map(str::to_owned);
    if let (Some(text), Some(at)) = (&node, section.get("node"))
        && let Err(error) = NodeName::new(text)
    {
        reader.error(at.position, format!("this is no node name: {error}"));
    }
    let port_items = section.map("ports", |n| reader.list(n, "`ports`")).unwrap_or_default();
    let ports = port_items.iter().filter_map(|item| container_port(reader, item)).collect();
    let ips = section.map("ips", |n| {
        let texts = reader.texts(n, "`ips`");
        texts
            .into_iter()
            .map(|(item, _)| mapping(item.position, [("ip", Some(item.clone()))]))
            .collect()
    });
    let mut flag = |key: &str| {
        section.get(key).and_then(|n| reader.flag(n, &format!("`{key}`"))).unwrap_or(false)
    };
    let (host_network, v4_only, v6_only) =
        (flag("hostNetwork"), flag("ipv4Only"), flag("ipv6Only"));
    if v4_only && v6_only {
        reader.error(entry.position, "a pod cannot be of one family only twice");
    }
    let running = || Node { value: Value::String("Running".to_owned()), position: None };
    PodShorthand {
        position: entry.position,
        labels: section.get("labels").cloned(),
        node: node.unwrap_or_else(|| DEFAULT_NODE.to_owned()),
        ports,
        ips,
        host_network,
        phase: section.get("phase").cloned().unwrap_or_else(running),
        families: (!v6_only, !v4_only),
    }
}

/// `http=8080`, `dns=53/udp`, `9090` as a container port; the decoder judges name and number.
fn container_port(reader: &mut Reader, item: &Node) -> Option<Node> {
    let at = item.position;
    let text = match &item.value {
        Value::Int(number) => number.to_string(),
        _ => reader.text(item, "a port")?.to_owned(),
    };
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) => (Some(name), rest),
        None => (None, text.as_str()),
    };
    let (number, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let Ok(number) = number.trim().parse::<i64>() else {
        let message = format!("`{text}` is no port of a pod: write 9090, 53/udp or http=8080");
        reader.error(at, message);
        return None;
    };
    let text_node = |text: &str| Node { value: Value::String(text.to_owned()), position: at };
    let fields = [
        ("name", name.map(|name| text_node(name.trim()))),
        ("containerPort", Some(Node { value: Value::Int(number), position: at })),
        ("protocol", Some(text_node(&protocol.trim().to_ascii_uppercase()))),
    ];
    Some(mapping(at, fields))
}

/// The snapshot of `layers`, later ones laid over earlier ones.
pub(super) fn lay(reader: &Reader, layers: &[&Description]) -> Loaded {
    let mut nodes: BTreeMap<&NodeName, (usize, &OwnAddresses)> = BTreeMap::new();
    let mut pods: BTreeMap<&ObjectKey, (usize, &PodShorthand)> = BTreeMap::new();
    for (depth, layer) in layers.iter().enumerate() {
        nodes.extend(layer.nodes.iter().map(|(name, own)| (name, (depth, own))));
        pods.extend(layer.pods.iter().map(|(key, pod)| (key, (depth, pod))));
    }
    // One plan for all addresses; each pod then counts in the layer that it comes from.
    let plan = plan(&nodes, &pods);
    let mut made: Vec<ParsedFile> = layers.iter().map(|_| reader.inline()).collect();
    for (name, (depth, own)) in &nodes {
        made[*depth].objects.push(Object::Node(cluster::Node {
            name: (*name).clone(),
            addresses: own.addresses.clone(),
            pod_networks: Vec::new(),
            location: reader.location(own.position),
        }));
    }
    for (key, (depth, pod)) in &pods {
        let addresses = plan.get(key).map_or(&[][..], Vec::as_slice);
        let document = pod_document(key, pod, addresses);
        input::add_document(&mut made[*depth], document, &Options::default());
    }
    let mut files: Vec<Vec<&ParsedFile>> = Vec::new();
    for (layer, made) in layers.iter().zip(&made) {
        files.push(layer.manifests.iter().collect());
        files.push(layer.objects.iter().chain([made]).collect());
    }
    input::merge_layers(&files)
}

/// The networks of `layers`, those of later ones in the place of earlier ones.
pub(super) fn pod_networks(layers: &[&Description]) -> PodNetworks {
    layers.iter().flat_map(|layer| layer.pod_networks.clone()).collect()
}

/// The addresses of every pod that is given none: its place among the pods of its node.
fn plan<'k>(
    nodes: &BTreeMap<&NodeName, (usize, &OwnAddresses)>,
    pods: &BTreeMap<&'k ObjectKey, (usize, &PodShorthand)>,
) -> BTreeMap<&'k ObjectKey, Vec<IpAddr>> {
    let mut names: BTreeSet<&str> = nodes.keys().map(|name| name.as_str()).collect();
    names.extend(pods.values().map(|(_, pod)| pod.node.as_str()));
    let index: BTreeMap<&str, usize> = names.into_iter().zip(1..).collect();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let mut plan = BTreeMap::new();
    for (key, (_, pod)) in pods {
        let place = count.entry(&pod.node).or_default();
        let number = index.get(&*pod.node).copied().unwrap_or_default();
        let own = nodes.iter().find(|(name, _)| name.as_str() == pod.node).map(|(_, (_, own))| own);
        let addresses = match own {
            _ if !pod.host_network => automatic(number, *place, pod.families),
            Some(own) => own.addresses.clone(),
            None => Vec::new(),
        };
        *place += 1;
        plan.insert(*key, addresses);
    }
    plan
}

/// The addresses of pod `place` (from 0) on node `node` (from 1). The digits of both are the same in
/// either family, to be read easily. Beyond what an IPv4 octet holds there is no address.
fn automatic(node: usize, place: usize, families: (bool, bool)) -> Vec<IpAddr> {
    let last = place + 10;
    let mut addresses = Vec::new();
    if families.0
        && let (Ok(node), Ok(last)) = (u8::try_from(node), u8::try_from(last))
    {
        addresses.push(IpAddr::V4(Ipv4Addr::new(10, 244, node, last)));
    }
    let hextet = |n: usize| u16::from_str_radix(&n.to_string(), 16);
    if families.1
        && let (Ok(node), Ok(last)) = (hextet(node), hextet(last))
    {
        addresses.push(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, node, 0, 0, 0, last)));
    }
    addresses
}

/// The Pod object that a shorthand stands for.
fn pod_document(key: &ObjectKey, pod: &PodShorthand, automatic: &[IpAddr]) -> Node {
    let at = pod.position;
    let text = |text: &str| Some(Node { value: Value::String(text.to_owned()), position: at });
    let list = |items: Vec<Node>| Some(Node { value: Value::List(items), position: at });
    let ips = pod.ips.clone().unwrap_or_else(|| {
        automatic.iter().map(|ip| mapping(at, [("ip", text(&ip.to_string()))])).collect()
    });
    let metadata = mapping(
        at,
        [
            ("namespace", text(key.namespace.as_str())),
            ("name", text(key.name.as_str())),
            ("labels", pod.labels.clone()),
        ],
    );
    let container = mapping(at, [("ports", list(pod.ports.clone()))]);
    let host_network = Node { value: Value::Bool(pod.host_network), position: at };
    let spec = mapping(
        at,
        [
            ("nodeName", text(&pod.node)),
            ("hostNetwork", Some(host_network)),
            ("containers", list(vec![container])),
        ],
    );
    let status = mapping(at, [("phase", Some(pod.phase.clone())), ("podIPs", list(ips))]);
    let parts = [("metadata", Some(metadata)), ("spec", Some(spec)), ("status", Some(status))];
    object("v1", "Pod", at, parts)
}

fn object<const N: usize>(
    version: &str,
    kind: &str,
    at: Option<Position>,
    parts: [(&str, Option<Node>); N],
) -> Node {
    let text = |text: &str| Some(Node { value: Value::String(text.to_owned()), position: at });
    let mut object = mapping(at, [("apiVersion", text(version)), ("kind", text(kind))]);
    if let (Value::Map(entries), Value::Map(more)) = (&mut object.value, mapping(at, parts).value) {
        entries.extend(more);
    }
    object
}

/// A mapping of the fields that are there.
fn mapping<const N: usize>(at: Option<Position>, fields: [(&str, Option<Node>); N]) -> Node {
    let entry = |(key, node): (&str, Option<Node>)| {
        Some(Entry { key: key.to_owned(), position: at, node: node? })
    };
    Node { value: Value::Map(fields.into_iter().filter_map(entry).collect()), position: at }
}

#[cfg(test)]
mod tests {
    use super::automatic;

    #[test]
    fn addresses_read_the_same_in_both_families() {
        let shown = |node, place, families| {
            let addresses = automatic(node, place, families);
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(1, 0, (true, true)), ["10.244.1.10", "fd00:10:244:1::10"]);
        assert_eq!(shown(12, 9, (true, true)), ["10.244.12.19", "fd00:10:244:12::19"]);
        assert_eq!(shown(1, 0, (true, false)), ["10.244.1.10"]);
        assert_eq!(shown(1, 300, (true, true)), ["fd00:10:244:1::310"]);
    }
}
