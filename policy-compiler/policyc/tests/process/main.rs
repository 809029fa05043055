//! `policyc` run as a process on small inputs.

#![cfg(test)]

mod api_server;
mod comparison;
mod diff;
mod diff_causes;
mod diff_live;
mod examples;
mod fixture;
mod golden;
mod lint;
mod live;
mod live_workloads;
mod pictures;
mod plugin;
mod readme;
mod robust;
mod run;
mod sarif;
mod schema;
mod statuses;
