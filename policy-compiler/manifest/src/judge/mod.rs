//! Judges a case twice: by `evaluate`, which is written from the semantics, and by `simulate` on what
//! `compile` makes of the cluster for every node.
//!
//! The table, the evaluator and the simulated rules must all agree. A flow that has no packets (from
//! a template, to a pod without an address) is judged by the evaluator alone; a flow that ought to
//! have some and has none is a fault. Judging never fails: what disagrees is in the [`Judgement`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig, PodNetworks};
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::Location;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow};
use policy_compiler::name::NodeName;
use policy_compiler::policy::Direction;
use policy_compiler::ruleset::Ruleset;
use policy_compiler::simulate::{self, Places, Ways};
use policy_compiler::verdict::{Decision, Ruling, Verdict};

use crate::case::{Case, Certainty, RuleReference};

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Each flow of each line, in the order of the case.
    pub outcomes: Vec<Outcome>,
    /// What is wrong besides the flows' verdicts: reasons, diagnostics, rules that no kernel takes.
    pub faults: Vec<CaseFault>,
    /// Everything that decoding and compiling had to say, in order of place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Judgement {
    /// Whether everything is as the case says.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.faults.is_empty() && self.outcomes.iter().all(Outcome::passed)
    }
}

/// What became of one flow of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where the line stands.
    pub location: Location,
    /// The line as written.
    pub text: String,
    /// The flow.
    pub flow: Flow,
    /// What the line expects.
    pub expected: Decision,
    /// What the evaluator says, with every reason.
    pub verdict: Verdict,
    /// What the compiled rules do to its packet; `None` where it has none.
    pub simulated: Option<Decision>,
    /// What is wrong.
    pub faults: Vec<FlowFault>,
}

impl Outcome {
    /// Whether it is as the line says.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What is wrong with one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowFault {
    /// The evaluator says something else than the line.
    Evaluated {
        /// What the line says.
        expected: Decision,
        /// What the evaluator says.
        found: Decision,
    },
    /// The compiled rules do something else than the line says.
    Simulated {
        /// What the line says.
        expected: Decision,
        /// What they do.
        found: Decision,
    },
    /// Whether a policy that is audited only would deny what passes is not as the line says.
    Audited {
        /// What the line says.
        expected: bool,
    },
    /// The compiled rules tell of an audit, or not, where the line and the evaluator say otherwise.
    Told {
        /// What these say.
        expected: bool,
    },
    /// The flow has two ends with addresses and yet no packet.
    NoPacket,
    /// The case says whether the specification decides, and it is the other way.
    Certainty {
        /// What the case says.
        expected: Certainty,
        /// The rulings that the verdict rests on.
        rulings: BTreeSet<Ruling>,
    },
}

impl fmt::Display for FlowFault {
    /// `expected allowed, evaluated denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowFault::Evaluated { expected, found } => {
                write!(f, "expected {expected}, evaluated {found}")
            }
            FlowFault::Simulated { expected, found } => {
                write!(f, "expected {expected}, the compiled rules: {found}")
            }
            FlowFault::Audited { expected: true } => {
                f.write_str("expected an audited policy that would deny it, and there is none")
            }
            FlowFault::Audited { expected: false } => {
                f.write_str("expected no audited policy that would deny it, and there is one")
            }
            FlowFault::Told { expected: true } => {
                f.write_str("an audited policy would deny it, and the compiled rules do not tell")
            }
            FlowFault::Told { expected: false } => {
                f.write_str("no audited policy would deny it, and the compiled rules tell of one")
            }
            FlowFault::NoPacket => f.write_str("no packet can be made of it"),
            FlowFault::Certainty { expected, rulings } if rulings.is_empty() => {
                write!(f, "expected to be {expected}, but the specification decides it")
            }
            FlowFault::Certainty { expected, rulings } => {
                let rulings: Vec<_> = rulings.iter().map(|ruling| ruling.explanation()).collect();
                write!(f, "expected to be {expected}, but it rests on: {}", rulings.join("; "))
            }
        }
    }
}

/// What is wrong with a case besides the verdicts of its flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseFault {
    /// A rule that the case names does not allow the flow.
    Because {
        /// Where the case says so.
        location: Location,
        /// The flow.
        flow: Flow,
        /// The rule.
        rule: RuleReference,
        /// The rules that do allow it.
        allowing: Vec<RuleReference>,
    },
    /// No diagnostic contains a text that the case expects.
    MissingDiagnostic {
        /// Where the case says so.
        location: Location,
        /// The text.
        text: String,
    },
    /// An error that the case, which says what diagnostics it expects, does not expect.
    UnexpectedError(Diagnostic),
    /// The rules of a node are such as no kernel would take.
    Refused {
        /// The node.
        node: NodeName,
        /// Which rule, and why.
        refusal: String,
    },
}

