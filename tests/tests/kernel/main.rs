//! Tests that send real packets. Each makes network namespaces of its own.

mod differential;
mod lab;
mod random;
