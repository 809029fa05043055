//! Which pod of the new side is which of the old.
//!
//! A pod that both sides call the same is the same. Names of replicas come and go, so what is left of a
//! workload that both sides have is paired in the order of the names, and where one side has more, the
//! last of the other stands for what the workload was; a template stands for all. What is left then
//! belongs to workloads that one side lacks. Pods that have finished are on no side.

use std::collections::BTreeMap;

use policy_compiler::cluster::{Phase, Pod, Snapshot};
use policy_compiler::name::ObjectKey;

use crate::phrase;

/// A pod on both sides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair<'a> {
    /// What it is called on the old side.
    pub(super) old: &'a ObjectKey,
    /// What it is called on the new side.
    pub(super) new: &'a ObjectKey,
}

/// The pods of two sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairing<'a> {
    /// Those of both, in the order of workloads. A pod may be in several.
    pub(super) both: Vec<Pair<'a>>,
    /// Those of workloads that only the old side has.
    pub(super) gone: Vec<&'a ObjectKey>,
    /// Those of workloads that only the new side has.
    pub(super) come: Vec<&'a ObjectKey>,
}

/// The pods of one workload on one side, in order.
type Members<'a> = BTreeMap<(String, String, String), Vec<&'a Pod>>;

/// Pairs the pods of `old` and `new`.
#[must_use]
pub(super) fn pairs<'a>(old: &'a Snapshot, new: &'a Snapshot) -> Pairing<'a> {
    let (old, mut new) = (members(old), members(new));
    let mut pairing = Pairing::default();
    for (workload, was) in old {
        match new.remove(&workload) {
            Some(is) => pair_workload(&was, &is, &mut pairing.both),
            None => pairing.gone.extend(was.iter().map(|pod| &pod.key)),
        }
    }
    pairing.come.extend(new.into_values().flatten().map(|pod| &pod.key));
    pairing
}

fn members(snapshot: &Snapshot) -> Members<'_> {
    let mut members = Members::new();
    for pod in snapshot.pods.values().filter(|pod| pod.phase != Phase::Finished) {
        members.entry(phrase::workload_of(pod)).or_default().push(pod);
    }
    members
}

fn pair_workload<'a>(was: &[&'a Pod], is: &[&'a Pod], both: &mut Vec<Pair<'a>>) {
    let lacks = |pods: &[&Pod], key: &ObjectKey| pods.iter().all(|pod| pod.key != *key);
    let left: Vec<&Pod> = was.iter().copied().filter(|pod| lacks(is, &pod.key)).collect();
    let right: Vec<&Pod> = is.iter().copied().filter(|pod| lacks(was, &pod.key)).collect();
    let same: Vec<&Pod> = was.iter().copied().filter(|pod| !lacks(is, &pod.key)).collect();
    both.extend(same.iter().map(|pod| Pair { old: &pod.key, new: &pod.key }));
    // Who has no counterpart of its own is compared with one of the replicas that are there.
    let left = if left.is_empty() && !right.is_empty() { last(&same) } else { left };
    let right = if right.is_empty() && !left.is_empty() { last(&same) } else { right };
    for i in 0..left.len().max(right.len()) {
        let at = |pods: &[&'a Pod]| pods.get(i).or(pods.last()).map(|pod| &pod.key);
        if let (Some(old), Some(new)) = (at(&left), at(&right)) {
            both.push(Pair { old, new });
        }
    }
}

fn last<'a>(pods: &[&'a Pod]) -> Vec<&'a Pod> {
    pods.last().copied().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use policy_manifest::input::{Options, merge, parse_file};

    fn snapshot(names: &[(&str, &str)]) -> Snapshot {
        let pod = |(name, owner): &(&str, &str)| {
            let reference = format!(
                "{{apiVersion: apps/v1, kind: StatefulSet, name: {owner}, uid: u, controller: true}}"
            );
            let references = if owner.is_empty() { String::new() } else { reference };
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, \
                 ownerReferences: [{references}]}}}}\n---\n"
            )
        };
        let text: String = names.iter().map(pod).collect();
        merge([&parse_file("a.yaml", &text, &Options::default())]).snapshot
    }

    fn paired(old: &[(&str, &str)], new: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let (old, new) = (snapshot(old), snapshot(new));
        let pairing = pairs(&old, &new);
        let both = pairing.both.iter().map(|p| format!("{} {}", p.old.name, p.new.name));
        let gone = pairing.gone.iter().map(|key| format!("-{}", key.name));
        let come = pairing.come.iter().map(|key| format!("+{}", key.name));
        (both.collect(), gone.chain(come).collect())
    }

    #[test]
    fn replicas_are_paired_by_name_then_by_workload_and_none_is_left() {
        let web = |name| (name, "web");
        for (why, old, new, expected) in [
            ("the same", vec![web("a"), web("b")], vec![web("a"), web("b")], vec!["a a", "b b"]),
            ("rolled out", vec![web("a"), web("b")], vec![web("c"), web("d")], vec!["a c", "b d"]),
            (
                "one replaced",
                vec![web("a"), web("b")],
                vec![web("b"), web("c")],
                vec!["b b", "a c"],
            ),
            ("more", vec![web("a")], vec![web("a"), web("b"), web("c")], vec!["a a", "a b", "a c"]),
            ("less", vec![web("a"), web("b"), web("c")], vec![web("d")], vec!["a d", "b d", "c d"]),
        ] {
            assert_eq!(
                paired(&old, &new),
                (expected.iter().map(ToString::to_string).collect(), vec![]),
                "{why}"
            );
        }
    }

    #[test]
    fn what_one_side_lacks_has_gone_or_come() {
        let (both, rest) = paired(&[("a", ""), ("b-0", "b")], &[("a", ""), ("c", "")]);
        assert_eq!(
            (both, rest),
            (vec!["a a".to_owned()], vec!["-b-0".to_owned(), "+c".to_owned()])
        );
    }
}
