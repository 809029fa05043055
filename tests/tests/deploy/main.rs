//! What is shipped to run in a cluster: the manifests, the image, and what the README says of both.
//!
//! Nothing here needs a cluster or a container engine. What the image does once it runs is shown by the
//! kernel tests of `image`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod image;
mod kustomize;
mod manifests;
mod readme;

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the workspace.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the project, by its path from the top.
fn text(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
