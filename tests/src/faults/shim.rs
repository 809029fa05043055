//! A program that stands in the place of another: it carries out an order that is about it, or becomes
//! the real one.
//!
//! What writes tables is never left alone: its input goes through here block by block, so that an order
//! may also be about one COMMIT of a program that is kept open. A call is named by the program and, where
//! it does different things, by what it is asked to do: `iptables-nft-restore` when it starts and
//! `iptables-nft-restore:commit` at each COMMIT, `iptables-nft:-I`, `ipset:list`, `ipset:save` (which
//! comes as a list of names over standard input), `ipset:make`.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getppid};

use super::{Fault, Faults, REAL_PATH};

/// How a program ends whose table is locked.
const LOCKED: i32 = 4;

/// Does as the program `name`; the status to exit with.
///
/// # Errors
/// Where the real program or the orders cannot be had.
pub fn run(name: &str, arguments: &[OsString]) -> io::Result<i32> {
    // Whoever hangs hears nothing. Programs that are started hear signals again.
    SigSet::all().thread_block()?;
    let call = Call { faults: Faults::inherited()?, name: name.to_owned(), program: real(name)? };
    if name.ends_with("-restore") {
        let fault = call.faults.meet(name)?;
        return call.restore(arguments, fault);
    }
    let verb = arguments.iter().filter_map(|word| word.to_str());
    let verb =
        verb.clone().find(|word| matches!(*word, "-I" | "-D" | "-S" | "-C" | "list" | "restore"));
    match verb {
        Some("restore") => {
            let mut input = Vec::new();
            io::stdin().read_to_end(&mut input)?;
            let verb = if input.starts_with(b"save ") { "save" } else { "make" };
            let fault = call.faults.meet(&format!("{name}:{verb}"))?;
            call.run(arguments, Some(input), fault)
        }
        Some(verb) => call.run(arguments, None, call.faults.meet(&format!("{name}:{verb}"))?),
        None => call.run(arguments, None, call.faults.meet(name)?),
    }
}

/// The real program.
fn real(name: &str) -> io::Result<PathBuf> {
    let path = env::var_os(REAL_PATH).unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| io::Error::other(format!("there is no real {name}")))
}

struct Call {
    faults: Faults,
    name: String,
    program: PathBuf,
}

impl Call {
    fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        if let Some(path) = env::var_os(REAL_PATH) {
            command.env("PATH", path);
        }
        command
    }

    /// Runs a program that reads all of its input before it does anything.
    fn run(
        &self,
        arguments: &[OsString],
        input: Option<Vec<u8>>,
        fault: Option<Fault>,
    ) -> io::Result<i32> {
        let mut command = self.command(arguments);
        let mut input = input;
        match &fault {
            None => {}
            Some(Fault::Noise) => noise(io::stderr())?,
            Some(Fault::Babble) => noise(io::stdout())?,
            Some(Fault::Partial(lines)) => {
                input = input.map(|input| first_lines(&input, *lines));
            }
            Some(Fault::Truncated(_)) => _ = command.stdout(Stdio::piped()),
            Some(Fault::Deaf | Fault::DiesAfter | Fault::SilentAfter) => {
                command.stdout(Stdio::null());
            }
            Some(other) => return end(other, &self.name),
        }
        if input.is_none() && matches!(fault, None | Some(Fault::Noise | Fault::Babble)) {
            return Err(command.exec());
        }
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            thread::spawn(move || stdin.write_all(&input));
        }
        if let (Some(stdout), Some(Fault::Truncated(lines))) = (child.stdout.take(), &fault) {
            let mut printed = Vec::new();
            BufReader::new(stdout).read_to_end(&mut printed)?;
            io::stdout().write_all(&first_lines(&printed, *lines))?;
        }
        let status = child.wait()?;
        match fault {
            Some(fault @ (Fault::DiesAfter | Fault::SilentAfter)) => end(&fault, &self.name),
            _ => Ok(code(status)),
        }
    }

    /// Runs a program that carries out block by block what it reads.
    fn restore(&self, arguments: &[OsString], fault: Option<Fault>) -> io::Result<i32> {
        let mut command = self.command(arguments);
        let mut cut = None;
        match fault {
            None => {}
            Some(Fault::Noise) => noise(io::stderr())?,
            Some(Fault::Babble) => noise(io::stdout())?,
            Some(Fault::Deaf) => _ = command.stdout(Stdio::null()),
            Some(Fault::Partial(lines)) => cut = Some(lines),
            Some(other) => return end(&other, &self.name),
        }
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let after = Arc::new(Mutex::new(None));
        if let Some(stdin) = child.stdin.take() {
            let (faults, name, after) =
                (self.faults.clone(), self.name.clone(), Arc::clone(&after));
            let blocks = Blocks { faults, call: format!("{name}:commit"), stdin, cut, after };
            thread::spawn(move || blocks.forward());
        }
        let status = child.wait()?;
        let after = after.lock().unwrap_or_else(PoisonError::into_inner).take();
        after.map_or_else(|| Ok(code(status)), |fault| end(&fault, &self.name))
    }
}

