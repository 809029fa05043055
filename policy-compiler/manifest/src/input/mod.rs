//! Reading manifests: files, directories and standard input to a [`Snapshot`].
//!
//! ```text
//!  paths ──files──> texts ──parse_file──> ParsedFile ──merge──> Loaded
//! ```
//!
//! [`read`] does all of it at once. Whoever watches files keeps the [`ParsedFile`] of each and
//! merges them anew after a change; a file that went bad can so keep what it last held.
//!
//! Nothing here stops at the first failure. What cannot be read is in [`Loaded::unreadable`] or
//! [`ParsedFile::errors`], with file and line; what is invalid inside an object is a diagnostic and
//! is taken as the decoder takes it. The result depends on the files alone, not on the order in
//! which they were named or read.

mod document;
mod error;
mod files;
mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_compiler::cluster::{Namespace, Node, Pod, Service, Snapshot};
use policy_compiler::diagnostic::{Diagnostic, ObjectRef};
use policy_compiler::document::Location;
use policy_compiler::lint::Written;
use policy_compiler::name::{NameError, NamespaceName, ObjectKey};
use policy_compiler::policy::Policy;

pub use self::document::add;
pub(crate) use self::document::{add as add_document, quoting};
pub use self::error::InputError;
pub(crate) use self::files::read_stdin;
pub use self::files::{
    Listing, MAX_BYTES, Parsed, STDIN, is_manifest, list, parse_paths, read, read_from, read_over,
    read_regular, read_text, text_of,
};
pub use self::merge::{merge, merge_layers};

use crate::source::Sources;

/// How manifests are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The namespace of objects that name none; `None` is `default`.
    pub default_namespace: Option<NamespaceName>,
    /// Whether the documents of NetworkPolicies are kept as they were written.
    pub keep_policies: bool,
}

impl Options {
    /// Takes `namespace` for objects that name none.
    ///
    /// # Errors
    /// Where it is no name of a namespace.
    pub fn in_namespace(namespace: &str) -> Result<Self, NameError> {
        Ok(Self { default_namespace: Some(NamespaceName::new(namespace)?), ..Self::default() })
    }
}

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A NetworkPolicy.
    Policy(Policy),
    /// A Pod, or the pods that a workload's template would make.
    Pod(Pod),
    /// A Namespace.
    Namespace(Namespace),
    /// A Node.
    Node(Node),
    /// A Service.
    Service(Service),
}

impl Object {
    /// Its kind, namespace and name.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let of = |kind: &str, key: &ObjectKey| ObjectRef {
            kind: kind.to_owned(),
            namespace: Some(key.namespace.to_string()),
            name: key.name.to_string(),
        };
        let global = |kind: &str, name: &str| ObjectRef {
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        };
        match self {
            Object::Policy(policy) => of("NetworkPolicy", &policy.key),
            Object::Pod(pod) => match &pod.workload {
                Some(workload) if pod.template => of(&workload.kind, &pod.key),
                _ => of("Pod", &pod.key),
            },
            Object::Namespace(namespace) => global("Namespace", namespace.name().as_str()),
            Object::Node(node) => global("Node", node.name.as_str()),
            Object::Service(service) => of("Service", &service.key),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn location(&self) -> &Location {
        match self {
            Object::Policy(policy) => &policy.location,
            Object::Pod(pod) => &pod.location,
            Object::Namespace(namespace) => &namespace.location,
            Object::Node(node) => &node.location,
            Object::Service(service) => &service.location,
        }
    }
}

/// What one file holds.
#[derive(Clone, Debug)]
pub struct ParsedFile {
    /// The file's name as the user wrote it.
    pub name: Arc<str>,
    /// Its text, for quoting.
    pub text: Arc<str>,
    /// Its objects in the order of the text.
    pub objects: Vec<Object>,
    /// What is wrong or noteworthy inside the objects.
    pub diagnostics: Vec<Diagnostic>,
    /// Why the file, or a document in it, could not be read as Kubernetes objects.
    pub errors: Vec<InputError>,
    /// Why objects of a kind that counts here were left out: they are so invalid that nothing can be
    /// made of them. These findings are among the diagnostics too.
    pub left_out: Vec<Diagnostic>,
    /// Whether the file is a Helm template and was skipped for that.
    pub template: bool,
    /// How many objects of other kinds were passed over, by kind.
    pub ignored: BTreeMap<String, usize>,
    /// The NetworkPolicies as they were written, where [`Options::keep_policies`] asks for that.
    pub written: Vec<policy_compiler::document::Node>,
}

impl ParsedFile {
    /// Whether everything in the file that counts here is among its objects. Where not, whoever has
    /// an earlier sound parse of it should go on with that.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty() && self.left_out.is_empty() && !self.template
    }

    fn pass_over(&mut self, kind: &str) {
        *self.ignored.entry(kind.to_owned()).or_default() += 1;
    }

    /// What objects that were never written in a file are put into, by [`add`]. Findings about them name
    /// `name` as their place; an empty name, none.
    #[must_use]
    pub fn listed(name: &str) -> Self {
        Self::empty(Arc::from(name), Arc::from(""))
    }

    pub(crate) fn empty(name: Arc<str>, text: Arc<str>) -> Self {
        Self {
            name,
            text,
            objects: Vec::new(),
            diagnostics: Vec::new(),
            errors: Vec::new(),
            left_out: Vec::new(),
            template: false,
            ignored: BTreeMap::new(),
            written: Vec::new(),
        }
    }
}

/// Everything that an input holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The cluster that it describes.
    pub snapshot: Snapshot,
    /// What is wrong or noteworthy in the objects and between them, in order of place.
    pub diagnostics: Vec<Diagnostic>,
    /// What could not be read.
    pub unreadable: Vec<InputError>,
    /// Why objects were left out, as in [`ParsedFile::left_out`].
    pub left_out: Vec<Diagnostic>,
    /// The files that were skipped since they are Helm templates.
    pub templates: Vec<Arc<str>>,
    /// How many objects of other kinds were passed over, by kind.
    pub ignored: BTreeMap<String, usize>,
    /// The NetworkPolicies as they were written, where [`Options::keep_policies`] asks for that.
    pub written: Vec<Written>,
    /// The texts, for quoting.
    pub sources: Sources,
}

impl Loaded {
    /// Whether the snapshot has everything that counts here. Where not, an answer from it may be
    /// about another cluster than the input's.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unreadable.is_empty() && self.left_out.is_empty() && self.templates.is_empty()
    }

    /// Adds what could not be read and what is noteworthy before any file was parsed.
    pub fn add_failures(&mut self, errors: Vec<InputError>, notes: Vec<Diagnostic>) {
        self.unreadable.splice(0..0, errors);
        self.diagnostics.extend(notes);
        self.diagnostics.sort();
    }
}

/// The objects of `text`, which was read from `name`.
#[must_use]
pub fn parse_file(name: &str, text: &str, options: &Options) -> ParsedFile {
    let mut parsed = ParsedFile::empty(Arc::from(name), Arc::from(text));
    match crate::yaml::parse(text) {
        Ok(nodes) => {
            for node in nodes {
                document::add(&mut parsed, node, options);
            }
        }
        Err(error) => match document::helm_placeholder(text) {
            Some(position) => document::skip_template(&mut parsed, position, "the file"),
            None => parsed.errors.push(InputError::Yaml { file: parsed.name.clone(), error }),
        },
    }
    parsed
}

#[cfg(test)]
mod tests;
