//! Manifests as a git revision has them.
//!
//! ```text
//!  git:main ──rev-parse──> a commit ──ls-tree──> names and sizes ──cat-file --batch──> texts
//! ```
//!
//! Nothing is checked out, and the work tree and the index play no part. `git` is run with arrays of
//! arguments, never through a shell; a revision that could be taken for an option is refused before
//! that. What git prints is bounded in size and the time that it takes is bounded too: a partial clone
//! may go to the network for what it lacks.

use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{io, thread};

use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::Location;
use policy_manifest::input::{self, InputError, Options, Parsed};
use policy_manifest::source;

/// How long one run of git may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How much git may print: a list of a few hundred thousand names, or all manifests together.
const MAX_OUTPUT: u64 = 256 << 20;
/// How much of what git complains about is kept.
const MAX_COMPLAINT: u64 = 4 << 10;

/// Why a revision cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The text after `git:` is no name of a revision.
    #[error("`git:{0}` names no revision")]
    Name(String),
    /// There is no git, or it cannot be started.
    #[error("cannot run git")]
    Start(#[source] io::Error),
    /// It does not end.
    #[error("git {what} has not ended after {} s", PATIENCE.as_secs())]
    Slow {
        /// The subcommand.
        what: &'static str,
    },
    /// It says more than any set of manifests is long.
    #[error("git {what} prints more than {} MiB", MAX_OUTPUT >> 20)]
    TooMuch {
        /// The subcommand.
        what: &'static str,
    },
    /// It fails.
    #[error("git {what} fails: {message}")]
    Failed {
        /// The subcommand.
        what: &'static str,
        /// Its own words.
        message: String,
    },
    /// There is no such commit.
    #[error("`git:{revision}` is no commit of this repository")]
    NoCommit {
        /// As it was named.
        revision: String,
    },
    /// The path is not in the repository.
    #[error("{}: not inside the git repository", .0.display())]
    Outside(PathBuf),
    /// Its output is not what its manual says.
    #[error("cannot make sense of what git {what} prints")]
    Garbled {
        /// The subcommand.
        what: &'static str,
    },
}

impl GitError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            GitError::Name(_) => {
                "name a branch, a tag or a commit, for example `git:main` or `git:HEAD~1`"
                    .to_owned()
            }
            GitError::Start(_) => "`git:` needs git on the PATH".to_owned(),
            GitError::NoCommit { .. } => {
                "`git branch -a` and `git tag` list the names; a shallow clone lacks old commits"
                    .to_owned()
            }
            GitError::Outside(_) => {
                "`git:` reads the repository of the current directory".to_owned()
            }
            GitError::Slow { .. }
            | GitError::TooMuch { .. }
            | GitError::Failed { .. }
            | GitError::Garbled { .. } => return None,
        })
    }
}

/// A revision by the name that a person gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// Takes `name` for a revision, unless git could take it for something else.
    ///
    /// # Errors
    /// Where it is empty, begins with `-`, or has a character that no revision has.
    pub fn new(name: &str) -> Result<Self, GitError> {
        let fits = !name.is_empty()
            && !name.starts_with('-')
            && !name.contains(|c: char| c.is_control() || c == ' ' || c == ':');
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(GitError::Name(name.chars().map(source::printable).collect()))
        }
    }

    /// As it was named.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The manifests that `revision` has under `paths`, which are relative to the current directory. Of a
/// directory the files count that would count on disk.
///
/// # Errors
/// Where git cannot be asked, or knows no such commit.
pub(super) fn read(
    revision: &Revision,
    paths: &[PathBuf],
    options: &Options,
) -> Result<Parsed, GitError> {
    let commit = commit(revision)?;
    let mut parsed = Parsed::default();
    let mut wanted = Vec::new();
    for path in paths {
        let inside = inside(path)?;
        let listed = list(&commit, &inside)?;
        let named = |found: &Blob| found.path == inside;
        if listed.is_empty() {
            parsed.errors.push(InputError::NotFound { path: shown(revision, &inside).into() });
        }
        for found in &listed {
            if !named(found) && !counts(&found.path, &inside) {
                continue;
            }
            if found.is_file {
                wanted.push(found.clone());
            } else {
                parsed.notes.push(not_followed(&shown(revision, &found.path)));
            }
        }
    }
    wanted.sort();
    wanted.dedup();
    let (small, large): (Vec<Blob>, Vec<Blob>) =
        wanted.into_iter().partition(|blob| blob.size <= input::MAX_BYTES);
    let too_large = |blob: &Blob| InputError::TooLarge {
        path: shown(revision, &blob.path).into(),
        mebibytes: input::MAX_BYTES >> 20,
    };
    parsed.errors.extend(large.iter().map(too_large));
    for (blob, bytes) in small.iter().zip(contents(&small)?) {
        let name = shown(revision, &blob.path);
        match input::text_of(Path::new(&name), bytes) {
            Ok(text) => parsed.files.push(input::parse_file(&name, &text, options)),
            Err(error) => parsed.errors.push(error),
        }
    }
    Ok(parsed)
}

