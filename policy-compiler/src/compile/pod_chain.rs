//! The chains of one pod and the bodies that pods share.
//!
//! ```text
//! NPC-E-<pod>   -d OWN -m conntrack ! --ctorigdst OWN -j RETURN    to itself through a Service
//!               -d OWN -g NPC-DENY-E                               spoofed: before any rule allows it
//!               up to three rules, each -j RETURN                  or: -g NPC-EB-<body>
//!               -m comment --comment "shop/web-0" -g NPC-DENY-E
//! ```
//!
//! A chain that allows nobody needs no spoof rule, and one that allows everybody has no denial at
//! its end. Where hairpin traffic is policed, the first rule goes to the body instead of returning,
//! so that there is a body whatever its length.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::body::Body;
use super::digest::{Collision, Digest, Registry};
use super::layout::{deny, return_all};
use crate::config::Hairpin;
use crate::name::ObjectKey;
use crate::policy::Direction;
use crate::ruleset::{Chain, ChainName, Match, Rule, Target};

/// The longest body that a pod's own chain holds.
const INLINE: usize = 3;
/// What iptables takes for a comment, in bytes.
const COMMENT: usize = 255;

/// A pod's chain to be made.
pub(super) struct PodChain<'a> {
    /// Whose.
    pub(super) key: &'a ObjectKey,
    /// Its address in the family.
    pub(super) address: IpAddr,
    /// For which direction.
    pub(super) direction: Direction,
    /// What is allowed.
    pub(super) body: &'a Arc<Body>,
    /// What becomes of traffic to itself through a Service.
    pub(super) hairpin: Hairpin,
}

/// A pod's chain that was made, with what it was made of besides the pod's name and the direction.
#[derive(Clone, Debug)]
pub(super) struct Made {
    address: IpAddr,
    body: Arc<Body>,
    hairpin: Hairpin,
    /// What it is called.
    pub(super) name: ChainName,
    /// Its rules.
    pub(super) chain: Arc<Chain>,
    /// Whether the chain leads to the body.
    pub(super) leads: bool,
}

impl Made {
    fn is_of(&self, pod: &PodChain<'_>) -> bool {
        self.address == pod.address
            && self.hairpin == pod.hairpin
            && Arc::ptr_eq(&self.body, pod.body)
    }
}

impl PodChain<'_> {
    /// The pod's chain, where `last` was made for the same pod and direction.
    ///
    /// # Errors
    /// Where a name is taken.
    pub(super) fn make(
        &self,
        last: Option<&Made>,
        registry: &mut Registry,
    ) -> Result<Made, Collision> {
        if let Some(last) = last.filter(|last| last.is_of(self)) {
            return Ok(last.clone());
        }
        let name = match last {
            Some(last) => last.name.clone(),
            None => pod_chain_name(self.direction, self.key, registry)?,
        };
        let allowed = &self.body.rules;
        let policed = self.hairpin == Hairpin::Police;
        let leads = allowed.len() > INLINE || (policed && !allowed.is_empty());
        let rules = if leads {
            let (name, _) = self.body.shared(self.direction, registry)?;
            let translated = if policed { Target::Goto(name.clone()) } else { Target::Return };
            let rest =
                Rule { matches: Vec::new(), comment: None, target: Target::Goto(name.clone()) };
            vec![self.translated(translated), self.spoofed(), rest]
        } else {
            self.inline(allowed)
        };
        let (address, body, hairpin) = (self.address, Arc::clone(self.body), self.hairpin);
        Ok(Made { address, body, hairpin, name, chain: Arc::new(Chain { rules }), leads })
    }

    /// The whole of a short chain.
    fn inline(&self, allowed: &[Rule]) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.hairpin == Hairpin::Allow {
            rules.push(self.translated(Target::Return));
        }
        if !allowed.is_empty() {
            rules.push(self.spoofed());
        }
        rules.extend_from_slice(allowed);
        if !allowed.contains(&return_all()) {
            rules.push(Rule { comment: Some(comment(self.key)), ..deny(self.direction) });
        }
        rules
    }

    /// From the pod to itself, after a Service had been asked for.
    fn translated(&self, target: Target) -> Rule {
        to_itself(self.direction, self.address, target)
    }

    /// From the pod's address to itself on the wire.
    fn spoofed(&self) -> Rule {
        let matches = vec![equal_ends(self.direction, self.address)];
        Rule { matches, ..deny(self.direction) }
    }
}

/// The other end is `own` as well; its own end is what led to the chain.
pub(super) fn equal_ends(direction: Direction, own: IpAddr) -> Match {
    let own = IpNet::from(own);
    match direction {
        Direction::Egress => Match::Destination(own),
        Direction::Ingress => Match::Source(own),
    }
}

/// What becomes of traffic from `own` to itself, after a Service had been asked for.
pub(super) fn to_itself(direction: Direction, own: IpAddr, target: Target) -> Rule {
    let matches = vec![equal_ends(direction, own), Match::NotOriginalDestination(own)];
    Rule { matches, comment: None, target }
}

/// What a pod's chains are called by.
pub(super) fn pod_hash(key: &ObjectKey, registry: &mut Registry) -> Result<String, Collision> {
    let mut digest = Digest::new("pod");
    digest.text(key.namespace.as_str()).text(key.name.as_str());
    registry.name("pod", digest.finish())
}

/// `NPC-E-<hash>`, `NPC-I-<hash>`.
fn pod_chain_name(
    direction: Direction,
    key: &ObjectKey,
    registry: &mut Registry,
) -> Result<ChainName, Collision> {
    let hash = pod_hash(key, registry)?;
    Ok(match direction {
        Direction::Egress => ChainName::of(format_args!("E-{hash}")),
        Direction::Ingress => ChainName::of(format_args!("I-{hash}")),
    })
}

/// `namespace/name`, cut to what a comment holds; names of Kubernetes need no escape.
pub(super) fn comment(key: &ObjectKey) -> String {
    let mut text = key.to_string();
    text.truncate(COMMENT);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_cut_to_what_iptables_takes() {
        let long = ObjectKey::new(&"n".repeat(63), &"p".repeat(253)).unwrap();
        assert_eq!(comment(&long).len(), 255);
        assert_eq!(comment(&ObjectKey::new("shop", "web-0").unwrap()), "shop/web-0");
    }

    #[test]
    fn a_pod_whose_name_is_taken_gets_no_chain_at_all() {
        let key = ObjectKey::new("shop", "web-0").unwrap();
        let mut registry = Registry::default();
        let name = pod_chain_name(Direction::Egress, &key, &mut registry).unwrap();
        let hash = name.as_str().trim_start_matches("NPC-E-").to_owned();
        let mut taken = Registry::default();
        taken.take("pod", &hash);
        let made = PodChain {
            key: &key,
            address: "10.244.1.17".parse().unwrap(),
            direction: Direction::Egress,
            body: &Arc::default(),
            hairpin: Hairpin::Allow,
        }
        .make(None, &mut taken);
        assert_eq!(made.err(), Some(Collision { name: hash }));
    }
}
