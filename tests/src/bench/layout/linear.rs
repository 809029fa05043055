//! The layout that engines on iptables commonly have, for comparison: a list.
//!
//! ```text
//!  FORWARD        -j LIN-ENTRY
//!  LIN-ENTRY      four rules for each local pod, one behind another: -d and -s, routed and bridged
//!  LIN-P-<pod>    established: ACCEPT; from the node itself: ACCEPT; -j LIN-N-<policy> for each policy;
//!                 what bears no mark: told of, dropped; the mark is taken off
//!  LIN-N-<policy> two rules for each allow: one that marks what two sets and a port fit, one that returns
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Layout, Sets, ipset_restore, proxy};
use crate::bench::path::{Passage, Tally};
use crate::bench::shape::{Directions, FIRST_PORT, Shape};

/// The mark of a packet that some policy allows.
const MARK: &str = "0x10000/0x10000";

/// The layout of the shape's node.
pub(super) fn layout(shape: Shape) -> Layout {
    let mut sets: Sets = BTreeMap::new();
    let mut declared = String::from(":LIN-ENTRY - [0:0]\n");
    let mut rules = String::new();
    for namespace in 0..shape.namespaces() {
        sets.insert(format!("lin-m-{namespace}"), shape.members(namespace));
        for policy in 0..shape.policies {
            sets.insert(format!("lin-p-{namespace}-{policy}"), shape.peers(namespace, policy));
            // Writing to a string cannot fail.
            let _ = writeln!(declared, ":LIN-N-{namespace}-{policy} - [0:0]");
            policy_chain(&mut rules, shape, namespace, policy);
        }
        for pod in namespace * shape.together..(namespace + 1) * shape.together {
            let _ = writeln!(declared, ":LIN-P-{pod} - [0:0]");
            pod_chain(&mut rules, shape, namespace, pod);
        }
    }
    for pod in 0..shape.namespaces() * shape.together {
        let address = Shape::local(pod);
        for (side, bridged) in
            [("-d", ""), ("-d", " -i bridge0"), ("-s", ""), ("-s", " -i bridge0")]
        {
            let _ = writeln!(rules, "-A LIN-ENTRY {side} {address}/32{bridged} -j LIN-P-{pod}");
        }
    }
    let both = [Passage::Allowed, Passage::Allowed];
    let allowed: &[Passage] =
        if shape.directions == Directions::Both { &both } else { &[Passage::Allowed] };
    Layout {
        name: "linear",
        sets: ipset_restore(&sets),
        chains: format!("*filter\n{declared}{rules}COMMIT\n"),
        hooks: vec![("FORWARD", "-j LIN-ENTRY".to_owned())],
        tallies: [
            proxy::tallies(false),
            vec![
                Tally::new("found established", &["LIN-P-"], "-j ACCEPT", &[Passage::Established]),
                Tally::new("marked", &["LIN-N-"], "-j MARK", allowed),
                Tally::new("dropped", &["LIN-P-"], "-j DROP", &[Passage::Denied]),
            ],
        ]
        .concat(),
        polices: true,
    }
}

fn policy_chain(rules: &mut String, shape: Shape, namespace: u16, policy: u16) {
    let port = FIRST_PORT + policy;
    let protocol = shape.protocol.to_string().to_lowercase();
    let members = format!("lin-m-{namespace}");
    let peers = |policy: u16| format!("lin-p-{namespace}-{}", policy % shape.policies);
    let mut allow = |from: &str, to: &str| {
        let fits = format!(
            "-m set --match-set {from} src -m set --match-set {to} dst -p {protocol} -m {protocol} --dport {port}"
        );
        let _ = writeln!(rules, "-A LIN-N-{namespace}-{policy} {fits} -j MARK --set-xmark {MARK}");
        let _ =
            writeln!(rules, "-A LIN-N-{namespace}-{policy} {fits} -m mark --mark {MARK} -j RETURN");
    };
    allow(&peers(policy), &members);
    if shape.directions == Directions::Both {
        allow(&members, &peers(policy + 1));
    }
}

fn pod_chain(rules: &mut String, shape: Shape, namespace: u16, pod: u16) {
    let address = Shape::local(pod);
    let mut rule = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(rules, "-A LIN-P-{pod} {words}");
    };
    rule(format_args!("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    rule(format_args!("-d {address}/32 -m addrtype --src-type LOCAL -j ACCEPT"));
    for policy in 0..shape.policies {
        rule(format_args!("-j LIN-N-{namespace}-{policy}"));
    }
    let unmarked = format!("-m mark ! --mark {MARK}");
    rule(format_args!(
        "{unmarked} -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100"
    ));
    rule(format_args!("{unmarked} -j DROP"));
    rule(format_args!("-j MARK --set-xmark 0x0/0x10000"));
}
