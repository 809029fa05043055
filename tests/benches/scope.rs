//! What a node watches with `--scoped-watch`: of how many nodes' policies all pods of the cluster are
//! peers, and why, and what share of them a node watches that is spared that. Counts, which depend on no
//! machine; the cluster is the one that is generated.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]
#![allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]

use std::collections::BTreeMap;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::name::NodeName;
use policy_compiler::scope::{Limits, Scope, Whole, is_local};
use policy_tests::bench::statistics::quantile;
use policy_tests::generate::{Cluster, Size};

/// Of how many nodes.
const NODES: usize = 200;

fn main() {
    for (name, size) in [("15,000 pods", Size::TENTH), ("150,000 pods", Size::ENVELOPE)] {
        let snapshot = Cluster::new(size, 1).snapshot();
        for (policies, leaving_out) in
            [("all policies", &[][..]), ("without those about the whole cluster", &WIDE)]
        {
            let mut part = snapshot.clone();
            part.policies.retain(|key, _| {
                !leaving_out.iter().any(|purpose| key.name.as_str().starts_with(purpose))
            });
            println!("{name}, {policies}:");
            nodes(&part);
        }
    }
}

/// What policies are called that are about pods of the whole cluster.
const WIDE: [&str; 2] = ["allow-telephony", "allow-selected"];

fn nodes(snapshot: &Snapshot) {
    let mut by_node: BTreeMap<&NodeName, Vec<&Pod>> = BTreeMap::new();
    for pod in snapshot.pods.values() {
        if let Some(node) = pod.node.as_ref().filter(|node| is_local(pod, node)) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    let every = (by_node.len() / NODES).max(1);
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut shares, mut watches) = (Vec::new(), Vec::new());
    let mut count = 0;
    for local in by_node.values().step_by(every) {
        count += 1;
        let scope = Scope::of(snapshot, snapshot.policies.values(), local, Limits::default());
        let why = match &scope.whole {
            None => {
                let held = |pod: &&Pod| scope.holds(&pod.key.namespace, &pod.labels);
                let held = snapshot.pods.values().filter(held).count();
                shares.push(100.0 * held as f64 / snapshot.pods.len() as f64);
                watches.push((scope.namespaces.len() + scope.across.len()) as f64);
                continue;
            }
            Some(Whole::NamedPorts(_)) => "named ports of pods wherever they are",
            Some(Whole::AllPods(_)) => "a peer is all pods",
            Some(Whole::Namespaces(_)) => "too many namespaces",
            Some(Whole::Selectors(_)) => "too many selectors",
        };
        *reasons.entry(why).or_default() += 1;
    }
    println!("  {} of {count} nodes watch a part", shares.len());
    for (why, nodes) in reasons {
        println!("  {nodes} watch every pod: {why}");
    }
    if !shares.is_empty() {
        let of = |samples: &[f64]| [0.1, 0.5, 0.9].map(|at| quantile(samples, at));
        println!("  share of the pods, percent (10 %, median, 90 %): {:.1?}", of(&shares));
        println!("  watches besides the node's own: {:.0?}", of(&watches));
    }
}
