//! Flow lines to flows: every combination of ends, ports and families, once the cluster is known.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::decode::nearest;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Wire};
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{Grant, PortNumbers, Ports};

use super::line::{Line, PortWord};

/// Expands lines over one snapshot.
pub(super) struct Expansion<'s> {
    snapshot: &'s Snapshot,
    evaluator: Evaluator<'s>,
    /// The families asked for, where the case says so.
    families: Option<Vec<Family>>,
    wire: Wire,
    unmentioned: u16,
}

/// Why a line that parses means nothing in this cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpansionError {
    #[error("this cluster has no {what} `{name}`{help}")]
    Unknown { what: &'static str, name: String, help: String },
    #[error(
        "{address} is the address of Service {service}, which policies never see: name a pod behind \
         it, and the port there"
    )]
    Service { address: IpAddr, service: ObjectKey },
    #[error("{from} and {to} have no family in common that is asked for")]
    NoFamily { from: End, to: End },
}

impl<'s> Expansion<'s> {
    /// `mentioned` are the ports that stand in the file's lines.
    pub(super) fn new(
        snapshot: &'s Snapshot,
        families: Option<Vec<Family>>,
        wire: Wire,
        mentioned: &BTreeSet<u16>,
    ) -> Self {
        let unmentioned = unmentioned_port(snapshot, mentioned);
        Self { snapshot, evaluator: Evaluator::new(snapshot), families, wire, unmentioned }
    }

    /// The flows of `line`: at least one for each pair of ends.
    pub(super) fn flows(&self, line: &Line) -> Result<Vec<Flow>, ExpansionError> {
        for end in line.from.iter().chain(&line.to) {
            self.check_known(end)?;
        }
        let mut flows = Vec::new();
        for from in &line.from {
            for to in &line.to {
                let families = self.families(from, to);
                if families.is_empty() {
                    let (from, to) = (from.clone(), to.clone());
                    return Err(ExpansionError::NoFamily { from, to });
                }
                for family in families {
                    flows.extend(self.pair(from, to, family, &line.ports));
                }
            }
        }
        Ok(flows)
    }

    fn pair<'a>(
        &'a self,
        from: &'a End,
        to: &'a End,
        family: Family,
        ports: &'a [PortWord],
    ) -> impl Iterator<Item = Flow> + 'a {
        let traffic = ports.iter().flat_map(move |port| port.traffic(family, self.unmentioned));
        traffic.map(move |traffic| Flow {
            from: from.clone(),
            to: to.clone(),
            family,
            traffic,
            wire: self.wire,
        })
    }

    /// The families of a pair: those that both ends have, or those of the case that neither end's
    /// being an address of the other family rules out.
    fn families(&self, from: &End, to: &End) -> Vec<Family> {
        let has = |end: &End, family: Family| match end {
            End::Address(address) => Family::of(*address) == family,
            _ if self.families.is_some() => true,
            End::Pod(key) => {
                self.snapshot.pods.get(key).is_some_and(|pod| self.pod_has(pod, family))
            }
            End::Node(name) => {
                has_family(self.evaluator.node_addresses(name).iter(), family).unwrap_or(true)
            }
        };
        let asked = self.families.as_deref().unwrap_or(&Family::ALL);
        asked.iter().copied().filter(|f| has(from, *f) && has(to, *f)).collect()
    }

    fn pod_has(&self, pod: &Pod, family: Family) -> bool {
        if pod.addresses.of(family).is_some() || pod.template {
            return true;
        }
        // A hostNetwork pod goes by its node's addresses.
        let node = pod.node.as_ref().filter(|_| pod.host_network && pod.addresses.is_empty());
        node.is_some_and(|name| {
            has_family(self.evaluator.node_addresses(name).iter(), family).unwrap_or(true)
        })
    }

    /// Traffic to a Service is judged after its translation, so no flow has its address as an end.
    fn check_no_service(&self, address: IpAddr) -> Result<(), ExpansionError> {
        let mut services = self.snapshot.services.values();
        let service = services.find(|service| service.addresses.contains(&address));
        let owned = !self.evaluator.owners(address).is_empty()
            || !self.evaluator.nodes_with(address).is_empty();
        match service.filter(|_| !owned) {
            Some(service) => Err(ExpansionError::Service { address, service: service.key.clone() }),
            None => Ok(()),
        }
    }

    fn check_known(&self, end: &End) -> Result<(), ExpansionError> {
        match end {
            End::Address(address) => self.check_no_service(*address),
            End::Pod(key) if self.snapshot.pods.contains_key(key) => Ok(()),
            End::Pod(key) => {
                let known: Vec<String> =
                    self.snapshot.pods.keys().map(ToString::to_string).collect();
                Err(unknown("pod", &key.to_string(), &known))
            }
            End::Node(name) => {
                let declared = self.snapshot.nodes.keys();
                let of_pods = self.snapshot.pods.values().filter_map(|pod| pod.node.as_ref());
                let known: BTreeSet<_> = declared.chain(of_pods).collect();
                if known.contains(name) {
                    return Ok(());
                }
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                Err(unknown("node", name.as_str(), &known))
            }
        }
    }
}

/// Whether `addresses` has one of `family`; `None` where there are none at all.
fn has_family<'a>(addresses: impl Iterator<Item = &'a IpAddr>, family: Family) -> Option<bool> {
    let mut addresses = addresses.peekable();
    addresses.peek()?;
    Some(addresses.any(|address| Family::of(*address) == family))
}

fn unknown(what: &'static str, name: &str, known: &[String]) -> ExpansionError {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let help = nearest(name, &known).map(|near| format!(" (did you mean `{near}`?)"));
    ExpansionError::Unknown { what, name: name.to_owned(), help: help.unwrap_or_default() }
}

/// The lowest port from 20000 on that no line, no rule and no container mentions; that also keeps
/// clear of the ephemeral ports. Where ranges leave none, one that is at least not spelled out.
fn unmentioned_port(snapshot: &Snapshot, in_lines: &BTreeSet<u16>) -> u16 {
    let mut singles: BTreeSet<u16> = in_lines.clone();
    singles.extend(snapshot.pods.values().flat_map(|pod| &pod.ports).map(|p| p.number.get()));
    let mut ranges = Vec::new();
    for policy in snapshot.policies.values() {
        for rule in policy.ingress.iter().chain(&policy.egress) {
            let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant else { continue };
            for port in ports {
                if let PortNumbers::Range(range) = port.numbers {
                    singles.extend([range.first().get(), range.last().get()]);
                    ranges.push(range);
                }
            }
        }
    }
    let candidates = || (20_000..=u16::MAX).chain(1..20_000).filter(|p| !singles.contains(p));
    let clear = candidates().find(|p| !ranges.iter().any(|range| range.contains(*p)));
    clear.or_else(|| candidates().next()).unwrap_or(20_000)
}
