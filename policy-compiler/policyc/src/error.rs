//! Why a command cannot answer. Each of these exits with 2, after what could be answered.

use std::io;

use crate::diff::GitError;
use crate::live::LiveError;

/// A command failed; nothing, or not all, could be answered.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The cluster cannot be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A git revision cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// What was asked about is not in the input.
    #[error("{what} `{name}` is not in the input")]
    NotFound {
        /// The kind of thing, such as `pod`.
        what: &'static str,
        /// As it was named.
        name: String,
        /// The nearest that are there.
        nearest: Vec<String>,
        /// Whatever else helps.
        help: Option<String>,
    },
    /// An argument that means nothing, or nothing here.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// How it would be right.
        help: Option<String>,
    },
    /// The result could not be written.
    #[error("cannot write {what}")]
    Write {
        /// What was to be written.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl CommandError {
    /// A usage error with a hint.
    #[must_use]
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: Some(help.into()) }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            CommandError::Live(error) => error.help(),
            CommandError::Git(error) => error.help(),
            CommandError::NotFound { nearest, help, .. } if nearest.is_empty() => help.clone(),
            CommandError::NotFound { nearest, .. } => {
                let names: Vec<String> = nearest.iter().map(|n| format!("`{n}`")).collect();
                Some(format!("did you mean {}?", crate::text::join(&names, "or")))
            }
            CommandError::Usage { help, .. } => help.clone(),
            CommandError::Write { .. } => None,
        }
    }
}
