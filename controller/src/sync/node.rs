//! How the node is wired: which bridges carry pods, whether IPVS delivers services, and in which
//! networks the addresses of its pods lie where unknown ones are to be denied.
//!
//! What cannot be found out stays as it was, and is a reason not to be ready; before the bridges
//! and the networks were ever found nothing may be written, since rules without them would let pass
//! what older ones may deny.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use policy_compiler::cluster::{Age, Pod, Snapshot};
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::engine::Engine;
use policy_compiler::name::ObjectKey;
use tracing::{info, warn};

use super::settings::{Ipvs, Settings, Unknown};
use crate::antispoof::{Pods, Spoofing};
use crate::dataplane::error_chain;
use crate::dataplane::links::Bridges;
use crate::health::{Note, Notes};

/// The wiring as last found.
#[derive(Debug)]
pub(super) struct Wiring {
    config: NodeConfig,
    ipvs: Ipvs,
    bridges: Bridges,
    /// Who is behind which interface.
    spoofing: Spoofing,
    /// The pods that the bridges were last sought for.
    sought_for: BTreeSet<IpAddr>,
    /// When in the engine's count of local changes these were found to be the node's.
    sought_at: Option<u64>,
    /// Whether the bridges were ever found, and why they cannot be now.
    known: bool,
    unknown: Option<String>,
    /// Whether the networks of pods are to be learned from the Node object, and why they are not known.
    learns_networks: bool,
    no_networks: Option<String>,
    /// Whether no pod is on a node of this name.
    unheard_of: bool,
}

impl Wiring {
    pub(super) fn new(settings: &Settings) -> Self {
        let config = NodeConfig {
            ipvs: settings.ipvs == Ipvs::On,
            keep_established: settings.keep_established,
            hairpin: settings.hairpin,
            deny: settings.deny,
            pod_networks: match &settings.unknown {
                Unknown::DeniedIn(networks) => networks.clone(),
                Unknown::Allowed | Unknown::DeniedInPodCidrs => BTreeSet::new(),
            },
            log_denied: settings.log_denied,
            ..NodeConfig::new(settings.node.clone())
        };
        Self {
            config,
            ipvs: settings.ipvs,
            bridges: Bridges::default(),
            spoofing: Spoofing::new(settings.antispoof),
            sought_for: BTreeSet::new(),
            sought_at: None,
            known: false,
            unknown: None,
            learns_networks: settings.unknown == Unknown::DeniedInPodCidrs,
            no_networks: None,
            unheard_of: false,
        }
    }

    pub(super) fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Looks whether any pod is on a node of this name. In a cluster at least policyd's own is.
    pub(super) fn recognise(&mut self, engine: &Engine) {
        let unheard_of = engine.scheduled_pods() == 0;
        if unheard_of && !self.unheard_of {
            warn!(node = %self.config.node, "no pod of the cluster is on a node of this name");
        }
        self.unheard_of = unheard_of;
    }

    /// What may be wrong with what was given, and what is not checked.
    pub(super) fn notes(&self) -> Notes {
        let note = || Note {
            text: format!(
                "no pod of the cluster is on a node named {}: is it spec.nodeName of this node's pods?",
                self.config.node
            ),
            since: None,
        };
        let unheard_of = self.unheard_of.then(|| ("node".to_owned(), note()));
        unheard_of.into_iter().chain(self.spoofing.notes()).collect()
    }

    /// Whether rules may be written.
    pub(super) fn is_known(&self) -> bool {
        self.known && self.no_networks.is_none()
    }

    /// Why the wiring may be another.
    pub(super) fn reason(&self) -> Option<&str> {
        self.no_networks.as_deref().or(self.unknown.as_deref())
    }

    /// Why sources may not be checked as they should.
    pub(super) fn spoofing(&self) -> impl Iterator<Item = String> {
        self.spoofing.reasons()
    }

