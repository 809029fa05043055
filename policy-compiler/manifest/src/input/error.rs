//! Why an input cannot be read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::document::{Location, Position};

use crate::source;
use crate::yaml::YamlError;

/// Why a file, a directory or a document in one cannot be read. Every message names the input.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InputError {
    /// Nothing has that name.
    #[error("{}: no such file or directory", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// It may not be read.
    #[error("{}: permission denied", path.display())]
    Permission {
        /// What was asked for.
        path: PathBuf,
    },
    /// The system fails to read it in some other way.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// What was asked for.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// It is too much for a manifest.
    #[error("{}: larger than {mebibytes} MiB", path.display())]
    TooLarge {
        /// What was asked for.
        path: PathBuf,
        /// How much is read at most.
        mebibytes: u64,
    },
    /// It is no text.
    #[error("{file}:{}:{}: not UTF-8 text{hint}", position.line, position.column)]
    NotUtf8 {
        /// The input's name.
        file: Arc<str>,
        /// Where the first wrong byte stands.
        position: Position,
        /// What it may be instead, to follow the message.
        hint: &'static str,
    },
    /// It is text, but neither YAML nor JSON.
    #[error("{}", yaml_message(file, error))]
    Yaml {
        /// The input's name.
        file: Arc<str>,
        /// What is wrong, and where.
        error: YamlError,
    },
    /// A document that is no Kubernetes object, or not the one that it says it is.
    #[error("{diagnostic}")]
    NotAnObject {
        /// Where it stands, and what it is or lacks.
        diagnostic: Box<Diagnostic>,
    },
}

impl InputError {
    /// What the failure of reading `path` means.
    pub(super) fn of_io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => InputError::NotFound { path },
            io::ErrorKind::PermissionDenied => InputError::Permission { path },
            _ => InputError::Io { path, source: Arc::new(error) },
        }
    }

    /// The place that it speaks of, as far as it is known.
    #[must_use]
    pub fn location(&self) -> Location {
        match self {
            InputError::NotFound { path }
            | InputError::Permission { path }
            | InputError::TooLarge { path, .. }
            | InputError::Io { path, .. } => {
                Location { file: Some(Arc::from(path.display().to_string())), position: None }
            }
            InputError::NotUtf8 { file, position, .. } => {
                Location { file: Some(file.clone()), position: Some(*position) }
            }
            InputError::Yaml { file, error } => {
                Location { file: Some(file.clone()), position: Some(error.position) }
            }
            InputError::NotAnObject { diagnostic } => diagnostic.location.clone(),
        }
    }
}

/// `base.yaml:3:5: not YAML: ..` and the line under it.
fn yaml_message(file: &str, error: &YamlError) -> String {
    let Position { line, column } = error.position;
    let message = format!("{file}:{line}:{column}: {}", error.kind);
    match &error.line {
        Some(text) => format!("{message}\n{}", source::quote(text, error.position)),
        None => message,
    }
}
