//! Network namespaces held by descriptors, and programs run inside them.
//!
//! A namespace is made by a thread that leaves its own behind; what remains of it is the descriptor.
//! Entering it means a thread that joins it and ends, so no thread of the caller ever changes place.
//! A program that such a thread starts inherits the namespace.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::panic;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;

use crate::error::LabError;

/// The network namespace of the calling thread; `/proc/self` would name the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace. It ends with the last descriptor or process in it.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
}

impl Namespace {
    /// Makes an empty one, with nothing but a loopback device that is up.
    ///
    /// # Errors
    /// Where the kernel refuses, mostly for lack of privilege.
    pub fn create() -> Result<Self, LabError> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open(OWN)
        })
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic));
        let handle = made.map_err(|source| LabError::Namespace { operation: "make", source })?;
        let namespace = Self { handle };
        namespace.ip(&["link set lo up".to_owned()])?;
        Ok(namespace)
    }

    /// Runs `inside` on a thread in this namespace. Sockets that it makes stay there for good.
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.handle, CloneFlags::CLONE_NEWNET).map_err(|errno| {
                        LabError::Namespace { operation: "enter", source: errno.into() }
                    })?;
                    Ok(inside())
                })
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// A path by which `ip link` finds this namespace, as long as this process lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd())
    }

    /// Sets values under `/proc/sys/net`, which shows the namespace of the thread that opens it.
    ///
    /// # Errors
    /// Where one does not exist or is not ours to set.
    pub fn sysctl(&self, values: &[(&str, &str)]) -> Result<(), LabError> {
        self.enter(|| {
            for (key, value) in values {
                let path = format!("/proc/sys/net/{key}");
                std::fs::write(&path, value).map_err(|source| LabError::File { path, source })?;
            }
            Ok(())
        })?
    }

    /// Carries out commands of `ip`, one a line, in one process, for IPv4 and links; the first that
    /// fails ends it.
    ///
    /// # Errors
    /// Where `ip` is missing or refuses a line.
    pub fn ip(&self, lines: &[String]) -> Result<(), LabError> {
        self.batch("-4", lines)
    }

    /// As [`Namespace::ip`], for IPv6.
    ///
    /// # Errors
    /// Where `ip` is missing or refuses a line.
    pub fn ip6(&self, lines: &[String]) -> Result<(), LabError> {
        self.batch("-6", lines)
    }

    fn batch(&self, family: &str, lines: &[String]) -> Result<(), LabError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut script = lines.join("\n");
        script.push('\n');
        self.run(Command::new("ip").args([family, "-batch", "-"]), &script).map(drop)
    }

    /// Runs a program here with `input` on its standard input, and returns what it printed.
    ///
    /// # Errors
    /// Where it cannot be run, or ends with another status than 0.
    pub fn run(&self, command: &mut Command, input: &str) -> Result<String, LabError> {
        let output = self.output(command, input)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(LabError::Refused {
            command: words(command),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            input: if input.is_empty() { String::new() } else { format!("\n{input}") },
        })
    }

    /// Runs a program here with `input` on its standard input, whatever its status.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn output(&self, command: &mut Command, input: &str) -> Result<Output, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.enter(|| feed(command, input))?.map_err(|source| LabError::Program { program, source })
    }

    /// Starts a program here and leaves it running.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.enter(|| {
            hear_signals()?;
            command.spawn()
        })?
        .map_err(|source| LabError::Program { program, source })
    }
}

/// Runs a command whose streams are pipes; a reader that ends early is no error of the writer.
fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    hear_signals()?;
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        let writer = scope.spawn(move || match stdin {
            Some(mut pipe) => pipe.write_all(input.as_bytes()),
            None => Ok(()),
        });
        let output = child.wait_with_output()?;
        match writer.join().unwrap_or_else(|panic| panic::resume_unwind(panic)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(output),
        }
    })
}

/// A program inherits the signals that the thread which starts it has blocked, and the demonstration
/// blocks those that end it.
fn hear_signals() -> io::Result<()> {
    SigSet::empty().thread_set_mask().map_err(io::Error::from)
}

/// The command as a person would type it.
fn words(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
