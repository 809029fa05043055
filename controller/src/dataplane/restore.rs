//! Carries transactions on table `filter` out, by `iptables-restore`.
//!
//! ```text
//!  one a family, kept open:  block, `# n`  ──stdin──>  COMMIT, then  ──stdout──>  `# n`
//! ```
//!
//! To start the program costs many times what nft takes for a small transaction, and a fifth of what
//! legacy takes at two thousand rules, so it is kept open with its standard input. A comment behind
//! COMMIT, which `-v` makes it repeat once it has come that far, acknowledges the block; that it does so
//! at all is asked of it first, and one that does not is run once for each transaction. What others
//! change meanwhile it sees: it reads the table anew for each block, and legacy holds the lock from
//! `*filter` to COMMIT alone.
//!
//! Everything has a deadline. A block that is refused ends the session, and what the program said of
//! it is the error, its line counted from the block's first; a program that hangs is killed. The next
//! transaction then opens another session. One that nobody needed for a while is closed, and so are
//! all at the end. Where policyd is killed, the end of its standard input ends the program, after the
//! block that it was at: so a block may be carried out by nobody's will, which the reading after a
//! start finds.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy_compiler::cidr::Family;
use tracing::{debug, warn};

use super::backend::Backend;
use super::command::{CommandError, Program, REAP, Runner, Unfinished, await_exit};
use super::iptables::{LOCK_WAIT, Transaction};
use super::probe::own;
use crate::again::Again;

/// How long a session is kept that nobody needs.
const IDLE: Duration = Duration::from_mins(1);
/// How long a block may take, and how much more for each of its lines: less than a program that is
/// started for it, since nobody else tells that this one is stuck.
const BLOCK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(1));
/// How much longer where it may first wait for the lock, as [`LOCK_WAIT`] lets it.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// After how many lines a program is started anew, in case it keeps something of each.
const WORN: usize = 200_000;
/// How long a program may take until it acknowledges that it is there.
const HELLO: Duration = Duration::from_secs(3);
/// The first and the longest pause before one that did not is asked again.
const DEAF: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));
/// How much of what a program complains of is kept.
const COMPLAINTS: usize = 64 * 1024;
/// How many characters of it are shown.
const SHOWN: usize = 200;

/// Writes table `filter` through one backend.
#[derive(Debug)]
pub struct Restore {
    runner: Runner,
    backend: Backend,
    idle: Duration,
    programs: Mutex<Programs>,
}

/// What runs. Whoever writes holds it to the end: a transaction of one family on `nf_tables` would have
/// that of the other read all anew, and with legacy the lock lets no two write.
#[derive(Debug, Default)]
struct Programs {
    open: BTreeMap<Family, Session>,
    /// When a family's program, which does not acknowledge, is asked again whether it does.
    deaf: BTreeMap<Family, Again>,
}

impl Restore {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(runner: &Runner, backend: Backend) -> Self {
        Self { runner: runner.clone(), backend, idle: IDLE, programs: Mutex::default() }
    }

    /// Closes a session that nobody has needed for so long.
    #[must_use]
    pub fn idle_for(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// The process ids of the sessions that are open.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.programs().open.values().map(|session| session.child.id()).collect()
    }

