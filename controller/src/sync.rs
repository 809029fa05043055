//! The loop: what a source lists goes through the engine into the kernel.
//!
//! One thread runs it and owns engine and dataplane. Invariants: nothing is written before the first
//! whole listing; a write that failed is tried again, ever more slowly, until it succeeds; whatever
//! fails is a reason not to be ready and never ends the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::config::{DenyAction, Hairpin, InterfaceName, NodeConfig};
use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::engine::Engine;
use policy_compiler::name::NodeName;
use policy_compiler::update::Event;
use tracing::{debug, error, info, warn};

use crate::again::Again;
use crate::dataplane::links::Bridges;
use crate::dataplane::{Changes, Dataplane, Outcome, START, Written, error_chain};
use crate::findings::Findings;
use crate::health::{Health, InForce};
use crate::source::{Change, Found, Input, Kind, Listing, Problem, RESCAN, Standing, Subject};

/// How long after everything was written anew the kernel is read once more.
const VERIFY_AFTER: Duration = Duration::from_secs(2);
/// How often the node's wiring is looked at, and what else changes by itself.
const RECHECK: Duration = Duration::from_secs(1);
/// The first and the longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The first and the longest pause before a set in use is tried again.
const TIDY: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(10));

/// How long a source may say nothing before what it last said is no longer trusted to be all.
const SILENCE: Duration = RESCAN.saturating_mul(3);

/// The operator's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub node: NodeName,
    /// Whether IPVS delivers services here.
    pub ipvs: Ipvs,
    /// What a pod's traffic to itself through a Service meets.
    pub hairpin: Hairpin,
    /// What a denied packet's sender is told.
    pub deny: DenyAction,
    /// Whether flows that a change denies may live on.
    pub keep_established: bool,
    /// How often the names of chains and sets are read back and put right; never where zero.
    pub verify_interval: Duration,
}

/// Whether IPVS delivers services on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipvs {
    /// As the kernel shows.
    #[default]
    Auto,
    /// It does.
    On,
    /// It does not.
    Off,
}

/// What the loop shows to those who ask.
#[derive(Debug)]
pub struct View<'a> {
    /// The operator's choices.
    pub settings: &'a Settings,
    /// The objects, and what follows from them.
    pub engine: &'a Engine,
    /// What the kernel was told.
    pub dataplane: &'a Dataplane,
    /// Whether that is as it should be.
    pub health: &'a Health,
}

/// The loop's state.
#[derive(Debug)]
pub struct Sync {
    settings: Settings,
    engine: Engine,
    config: NodeConfig,
    dataplane: Dataplane,
    health: Health,
    /// Whether a whole listing has been seen.
    begun: bool,
    problems: BTreeSet<Problem>,
    findings: Findings,
    /// Diagnostics of the source; the engine adds its own.
    listed: Vec<Diagnostic>,
    /// What a source that tells object by object last said about each.
    found: BTreeMap<(Kind, Arc<str>), Found>,
    standing: BTreeMap<Kind, Standing>,
    bridges: Bridges,
    /// Whether the bridges were ever found, and why they cannot be now.
    wired: bool,
    unwired: Option<String>,
    /// Why the families that are out of step are so, by the kind of failure.
    failures: BTreeMap<String, String>,
    retry: Again,
    tidy: Again,
    verify_at: Option<Instant>,
    recheck_at: Instant,
    /// When the source must have been heard of again, and how long that is from each time.
    silent_at: Instant,
    silence: Duration,
    source_ended: bool,
}

impl Sync {
    /// A loop that has seen and written nothing.
    #[must_use]
    pub fn new(settings: Settings, dataplane: Dataplane) -> Self {
        let config = NodeConfig {
            ipvs: settings.ipvs == Ipvs::On,
            keep_established: settings.keep_established,
            hairpin: settings.hairpin,
            deny: settings.deny,
            ..NodeConfig::new(settings.node.clone())
        };
        Self {
            engine: Engine::new(config.clone(), START),
            config,
            settings,
            dataplane,
            health: Health::default(),
            begun: false,
            problems: BTreeSet::new(),
            findings: Findings::default(),
            listed: Vec::new(),
            found: BTreeMap::new(),
            standing: BTreeMap::new(),
            bridges: Bridges::default(),
            wired: false,
            unwired: None,
            failures: BTreeMap::new(),
            retry: Again::new(RETRY),
            tidy: Again::new(TIDY),
            verify_at: None,
            recheck_at: Instant::now() + RECHECK,
            silent_at: Instant::now() + SILENCE,
            silence: SILENCE,
            source_ended: false,
        }
    }