/// A file of a revision by the name that git itself knows it by: `main:k8s/web.yaml`.
fn shown(revision: &Revision, path: &str) -> String {
    let path: String = path.chars().map(source::printable).collect();
    format!("{}:{path}", revision.as_str())
}

fn not_followed(name: &str) -> Diagnostic {
    Diagnostic {
        location: Location { file: Some(Arc::from(name)), position: None },
        object: None,
        field: String::new(),
        severity: Severity::Warning,
        message: "a link in a git revision is not followed".to_owned(),
        help: None,
    }
}

/// The full name of the commit that a revision is.
fn commit(revision: &Revision) -> Result<String, GitError> {
    let peeled = format!("{}^{{commit}}", revision.as_str());
    let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", &peeled];
    let (output, success) = run("rev-parse", &arguments, Vec::new())?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let whole = name.len() >= 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
    match (success, whole) {
        (true, true) => Ok(name),
        (true, false) => Err(GitError::Garbled { what: "rev-parse" }),
        (false, _) if output.stderr.is_empty() => {
            Err(GitError::NoCommit { revision: revision.as_str().to_owned() })
        }
        (false, _) => Err(output.failed("rev-parse")),
    }
}

/// The path from the top of the repository to `path`, without a slash at its end; empty for the top.
fn inside(path: &Path) -> Result<String, GitError> {
    let outside = || GitError::Outside(path.to_owned());
    let said = |argument: &str| -> Result<PathBuf, GitError> {
        let (output, success) = run("rev-parse", &["rev-parse", argument], Vec::new())?;
        if !success {
            return Err(output.failed("rev-parse"));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(PathBuf::from(text.strip_suffix('\n').unwrap_or(&text)))
    };
    let start = if path.is_absolute() {
        let top = said("--show-toplevel")?;
        // The directory may be gone from the disk, and still be in the revision.
        path.strip_prefix(&top).map_err(|_| outside())?.to_owned()
    } else {
        said("--show-prefix")?.join(path)
    };
    let mut parts: Vec<&str> = Vec::new();
    for component in start.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(outside)?),
            Component::ParentDir => {
                parts.pop().ok_or_else(outside)?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(parts.join("/"))
}

/// Whether a file below the directory `inside` would count on disk.
fn counts(path: &str, inside: &str) -> bool {
    let below = path.strip_prefix(inside).unwrap_or(path);
    let hidden = below.split('/').any(|part| part.starts_with('.'));
    !hidden && input::is_manifest(Path::new(path))
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Blob {
    path: String,
    id: String,
    size: u64,
    /// A regular file, not a link.
    is_file: bool,
}

/// Everything below `inside` in a commit.
fn list(commit: &str, inside: &str) -> Result<Vec<Blob>, GitError> {
    let mut arguments = vec!["ls-tree", "-r", "-z", "-l", "--full-tree", commit];
    if !inside.is_empty() {
        arguments.extend(["--", inside]);
    }
    let (output, success) = run("ls-tree", &arguments, Vec::new())?;
    if !success {
        return Err(output.failed("ls-tree"));
    }
    let entries = output.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries.filter_map(|entry| entry_of(entry).transpose()).collect()
}

/// `100644 blob 0123abcd.. 417<TAB>k8s/web.yaml`; `None` for what is no file, such as a submodule.
fn entry_of(entry: &[u8]) -> Result<Option<Blob>, GitError> {
    let garbled = || GitError::Garbled { what: "ls-tree" };
    let entry = String::from_utf8_lossy(entry);
    let (head, path) = entry.split_once('\t').ok_or_else(garbled)?;
    let fields: Vec<&str> = head.split_whitespace().collect();
    let [mode, kind, id, size] = fields[..] else { return Err(garbled()) };
    if kind != "blob" {
        return Ok(None);
    }
    Ok(Some(Blob {
        path: path.to_owned(),
        id: id.to_owned(),
        size: size.parse().map_err(|_| garbled())?,
        is_file: mode.starts_with("100"),
    }))
}

/// What the files hold, in their order.
fn contents(blobs: &[Blob]) -> Result<Vec<Vec<u8>>, GitError> {
    if blobs.is_empty() {
        return Ok(Vec::new());
    }
    let ids = blobs.iter().fold(String::new(), |ids, blob| ids + &blob.id + "\n");
    let (output, success) = run("cat-file", &["cat-file", "--batch"], ids.into_bytes())?;
    if !success {
        return Err(output.failed("cat-file"));
    }
    let garbled = || GitError::Garbled { what: "cat-file" };
    let mut rest = output.stdout.as_slice();
    let mut found = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(garbled)?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        if head != format!("{} blob {}", blob.id, blob.size) {
            return Err(garbled());
        }
        let size = usize::try_from(blob.size).map_err(|_| garbled())?;
        let body = rest.get(end + 1..end + 1 + size).ok_or_else(garbled)?;
        found.push(body.to_vec());
        rest = rest.get(end + 2 + size..).ok_or_else(garbled)?;
    }
    Ok(found)
}

/// What a run of git printed.
struct Output {
    stdout: Vec<u8>,
    stderr: String,
}

impl Output {
    fn failed(&self, what: &'static str) -> GitError {
        let line = self.stderr.lines().next().unwrap_or("it gives no reason");
        let message = line.strip_prefix("fatal: ").unwrap_or(line);
        GitError::Failed { what, message: message.chars().map(source::printable).collect() }
    }
}

/// Runs git to its end, or for as long as [`PATIENCE`] lasts.
fn run(what: &'static str, arguments: &[&str], stdin: Vec<u8>) -> Result<(Output, bool), GitError> {
    let mut child = Command::new("git")
        .args(arguments)
        // A path is a path, and no pattern; nobody is there to be asked for a password.
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GitError::Start)?;
    let output = talk(what, &mut child, stdin);
    if output.is_err() {
        // It has ended by itself, or is of no use any more.
        let _ = child.kill();
    }
    let status = child.wait().map_err(GitError::Start)?;
    Ok((output?, status.success()))
}

