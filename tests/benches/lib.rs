//! What the benchmarks of the engine have in common.
//!
//! `cargo bench --profile measure --package policy-benches` runs them: `engine` with the statistics of
//! criterion, `scale` as percentiles beside their targets, `memory` as bytes, `scope` as counts of what nodes
//! watch.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]
#![allow(clippy::missing_panics_doc, reason = "a benchmark that cannot be set up ends")]

pub mod figures;
pub mod scene;
