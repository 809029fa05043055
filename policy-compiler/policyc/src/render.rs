//! `policyc render`: the rules of a node, as the kernel is given them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::NodeConfig;
use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::render;
use policy_compiler::ruleset::{FamilyRules, Ruleset, SetRole};
use serde::Serialize;

use crate::error::CommandError;
use crate::subject;

/// The rules of one node.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The node.
    pub node: NodeName,
    /// Its rules.
    pub ruleset: Ruleset,
    /// What the compiler has to say.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiles for the node called `node`, or for every node of the input.
///
/// # Errors
/// Where the input has no such node, or none at all.
pub fn of_nodes(snapshot: &Snapshot, node: Option<&str>) -> Result<Vec<Rendered>, CommandError> {
    let nodes: BTreeSet<NodeName> = match node {
        Some(name) => [subject::node(name, snapshot)?].into(),
        None => subject::nodes(snapshot),
    };
    if nodes.is_empty() {
        return Err(CommandError::usage(
            "the input has no node to render for",
            "rules are made for the pods of a node: give pods a `spec.nodeName`, or add a Node object",
        ));
    }
    Ok(nodes.into_iter().map(|node| compiled(snapshot, node)).collect())
}

/// Compiles for the node of the pod called `pod` as if it had no other.
///
/// # Errors
/// Where the input has no such pod, or it is on no node.
pub fn of_pod(
    snapshot: &Snapshot,
    pod: &str,
    namespace: &str,
) -> Result<Vec<Rendered>, CommandError> {
    let named = subject::pods(pod, snapshot, namespace)?;
    let mut all = Vec::new();
    for key in &named.pods {
        let node = snapshot.pods.get(key).and_then(|pod| pod.node.clone());
        let node = node.ok_or_else(|| {
            CommandError::usage(
                format!("{key} is on no node"),
                "rules are made for the node of a pod: give it a `spec.nodeName`",
            )
        })?;
        all.push(compiled(&alone(snapshot, key), node));
    }
    Ok(all)
}

fn compiled(snapshot: &Snapshot, node: NodeName) -> Rendered {
    let compiled = compile(snapshot, &NodeConfig::new(node.clone()));
    Rendered { node, ruleset: compiled.ruleset, diagnostics: compiled.diagnostics }
}

/// `snapshot` with every pod but `key` on no node: they are peers still.
fn alone(snapshot: &Snapshot, key: &ObjectKey) -> Snapshot {
    let mut snapshot = snapshot.clone();
    for (other, pod) in &mut snapshot.pods {
        if other != key {
            pod.node = None;
        }
    }
    snapshot
}

/// The rules of `families` as `ipset restore` and `iptables-restore` read them, each part behind a
/// comment that says what it is for.
#[must_use]
pub fn text(rendered: &[Rendered], families: &[Family]) -> String {
    // Writing to a String does not fail.
    let mut out = String::new();
    for one in rendered {
        for family in families {
            let rules = one.ruleset.family(*family);
            let node = &one.node;
            if !rules.sets.is_empty() {
                let _ = writeln!(out, "# node {node}, {family}: for `ipset restore`");
                out.push_str(&render::ipset_restore(&rules.sets));
            }
            let program = program(*family);
            let _ = writeln!(out, "# node {node}, {family}: for `{program} --noflush`");
            out.push_str(&render::ruleset(&one.ruleset, *family));
        }
    }
    out
}

fn program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }
}

/// All of it as data.
#[derive(Clone, Debug, Serialize)]
pub struct Rulesets {
    /// The nodes in order.
    pub nodes: Vec<NodeRules>,
}

/// The rules of a node as data.
#[derive(Clone, Debug, Serialize)]
pub struct NodeRules {
    /// Its name.
    pub node: String,
    /// By family.
    pub families: Vec<FamilyText>,
}

/// The rules of a family as data.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyText {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Our rule in each built-in chain, as words after `-A CHAIN`.
    pub hooks: Vec<ChainText>,
    /// Our chains in the order of their names.
    pub chains: Vec<ChainText>,
    /// Our sets in the order of their names.
    pub sets: Vec<SetText>,
}

/// A chain as data.
#[derive(Clone, Debug, Serialize)]
pub struct ChainText {
    /// Its name.
    pub chain: String,
    /// Its rules in order, each as the words after `-A CHAIN`.
    pub rules: Vec<Vec<String>>,
}

/// A set as data.
#[derive(Clone, Debug, Serialize)]
pub struct SetText {
    /// Its name.
    pub set: String,
    /// `hash:ip` or `hash:net`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its members in order.
    pub members: Vec<MemberText>,
}

/// A member of a set as data.
#[derive(Clone, Debug, Serialize)]
pub struct MemberText {
    /// The network; a whole address as /32 or /128.
    pub net: String,
    /// Whether what lies here, and in no longer entry, is not in the set.
    pub nomatch: bool,
}

/// The rules of `families` as data.
#[must_use]
pub fn data(rendered: &[Rendered], families: &[Family]) -> Rulesets {
    let node = |one: &Rendered| NodeRules {
        node: one.node.to_string(),
        families: families.iter().map(|f| family(*f, one.ruleset.family(*f))).collect(),
    };
    Rulesets { nodes: rendered.iter().map(node).collect() }
}

fn family(family: Family, rules: &FamilyRules) -> FamilyText {
    let words = |rules: &[policy_compiler::ruleset::Rule]| {
        rules.iter().map(render::rule_spec).collect::<Vec<_>>()
    };
    FamilyText {
        family: match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        },
        hooks: rules
            .hooks
            .iter()
            .map(|(hook, rule)| ChainText {
                chain: hook.builtin().to_owned(),
                rules: words(std::slice::from_ref(rule)),
            })
            .collect(),
        chains: rules
            .chains
            .iter()
            .map(|(name, chain)| ChainText { chain: name.to_string(), rules: words(&chain.rules) })
            .collect(),
        sets: rules
            .sets
            .iter()
            .map(|(name, set)| SetText {
                set: name.to_string(),
                kind: match name.role {
                    SetRole::Networks { .. } => "hash:net",
                    SetRole::Pods { .. } | SetRole::Isolated | SetRole::Known { .. } => "hash:ip",
                },
                members: set
                    .members
                    .iter()
                    .map(|member| MemberText {
                        net: member.net.to_string(),
                        nomatch: member.nomatch,
                    })
                    .collect(),
            })
            .collect(),
    }
}