/// The input of a program that writes tables.
struct Blocks {
    faults: Faults,
    call: String,
    stdin: ChildStdin,
    /// After how many lines it ends.
    cut: Option<usize>,
    /// What becomes of us once the program has ended.
    after: Arc<Mutex<Option<Fault>>>,
}

impl Blocks {
    /// Hands on what comes until there is no more, or the program is to get no more.
    fn forward(mut self) -> io::Result<()> {
        let mut block = Vec::new();
        let mut lines = BufReader::new(io::stdin()).split(b'\n');
        let mut count = 0;
        while let Some(mut line) = lines.next().transpose()? {
            count += 1;
            if self.cut.is_some_and(|cut| count > cut) {
                break;
            }
            line.push(b'\n');
            let begins = line.starts_with(b"*");
            let commits = line.starts_with(b"COMMIT");
            if commits && let Some(fault) = self.faults.meet(&self.call)? {
                return self.ended_by(fault, &block);
            }
            block.extend(line);
            if commits || !(begins || block.starts_with(b"*")) {
                self.stdin.write_all(&block)?;
                block.clear();
            }
        }
        self.stdin.write_all(&block)
    }

    /// Has the program carry out the block or not, and end.
    fn ended_by(mut self, fault: Fault, block: &[u8]) -> io::Result<()> {
        if matches!(fault, Fault::DiesAfter | Fault::SilentAfter) {
            self.stdin.write_all(block)?;
            self.stdin.write_all(b"COMMIT\n")?;
        }
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        // The end of its input ends the program.
        Ok(())
    }
}

/// Ends, or does not, as a fault has it; the status to exit with.
fn end(fault: &Fault, name: &str) -> io::Result<i32> {
    match fault {
        Fault::Locked => {
            let mut stderr = io::stderr();
            writeln!(
                stderr,
                "Another app is currently holding the xtables lock. Stopped waiting after 5s."
            )?;
            Ok(LOCKED)
        }
        Fault::Hang | Fault::SilentAfter => {
            let parent = getppid();
            while getppid() == parent {
                thread::sleep(Duration::from_millis(20));
            }
            Ok(1)
        }
        Fault::DiesBefore | Fault::DiesAfter => {
            kill(Pid::this(), Signal::SIGKILL)?;
            Ok(1)
        }
        Fault::Says(words) => {
            writeln!(io::stderr(), "{name}: {words}")?;
            Ok(1)
        }
        _ => {
            writeln!(io::stderr(), "{name}: this was ordered to fail")?;
            Ok(1)
        }
    }
}

/// Bytes that are no text, and lines that look like others.
fn noise(mut to: impl Write) -> io::Result<()> {
    let mut bytes = vec![0xff_u8; 4096];
    bytes.extend(b"\nline 3 of nothing\n# 0\n:\n-A\n-A FORWARD\ncreate\nadd x\n");
    for _ in 0..8 {
        to.write_all(&bytes)?;
    }
    to.flush()
}

fn first_lines(text: &[u8], lines: usize) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n').take(lines).flatten().copied().collect()
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(1)
}

/// The name by which the calling process was started, where it is that of a program that it stands for.
#[must_use]
pub fn impersonated() -> Option<String> {
    let name = env::args_os().next()?;
    let name = Path::new(&name).file_name()?.to_str()?.to_owned();
    super::PROGRAMS.contains(&name.as_str()).then_some(name)
}
