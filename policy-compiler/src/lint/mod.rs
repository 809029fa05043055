//! What is legal and hardly meant, found in policies and told with the place and the remedy.
//!
//! ```text
//!  Material ──> Scene (who is selected, who is meant) ──> rules/* ──> Finding, Unchecked
//!  (snapshot, documents, texts)                                          │
//!  comments `# policyc:ignore PC013` ────────────────────────────────────┴──> Report
//! ```
//!
//! * Verdicts are those of [`crate::evaluate`], pods are meant by the selectors of [`crate::selector`];
//!   inclusion of selectors, address ranges and port ranges is decided exactly by [`selection`] and its
//!   neighbours. No rule guesses: what the input cannot tell is [`Unchecked`] and no defect.
//! * A rule that is invalid allows nothing and is [`Rule::Invalid`]'s alone.
//! * The report depends on the material only, and is in order of place.
//!
//! What an input is taken to tell: a whole cluster tells everything. Manifests tell of all pods of a
//! namespace if they have one of them, and of all namespaces if they declare one; namespaces that every
//! cluster has are always there.

mod addresses;
mod finding;
mod ignore;
mod ports;
mod rule;
mod rules;
mod scene;
pub mod selection;
mod suppress;
mod words;
mod written;

use std::sync::Arc;

pub use self::finding::{Finding, Related, Report, Spot, Unchecked};
pub use self::rule::{Rule, UnknownRule};
pub use self::written::Written;

use self::scene::Scene;
use crate::cluster::Snapshot;
use crate::diagnostic::Diagnostic;

/// What is looked through.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// What reading it found.
    pub diagnostics: &'a [Diagnostic],
    /// The NetworkPolicies as they were written. Rules about the writing look only at these.
    pub written: &'a [Written],
    /// The texts that comments are looked for in, by the names of their inputs.
    pub texts: &'a [(Arc<str>, Arc<str>)],
    /// Whether this is all of a cluster. Manifests may be a part of one.
    pub whole: bool,
}

/// Everything that the rules find in `material`.
#[must_use]
pub fn lint(material: &Material<'_>) -> Report {
    let mut found = Found::default();
    rules::audit::audited(material.snapshot, &mut found);
    let enforced = rules::audit::enforced(material.snapshot);
    let snapshot = enforced.as_ref().unwrap_or(material.snapshot);
    let enforced = Material { snapshot, ..*material };
    let scene = Scene::new(&enforced);
    for rule in rules::ALL {
        rule(&scene, &mut found);
    }
    found.prefer(Rule::Indentation, Rule::NoSuchPeer);
    suppress::conclude(material, found)
}

/// What the rules have found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    findings: Vec<Finding>,
    unchecked: std::collections::BTreeMap<(Rule, String), std::collections::BTreeSet<Spot>>,
}

impl Found {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Leaves `told` out where `better` says more of the same field.
    fn prefer(&mut self, better: Rule, told: Rule) {
        let place = |finding: &Finding| (finding.object.clone(), finding.field.clone());
        let better: std::collections::BTreeSet<_> =
            self.findings.iter().filter(|f| f.rule == better).map(place).collect();
        self.findings.retain(|f| f.rule != told || !better.contains(&place(f)));
    }

    /// Records that `rule` cannot say anything of `spot` for want of something.
    fn lacks(&mut self, rule: Rule, reason: impl Into<String>, spot: Spot) {
        self.unchecked.entry((rule, reason.into())).or_default().insert(spot);
    }
}
