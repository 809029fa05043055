//! PC001 and PC002: what the decoder found, and a null peer as PC008.

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Node;
use crate::lint::Found;
use crate::lint::finding::Finding;
use crate::lint::rule::Rule;
use crate::lint::scene::Scene;
use crate::lint::written::Written;

fn finding(rule: Rule, diagnostic: &Diagnostic) -> Finding {
    Finding {
        location: diagnostic.location.clone(),
        rule,
        object: diagnostic.object.clone(),
        field: diagnostic.field.clone(),
        severity: diagnostic.severity,
        message: diagnostic.message.clone(),
        fix: diagnostic.help.clone(),
        related: Vec::new(),
    }
}

fn about_policies<'s>(scene: &'s Scene<'_>) -> impl Iterator<Item = &'s Diagnostic> {
    let of_policy = |d: &&Diagnostic| d.object.as_ref().is_some_and(|o| o.kind == "NetworkPolicy");
    scene.material.diagnostics.iter().filter(of_policy)
}

/// Errors. An item of `from` or `to` with nothing in it is the indentation's.
pub(super) fn invalid(scene: &Scene<'_>, found: &mut Found) {
    for diagnostic in about_policies(scene).filter(|d| d.severity == Severity::Error) {
        let rule = if is_null_peer(scene, diagnostic) { Rule::Indentation } else { Rule::Invalid };
        found.add(finding(rule, diagnostic));
    }
}

fn is_null_peer(scene: &Scene<'_>, diagnostic: &Diagnostic) -> bool {
    let (list, item) = diagnostic.field.rsplit_once('[').unwrap_or_default();
    let key = list.rsplit_once('.').map(|(_, key)| key);
    let peer = matches!(key, Some("from" | "to")) && item.ends_with(']');
    let same = |written: &&Written| {
        Some(&written.object()) == diagnostic.object.as_ref()
            && written.file == diagnostic.location.file
            && written.field(&diagnostic.field).is_some_and(Node::is_null)
    };
    peer && scene.material.written.iter().any(|written| same(&written))
}

/// Warnings about the notation of networks.
pub(super) fn host_bits(scene: &Scene<'_>, found: &mut Found) {
    for diagnostic in about_policies(scene).filter(|d| d.severity == Severity::Warning) {
        if diagnostic.field.contains(".ipBlock.") {
            found.add(finding(Rule::HostBits, diagnostic));
        }
    }
}
