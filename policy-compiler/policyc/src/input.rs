//! Reading what `-f` names, or the live cluster, and telling what is wrong with it.

use std::path::PathBuf;

use policy_compiler::cluster::Snapshot;
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::name::ObjectKey;
use policy_manifest::input::{self, Loaded, Options};

use crate::args;
use crate::error::CommandError;
use crate::live;
use crate::output::Output;
use crate::progress::Progress;
use crate::report;
use crate::status::Status;

/// The objects to answer about.
#[derive(Debug)]
pub struct Input {
    /// What was read.
    pub loaded: Loaded,
    /// The namespace of names that name none.
    pub namespace: String,
    files: Vec<PathBuf>,
}

/// Reads the manifests, or the cluster, or both, and reports on standard error what is wrong with
/// them.
///
/// # Errors
/// Where the cluster cannot be read, or the namespace is no name.
pub fn read(args: &args::Input, verbose: bool, output: Output) -> Result<Input, CommandError> {
    let input = load(args, false, output)?;
    input.report(verbose, output, |_| true);
    Ok(input)
}

/// As [`read`], with nothing reported yet but what the cluster did not tell. `keep_policies` keeps the
/// documents of policies.
///
/// # Errors
/// As [`read`].
pub fn load(
    args: &args::Input,
    keep_policies: bool,
    output: Output,
) -> Result<Input, CommandError> {
    if !args.is_live() && args.cluster.is_named() {
        return Err(CommandError::usage(
            "`--kubeconfig` and `--context` name a cluster, and `-f` reads manifests instead",
            "add `--live` to lay the manifests over the cluster, or leave one of them out",
        ));
    }
    // Before a cluster is asked: a mistake in the command line should not need one to be found.
    let asked = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    options(asked)?;
    Ok(if args.is_live() {
        let cluster = live::read(&args.cluster, args.namespace.as_deref())?;
        for lack in &cluster.lacking {
            output.diagnostic(&report::entry(Severity::Warning, lack, None, None));
        }
        let options = Options { keep_policies, ..options(&cluster.namespace)? };
        let _progress = Progress::spin(READING);
        let loaded = input::read_over(&cluster.objects, &args.files, &options);
        Input { loaded, namespace: cluster.namespace, files: args.files.clone() }
    } else {
        let options = Options { keep_policies, ..options(asked)? };
        let _progress = Progress::spin(READING);
        let loaded = input::read(&args.files, &options);
        Input { loaded, namespace: asked.to_owned(), files: args.files.clone() }
    })
}

/// What is told where manifests take long.
pub(crate) const READING: &str = "reading manifests";

/// The namespace of names that name none, where nothing says otherwise.
const DEFAULT_NAMESPACE: &str = "default";

fn options(namespace: &str) -> Result<Options, CommandError> {
    Options::in_namespace(namespace).map_err(|error| CommandError::Usage {
        message: format!("`-n {namespace}`: {error}"),
        help: None,
    })
}

impl Input {
    /// The objects.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.loaded.snapshot
    }

    /// What follows from the input alone for the exit status: 2 where some of it cannot be read or is
    /// left out, so that the answer may be about another cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.loaded.is_complete() { Status::Fine } else { Status::Failed }
    }

    /// What follows from `policies` bearing on an answer: 2 where one of them is invalid.
    #[must_use]
    pub fn status_of_policies(&self, policies: &[ObjectKey]) -> Status {
        let flawed =
            |key: &ObjectKey| self.snapshot().policies.get(key).is_some_and(|policy| policy.flawed);
        if policies.iter().any(flawed) { Status::Failed } else { Status::Fine }
    }

    /// Reports on standard error what could not be read, and the diagnostics that `tells` is for.
    pub fn report(&self, verbose: bool, output: Output, tells: impl Fn(&Diagnostic) -> bool) {
        let sources = &self.loaded.sources;
        for error in &self.loaded.unreadable {
            output.diagnostic(&report::input_error(error, sources));
        }
        for diagnostic in &self.loaded.diagnostics {
            if tells(diagnostic) && (verbose || diagnostic.severity > Severity::Note) {
                output.diagnostic(&report::diagnostic(diagnostic, sources));
            }
        }
        if verbose {
            output.diagnostic(&report::entry(Severity::Note, &self.contents(), None, None));
            let ignored: Vec<String> =
                self.loaded.ignored.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            if !ignored.is_empty() {
                let message = format!("passed over: {}", ignored.join(", "));
                output.diagnostic(&report::entry(Severity::Note, &message, None, None));
            }
        }
    }

    /// What was read, in a line.
    fn contents(&self) -> String {
        use crate::text::count;
        let snapshot = self.snapshot();
        let parts = [
            count(snapshot.pods.len(), "pod or template", "pods and templates"),
            count(snapshot.policies.len(), "NetworkPolicy", "NetworkPolicies"),
            count(snapshot.namespaces.len(), "Namespace", "Namespaces"),
            count(snapshot.nodes.len(), "Node", "Nodes"),
            count(snapshot.services.len(), "Service", "Services"),
        ];
        format!("read {}", parts.join(", "))
    }

    /// What all file names begin with where one directory was read: text need not repeat it.
    #[must_use]
    pub fn directory(&self) -> String {
        match self.files.as_slice() {
            [path] if path.is_dir() => {
                let shown = path.display().to_string();
                if shown.ends_with('/') { shown } else { shown + "/" }
            }
            _ => String::new(),
        }
    }

    /// The diagnostics of errors and warnings.
    #[must_use]
    pub fn findings(&self) -> &[Diagnostic] {
        &self.loaded.diagnostics
    }
}
