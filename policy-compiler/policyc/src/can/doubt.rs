//! What is in doubt about a pod that is told by its labels alone.

use crate::answer::Outcome;
use crate::text::count;

use super::{Answer, HalfAnswer, PolicyAnswer, RuleAnswer};

impl Answer {
    /// Makes what of this, which is sure, differs from `may`, which is possible, one that cannot be told.
    pub(super) fn doubt(&mut self, may: &Answer) {
        if self.decision != may.decision {
            self.decision = Outcome::Unknown;
            self.changes.clear();
        }
        half(&mut self.egress, &may.egress);
        half(&mut self.ingress, &may.ingress);
    }
}

fn half(half: &mut HalfAnswer, may: &HalfAnswer) {
    if half.decision != may.decision {
        half.decision = Outcome::Unknown;
        half.because = "ruleMayAllow";
        let policies = count(half.policies.len(), "policy", "policies");
        half.summary =
            format!("isolated by {policies}, a rule may allow it but the input does not tell");
    }
    for (policy, may) in half.policies.iter_mut().zip(&may.policies) {
        self::policy(policy, may);
    }
}

fn policy(policy: &mut PolicyAnswer, may: &PolicyAnswer) {
    if policy.decision != may.decision {
        policy.decision = Outcome::Unknown;
    }
    for (rule, may) in policy.rules.iter_mut().zip(&may.rules) {
        self::rule(rule, may);
    }
}

fn rule(rule: &mut RuleAnswer, may: &RuleAnswer) {
    if rule.decision != may.decision {
        rule.decision = Outcome::Unknown;
    }
    for (port, may) in rule.ports.iter_mut().zip(&may.ports) {
        if port.decision != may.decision {
            port.decision = Outcome::Unknown;
            port.outcome = "nameUnknown";
            "which number the pod calls so the input does not tell".clone_into(&mut port.reason);
        }
    }
    // What is possible has peers besides: namespaces of which only the name is known.
    let besides = may.peers.iter().skip(rule.peers.len());
    if besides.into_iter().all(|peer| peer.decision == Outcome::Denied) {
        return;
    }
    for peer in rule.peers.iter_mut().filter(|peer| peer.outcome == "namespaceMiss") {
        peer.decision = Outcome::Unknown;
        peer.outcome = "namespaceUnknown";
        "which labels the namespace has the input does not tell".clone_into(&mut peer.reason);
    }
}
