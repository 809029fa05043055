//! policyd against the kernel, in network namespaces of its own, under both iptables backends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

mod agent;
mod contention;
mod dataplane;
mod denied;
mod drift;
mod hostile;
mod http;
mod inspect;
mod load;
mod node;
mod program;
mod sets;
mod start;
mod verify;