/// Feeds a process and collects what it prints; three threads, since any of its pipes may fill up.
fn talk(what: &'static str, child: &mut Child, stdin: Vec<u8>) -> Result<Output, GitError> {
    let lost = || GitError::Garbled { what };
    let (mut into, from, mut complaints) = (
        child.stdin.take().ok_or_else(lost)?,
        child.stdout.take().ok_or_else(lost)?,
        child.stderr.take().ok_or_else(lost)?,
    );
    // A process that does not want its input closes it, which is its own affair.
    thread::spawn(move || drop(into.write_all(&stdin)));
    let (said, complained) = (mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.take(MAX_OUTPUT + 1).read_to_end(&mut bytes);
        let _ = said.0.send(read.map(|_| bytes));
    });
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = complaints.by_ref().take(MAX_COMPLAINT).read_to_end(&mut bytes);
        let _ = complained.0.send(bytes);
        let _ = io::copy(&mut complaints, &mut io::sink());
    });
    let stdout = match said.1.recv_timeout(PATIENCE) {
        Ok(read) => read.map_err(GitError::Start)?,
        Err(RecvTimeoutError::Timeout) => return Err(GitError::Slow { what }),
        Err(RecvTimeoutError::Disconnected) => return Err(lost()),
    };
    if u64::try_from(stdout.len()).is_ok_and(|length| length > MAX_OUTPUT) {
        return Err(GitError::TooMuch { what });
    }
    let stderr = complained.1.recv_timeout(PATIENCE).unwrap_or_default();
    Ok(Output { stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_could_take_for_something_else_names_no_revision() {
        for name in ["", "-x", "--upload-pack=touch /x", "a b", "main:k8s", "a\nb", "\u{1b}[31m"] {
            assert!(Revision::new(name).is_err(), "{name:?}");
        }
        for name in ["main", "HEAD~1", "v1.2.3", "origin/main@{yesterday}", "0123abc^2"] {
            assert!(Revision::new(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn an_entry_is_a_file_a_link_or_nothing_of_ours() {
        let id = "a".repeat(40);
        let blob = |mode: &str| {
            let entry = format!("{mode} blob {id}      17\tk8s/a b.yaml");
            entry_of(entry.as_bytes()).unwrap().unwrap()
        };
        let file = blob("100644");
        assert_eq!((file.path.as_str(), file.size, file.is_file), ("k8s/a b.yaml", 17, true));
        assert!(!blob("120000").is_file);
        let submodule = format!("160000 commit {id}       -\tvendor/x");
        assert_eq!(entry_of(submodule.as_bytes()).unwrap(), None);
        assert!(entry_of(b"100644 blob").is_err());
    }

    #[test]
    fn hidden_files_and_other_names_do_not_count_below_a_directory() {
        for (path, inside, expected) in [
            ("k8s/a.yaml", "k8s", true),
            ("k8s/a.txt", "k8s", false),
            ("k8s/.hidden/a.yaml", "k8s", false),
            (".hidden/a.yaml", ".hidden", true),
            (".github/a.yml", "", false),
        ] {
            assert_eq!(counts(path, inside), expected, "{path} in {inside}");
        }
    }
}
