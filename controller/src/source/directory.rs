//! A directory of manifests as the cluster.
//!
//! The directory is watched; after an event it is left to settle, so that a ConfigMap volume's
//! `..data` swap, or a write beside and a rename over, is one change; what moves while it is read is
//! read again. Only files whose content changed are parsed. Every ten seconds all is read anyway, in
//! case the watch missed something or the directory was put in the place of another.
//!
//! A file that cannot be read or parsed goes on as it last could, and is a [`Problem`] until it can
//! again. One that never could holds nothing, and the listing is then not whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use policy_compiler::diagnostic::Severity;
use policy_manifest::input::{self, InputError, Options, ParsedFile};
use tracing::{debug, warn};

use super::{Input, Listing, Problem, Source};

/// How long nothing must happen before the directory is read.
const QUIET: Duration = Duration::from_millis(25);
/// How long a directory that never rests is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often all is read without an event.
const RESCAN: Duration = Duration::from_secs(10);

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
    files: BTreeMap<PathBuf, Known>,
    listed: Option<Listing>,
    /// How often what could not be listed has changed.
    version: u64,
    unlisted: Vec<String>,
}

/// A file as it was last read.
#[derive(Debug, Default)]
struct Known {
    /// What was read, or why it could not be.
    read: Option<Result<String, String>>,
    version: u64,
    /// The last parse with nothing amiss.
    sound: Option<ParsedFile>,
    /// What is amiss now.
    amiss: Vec<String>,
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
            files: BTreeMap::new(),
            listed: None,
            version: 0,
            unlisted: Vec::new(),
        })
    }

    /// Reads the directory, and says what it holds where that is not what it held.
    pub fn scan(&mut self) -> Option<Listing> {
        let listing = input::list(&self.root);
        let failed: Vec<(PathBuf, String)> =
            listing.errors.iter().map(|error| (path_of(error), error.to_string())).collect();
        // What lies where we cannot look is not known to be gone.
        self.files.retain(|path, _| {
            listing.files.contains(path) || failed.iter().any(|(at, _)| path.starts_with(at))
        });
        for path in listing.files {
            let known = self.files.entry(path.clone()).or_default();
            known.take(&path, input::read_text(&path).map_err(|error| error.to_string()));
        }
        let unlisted: Vec<String> = failed.into_iter().map(|(_, message)| message).collect();
        if unlisted != self.unlisted {
            self.version += 1;
            self.unlisted = unlisted;
        }
        let listing = self.listing();
        if self.listed.as_ref() == Some(&listing) {
            return None;
        }
        self.listed = Some(listing.clone());
        Some(listing)
    }

    fn listing(&self) -> Listing {
        let merged = input::merge(self.files.values().filter_map(|known| known.sound.as_ref()));
        let name = |path: &Path| -> Arc<str> { Arc::from(path.display().to_string()) };
        let mut problems: Vec<Problem> = self
            .unlisted
            .iter()
            .map(|message| Problem {
                input: name(&self.root),
                version: self.version,
                message: message.clone(),
            })
            .collect();
        for (path, known) in &self.files {
            problems.extend(known.amiss.iter().map(|message| Problem {
                input: name(path),
                version: known.version,
                message: message.clone(),
            }));
        }
        // A directory that cannot be looked into may hide files that were never read; after the
        // first whole listing that no longer matters, since what was read is kept.
        let whole =
            self.unlisted.is_empty() && self.files.values().all(|known| known.sound.is_some());
        Listing { snapshot: merged.snapshot, diagnostics: merged.diagnostics, problems, whole }
    }

    /// Reads until nothing happens meanwhile.
    fn settle_and_scan(&mut self, events: &Receiver<()>) -> Option<Listing> {
        let begun = Instant::now();
        let mut changed = None;
        loop {
            while begun.elapsed() < PATIENCE && events.recv_timeout(QUIET).is_ok() {}
            if let Some(listing) = self.scan() {
                changed = Some(listing);
            }
            if begun.elapsed() >= PATIENCE || events.try_recv().is_err() {
                return changed;
            }
        }
    }
}

impl Known {
    fn take(&mut self, path: &Path, read: Result<String, String>) {
        if self.read.as_ref() == Some(&read) {
            return;
        }
        self.version += 1;
        match &read {
            Ok(text) => {
                let name = path.display().to_string();
                let parsed = input::parse_file(&name, text, &Options::default());
                debug!(file = name, objects = parsed.objects.len(), "parsed");
                self.amiss = amiss(&parsed);
                if parsed.is_sound() {
                    self.sound = Some(parsed);
                }
            }
            Err(message) => self.amiss = vec![message.clone()],
        }
        self.read = Some(read);
    }
}

