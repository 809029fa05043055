//! What a node has with no policy engine: the chains of kube-proxy, without a service.
//!
//! Conntrack is at work and packets are offered to table nat, as on any node. Services would make
//! every new flow dearer, and so whatever is measured against it look cheaper.

use crate::bench::path::{Passage, Tally};

/// The rules of it that count what comes through a node, and what it sends. Where `established` is false
/// somebody accepts established packets before they come here.
pub(super) fn tallies(established: bool) -> Vec<Tally> {
    let forwarded: &[Passage] = if established { &[Passage::Established] } else { &[] };
    vec![
        Tally::new("forwarded", &["CNI-FORWARD"], "-j ACCEPT", &[Passage::Allowed]),
        Tally::new("forwarded as established", &["KUBE-FORWARD"], "-j ACCEPT", forwarded),
        Tally::new("invalid", &["KUBE-FORWARD"], "-j DROP", &[]),
        Tally::new("sent", &["OUTPUT"], "-j KUBE-FIREWALL", &[Passage::Sent]),
    ]
}

/// Input of `iptables-restore`. Its last rule of FORWARD counts what nobody has dropped, as a network
/// plugin's does.
pub const PROXY: &str = "\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
COMMIT
*filter
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:CNI-FORWARD - [0:0]
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -j CNI-FORWARD
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A CNI-FORWARD -s 10.244.0.0/15 -j ACCEPT
COMMIT
";
