//! `make bench`, the kernel's side: what policies cost packets, and what events cost the node.
//!
//! ```text
//!  shape ──> layout (ours, linear, none) ──> road ──┐
//!                                traffic ───────────┴─ duel ──> rows ──> report: table, JSON, SVG
//!                                path: counters prove the way      statistics: quads, medians
//! ```
//!
//! Everything is in network namespaces of its own. A target that is missed is reported; packets that
//! did not go the way that is measured end the benchmark ([`BenchError::Path`]), for their speed means
//! nothing. `controller/docs/benchmarks.md` says what each figure is.

pub mod duel;
pub mod enforced;
mod error;
pub mod layout;
pub mod path;
pub mod processor;
pub mod report;
pub mod road;
pub mod rows;
pub mod shape;
pub mod statistics;
pub mod traffic;

pub use self::error::BenchError;