/// Why a parse is not sound, a line each; nothing where it is.
fn amiss(parsed: &ParsedFile) -> Vec<String> {
    if parsed.is_sound() {
        return Vec::new();
    }
    // A log line has no room for the line of the source that a message may quote below itself.
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> =
        parsed.errors.iter().map(|error| first(error.to_string())).collect();
    let telling = |severity| severity == Severity::Error || parsed.template;
    let diagnostics = parsed.diagnostics.iter().filter(|d| telling(d.severity));
    lines.extend(diagnostics.map(ToString::to_string));
    lines
}

fn path_of(error: &InputError) -> PathBuf {
    error.location().file.map(|file| PathBuf::from(&*file)).unwrap_or_default()
}

impl Source for Directory {
    fn run(mut self, listings: &Sender<Input>) {
        let (wake, events) = mpsc::channel();
        let mut watch = Watch::new(self.root.clone(), wake);
        watch.renew();
        loop {
            if let Some(listing) = self.settle_and_scan(&events)
                && listings.send(Input::Listed(Box::new(listing))).is_err()
            {
                return;
            }
            match events.recv_timeout(RESCAN) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => watch.renew(),
                // The watcher holds the sender for as long as it lives.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(RESCAN),
            }
        }
    }
}

/// The watch on the directory, set anew when another takes its place.
struct Watch {
    root: PathBuf,
    wake: Sender<()>,
    watched: Option<(u64, u64)>,
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    fn new(root: PathBuf, wake: Sender<()>) -> Self {
        Self { root, wake, watched: None, watcher: None }
    }

