//! The commands, from their arguments to their exit status.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use policy_compiler::name::NodeName;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::{debug, error, info};

use crate::agent::{Agent, AgentError};
use crate::announce::Announcer;
use crate::args::{ArgsError, Cli, Command, Listen, RunArgs};
use crate::dataplane::cleanup::cleanup;
use crate::dataplane::{Dataplane, OpenError, error_chain};
use crate::denied::{self, Listening};
use crate::inspect::sysctl::Sysctls;
use crate::logging::{self, LogError};
use crate::metrics::Metrics;
use crate::serve;
use crate::show::{self, ShowError};
use crate::source::api::{ApiError, ApiServer};
use crate::source::directory::{Directory, DirectoryError};
use crate::source::scoped::PodWatches;
use crate::source::{EndOfSource, Input, Source};
use crate::sync::{Outlets, Sync};
use crate::taint::StartupTaint;

/// Why a command could not begin. All of these are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The arguments.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Another writer.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The kernel's tables.
    #[error(transparent)]
    Dataplane(#[from] OpenError),
    /// The directory of manifests.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What the agent that runs is asked.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// Signals or threads.
    #[error("cannot start")]
    System(#[from] io::Error),
}

/// Not applied, or something remained.
const INCOMPLETE: u8 = 1;
/// How long `--once` waits for the API server to list everything.
const FIRST_LIST: Duration = Duration::from_mins(2);
/// Usage, or something that is needed is missing.
const UNUSABLE: u8 = 2;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::read();
    match dispatch(&cli) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("policyd: {}", error_chain(&error)));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Writes a line on standard error, where somebody reads it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn dispatch(cli: &Cli) -> Result<ExitCode, StartError> {
    let _log = logging::start(cli.log_format, cli.log_level.as_deref())?;
    match &cli.command {
        Command::Run(args) if args.once => once(args),
        Command::Run(args) => run(args),
        Command::Status(args) => Ok(done(show::status(args)?)),
        Command::Verify(args) => Ok(done(show::verify(args)?)),
        Command::Trace(args) => Ok(done(show::trace(args)?)),
        Command::Cleanup => clean(),
        Command::SetBridgeSysctls => Ok(set_bridge_sysctls()),
    }
}

/// Where the objects come from.
enum Objects {
    Manifests(Box<Directory>),
    Cluster(Box<ApiServer>),
}

impl Objects {
    fn open(args: &RunArgs) -> Result<Self, StartError> {
        Ok(match &args.source {
            Some(path) => Self::Manifests(Box::new(Directory::open(path)?)),
            None => Self::Cluster(Box::new(ApiServer::configure(&args.api())?)),
        })
    }

    /// The same, told by the loop which pods to follow, where that is asked for.
    fn scoped(self, args: &RunArgs, node: &NodeName, sync: Sync) -> (Self, Sync) {
        match self {
            Self::Cluster(server) if args.scoped_watch => {
                let (wanted, asked) = watch::channel(PodWatches::new());
                let server = server.scoped(node.clone(), asked);
                (Self::Cluster(Box::new(server)), sync.with_scope(wanted))
            }
            objects => (objects, sync),
        }
    }

    /// The same, with what comes counted there.
    fn counting(self, metrics: &Arc<Metrics>) -> Self {
        match self {
            Self::Cluster(server) => Self::Cluster(Box::new(server.counting(Arc::clone(metrics)))),
            manifests @ Self::Manifests(_) => manifests,
        }
    }
}

impl Source for Objects {
    fn run(self, inbox: &Sender<Input>) {
        match self {
            Self::Manifests(directory) => directory.run(inbox),
            Self::Cluster(server) => server.run(inbox),
        }
    }
}

/// How a loop came to its end.
enum End {
    /// A signal, which the loop followed.
    Signal(&'static str),
    /// More than one signal: the write in hand was not waited for.
    Insisted,
    /// By itself.
    Itself,
}

/// The status of a command that answers yes or no.
fn done(yes: bool) -> ExitCode {
    if yes { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) }
}