impl CaseFault {
    /// The place that it speaks of.
    #[must_use]
    pub fn location(&self) -> Location {
        match self {
            CaseFault::Because { location, .. } | CaseFault::MissingDiagnostic { location, .. } => {
                location.clone()
            }
            CaseFault::UnexpectedError(diagnostic) => diagnostic.location.clone(),
            CaseFault::Refused { .. } => Location::default(),
        }
    }
}

impl fmt::Display for CaseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaseFault::Because { flow, rule, allowing, .. } => {
                let Flow { from, to, traffic, family, .. } = flow;
                write!(f, "{from} -> {to} on {traffic} ({family}) is not allowed by {rule}")?;
                let allowing: Vec<_> = allowing.iter().map(ToString::to_string).collect();
                match allowing.as_slice() {
                    [] => f.write_str("; no rule allows it"),
                    rules => write!(f, ", but by {}", rules.join(", ")),
                }
            }
            CaseFault::MissingDiagnostic { text, .. } => {
                write!(f, "no diagnostic contains `{text}`")
            }
            CaseFault::UnexpectedError(diagnostic) => write!(f, "not expected: {diagnostic}"),
            CaseFault::Refused { node, refusal } => {
                write!(f, "the kernel would refuse the rules of {node}: {refusal}")
            }
        }
    }
}

/// Judges a case.
#[must_use]
pub fn judge(case: &Case) -> Judgement {
    let mut diagnostics = case.diagnostics.clone();
    let mut rulesets = BTreeMap::new();
    for node in nodes(case) {
        let compiled = compile(&case.snapshot, &config(node.clone(), &case.pod_networks));
        diagnostics.extend(compiled.diagnostics);
        rulesets.insert(node, compiled.ruleset);
    }
    diagnostics.sort();
    diagnostics.dedup();
    let evaluator = Evaluator::new(&case.snapshot).with_pod_networks(&case.pod_networks);
    let ways = Ways { pod_networks: case.pod_networks.clone(), ..Ways::default() };
    let places = Places::new(&case.snapshot);
    let bench = Bench { case, evaluator, places, rulesets, ways };
    let lines = case.expectations.iter();
    let outcomes =
        lines.flat_map(|line| line.flows.iter().map(|flow| bench.outcome(line, flow))).collect();
    let mut faults = bench.refusals();
    faults.extend(bench.because());
    faults.extend(check_diagnostics(case, &diagnostics));
    Judgement { outcomes, faults, diagnostics }
}

/// Every node that is declared, or has a pod or networks for pods.
fn nodes(case: &Case) -> BTreeSet<NodeName> {
    let of_pods = case.snapshot.pods.values().filter_map(|pod| pod.node.as_ref());
    let declared = case.snapshot.nodes.keys().chain(case.pod_networks.keys());
    declared.chain(of_pods).cloned().collect()
}

/// A node as the cases imagine it: the defaults, with the bridge that bridged packets come by.
fn config(node: NodeName, networks: &PodNetworks) -> NodeConfig {
    let pod_networks = networks.get(&node).cloned().unwrap_or_default();
    let mut config = NodeConfig { pod_networks, ..NodeConfig::new(node) };
    config.bridges.extend(InterfaceName::new(simulate::DEFAULT_BRIDGE).ok());
    config
}

/// A case with what it is judged by.
struct Bench<'c> {
    case: &'c Case,
    evaluator: Evaluator<'c>,
    places: Places<'c>,
    rulesets: BTreeMap<NodeName, Ruleset>,
    ways: Ways,
}

