//! `policyc` run as a process on small inputs.

#![cfg(test)]

mod diff;
mod examples;
mod golden;
mod lint;
mod live;
mod pictures;
mod readme;
mod run;
mod sarif;
mod schema;
mod statuses;
