//! Kubernetes NetworkPolicy, compiled, evaluated and simulated. Pure: objects in, rulesets and
//! verdicts out; no IO, no clock, no environment, and nothing whose order is random.
//!
//! ```text
//!  document ──> policy, cluster ──┬──> evaluate ──> Verdict          what is right, and why
//!  (YAML, JSON)  (never invalid)  │                    ║ law: equal
//!                                 └──> compile ───> Ruleset ──> simulate(Packet)
//!                                        │             │
//!                 Event ──> engine ──────┘             └──> render ──> iptables-restore, ipset
//!                             └──> Update (ordered steps)
//! ```

pub mod cidr;
pub mod cluster;
pub mod compile;
pub mod config;
pub mod decode;
pub mod diagnostic;
pub mod document;
pub mod engine;
pub mod evaluate;
pub mod flow;
mod index;
pub mod labels;
#[cfg(test)]
mod laws;
pub mod lint;
mod lookup;
pub mod name;
pub mod packed;
pub mod packet;
pub mod policy;
pub mod pool;
pub mod port;
pub mod reach;
pub mod render;
pub mod ruleset;
pub mod scope;
pub mod selector;
pub mod simulate;
pub mod update;
pub mod verdict;
