//! policyd's loop as a process of its own, over a directory, whose programs and libipset follow orders.
//!
//! It differs from `policyd run` in what it is given alone: limits and pauses that a test can wait for.
//! It has no socket and no HTTP; whether it is ready stands in the folder of the orders.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use policy_compiler::config::{DenyAction, Hairpin};
use policy_compiler::name::NodeName;
use policyd::args::LogFormat;
use policyd::dataplane::Dataplane;
use policyd::dataplane::backend::{Backend, BackendChoice};
use policyd::dataplane::sessions::{Libipset, NewSet, Opener, Sessions, SetCalls};
use policyd::health::Readiness as Ready;
use policyd::logging;
use policyd::source::directory::Directory;
use policyd::source::{Input, Source};
use policyd::sync::{Ipvs, Settings, Sync, Unknown, View};

use super::{Fault, Faults, Readiness};

/// The first and the longest pause before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// How often it says whether it is ready.
const PULSE: Duration = Duration::from_millis(5);

/// What an enforcer is given.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the manifests.
    pub source: PathBuf,
    /// The node that it enforces on.
    pub node: String,
    /// The backend, `nft` or `legacy`.
    pub backend: String,
    /// How long a program, and libipset, may take.
    pub limit: Duration,
}

impl Options {
    /// As words of a command line.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let limit = self.limit.as_millis().to_string();
        vec![self.source.display().to_string(), self.node.clone(), self.backend.clone(), limit]
    }

    /// From words of a command line.
    #[must_use]
    pub fn read(words: &[String]) -> Option<Self> {
        let [source, node, backend, limit] = words else { return None };
        let limit = Duration::from_millis(limit.parse().ok()?);
        Some(Self { source: source.into(), node: node.clone(), backend: backend.clone(), limit })
    }
}

/// Enforces until it is killed.
///
/// # Errors
/// Where what it needs cannot be had.
pub fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let _log = logging::start(LogFormat::Text, Some("debug"))?;
    let faults = Faults::inherited()?;
    let backend = if options.backend == "nft" { Backend::Nft } else { Backend::Legacy };
    let sets = faults.clone();
    let opener: Opener =
        Arc::new(move || Box::new(FaultySets { faults: sets.clone(), real: Libipset::default() }));
    let open = || Sessions::open_on(opener, options.limit);
    let dataplane = Dataplane::open_with(BackendChoice::Forced(backend), options.limit, open)?;
    let mut sync = Sync::new(settings(&options.node)?, dataplane).with_retry(RETRY);
    let (sender, inbox) = mpsc::channel();
    let directory = Directory::open(&options.source)?;
    let source = sender.clone();
    thread::spawn(move || directory.run(&source));
    thread::spawn(move || tell(&faults, &sender));
    sync.run(&inbox);
    Ok(())
}

fn settings(node: &str) -> Result<Settings, Box<dyn std::error::Error>> {
    Ok(Settings {
        node: NodeName::new(node)?,
        ipvs: Ipvs::Off,
        hairpin: Hairpin::default(),
        deny: DenyAction::default(),
        keep_established: false,
        unknown: Unknown::Allowed,
        log_denied: false,
        antispoof: false,
        verify_interval: Duration::from_secs(1),
        set_bridge_sysctls: false,
    })
}

/// Says all the time whether the loop is ready, as long as there is one.
fn tell(faults: &Faults, inbox: &Sender<Input>) {
    loop {
        let (reply, answer) = mpsc::channel();
        let question = move |view: &View<'_>| {
            let readiness = match view.health.readiness() {
                Ready::Starting => vec!["it has only begun".to_owned()],
                Ready::Ready => Vec::new(),
                Ready::NotReady(reasons) => reasons.iter().cloned().collect(),
            };
            // Whoever asked may be gone.
            let _ = reply.send(readiness);
        };
        if inbox.send(Input::Asked(Box::new(question))).is_err() {
            return;
        }
        let Ok(reasons) = answer.recv() else { return };
        let _ = faults.tell(&Readiness(reasons));
        thread::sleep(PULSE);
    }
}

/// libipset, where no order says otherwise. Its calls are `libipset:create`, `:add`, `:remove` and
/// `:destroy`.
struct FaultySets {
    faults: Faults,
    real: Libipset,
}

impl FaultySets {
    #[allow(clippy::panic, reason = "it is ordered to")]
    fn meet(&self, call: &str) -> Result<(), String> {
        match self.faults.meet(&format!("libipset:{call}")) {
            Ok(Some(Fault::Says(words))) => Err(words),
            Ok(Some(Fault::Sleeps(millis))) => {
                thread::sleep(Duration::from_millis(millis));
                Ok(())
            }
            Ok(Some(Fault::Panics)) => panic!("this thread was ordered to end"),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl SetCalls for FaultySets {
    fn create(&mut self, set: &NewSet) -> Result<(), String> {
        self.meet("create")?;
        self.real.create(set)
    }

    fn add(&mut self, set: &str, member: IpAddr) -> Result<bool, String> {
        self.meet("add")?;
        self.real.add(set, member)
    }

    fn remove(&mut self, set: &str, member: IpAddr) -> Result<bool, String> {
        self.meet("remove")?;
        self.real.remove(set, member)
    }

    fn destroy(&mut self, set: &str) -> Result<bool, String> {
        self.meet("destroy")?;
        self.real.destroy(set)
    }
}
