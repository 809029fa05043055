//! The watch on the directory, set anew when another takes its place.
//!
//! Below the directory everything is watched. What links in it lead to elsewhere is watched too, one
//! directory at a time, as far as the last listing found it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

use super::unfinished::{Change, Inode};

pub(super) struct Watch {
    root: PathBuf,
    rescan: Duration,
    wake: Sender<Change>,
    watched: Option<Inode>,
    elsewhere: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    pub(super) fn new(root: PathBuf, rescan: Duration, wake: Sender<Change>) -> Self {
        Self { root, rescan, wake, watched: None, elsewhere: BTreeSet::new(), watcher: None }
    }

    /// Watches what now stands at the path. Where that fails the slow rescan still works.
    pub(super) fn renew(&mut self) {
        let Ok(metadata) = fs::metadata(&self.root) else {
            self.watched = None;
            return;
        };
        let identity = (metadata.dev(), metadata.ino());
        if self.watched == Some(identity) {
            return;
        }
        match self.set() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.watched = Some(identity);
                self.elsewhere.clear();
                // What happened between the last reading and the watch.
                let _ = self.wake.send(Change::Other);
            }
            Err(error) => {
                warn!(%error, every = ?self.rescan, "cannot watch the source directory, reading it");
            }
        }
    }

    fn set(&self) -> notify::Result<RecommendedWatcher> {
        let wake = self.wake.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            if let Some(change) = Change::of(event) {
                let _ = wake.send(change);
            }
        };
        // Links are followed by `follow`: the watcher itself would do so at its start alone.
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(on_event, config)?;
        watcher.watch(&self.root, RecursiveMode::Recursive)?;
        Ok(watcher)
    }

    /// Watches those of the directories, all canonical, that are not below the watched one.
    pub(super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let outside = |directory: &&PathBuf| !directory.starts_with(&root);
        let wanted: BTreeSet<PathBuf> = directories.iter().filter(outside).cloned().collect();
        for gone in self.elsewhere.difference(&wanted) {
            // One that no longer exists is not watched either.
            let _ = watcher.unwatch(gone);
        }
        let mut reached: BTreeSet<PathBuf> =
            self.elsewhere.intersection(&wanted).cloned().collect();
        for new in wanted.difference(&self.elsewhere) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    reached.insert(new.clone());
                    let _ = self.wake.send(Change::Other);
                }
                Err(error) => debug!(directory = %new.display(), %error, "cannot watch"),
            }
        }
        self.elsewhere = reached;
    }
}

/// The directories that `files` really stand in.
pub(super) fn homes<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let real = files.filter_map(|file| fs::canonicalize(file).ok());
    real.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}
