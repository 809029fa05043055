//! The chains of pods that policies audit and none isolates.
//!
//! ```text
//! NPC-AE-<pod>    -d OWN -m conntrack ! --ctorigdst OWN -j RETURN    to itself through a Service
//!                 -d OWN -g NPC-AUDIT-E                              spoofed: whoever isolates denies it
//!                 -j NPC-AEB-<body>                                  one for each policy
//! NPC-AEB-<body>  what the policy allows, -j RETURN ; then -g NPC-AUDIT-E
//! NPC-AUDIT-E     NFLOG ; -j RETURN
//! ```
//!
//! They stand in the trees where an isolated pod's chain would. Nothing in them denies, and nothing that
//! they lead to does: whichever way a packet takes, it comes back to behind the jump that entered the
//! tree, as if the pod had no leaf. Each policy has a body of its own, since each is asked for itself.
//! Where hairpin traffic is policed, the first rule is one jump for each body before the RETURN.

use std::net::IpAddr;
use std::sync::Arc;

use super::body::{Body, Named};
use super::digest::{Collision, Registry};
use super::layout::{goto, jump, return_all};
use super::pod_chain::{comment, equal_ends, pod_hash, to_itself};
use crate::config::Hairpin;
use crate::name::ObjectKey;
use crate::policy::Direction;
use crate::ruleset::{Chain, ChainName, Notice, Rule, Target};

/// The chain that tells of what an audited policy would deny in a direction.
pub(super) fn audit_end(direction: Direction) -> ChainName {
    match direction {
        Direction::Egress => ChainName::of(format_args!("AUDIT-E")),
        Direction::Ingress => ChainName::of(format_args!("AUDIT-I")),
    }
}

/// The rules of [`audit_end`]. The second counts what the first, which is limited, may not tell of.
pub(super) fn audit_end_rules(direction: Direction) -> Chain {
    let tell = Target::Log(Notice::Audited(direction));
    let rules = vec![Rule { matches: Vec::new(), comment: None, target: tell }, return_all()];
    Chain { rules }
}

/// A pod's chain to be made.
pub(super) struct AuditChain<'a> {
    /// Whose.
    pub(super) key: &'a ObjectKey,
    /// Its address in the family.
    pub(super) address: IpAddr,
    /// For which direction.
    pub(super) direction: Direction,
    /// What each audited policy allows.
    pub(super) bodies: &'a [Arc<Body>],
    /// What becomes of traffic to itself through a Service.
    pub(super) hairpin: Hairpin,
}

impl AuditChain<'_> {
    /// The pod's chain, with its name and the bodies that it leads to.
    ///
    /// # Errors
    /// Where a name is taken.
    pub(super) fn make(&self, registry: &mut Registry) -> Result<(Named, Vec<Named>), Collision> {
        let hash = pod_hash(self.key, registry)?;
        let own = match self.direction {
            Direction::Egress => ChainName::of(format_args!("AE-{hash}")),
            Direction::Ingress => ChainName::of(format_args!("AI-{hash}")),
        };
        // One that allows everything has nothing to tell of.
        let telling = self.bodies.iter().filter(|body| !body.rules.contains(&return_all()));
        let mut leads = Vec::new();
        for body in telling {
            leads.push(body.telling(self.direction, registry)?.clone());
        }
        let itself = |target| to_itself(self.direction, self.address, target);
        let mut rules = Vec::new();
        if self.hairpin == Hairpin::Police {
            rules.extend(leads.iter().map(|(name, _)| itself(Target::Jump(name.clone()))));
        }
        rules.push(itself(Target::Return));
        let spoofed =
            goto(vec![equal_ends(self.direction, self.address)], audit_end(self.direction));
        rules.push(Rule { comment: Some(comment(self.key)), ..spoofed });
        rules.extend(leads.iter().map(|(name, _)| jump(Vec::new(), name.clone())));
        Ok(((own, Arc::new(Chain { rules })), leads))
    }
}
