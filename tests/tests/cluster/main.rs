//! Tests against a real API server: nodes and pods as network namespaces, policyd as a process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

/// Declares tests that need an API server; each is a function of the same name.
macro_rules! cluster_tests {
    ($($scenario:ident),* $(,)?) => {
        mod cluster {
            $(#[test]
            fn $scenario() {
                let name = concat!(module_path!(), "::", stringify!($scenario));
                // The first part of the path is the crate's.
                let name = name.split_once("::").unwrap().1;
                policy_tests::cluster::assets::cluster_test(name, super::$scenario);
            })*
        }
    };
}
use cluster_tests;

mod api_server;
mod beginnings;
mod changes;
mod churn;
mod crowd;
mod envelope;
mod latency;
mod long;
mod reports;
mod scale;
mod scope;
mod scope_size;
mod services;
mod usage;
mod wiring;
