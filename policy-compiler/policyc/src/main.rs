//! policyc.
fn main() {}
