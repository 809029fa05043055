//! Why something passes: the rules that let it.

use std::collections::BTreeSet;
use std::fmt;

use policy_compiler::cidr::Family;
use policy_compiler::flow::{End, Traffic};
use policy_compiler::policy::Direction;
use policy_compiler::reach::{Part, Party, TrafficSet, Who};
use policy_compiler::verdict::{Because, Decision, Half};
use serde::Serialize;

use crate::answer::{Outcome, Place};
use crate::can::HalfAnswer;

use super::Relations;

/// One reason why something passes, or may.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// `egress` of the source or `ingress` of the destination.
    pub direction: String,
    /// The policy; absent where none isolates that end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its rule: `ingress[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// In words: whom the rule means, or why there is none.
    pub text: String,
    /// Where the rule stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl fmt::Display for Reason {
    /// `egress: shop/allow-dns egress[0] (base.yaml:21): pods k8s-app=kube-dns in kube-system`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.direction)?;
        if let (Some(policy), Some(rule)) = (&self.policy, &self.rule) {
            write!(f, "{policy} {rule}")?;
            if let Some(Place { file, line: Some(line), .. }) = &self.place {
                write!(f, " ({file}:{line})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.text)
    }
}

impl Relations<'_, '_> {
    /// Why what passes from one party to another does. In order: egress first, then by policy and rule.
    #[must_use]
    pub fn reasons(&self, from: usize, to: usize) -> BTreeSet<Reason> {
        let mut reasons = BTreeSet::new();
        let (Some(source), Some(destination)) = (self.parties.get(from), self.parties.get(to))
        else {
            return reasons;
        };
        for (family, passing) in Family::ALL.into_iter().zip(self.passed(from, to)) {
            let Some(passing) = passing.and_then(|number| self.passing(number)) else { continue };
            let possible = passing.some.union(&passing.unknown);
            for (a, b) in self.pairs(source, destination, family) {
                self.of_pair(a, b, family, &possible, &mut reasons);
            }
        }
        reasons
    }

    /// The pairs that speak for two parties: any one, where the members of each are alike, else the first
    /// few. Between a pod and its own node everything passes, which says nothing.
    fn pairs<'p>(
        &self,
        from: &'p Party,
        to: &'p Party,
        family: Family,
    ) -> impl Iterator<Item = (&'p End, &'p End)> {
        let mixed = |party: &Party| {
            matches!(party.who, Who::Namespace(_) | Who::Selected { .. } | Who::Outside)
        };
        let most = if mixed(from) || mixed(to) { PAIRS } else { 1 };
        let speaks = move |end: &End| self.reach.speaks(end, family);
        let pairs = from.members.iter().flat_map(|a| to.members.iter().map(move |b| (a, b)));
        let told =
            pairs.filter(move |(a, b)| a != b && speaks(a) && speaks(b) && !self.are_at_home(a, b));
        told.take(most)
    }

    fn of_pair(
        &self,
        from: &End,
        to: &End,
        family: Family,
        traffic: &TrafficSet,
        reasons: &mut BTreeSet<Reason>,
    ) {
        for part in traffic.parts().take(PARTS) {
            let verdict = self.reach.because(from, to, family, representative(part, family));
            for direction in [Direction::Egress, Direction::Ingress] {
                let half = verdict.half(direction);
                if half.decision != Decision::Denied {
                    reasons.extend(self.of_half(half, direction));
                }
            }
        }
    }

    fn of_half(&self, half: &Half, direction: Direction) -> Vec<Reason> {
        let answer = HalfAnswer::of(half, direction, self.snapshot());
        if !matches!(half.because, Because::RuleAllows | Because::RuleMayAllow) {
            return vec![Reason {
                direction: answer.direction,
                policy: None,
                rule: None,
                text: answer.summary,
                place: None,
            }];
        }
        let passes = |outcome| outcome != Outcome::Denied;
        let mut reasons = Vec::new();
        for policy in &answer.policies {
            for rule in policy.rules.iter().filter(|rule| passes(rule.decision)) {
                let peers = rule.peers.iter().filter(|peer| passes(peer.decision));
                let means: Vec<&str> = peers.map(|peer| peer.means.as_str()).collect();
                let text = if means.is_empty() { "everybody".to_owned() } else { means.join(", ") };
                reasons.push(Reason {
                    direction: answer.direction.clone(),
                    policy: Some(policy.policy.clone()),
                    rule: Some(rule.rule.clone()),
                    text,
                    place: rule.place.clone(),
                });
            }
        }
        reasons
    }
}

/// Of how many pairs and parts reasons are gathered: who reads of more asks for one of them.
const PAIRS: usize = 64;
const PARTS: usize = 32;

/// A packet out of `part`.
fn representative(part: Part, family: Family) -> Traffic {
    match part {
        Part::Ports(protocol, range) => Traffic::Port { protocol, port: range.first().get() },
        Part::Icmp => Traffic::ping(family),
        Part::Other => Traffic::Other { protocol: 47 },
    }
}
