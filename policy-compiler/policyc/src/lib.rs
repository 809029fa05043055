//! `policyc`: says what NetworkPolicies allow, and why, from manifests and
//! from live clusters.
//!
//! ```text
//!  args ──> input (manifests, live cluster) ──> explain, can ──> an answer as data ──┬──> text
//!                                 └────> render, test, lint ──>                     └──> JSON, YAML
//! ```
//!
//! Every command makes an answer as data first; text, JSON and YAML are written from that, so that
//! they cannot disagree. Verdicts come from `policy_compiler::evaluate` alone. Results go to standard
//! output, diagnostics to standard error; what went wrong decides the [`status::Status`].

pub mod answer;
pub mod args;
pub mod can;
pub mod complete;
pub mod described;
pub mod diff;
pub mod error;
pub mod explain;
pub mod graph;
pub mod input;
pub mod lint;
pub mod live;
pub mod matrix;
pub mod output;
pub mod page;
pub mod phrase;
pub mod progress;
pub mod question;
pub mod relations;
pub mod render;
pub mod report;
pub mod run;
pub mod scene;
pub mod schema;
pub mod status;
pub mod subject;
pub mod suggest;
pub mod test;
pub mod text;
pub mod who_can;
pub mod yaml;
