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
mod search;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use policy_compiler::config::Antispoof;
use tracing::{info, warn};

use self::bindings::{Bindings, Owner, Way};
use self::kernel::{Kernel, LinkKind, Links};
use self::search::{Proof, Search};
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
        let mut search = Search::new(&kernel, &links);
        self.bind(&mut search, pods, now)?;
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

    /// Binds what is not bound, all that is proved before anything that is not.
    fn bind(
        &mut self,
        search: &mut Search<'_>,
        pods: &Pods,
        now: Instant,
    ) -> Result<(), LinkError> {
        let mut unbound = BTreeMap::new();
        for proof in Proof::ALL {
            unbound.clear();
            for (owner, addresses) in pods {
                if self.bindings.of(owner).is_some() {
                    continue;
                }
                let remembered = self.remembered.as_ref();
                match search.place(&self.bindings, remembered, *addresses, proof)? {
                    Ok(binding) => {
                        info!(pod = %owner.0, interface = %binding.interface, "sources are checked");
                        self.bindings.bind(owner, binding);
                    }
                    Err(why) => {
                        unbound.insert(owner.clone(), why);
                    }
                }
            }
        }
        let mut before = std::mem::take(&mut self.unbound);
        for (owner, why) in unbound {
            let (since, was_told) =
                before.remove(&owner).map_or((now, false), |before| (before.since, before.told));
            let told = was_told || now.saturating_duration_since(since) >= LASTING;
            if told && !was_told {
                warn!(pod = %owner.0, why, "what a pod sends is not checked");
            }
            self.unbound.insert(owner, Unbound { why, since, told });
        }
        Ok(())
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
