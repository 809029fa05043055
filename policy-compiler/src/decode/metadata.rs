//! What `metadata` says: names, labels, and what else an object is known by.
//!
//! Unknown keys in it are ignored. A namespace that is absent is `default`; an object with a
//! `generateName` and no name is known under that prefix and a hash of what it says.

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::labels::labels;
use super::policy::NO_RULE;
use super::report::{Field, Mapping, Report};
use crate::document::{Node, Value};
use crate::labels::Labels;
use crate::name::{NamespaceName, ObjectKey, ObjectName};

const FIELDS: [&str; 7] =
    ["name", "namespace", "generateName", "labels", "uid", "creationTimestamp", "ownerReferences"];

const NAMELESS: &str = "an object needs metadata with a name";

/// Under which key a policy is kept.
pub(super) struct Identity {
    pub(super) key: ObjectKey,
    /// Why the name as written is invalid, where the key has been made up for that.
    pub(super) flaw: Option<String>,
}

/// The metadata of an object. An object without any has no name, which is reported with the name.
pub(super) fn metadata<'n>(object: &Mapping<'n>, report: &mut Report<'_>) -> Option<Mapping<'n>> {
    let field = report.required(object, "metadata", NAMELESS)?;
    report.lenient(&field, &FIELDS)
}

/// The key of a policy. A name that is invalid is reported and replaced; `None` where the namespace
/// is invalid or cannot be read.
pub(super) fn policy_identity(object: &Mapping<'_>, report: &mut Report<'_>) -> Option<Identity> {
    let mark = report.mark();
    let metadata = match object.get("metadata") {
        Some(field) => Some(report.lenient(&field, &FIELDS)?),
        None => None,
    };
    // A policy's labels decide nothing, but with invalid ones no server would have it.
    if let Some(metadata) = &metadata {
        labels_of(metadata, report);
    }
    let flaw = report.conclude(mark, "", NO_RULE);
    let namespace = match &metadata {
        Some(metadata) => namespace(metadata, report)?,
        None => default_namespace(report, object)?,
    };
    let mark = report.mark();
    let name = if let Some(metadata) = &metadata {
        object_name(metadata, object.field.node, report)
    } else {
        report.missing(object, "metadata", NAMELESS);
        None
    };
    let name = name.or_else(|| stand_in(object, metadata.as_ref()))?;
    let consequence =
        format!("the policy is kept as `{name}`, and every rule of it allows nothing");
    let misnamed = report.conclude(mark, "", &consequence);
    Some(Identity { key: ObjectKey { namespace, name }, flaw: flaw.or(misnamed) })
}

fn default_namespace(report: &mut Report<'_>, object: &Mapping<'_>) -> Option<NamespaceName> {
    match NamespaceName::new("default") {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(&object.field, error, None);
            None
        }
    }
}

/// Namespace and name of a namespaced object; `None` with the reasons reported.
pub(super) fn key(
    metadata: &Mapping<'_>,
    object: &Node,
    report: &mut Report<'_>,
) -> Option<ObjectKey> {
    let namespace = namespace(metadata, report);
    let name = object_name(metadata, object, report);
    Some(ObjectKey { namespace: namespace?, name: name? })
}

/// `metadata.namespace`, `default` where it is absent or empty.
fn namespace(metadata: &Mapping<'_>, report: &mut Report<'_>) -> Option<NamespaceName> {
    let text = match metadata.get("namespace") {
        Some(field) => report.text(&field)?,
        None => "",
    };
    let text = if text.is_empty() { "default" } else { text };
    match NamespaceName::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            let field = metadata.get("namespace").unwrap_or_else(|| metadata.field.clone());
            report.error(&field, format!("is no namespace name: {error}"), None);
            None
        }
    }
}

/// `metadata.name` as `parse` takes it; `None` with the reason reported.
pub(super) fn name<T>(
    metadata: &Mapping<'_>,
    parse: impl Fn(&str) -> Result<T, crate::name::NameError>,
    report: &mut Report<'_>,
) -> Option<T> {
    let field = report.required(metadata, "name", "an object needs a name")?;
    let text = report.text(&field)?;
    match parse(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(&field, format!("is no name: {error}"), None);
            None
        }
    }
}

/// The name, or one from `generateName`.
fn object_name(
    metadata: &Mapping<'_>,
    object: &Node,
    report: &mut Report<'_>,
) -> Option<ObjectName> {
    let unnamed = metadata.get("name").is_none_or(|name| name.node.as_str() == Some(""));
    let Some(field) = metadata.get("generateName").filter(|_| unnamed) else {
        return name(metadata, ObjectName::new, report);
    };
    let prefix = report.text(&field)?;
    match ObjectName::new(&format!("{prefix}{}", short_hash(&fingerprint(object)))) {
        Ok(name) => {
            let message = format!("the API server makes up the rest: here the name is `{name}`");
            report.note(&field, message);
            Some(name)
        }
        Err(error) => {
            report.error(&field, format!("no name can begin so: {error}"), None);
            None
        }
    }
}

/// The name under which a policy with an invalid name is kept: the same for the same name, and for
/// a policy without any the same for the same content.
fn stand_in(object: &Mapping<'_>, metadata: Option<&Mapping<'_>>) -> Option<ObjectName> {
    let written = metadata.and_then(|m| m.get("name"));
    let seed = match written.as_ref().map(|field| &field.node.value) {
        Some(Value::String(text)) => format!("name {text}"),
        _ => format!("object {}", fingerprint(object.field.node)),
    };
    ObjectName::new(&format!("invalid-{}", short_hash(&seed))).ok()
}

/// What a node says, as text: two nodes that say the same have the same, wherever they stand.
fn fingerprint(node: &Node) -> String {
    let mut text = String::new();
    write_content(node, &mut text);
    text
}

/// Each part is quoted or has its length before it, so that no two contents read alike.
fn write_content(node: &Node, text: &mut String) {
    // Writing to a String cannot fail.
    let _ = match &node.value {
        Value::Null => write!(text, "null "),
        Value::Bool(flag) => write!(text, "{flag} "),
        Value::Int(number) => write!(text, "{number} "),
        Value::Float(number) => write!(text, "{number:?} "),
        Value::String(string) => write!(text, "{string:?} "),
        Value::List(items) => {
            let _ = write!(text, "list {} ", items.len());
            for item in items {
                write_content(item, text);
            }
            Ok(())
        }
        Value::Map(entries) => {
            let _ = write!(text, "map {} ", entries.len());
            for entry in entries {
                let _ = write!(text, "{:?} ", entry.key);
                write_content(&entry.node, text);
            }
            Ok(())
        }
    };
}

fn short_hash(text: &str) -> String {
    let mut hash = String::with_capacity(16);
    for byte in Sha256::digest(text.as_bytes()).iter().take(8) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

/// `metadata.labels`; none where they are absent. What is invalid is reported.
pub(super) fn labels_of(metadata: &Mapping<'_>, report: &mut Report<'_>) -> Labels {
    metadata.get("labels").map(|field| labels(&field, report)).unwrap_or_default()
}

/// Text that is only compared or shown, `None` where it is anything else.
pub(super) fn shared_text(metadata: &Mapping<'_>, key: &str) -> Option<Arc<str>> {
    metadata.get(key).as_ref().and_then(|field: &Field<'_>| field.node.as_str()).map(Arc::from)
}
