//! policyd.
fn main() {}
