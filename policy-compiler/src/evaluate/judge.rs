//! One half of a verdict: what the policies of one pod say to a flow, before the wire has its say.

use std::collections::BTreeSet;

use crate::cluster::Pod;
use crate::flow::{Flow, Traffic, Wire};
use crate::name::NodeName;
use crate::policy::{Direction, Policy};
use crate::verdict::{AuditTrace, Because, Decision, Half, PolicyTrace, Ruling};

use super::party::{Index, Party};
use super::rule::Question;

/// A half, and the rulings that its decision rests on.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) half: Half,
    pub(super) rulings: BTreeSet<Ruling>,
}

impl Judged {
    /// Whether some policy isolates the subject.
    pub(super) fn isolated(&self) -> bool {
        !self.half.policies.is_empty()
    }

    /// Decides otherwise than the policies do, and than they would; their traces stay.
    pub(super) fn overrule(
        &mut self,
        decision: Decision,
        because: Because,
        rulings: BTreeSet<Ruling>,
    ) {
        self.half.decision = decision;
        self.half.because = because;
        self.rulings = rulings;
        self.overrule_audits(decision);
    }

    /// Decides so were any of the audited policies enforced.
    pub(super) fn overrule_audits(&mut self, decision: Decision) {
        for audit in &mut self.half.audits {
            audit.decision = decision;
        }
    }
}

impl<'a> Index<'a> {
    /// Judges the half of `own`, whose connection is with `other`.
    pub(super) fn judge(
        &self,
        direction: Direction,
        own: &Party<'a>,
        other: &Party<'a>,
        flow: &Flow,
    ) -> Judged {
        let half = self.half(direction, own, other, flow);
        let mut rulings = BTreeSet::new();
        let policed = matches!(
            half.because,
            Because::RuleAllows | Because::NoRuleAllows | Because::RuleMayAllow
        );
        if policed && !matches!(flow.traffic, Traffic::Port { .. }) {
            rulings.insert(Ruling::OtherProtocols);
        }
        if policed && flow.wire == Wire::Translated {
            rulings.insert(Ruling::Translated);
        }
        if half.because != Because::NoAddress {
            self.weigh_readings(direction, own, other, flow, half.decision, &mut rulings);
        }
        Judged { half, rulings }
    }

    /// Adds the rulings on who stands at an end, where another reading decides otherwise.
    fn weigh_readings(
        &self,
        direction: Direction,
        own: &Party<'a>,
        other: &Party<'a>,
        flow: &Flow,
        decision: Decision,
        rulings: &mut BTreeSet<Ruling>,
    ) {
        let differs = |own: &Party<'a>, other: &Party<'a>| {
            self.half(direction, own, other, flow).decision != decision
        };
        let shared = own.pods.iter().skip(1).any(|pod| differs(&own.as_only(pod), other))
            || (other.pods.len() > 1
                && other.pods.iter().any(|pod| differs(own, &other.as_only(pod))));
        if shared {
            rulings.insert(Ruling::SharedAddress);
        }
        let host = own.host_pod.is_some_and(|pod| differs(&own.as_only(pod), other))
            || other.host_pod.is_some_and(|pod| differs(own, &other.as_only(pod)));
        if host {
            rulings.insert(Ruling::HostNetwork);
        }
    }

    /// What the policies of `own` say.
    pub(super) fn half(
        &self,
        direction: Direction,
        own: &Party<'a>,
        other: &Party<'a>,
        flow: &Flow,
    ) -> Half {
        let Some(pod) = own.subject() else {
            let (decision, because) = match &own.absent {
                Some(_) => (Decision::Denied, Because::NoAddress),
                None => (Decision::Allowed, Because::NotAPod),
            };
            let subject = own.absent.clone();
            return Half { subject, decision, because, policies: Vec::new(), audits: Vec::new() };
        };
        let question = Question { index: self, direction, pod, other, flow };
        let (isolating, auditing) = self.selecting(pod, direction);
        let policies = traces(&question, isolating);
        let (decision, because) = if own.absent.is_some() {
            (Decision::Denied, Because::NoAddress)
        } else if let Some(node) = own_node(pod, other) {
            (Decision::Allowed, Because::OwnNode(node.clone()))
        } else if policies.is_empty() {
            (Decision::Allowed, Because::NotIsolated)
        } else {
            match best(&policies) {
                Decision::Allowed => (Decision::Allowed, Because::RuleAllows),
                Decision::Denied => (Decision::Denied, Because::NoRuleAllows),
                Decision::Unknown => (Decision::Unknown, Because::RuleMayAllow),
            }
        };
        let policed = !matches!(because, Because::NoAddress | Because::OwnNode(_));
        let audits = traces(&question, auditing).into_iter().map(|trace| {
            // Were it enforced, it would be one more that isolates, and one more that may allow.
            let joined = best(&policies).or(trace.decision);
            AuditTrace { decision: if policed { joined } else { decision }, trace }
        });
        let audits = audits.collect();
        Half { subject: Some(pod.key.clone()), decision, because, policies, audits }
    }
}

/// What each of `policies` says.
fn traces(question: &Question<'_, '_>, policies: Vec<&Policy>) -> Vec<PolicyTrace> {
    let trace = |policy: &Policy| {
        let rules: Vec<_> = policy
            .rules(question.direction)
            .iter()
            .enumerate()
            .map(|(index, rule)| question.rule(index, rule))
            .collect();
        PolicyTrace {
            policy: policy.key.clone(),
            location: policy.location.clone(),
            pod_selector: policy.pod_selector.clone(),
            decision: rules.iter().map(|rule| rule.decision).fold(Decision::Denied, Decision::or),
            rules,
        }
    };
    policies.into_iter().map(trace).collect()
}

/// The best that any of the policies says.
fn best(policies: &[PolicyTrace]) -> Decision {
    policies.iter().map(|trace| trace.decision).fold(Decision::Denied, Decision::or)
}

/// The node of `pod`, if `other` is that node.
fn own_node<'p>(pod: &'p Pod, other: &Party<'_>) -> Option<&'p NodeName> {
    pod.node.as_ref().filter(|node| other.nodes.contains(node))
}
