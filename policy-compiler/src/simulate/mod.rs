//! Executes a ruleset on a packet as the kernel does.
//!
//! A packet meets the rule of ours in the built-in chain of its hook, and from there our chains:
//! a jump comes back to behind itself, a goto to behind the last jump, so that RETURN, or the end of
//! a chain, resumes in the chain that jumped last, and behind the hook where none did. What leaves
//! our chains undecided passes: the rules of others that follow are not ours to judge.
//!
//! A ruleset that the kernel or `iptables-restore` would refuse has no behaviour; the packet then
//! ends in [`Outcome::Malformed`] at the first rule found so, and nothing here panics. Only rules that
//! the packet comes by are looked at: [`check()`] looks at all of them.
//!
//! ```text
//! Flow ── journey ──> Hop (node, Packet) ── simulate(Ruleset of that node) ──> Fate
//!   └───────────────────────────── decide ──────────────────────────────────> Decision
//! ```

mod check;
#[cfg(test)]
pub(crate) mod fixture;
mod journey;
mod machine;
mod matching;
mod refusal;
#[cfg(test)]
mod tests;

pub use check::check;
pub use journey::{DEFAULT_BRIDGE, Hop, Places, Ways, decide, decide_over, journey, journey_over};
pub use refusal::{Fault, Place, Refusal};

use crate::packet::Packet;
use crate::policy::Direction;
use crate::ruleset::{ChainName, Ruleset};

/// The chains into which NPC-FORWARD jumps for each direction, and in which the denials of that
/// direction end.
const EGRESS: [&str; 2] = ["NPC-EGRESS", "NPC-DENY-E"];
/// See [`EGRESS`].
const INGRESS: [&str; 2] = ["NPC-INGRESS", "NPC-DENY-I"];

/// What becomes of a packet in our chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on behind our hook.
    Passes,
    /// It is dropped or refused.
    Denied {
        /// By a rule of this chain.
        by: ChainName,
    },
    /// It came by a rule that the kernel would not have taken.
    Malformed {
        /// Which, and why not.
        why: Refusal,
    },
}

/// What becomes of a packet, and at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// What becomes of it.
    pub outcome: Outcome,
    /// How many rules of ours were looked at, the hook's included.
    pub evaluated: usize,
    /// The directions in which a policy that is audited only was said to deny it, in the order in
    /// which that was said: once for each such policy.
    pub audited: Vec<Direction>,
}

/// Executes `ruleset` on `packet`.
#[must_use]
pub fn simulate(ruleset: &Ruleset, packet: &Packet) -> Fate {
    machine::run(ruleset.family(packet.family()), packet, &[])
}

/// What one direction alone says to `packet`: every rule that leads into the other direction's tree
/// (`NPC-INGRESS` for egress) or to its denial (`NPC-DENY-I`) is passed over as if its conditions did
/// not hold.
///
/// So of NPC-MIDSTREAM the rule for sources counts for egress and that for destinations for ingress;
/// the denials of NPC-BRIDGED, which stand for the destination, count for ingress. A packet passes
/// iff it passes in both directions.
#[must_use]
pub fn simulate_half(ruleset: &Ruleset, direction: Direction, packet: &Packet) -> Fate {
    let others = match direction {
        Direction::Egress => &INGRESS,
        Direction::Ingress => &EGRESS,
    };
    machine::run(ruleset.family(packet.family()), packet, others)
}
