//! Nodes.

use std::sync::Arc;

use ipnet::IpNet;

use super::block::cidr_at;
use super::metadata;
use super::pod::ip_address;
use super::report::{Field, Mapping, Report};
use super::{Decoded, Decoding, object_ref};
use crate::cluster;
use crate::document::Node;
use crate::name::NodeName;

/// Decodes a Node: its name, its internal and external addresses, and the networks of its pods.
///
/// # Errors
/// Where its name, an address or a network is invalid.
pub fn node(node: &Node, file: Option<&Arc<str>>) -> Decoding<cluster::Node> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let decoded = read(node, &mut report);
    report.conclude(mark, "", "this node cannot be taken into account");
    Decoded::or_errors(decoded, report)
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<cluster::Node> {
    let object = report.lenient(&Field::root(node), &["metadata", "spec", "status"])?;
    let metadata = metadata::metadata(&object, report)?;
    let name = metadata::name(&metadata, NodeName::new, report);
    let mut addresses = Vec::new();
    if let Some(status) = object.get("status").and_then(|s| report.lenient(&s, &["addresses"])) {
        for item in report.list_of(&status, "addresses") {
            let Some(entry) = report.lenient(&item, &["type", "address"]) else { continue };
            let kind = report.text_of(&entry, "type");
            if let (Some("InternalIP" | "ExternalIP"), Some(address)) = (kind, entry.get("address"))
            {
                addresses.extend(ip_address(&address, report));
            }
        }
    }
    let spec = object.get("spec").and_then(|s| report.lenient(&s, &["podCIDR", "podCIDRs"]));
    let pod_networks = spec.map_or_else(Vec::new, |spec| pod_networks(&spec, report));
    let location = report.location(node.position);
    Some(cluster::Node { name: name?, addresses, pod_networks, location })
}

/// The networks in `podCIDRs`, else the one in `podCIDR`: stored objects have both, the second being
/// the first item of the first.
fn pod_networks(spec: &Mapping<'_>, report: &mut Report<'_>) -> Vec<IpNet> {
    let mut fields = report.list_of(spec, "podCIDRs");
    if fields.is_empty() {
        fields.extend(report.text_of(spec, "podCIDR").and_then(|_| spec.get("podCIDR")));
    }
    fields.iter().filter_map(|field| cidr_at(field, report)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_has_its_internal_and_external_addresses() {
        let object = json!({"kind": "Node", "metadata": {"name": "node-a"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "Hostname", "address": "node-a"},
            {"type": "ExternalIP", "address": "2001:db8::1"},
        ]}});
        let decoded = node(&Node::from(object), None).unwrap();
        assert_eq!(decoded.object.name.as_str(), "node-a");
        let addresses: Vec<String> =
            decoded.object.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn a_node_has_the_networks_of_its_pods() {
        for (spec, expected) in [
            (
                json!({"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]}),
                vec!["10.244.1.0/24", "fd00:1::/64"],
            ),
            (json!({"podCIDR": "10.244.1.0/24"}), vec!["10.244.1.0/24"]),
            (json!({"podCIDR": "10.244.1.9/24", "podCIDRs": []}), vec!["10.244.1.0/24"]),
            (json!({"podCIDR": "", "podCIDRs": null}), vec![]),
            (json!({"taints": []}), vec![]),
        ] {
            let object = json!({"kind": "Node", "metadata": {"name": "node-a"}, "spec": spec});
            let decoded = node(&Node::from(object), None).unwrap();
            let networks: Vec<String> =
                decoded.object.pod_networks.iter().map(ToString::to_string).collect();
            assert_eq!(networks, expected, "{spec}");
        }
    }

    #[test]
    fn a_node_with_a_pod_network_that_is_none_is_an_error() {
        let spec = json!({"podCIDRs": ["10.244.1.0/24", "10.244.2.0"]});
        let object = json!({"kind": "Node", "metadata": {"name": "node-a"}, "spec": spec});
        let findings = node(&Node::from(object), None).unwrap_err();
        assert_eq!(
            findings[0].to_string(),
            "error: Node node-a: spec.podCIDRs[1]: `10.244.2.0` is no network in CIDR notation; this node cannot be \
             taken into account (one address is `10.244.2.0/32`)"
        );
    }

    #[test]
    fn a_node_with_an_address_that_is_none_is_an_error() {
        let addresses = json!([{"type": "InternalIP", "address": "node-a"}]);
        let object = json!({
            "kind": "Node", "metadata": {"name": "node-a"}, "status": {"addresses": addresses},
        });
        let findings = node(&Node::from(object), None).unwrap_err();
        assert_eq!(
            findings[0].to_string(),
            "error: Node node-a: status.addresses[0].address: `node-a` is no IP address; this node cannot be taken \
             into account"
        );
    }
}
