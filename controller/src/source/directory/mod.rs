//! A directory of manifests as the cluster.
//!
//! The directory is watched; after an event it is left to settle, so that a ConfigMap volume's
//! `..data` swap, or a write beside and a rename over, is one change; what moves while it is read is
//! read again. A file that is written in place is left alone until its writer closes it. Only files
//! that changed are read, and every ten seconds they are looked for without an event, in case the
//! watch missed something or the directory was put in the place of another.
//!
//! A file that cannot be read or parsed goes on as it last could, and is a [`Problem`] until it can
//! again. One that never could holds nothing, and the listing is then not whole. A file that holds no
//! object any more, or a directory without any manifest, is not believed for some seconds: it is
//! emptied by accident more often than by intent. A file that is removed beside others takes its
//! objects with it at once.

mod known;
mod unfinished;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use policy_manifest::input::{self, InputError};

use self::known::Known;
use self::unfinished::{Change, Inode, Stamp, Unfinished};
use self::watch::Watch;
use super::{Input, Listing, Problem, RESCAN, Source};

/// How long the source waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// How long nothing must happen before the directory is read.
    pub quiet: Duration,
    /// How long a directory that never rests is waited for.
    pub patience: Duration,
    /// How often it is looked at without an event.
    pub rescan: Duration,
    /// How long a file must stand still that was written to and not closed.
    pub unfinished: Duration,
    /// How long a file must hold nothing, or the directory no manifest, to be believed.
    pub emptied: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(25),
            patience: Duration::from_secs(1),
            rescan: RESCAN,
            unfinished: Duration::from_secs(3),
            emptied: Duration::from_secs(5),
        }
    }
}

/// Why a directory cannot be a source at all.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be looked into.
    #[error("cannot read the source directory {}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("the source {} is not a directory", path.display())]
    NotADirectory {
        /// What it was taken for.
        path: PathBuf,
    },
}

/// A directory and what its files last held.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    delays: Delays,
    files: BTreeMap<PathBuf, Known>,
    /// The directories that were last looked into, by their canonical paths.
    looked_into: BTreeSet<PathBuf>,
    writing: Unfinished,
    /// Since when there is no manifest where there were some.
    emptied: Option<Instant>,
    /// Whether a file changed too short a time ago to be read.
    restless: bool,
    listed: Option<Listing>,
    /// Whether a listing was whole.
    started: bool,
    /// How often what could not be listed has changed.
    version: u64,
    unlisted: Vec<String>,
}

impl Directory {
    /// Takes a directory for a source; it must be there and readable.
    ///
    /// # Errors
    /// Where it is not.
    pub fn open(root: &Path) -> Result<Self, DirectoryError> {
        let unreadable = |source| DirectoryError::Unreadable { path: root.to_owned(), source };
        let metadata = fs::metadata(root).map_err(unreadable)?;
        if !metadata.is_dir() {
            return Err(DirectoryError::NotADirectory { path: root.to_owned() });
        }
        fs::read_dir(root).map_err(unreadable)?;
        Ok(Self {
            root: root.to_owned(),
            delays: Delays::default(),
            files: BTreeMap::new(),
            looked_into: BTreeSet::new(),
            writing: Unfinished::default(),
            emptied: None,
            restless: false,
            listed: None,
            started: false,
            version: 0,
            unlisted: Vec::new(),
        })
    }

    /// Waits so long instead.
    #[must_use]
    pub fn with_delays(self, delays: Delays) -> Self {
        Self { delays, ..self }
    }

    /// Reads the directory, and says what it holds where that is not what it held.
    pub fn scan(&mut self) -> Option<Listing> {
        self.scan_at(Instant::now(), Duration::ZERO)
    }

    /// Reads the directory until it holds the same twice, or never rests; for those who read it once.
    pub fn settled(&mut self) -> Option<Listing> {
        let begun = Instant::now();
        let mut last = self.scan_at(begun, self.delays.quiet);
        loop {
            std::thread::sleep(self.delays.quiet);
            match self.scan_at(Instant::now(), self.delays.quiet) {
                Some(listing) => last = Some(listing),
                None if !self.restless => return last,
                None => {}
            }
            if begun.elapsed() >= self.delays.patience {
                return self.scan().or(last);
            }
        }
    }

    /// Reads what has changed, save files that changed within the last `fresh`.
    fn scan_at(&mut self, now: Instant, fresh: Duration) -> Option<Listing> {
        let listing = input::list(&self.root);
        let mut failed: Vec<(PathBuf, String)> =
            listing.errors.iter().map(|error| (path_of(error), error.to_string())).collect();
        if listing.files.is_empty() && failed.is_empty() {
            failed.extend(self.emptied_root(now));
        } else {
            self.emptied = None;
        }
        let present: BTreeSet<&PathBuf> = listing.files.iter().collect();
        // What lies where we cannot look is not known to be gone.
        self.files.retain(|path, _| {
            present.contains(path) || failed.iter().any(|(at, _)| path.starts_with(at))
        });
        self.restless = false;
        let mut inodes = BTreeSet::new();
        for path in &listing.files {
            inodes.extend(self.read(path, now, fresh));
        }
        self.writing.forget_others(&inodes, now, self.delays.unfinished);
        self.looked_into = listing.directories;
        self.looked_into.extend(watch::homes(listing.files.iter()));
        let unlisted: Vec<String> = failed.into_iter().map(|(_, message)| message).collect();
        if unlisted != self.unlisted {
            self.version += 1;
            self.unlisted = unlisted;
        }
        let listing = self.listing();
        self.started |= listing.whole;
        if self.listed.as_ref() == Some(&listing) {
            return None;
        }
        self.listed = Some(listing.clone());
        Some(listing)
    }

