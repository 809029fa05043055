//! What the other end's own policies make of what a rule allows: a connection needs both halves, and
//! an explanation of one pod looks at one.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Pod;
use policy_compiler::flow::{End, Traffic};
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{Direction, PortMatch, PortNumbers, Ports};
use policy_compiler::port::Protocol;
use policy_compiler::verdict::Decision;
use serde::Serialize;

use crate::phrase::{self, Group};
use crate::question::{no_port, spoken};
use crate::text::join;

use super::side::Findings;

/// Peers of a rule whose own policies deny what it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The pods.
    pub pods: Vec<Group>,
    /// The direction in which they are isolated: `egress` for those that may come in.
    pub direction: String,
    /// The policies that isolate them.
    pub policies: Vec<String>,
    /// The ports of the rule that are denied; none: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// The families in which that is so; none: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// All of it in words.
    pub text: String,
}

/// What one pod's own policies deny: by whom, which ports (none: all), which families (none: all).
type Denial = (Vec<String>, Vec<String>, Vec<String>);

/// The pods among `meant` whose own policies deny a rule's `ports`, those alike together.
pub(super) fn refusals(
    findings: &Findings<'_>,
    direction: Direction,
    ports: &Ports,
    meant: &BTreeSet<ObjectKey>,
) -> Vec<Refusal> {
    let asking = Asking { findings, direction, ports };
    let mut alike: BTreeMap<Denial, BTreeSet<ObjectKey>> = BTreeMap::new();
    for other in findings.others().filter(|other| meant.contains(&other.key)) {
        for denial in asking.denials(other) {
            alike.entry(denial).or_default().insert(other.key.clone());
        }
    }
    let refusal = |((policies, ports, families), pods): (Denial, BTreeSet<ObjectKey>)| {
        let groups = phrase::groups(&pods, findings.questions.snapshot);
        let direction = opposite(direction).to_string();
        let whose = match (pods == *meant, groups.as_slice()) {
            (true, [one]) if one.count == 1 => format!("its own {direction}"),
            (true, _) => format!("their own {direction}"),
            (false, [first, second, _, ..]) => {
                format!("the {direction} of {}, {} and more", first.short(), second.short())
            }
            (false, groups) => {
                let names: Vec<String> = groups.iter().map(Group::short).collect();
                format!("the {direction} of {}", join(&names, "and"))
            }
        };
        let what = if ports.is_empty() { "it".to_owned() } else { join(&ports, "and") };
        let over = match families.as_slice() {
            [] => String::new(),
            families => format!(" over {}", join(families, "and")),
        };
        let text = format!("but {whose} denies {what}{over}: {}", join(&policies, "and"));
        Refusal { pods: groups, direction, policies, ports, families, text }
    };
    alike.into_iter().map(refusal).collect()
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

struct Asking<'a> {
    findings: &'a Findings<'a>,
    direction: Direction,
    ports: &'a Ports,
}

