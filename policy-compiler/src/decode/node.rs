//! Nodes.

use std::sync::Arc;

use super::metadata;
use super::pod::ip_address;
use super::report::{Field, Report};
use super::{Decoded, Decoding, object_ref};
use crate::cluster;
use crate::document::Node;
use crate::name::NodeName;

/// Decodes a Node: its name, and its internal and external addresses.
///
/// # Errors
/// Where its name or an address is invalid.
pub fn node(node: &Node, file: Option<&Arc<str>>) -> Decoding<cluster::Node> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let decoded = read(node, &mut report);
    report.conclude(mark, "", "this node cannot be taken into account");
    Decoded::or_errors(decoded, report)
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<cluster::Node> {
    let object = report.lenient(&Field::root(node), &["metadata", "status"])?;
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
    Some(cluster::Node { name: name?, addresses, location: report.location(node.position) })
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
