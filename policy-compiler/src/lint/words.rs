//! How pods, peers and lists are put into words.

use std::collections::BTreeSet;

use super::scene::Scene;
use crate::cluster::Pod;
use crate::name::NamespaceName;
use crate::policy::{NamespaceScope, PeerSelects};
use crate::selector::Selector;

/// How many names a message has before it only counts.
const NAMED: usize = 3;

/// `a`, `a and b`, `a, b and 2 more`.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] if items.len() <= NAMED => format!("{} and {last}", most.join(", ")),
        [first @ .., _] => {
            let named = first[..NAMED - 1].join(", ");
            format!("{named} and {} more", items.len() - (NAMED - 1))
        }
    }
}

/// `1 pod`, `2 pods`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A pod by the workload that made it: `shop/web`.
pub(super) fn workload(pod: &Pod) -> String {
    match &pod.workload {
        Some(workload) => format!("{}/{}", pod.key.namespace, workload.name),
        None => pod.key.to_string(),
    }
}

impl Scene<'_> {
    /// The pods of classes by their workloads: `shop/api and shop/web`.
    pub(super) fn pods(&self, classes: &[usize]) -> String {
        let names: BTreeSet<String> =
            classes.iter().flat_map(|c| &self.classes[*c].pods).map(|pod| workload(pod)).collect();
        list(names)
    }
}

/// Whom a pod peer means: `pods app=web in shop`.
pub(super) fn peer(selects: &PeerSelects, own: &NamespaceName) -> String {
    match selects {
        PeerSelects::Block(block) => block.to_string(),
        PeerSelects::Pods { namespaces, pods } => {
            let pods = pods_of(pods);
            match namespaces {
                NamespaceScope::Own => format!("{pods} in {own}"),
                NamespaceScope::Matching(all) if all.is_everything() => {
                    format!("{pods} in any namespace")
                }
                NamespaceScope::Matching(selector) => format!("{pods} in namespaces {selector}"),
            }
        }
    }
}

/// `pods app=web`, `every pod`.
pub(super) fn pods_of(selector: &Selector) -> String {
    if selector.is_everything() { "every pod".to_owned() } else { format!("pods {selector}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_ends_in_a_count() {
        let of = |n: usize| list(["a", "b", "c", "d", "e"].iter().take(n).map(ToString::to_string));
        assert_eq!(
            [of(0), of(1), of(2), of(3), of(4), of(5)],
            ["", "a", "a and b", "a, b and c", "a, b and 2 more", "a, b and 3 more"]
        );
    }
}
