//! Runs a program of the node to its end.
//!
//! Arguments are an array and input is a pipe: no shell ever sees them. Output is read while input
//! is written, so neither side can block the other. Time is bounded: a program that does not end is
//! killed by the handle of that child. One that ends well but has not read all of its input has not
//! done all of its work, and counts as failed. What it writes is kept up to a bound. Every start is
//! counted, so that "nothing changed, no process" can be asserted.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What iptables says where somebody else holds the lock.
pub(super) const HELD: &str = "xtables lock";

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed.
    #[error("`{program}` is not installed (Debian package `{package}`)")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It could not be started.
    #[error("cannot start `{program}`")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Its pipes broke, or it could not be waited for.
    #[error("cannot talk to `{program}`")]
    Pipe {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ran longer than it may, and was killed.
    #[error("`{program}` had not finished after {}s and was killed", limit.as_secs())]
    TimedOut {
        /// The program.
        program: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// It reported success, and what it printed lacks its end.
    #[error("`{program}` printed only a part of what was asked for")]
    CutOff {
        /// The program.
        program: &'static str,
    },
    /// Others have rules in a table that only `nft` can show.
    #[error("`{program}` cannot show the table, in which others have rules of `nft`'s own")]
    Hidden {
        /// The program.
        program: &'static str,
    },
    /// It reported failure.
    #[error("`{program}` failed ({status}): {message}{}", quoted(line.as_ref()))]
    Failed {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// What it wrote to its standard error, on one line.
        message: String,
        /// The line of our input that it complained about, if it named one.
        line: Option<(usize, String)>,
    },
}

impl CommandError {
    /// What `program` says of its failure, where it had read `skipped` lines before `input`.
    pub(super) fn failed(
        program: &'static str,
        status: ExitStatus,
        stderr: &str,
        input: &str,
        skipped: usize,
    ) -> Self {
        let mut message = one_line(stderr);
        let line = offending_line(&message).and_then(|(digits, number)| {
            let own = number.checked_sub(skipped)?;
            let text = input.lines().nth(own.checked_sub(1)?)?;
            message.replace_range(digits, &own.to_string());
            Some((own, text.to_owned()))
        });
        CommandError::Failed { program, status, message, line }
    }

    /// Whether the program came to do its work, and the kernel or it refused: not missing, not killed,
    /// not kept waiting by another that holds the lock. (The exit status cannot tell: iptables over
    /// `nf_tables` has one for all that the kernel refuses, which for legacy stands for the lock.)
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            CommandError::Failed { status, .. }
                if status.code().is_some() && !self.is_kept_waiting()
        )
    }

    /// Whether the program may have done its work all the same: it was killed, or its end was not seen.
    #[must_use]
    pub fn leaves_doubt(&self) -> bool {
        match self {
            CommandError::TimedOut { .. } | CommandError::Pipe { .. } => true,
            CommandError::Failed { status, .. } => status.code().is_none(),
            CommandError::Missing { .. }
            | CommandError::Start { .. }
            | CommandError::CutOff { .. }
            | CommandError::Hidden { .. } => false,
        }
    }

    /// Whether another process held the lock for longer than the program was to wait for it.
    #[must_use]
    pub fn is_kept_waiting(&self) -> bool {
        matches!(self, CommandError::Failed { message, .. } if message.contains(HELD))
    }

    /// What kind of failure it is, apart from its details.
    #[must_use]
    pub fn kind(&self) -> (&'static str, &'static str) {
        match self {
            CommandError::Missing { program, .. } => ("missing", program),
            CommandError::Start { program, .. } => ("start", program),
            CommandError::Pipe { program, .. } => ("pipe", program),
            CommandError::TimedOut { program, .. } => ("late", program),
            CommandError::CutOff { program } => ("cut off", program),
            CommandError::Hidden { program } => ("hidden", program),
            CommandError::Failed { program, .. } => ("failed", program),
        }
    }
}

fn quoted(line: Option<&(usize, String)>) -> String {
    line.map_or_else(String::new, |(number, text)| format!("; line {number} is `{text}`"))
}

/// A program and the Debian package that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name, looked up in `PATH`.
    pub name: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

/// Starts programs and counts them.
#[derive(Clone, Debug)]
pub struct Runner {
    limit: Duration,
    started: Arc<AtomicU64>,
    /// Programs that were started, and changes that one of them has carried out.
    work: Arc<AtomicU64>,
}

