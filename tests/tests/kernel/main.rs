//! Tests that send real packets. Each makes network namespaces of its own.

mod bridge;
mod cases;
mod daemon;
mod differential;
mod lab;
mod random;
