//! The ruleset as data: chains, rules and sets of table `filter`, a family at a time.
//!
//! Nothing here is text of iptables or ipset; [`crate::render`] makes that. The kernel executes it
//! as [`crate::simulate`] does.

mod members;
mod set_name;
mod sorted;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::members::MemberSet;
pub use self::set_name::{Generation, SetHash, SetName, SetRole};
use crate::cidr::Family;
use crate::config::{DenyAction, InterfaceName};
use crate::policy::Direction;
use crate::port::{PortRange, Protocol};

/// The name of a chain of ours: `NPC-` and at most 28 characters in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

impl ChainName {
    /// What all our chains begin with.
    pub const PREFIX: &str = "NPC-";
    /// The most characters that both backends take.
    pub const LIMIT: usize = 28;

    /// Takes a name. `None` where it lacks the prefix, is too long, or has characters besides
    /// letters, digits and `-`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let ok = text.starts_with(Self::PREFIX)
            && (Self::PREFIX.len() + 1..=Self::LIMIT).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        ok.then(|| Self(Arc::from(text)))
    }

    /// The name of `NPC-` and these parts, which the compiler makes of its own words, of hexadecimal
    /// and of hashes, and keeps within the rules of [`ChainName::new`].
    pub(crate) fn of(parts: fmt::Arguments<'_>) -> Self {
        let text = format!("{}{parts}", Self::PREFIX);
        debug_assert!(Self::new(&text).is_some(), "`{text}` is no chain name");
        Self(Arc::from(text))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The members of a set. Its kernel type follows from [`SetRole`]: `hash:net` for
/// [`SetRole::Networks`], `hash:ip` for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    /// The members. In a `hash:ip` set every network is a single address and no entry is `nomatch`.
    pub members: MemberSet,
}

/// One member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The network; a /32 or /128 for an address. Never /0.
    pub net: IpNet,
    /// Whether an address that lies here, and in no longer entry, is not in the set.
    pub nomatch: bool,
}

impl Member {
    /// A single address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self { net: IpNet::from(address), nomatch: false }
    }
}

/// Which side of a packet a set is looked up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
}

/// One condition of a rule. A rule applies where all of its conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// `-i`: the packet came in by this interface.
    InInterface(InterfaceName),
    /// `-i PREFIX+`: by one whose name begins so; 1 to 15 characters that a name can have.
    InInterfaces(String),
    /// `-m physdev --physdev-is-bridged`: it goes from one port of the bridge to another.
    Bridged,
    /// `-s`.
    Source(IpNet),
    /// `-d`.
    Destination(IpNet),
    /// `-p tcp|udp|sctp`.
    Protocol(Protocol),
    /// `-p icmpv6 --icmpv6-type N`.
    Icmpv6Type(u8),
    /// `-p tcp ! --syn`: a TCP segment that opens no connection.
    NotSyn,
    /// `--dport a[:b]`; the rule has a [`Match::Protocol`] before it.
    DestinationPort(PortRange),
    /// `-m multiport --dports ...`: 2 to 15 slots, a range of several ports taking two; the rule has
    /// a [`Match::Protocol`] before it.
    DestinationPorts(Vec<PortRange>),
    /// `-m set --match-set NAME src|dst`.
    Set {
        /// The set.
        set: SetName,
        /// With which address.
        side: Side,
    },
    /// `-m set ! --match-set NAME src|dst`.
    NotInSet {
        /// The set.
        set: SetName,
        /// With which address.
        side: Side,
    },
    /// `-m conntrack ! --ctstate RELATED,ESTABLISHED`.
    NotEstablished,
    /// `-m conntrack --ctstate RELATED,ESTABLISHED`.
    Established,
    /// `-m conntrack --ctstate NEW`.
    New,
    /// `-m conntrack ! --ctorigdst ADDRESS`: the connection was first made to another address.
    NotOriginalDestination(IpAddr),
    /// `-m addrtype --dst-type BROADCAST`.
    ToBroadcast,
    /// `-m addrtype --dst-type LOCAL`: for an address of this node.
    ToLocal,
    /// `-m addrtype --src-type LOCAL`: sent from an address of this node.
    FromLocal,
}

impl Match {
    /// The set that it looks an address up in.
    #[must_use]
    pub fn set(&self) -> Option<&SetName> {
        match self {
            Match::Set { set, .. } | Match::NotInSet { set, .. } => Some(set),
            _ => None,
        }
    }

    /// The same, with the set called as `name_of` says.
    #[must_use]
    pub fn with_set_called(&self, name_of: &dyn Fn(&SetName) -> SetName) -> Self {
        let mut renamed = self.clone();
        if let Match::Set { set, .. } | Match::NotInSet { set, .. } = &mut renamed {
            *set = name_of(set);
        }
        renamed
    }
}