impl Asking<'_> {
    /// What the policies of `other` deny; families that fare alike together.
    fn denials(&self, other: &Pod) -> BTreeSet<Denial> {
        let policies = self.findings.questions.isolating(other, opposite(self.direction));
        if policies.is_empty() {
            return BTreeSet::new();
        }
        let spoken = spoken(other);
        let families: Vec<Family> =
            self.findings.families().iter().copied().filter(|f| spoken.contains(f)).collect();
        let mut by_ports: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for &family in &families {
            if let Some(ports) = self.denied(other, family, &policies) {
                by_ports.entry(ports).or_default().push(family.to_string());
            }
        }
        let policies: Vec<String> = policies.iter().map(ToString::to_string).collect();
        let denial = |(ports, of): (Vec<String>, Vec<String>)| {
            let all = of.len() == families.len();
            (policies.clone(), ports, if all { Vec::new() } else { of })
        };
        by_ports.into_iter().map(denial).collect()
    }

    /// The ports of the rule that `other` denies in `family`: an empty list for all of them, `None`
    /// for none.
    fn denied(&self, other: &Pod, family: Family, policies: &[ObjectKey]) -> Option<Vec<String>> {
        let destination = match self.direction {
            Direction::Ingress => self.findings.pod,
            Direction::Egress => other,
        };
        let firsts = self.firsts(policies);
        let range =
            |protocol, first, last| range_probes(protocol, (first, last), destination, &firsts);
        let asked: Vec<(String, Vec<Traffic>)> = match self.ports {
            Ports::Any => {
                let all = Protocol::ALL.into_iter().flat_map(|p| range(p, 0, u16::MAX));
                vec![(String::new(), all.chain([Traffic::ping(family)]).collect())]
            }
            Ports::Listed(ports) => ports
                .iter()
                .map(|port| (phrase::port(port), port_probes(port, destination, range)))
                .filter(|(_, probes)| !probes.is_empty())
                .collect(),
        };
        let denied: Vec<String> = asked
            .iter()
            .filter(|(_, probes)| probes.iter().all(|probe| self.denies(other, family, *probe)))
            .map(|(text, _)| text.clone())
            .collect();
        match denied.len() {
            0 => None,
            n if n == asked.len() => Some(Vec::new()),
            _ => Some(denied),
        }
    }

    fn denies(&self, other: &Pod, family: Family, traffic: Traffic) -> bool {
        let subject = End::Pod(self.findings.pod.key.clone());
        let other = End::Pod(other.key.clone());
        let verdict =
            self.findings.questions.between(self.direction, &subject, &other, family, traffic);
        verdict.half(opposite(self.direction)).decision == Decision::Denied
    }

    /// Where the ranges begin that `policies` allow: a port of a range is allowed only if the range's
    /// first port is, or one of these in it.
    fn firsts(&self, policies: &[ObjectKey]) -> BTreeSet<(Protocol, u16)> {
        let policies =
            policies.iter().filter_map(|k| self.findings.questions.snapshot.policies.get(k));
        let rules = policies.flat_map(|policy| policy.rules(opposite(self.direction)));
        let ports = rules.flat_map(|rule| phrase::listed_ports(&rule.grant));
        let first = |port: &PortMatch| match &port.numbers {
            PortNumbers::Range(range) => Some((port.protocol, range.first().get())),
            PortNumbers::Any | PortNumbers::Named(_) => None,
        };
        ports.filter_map(first).collect()
    }
}

/// What has to be asked about one port of a rule; nothing for a name that the destination lacks.
fn port_probes(
    port: &PortMatch,
    destination: &Pod,
    range: impl Fn(Protocol, u16, u16) -> Vec<Traffic>,
) -> Vec<Traffic> {
    let protocol = port.protocol;
    match &port.numbers {
        PortNumbers::Any => range(protocol, 0, u16::MAX),
        PortNumbers::Range(numbers) => range(protocol, numbers.first().get(), numbers.last().get()),
        PortNumbers::Named(name) => destination
            .ports
            .iter()
            .filter(|own| own.protocol == protocol && own.name.as_ref() == Some(name))
            .map(|own| Traffic::Port { protocol, port: own.number.get() })
            .collect(),
    }
}

/// The ports of a range that show whether any of it is allowed: its first (0 stands for one that no
/// rule names), those that the destination declares, since names may mean them, and `firsts`.
fn range_probes(
    protocol: Protocol,
    (first, last): (u16, u16),
    destination: &Pod,
    firsts: &BTreeSet<(Protocol, u16)>,
) -> Vec<Traffic> {
    let declared = destination.ports.iter().map(|port| (port.protocol, port.number.get()));
    let numbers: BTreeSet<u16> = declared
        .chain(firsts.iter().copied())
        .filter(|(of, number)| *of == protocol && (first..=last).contains(number))
        .map(|(_, number)| number)
        .collect();
    let begin =
        if first == 0 { no_port(protocol) } else { Traffic::Port { protocol, port: first } };
    numbers.into_iter().map(|port| Traffic::Port { protocol, port }).chain([begin]).collect()
}
