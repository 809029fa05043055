//! Why the kernel, or `iptables-restore` before it, would not take a rule.

use std::fmt;

use ipnet::IpNet;

use crate::ruleset::{ChainName, Member, SetName};

/// A rule that would be refused, and with it the transaction that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where.
    pub place: Place,
    /// Why.
    pub fault: Fault,
}

impl fmt::Display for Refusal {
    /// `NPC-EGRESS rule 3: there is no chain NPC-E-x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// What a [`Refusal`] speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The packet itself.
    Packet,
    /// The rule of ours in this built-in chain.
    Hook(&'static str),
    /// A rule of ours.
    Rule {
        /// Its chain.
        chain: ChainName,
        /// Its number there, from 1 as iptables counts.
        number: usize,
    },
    /// A set of ours.
    Set(SetName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Packet => f.write_str("packet"),
            Place::Hook(builtin) => write!(f, "hook in {builtin}"),
            Place::Rule { chain, number } => write!(f, "{chain} rule {number}"),
            Place::Set(name) => write!(f, "set {name}"),
        }
    }
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its ends are of two families.
    #[error("source and destination are of different families")]
    MixedFamilies,
    /// The target is not there.
    #[error("there is no chain {0}")]
    UnknownChain(ChainName),
    /// The set is not there.
    #[error("there is no set {0}")]
    UnknownSet(SetName),
    /// The set is of the other family.
    #[error("set {0} is of the other family")]
    SetOfOtherFamily(SetName),
    /// A member that a set of this type cannot hold.
    #[error("cannot hold {}{}", .0.net, if .0.nomatch { " nomatch" } else { "" })]
    UnfitMember(Member),
    /// An address match of the other family.
    #[error("{0} is of the other family")]
    NetOfOtherFamily(IpNet),
    /// A match that the family does not have.
    #[error("{0} is no match of this family")]
    NotInFamily(&'static str),
    /// An option that a rule can have once.
    #[error("{0} is given twice")]
    GivenTwice(&'static str),
    /// A port is matched before the protocol is known.
    #[error("a port is matched without a protocol before it")]
    PortWithoutProtocol,
    /// The ports of a multiport match need more slots than there are, or none.
    #[error("multiport takes 1 to 15 slots, this has {0}")]
    MultiportSlots(usize),
    /// The comment is longer than the kernel's field.
    #[error("the comment has {0} bytes, 255 fit")]
    CommentTooLong(usize),
    /// A rule in a built-in chain that does not lead to a chain of ours.
    #[error("a hook's rule has to lead to a chain of ours")]
    HookWithoutChain,
    /// The chain can be reached from itself.
    #[error("{0} leads to itself")]
    Loop(ChainName),
    /// More chains below one another than nft takes.
    #[error("more than {limit} chains are nested", limit = Fault::NESTING)]
    NestedTooDeep,
}

impl Fault {
    /// How many chains of ours may be nested below a built-in one, gotos counted as well as jumps:
    /// the kernel's `NFT_JUMP_STACK_SIZE` is 16, the built-in chain being the first.
    pub const NESTING: usize = 15;
}
