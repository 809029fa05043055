//! Tests that send real packets. Each makes network namespaces of its own.

mod cases;
mod differential;
mod lab;
mod random;