    /// What is amiss with a directory that has no manifest, where it had some with objects until a
    /// moment ago.
    fn emptied_root(&mut self, now: Instant) -> Option<(PathBuf, String)> {
        if !self.files.values().any(Known::holds_objects) {
            return None;
        }
        let since = *self.emptied.get_or_insert(now);
        if now.duration_since(since) >= self.delays.emptied {
            return None;
        }
        let (root, span) = (self.root.display(), self.delays.emptied);
        let message =
            format!("{root}: holds no manifest any more; what it held goes on for {span:?}");
        Some((self.root.clone(), message))
    }

    /// Brings one file up to date, where that can be done now. Returns which one it is.
    fn read(&mut self, path: &Path, now: Instant, fresh: Duration) -> Option<Inode> {
        let known = self.files.entry(path.to_owned()).or_default();
        let stamp = Stamp::of(path);
        let inode = stamp.map(|stamp| stamp.inode());
        if stamp.is_none() || stamp != known.stamp {
            let writing =
                stamp.and_then(|stamp| self.writing.age(&stamp, now, self.delays.unfinished));
            if let Some(age) = writing {
                // Before the start nobody else would say why nothing happens.
                known.unfinished = !self.started || age >= self.delays.unfinished;
                return inode;
            }
            known.unfinished = false;
            let put_off = now.duration_since(*known.put_off.get_or_insert(now));
            if stamp.is_some_and(|s| s.is_fresh(fresh)) && put_off < self.delays.patience {
                self.restless = true;
                return inode;
            }
            known.put_off = None;
            let read = input::read_regular(path).map_err(|error| error.to_string());
            // A stamp that is not old may have to stand for the next change as well.
            let lasting = |stamp: &Stamp| read.is_ok() && !stamp.is_fresh(LASTING);
            known.stamp = stamp.filter(|s| Stamp::of(path) == stamp && lasting(s));
            known.take(path, read, now, self.delays.emptied);
        } else if let Some(inode) = inode {
            // What was read is what stands there: whatever is written next is told anew.
            self.writing.forget(inode);
        }
        known.believe(now, self.delays.emptied);
        inode
    }

    fn listing(&self) -> Listing {
        let merged = input::merge(self.files.values().filter_map(Known::sound));
        let name = |path: &Path| -> Arc<str> { Arc::from(path.display().to_string()) };
        let mut problems: Vec<Problem> = self
            .unlisted
            .iter()
            .map(|message| Problem {
                input: name(&self.root),
                version: self.version,
                message: message.clone(),
                node: None,
            })
            .collect();
        for (path, known) in &self.files {
            let lines = known.problems(path).into_iter();
            problems.extend(lines.map(|(version, message)| Problem {
                input: name(path),
                version,
                message,
                node: None,
            }));
        }
        // A directory that cannot be looked into may hide files that were never read; after the
        // first whole listing that no longer matters, since what was read is kept.
        let whole =
            self.unlisted.is_empty() && self.files.values().all(|known| known.sound().is_some());
        Listing { snapshot: merged.snapshot, diagnostics: merged.diagnostics, problems, whole }
    }

    /// Reads until nothing happens meanwhile.
    fn settle_and_scan(&mut self, events: &Receiver<Change>) -> Option<Listing> {
        let begun = Instant::now();
        let patience = self.delays.patience;
        let mut changed = None;
        loop {
            while begun.elapsed() < patience
                && let Ok(change) = events.recv_timeout(self.delays.quiet)
            {
                self.writing.note(&change, Instant::now());
            }
            while let Ok(change) = events.try_recv() {
                self.writing.note(&change, Instant::now());
            }
            if let Some(listing) = self.scan_at(Instant::now(), self.delays.quiet) {
                changed = Some(listing);
            }
            match events.try_recv() {
                Ok(change) => self.writing.note(&change, Instant::now()),
                Err(_) if !self.restless => return changed,
                Err(_) => {}
            }
            if begun.elapsed() >= patience {
                return changed;
            }
        }
    }

    /// How long nothing need be done without an event.
    fn idle_for(&self) -> Duration {
        let Delays { quiet, rescan, unfinished, emptied, .. } = self.delays;
        let restless = self.restless.then_some(quiet);
        let due = self.files.values().filter_map(|known| known.due(emptied)).min();
        let times = [due, self.emptied.map(|since| since + emptied), self.writing.due(unfinished)];
        let next = times.into_iter().flatten().min();
        let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
        // What was due a moment ago and is not done yet must not keep the thread busy.
        wait.map(|wait| wait.max(quiet)).into_iter().chain(restless).fold(rescan, Duration::min)
    }
}

/// The age from which no later change has the same time as an earlier one.
const LASTING: Duration = Duration::from_millis(100);

fn path_of(error: &InputError) -> PathBuf {
    error.location().file.map(|file| PathBuf::from(&*file)).unwrap_or_default()
}

impl Source for Directory {
    fn run(mut self, listings: &Sender<Input>) {
        let (wake, events) = mpsc::channel();
        let mut watch = Watch::new(self.root.clone(), self.delays.rescan, wake);
        loop {
            watch.renew();
            let input = match self.settle_and_scan(&events) {
                Some(listing) => Input::Listed(Box::new(listing)),
                None => Input::Unchanged,
            };
            if listings.send(input).is_err() {
                return;
            }
            watch.follow(&self.looked_into);
            match events.recv_timeout(self.idle_for()) {
                Ok(change) => self.writing.note(&change, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                // The watch holds a sender for as long as it lives.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(self.delays.rescan),
            }
        }
    }
}

#[cfg(test)]
mod tests;
