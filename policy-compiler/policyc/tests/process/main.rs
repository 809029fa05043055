//! `policyc` run as a process on small inputs.

#![cfg(test)]

mod golden;
mod run;
mod schema;
mod statuses;
