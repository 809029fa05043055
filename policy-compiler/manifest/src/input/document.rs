//! What one document is, and its objects.

use std::path::Path;

use policy_compiler::decode::{self, Decoding};
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::{Entry, Location, Node, Position, Value};

use super::{InputError, Object, Options, ParsedFile};
use crate::source;

/// What the items of a typed list may leave to the list: `PodList` of `v1` says it for each.
struct ItemType {
    kind: String,
    version: Option<String>,
}

/// Adds the objects of one document: itself, or the items of the list that it is.
pub fn add(parsed: &mut ParsedFile, node: Node, options: &Options) {
    match not_meant_as_object(&parsed.name, &node) {
        Some(what) => parsed.pass_over(what),
        None => add_object(parsed, node, options),
    }
}

fn add_object(parsed: &mut ParsedFile, mut node: Node, options: &Options) {
    if let Some(item_type) = list_of(&node) {
        return add_items(parsed, node, &item_type, options);
    }
    if let Some(namespace) = &options.default_namespace {
        decode::put_in_namespace(&mut node, namespace);
    }
    if let Some(position) = placeholder(&node) {
        return skip_template(parsed, position, "the document");
    }
    let file = Some(parsed.name.clone()).filter(|name| !name.is_empty());
    match decode::object(&node, file.as_ref()) {
        decode::Object::Policy(decoding) => {
            take(parsed, decoding, Object::Policy);
            parsed.written.extend(options.keep_policies.then_some(node));
        }
        decode::Object::Pod(decoding) => take(parsed, decoding, Object::Pod),
        decode::Object::Namespace(decoding) => take(parsed, decoding, Object::Namespace),
        decode::Object::Node(decoding) => take(parsed, decoding, Object::Node),
        decode::Object::Service(decoding) => take(parsed, decoding, Object::Service),
        decode::Object::Workload(decoding) => match controlled_kind(&node) {
            // What another workload made says nothing that its maker does not say.
            Some(kind) => parsed.pass_over(&kind),
            None => take(parsed, decoding, Object::Pod),
        },
        decode::Object::Other { kind, warning } => {
            parsed.pass_over(&kind);
            parsed.diagnostics.extend(warning);
        }
        decode::Object::Unrecognised(diagnostic) => {
            parsed.errors.push(InputError::NotAnObject { diagnostic: Box::new(diagnostic) });
        }
    }
}

fn take<T>(parsed: &mut ParsedFile, decoding: Decoding<T>, wrap: impl FnOnce(T) -> Object) {
    match decoding {
        Ok(decoded) => {
            parsed.objects.push(wrap(decoded.object));
            parsed.diagnostics.extend(quoting(decoded.diagnostics, &parsed.text));
        }
        Err(diagnostics) => {
            let diagnostics = quoting(diagnostics, &parsed.text);
            parsed.left_out.extend(diagnostics.iter().cloned());
            parsed.diagnostics.extend(diagnostics);
        }
    }
}

/// `diagnostics` with the word as it is written in `text` where they advise to quote it: the decoder
/// knows only what YAML made of `y` or `0o17`.
pub(crate) fn quoting(mut diagnostics: Vec<Diagnostic>, text: &str) -> Vec<Diagnostic> {
    for diagnostic in &mut diagnostics {
        let advised = diagnostic.help.as_deref().is_some_and(|h| h.starts_with(decode::QUOTE_IT));
        let word = diagnostic.location.position.and_then(|at| source::word(text, at));
        if let Some(word) = word.filter(|_| advised) {
            diagnostic.help = Some(format!("{}: \"{word}\"", decode::QUOTE_IT));
        }
    }
    diagnostics
}

/// Whether a document is a list of objects, and of which, as far as it says.
fn list_of(node: &Node) -> Option<ItemType> {
    let kind = node.get("kind")?.as_str()?.strip_suffix("List")?;
    // Go writes an empty list as null; a kind of somebody's own may end in `List` as well.
    let items = node.get("items").is_some_and(|i| matches!(i.value, Value::List(_) | Value::Null));
    (items || kind.is_empty()).then(|| ItemType {
        kind: kind.to_owned(),
        version: node.get("apiVersion").and_then(Node::as_str).map(str::to_owned),
    })
}

