//! Whether enforcement on this node would be an illusion.
//!
//! Rules that are in the kernel deny nothing to packets that never meet them. [`Inspector::look`]
//! finds the reasons for which they may not: others' rules above the hooks, forwarding that is off,
//! bridges whose packets are not shown to iptables, interfaces that lead past FORWARD; and what is
//! no such reason but deserves a look. Each is a [`Concern`] with its remedy; warnings are logged once.
//!
//! Nothing here starts a program on the caller's thread: routes, interfaces and switches are asked of
//! the kernel, hooks are taken from the dataplane's own readings, and the other backend's chains are
//! read on a thread of their own. What cannot be read is a concern itself and no failure. All of it is
//! about the network namespace of the calling thread.

mod attachment;
mod bridges;
mod engines;
mod hooks;
pub mod sysctl;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_route::link::LinkMessage;
use policy_compiler::cidr::Family;
use policy_compiler::name::ObjectKey;
use tracing::{info, warn};

use self::attachment::Suspects;
use self::engines::OtherBackend;
use self::sysctl::{Switch, Sysctls};
use crate::dataplane::backend::Backend;
use crate::dataplane::links::{LinkError, Routes, Way};
use crate::dataplane::{Seen, error_chain};
use crate::health::{Note, Notes};

/// How long what the kernel was asked holds. Asking takes some 30 µs for each pod with an interface of its own.
const PAUSE: Duration = Duration::from_millis(900);

/// Something about this node that policies cannot get at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Concern {
    /// What it is.
    pub kind: ConcernKind,
    /// What exactly, and what to do, on one line.
    pub detail: String,
}

impl Concern {
    fn new(kind: ConcernKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    fn unreadable(what: impl std::fmt::Display, error: &dyn std::error::Error) -> Self {
        Self::new(ConcernKind::Unreadable, format!("cannot read {what}: {}", error_chain(error)))
    }
}

/// What a [`Concern`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConcernKind {
    /// A built-in chain had no rule of ours.
    HookMissing,
    /// It had one above ours that can let packets by.
    HookBelowAccept,
    /// The node does not forward.
    ForwardingOff,
    /// A bridge carries pods and does not show their packets to iptables.
    BridgeUnfiltered,
    /// A bridge carries pods and `br_netfilter` is not loaded.
    BridgeNetfilterAbsent,
    /// Pods hang on interfaces whose packets do not pass FORWARD.
    InterfaceBypasses,
    /// Others' rules stood above ours, none of which lets packets by.
    HookNotFirst,
    /// Frames with a VLAN tag pass a bridge unseen.
    VlanTagsUnfiltered,
    /// Pods are reached by way of a gateway, so that nobody knows what they pass.
    PodBehindGateway,
    /// Another engine enforces policies too.
    OtherEngine,
    /// Something that decides about one of these cannot be read.
    Unreadable,
}