/// What a rule does with a packet that meets its conditions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Back to behind the last jump; an allowed packet leaves our chains so.
    Return,
    /// `-j`: comes back at the end of the chain.
    Jump(ChainName),
    /// `-g`: comes back to where the chain of this rule would have.
    Goto(ChainName),
    /// Whoever listens on [`LOG_GROUP`] is told this of the packet, though not of more than so many a
    /// second; it goes on to the next rule.
    Log(Notice),
    /// Dropped or, as configured, refused. (`Reject` stands for the two rules that refuse TCP by
    /// reset and the rest by port-unreachable.)
    Deny(DenyAction),
}

/// The NFLOG group that packets are told to.
pub const LOG_GROUP: u16 = 6917;

/// What [`LOG_GROUP`] is told of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// It is denied in this direction. The chain that denies begins with this.
    Denied(Direction),
    /// It passes, and in this direction a policy that is audited only would deny it. The chain in which
    /// audits end begins with this.
    Audited(Direction),
}

impl Notice {
    /// All of them.
    pub const ALL: [Notice; 4] = [
        Notice::Denied(Direction::Ingress),
        Notice::Denied(Direction::Egress),
        Notice::Audited(Direction::Ingress),
        Notice::Audited(Direction::Egress),
    ];

    /// What the packet is marked with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Notice::Denied(Direction::Ingress) => "NPC-I",
            Notice::Denied(Direction::Egress) => "NPC-E",
            Notice::Audited(Direction::Ingress) => "NPC-AI",
            Notice::Audited(Direction::Egress) => "NPC-AE",
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The conditions, in the order of evaluation.
    pub matches: Vec<Match>,
    /// A comment for the reader of `iptables-save`: at most 255 bytes, no control characters.
    pub comment: Option<String>,
    /// What follows.
    pub target: Target,
}

impl Rule {
    /// The same, with every set called as `name_of` says.
    #[must_use]
    pub fn with_sets_called(&self, name_of: &dyn Fn(&SetName) -> SetName) -> Self {
        let matches = self.matches.iter().map(|condition| condition.with_set_called(name_of));
        Self {
            matches: matches.collect(),
            comment: self.comment.clone(),
            target: self.target.clone(),
        }
    }
}

/// The rules of one chain, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// The same, with every set called as `name_of` says: shared, where it mentions none.
    #[must_use]
    pub fn with_sets_called(self: &Arc<Self>, name_of: &dyn Fn(&SetName) -> SetName) -> Arc<Self> {
        let mut conditions = self.rules.iter().flat_map(|rule| &rule.matches);
        if conditions.all(|condition| condition.set().is_none()) {
            return Arc::clone(self);
        }
        let rules = self.rules.iter().map(|rule| rule.with_sets_called(name_of)).collect();
        Arc::new(Self { rules })
    }
}

/// Chains by name. Those that are the same in two rulesets may be shared.
pub type Chains = BTreeMap<ChainName, Arc<Chain>>;

/// A built-in chain that carries a rule of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// FORWARD.
    Forward,
    /// OUTPUT, where IPVS is in use.
    Output,
    /// INPUT, where sources are checked.
    Input,
}

impl Hook {
    /// The built-in chain's name.
    #[must_use]
    pub fn builtin(self) -> &'static str {
        match self {
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Input => "INPUT",
        }
    }
}

/// Chains, hooks and sets of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyRules {
    /// The rule of ours that stands first in each built-in chain.
    pub hooks: BTreeMap<Hook, Rule>,
    /// Our chains.
    pub chains: Chains,
    /// Our sets.
    pub sets: BTreeMap<SetName, AddressSet>,
}

/// How much there is of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Chains.
    pub chains: usize,
    /// Rules in them.
    pub rules: usize,
    /// Sets.
    pub sets: usize,
    /// Members of all sets.
    pub members: usize,
}

impl FamilyRules {
    /// How much there is. Walks all chains and sets.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            chains: self.chains.len(),
            rules: self.chains.values().map(|chain| chain.rules.len()).sum(),
            sets: self.sets.len(),
            members: self.sets.values().map(|set| set.members.len()).sum(),
        }
    }

    /// Whether some chain begins with telling this.
    #[must_use]
    pub fn tells(&self, notice: Notice) -> bool {
        let mut first = self.chains.values().filter_map(|chain| chain.rules.first());
        first.any(|rule| rule.target == Target::Log(notice))
    }
}

/// Everything that we have in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// IPv4: `iptables`, sets of family inet.
    pub v4: FamilyRules,
    /// IPv6: `ip6tables`, sets of family inet6.
    pub v6: FamilyRules,
}

impl Ruleset {
    /// The rules of `family`.
    #[must_use]
    pub fn family(&self, family: Family) -> &FamilyRules {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Whether any chain tells of what policies that are audited only would deny.
    #[must_use]
    pub fn audits(&self) -> bool {
        Family::ALL.into_iter().any(|family| {
            Direction::ALL
                .into_iter()
                .any(|direction| self.family(family).tells(Notice::Audited(direction)))
        })
    }

    /// The rules of `family`, to change.
    pub fn family_mut(&mut self, family: Family) -> &mut FamilyRules {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}
