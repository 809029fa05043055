//! policyd against the kernel, in network namespaces of its own, under both iptables backends.

mod dataplane;
mod node;
mod program;