impl ConcernKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::HookMissing,
        Self::HookBelowAccept,
        Self::ForwardingOff,
        Self::BridgeUnfiltered,
        Self::BridgeNetfilterAbsent,
        Self::InterfaceBypasses,
        Self::HookNotFirst,
        Self::VlanTagsUnfiltered,
        Self::PodBehindGateway,
        Self::OtherEngine,
        Self::Unreadable,
    ];

    /// Whether a node with such a concern is not ready. The others are warnings.
    #[must_use]
    pub fn blocks(self) -> bool {
        match self {
            Self::HookMissing
            | Self::HookBelowAccept
            | Self::ForwardingOff
            | Self::BridgeUnfiltered
            | Self::BridgeNetfilterAbsent
            | Self::InterfaceBypasses => true,
            Self::HookNotFirst
            | Self::VlanTagsUnfiltered
            | Self::PodBehindGateway
            | Self::OtherEngine
            | Self::Unreadable => false,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::HookMissing => "hook_missing",
            Self::HookBelowAccept => "hook_below_accept",
            Self::ForwardingOff => "forwarding_off",
            Self::BridgeUnfiltered => "bridge_unfiltered",
            Self::BridgeNetfilterAbsent => "bridge_netfilter_absent",
            Self::InterfaceBypasses => "interface_bypasses",
            Self::HookNotFirst => "hook_not_first",
            Self::VlanTagsUnfiltered => "vlan_tags_unfiltered",
            Self::PodBehindGateway => "pod_behind_gateway",
            Self::OtherEngine => "other_engine",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What the loop knows of the node and the inspector asks about.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The addresses of this node's pods that have a network of their own and have not finished.
    pub pods: &'a [(ObjectKey, IpAddr)],
    /// Which iptables is written to.
    pub backend: Backend,
    /// What the dataplane last saw of others' rules.
    pub tables: [(Family, &'a Seen); 2],
}

impl Sight<'_> {
    /// Whether a pod of this node has an address of `family`.
    fn has_pods_of(&self, family: Family) -> bool {
        self.pods.iter().any(|(_, address)| Family::of(*address) == family)
    }
}

/// Looks at the node again and again.
#[derive(Debug)]
pub struct Inspector {
    sysctls: Sysctls,
    /// Whether switches of bridges that are off are ours to put on.
    sets_bridge_sysctls: bool,
    /// Switches that could not be put on, as was said.
    unset: BTreeSet<Switch>,
    suspects: Suspects,
    other: OtherBackend,
    concerns: BTreeSet<Concern>,
    /// Those of them that the kernel was asked for, and when.
    surroundings: BTreeSet<Concern>,
    looked: Option<Instant>,
}

impl Default for Inspector {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspector {
    /// One that has found nothing and changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sysctls: Sysctls::of_this_namespace(),
            sets_bridge_sysctls: false,
            unset: BTreeSet::new(),
            suspects: Suspects::default(),
            other: OtherBackend::default(),
            concerns: BTreeSet::new(),
            surroundings: BTreeSet::new(),
            looked: None,
        }
    }

    /// Puts the switches of bridges on whenever it finds one off.
    #[must_use]
    pub fn setting_bridge_sysctls(self, sets_bridge_sysctls: bool) -> Self {
        Self { sets_bridge_sysctls, ..self }
    }

    /// What was found at the last look.
    #[must_use]
    pub fn concerns(&self) -> &BTreeSet<Concern> {
        &self.concerns
    }

    /// Why the node is not ready, as far as the last look shows.
    pub fn reasons(&self) -> impl Iterator<Item = String> {
        let blocking = self.concerns.iter().filter(|concern| concern.kind.blocks());
        blocking.map(|concern| concern.detail.clone())
    }

    /// What else the last look shows.
    #[must_use]
    pub fn notes(&self) -> Notes {
        let mut notes = Notes::new();
        for Concern { kind, detail } in self.concerns.iter().filter(|c| !c.kind.blocks()) {
            let about = (1..).map(|number: usize| match number {
                1 => kind.label().to_owned(),
                number => format!("{} {number}", kind.label()),
            });
            if let Some(about) = about.into_iter().find(|about| !notes.contains_key(about)) {
                notes.insert(about, Note { text: detail.clone(), since: None });
            }
        }
        notes
    }

    /// Looks, and says whether anything is new or gone. What the kernel has to be asked is only asked
    /// where that was not just done.
    pub fn look(&mut self, sight: &Sight<'_>) -> bool {
        self.look_at(sight, Instant::now())
    }

    fn look_at(&mut self, sight: &Sight<'_>, now: Instant) -> bool {
        if self.looked.is_none_or(|at| now >= at + PAUSE) {
            self.looked = Some(now);
            if self.sets_bridge_sysctls {
                self.set_bridge_sysctls();
            }
            self.surroundings = self.look_around(sight, now);
        }
        self.other.look(sight.backend, now);
        let mut found = self.surroundings.clone();
        // Each reading of the hooks counts: they are put right at once, and by the next may stand.
        hooks::judge(&sight.tables, &mut found);
        engines::judge(sight, &self.other, &mut found);
        let changed = found != self.concerns;
        self.tell_warnings(&found);
        self.concerns = found;
        changed
    }

    /// Logs which warnings are new and which are gone; what blocks is a reason, and told as one.
    fn tell_warnings(&self, found: &BTreeSet<Concern>) {
        let warnings = |concern: &&Concern| !concern.kind.blocks();
        for Concern { kind, detail } in found.difference(&self.concerns).filter(warnings) {
            warn!(concern = kind.label(), detail, "worth a look");
        }
        for Concern { kind, detail } in self.concerns.difference(found).filter(warnings) {
            info!(concern = kind.label(), detail, "no longer so");
        }
    }

    /// What there is to say of switches, interfaces and routes at `now`.
    fn look_around(&mut self, sight: &Sight<'_>, now: Instant) -> BTreeSet<Concern> {
        let mut concerns = BTreeSet::new();
        for (family, switch) in
            [(Family::V4, Switch::Ipv4Forwarding), (Family::V6, Switch::Ipv6Forwarding)]
        {
            if sight.has_pods_of(family) {
                self.judge_forwarding(switch, &mut concerns);
            }
        }
        match Attached::find(sight.pods) {
            Ok(attached) => {
                bridges::judge(&self.sysctls, &attached, &mut concerns);
                self.suspects.judge(&attached, now, &mut concerns);
            }
            Err(error) => {
                concerns.insert(Concern::unreadable("how pods are attached", &error));
            }
        }
        concerns
    }

    fn judge_forwarding(&self, switch: Switch, concerns: &mut BTreeSet<Concern>) {
        concerns.extend(match self.sysctls.read(switch) {
            Ok(true) => None,
            Ok(false) => Some(Concern::new(
                ConcernKind::ForwardingOff,
                format!(
                    "{switch} is 0, so that this node forwards nothing to its pods: set {switch}=1"
                ),
            )),
            Err(error) => Some(Concern::unreadable(switch, &error)),
        });
    }

    fn set_bridge_sysctls(&mut self) {
        for (switch, outcome) in self.sysctls.set_bridges() {
            match outcome {
                Ok(false) => drop(self.unset.remove(&switch)),
                Ok(true) => {
                    self.unset.remove(&switch);
                    info!(%switch, "put on");
                }
                Err(error) => {
                    if self.unset.insert(switch) {
                        warn!(
                            %switch, error = %error_chain(&error),
                            "cannot put on: let `policyd set-bridge-sysctls` do it where /proc/sys is writable"
                        );
                    }
                }
            }
        }
    }
}

/// How the pods of this node hang on it.
#[derive(Debug, Default)]
struct Attached {
    /// Whom each address belongs to and how it is reached; one that is not reached is left out.
    ways: Vec<(ObjectKey, IpAddr, Way)>,
    /// The interfaces that they are reached by.
    links: BTreeMap<u32, LinkMessage>,
}

impl Attached {
    fn find(pods: &[(ObjectKey, IpAddr)]) -> Result<Self, LinkError> {
        let mut attached = Self::default();
        if pods.is_empty() {
            return Ok(attached);
        }
        let routes = Routes::open()?;
        for (key, address) in pods {
            let Some(way) = routes.way(*address)? else { continue };
            if let Entry::Vacant(unknown) = attached.links.entry(way.index) {
                // An interface that has just gone leads nowhere.
                let Some(link) = routes.link(way.index)? else { continue };
                unknown.insert(link);
            }
            attached.ways.push((key.clone(), *address, way));
        }
        Ok(attached)
    }

    /// The addresses that are reached by `index` with no gateway between.
    fn directly_by(&self, index: u32) -> impl Iterator<Item = (&ObjectKey, IpAddr)> {
        let near = self.ways.iter().filter(move |(_, _, way)| way.index == index && !way.far);
        near.map(|(key, address, _)| (key, *address))
    }
}
