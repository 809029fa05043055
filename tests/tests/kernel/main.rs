//! Tests that send real packets. Each makes network namespaces of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod bridge;
mod cases;
mod daemon;
mod denials;
mod differential;
mod image;
mod lab;
mod random;
mod standing;
