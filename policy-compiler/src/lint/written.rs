//! Policies as they were written, for what their meaning no longer tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::object_ref;
use crate::diagnostic::ObjectRef;
use crate::document::{Location, Node, Position, Value};
use crate::policy::Policy;

/// A NetworkPolicy's document.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Which layer of the input it is of: what a later one says of an object replaces what an earlier
    /// one says, and is no duplicate of it.
    pub layer: usize,
    /// The input's name for locations.
    pub file: Option<Arc<str>>,
    /// The document.
    pub node: Node,
}

impl Written {
    /// Which object it is.
    pub(super) fn object(&self) -> ObjectRef {
        object_ref(&self.node).unwrap_or_else(|| ObjectRef {
            kind: "NetworkPolicy".to_owned(),
            namespace: None,
            name: String::new(),
        })
    }

    /// Where it begins.
    pub(super) fn location(&self) -> Location {
        Location { file: self.file.clone(), position: self.node.position }
    }

    /// The node at `field`, such as `spec.ingress[0]`, null where it says null.
    pub(super) fn field(&self, field: &str) -> Option<&Node> {
        walk(&self.node, field).map(|(node, _)| node)
    }

    /// Where `field` stands: its key, or an item itself. The object where it does not stand at all.
    pub(super) fn locate(&self, field: &str) -> Location {
        let position = walk(&self.node, field).and_then(|(_, position)| position);
        Location { file: self.file.clone(), position: position.or(self.node.position) }
    }
}

/// The documents of an input by the policies that they became.
#[derive(Debug, Default)]
pub(super) struct Documents<'a> {
    by_place: BTreeMap<(ObjectRef, Location), &'a Written>,
}

impl<'a> Documents<'a> {
    pub(super) fn of(written: &'a [Written]) -> Self {
        let by_place = written.iter().map(|w| ((w.object(), w.location()), w)).collect();
        Self { by_place }
    }

    /// The document of `policy`. One whose name was made up has none.
    pub(super) fn get(&self, policy: &Policy) -> Option<&'a Written> {
        self.by_place.get(&(reference(policy), policy.location.clone())).copied()
    }
}

/// A policy as an object.
pub(super) fn reference(policy: &Policy) -> ObjectRef {
    ObjectRef {
        kind: "NetworkPolicy".to_owned(),
        namespace: Some(policy.key.namespace.to_string()),
        name: policy.key.name.to_string(),
    }
}

/// The node at a path of keys and indices, and where its key or itself stands.
fn walk<'n>(root: &'n Node, path: &str) -> Option<(&'n Node, Option<Position>)> {
    let mut at = (root, root.position);
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        at = match (step.strip_suffix(']'), &at.0.value) {
            (Some(index), Value::List(items)) => {
                let item = items.get(index.parse::<usize>().ok()?)?;
                (item, item.position)
            }
            (None, Value::Map(entries)) => {
                let entry = entries.iter().rev().find(|entry| entry.key == step)?;
                (&entry.node, entry.position.or(entry.node.position))
            }
            _ => return None,
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_found_by_its_path() {
        let node =
            Node::from(json!({"spec": {"ingress": [{"from": []}, {"ports": [{"port": 80}]}]}}));
        let written = Written { layer: 0, file: None, node };
        let found = |path: &str| written.field(path).map(Node::kind);
        assert_eq!(found("spec.ingress[1].ports[0].port"), Some("a number"));
        assert_eq!(found("spec.ingress[0].from"), Some("a list"));
        assert_eq!(found(""), Some("a mapping"));
        for path in ["spec.egress", "spec.ingress[2]", "spec.ingress.from", "spec[0]"] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
