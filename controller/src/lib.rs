//! policyd: Kubernetes NetworkPolicy on a node.
//!
//! ```text
//!  source ──Listing──> sync ──Event──> Engine ──Update──> dataplane ──> ipset, iptables
//!                       └──> health (ready, not ready)
//! ```
//!
//! A source says what the cluster holds; the engine (of the compiler library) says what the kernel
//! should; the dataplane makes it so. One thread runs the loop and owns engine and dataplane.

pub mod again;
pub mod agent;
pub mod announce;
mod antispoof;
pub mod args;
pub mod cut;
pub mod dataplane;
pub mod denied;
mod excerpt;
pub mod findings;
pub mod health;
pub mod inspect;
#[cfg(test)]
mod laws;
pub mod logging;
pub mod metrics;
pub mod pace;
pub mod run;
pub mod serve;
pub mod show;
pub mod source;
pub mod sync;
pub mod taint;
