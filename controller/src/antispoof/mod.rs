//! That no pod sends from another's address (`--antispoof`).
//!
//! ```text
//!  pods ──> which interface? (kernel) ──> bindings ──┬─ routed: rules of table filter (the compiler)
//!                                                    └─ ports of bridges: table bridge policyd (table)
//! ```
//!
//! Invariants: a pod that is bound stays bound until it or its interface goes; two pods never share a
//! port; what cannot be found out leaves things as they are and is told. What is not bound is not
//! checked. The bindings of ports outlive policyd in the kernel's own table, those of routed interfaces in
//! the routes, which no pod can change.

mod bindings;
mod kernel;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use policy_compiler::cluster::Addresses;
use policy_compiler::config::{Antispoof, InterfaceName};
use tracing::{info, warn};

use self::bindings::{Binding, Bindings, Owner, Way};
use self::kernel::{Kernel, Learned, Link, LinkKind, Links};
use self::table::Table;
use crate::again::Again;
use crate::dataplane::command::{CommandError, Runner};
use crate::dataplane::error_chain;
use crate::dataplane::links::LinkError;
use crate::health::{Note, Notes};

pub(crate) use self::bindings::Pods;
pub(crate) use self::table::remove as remove_table;

/// How long `nft` may take.
pub(crate) const NFT_LIMIT: Duration = Duration::from_secs(10);
/// How often the table is read, and what the bridges have learned.
const CHECK: Duration = Duration::from_secs(10);
/// The first and the longest pause before the table is written again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long a pod may be unbound before that is told: its interface may still be in the making.
const LASTING: Duration = Duration::from_secs(10);
/// The ports of VXLAN: the assigned one and that which Linux takes where none is given.
const VXLAN: [u16; 2] = [4789, 8472];

/// Keeps who is behind which interface, and the table of bridges.
#[derive(Debug)]
pub(crate) struct Spoofing {
    on: bool,
    runner: Runner,
    bindings: Bindings,
    /// By which ports the table that was found has had which addresses; `None` before it was read.
    remembered: Option<BTreeMap<IpAddr, String>>,
    rules: Antispoof,
    standing: Standing,
    /// Why the table, or what is behind interfaces, is not known.
    broken: Option<String>,
    blind: Option<String>,
    retry: Again,
    check_at: Instant,
    /// Pods that are bound to nothing: why, since when, and whether that was told.
    unbound: BTreeMap<Owner, Unbound>,
    /// What was warned of.
    warned: BTreeSet<(Owner, u32)>,
}

#[derive(Clone, Debug)]
struct Unbound {
    why: String,
    since: Instant,
    told: bool,
}

/// The table of bridges, as far as we know it.
#[derive(Debug)]
enum Standing {
    /// Whatever an earlier run has left.
    Unknown,
    Absent,
    /// As we wrote it, and as it was shown then.
    Written(Table, Option<String>),
}

