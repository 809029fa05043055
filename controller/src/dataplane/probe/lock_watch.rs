//! The lock file of legacy iptables: whoever writes a legacy table opens it first and closes it last.
//!
//! A thread reads the kernel's notifications as they come, for two of a kind become one while nobody
//! has read the first. A file that is not there is made, empty and as iptables makes it; one that is
//! removed or replaced is sought anew, and that counts as a trace. A program that uses another file, as
//! one does in a container with a `/run` of its own, leaves no trace here.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Where the lock is unless the environment says otherwise, as iptables has it.
const LOCK: &str = "/run/xtables.lock";
/// How long to wait before a file that cannot be watched is sought again, in milliseconds.
const AGAIN: u16 = 1_000;

/// The lock file, watched; no longer when it is dropped.
#[derive(Debug)]
pub(super) struct LockWatch {
    closings: Arc<AtomicU32>,
    /// The thread ends when this is closed.
    _end: PipeWriter,
}

impl LockWatch {
    /// Watches from now on.
    pub(super) fn start() -> io::Result<Self> {
        Self::on(env::var_os("XTABLES_LOCKFILE").map_or_else(|| LOCK.into(), PathBuf::from))
    }

    fn on(path: PathBuf) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        seek(&inotify, &path)?;
        let (ended, end) = pipe()?;
        let closings = Arc::new(AtomicU32::new(0));
        let mut watch =
            Watch { inotify, path, ended, closings: Arc::clone(&closings), lost: false };
        thread::Builder::new()
            .name("lock-watch".to_owned())
            .spawn(move || while watch.turn() {})?;
        Ok(Self { closings, _end: end })
    }

    /// How often it was closed so far, from zero again after the last number; `None` where it is
    /// watched no longer.
    pub(super) fn closings(&self) -> Option<u32> {
        // The thread has a share of the count while it runs.
        (Arc::strong_count(&self.closings) > 1).then(|| self.closings.load(Ordering::SeqCst))
    }
}

/// Watches the file, which it makes where it is not there.
fn seek(inotify: &Inotify, path: &Path) -> io::Result<()> {
    // An opening tells nothing yet, but keeps the closings before and after it from becoming one. A
    // removal changes the attributes of a file that somebody has open, and deletes it afterwards.
    let what = AddWatchFlags::IN_OPEN
        | AddWatchFlags::IN_CLOSE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    match inotify.add_watch(path, what) {
        Err(Errno::ENOENT) => {}
        watched => return Ok(watched.map(drop)?),
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(inotify.add_watch(path, what).map(drop)?)
}

struct Watch {
    inotify: Inotify,
    path: PathBuf,
    ended: PipeReader,
    closings: Arc<AtomicU32>,
    /// Whether the file is to be sought.
    lost: bool,
}

impl Watch {
    /// Waits for notifications and counts them; whether to go on.
    fn turn(&mut self) -> bool {
        let patience = if self.lost { PollTimeout::from(AGAIN) } else { PollTimeout::NONE };
        let mut waiting = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
        if waiting[1].any() != Some(false) {
            return false;
        }
        match self.inotify.read_events() {
            Ok(events) => {
                for event in events {
                    let is = |what| event.mask.intersects(what);
                    if is(AddWatchFlags::IN_OPEN) {
                        continue;
                    }
                    self.lost |= !is(AddWatchFlags::IN_CLOSE);
                    self.count();
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return false,
        }
        if self.lost && seek(&self.inotify, &self.path).is_ok() {
            self.lost = false;
            // Whatever was done to the table meanwhile was not seen.
            self.count();
        }
        true
    }

    fn count(&self) {
        self.closings.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::{Duration, Instant};

    /// Waits until so many closings were seen, and says how many there are.
    fn closings(watch: &LockWatch, expected: u32) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(20);
        while watch.closings() != Some(expected) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        watch.closings().unwrap()
    }

    #[test]
    fn each_closing_is_seen_and_a_file_that_is_replaced_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let watch = LockWatch::on(path.clone()).unwrap();
        assert_eq!(closings(&watch, 0), 0, "it makes the file itself");
        for count in 1..=3 {
            drop(File::open(&path).unwrap());
            assert_eq!(closings(&watch, count), count);
        }
        fs::remove_file(&path).unwrap();
        let begun = Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is made again");
        }
        while watch.closings().unwrap() == 3 {
            assert!(begun.elapsed() < Duration::from_secs(20), "the removal is a trace");
        }
        // Until it is watched again, what is opened may go unseen.
        let before = watch.closings().unwrap();
        while watch.closings().unwrap() < before + 3 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is watched again");
            drop(File::open(&path).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_file_that_cannot_be_made_is_not_watched() {
        let path = PathBuf::from("/nonexistent/lock");
        assert!(LockWatch::on(path).is_err());
    }
}