impl Runner {
    /// A runner that gives each program `limit` to finish.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, started: Arc::default(), work: Arc::default() }
    }

    /// How long one program may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// How many programs were started so far, by this runner and its clones.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// What counts up with each of them, and with each change that one carries out.
    #[must_use]
    pub fn work(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.work)
    }

    /// Counts a program that something else starts on our behalf.
    pub fn count_one(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.goes_on();
    }

    /// A program has carried out a change and goes on.
    pub(super) fn goes_on(&self) {
        self.work.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs `program` with `arguments` and `input`, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// Where it cannot be started, does not end in time, or exits with another status than 0.
    pub fn run(
        &self,
        program: Program,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, CommandError> {
        let name = program.name;
        let mut child = self.spawn(program, arguments)?;
        let deadline = Instant::now() + self.limit;
        let finished = Streams::of(&mut child, input).and_then(|streams| {
            let (stdout, stderr) = streams.outputs(deadline)?;
            let status = await_exit(&mut child, deadline)?;
            if status.success() {
                streams.has_taken_input(deadline)?;
            }
            Ok((status, stdout, stderr))
        });
        let (status, stdout, stderr) = match finished {
            Ok(output) => output,
            Err(error) => {
                // Already gone is as good as killed. One that the kernel does not let go of even
                // then is left to itself: waiting for it would stop everything else.
                let _ = child.kill();
                let _ = await_exit(&mut child, Instant::now() + REAP);
                return Err(error.of(name, self.limit));
            }
        };
        if status.success() {
            return Ok(stdout);
        }
        Err(CommandError::failed(name, status, &stderr, input, 0))
    }

    /// Starts `program` with pipes to all of its streams, and counts it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) fn spawn(
        &self,
        program: Program,
        arguments: &[&str],
    ) -> Result<Child, CommandError> {
        let Program { name, package } = program;
        self.count_one();
        Command::new(name)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => CommandError::Missing { program: name, package },
                _ => CommandError::Start { program: name, source },
            })
    }
}

/// How long a killed program may take to be gone.
pub(super) const REAP: Duration = Duration::from_secs(1);

/// Waits for a program that has closed its outputs, which need not mean that it ends.
pub(super) fn await_exit(child: &mut Child, deadline: Instant) -> Result<ExitStatus, Unfinished> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait().map_err(Unfinished::Broken)? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(Unfinished::Late);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Why a program did not come to an end of its own.
pub(super) enum Unfinished {
    /// It was not there in time.
    Late,
    /// It could not be talked to.
    Broken(io::Error),
}

impl Unfinished {
    /// The failure of `program`, which was given `limit`.
    pub(super) fn of(self, program: &'static str, limit: Duration) -> CommandError {
        match self {
            Unfinished::Late => CommandError::TimedOut { program, limit },
            Unfinished::Broken(source) => CommandError::Pipe { program, source },
        }
    }
}

/// The ways to and from a child, each with a thread that serves it.
struct Streams {
    stdin: Stream<()>,
    stdout: Stream<Vec<u8>>,
    stderr: Stream<Vec<u8>>,
}

type Stream<T> = mpsc::Receiver<io::Result<T>>;

impl Streams {
    fn of(child: &mut Child, input: &str) -> Result<Self, Unfinished> {
        let closed = || Unfinished::Broken(io::Error::other("a pipe is missing"));
        let mut stdin = child.stdin.take().ok_or_else(closed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let stdout = read_to_end(stdout.ok_or_else(closed)?, MOST_OUTPUT)?;
        let stderr = read_to_end(stderr.ok_or_else(closed)?, MOST_WORDS)?;
        let input = input.to_owned();
        let (to, written) = mpsc::channel();
        spawn(move || {
            let result = stdin.write_all(input.as_bytes());
            drop(stdin);
            let _ = to.send(result);
        })?;
        Ok(Self { stdin: written, stdout, stderr })
    }

    /// What the child writes until it has closed both outputs.
    fn outputs(&self, deadline: Instant) -> Result<(String, String), Unfinished> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let stdout = text(receive(&self.stdout, deadline)?);
        Ok((stdout, text(receive(&self.stderr, deadline)?)))
    }

    /// Fails where the child has ended before it had read everything. One that fails and stops reading
    /// says why on stderr, which counts more than this.
    fn has_taken_input(&self, deadline: Instant) -> Result<(), Unfinished> {
        receive(&self.stdin, deadline)
    }
}

fn receive<T>(from: &Stream<T>, deadline: Instant) -> Result<T, Unfinished> {
    match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(got)) => Ok(got),
        Ok(Err(error)) => Err(Unfinished::Broken(error)),
        Err(_) => Err(Unfinished::Late),
    }
}

