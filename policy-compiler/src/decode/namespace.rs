//! Namespaces.

use std::sync::Arc;

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
    Some(Namespace::new(name, labels, report.location(node.position)))
}
