//! What ends a benchmark. A target that is missed does not.

use std::io;

use crate::error::LabError;

/// Why a benchmark could not be carried out, or proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A namespace, a program or a socket of the lab's failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The cluster that is measured is not what was meant.
    #[error("the measured cluster cannot be made: {0}")]
    Shape(String),
    /// Packets did not take the way that is measured, so that their speed says nothing.
    #[error("{row}, {arm}: {what}: {found} packets, and {expected} were to be")]
    Path {
        /// Of the table.
        row: String,
        /// Which side.
        arm: String,
        /// Which rules.
        what: String,
        /// How many packets met them.
        found: u64,
        /// How many should have.
        expected: String,
    },
    /// Something was asked of the system, and refused.
    #[error("cannot {operation}")]
    System {
        /// What.
        operation: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// policyd's dataplane did not do what it was to.
    #[error("policyd could not {operation}: {reason}")]
    Policyd {
        /// What.
        operation: &'static str,
        /// What it said.
        reason: String,
    },
}

impl BenchError {
    /// An error of the system's, by what was asked of it.
    pub(crate) fn system(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| BenchError::System { operation, source }
    }

    /// Whether a measurement proved nothing, for packets went elsewhere.
    #[must_use]
    pub fn is_wrong_path(&self) -> bool {
        matches!(self, BenchError::Path { .. })
    }
}