    /// Bears that the source says nothing for so long.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { silence, silent_at: Instant::now() + silence, ..self }
    }

    /// Runs until told to stop, or until no source is left. Rules stay in the kernel.
    pub fn run(&mut self, inbox: &Receiver<Input>) {
        loop {
            let first = match inbox.recv_timeout(self.idle_for()) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) => {
                    self.do_due();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Of several listings that wait, only the last still holds.
            let mut newest = None;
            let mut changed = false;
            for input in std::iter::once(first).chain(inbox.try_iter()) {
                match input {
                    Input::Stop => return,
                    Input::Unchanged => {}
                    Input::Listed(listing) => newest = Some(listing),
                    Input::Changed(change) => {
                        self.apply(*change);
                        changed = true;
                    }
                    Input::Standing(standing) => {
                        self.standing.insert(standing.kind, standing);
                        changed = true;
                    }
                    Input::Asked(question) => question(&self.view()),
                    Input::SourceEnded => self.source_ended = true,
                }
            }
            let was_silent = self.is_silent();
            self.silent_at = Instant::now() + self.silence;
            if let Some(listing) = newest {
                self.take(*listing);
            }
            if changed {
                self.after_changes();
            }
            if self.source_ended || was_silent {
                self.update_health();
            }
            if self.source_ended {
                return;
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.silent_at <= Instant::now()
    }

    /// Whether the kernel holds what the last listing asks for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    /// The dataplane, to look at.
    #[must_use]
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    fn idle_for(&self) -> Duration {
        let silent_at = Some(self.silent_at).filter(|at| *at > Instant::now());
        let times =
            [self.retry.at(), self.tidy.at(), self.verify_at, Some(self.recheck_at), silent_at];
        let next = times.into_iter().flatten().min().unwrap_or(self.recheck_at);
        next.saturating_duration_since(Instant::now())
    }

    /// Takes what a source lists, and brings the kernel after it.
    pub fn take(&mut self, listing: Listing) {
        self.report_problems(listing.problems);
        self.listed = listing.diagnostics;
        if !self.begun && !listing.whole {
            self.report_diagnostics();
            self.update_health();
            return;
        }
        self.begun = true;
        self.engine.apply(Event::Relisted(Box::new(listing.snapshot)));
        self.look_at_node();
        self.flush();
    }

    /// Takes in what a source says of one object, or of all objects of a kind.
    fn apply(&mut self, change: Change) {
        let Change { subject: Subject { kind, object }, event, found, seen: _ } = change;
        match object {
            None => self.found.retain(|(other, _), _| *other != kind),
            Some(object) => drop(self.found.remove(&(kind, object))),
        }
        self.found.extend(found.into_iter().map(|(object, found)| ((kind, object), found)));
        if let Some(event) = event {
            self.engine.apply(event);
        }
    }

    /// Brings the kernel after what was taken in, once every kind has been listed.
    fn after_changes(&mut self) {
        let problems = self.found.values().flat_map(|found| found.problems.iter().cloned());
        self.report_problems(problems.collect());
        let diagnostics = self.found.values().flat_map(|found| found.diagnostics.iter().cloned());
        self.listed = diagnostics.collect();
        self.begun |= self.standing.values().all(|standing| standing.listed);
        if self.begun {
            self.look_at_node();
            self.flush();
        } else {
            self.report_diagnostics();
            self.update_health();
        }
    }

    /// What there is to see.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            settings: &self.settings,
            engine: &self.engine,
            dataplane: &self.dataplane,
            health: &self.health,
        }
    }

    fn do_due(&mut self) {
        let now = Instant::now();
        if self.retry.is_due() {
            self.flush();
        }
        if self.verify_at.is_some_and(|at| at <= now) {
            let interval = self.settings.verify_interval;
            self.verify_at = (!interval.is_zero()).then(|| now + interval);
            let written = self.dataplane.verify(self.engine.ruleset());
            self.after(&written, now);
        }
        if self.is_silent() {
            self.update_health();
        }
        if self.tidy.is_due() {
            self.tidy_up();
        }
        if self.recheck_at <= now {
            self.recheck_at = now + RECHECK;
            if self.begun {
                self.recheck();
            }
        }
    }

    /// Looks at what changes without an input's doing, and writes where that is needed.
    fn recheck(&mut self) {
        let rewired = !self.wired | self.look_at_node();
        let out_of_step = self.dataplane.look_again(self.engine.ruleset());
        if rewired || out_of_step {
            self.flush();
        } else {
            self.update_health();
        }
    }

    /// Writes what has changed since the last flush, or all where the kernel is out of step.
    fn flush(&mut self) {
        if !self.wired {
            // Without its bridges the rules would let pass what the old ones may deny.
            self.update_health();
            return;
        }
        let begun = Instant::now();
        let update = self.engine.flush();
        let written = self.dataplane.write(&update, self.engine.ruleset());
        // Enforcement comes first: there may be many lines, and a log that is slow.
        self.report_diagnostics();
        self.after(&written, begun);
    }

    fn after(&mut self, written: &Written, begun: Instant) {
        let before = std::mem::take(&mut self.failures);
        for (family, outcome) in written.iter() {
            match outcome {
                Outcome::Unchanged | Outcome::Absent => {}
                Outcome::Written(changes) => {
                    if changes.whole {
                        self.verify_at = Some(Instant::now() + VERIFY_AFTER);
                    }
                    debug!(%family, ?changes, "written");
                }
                Outcome::Failed(error) => {
                    // Details such as line numbers differ each time; what is told stays the first.
                    let kind = format!("{family}: {}", error.kind());
                    let reason = before.get(&kind).cloned().unwrap_or_else(|| {
                        error!(%family, error = %error_chain(error), "not applied");
                        format!("{family}: {}", error_chain(error))
                    });
                    self.failures.insert(kind, reason);
                }
            }
        }
        log_applied(written, begun.elapsed());
        if self.failures.is_empty() {
            self.retry.forget();
        } else {
            self.retry.put_off();
        }
        self.tidy.forget();
        self.tidy_up();
        self.update_health();
    }

    /// Waits for the kernel to let go of sets that were given up, for a second at most. A loop that
    /// goes on need not wait; one that ends would leave them behind.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.dataplane.tidy() > 0 && Instant::now() < deadline {
            thread::sleep(TIDY.0);
        }
    }

    fn tidy_up(&mut self) {
        if self.dataplane.tidy() > 0 {
            self.tidy.put_off();
        }
    }

    /// Looks which bridges carry pods and whether IPVS is in use, and says whether that is new.
    /// What cannot be found out stays as it was.
    fn look_at_node(&mut self) -> bool {
        let mut config = self.config.clone();
        let addresses = self.local_addresses();
        match self.bridges.look(addresses) {
            Ok(bridges) => {
                config.bridges = bridges;
                self.unwired = None;
                self.wired = true;
            }
            Err(error) => {
                if self.unwired.is_none() {
                    warn!(error = %error_chain(&error), "cannot find the bridges of pods");
                }
                self.unwired = Some("the bridges of pods cannot be found".to_owned());
            }
        }
        if self.settings.ipvs == Ipvs::Auto {
            // The kernel of this network namespace; the file is absent until its module is loaded.
            let services = fs::read_to_string("/proc/thread-self/net/ip_vs");
            config.ipvs = has_ipvs(config.ipvs, &services);
        }
        if config == self.config {
            return false;
        }
        let bridges: Vec<&str> = config.bridges.iter().map(InterfaceName::as_str).collect();
        info!(bridges = bridges.join(","), ipvs = config.ipvs, "wiring of the node");
        self.engine.set_config(config.clone());
        self.config = config;
        true
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        let pods = self.engine.snapshot().pods.values();
        pods.filter(|pod| pod.is_live() && pod.node.as_ref() == Some(&self.settings.node))
            .flat_map(|pod| pod.addresses.iter())
            .collect()
    }

    fn report_problems(&mut self, problems: Vec<Problem>) {
        let now: BTreeSet<Problem> = problems.into_iter().collect();
        for problem in now.difference(&self.problems) {
            error!(input = &*problem.input, reason = %problem, "cannot read");
        }
        self.problems = now;
    }

    /// Logs the diagnostics that are new.
    fn report_diagnostics(&mut self) {
        self.findings.report(self.listed.iter().chain(self.engine.diagnostics()));
    }

    fn update_health(&mut self) {
        let inputs: BTreeSet<&str> = self.problems.iter().map(|p| &*p.input).collect();
        let mut reasons: BTreeSet<String> =
            inputs.into_iter().map(|input| format!("{input} cannot be read")).collect();
        if !self.begun {
            reasons.insert("not everything has been read yet".to_owned());
        }
        if self.source_ended {
            reasons.insert("the source has ended".to_owned());
        } else if self.is_silent() {
            reasons.insert(format!("the source has said nothing for {:?}", self.silence));
        }
        reasons.extend(self.failures.values().cloned());
        reasons.extend(self.dataplane.leftovers());
        reasons.extend(self.unwired.clone());
        reasons.extend(self.dataplane.refused());
        let snapshot = self.engine.snapshot();
        let local = |node: &Option<NodeName>| node.as_ref() == Some(&self.settings.node);
        let rules = self.engine.ruleset();
        let in_force = InForce {
            policies: snapshot.policies.len(),
            pods: snapshot.pods.values().filter(|pod| pod.is_live() && local(&pod.node)).count(),
            chains: rules.v4.chains.len() + rules.v6.chains.len(),
            sets: rules.v4.sets.len() + rules.v6.sets.len(),
        };
        self.health.set(reasons, in_force);
    }
}

/// One line for one update, both families together.
fn log_applied(written: &Written, duration: Duration) {
    let mut sum = Changes::default();
    for (_, outcome) in written.iter() {
        if let Outcome::Written(changes) = outcome {
            sum.whole |= changes.whole;
            sum.sets_created += changes.sets_created;
            sum.sets_destroyed += changes.sets_destroyed;
            sum.members_added += changes.members_added;
            sum.members_removed += changes.members_removed;
            sum.chains_replaced += changes.chains_replaced;
            sum.chains_deleted += changes.chains_deleted;
        }
    }
    if sum.is_empty() {
        return;
    }
    info!(
        whole = sum.whole,
        sets_created = sum.sets_created,
        sets_destroyed = sum.sets_destroyed,
        members_added = sum.members_added,
        members_removed = sum.members_removed,
        chains_replaced = sum.chains_replaced,
        chains_deleted = sum.chains_deleted,
        ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "applied"
    );
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
    use super::*;

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
