//! Kubernetes manifests as people write them, and the project's case format.
//!
//! ```text
//!  text ──yaml──> document::Node ──decode──> objects ──input──> Loaded { snapshot, diagnostics, .. }
//!                                                                  │
//!  test.yaml ──case──> Case { snapshot, expectations } <───────────┘
//!                        └──judge──> Judgement: evaluate and simulate(compile) against the table
//! ```
//!
//! This crate reads files; everything behind it is pure. Nothing here stops at the first bad file:
//! what can be read is loaded, what cannot is named with file and line.

pub mod address;
pub mod case;
pub mod input;
pub mod judge;
pub mod source;
pub mod yaml;
