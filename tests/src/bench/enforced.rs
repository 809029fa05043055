//! A node that policyd's engine and dataplane keep, and the same node kept by a process for each change.
//!
//! Both live on a thread in the node's namespace: what writes to the kernel writes where it was opened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::cluster::Snapshot;
use policy_compiler::engine::Engine;
use policy_compiler::render;
use policy_compiler::ruleset::{Generation, MemberSet, SetName};
use policy_compiler::update::{Event, Step, Update};
use policyd::dataplane::{self, Dataplane, START};

use super::BenchError;
use super::road::Road;
use super::shape::Shape;
use crate::enforcement::Backend;

/// When the agent destroys sets that it has given up, after the first of them.
const TIDY: Duration = Duration::from_millis(100);

/// The engine and the dataplane, as the agent has them.
#[derive(Debug)]
pub struct Enforced {
    engine: Engine,
    dataplane: Dataplane,
    in_engine: Duration,
    /// When sets that were given up are destroyed.
    tidy_at: Option<Instant>,
}

impl Enforced {
    /// Compiles the cluster and opens the dataplane; nothing is written.
    ///
    /// # Errors
    /// Where a program or a privilege is missing.
    pub fn open(backend: Backend, snapshot: Snapshot) -> Result<Self, BenchError> {
        let backend = match backend {
            Backend::Nft => dataplane::backend::Backend::Nft,
            Backend::Legacy => dataplane::backend::Backend::Legacy,
        };
        let choice = dataplane::backend::BackendChoice::Forced(backend);
        let dataplane = Dataplane::open(choice).map_err(|error| BenchError::Policyd {
            operation: "open its dataplane",
            reason: dataplane::error_chain(&error),
        })?;
        let mut engine = Engine::new(Shape::config(false)?, START);
        engine.apply(Event::Relisted(Box::new(snapshot)));
        engine.pending();
        Ok(Self { engine, dataplane, in_engine: Duration::ZERO, tidy_at: None })
    }

    /// Takes an event in and writes what follows from it; returns once the kernel has it. What is due
    /// besides it does first, as the agent does, whose events wait for that.
    ///
    /// # Errors
    /// Where the kernel is then not in step.
    pub fn take(&mut self, event: Event) -> Result<(), BenchError> {
        self.do_due();
        let begun = Instant::now();
        self.engine.apply(event);
        let update = self.engine.flush();
        self.in_engine = begun.elapsed();
        self.carry_out(&update)
    }

    /// Lets nothing happen for so long, and does meanwhile what is due then.
    pub fn rest(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        if let Some(at) = self.tidy_at.filter(|at| *at < until) {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            self.do_due();
        }
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    fn do_due(&mut self) {
        if self.tidy_at.is_some_and(|at| at <= Instant::now()) {
            let left = self.dataplane.tidy();
            self.tidy_at = (left > 0).then(|| Instant::now() + TIDY);
        }
    }

    /// How much of the last event's time the engine took.
    #[must_use]
    pub fn in_engine(&self) -> Duration {
        self.in_engine
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// Where the kernel is then not in step.
    pub fn write(&mut self) -> Result<(), BenchError> {
        let update = self.engine.flush();
        self.carry_out(&update)
    }

    fn carry_out(&mut self, update: &Update) -> Result<(), BenchError> {
        let written = self.dataplane.write(update, self.engine.ruleset());
        if !self.dataplane.is_tidy() {
            self.tidy_at.get_or_insert_with(|| Instant::now() + TIDY);
        }
        if written.is_in_step() {
            return Ok(());
        }
        Err(BenchError::Policyd { operation: "write", reason: format!("{written:?}") })
    }

    /// How many programs were started so far.
    #[must_use]
    pub fn processes(&self) -> u64 {
        self.dataplane.processes()
    }
}

/// The same updates, each step by a program that is started for it.
#[derive(Debug)]
pub struct ByProcesses<'a> {
    engine: Engine,
    road: &'a Road,
}

impl<'a> ByProcesses<'a> {
    /// Compiles the cluster; nothing is written.
    ///
    /// # Errors
    /// None, unless the shape is refused.
    pub fn new(road: &'a Road, snapshot: Snapshot) -> Result<Self, BenchError> {
        let mut engine = Engine::new(Shape::config(false)?, Generation(0));
        engine.apply(Event::Relisted(Box::new(snapshot)));
        engine.pending();
        Ok(Self { engine, road })
    }

    /// Takes an event in and carries out what follows from it.
    ///
    /// # Errors
    /// Where a program refuses its part.
    pub fn take(&mut self, event: Event) -> Result<(), BenchError> {
        self.engine.apply(event);
        self.write()
    }

    /// Carries out what is pending.
    ///
    /// # Errors
    /// Where a program refuses its part.
    pub fn write(&mut self) -> Result<(), BenchError> {
        let Update { steps } = self.engine.flush();
        for step in steps {
            match step {
                Step::CreateSets(sets) => self.ipset(&render::ipset_restore(&sets))?,
                Step::AddMembers(sets) => self.ipset(&members("add", &sets))?,
                Step::RemoveMembers(sets) => self.ipset(&members("del", &sets))?,
                Step::ReplaceChains(update) => {
                    let text = render::iptables_restore(&update);
                    self.road.backend.restore(&self.road.node, update.family, &text)?;
                }
                // The kernel lets go of a set a moment after its rules; whoever starts a process for each
                // change leaves that to a later one.
                Step::DestroySets(_) => {}
            }
        }
        Ok(())
    }

    fn ipset(&self, text: &str) -> Result<(), BenchError> {
        self.road.node.run(Command::new("ipset").arg("restore"), text)?;
        Ok(())
    }
}

fn members(verb: &str, sets: &BTreeMap<SetName, MemberSet>) -> String {
    let mut text = String::new();
    for (name, members) in sets {
        for address in members.addresses() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{verb} {name} {address}");
        }
    }
    text
}

/// How long something took.
///
/// # Errors
/// Where it failed.
pub fn timed(work: impl FnOnce() -> Result<(), BenchError>) -> Result<Duration, BenchError> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}