    /// Looks where the pods of this node are others than it was last looked for.
    pub(super) fn follow(&mut self, engine: &Engine) {
        let now = Some(engine.local_changes());
        let learned = self.learn_networks(engine.objects());
        if self.known && !learned && self.sought_at == now {
            return;
        }
        let pods = self.local_addresses(engine);
        if !self.known || pods != self.sought_for {
            self.look_for(pods, engine);
        }
        self.sought_at = now;
    }

    /// Looks which bridges carry pods and whether IPVS is in use.
    pub(super) fn look(&mut self, engine: &Engine) {
        self.learn_networks(engine.objects());
        self.look_for(self.local_addresses(engine), engine);
    }

    /// Takes the networks of pods from the node's object, where that is asked for and it has some;
    /// whether they are others than before.
    fn learn_networks(&mut self, snapshot: &Snapshot) -> bool {
        if !self.learns_networks {
            return false;
        }
        let node = snapshot.nodes.get(&self.config.node);
        let networks: BTreeSet<IpNet> =
            node.into_iter().flat_map(|node| node.pod_networks.iter().copied()).collect();
        if networks.is_empty() {
            if self.config.pod_networks.is_empty() {
                let reason = format!(
                    "the networks of this node's pods are not known: Node {} {}; give them with \
                     --pod-cidr",
                    self.config.node,
                    if node.is_some() { "has no podCIDRs" } else { "is not known" },
                );
                if self.no_networks.as_ref() != Some(&reason) {
                    warn!(reason, "unknown addresses cannot be denied, nothing is written");
                }
                self.no_networks = Some(reason);
            }
        } else if networks != self.config.pod_networks {
            let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
            info!(networks = texts.join(","), "unknown addresses are denied in these networks");
            self.config.pod_networks = networks;
            self.no_networks = None;
            return true;
        }
        false
    }

    /// The addresses by whose routes bridges are found: of the pods of this node, and, for those that
    /// are not known yet, two out of each network in which they are to be denied.
    fn local_addresses(&self, engine: &Engine) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeSet<IpAddr> = local(engine).map(|(_, address)| address).collect();
        addresses.extend(self.config.pod_networks.iter().flat_map(samples));
        addresses
    }

    fn look_for(&mut self, pods: BTreeSet<IpAddr>, engine: &Engine) {
        let mut config = self.config.clone();
        self.spoofing.look(&owners(engine));
        config.antispoof = self.spoofing.rules();
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
        if (&config.bridges, config.ipvs) != (&self.config.bridges, self.config.ipvs) {
            let bridges: Vec<&str> = config.bridges.iter().map(InterfaceName::as_str).collect();
            info!(bridges = bridges.join(","), ipvs = config.ipvs, "wiring of the node");
        }
        self.config = config;
    }
}

