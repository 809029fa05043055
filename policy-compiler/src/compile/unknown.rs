//! The denial of addresses in the networks of the node's pods that belong to nobody known yet.
//!
//! A pod can send before its address is known here: the network plugin gives it, the kubelet reports it,
//! and the API server passes it on, in that order. In the meantime no chain can be the pod's. So that
//! it is isolated from its first packet on, what lies in a network of the node's pods and is not in the
//! set of known addresses is denied. The rules stand before all others that concern pods, so that
//! whatever these say of such an address does not matter.

use std::sync::Arc;

use ipnet::IpNet;

use super::layout::{deny_chain, goto};
use super::structure::Source;
use crate::cidr::Family;
use crate::config::NodeConfig;
use crate::policy::Direction;
use crate::ruleset::{Generation, Match, Rule, SetName, SetRole, Side};

/// The networks of the node's pods.
pub(super) struct Unknown {
    /// Disjoint, all of one family. None: nothing is denied for being unknown.
    networks: Vec<IpNet>,
}

impl Unknown {
    /// What is to be denied of `family`.
    pub(super) fn of(family: Family, config: &NodeConfig) -> Self {
        let own = config.pod_networks.iter().filter(|net| Family::of_net(net) == family);
        let networks = IpNet::aggregate(&own.map(IpNet::trunc).collect());
        Self { networks }
    }

    /// Whether there are no networks.
    pub(super) fn is_off(&self) -> bool {
        self.networks.is_empty()
    }

    /// The set of known addresses, where rules ask for it.
    pub(super) fn set(&self, family: Family) -> Option<(SetName, Source)> {
        (!self.is_off()).then(|| (known(family), Source::Known(Arc::from(&self.networks[..]))))
    }

    /// The rules that deny, two for each network.
    pub(super) fn rules(&self, family: Family) -> Vec<Rule> {
        let sides = [(Side::Source, Direction::Egress), (Side::Destination, Direction::Ingress)];
        let mut rules = Vec::new();
        for net in &self.networks {
            for (side, direction) in sides {
                let within = match side {
                    Side::Source => Match::Source(*net),
                    Side::Destination => Match::Destination(*net),
                };
                let unknown = Match::NotInSet { set: known(family), side };
                // Every address lies in /0, and the kernel's rule does not say so.
                let within = (net.prefix_len() > 0).then_some(within);
                let matches = within.into_iter().chain([unknown]).collect();
                rules.push(goto(matches, deny_chain(direction)));
            }
        }
        rules
    }
}

fn known(family: Family) -> SetName {
    SetName { family, role: SetRole::Known { generation: Generation::default() } }
}