/// How much of a program's standard output is kept. A hundred thousand rules are twenty megabytes.
const MOST_OUTPUT: usize = 256 << 20;
/// How much is kept of what it says on standard error.
const MOST_WORDS: usize = 64 << 10;

/// Reads all, so that the writer is not held up, and keeps the beginning.
fn read_to_end(
    mut from: impl Read + Send + 'static,
    most: usize,
) -> Result<Stream<Vec<u8>>, Unfinished> {
    let (to, receiver) = mpsc::channel();
    spawn(move || {
        let mut bytes = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        let kept = from.by_ref().take(most).read_to_end(&mut bytes);
        let rest = kept.and_then(|_| io::copy(&mut from, &mut io::sink()));
        let _ = to.send(rest.map(|_| bytes));
    })?;
    Ok(receiver)
}

/// A system without a thread to give is a failure like any other, and none to panic at.
fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Unfinished> {
    let thread = thread::Builder::new().name("pipe".to_owned()).spawn(work);
    thread.map(|_| ()).map_err(Unfinished::Broken)
}

/// The number in `line 3 failed`, `occurred at line: 3` or `Error in line 3:`, and where it stands.
fn offending_line(message: &str) -> Option<(Range<usize>, usize)> {
    message.match_indices("line").find_map(|(at, word)| {
        let rest = message[at + word.len()..].trim_start_matches([':', ' ']);
        let begin = message.len() - rest.len();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some((begin..begin + digits, rest[..digits].parse().ok()?))
    })
}

fn one_line(stderr: &str) -> String {
    let useful = |line: &&str| {
        !line.is_empty() && !line.starts_with("Try `") && !line.starts_with("# Warning")
    };
    let text = stderr.lines().map(str::trim).filter(useful).collect::<Vec<_>>().join("; ");
    match text.char_indices().nth(MOST_SAID) {
        _ if text.is_empty() => "no message".to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// How many characters of what a program says on standard error are passed on.
const MOST_SAID: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Less than what is not waited for takes, and longer than anything else.
    const PATIENCE: Duration = Duration::from_secs(30);

    const SH: Program = Program { name: "sh", package: "dash" };

    #[test]
    fn input_is_piped_and_output_returned() {
        let runner = Runner::new(PATIENCE);
        let big = "line\n".repeat(100_000);
        assert_eq!(runner.run(SH, &["-c", "cat"], &big).unwrap(), big);
        assert_eq!(runner.started(), 1);
    }

    #[test]
    fn a_failure_quotes_the_line_that_the_program_names() {
        let runner = Runner::new(PATIENCE);
        for message in [
            "iptables-restore: line 2 failed",
            "Error occurred at line: 2",
            "ipset v7.17: Error in line 2: The set with the given name does not exist",
        ] {
            let script = format!("cat >/dev/null; echo '{message}' >&2; exit 1");
            match runner.run(SH, &["-c", &script], "first\nsecond\n") {
                Err(CommandError::Failed { line, .. }) => {
                    assert_eq!(line, Some((2, "second".to_owned())), "{message}");
                }
                other => panic!("{message}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let runner = Runner::new(Duration::from_millis(50));
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-"] {
            let begun = Instant::now();
            let error = runner.run(SH, &["-c", script], "").unwrap_err();
            assert!(matches!(error, CommandError::TimedOut { .. }), "{script}: {error}");
            assert!(begun.elapsed() < PATIENCE, "{script}");
        }
    }

    #[test]
    fn a_program_that_succeeds_without_reading_its_input_has_failed() {
        let runner = Runner::new(PATIENCE);
        let big = "line\n".repeat(100_000);
        let error = runner.run(SH, &["-c", "head -n 1 >/dev/null"], &big).unwrap_err();
        assert!(matches!(error, CommandError::Pipe { .. }), "{error}");
        assert_eq!(runner.run(SH, &["-c", "echo done"], "").unwrap(), "done\n");
    }

    #[test]
    fn what_a_program_says_is_kept_within_bounds() {
        let runner = Runner::new(PATIENCE);
        let script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1";
        match runner.run(SH, &["-c", script], "") {
            Err(CommandError::Failed { message, .. }) => {
                assert_eq!(message, format!("{}...", "x".repeat(1000)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let runner = Runner::new(Duration::from_secs(1));
        let program = Program { name: "no-such-program-here", package: "iptables" };
        assert_eq!(
            runner.run(program, &[], "").unwrap_err().to_string(),
            "`no-such-program-here` is not installed (Debian package `iptables`)"
        );
    }
}
