//! Asking a lab: flows and expected decisions in, disagreements out.
//!
//! Whatever goes by one snapshot goes at once: one load of the rules, all packets together. Only
//! flows of a protocol without ports whose mirror image is asked too wait for another round, since
//! conntrack would take one for the reply to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig, PodNetworks};
use policy_compiler::flow::{Flow, Traffic};
use policy_compiler::ruleset::Ruleset;
use policy_compiler::verdict::Decision;

use crate::enforcement::{self, Backend, Loader};
use crate::error::LabError;
use crate::lab::{BRIDGE, Lab, Wiring};
use crate::placement::{Placement, Trial, Unmapped};
use crate::probe::{Fate, send_awaiting};

/// A flow and what must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where it was asked, for the report.
    pub asked: String,
    /// The flow.
    pub flow: Flow,
    /// The decision.
    pub expected: Decision,
}

/// What a lab said to a list of questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many flows real packets have put to the test.
    pub judged: usize,
    /// One line for each disagreement.
    pub disagreements: Vec<String>,
    /// Which questions this lab could not ask, and why.
    pub unmapped: BTreeMap<String, BTreeSet<Unmapped>>,
}

/// Puts all questions about one snapshot to the test.
///
/// # Errors
/// Where the lab fails; a disagreement is no error.
pub fn ask(
    lab: &Lab,
    backend: Backend,
    loader: Loader,
    snapshot: &Snapshot,
    questions: &[Question],
) -> Result<Report, LabError> {
    ask_isolating(lab, backend, loader, snapshot, &PodNetworks::new(), questions)
}

/// As [`ask`], where nodes deny unknown addresses in these networks of their pods.
///
/// # Errors
/// As [`ask`].
pub fn ask_isolating(
    lab: &Lab,
    backend: Backend,
    loader: Loader,
    snapshot: &Snapshot,
    networks: &PodNetworks,
    questions: &[Question],
) -> Result<Report, LabError> {
    let mut report = Report::default();
    // What cannot be told of the input has no packet to show.
    let known = || questions.iter().filter(|question| question.expected != Decision::Unknown);
    let flows: Vec<Flow> = known().map(|question| question.flow.clone()).collect();
    let mut placement = match Placement::isolating(lab, snapshot, networks, &flows) {
        Ok(placement) => placement,
        Err(reason) => {
            for question in known() {
                report.unmapped.entry(question.asked.clone()).or_default().insert(reason.clone());
            }
            return Ok(report);
        }
    };
    let mut trials = Vec::new();
    for question in known() {
        match placement.trial(&question.flow) {
            Ok(trial) => trials.push((question, trial)),
            Err(reason) => {
                report.unmapped.entry(question.asked.clone()).or_default().insert(reason);
            }
        }
    }
    if trials.is_empty() {
        return Ok(report);
    }
    placement.lay(backend)?;
    let rulesets = enforce(lab, backend, loader, &placement)?;
    for round in rounds(trials) {
        lab.forget_connections()?;
        judge(lab, &round, &mut report)?;
    }
    for (node, ruleset) in lab.nodes.iter().zip(&rulesets) {
        enforcement::check_counts(backend, lab.namespace(node), ruleset)?;
        loader.unload(backend, lab.namespace(node))?;
    }
    placement.lift(backend)?;
    Ok(report)
}

/// Compiles and loads the rules of every node.
fn enforce(
    lab: &Lab,
    backend: Backend,
    loader: Loader,
    placement: &Placement<'_>,
) -> Result<Vec<Ruleset>, LabError> {
    let mut rulesets = Vec::new();
    for (node, name) in lab.nodes.iter().zip(&placement.nodes) {
        let mut config = NodeConfig::new(name.clone());
        config.pod_networks = placement.pod_networks.get(name).cloned().unwrap_or_default();
        if node.slots.iter().any(|slot| slot.wiring == Wiring::Bridged) {
            config.bridges.extend(InterfaceName::new(BRIDGE));
        }
        let ruleset = compile(&placement.snapshot, &config).ruleset;
        loader.load(backend, lab.namespace(node), &ruleset)?;
        rulesets.push(ruleset);
    }
    Ok(rulesets)
}

type Asked<'q> = (&'q Question, Trial);

/// Source, destination and protocol: what conntrack knows a flow without ports by.
type Tuple = (IpAddr, IpAddr, u8);

/// The flows without ports of a round, and all of its trials.
type Round<'q> = (BTreeSet<Tuple>, Vec<Asked<'q>>);

/// Sorts trials into rounds, none of which has a flow that is another's mirror image.
fn rounds(trials: Vec<Asked<'_>>) -> Vec<Vec<Asked<'_>>> {
    let mut rounds: Vec<Round<'_>> = Vec::new();
    for (question, trial) in trials {
        let flow = &question.flow;
        let protocol = flow.traffic.ip_protocol(flow.family);
        let portless = match flow.traffic {
            Traffic::Port { .. } => false,
            Traffic::Icmp { .. } => flow.traffic != Traffic::ping(flow.family),
            Traffic::Other { .. } => true,
        };
        let tuples: Vec<Tuple> = trial
            .probes
            .iter()
            .filter(|_| portless)
            .map(|probe| (probe.outline.source, probe.outline.destination, protocol))
            .collect();
        let clash = |seen: &BTreeSet<Tuple>| {
            tuples.iter().any(|(a, b, protocol)| a != b && seen.contains(&(*b, *a, *protocol)))
        };
        let place = rounds.iter().position(|(seen, _)| !clash(seen)).unwrap_or_else(|| {
            rounds.push((BTreeSet::new(), Vec::new()));
            rounds.len() - 1
        });
        if let Some((seen, round)) = rounds.get_mut(place) {
            seen.extend(tuples);
            round.push((question, trial));
        }
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}

fn judge(lab: &Lab, round: &[Asked<'_>], report: &mut Report) -> Result<(), LabError> {
    let probes: Vec<_> = round.iter().flat_map(|(_, trial)| trial.probes.iter().cloned()).collect();
    let awaited: Vec<bool> =
        round.iter().flat_map(|(_, trial)| trial.probes.iter().map(|_| trial.answer)).collect();
    let mut fates = send_awaiting(lab, &probes, &awaited)?.into_iter();
    for (question, trial) in round {
        let fates: Vec<Fate> = fates.by_ref().take(trial.probes.len()).collect();
        report.judged += 1;
        for fate in fates {
            let allowed = question.expected == Decision::Allowed;
            let said = match fate {
                Fate { arrived, .. } if arrived != allowed => {
                    if arrived {
                        "its packet arrived"
                    } else {
                        "its packet did not arrive"
                    }
                }
                Fate { arrived: true, answered: false } if trial.answer => "its answer got lost",
                _ => continue,
            };
            let Question { asked, flow, expected } = question;
            report.disagreements.push(format!(
                "{asked}: {} -> {} on {} ({}): expected {expected}, but {said}",
                flow.from, flow.to, flow.traffic, flow.family
            ));
        }
    }
    Ok(())
}

impl Report {
    /// Adds another's findings.
    pub fn merge(&mut self, other: Report) {
        self.judged += other.judged;
        self.disagreements.extend(other.disagreements);
        for (asked, reasons) in other.unmapped {
            self.unmapped.entry(asked).or_default().extend(reasons);
        }
    }
}