impl Spoofing {
    /// One that has looked at nothing; where it is off, all that it does is to remove what an earlier
    /// run has left.
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            runner: Runner::new(NFT_LIMIT),
            bindings: Bindings::default(),
            remembered: None,
            rules: Antispoof::default(),
            standing: Standing::Unknown,
            broken: None,
            blind: None,
            retry: Again::new(RETRY),
            check_at: Instant::now() + CHECK,
            unbound: BTreeMap::new(),
            warned: BTreeSet::new(),
        }
    }

    /// What there is for the compiler, where sources are checked at all.
    pub(crate) fn rules(&self) -> Option<Antispoof> {
        self.on.then(|| self.rules.clone())
    }

    /// Why the node is not ready.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = String> {
        self.broken.iter().chain(&self.blind).cloned()
    }

    /// What else is worth knowing.
    pub(crate) fn notes(&self) -> Notes {
        let mut told = self.unbound.iter().filter(|(_, unbound)| unbound.told);
        let Some(((pod, _), unbound)) = told.next() else { return Notes::new() };
        let (more, why) = (told.count(), &unbound.why);
        let others = if more == 0 { String::new() } else { format!(" and {more} more pods") };
        let text = format!("what {pod}{others} sends is not checked: {why}");
        [("antispoof".to_owned(), Note { text, since: Some(unbound.since) })].into()
    }

    /// Looks where these pods of the node are, and has the bridges' table follow.
    pub(crate) fn look(&mut self, pods: &Pods) {
        let now = Instant::now();
        let check = self.check_at <= now;
        if check {
            self.check_at = now + CHECK;
        }
        if !self.on {
            self.keep_table(None, false);
            return;
        }
        if pods.is_empty() {
            self.remembered.get_or_insert_default();
        }
        match self.find(pods, check, now) {
            Ok(table) => {
                self.blind = None;
                // A table that could not be read is not replaced by one that knows less.
                if self.remembered.is_some() {
                    self.keep_table(Some(table).filter(|table| !table.ports.is_empty()), check);
                }
            }
            Err(error) => {
                if self.blind.is_none() {
                    warn!(error = %error_chain(&error), "cannot find the interfaces of pods");
                }
                self.blind = Some("the interfaces of pods cannot be found".to_owned());
            }
        }
    }

    /// Binds what is not bound, and says what the bridges' table is to hold.
    fn find(&mut self, pods: &Pods, check: bool, now: Instant) -> Result<Table, LinkError> {
        if pods.is_empty() {
            self.bindings = Bindings::default();
            self.unbound.clear();
            self.rules.interfaces.clear();
            return Ok(Table::default());
        }
        let kernel = Kernel::open()?;
        let links = kernel.links()?;
        self.bindings.keep(pods, &links);
        self.remember();
        let mut search =
            Search { kernel: &kernel, links: &links, behind: BTreeMap::new(), learned: None };
        let mut unbound = BTreeMap::new();
        for (owner, addresses) in pods {
            if self.bindings.of(owner).is_some() {
                continue;
            }
            match self.place(&mut search, *addresses)? {
                Ok(binding) => {
                    info!(pod = %owner.0, interface = %binding.interface, "sources are checked");
                    self.bindings.bind(owner, binding);
                }
                Err(why) => {
                    let since = self.unbound.get(owner).map_or(now, |before| before.since);
                    let was_told = self.unbound.get(owner).is_some_and(|before| before.told);
                    let told = was_told || now.saturating_duration_since(since) >= LASTING;
                    if told && !was_told {
                        warn!(pod = %owner.0, why, "what a pod sends is not checked");
                    }
                    unbound.insert(owner.clone(), Unbound { why, since, told });
                }
            }
        }
        self.unbound = unbound;
        if let Some(remembered) = &mut self.remembered {
            // Whoever comes later was not there; who has not been found yet was, perhaps.
            let sought: BTreeSet<IpAddr> = self
                .unbound
                .keys()
                .filter_map(|owner| pods.get(owner))
                .flat_map(|addresses| addresses.iter())
                .collect();
            remembered.retain(|address, _| sought.contains(address));
        }
        if check {
            self.compare(&mut search, pods)?;
        }
        let tunnel_ports = tunnel_ports(&links);
        self.rules = Antispoof {
            interfaces: self.bindings.sources(pods, Way::Routed),
            tunnel_ports: tunnel_ports.clone(),
        };
        let ports = self.bindings.sources(pods, Way::Port);
        let node = if ports.is_empty() { BTreeSet::new() } else { kernel.own_addresses()? };
        Ok(Table { ports, node, tunnel_ports })
    }

    /// Where a pod with these addresses is, or why nobody knows.
    fn place(
        &self,
        search: &mut Search<'_>,
        addresses: Addresses,
    ) -> Result<Result<Binding, String>, LinkError> {
        let mut why = "no route leads to it".to_owned();
        for address in addresses.iter() {
            let Some(route) = search.kernel.route(address)? else { continue };
            let Some(link) = search.links.get(&route.index) else { continue };
            match link.kind {
                LinkKind::Own if route.exact && link.controller.is_none() => {
                    match InterfaceName::new(&link.name) {
                        Ok(interface) => {
                            let way = Way::Routed;
                            return Ok(Ok(Binding { index: route.index, interface, way }));
                        }
                        Err(error) => why = error.to_string(),
                    }
                }
                LinkKind::Bridge => match self.port(search, route.index, addresses)? {
                    Ok(binding) => return Ok(Ok(binding)),
                    Err(reason) => why = reason,
                },
                _ => {
                    why =
                        format!("it is reached by {}, which leads to more than one pod", link.name)
                }
            }
        }
        Ok(Err(why))
    }

    /// By which port of a bridge a pod with these addresses is, or why nobody knows.
    fn port(
        &self,
        search: &mut Search<'_>,
        bridge: u32,
        addresses: Addresses,
    ) -> Result<Result<Binding, String>, LinkError> {
        let Some(remembered) = &self.remembered else {
            return Ok(Err("the table that stands cannot be read".to_owned()));
        };
        let names: BTreeSet<&str> =
            addresses.iter().filter_map(|a| remembered.get(&a)).map(String::as_str).collect();
        let stood: Vec<u32> = search
            .ports(bridge)
            .filter(|(_, link)| names.contains(link.name.as_str()))
            .map(|(index, _)| index)
            .collect();
        let witnessed = search.witnessed(bridge, addresses);
        let candidates = match (&stood[..], &witnessed[..]) {
            ([_, ..], _) => stood,
            ([], [_, ..]) => witnessed,
            ([], []) => search.learned(bridge, addresses)?,
        };
        let free: Vec<u32> = candidates
            .iter()
            .copied()
            .filter(|index| self.bindings.owner_of_port(*index).is_none())
            .collect();
        let name = |index: &u32| search.links.get(index).map_or("", |link| link.name.as_str());
        Ok(match (&free[..], &candidates[..]) {
            ([index], _) => InterfaceName::new(name(index))
                .map(|interface| Binding { index: *index, interface, way: Way::Port })
                .map_err(|error| error.to_string()),
            ([], []) => Err("nothing tells by which port of its bridge it is".to_owned()),
            ([], [taken, ..]) => {
                let other = self.bindings.owner_of_port(*taken);
                let other = other.map_or_else(String::new, |(pod, _)| pod.to_string());
                Err(format!("it seems to be behind {}, which is the port of {other}", name(taken)))
            }
            (several, _) => {
                let names: Vec<&str> = several.iter().map(name).collect();
                Err(format!("its address is behind several ports: {}", names.join(", ")))
            }
        })
    }

    /// Reads what was bound when policyd ended. Until that can be read no port is bound anew.
    fn remember(&mut self) {
        if self.remembered.is_none() {
            match table::remembered(&self.runner) {
                Ok(remembered) => self.remembered = Some(remembered),
                // What is not installed has bound nothing; that it is missing is told when it is to write.
                Err(CommandError::Missing { .. }) => self.remembered = Some(BTreeMap::new()),
                Err(error) => self.fail("cannot read the bridges' table", &error),
            }
        }
    }

    /// Warns where the kernel has come to see a pod elsewhere than it is bound. Nothing follows that.
    fn compare(&mut self, search: &mut Search<'_>, pods: &Pods) -> Result<(), LinkError> {
        let mut seen = BTreeSet::new();
        for (owner, addresses) in pods {
            let Some(binding) = self.bindings.of(owner) else { continue };
            for address in addresses.iter() {
                let Some(route) = search.kernel.route(address)? else { continue };
                let elsewhere = match binding.way {
                    Way::Routed => Some(route.index).filter(|index| *index != binding.index),
                    Way::Port => search
                        .learned_of(route.index, address)?
                        .filter(|index| *index != binding.index),
                };
                let Some(elsewhere) = elsewhere else { continue };
                let finding = (owner.clone(), elsewhere);
                if !self.warned.contains(&finding) {
                    let name = search.links.get(&elsewhere).map_or("?", |link| link.name.as_str());
                    warn!(
                        pod = %owner.0, %address, bound = %binding.interface, seen = name,
                        "a pod's address is seen behind another interface, which changes nothing"
                    );
                }
                seen.insert(finding);
            }
        }
        self.warned = seen;
        Ok(())
    }

    /// Brings the bridges' table to what it is to hold, or has it gone.
    fn keep_table(&mut self, wanted: Option<Table>, check: bool) {
        if self.retry.at().is_some() && !self.retry.is_due() {
            return;
        }
        let Some(wanted) = wanted else {
            if !matches!(self.standing, Standing::Absent) {
                match table::remove(&self.runner) {
                    Ok(true) => self.stands(Standing::Absent, "removed the bridges' table"),
                    Ok(false) | Err(CommandError::Missing { .. }) => {
                        self.standing = Standing::Absent;
                        self.mend();
                    }
                    Err(error) => self.fail("cannot remove the bridges' table", &error),
                }
            }
            return;
        };
        if let Standing::Written(table, shown) = &self.standing
            && *table == wanted
        {
            if !check {
                return;
            }
            match table::show(&self.runner) {
                Ok(now) if now == *shown => return,
                Ok(_) => warn!("the bridges' table is not as it was written, writing it anew"),
                Err(error) => {
                    self.fail("cannot read the bridges' table", &error);
                    return;
                }
            }
        }
        let ports = wanted.ports.len();
        let written = table::write(&self.runner, &wanted).and_then(|()| table::show(&self.runner));
        match written {
            Ok(shown) => {
                info!(ports, "wrote the bridges' table");
                self.standing = Standing::Written(wanted, shown);
                self.mend();
            }
            Err(error) => self.fail("cannot write the bridges' table", &error),
        }
    }

    fn stands(&mut self, standing: Standing, message: &str) {
        info!("{message}");
        self.standing = standing;
        self.mend();
    }

    fn mend(&mut self) {
        self.broken = None;
        self.retry.forget();
    }

    fn fail(&mut self, what: &str, error: &CommandError) {
        let reason = format!("{what}: {}", error_chain(error));
        if self.broken.as_ref() != Some(&reason) {
            warn!(error = %error_chain(error), "{what}");
        }
        self.broken = Some(reason);
        self.standing = Standing::Unknown;
        self.retry.put_off();
    }
}