    /// Watches what now stands at the path. Where that fails the slow rescan still works.
    fn renew(&mut self) {
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
                // What happened between the last reading and the watch.
                let _ = self.wake.send(());
            }
            Err(error) => {
                warn!(%error, "cannot watch the source directory, reading it every 10s");
            }
        }
    }

    fn set(&self) -> notify::Result<RecommendedWatcher> {
        let wake = self.wake.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            // Reading causes events of its own, which tell nothing.
            if !matches!(&event, Ok(event) if event.kind.is_access()) {
                let _ = wake.send(());
            }
        };
        let mut watcher = notify::recommended_watcher(on_event)?;
        watcher.watch(&self.root, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::name::ObjectKey;
    use std::os::unix::fs::symlink;

    fn policy(name: &str) -> String {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: shop}}\nspec: {{podSelector: {{}}}}\n"
        )
    }

    fn policies(listing: &Listing) -> Vec<String> {
        listing.snapshot.policies.keys().map(ObjectKey::to_string).collect()
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> &Self {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            fs::write(self.path(name), text).unwrap();
            self
        }

        fn source(&self) -> Directory {
            Directory::open(self.0.path()).unwrap()
        }
    }

    #[test]
    fn only_manifests_are_read_and_a_second_reading_says_nothing_new() {
        let folder = Folder::new();
        folder.write("a.yaml", &policy("a")).write("deep/b.yml", &policy("b"));
        folder.write("notes.txt", "not: [yaml").write(".c.yaml.swp", "x");
        let mut source = folder.source();
        let listing = source.scan().unwrap();
        assert_eq!(policies(&listing), ["shop/a", "shop/b"]);
        assert!(listing.whole);
        assert_eq!(listing.problems, []);
        assert_eq!(source.scan(), None);
    }

    #[test]
    fn a_broken_file_keeps_what_it_last_held_and_is_a_problem_until_it_parses() {
        let folder = Folder::new();
        folder.write("a.yaml", &policy("a"));
        let mut source = folder.source();
        source.scan().unwrap();

        folder.write("a.yaml", "kind: [");
        let listing = source.scan().unwrap();
        assert_eq!(policies(&listing), ["shop/a"]);
        assert!(listing.whole);
        assert_eq!(listing.problems.len(), 1);
        assert!(listing.problems[0].message.contains("a.yaml:"), "{}", listing.problems[0]);
        assert_eq!(source.scan(), None, "reported once");

        folder.write("a.yaml", "kind: [ ");
        let changed = source.scan().expect("reported again when it changes");
        assert_ne!(changed.problems, listing.problems);

        folder.write("a.yaml", &policy("b"));
        let listing = source.scan().unwrap();
        assert_eq!(policies(&listing), ["shop/b"]);
        assert_eq!(listing.problems, []);
    }

    #[test]
    fn a_file_with_an_object_that_must_be_left_out_keeps_what_it_last_held() {
        let folder = Folder::new();
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n";
        folder.write("a.yaml", pod);
        let mut source = folder.source();
        assert_eq!(source.scan().unwrap().snapshot.pods.len(), 1);
        folder.write("a.yaml", &pod.replace("name: p,", "name: \"NOT A NAME\","));
        let listing = source.scan().unwrap();
        assert_eq!(listing.snapshot.pods.len(), 1);
        assert_eq!(listing.problems.len(), 1, "{:?}", listing.problems);
    }

    #[test]
    fn a_file_that_never_parsed_leaves_the_listing_incomplete() {
        let folder = Folder::new();
        folder.write("a.yaml", &policy("a")).write("b.yaml", "kind: [");
        let listing = folder.source().scan().unwrap();
        assert!(!listing.whole);
        assert_eq!(policies(&listing), ["shop/a"]);
    }

    #[test]
    fn a_deleted_file_takes_its_objects_with_it_and_a_vanished_directory_does_not() {
        let folder = Folder::new();
        folder.write("a.yaml", &policy("a")).write("b.yaml", &policy("b"));
        let mut source = folder.source();
        source.scan().unwrap();
        fs::remove_file(folder.path("b.yaml")).unwrap();
        assert_eq!(policies(&source.scan().unwrap()), ["shop/a"]);

        fs::remove_dir_all(folder.0.path()).unwrap();
        let listing = source.scan().unwrap();
        assert_eq!(policies(&listing), ["shop/a"]);
        assert_eq!(listing.problems.len(), 1);
    }

    #[test]
    fn a_missing_directory_and_a_file_are_refused() {
        let folder = Folder::new();
        folder.write("a.yaml", "");
        let missing = Directory::open(&folder.path("none")).unwrap_err();
        assert!(matches!(missing, DirectoryError::Unreadable { .. }), "{missing}");
        let file = Directory::open(&folder.path("a.yaml")).unwrap_err();
        assert!(matches!(file, DirectoryError::NotADirectory { .. }), "{file}");
    }

    /// Runs the source on a thread; listings come out of the receiver.
    fn watch(source: Directory) -> Receiver<Input> {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || source.run(&sender));
        receiver
    }

    fn next(listings: &Receiver<Input>) -> Listing {
        match listings.recv_timeout(Duration::from_secs(5)).unwrap() {
            Input::Listed(listing) => *listing,
            Input::Stop => panic!("a source does not stop the loop"),
        }
    }

    #[test]
    fn a_configmap_swap_is_one_change() {
        let folder = Folder::new();
        folder.write("..1/a.yaml", &policy("a")).write("..1/b.yaml", &policy("b"));
        symlink("..1", folder.path("..data")).unwrap();
        symlink("..data/a.yaml", folder.path("a.yaml")).unwrap();
        symlink("..data/b.yaml", folder.path("b.yaml")).unwrap();
        let listings = watch(folder.source());
        assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b"]);

        folder.write("..2/a.yaml", &policy("c")).write("..2/b.yaml", &policy("d"));
        symlink("..2", folder.path("..data_tmp")).unwrap();
        fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        assert_eq!(policies(&next(&listings)), ["shop/c", "shop/d"]);
        assert!(listings.recv_timeout(Duration::from_millis(300)).is_err(), "one change");
    }

    #[test]
    fn a_write_beside_and_a_rename_over_is_one_change() {
        let folder = Folder::new();
        folder.write("a.yaml", &policy("a"));
        let listings = watch(folder.source());
        assert_eq!(policies(&next(&listings)), ["shop/a"]);

        folder.write(".a.yaml.tmp", &policy("b"));
        fs::rename(folder.path(".a.yaml.tmp"), folder.path("a.yaml")).unwrap();
        assert_eq!(policies(&next(&listings)), ["shop/b"]);
        assert!(listings.recv_timeout(Duration::from_millis(300)).is_err(), "one change");
    }

    #[test]
    fn a_file_in_a_new_subdirectory_is_seen() {
        let folder = Folder::new();
        folder.write("a.yaml", &policy("a"));
        let listings = watch(folder.source());
        next(&listings);
        folder.write("team/b.yaml", &policy("b"));
        assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b"]);
    }
}
