//! A program of the project's as a process in a node: started, read, signalled, and ended for sure.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::namespace::Namespace;

/// The program `name` of this project, from where this one was built to.
///
/// # Errors
/// Where it has not been built.
pub fn built_program(name: &str) -> Result<PathBuf, LabError> {
    let own = std::env::current_exe()
        .map_err(|source| LabError::Program { program: name.to_owned(), source })?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| LabError::NotBuilt { program: name.to_owned() })
}

type Log = Arc<(Mutex<Vec<String>>, Condvar)>;

/// A running process whose standard error is read line by line. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Log,
    /// By what name it shows its log where a test fails.
    shown_as: Option<String>,
}

impl Daemon {
    /// Starts `command` in `namespace`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(namespace: &Namespace, command: &mut Command) -> Result<Self, LabError> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = namespace.spawn(command)?;
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    log.1.notify_all();
                }
            });
        }
        Ok(Self { child, log, shown_as: None })
    }

    /// Shows its log as that of `name` where it ends because a test fails.
    #[must_use]
    pub fn shown_as(mut self, name: &str) -> Self {
        self.shown_as = Some(name.to_owned());
        self
    }

    /// What it has said so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line with `text` in it, from line `from` on, and returns the number of the line
    /// behind it.
    ///
    /// # Errors
    /// Where none comes in time; the error has the whole log.
    pub fn await_line(
        &self,
        text: &str,
        from: usize,
        patience: Duration,
    ) -> Result<usize, LabError> {
        let deadline = Instant::now() + patience;
        let mut lines = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = lines.iter().skip(from).position(|line| line.contains(text));
            if let Some(index) = found {
                return Ok(from + index + 1);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(LabError::TimeOut {
                    what: format!("`{text}` in this log:\n{}\n", lines.join("\n")),
                    seconds: patience.as_secs(),
                });
            };
            lines = self.log.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().map(Pid::from_raw)
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn stop(mut self, signal: Signal) -> Result<ExitStatus, LabError> {
        if let Some(id) = self.id() {
            // One that has ended by itself cannot be signalled, and is waited for all the same.
            let _ = kill(id, signal);
        }
        self.child
            .wait()
            .map_err(|source| LabError::Program { program: "the daemon".to_owned(), source })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(name) = self.shown_as.as_ref().filter(|_| thread::panicking()) {
            println!("log of {name}:\n{}\n", self.lines().join("\n"));
        }
    }
}