/// The UDP ports on which the node takes packets out of tunnels.
fn tunnel_ports(links: &Links) -> BTreeSet<NonZeroU16> {
    let of_links = links.values().filter_map(|link| match link.kind {
        LinkKind::Tunnel(port) => Some(port),
        _ => None,
    });
    VXLAN.into_iter().filter_map(NonZeroU16::new).chain(of_links).collect()
}

/// A look at the kernel, in which nothing is asked twice.
struct Search<'k> {
    kernel: &'k Kernel,
    links: &'k Links,
    behind: BTreeMap<u32, BTreeSet<IpAddr>>,
    learned: Option<Learned>,
}

impl Search<'_> {
    /// The ports of a bridge that can be a pod's.
    fn ports(&self, bridge: u32) -> impl Iterator<Item = (u32, &Link)> {
        let ports = self.links.iter().map(|(index, link)| (*index, link));
        ports.filter(move |(_, link)| link.controller == Some(bridge) && link.kind == LinkKind::Own)
    }

    /// The ports at whose other end one of these addresses is.
    fn witnessed(&mut self, bridge: u32, addresses: Addresses) -> Vec<u32> {
        let peers: Vec<(u32, Option<(i32, u32)>)> =
            self.ports(bridge).map(|(index, link)| (index, link.peer)).collect();
        for (index, peer) in &peers {
            let kernel = self.kernel;
            self.behind.entry(*index).or_insert_with(|| {
                peer.map(|peer| kernel.addresses_behind(peer)).unwrap_or_default()
            });
        }
        let has = |index: &u32| {
            let behind = self.behind.get(index);
            behind.is_some_and(|behind| addresses.iter().any(|address| behind.contains(&address)))
        };
        peers.iter().map(|(index, _)| *index).filter(has).collect()
    }

    /// The ports by which a bridge has learned that one of these addresses is.
    fn learned(&mut self, bridge: u32, addresses: Addresses) -> Result<Vec<u32>, LinkError> {
        let mut found = BTreeSet::new();
        for address in addresses.iter() {
            found.extend(self.learned_of(bridge, address)?);
        }
        let ports: BTreeSet<u32> = self.ports(bridge).map(|(index, _)| index).collect();
        Ok(found.intersection(&ports).copied().collect())
    }

    fn learned_of(&mut self, bridge: u32, address: IpAddr) -> Result<Option<u32>, LinkError> {
        let learned = match &self.learned {
            Some(learned) => learned,
            None => self.learned.insert(self.kernel.learned()?),
        };
        Ok(learned.port(bridge, address))
    }
}