    fn programs(&self) -> MutexGuard<'_, Programs> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries `transaction` out; nothing to do starts no process.
    ///
    /// # Errors
    /// Where `iptables-restore` is missing, fails or does not end: the table is then as before,
    /// but for one that was killed, which may have got its COMMIT through.
    pub fn carry_out(&self, family: Family, transaction: &Transaction) -> Result<(), CommandError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let text = transaction.text(family);
        let mut programs = self.programs();
        let session = self.session(&mut programs, family)?;
        own::writes(self.backend);
        let done = match session {
            None => {
                let program = self.backend.restore(family);
                self.runner.run(program, &["--noflush", "-w", LOCK_WAIT], &text).map(drop)
            }
            Some(mut session) => session.carry_out(&text, self.limit_for(&text)).map(|()| {
                self.runner.goes_on();
                programs.open.insert(family, session);
            }),
        };
        if matches!(&done, Err(error) if !error.leaves_doubt()) {
            own::has_not_written(self.backend);
        }
        done
    }

    fn limit_for(&self, block: &str) -> Duration {
        let lines = u32::try_from(block.lines().count()).unwrap_or(u32::MAX);
        let lock = match self.backend {
            Backend::Nft => Duration::ZERO,
            Backend::Legacy => LOCK_PATIENCE,
        };
        self.runner.limit().min(lock + BLOCK.0 + BLOCK.1.saturating_mul(lines))
    }

    /// Closes the sessions that nobody has needed for a while.
    pub fn rest(&self) {
        self.programs().open.retain(|_, session| session.used.elapsed() < self.idle);
    }

    /// The open session, or a new one; none where the program does not acknowledge.
    fn session(
        &self,
        programs: &mut Programs,
        family: Family,
    ) -> Result<Option<Session>, CommandError> {
        let open = programs.open.remove(&family);
        if let Some(mut session) = open
            && session.is_alive()
        {
            return Ok(Some(session));
        }
        let deaf = &mut programs.deaf;
        if deaf.get(&family).and_then(Again::at).is_some_and(|at| at > Instant::now()) {
            return Ok(None);
        }
        let session = Session::open(&self.runner, self.backend.restore(family))?;
        match &session {
            Some(_) => _ = deaf.remove(&family),
            None => deaf.entry(family).or_insert_with(|| Again::new(DEAF)).put_off(),
        }
        Ok(session)
    }
}

/// A program that is kept open. It ends with this.
#[derive(Debug)]
struct Session {
    program: &'static str,
    child: Child,
    /// Absent once closed.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: ChildStderr,
    complaints: Vec<u8>,
    /// How many lines it was sent.
    lines: usize,
    /// How many acknowledgements it was asked for.
    asked: u64,
    used: Instant,
}

