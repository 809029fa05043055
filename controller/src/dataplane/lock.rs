//! The lock that all writers of legacy iptables share, and whose turn it is.
//!
//! `iptables-legacy-restore` holds the lock of a file from the first line of a table to its COMMIT, and so
//! may anybody, for as long as they like. The loop must not wait for that: it asks whether the lock is
//! free before it starts a program that takes it. Where it is not, a thread waits in the kernel, which
//! serves in order those who wait, so that somebody who takes the lock over and over cannot keep us
//! out; once it has it, the turn is ours, and the thread lets go as soon as that is made use of, or after
//! a second. The program then takes the lock for itself, and waits for it a few seconds at most.
//!
//! With nft there is no such lock, and it is always our turn. Where the file cannot be opened it is too:
//! iptables itself then says what is wrong. The file stays open, so that asking is no opening of it to
//! those who watch it.

use std::cell::RefCell;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};
use tracing::{debug, info};

use super::backend::Backend;

/// Where it is, unless [`VARIABLE`] says otherwise.
const PATH: &str = "/run/xtables.lock";
/// By what iptables is told of another place.
const VARIABLE: &str = "XTABLES_LOCKFILE";
/// How long a turn lasts that nobody makes use of.
const TURN: Duration = Duration::from_secs(1);
/// How long others may hold it before that is worth telling.
const LONG: Duration = Duration::from_secs(10);

/// The lock, as far as one backend needs it.
#[derive(Debug)]
pub struct Lock {
    /// Absent where there is none.
    path: Option<PathBuf>,
    file: RefCell<Option<File>>,
    waiting: RefCell<Option<Waiting>>,
}

/// A thread that waits for the lock.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// Says that the thread has it.
    turn: mpsc::Receiver<()>,
    /// The thread keeps it until this is dropped, or the turn is over.
    _kept: mpsc::Sender<()>,
}

impl Lock {
    /// The lock that writers through `backend` take.
    #[must_use]
    pub fn of(backend: Backend) -> Self {
        match backend {
            Backend::Nft => Self::at(None),
            Backend::Legacy => Self::at(Some(place(env::var_os(VARIABLE)))),
        }
    }

    fn at(path: Option<PathBuf>) -> Self {
        Self { path, file: RefCell::new(None), waiting: RefCell::new(None) }
    }

    /// Whether a program that takes the lock would get it at once, as far as can be said.
    #[must_use]
    pub fn is_free(&self) -> bool {
        if self.waiting.borrow().is_some() {
            return false;
        }
        let Some(file) = self.file() else { return true };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => {
                // What cannot be unlocked is closed.
                *self.file.borrow_mut() = held.unlock().ok();
                true
            }
            Err((file, errno)) => {
                *self.file.borrow_mut() = Some(file);
                errno != Errno::EWOULDBLOCK
            }
        }
    }

    /// Whether it is our turn to start a program that takes the lock. Where it is not, we stand in line
    /// from now on, and whoever asks is to ask again soon.
    #[must_use]
    pub fn is_our_turn(&self) -> bool {
        let waiting = self.waiting.take();
        if let Some(waiting) = waiting {
            if matches!(waiting.turn.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                // Who stands in line for a file that is no longer the lock waits in vain.
                let stale = self.file.borrow().as_ref().is_some_and(|file| !self.is_current(file));
                *self.waiting.borrow_mut() = Some(waiting).filter(|_| !stale);
                return false;
            }
            let waited = waiting.since.elapsed();
            if waited >= LONG {
                info!(seconds = waited.as_secs(), "the xtables lock is free again");
            }
            return true;
        }
        if self.is_free() {
            return true;
        }
        let Some(file) = self.file() else { return true };
        let waiting = stand_in_line(&file);
        *self.file.borrow_mut() = Some(file);
        match waiting {
            Ok(waiting) => *self.waiting.borrow_mut() = Some(waiting),
            // Without a thread to give, it is asked for again and again.
            Err(error) => debug!(%error, "cannot stand in line for the xtables lock"),
        }
        false
    }

    /// Who keeps our changes waiting, where that has lasted long.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let waiting = self.waiting.borrow();
        waiting.as_ref().filter(|waiting| waiting.since.elapsed() >= LONG)?;
        let path = self.path.as_ref()?;
        let holder = self.file.borrow().as_ref().and_then(holder);
        let holder = holder.unwrap_or_else(|| "another process".to_owned());
        Some(format!("{holder} holds {}, and changes of chains wait for it", path.display()))
    }

    fn is_current(&self, file: &File) -> bool {
        let there = self.path.as_ref().and_then(|path| fs::metadata(path).ok());
        let (Ok(ours), Some(there)) = (file.metadata(), there) else { return false };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }

    /// Takes the open file, or opens it where there is none, or another by now.
    fn file(&self) -> Option<File> {
        let path = self.path.as_ref()?;
        if let Some(file) = self.file.take().filter(|file| self.is_current(file)) {
            return Some(file);
        }
        let mut create = OpenOptions::new();
        create.append(true).create(true).mode(0o600);
        // As iptables itself does, which may come later.
        File::open(path)
            .or_else(|_| create.open(path))
            .inspect_err(|error| debug!(path = %path.display(), %error, "no xtables lock"))
            .ok()
    }
}