fn add_items(parsed: &mut ParsedFile, list: Node, item_type: &ItemType, options: &Options) {
    let Value::Map(entries) = list.value else { return };
    let items = entries.into_iter().rev().find(|e| e.key == "items").map(|e| e.node.value);
    let Some(Value::List(items)) = items else { return };
    for mut item in items {
        if !item_type.kind.is_empty() {
            fill_in(&mut item, "kind", Some(&item_type.kind));
            fill_in(&mut item, "apiVersion", item_type.version.as_deref());
        }
        add_object(parsed, item, options);
    }
}

/// Gives a mapping `key` where it lacks it.
fn fill_in(node: &mut Node, key: &str, text: Option<&str>) {
    let Some(text) = text.filter(|_| node.get(key).is_none()) else { return };
    if let Value::Map(entries) = &mut node.value {
        let value = Node { value: Value::String(text.to_owned()), position: None };
        entries.push(Entry { key: key.to_owned(), position: None, node: value });
    }
}

/// The kind of an object that a controller made, such as the `ReplicaSet` of a Deployment.
fn controlled_kind(node: &Node) -> Option<String> {
    let references = node.get("metadata")?.get("ownerReferences")?;
    let Value::List(items) = &references.value else { return None };
    let controls =
        |item: &Node| item.get("controller").is_some_and(|flag| flag.value == Value::Bool(true));
    let kind = node.get("kind")?.as_str()?;
    items.iter().any(controls).then(|| kind.to_owned())
}

/// What kind of file this document shows it to be, where it is no Kubernetes object and
/// legitimately lies beside some.
fn not_meant_as_object(file: &str, node: &Node) -> Option<&'static str> {
    if node.get("kind").is_some() || node.get("apiVersion").is_some() {
        return None;
    }
    let name = Path::new(file).file_name().and_then(std::ffi::OsStr::to_str);
    if matches!(name, Some("kustomization.yaml" | "kustomization.yml")) {
        return Some("Kustomization");
    }
    node.get("cases").filter(|c| matches!(c.value, Value::List(_))).map(|_| "case file")
}

/// Where a Helm placeholder stands in a text that is not YAML: outside of quotes and comments,
/// where it would be fine.
pub(super) fn helm_placeholder(text: &str) -> Option<Position> {
    text.lines().zip(1_u32..).find_map(|(line, number)| {
        let (before, _) = line.split_once("{{")?;
        if before.contains(['#', '"', '\'']) {
            return None;
        }
        let column = u32::try_from(before.chars().count()).ok()?.saturating_add(1);
        Some(Position { line: number, column })
    })
}

/// Where a Helm placeholder stands in an object that is YAML all the same, since it is quoted: in a name,
/// a label or a policy, where no braces can be meant. Elsewhere, in annotations and in what containers
/// run, they often are.
fn placeholder(node: &Node) -> Option<Position> {
    let metadata = node.get("metadata");
    let of_metadata = |key| metadata.and_then(|metadata| metadata.get(key));
    let template =
        node.get("spec").and_then(|spec| spec.get("template")?.get("metadata")?.get("labels"));
    let is_policy = node.get("kind").and_then(Node::as_str) == Some("NetworkPolicy");
    let spec = node.get("spec").filter(|_| is_policy);
    let places = ["name", "namespace", "labels"].map(of_metadata);
    places.into_iter().chain([template, spec]).flatten().find_map(in_braces)
}

/// The first text with a placeholder in a tree.
fn in_braces(node: &Node) -> Option<Position> {
    let marked = |text: &str| text.split_once("{{").is_some_and(|(_, rest)| rest.contains("}}"));
    match &node.value {
        Value::String(text) => node.position.filter(|_| marked(text)),
        Value::List(items) => items.iter().find_map(in_braces),
        Value::Map(entries) => entries.iter().find_map(|entry| {
            entry.position.filter(|_| marked(&entry.key)).or_else(|| in_braces(&entry.node))
        }),
        _ => None,
    }
}

/// Records that the file, or a document of it, is a Helm template.
pub(super) fn skip_template(parsed: &mut ParsedFile, position: Position, what: &str) {
    parsed.template = true;
    parsed.diagnostics.push(Diagnostic {
        location: Location { file: Some(parsed.name.clone()), position: Some(position) },
        object: None,
        field: String::new(),
        severity: Severity::Warning,
        message: format!(
            "this is a Helm template and no manifest yet (`{{{{` is for Helm to fill in); {what} is skipped"
        ),
        help: Some("render it first with `helm template`".to_owned()),
    });
}
