//! The lab: nodes and pods as network namespaces of one process, judged by real packets.
//!
//! ```text
//!              external ──ext/node0── node 0 ──peer/peer── node 1
//!                                     │ routed: a veth per pod, host routes
//!                                     │ bridged: cni0 with br_netfilter
//!                                    pods                  pods
//! ```
//!
//! A [`lab::Lab`] is built once for a backend, a wiring and a number of nodes. Each case of flows is
//! laid onto it ([`placement`]), its rules are loaded ([`enforcement`]), all of its packets are sent
//! at once ([`probe`]), and everything is taken away again.
//!
//! No namespace has a name: each is held by descriptors of this process, so whatever ends the
//! process, Ctrl-C and `kill -9` included, ends the lab with all of its links, rules and sets. The
//! namespace that the process was started in is never touched.

pub mod bench;
pub mod cluster;
pub mod conntrack;
pub mod daemon;
pub mod demo;
pub mod enforcement;
pub mod error;
pub mod faults;
pub mod generate;
pub mod in_kernel;
pub mod lab;
pub mod namespace;
pub mod packet;
pub mod placement;
pub mod privilege;
pub mod probe;
pub mod rtnetlink;
pub mod socket;
pub mod verdicts;
pub mod vigil;