/// Where the lock is, with that in the variable.
fn place(variable: Option<OsString>) -> PathBuf {
    variable.filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from(PATH), PathBuf::from)
}

fn stand_in_line(file: &File) -> io::Result<Waiting> {
    let file = file.try_clone()?;
    let (to, turn) = mpsc::channel();
    let (kept, end) = mpsc::channel();
    thread::Builder::new().name("xtables lock".to_owned()).spawn(move || {
        let held = Flock::lock(file, FlockArg::LockExclusive);
        if let Err((_, errno)) = &held {
            debug!(%errno, "cannot wait for the xtables lock");
        }
        if to.send(()).is_ok() {
            // Nothing is ever said: it ends with the turn.
            let _: Result<(), _> = end.recv_timeout(TURN);
        }
        drop(held);
    })?;
    Ok(Waiting { since: Instant::now(), turn, _kept: kept })
}

/// Who holds the lock of `file`, where this process can see them.
fn holder(file: &File) -> Option<String> {
    let there = file.metadata().ok()?;
    let (device, inode) = (there.dev(), there.ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let pid = holder_in(&fs::read_to_string("/proc/locks").ok()?, &place)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => Some(format!("process {pid}")),
        name => Some(format!("{name} (process {pid})")),
    }
}

/// Who holds the lock at `place` in `/proc/locks`, where those who wait stand behind an arrow. A
/// process that cannot be seen from here has no number above 0.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, pid, at, ..] if at == place => {
                pid.parse().ok().filter(|pid| *pid > 0)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long anything may take before a test gives it up.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn held(path: &std::path::Path) -> Flock<File> {
        let file = File::create(path).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
    }

    fn comes_true(condition: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if condition() {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    #[test]
    fn the_turn_comes_when_others_let_go_and_ends_when_it_is_made_use_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::at(Some(path.clone()));
        assert!(lock.is_free() && lock.is_our_turn());
        let others = held(&path);
        assert!(!lock.is_free());
        assert!(!lock.is_our_turn() && !lock.is_our_turn());
        assert_eq!(lock.reason(), None, "not for long");
        drop(others);
        assert!(comes_true(|| lock.is_our_turn()));
        assert!(comes_true(|| lock.is_free()), "it is let go of");
    }

    #[test]
    fn a_turn_that_nobody_makes_use_of_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (lock, watcher) = (Lock::at(Some(path.clone())), Lock::at(Some(path.clone())));
        let others = held(&path);
        assert!(!lock.is_our_turn());
        drop(others);
        assert!(comes_true(|| watcher.is_free()));
    }

    #[test]
    fn a_file_that_is_replaced_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::at(Some(path.clone()));
        assert!(lock.is_free());
        fs::remove_file(&path).unwrap();
        let _others = held(&path);
        assert!(!lock.is_free());
    }

    #[test]
    fn without_a_lock_or_a_file_for_it_there_is_nothing_to_wait_for() {
        for lock in [Lock::of(Backend::Nft), Lock::at(Some(PathBuf::from("/nowhere/at/all")))] {
            assert!(lock.is_free() && lock.is_our_turn(), "{lock:?}");
        }
        assert_eq!(place(None), PathBuf::from(PATH));
        assert_eq!(place(Some(OsString::new())), PathBuf::from(PATH));
        assert_eq!(place(Some("/x".into())), PathBuf::from("/x"));
    }

    #[test]
    fn the_holder_is_named_and_not_those_who_wait() {
        let locks = "1: POSIX  ADVISORY  WRITE 9 00:17:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 812 00:17:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 900 00:17:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 00:17:43 0 EOF\n";
        assert_eq!(holder_in(locks, "00:17:42"), Some(812));
        assert_eq!(holder_in(locks, "00:17:43"), None, "of another pid namespace");
        assert_eq!(holder_in(locks, "00:17:44"), None);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let others = held(&path);
        let name = holder(&others).unwrap();
        assert!(name.ends_with(&format!("(process {})", std::process::id())), "{name}");
    }
}
