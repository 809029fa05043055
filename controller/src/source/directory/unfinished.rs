//! Files that somebody is writing to.
//!
//! A file that is written in place is empty for a while and cut off for another, and either may be
//! valid: it would be taken for one that no longer isolates anything. So from the first write until
//! the writer closes it, or something is renamed over it, a file is left unread. A writer that never
//! closes is waited for until the file has stood still for some seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};

/// Which file stands at a path, and when it last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: Inode,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A device and a file of it.
pub(super) type Inode = (u64, u64);

impl Stamp {
    /// Of what a path leads to.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    /// Whether it changed within the last `span`. The notice of a change may still be on its way, and
    /// the next one may get the same time.
    pub(super) fn is_fresh(&self, span: Duration) -> bool {
        let (seconds, nanos) = self.changed;
        let since_epoch = u64::try_from(seconds)
            .ok()
            .zip(u32::try_from(nanos).ok())
            .map(|(seconds, nanos)| Duration::new(seconds, nanos));
        let changed = since_epoch.and_then(|d| SystemTime::UNIX_EPOCH.checked_add(d));
        // A time to come says nothing: the clock was set back.
        changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age < span)
    }
}

/// What an event tells of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is being written to.
    Writing(PathBuf),
    /// What stands there now is whole.
    Whole(Vec<PathBuf>),
    /// Something else happened.
    Other,
}

impl Change {
    /// What the watch tells; nothing for what readers do.
    pub(super) fn of(event: notify::Result<notify::Event>) -> Option<Self> {
        let Ok(notify::Event { kind, mut paths, .. }) = event else { return Some(Change::Other) };
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_)) => Some(Change::Whole(paths)),
            EventKind::Access(_) => None,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                Some(paths.pop().map_or(Change::Other, Change::Writing))
            }
            _ => Some(Change::Other),
        }
    }
}

/// The files that are being written to.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    files: BTreeMap<Inode, Writing>,
}

#[derive(Debug)]
struct Writing {
    begun: Instant,
    stamp: Option<Stamp>,
    /// When the stamp was first seen so.
    still_since: Instant,
}

impl Unfinished {
    /// Takes what the watch tells.
    pub(super) fn note(&mut self, change: &Change, now: Instant) {
        match change {
            Change::Other => {}
            Change::Whole(paths) => {
                for stamp in paths.iter().filter_map(|path| Stamp::of(path)) {
                    self.files.remove(&stamp.inode);
                }
            }
            Change::Writing(path) => {
                let Ok(metadata) = fs::symlink_metadata(path) else { return };
                // Nobody has to close a link before what it leads to is whole.
                if !metadata.is_file() || metadata.nlink() > 1 {
                    return;
                }
                let inode = (metadata.dev(), metadata.ino());
                let fresh = Writing { begun: now, stamp: None, still_since: now };
                self.files.entry(inode).or_insert(fresh);
            }
        }
    }

    /// How long the file has been written to; nothing where that has ended, or nothing has changed
    /// for `patience`.
    pub(super) fn age(
        &mut self,
        stamp: &Stamp,
        now: Instant,
        patience: Duration,
    ) -> Option<Duration> {
        let writing = self.files.get_mut(&stamp.inode)?;
        if writing.stamp.as_ref() != Some(stamp) {
            writing.stamp = Some(*stamp);
            writing.still_since = now;
        }
        if now.duration_since(writing.still_since) >= patience {
            self.files.remove(&stamp.inode);
            return None;
        }
        Some(now.duration_since(writing.begun))
    }

    /// Takes a file for whole.
    pub(super) fn forget(&mut self, inode: Inode) {
        self.files.remove(&inode);
    }

    /// Forgets files that are not among `listed`, a while after they were written to.
    pub(super) fn forget_others(
        &mut self,
        listed: &BTreeSet<Inode>,
        now: Instant,
        patience: Duration,
    ) {
        let recent = |writing: &Writing| now.duration_since(writing.begun) < patience;
        self.files.retain(|inode, writing| listed.contains(inode) || recent(writing));
    }

    /// When the first of them will have stood still for `patience`.
    pub(super) fn due(&self, patience: Duration) -> Option<Instant> {
        self.files.values().map(|writing| writing.still_since + patience).min()
    }
}
