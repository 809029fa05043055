//! Namespaces.

use std::sync::Arc;

use super::audit::audit;
use super::metadata;
use super::report::{Field, Report};
use super::{Decoded, Decoding, object_ref};
use crate::cluster::{METADATA_NAME_LABEL, Namespace};
use crate::document::Node;
use crate::name::NamespaceName;

/// Decodes a Namespace. `kubernetes.io/metadata.name` becomes its name, with a warning where the
/// manifest says otherwise.
///
/// # Errors
/// Where its name or a label is invalid.
pub fn namespace(node: &Node, file: Option<&Arc<str>>) -> Decoding<Namespace> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let namespace = read(node, &mut report);
    report.conclude(mark, "", "the labels of this namespace cannot be taken into account");
    Decoded::or_errors(namespace, report)
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<Namespace> {
    let object = report.lenient(&Field::root(node), &["metadata"])?;
    let metadata = metadata::metadata(&object, report)?;
    let name = metadata::name(&metadata, NamespaceName::new, report);
    let labels = metadata::labels_of(&metadata, report);
    let name = name?;
    let written = labels.get(METADATA_NAME_LABEL);
    if let Some(written) = written.filter(|written| *written != name.as_str())
        && let Some(field) = metadata.get("labels")
    {
        let message = format!(
            "`{METADATA_NAME_LABEL}` is always the namespace's name: `{name}` replaces `{written}`"
        );
        report.warning(&field, message, None);
    }
    let audit = audit(&object.field, "the policies of this namespace are enforced", report);
    let mut namespace = Namespace::new(name, labels, report.location(node.position));
    namespace.audit = audit;
    Some(namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn of(metadata: &Json) -> Decoding<Namespace> {
        namespace(&Node::from(json!({"kind": "Namespace", "metadata": metadata})), None)
    }

    #[test]
    fn a_namespace_always_has_its_name_as_a_label() {
        let decoded = of(&json!({"name": "shop", "labels": {"team": "a"}})).unwrap();
        assert_eq!(decoded.diagnostics, []);
        assert_eq!(decoded.object.labels().to_string(), "kubernetes.io/metadata.name=shop,team=a");
    }

    #[test]
    fn a_manifest_cannot_say_otherwise() {
        let labels = json!({"kubernetes.io/metadata.name": "kube-system"});
        let decoded = of(&json!({"name": "shop", "labels": labels})).unwrap();
        assert_eq!(decoded.object.labels().get(METADATA_NAME_LABEL), Some("shop"));
        assert_eq!(
            decoded.diagnostics[0].to_string(),
            "warning: Namespace shop: metadata.labels: `kubernetes.io/metadata.name` is always the namespace's name: \
             `shop` replaces `kube-system`"
        );
    }

    #[test]
    fn a_namespace_with_an_invalid_name_or_label_is_an_error() {
        for (metadata, field) in [
            (json!({"name": "a.b"}), "metadata.name"),
            (json!({}), "metadata.name"),
            (json!(null), "metadata"),
            (json!({"name": "shop", "labels": {"team": 1}}), "metadata.labels.team"),
        ] {
            let findings = of(&metadata).unwrap_err();
            assert_eq!(findings[0].field, field, "{metadata}");
        }
    }
}