impl Session {
    /// Starts `program`; nothing where it does not acknowledge what it is sent.
    fn open(runner: &Runner, program: Program) -> Result<Option<Self>, CommandError> {
        let mut child = runner.spawn(program, &["--noflush", "-v", "-w", LOCK_WAIT])?;
        let name = program.name;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            let source = io::Error::other("a pipe is missing");
            return Err(CommandError::Pipe { program: name, source });
        };
        let mut session = Self {
            program: name,
            child,
            stdin: Some(stdin),
            stdout,
            stderr,
            complaints: Vec::new(),
            lines: 0,
            asked: 0,
            used: Instant::now(),
        };
        session.unblock().map_err(|source| CommandError::Pipe { program: name, source })?;
        match session.carry_out("", HELLO.min(runner.limit())) {
            // Whatever it had to say, its input was closed for it, and so it would be each time.
            Ok(()) if session.stdin.is_none() => {
                let said = String::from_utf8_lossy(&session.complaints);
                let said: String = said.chars().take(SHOWN).collect();
                warn!(program = name, said, "complains, and is run for each transaction");
                Ok(None)
            }
            Ok(()) => Ok(Some(session)),
            Err(CommandError::TimedOut { .. }) => {
                warn!(program = name, "does not acknowledge, and is run for each transaction");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// No pipe is to hold up the others.
    fn unblock(&self) -> io::Result<()> {
        if let Some(stdin) = &self.stdin {
            fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        fcntl(&self.stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        fcntl(&self.stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(())
    }

    fn is_alive(&mut self) -> bool {
        self.stdin.is_some() && self.lines < WORN && matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a block and waits until it has been carried out. After an error the session is over.
    fn carry_out(&mut self, block: &str, limit: Duration) -> Result<(), CommandError> {
        self.asked += 1;
        let mark = format!("# {}\n", self.asked);
        let input = format!("{block}{mark}");
        self.complaints.clear();
        let deadline = Instant::now() + limit;
        let program = self.program;
        match self.exchange(input.as_bytes(), mark.as_bytes(), deadline) {
            Ok(true) => {
                if !self.complaints.is_empty() {
                    debug!(program, said = %String::from_utf8_lossy(&self.complaints), "carried out");
                }
                self.lines += input.lines().count();
                self.used = Instant::now();
                Ok(())
            }
            Ok(false) => {
                self.stdin = None;
                let status = await_exit(&mut self.child, deadline).map_err(|unfinished| {
                    let _ = self.child.kill();
                    unfinished.of(program, limit)
                })?;
                if status.success() {
                    let source = io::Error::other("it ended before it had carried all out");
                    return Err(CommandError::Pipe { program, source });
                }
                let stderr = String::from_utf8_lossy(&self.complaints);
                Err(CommandError::failed(program, status, &stderr, block, self.lines))
            }
            Err(unfinished) => {
                // Already gone is as good as killed.
                let _ = self.child.kill();
                Err(unfinished.of(program, limit))
            }
        }
    }

    /// Writes `input` and reads what comes until that ends in `mark`, or in nothing more at all;
    /// whether it was the mark.
    fn exchange(
        &mut self,
        mut input: &[u8],
        mark: &[u8],
        deadline: Instant,
    ) -> Result<bool, Unfinished> {
        let (mut echo, mut stdout_open, mut stderr_open) = (Vec::new(), true, true);
        loop {
            if !stdout_open && !stderr_open {
                return Ok(false);
            }
            self.await_pipes(!input.is_empty(), stdout_open, stderr_open, deadline)?;
            if !input.is_empty() {
                input = self.send(input)?;
            }
            if stderr_open {
                stderr_open = drain(&mut self.stderr, &mut self.complaints)?;
                self.complaints.truncate(COMPLAINTS);
            }
            if input.is_empty() && !self.complaints.is_empty() {
                // One that has only warned acknowledges all the same; one that has failed may be waited
                // for by another, such as a shell's pipeline, that ends with its input.
                self.stdin = None;
            }
            if stdout_open {
                stdout_open = drain(&mut self.stdout, &mut echo)?;
            }
            if echo.ends_with(mark) {
                return Ok(true);
            }
            // The mark is short, and whatever else is said is of no interest.
            echo.drain(..echo.len().saturating_sub(mark.len()));
        }
    }

    /// Waits until one of the pipes that are of interest can be used.
    fn await_pipes(
        &self,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        deadline: Instant,
    ) -> Result<(), Unfinished> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unfinished::Late);
        }
        let mut pipes = Vec::with_capacity(3);
        if let Some(pipe) = self.stdin.as_ref().filter(|_| stdin) {
            pipes.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        }
        if stdout {
            pipes.push(PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN));
        }
        if stderr {
            pipes.push(PollFd::new(self.stderr.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, so that the last wait is not a busy one.
        let timeout = left.saturating_add(Duration::from_millis(1));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut pipes, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Unfinished::Broken(errno.into())),
        }
    }

    /// Sends as much as the pipe takes; the rest. One that stops reading early says why on stderr, which
    /// counts more than a broken pipe.
    fn send<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Unfinished> {
        let Some(stdin) = &mut self.stdin else { return Ok(&[]) };
        match stdin.write(input) {
            Ok(sent) => Ok(input.get(sent..).unwrap_or_default()),
            Err(error) if is_for_later(&error) => Ok(input),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(&[]),
            Err(error) => Err(Unfinished::Broken(error)),
        }
    }
}

impl Drop for Session {
    /// Lets the program end, and sees to it.
    fn drop(&mut self) {
        self.stdin = None;
        if await_exit(&mut self.child, Instant::now() + REAP).is_err() {
            // One that the kernel does not let go of even then is left to itself: waiting for it would
            // stop everything else.
            let _ = self.child.kill();
            let _ = await_exit(&mut self.child, Instant::now() + REAP);
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Takes what there is to read; whether more may come.
fn drain(from: &mut impl Read, to: &mut Vec<u8>) -> Result<bool, Unfinished> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => to.extend(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_for_later(&error) => return Ok(true),
            Err(error) => return Err(Unfinished::Broken(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// How long a program is given where a test does not wait for the end of that.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A program that does with each line what the script says.
    fn program(folder: &tempfile::TempDir, script: &str) -> Program {
        let path = folder.path().join("program");
        let script = format!(
            "#!/bin/sh\nn=0\nwhile IFS= read -r line; do n=$((n+1)); case \"$line\" in\n{script}\n\
             '#'*) echo \"$line\";; esac; done\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let name: &'static str = Box::leak(path.display().to_string().into_boxed_str());
        Program { name, package: "none" }
    }

    fn open(folder: &tempfile::TempDir, script: &str) -> Session {
        Session::open(&Runner::new(PATIENCE), program(folder, script)).unwrap().unwrap()
    }

    #[test]
    fn blocks_go_to_one_process_however_long_they_are_and_whatever_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = open(&folder, "chatter) head -c 200000 /dev/zero;;");
        let long = format!("chatter\n{}", "a line of a block\n".repeat(20_000));
        for _ in 0..3 {
            session.carry_out(&long, PATIENCE).unwrap();
        }
        assert!(session.is_alive());
    }

    #[test]
    fn a_line_that_is_refused_is_quoted_and_numbered_within_its_block() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = open(&folder, "bad) echo \"line $n failed\" >&2; exit 1;;");
        session.carry_out("one\ntwo\n", PATIENCE).unwrap();
        let error = session.carry_out("good\nbad\n", PATIENCE).unwrap_err();
        assert!(error.is_refusal() && !error.leaves_doubt(), "{error}");
        let CommandError::Failed { message, line, .. } = &error else { panic!("{error}") };
        assert_eq!((message.as_str(), line), ("line 2 failed", &Some((2, "bad".to_owned()))));
        assert!(!session.is_alive());
    }

    #[test]
    fn whatever_it_says_before_is_no_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        let script = "begin) echo begun;;\nbad) echo '# 7'; sleep 0.2; echo refused >&2; exit 1;;";
        let error = open(&folder, script).carry_out("begin\nbad\n", PATIENCE).unwrap_err();
        assert!(error.is_refusal(), "{error}");
    }

    #[test]
    fn one_that_hangs_is_killed_and_one_that_was_killed_has_refused_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let script = "hang) exec sleep 60;;\ndie) kill -9 $$;;\nleave) exit 0;;";
        let begun = Instant::now();
        let mut session = open(&folder, script);
        let error = session.carry_out("hang\n", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        drop(session);
        for end in ["die\n", "leave\n"] {
            let error = open(&folder, script).carry_out(end, PATIENCE).unwrap_err();
            assert!(!error.is_refusal() && error.leaves_doubt(), "{end}: {error}");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "nothing waits for the end of the sleep"
        );
    }

    #[test]
    fn a_warning_is_no_failure_and_a_failure_behind_a_pipeline_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = open(&folder, "odd) echo 'a warning' >&2;;");
        session.carry_out("odd\n", PATIENCE).unwrap();

        let script = "#!/bin/sh\ncat | { read -r hello; echo \"$hello\"; read -r line; \
                      echo \"line 2 failed\" >&2; exit 1; }\n";
        let program = program(&folder, "");
        std::fs::write(program.name, script).unwrap();
        let mut session = Session::open(&Runner::new(PATIENCE), program).unwrap().unwrap();
        let error = session.carry_out("bad\n", PATIENCE).unwrap_err();
        assert!(error.is_refusal(), "{error}");
    }

    #[test]
    fn one_that_does_not_acknowledge_is_not_kept_open() {
        let folder = tempfile::tempdir().unwrap();
        let deaf = program(&folder, "'#'*) ;;");
        let runner = Runner::new(Duration::from_millis(100));
        assert!(Session::open(&runner, deaf).unwrap().is_none());
    }
}
