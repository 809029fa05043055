//! The commands, from their arguments to their exit status.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::agent::{Agent, AgentError};
use crate::args::{Cli, Command, RunArgs};
use crate::dataplane::cleanup::cleanup;
use crate::dataplane::{Dataplane, OpenError, error_chain};
use crate::logging::{self, LogError};
use crate::source::directory::{Directory, DirectoryError};
use crate::source::{EndOfSource, Input, Source};
use crate::sync::Sync;

/// Why a command could not begin. All of these are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Another writer.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The kernel's tables.
    #[error(transparent)]
    Dataplane(#[from] OpenError),
    /// The source.
    #[error(transparent)]
    Source(#[from] DirectoryError),
    /// Signals or threads.
    #[error("cannot start")]
    System(#[from] io::Error),
}

/// Not applied, or something remained.
const INCOMPLETE: u8 = 1;
/// Usage, or something that is needed is missing.
const UNUSABLE: u8 = 2;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
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
        Command::Cleanup => clean(),
    }
}

/// Applies what the source holds now.
fn once(args: &RunArgs) -> Result<ExitCode, StartError> {
    let mut source = Directory::open(&args.source)?;
    let _agent = Agent::hold()?;
    let mut sync = Sync::new(args.settings(), open(args)?);
    if let Some(listing) = source.settled() {
        sync.take(listing);
        sync.settle();
    }
    Ok(if sync.is_ready() { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// Follows the source until a signal comes.
fn run(args: &RunArgs) -> Result<ExitCode, StartError> {
    let source = Directory::open(&args.source)?;
    let _agent = Agent::hold()?;
    let mut sync = Sync::new(args.settings(), open(args)?);
    let (sender, inbox) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt, mut hangup) = runtime.block_on(async {
        let [term, int, hup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok::<_, io::Error>((term?, int?, hup?))
    })?;
    let listings = sender.clone();
    thread::Builder::new().name("source".to_owned()).spawn(move || {
        let end = EndOfSource(listings);
        source.run(&end.0);
    })?;
    let (ended, mut end) = tokio::sync::oneshot::channel::<()>();
    let worker = thread::Builder::new().name("sync".to_owned()).spawn(move || {
        sync.run(&inbox);
        // Nobody waits for it after a signal.
        let _ = ended.send(());
    })?;
    let name = runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => Some("SIGTERM"),
            _ = interrupt.recv() => Some("SIGINT"),
            _ = hangup.recv() => Some("SIGHUP"),
            _ = &mut end => None,
        }
    });
    // The write in hand is finished first, for which every program has its time; unless whoever stops
    // us insists.
    let _ = sender.send(Input::Stop);
    let insisted = name.is_some()
        && runtime.block_on(async {
            tokio::select! {
                biased;
                _ = &mut end => false,
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                _ = hangup.recv() => true,
            }
        });
    if insisted {
        error!("stopped before the write in hand was finished; the rules stay as they are");
        return Ok(ExitCode::from(INCOMPLETE));
    }
    let sound = worker.join().is_ok();
    let Some(signal) = name.filter(|_| sound) else {
        error!("the loop ended by itself; the rules stay in force");
        return Ok(ExitCode::from(INCOMPLETE));
    };
    info!(signal, "stopped, rules stay in force");
    Ok(ExitCode::SUCCESS)
}

fn open(args: &RunArgs) -> Result<Dataplane, StartError> {
    let dataplane = Dataplane::open(args.backend())?;
    info!(
        version = env!("CARGO_PKG_VERSION"), node = %args.node, backend = %dataplane.backend(),
        source = %args.source.display(), "policyd"
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
