//! What is compared: directories and files, git revisions, clusters, by what the command line calls
//! them.
//!
//! ```text
//!  k8s/         files and directories            git:main      a revision of the repository here
//!  -            standard input                   live          the cluster of the kubeconfig
//! ```
//!
//! Files that are compared with a cluster are laid over it: what would be if they were applied. What
//! `--with` names is on both sides, unless one of them has an object of the same kind and name: then
//! the sides alone say whether it exists and what it is.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use policy_compiler::diagnostic::{ObjectRef, Severity};
use policy_compiler::name::NamespaceName;
use policy_manifest::input::{self, Loaded, Object, Options, Parsed, ParsedFile};

use crate::args;
use crate::error::CommandError;
use crate::input::READING;
use crate::live;
use crate::output::Output;
use crate::progress::Progress;
use crate::report;

use super::git::{self, Revision};

/// Something to read objects from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, a directory, or `-`.
    Files(PathBuf),
    /// A revision of the repository that the current directory is in.
    Git(Revision),
    /// A cluster; `None` is the kubeconfig's current context.
    Live(Option<String>),
}

impl Source {
    /// What `text` calls so.
    ///
    /// # Errors
    /// Where it begins as a revision and is none.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        if let Some(name) = text.strip_prefix("git:") {
            return Ok(Source::Git(Revision::new(name)?));
        }
        Ok(match text.strip_prefix("live") {
            Some("") => Source::Live(None),
            Some(rest) => match rest.strip_prefix(':') {
                Some(context) if !context.is_empty() => Source::Live(Some(context.to_owned())),
                _ => Source::Files(PathBuf::from(text)),
            },
            None => Source::Files(PathBuf::from(text)),
        })
    }

    fn is_live(&self) -> bool {
        matches!(self, Source::Live(_))
    }
}

/// One side of a comparison.
#[derive(Debug)]
pub struct Side {
    /// What a person calls it.
    pub name: String,
    /// Its objects.
    pub loaded: Loaded,
    /// What its file names begin with and text need not repeat.
    pub directory: String,
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Sides {
    /// What was.
    pub(super) old: Side,
    /// What is, or would be.
    pub(super) new: Side,
}

/// The sources of both sides and of what they share.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sources {
    old: Source,
    new: Source,
    with: Option<Source>,
    /// What is read of a revision.
    paths: Vec<PathBuf>,
}

impl Sources {
    fn of(args: &args::Diff) -> Result<Self, CommandError> {
        let old = Source::parse(&args.old)?;
        let new = match (&args.new, &old) {
            (Some(new), _) => Some(Source::parse(new)?),
            (None, Source::Git(_)) => None,
            (None, _) => {
                return Err(CommandError::usage(
                    "`diff` compares two sides, and only one is named",
                    "only `git:REVISION` may stand alone: it is compared with the work tree",
                ));
            }
        };
        let with = args.with.as_deref().map(Source::parse).transpose()?;
        let sources = [Some(&old), new.as_ref(), with.as_ref()];
        let has = |test: fn(&Source) -> bool| sources.iter().flatten().any(|source| test(source));
        if !args.paths.is_empty() && !has(|source| matches!(source, Source::Git(_))) {
            return Err(CommandError::usage(
                "paths after `--` say what is read of a git revision, and none is compared",
                "name one as `git:REVISION`",
            ));
        }
        if !has(Source::is_live) && args.cluster.is_named() {
            return Err(CommandError::usage(
                "`--kubeconfig` and `--context` name a cluster, and none is compared",
                "name it as `live`",
            ));
        }
        let stdin = |source: &&Source| **source == Source::Files(PathBuf::from(input::STDIN));
        if sources.iter().flatten().filter(|source| stdin(source)).count() > 1 {
            return Err(CommandError::usage(
                "standard input is read once and cannot be two sides",
                "write one of them to a file",
            ));
        }
        let paths = paths_in_git(args, &old, new.as_ref());
        let new = match new {
            Some(new) => new,
            None if paths.len() == 1 => Source::Files(paths[0].clone()),
            None => {
                return Err(CommandError::usage(
                    "the work tree is compared in one path at a time",
                    "name one path after `--`",
                ));
            }
        };
        Ok(Self { old, new, with, paths })
    }
}

/// What is read of a revision: what stands after `--`, or else the directory that it is compared
/// with, or else all that is below the current directory.
fn paths_in_git(args: &args::Diff, old: &Source, new: Option<&Source>) -> Vec<PathBuf> {
    if !args.paths.is_empty() {
        return args.paths.clone();
    }
    let beside = [Some(old), new].into_iter().flatten().find_map(|source| match source {
        Source::Files(path) if path != Path::new(input::STDIN) => Some(path.clone()),
        _ => None,
    });
    vec![beside.unwrap_or_else(|| PathBuf::from("."))]
}