/// The third address from either end: the outermost ones tend to be the gateway's and broadcast.
fn samples(network: &IpNet) -> [IpAddr; 2] {
    match network {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let near = first.saturating_add(2).min(last);
            let far = last.saturating_sub(2).max(first);
            [near, far].map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let near = first.saturating_add(2).min(last);
            let far = last.saturating_sub(2).max(first);
            [near, far].map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// The pods of this node that have addresses, each with what tells it from its namesakes.
fn owners(engine: &Engine) -> Pods {
    let pods = engine.local_pods();
    pods.filter(|pod| !pod.addresses.is_empty())
        // When it was started may be told later than the pod itself.
        .map(|pod| ((pod.key.clone(), Age { started: None, ..pod.age.clone() }), pod.addresses))
        .collect()
}

/// The pods of this node with a network of their own, an entry for each address.
#[derive(Debug, Default)]
pub(super) struct LocalPods {
    /// As of when in the engine's count of local changes.
    at: Option<u64>,
    pods: Vec<(ObjectKey, IpAddr)>,
}

impl LocalPods {
    /// Those of the engine, gone through only where they have changed.
    pub(super) fn of(&mut self, engine: &Engine) -> &[(ObjectKey, IpAddr)] {
        let now = engine.local_changes();
        if self.at.replace(now) != Some(now) {
            self.pods = local(engine).map(|(pod, address)| (pod.key.clone(), address)).collect();
        }
        &self.pods
    }
}

fn local(engine: &Engine) -> impl Iterator<Item = (&Pod, IpAddr)> {
    let pods = engine.local_pods();
    pods.flat_map(|pod| pod.addresses.iter().map(move |address| (pod, address)))
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
    use std::time::Duration;

    use policy_compiler::cluster::Node;
    use policy_compiler::config::{DenyAction, Hairpin};
    use policy_compiler::document::Location;
    use policy_compiler::name::NodeName;

    use super::*;
    use crate::excerpt::tests::engine_of;

    fn wiring(unknown: Unknown) -> Wiring {
        Wiring::new(&Settings {
            node: NodeName::new("n1").unwrap(),
            ipvs: Ipvs::Off,
            hairpin: Hairpin::Allow,
            deny: DenyAction::Drop,
            keep_established: false,
            unknown,
            log_denied: false,
            antispoof: false,
            verify_interval: Duration::ZERO,
            set_bridge_sysctls: false,
        })
    }

    fn node(networks: &[&str]) -> Snapshot {
        let name = NodeName::new("n1").unwrap();
        let pod_networks = networks.iter().map(|net| net.parse().unwrap()).collect();
        let location = Location::default();
        let node = Node { name: name.clone(), addresses: Vec::new(), pod_networks, location };
        Snapshot { nodes: [(name, node)].into(), ..Snapshot::default() }
    }

    #[test]
    fn rules_wait_for_the_networks_of_the_node_object_and_keep_the_last() {
        let mut wiring = wiring(Unknown::DeniedInPodCidrs);
        for (objects, missing) in
            [(Snapshot::default(), "Node n1 is not known"), (node(&[]), "Node n1 has no podCIDRs")]
        {
            wiring.look(&engine_of("n1", objects));
            assert!(!wiring.is_known());
            assert!(wiring.reason().is_some_and(|reason| reason.contains(missing)), "{missing}");
        }
        let networks = ["10.244.1.0/24", "fd00::/64"].map(|net| net.parse().unwrap());
        for objects in [node(&["10.244.1.0/24", "fd00::/64"]), node(&[]), Snapshot::default()] {
            wiring.follow(&engine_of("n1", objects));
            assert!(wiring.is_known());
            assert_eq!(wiring.reason(), None);
            assert_eq!(wiring.config().pod_networks, networks.into());
        }
    }

    #[test]
    fn networks_that_are_given_are_not_those_of_the_node_object() {
        let given: BTreeSet<IpNet> = ["10.9.0.0/16".parse().unwrap()].into();
        for (unknown, expected) in
            [(Unknown::Allowed, BTreeSet::new()), (Unknown::DeniedIn(given.clone()), given)]
        {
            let mut wiring = wiring(unknown);
            wiring.look(&engine_of("n1", node(&["10.244.1.0/24"])));
            assert!(wiring.is_known());
            assert_eq!(wiring.config().pod_networks, expected);
        }
    }

    #[test]
    fn bridges_are_sought_by_addresses_within_the_networks() {
        for (network, expected) in [
            ("10.244.1.0/24", ["10.244.1.2", "10.244.1.253"]),
            ("10.244.1.4/31", ["10.244.1.5", "10.244.1.4"]),
            ("10.244.1.4/32", ["10.244.1.4", "10.244.1.4"]),
            ("fd00::/64", ["fd00::2", "fd00::ffff:ffff:ffff:fffd"]),
        ] {
            let found = samples(&network.parse().unwrap()).map(|address| address.to_string());
            assert_eq!(found, expected, "{network}");
        }
    }

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