/// Applies what the source holds now.
fn once(args: &RunArgs) -> Result<ExitCode, StartError> {
    let settings = args.settings()?;
    let objects = Objects::open(args)?;
    let _agent = Agent::hold()?;
    let node = settings.node.clone();
    let (objects, mut sync) = objects.scoped(args, &node, Sync::new(settings, open(args)?));
    match objects {
        Objects::Manifests(mut directory) => {
            if let Some(listing) = directory.settled() {
                sync.take(listing);
                sync.settle();
            }
        }
        Objects::Cluster(server) => {
            let (sender, inbox) = mpsc::channel();
            follow(*server, sender)?;
            sync.run_once(&inbox, FIRST_LIST);
        }
    }
    Ok(if sync.is_ready() { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// Follows the source until a signal comes.
fn run(args: &RunArgs) -> Result<ExitCode, StartError> {
    let settings = args.settings()?;
    let objects = Objects::open(args)?;
    let mut agent = Agent::hold()?;
    let mut outlets = outlets(args, &objects, &settings.node)?;
    outlets.listening = Arc::new(Listening::to(args.log_denied));
    outlets.unanswered = agent.unheld().map(str::to_owned);
    let node = settings.node.clone();
    let sync = Sync::new(settings, open(args)?).with_outlets(outlets.clone());
    let (objects, sync) = objects.counting(&outlets.metrics).scoped(args, &node, sync);
    let (sender, inbox) = mpsc::channel();
    let (metrics, listening) = (Arc::clone(&outlets.metrics), Arc::clone(&outlets.listening));
    let denied = denied::start(sender.clone(), metrics, listening)?;
    agent.serve(sender.clone(), Some(denied))?;
    // From here on a signal is waited for, whatever starts after it.
    let signals = Signals::new()?;
    let _serving = match args.listen {
        Listen::At(address) => Some(serve::start(
            address,
            outlets.board.clone(),
            outlets.metrics.clone(),
            sender.clone(),
        )?),
        Listen::Off => None,
    };
    if let (Some(taint), Objects::Cluster(server)) = (&outlets.taint, &objects) {
        let server = server.clone();
        taint.start(sender.clone(), move || server.client())?;
    }
    follow(objects, sender.clone())?;
    Ok(match signals.run(sync, &sender, inbox)? {
        End::Signal(signal) => {
            info!(signal, "stopped, rules stay in force");
            ExitCode::SUCCESS
        }
        End::Insisted => {
            error!("stopped before the write in hand was finished; the rules stay as they are");
            ExitCode::from(INCOMPLETE)
        }
        End::Itself => {
            error!("the loop ended by itself; the rules stay in force");
            ExitCode::from(INCOMPLETE)
        }
    })
}

/// Where the loop tells what it does.
fn outlets(args: &RunArgs, objects: &Objects, node: &NodeName) -> io::Result<Outlets> {
    let mut outlets = Outlets::default();
    if let Objects::Cluster(server) = objects
        && args.events
    {
        let (server, metrics) = (server.clone(), Arc::clone(&outlets.metrics));
        outlets.announcer = Announcer::start(move || server.client(), node.clone(), metrics)?;
    }
    outlets.taint = args.remove_taint.as_ref().map(|key| StartupTaint::new(node.clone(), key));
    Ok(outlets)
}

/// Starts the source on a thread of its own. However that ends, the loop is told.
fn follow(source: impl Source + 'static, inbox: Sender<Input>) -> io::Result<()> {
    thread::Builder::new().name("source".to_owned()).spawn(move || {
        let end = EndOfSource(inbox);
        source.run(&end.0);
    })?;
    Ok(())
}

/// The signals that end policyd.
struct Signals {
    runtime: Runtime,
    signals: [(&'static str, Signal); 3],
}

impl Signals {
    fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async {
            Ok::<_, io::Error>([
                ("SIGTERM", signal(SignalKind::terminate())?),
                ("SIGINT", signal(SignalKind::interrupt())?),
                ("SIGHUP", signal(SignalKind::hangup())?),
            ])
        })?;
        Ok(Self { runtime, signals })
    }

    /// Runs the loop on a thread of its own until a signal comes or it ends.
    fn run(
        mut self,
        mut sync: Sync,
        sender: &Sender<Input>,
        inbox: Receiver<Input>,
    ) -> io::Result<End> {
        let (ended, mut end) = oneshot::channel::<()>();
        let worker = thread::Builder::new().name("sync".to_owned()).spawn(move || {
            sync.run(&inbox);
            // Nobody waits for it after a signal.
            let _ = ended.send(());
        })?;
        let name = self.signal_unless(&mut end);
        debug!(signal = name, "ending; another signal would not wait for the write in hand");
        // The write in hand is finished first, for which every program has its time; unless whoever
        // stops us insists.
        let _ = sender.send(Input::Stop);
        if name.is_some() && self.signal_unless(&mut end).is_some() {
            return Ok(End::Insisted);
        }
        let sound = worker.join().is_ok();
        Ok(name.filter(|_| sound).map_or(End::Itself, End::Signal))
    }

    /// The next signal, if one comes before the end.
    fn signal_unless(&mut self, end: &mut oneshot::Receiver<()>) -> Option<&'static str> {
        let [(term, terminate), (int, interrupt), (hup, hangup)] = &mut self.signals;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = end => None,
                _ = terminate.recv() => Some(*term),
                _ = interrupt.recv() => Some(*int),
                _ = hangup.recv() => Some(*hup),
            }
        })
    }
}

fn open(args: &RunArgs) -> Result<Dataplane, StartError> {
    let dataplane = Dataplane::open(args.backend())?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = args.node.as_ref().map(NodeName::as_str),
        backend = %dataplane.backend(),
        source = args.source.as_ref().map(|path| path.display().to_string()),
        "policyd"
    );
    Ok(dataplane)
}

fn clean() -> Result<ExitCode, StartError> {
    let _agent = Agent::hold()?;
    let report = cleanup()?;
    let _ = writeln!(io::stdout(), "{report}");
    for line in &report.remaining {
        tell(&format!("policyd: still there: {line}"));
    }
    let clean = report.remaining.is_empty();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

fn set_bridge_sysctls() -> ExitCode {
    let mut out = io::stdout();
    let switches = Sysctls::of_this_namespace().set_bridges();
    if switches.is_empty() {
        let _ = writeln!(out, "br_netfilter is not loaded, so that there is nothing to set");
    }
    let mut code = ExitCode::SUCCESS;
    for (switch, outcome) in switches {
        match outcome {
            Ok(was_off) => {
                let before = if was_off { "was 0" } else { "as it was" };
                let _ = writeln!(out, "{switch} = 1 ({before})");
            }
            Err(error) => {
                tell(&format!("policyd: {}", error_chain(&error)));
                code = ExitCode::from(INCOMPLETE);
            }
        }
    }
    code
}