/// Reads both sides, and reports what a cluster does not tell.
///
/// # Errors
/// Where a revision or a cluster cannot be read, or the command line contradicts itself. What is wrong
/// with single files is in each side.
pub(super) fn read(args: &args::Diff, output: Output) -> Result<Sides, CommandError> {
    let sources = Sources::of(args)?;
    let reader = Reader { args, sources: &sources, output };
    let (old, new) = (reader.read(&sources.old)?, reader.read(&sources.new)?);
    let base = match &sources.with {
        Some(with) => reader.read(with)?,
        None => Part::default(),
    };
    let (old, new) = match (sources.old.is_live(), sources.new.is_live()) {
        (true, false) => (vec![old.clone()], vec![pruned(old, &new, args.prune), new]),
        (false, true) => (vec![pruned(new.clone(), &old, args.prune), old], vec![new]),
        _ => (vec![old], vec![new]),
    };
    Ok(Sides {
        old: side(&args.old, &sources.old, &base, &old, &new),
        new: side(args.new.as_deref().unwrap_or("work tree"), &sources.new, &base, &new, &old),
    })
}

/// What one source holds, not yet merged.
#[derive(Clone, Debug, Default)]
struct Part {
    parsed: Parsed,
}

struct Reader<'a> {
    args: &'a args::Diff,
    sources: &'a Sources,
    output: Output,
}

impl Reader<'_> {
    fn read(&self, source: &Source) -> Result<Part, CommandError> {
        let options = self.options()?;
        let parsed = match source {
            Source::Files(path) => {
                let _progress = Progress::spin(READING);
                input::parse_paths(&[path], &options, &mut io::stdin())
            }
            Source::Git(revision) => git::read(revision, &self.sources.paths, &options)?,
            Source::Live(context) => self.live(context.as_ref())?,
        };
        Ok(Part { parsed })
    }

    fn live(&self, context: Option<&String>) -> Result<Parsed, CommandError> {
        let mut named = self.args.cluster.clone();
        if let Some(context) = context {
            named.context = Some(context.clone());
        }
        let cluster = live::read(&named, self.args.namespace.as_deref())?;
        for lack in &cluster.lacking {
            self.output.diagnostic(&report::entry(Severity::Warning, lack, None, None));
        }
        Ok(Parsed { files: cluster.objects, ..Parsed::default() })
    }

    fn options(&self) -> Result<Options, CommandError> {
        let Some(namespace) = &self.args.namespace else { return Ok(Options::default()) };
        Options::in_namespace(namespace).map_err(|error| CommandError::Usage {
            message: format!("`-n {namespace}`: {error}"),
            help: None,
        })
    }
}

/// A cluster without the policies that `files` lack, where `prune` asks for that.
fn pruned(mut cluster: Part, files: &Part, prune: bool) -> Part {
    if prune {
        let kept = references(&files.parsed.files);
        for file in &mut cluster.parsed.files {
            file.objects.retain(|object| {
                !matches!(object, Object::Policy(_)) || kept.contains(&object.reference())
            });
        }
    }
    cluster
}

fn references(files: &[ParsedFile]) -> BTreeSet<ObjectRef> {
    files.iter().flat_map(|file| &file.objects).map(Object::reference).collect()
}

/// The parts of one side over the base, less what either side decides about.
fn side(name: &str, source: &Source, base: &Part, own: &[Part], other: &[Part]) -> Side {
    let all = |parts: &[Part]| -> BTreeSet<ObjectRef> {
        parts.iter().flat_map(|part| references(&part.parsed.files)).collect()
    };
    let (owned, foreign) = (all(own), all(other));
    let decided = |reference: &ObjectRef| owned.contains(reference) || foreign.contains(reference);
    let mut base = base.clone();
    for file in &mut base.parsed.files {
        file.objects.retain(|object| {
            let gone = |maker: &ObjectRef| foreign.contains(maker) && !owned.contains(maker);
            !decided(&object.reference()) && !maker(object).as_ref().is_some_and(gone)
        });
    }
    let parts: Vec<&Part> = std::iter::once(&base).chain(own).collect();
    let layers: Vec<Vec<&ParsedFile>> =
        parts.iter().map(|part| part.parsed.files.iter().collect()).collect();
    let mut loaded = input::merge_layers(&layers);
    let errors = parts.iter().flat_map(|part| part.parsed.errors.iter().cloned()).collect();
    let notes = parts.iter().flat_map(|part| part.parsed.notes.iter().cloned()).collect();
    loaded.add_failures(errors, notes);
    let directory = match source {
        Source::Files(path) if path.is_dir() => format!("{}/", path.display()).replace("//", "/"),
        _ => String::new(),
    };
    Side { name: name.to_owned(), loaded, directory }
}

/// The workload that has made a pod.
fn maker(object: &Object) -> Option<ObjectRef> {
    let Object::Pod(pod) = object else { return None };
    let workload = pod.workload.as_ref().filter(|_| !pod.template)?;
    let namespace: &NamespaceName = &pod.key.namespace;
    Some(ObjectRef {
        kind: workload.kind.to_string(),
        namespace: Some(namespace.to_string()),
        name: workload.name.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_what_it_looks_like() {
        let files = |text: &str| Source::Files(PathBuf::from(text));
        for (text, expected) in [
            ("k8s/", files("k8s/")),
            ("-", files("-")),
            ("live", Source::Live(None)),
            ("live:staging", Source::Live(Some("staging".to_owned()))),
            ("./live", files("./live")),
            ("lively", files("lively")),
            ("live:", files("live:")),
            ("git:main", Source::Git(Revision::new("main").unwrap())),
            ("./git:main", files("./git:main")),
        ] {
            assert_eq!(Source::parse(text).unwrap(), expected, "{text}");
        }
        assert!(Source::parse("git:--output=x").is_err());
        assert!(Source::parse("git:").is_err());
    }
}
