//! `policyc` run as a process on small inputs.

#![cfg(test)]

mod examples;
mod golden;
mod live;
mod readme;
mod run;
mod schema;
mod statuses;
