//! How the node is wired: which bridges carry pods, and whether IPVS delivers services.
//!
//! What cannot be found out stays as it was, and is a reason not to be ready; before the bridges
//! were ever found nothing may be written, since rules without them would let pass what older ones
//! may deny.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::name::{NodeName, ObjectKey};
use tracing::{info, warn};

use super::settings::{Ipvs, Settings};
use crate::dataplane::error_chain;
use crate::dataplane::links::Bridges;

/// The wiring as last found.
#[derive(Debug)]
pub(super) struct Wiring {
    config: NodeConfig,
    ipvs: Ipvs,
    bridges: Bridges,
    /// The pods that the bridges were last sought for.
    sought_for: BTreeSet<IpAddr>,
    /// Whether the bridges were ever found, and why they cannot be now.
    known: bool,
    unknown: Option<String>,
}

impl Wiring {
    pub(super) fn new(settings: &Settings) -> Self {
        let config = NodeConfig {
            ipvs: settings.ipvs == Ipvs::On,
            keep_established: settings.keep_established,
            hairpin: settings.hairpin,
            deny: settings.deny,
            ..NodeConfig::new(settings.node.clone())
        };
        Self {
            config,
            ipvs: settings.ipvs,
            bridges: Bridges::default(),
            sought_for: BTreeSet::new(),
            known: false,
            unknown: None,
        }
    }

    pub(super) fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Whether rules may be written.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// Why the wiring may be another.
    pub(super) fn reason(&self) -> Option<&str> {
        self.unknown.as_deref()
    }

    /// Looks where the pods of this node are others than it was last looked for.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let pods = local_addresses(snapshot, &self.config.node);
        if !self.known || pods != self.sought_for {
            self.look_for(pods);
        }
    }

    /// Looks which bridges carry pods and whether IPVS is in use.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        self.look_for(local_addresses(snapshot, &self.config.node));
    }

    fn look_for(&mut self, pods: BTreeSet<IpAddr>) {
        let mut config = self.config.clone();
        match self.bridges.look(pods.iter().copied()) {
            Ok(bridges) => {
                config.bridges = bridges;
                self.unknown = None;
                self.known = true;
            }
            Err(error) => {
                if self.unknown.is_none() {
                    warn!(error = %error_chain(&error), "cannot find the bridges of pods");
                }
                self.unknown = Some("the bridges of pods cannot be found".to_owned());
            }
        }
        self.sought_for = pods;
        if self.ipvs == Ipvs::Auto {
            // The kernel of this network namespace; the file is absent until its module is loaded.
            let services = fs::read_to_string("/proc/thread-self/net/ip_vs");
            config.ipvs = has_ipvs(config.ipvs, &services);
        }
        if config != self.config {
            let bridges: Vec<&str> = config.bridges.iter().map(InterfaceName::as_str).collect();
            info!(bridges = bridges.join(","), ipvs = config.ipvs, "wiring of the node");
            self.config = config;
        }
    }
}

fn local_addresses(snapshot: &Snapshot, node: &NodeName) -> BTreeSet<IpAddr> {
    local(snapshot, node).map(|(_, address)| address).collect()
}

/// The pods of this node with a network of their own, an entry for each address.
pub(super) fn local_pods(snapshot: &Snapshot, node: &NodeName) -> Vec<(ObjectKey, IpAddr)> {
    local(snapshot, node).map(|(pod, address)| (pod.key.clone(), address)).collect()
}

fn local<'a>(
    snapshot: &'a Snapshot,
    node: &'a NodeName,
) -> impl Iterator<Item = (&'a Pod, IpAddr)> {
    let pods = snapshot.pods.values();
    pods.filter(move |pod| pod.is_live() && pod.node.as_ref() == Some(node))
        .flat_map(|pod| pod.addresses.iter().map(move |address| (pod, address)))
}

/// Whether IPVS is in use. Where it once was it may be again, and what is there but cannot be read may
/// hold services: both leave OUTPUT policed.
fn has_ipvs(before: bool, services: &io::Result<String>) -> bool {
    let now = match services {
        Ok(text) => names_a_service(text),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    before || now
}

/// Services begin with their protocol.
fn names_a_service(ip_vs: &str) -> bool {
    ip_vs.lines().any(|line| ["TCP ", "UDP ", "SCTP ", "FWM "].iter().any(|p| line.starts_with(p)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipvs_is_in_use_where_it_has_a_service() {
        let header = "IP Virtual Server version 1.2.1 (size=4096)\n\
                      Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward\n";
        assert!(!names_a_service(header));
        let service = format!("{header}TCP  0A600001:01BB rr\n");
        assert!(has_ipvs(false, &Ok(service)));
        let fails = |kind| Err(io::Error::from(kind));
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied] {
            assert!(has_ipvs(true, &fails(kind)), "it stays as it was");
        }
        assert!(!has_ipvs(false, &fails(io::ErrorKind::NotFound)));
        assert!(has_ipvs(false, &fails(io::ErrorKind::PermissionDenied)), "there may be some");
        assert!(has_ipvs(true, &Ok(header.to_owned())), "its services may come back");
    }
}