impl Bench<'_> {
    fn outcome(&self, line: &crate::case::Expectation, flow: &Flow) -> Outcome {
        let verdict = self.evaluator.verdict(flow);
        let simulated = match self.places.decide_over(&self.rulesets, flow, &self.ways) {
            Decision::Unknown => None,
            decision => Some(decision),
        };
        let expected = line.decision;
        let mut faults = Vec::new();
        if verdict.decision != expected {
            faults.push(FlowFault::Evaluated { expected, found: verdict.decision });
        }
        match simulated {
            Some(found) if found != expected => {
                faults.push(FlowFault::Simulated { expected, found });
            }
            None if self.has_packets(flow) => faults.push(FlowFault::NoPacket),
            _ => {}
        }
        if verdict.decision == Decision::Allowed {
            faults.extend(self.audit_faults(line.audited, flow, &verdict));
        }
        if let Some(expected) = self.case.certainty
            && (expected == Certainty::Specified) != verdict.rulings.is_empty()
        {
            let rulings = verdict.rulings.clone();
            faults.push(FlowFault::Certainty { expected, rulings });
        }
        Outcome {
            location: line.location.clone(),
            text: line.text.clone(),
            flow: flow.clone(),
            expected,
            verdict,
            simulated,
            faults,
        }
    }

    /// What is wrong with what a flow that passes meets of audits.
    fn audit_faults(
        &self,
        expected: Option<bool>,
        flow: &Flow,
        verdict: &Verdict,
    ) -> Vec<FlowFault> {
        let halves = Direction::ALL.map(|direction| verdict.half(direction));
        let audited = halves.iter().any(|half| half.audit_denials().next().is_some());
        let mut faults = Vec::new();
        if let Some(expected) = expected.filter(|expected| *expected != audited) {
            faults.push(FlowFault::Audited { expected });
        }
        let hops = self.places.journey_over(flow, &self.ways);
        let told = hops.iter().any(|hop| {
            let ruleset = self.rulesets.get(&hop.node);
            ruleset.is_some_and(|rules| !simulate::simulate(rules, &hop.packet).audited.is_empty())
        });
        // What meets no rules is told of by none.
        if !hops.is_empty() && told != audited {
            faults.push(FlowFault::Told { expected: audited });
        }
        faults
    }

    /// Whether both ends have an address, and the pods among them a node, so that a packet exists.
    fn has_packets(&self, flow: &Flow) -> bool {
        [&flow.from, &flow.to].into_iter().all(|end| match end {
            End::Address(address) => {
                self.evaluator.owners(*address).iter().all(|pod| pod.node.is_some())
            }
            End::Pod(key) => self.case.snapshot.pods.get(key).is_some_and(|pod| {
                pod.node.is_some() && pod.addresses.of(flow.family).is_some() && !pod.template
            }),
            End::Node(name) => self
                .evaluator
                .node_addresses(name)
                .iter()
                .any(|address| policy_compiler::cidr::Family::of(*address) == flow.family),
        })
    }

    fn refusals(&self) -> Vec<CaseFault> {
        let refused = |(node, ruleset): (&NodeName, &Ruleset)| {
            let refusal = simulate::check(ruleset).err()?.to_string();
            Some(CaseFault::Refused { node: node.clone(), refusal })
        };
        self.rulesets.iter().filter_map(refused).collect()
    }

    fn because(&self) -> Vec<CaseFault> {
        let mut faults = Vec::new();
        for because in &self.case.because {
            for flow in &because.flows {
                let allowing = allowing(&self.evaluator.verdict(flow));
                for rule in because.rules.iter().filter(|rule| !allowing.contains(rule)) {
                    faults.push(CaseFault::Because {
                        location: because.location.clone(),
                        flow: flow.clone(),
                        rule: rule.clone(),
                        allowing: allowing.clone(),
                    });
                }
            }
        }
        faults
    }
}

/// The rules that allow a flow, those of the ingress half first.
#[must_use]
pub fn allowing(verdict: &Verdict) -> Vec<RuleReference> {
    let mut rules = Vec::new();
    for direction in Direction::ALL {
        for trace in &verdict.half(direction).policies {
            let allowing = trace.rules.iter().filter(|rule| rule.decision == Decision::Allowed);
            rules.extend(allowing.map(|rule| RuleReference {
                policy: trace.policy.clone(),
                direction,
                index: rule.index,
            }));
        }
    }
    rules
}

/// Holds what was said against what the case expects, where it expects anything.
fn check_diagnostics(case: &Case, found: &[Diagnostic]) -> Vec<CaseFault> {
    let Some(expected) = &case.expected_diagnostics else { return Vec::new() };
    let texts: Vec<(&Diagnostic, String)> = found.iter().map(|d| (d, d.to_string())).collect();
    let missing =
        expected.iter().filter(|e| !texts.iter().any(|(_, text)| text.contains(&e.text))).map(
            |e| CaseFault::MissingDiagnostic { location: e.location.clone(), text: e.text.clone() },
        );
    let unexpected = texts
        .iter()
        .filter(|(diagnostic, _)| diagnostic.severity == Severity::Error)
        .filter(|(_, text)| !expected.iter().any(|e| text.contains(&e.text)))
        .map(|(diagnostic, _)| CaseFault::UnexpectedError((*diagnostic).clone()));
    missing.chain(unexpected).collect()
}

#[cfg(test)]
mod tests;
