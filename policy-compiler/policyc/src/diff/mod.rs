//! `policyc diff`: which connections open and close between two inputs, and because of what.
//!
//! ```text
//!  OLD, NEW ──source──> two snapshots ──pair──> pods of both ──ends──> classes ──compare──> changes
//!                                                                     ──fold──> lines ──> an answer
//! ```
//!
//! Exact: every pair of classes of ends that could fare otherwise is asked about, in whole sets of
//! traffic, addresses outside the cluster included. Ends that only one side has are no changes of
//! connections: they are listed apart, and `--fail-on` of widening or breaking does not mind them.

mod answer;
mod cause;
mod compare;
mod ends;
mod fold;
mod git;
mod markdown;
mod pair;
mod source;
mod text;
mod unit;

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::diagnostic::Severity;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::reach::{Kinds, Partition, Reach, instances};

use crate::answer::{Certainty, Place};
use crate::args::{self, ChangeKind, DiffFormat};
use crate::error::CommandError;
use crate::output::{self, Output};
use crate::phrase;
use crate::progress::Progress;
use crate::question;
use crate::report;
use crate::scene;
use crate::status::Status;
use crate::text::Layout;

pub use answer::{
    Becomes, Comparison, ConnectionChange, Ends, PolicyChange, Summary, WorkloadChange, traffic,
};
pub use cause::Cause;
pub use git::{GitError, Revision};
pub use source::{Side, Source};

use compare::{Change, Compared, Comparer};
use ends::Class;

/// Compares what the command line names, and says what differs.
///
/// # Errors
/// Where a side cannot be read, or the answer not be written.
pub fn run(args: &args::Diff, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let sides = source::read(args, output)?;
    let mut status = Status::Fine;
    for side in [&sides.old, &sides.new] {
        report_side(side, verbose, output);
        if !side.loaded.is_complete() {
            status = Status::Failed;
        }
    }
    let families = question::asked(args.families);
    let progress = Progress::spin("comparing");
    let comparison = compare_telling(&sides.old, &sides.new, &families, |at, of| {
        progress.say(format!("comparing {at} of {of} classes of ends"));
    });
    drop(progress);
    output.result(&match args.output {
        DiffFormat::Text => {
            // Where only one side is a directory its names would look like another's without it.
            let both = [&sides.old, &sides.new].into_iter().all(|side| !side.directory.is_empty());
            let layout = |side: &Side| Layout {
                width: output.width,
                directory: if both { side.directory.clone() } else { String::new() },
            };
            text::text(&comparison, &layout(&sides.old), &layout(&sides.new))
        }
        DiffFormat::Markdown => markdown::markdown(&comparison),
        DiffFormat::Json => output::json(&output::document("Comparison", &comparison)),
        DiffFormat::Yaml => output::yaml(&output::document("Comparison", &comparison)),
    })?;
    Ok(status.and(comparison.status(&args.fail_on)))
}

fn report_side(side: &Side, verbose: bool, output: Output) {
    let sources = &side.loaded.sources;
    for error in &side.loaded.unreadable {
        output.diagnostic(&report::input_error(error, sources));
    }
    for diagnostic in &side.loaded.diagnostics {
        if verbose || diagnostic.severity > Severity::Note {
            output.diagnostic(&report::diagnostic(diagnostic, sources));
        }
    }
}

/// What differs between two sides in `families`.
#[must_use]
pub fn compare(old: &Side, new: &Side, families: &[Family]) -> Comparison {
    compare_telling(old, new, families, |_, _| {})
}

/// As [`compare()`]; `at` hears how many of how many classes of ends have been asked about.
fn compare_telling(
    old: &Side,
    new: &Side,
    families: &[Family],
    at: impl FnMut(usize, usize),
) -> Comparison {
    let given = [&old.loaded.snapshot, &new.loaded.snapshot];
    let kinds = scene::kinds(&given);
    let with_pods = |snapshot| match &kinds {
        Some(kinds) => ends::with_replicas(&kinds.laid_over(snapshot)),
        None => ends::with_replicas(snapshot),
    };
    let [(was, _), (is, added)] = given.map(with_pods);
    let pairing = pair::pairs(&was, &is);
    let partition = Partition::of(&[&was, &is]);
    let (before, after) = (Reach::over(&partition, &was), Reach::over(&partition, &is));
    let keys: BTreeSet<&str> =
        ends::asked_keys(&was).into_iter().chain(ends::asked_keys(&is)).collect();
    let comparer = Comparer { old: &before, new: &after, partition: &partition, families };
    let found = comparer.compare(&pairing, &keys, at);
    let selectors = kinds.as_ref().map(Kinds::names).unwrap_or_default();
    let names =
        Names { snapshot: &is, added: &added, classes: &found.classes, selectors: &selectors };
    let connections = names.connections(&found, &was, &is);
    let workloads = [
        (&old.loaded.snapshot, &pairing.gone, "removed"),
        (&new.loaded.snapshot, &pairing.come, "added"),
    ]
    .into_iter()
    .flat_map(|(snapshot, pods, change)| workloads(snapshot, pods, change))
    .collect();
    let mut comparison = Comparison {
        old: old.name.clone(),
        new: new.name.clone(),
        summary: Summary::default(),
        policies: policies(&was, &is, &connections),
        connections,
        workloads,
        notes: Vec::new(),
        doubtful: false,
    };
    if let Some(kinds) = &kinds {
        comparison.notes = scene::notes(kinds, &[&was, &is]);
        let changed = ends::changed_policies(&was, &is);
        comparison.doubtful = !kinds.crowded().is_empty()
            || [&was, &is].into_iter().any(|side| scene::is_doubtful(side, &changed));
    }
    comparison.summary = comparison.count();
    comparison
}

impl Comparison {
    fn count(&self) -> Summary {
        let mut summary = Summary::default();
        for line in &self.connections {
            let pairs =
                line.from.iter().map(|from| line.to.iter().filter(|to| *to != from).count());
            // Replicas of one workload among themselves are a pair of ends too.
            let pairs = pairs.sum::<usize>().max(1);
            *match line.change {
                Becomes::Opened => &mut summary.opened,
                Becomes::Closed => &mut summary.closed,
                Becomes::Changed => &mut summary.changed,
                Becomes::Unknown => &mut summary.unknown,
            } += pairs;
        }
        let of = |change: &str| self.workloads.iter().filter(|w| w.change == change).count();
        summary.added = of("added");
        summary.removed = of("removed");
        summary
    }

    /// 1 where something differs that `fail_on` names, 3 where that cannot be told.
    #[must_use]
    pub fn status(&self, fail_on: &[ChangeKind]) -> Status {
        let asks = |kind| fail_on.contains(&kind) || fail_on.contains(&ChangeKind::Any);
        let (widening, breaking) = (asks(ChangeKind::Widening), asks(ChangeKind::Breaking));
        let any = |test: fn(&ConnectionChange) -> bool| self.connections.iter().any(test);
        let differs = (widening && any(|line| !line.opened.is_empty()))
            || (breaking && any(|line| !line.closed.is_empty()))
            || (fail_on.contains(&ChangeKind::Any) && !self.workloads.is_empty());
        let may_differ = (widening && any(|line| !line.may_open.is_empty()))
            || (breaking && any(|line| !line.may_close.is_empty()))
            || ((widening || breaking) && self.policies.iter().any(|policy| policy.untold))
            || ((widening || breaking) && self.doubtful);
        match (may_differ, differs) {
            (true, _) => Status::Unknown,
            (false, true) => Status::Denied,
            (false, false) => Status::Fine,
        }
    }
}

/// The differences between policies that no connection changes because of.
fn policies(old: &Snapshot, new: &Snapshot, connections: &[ConnectionChange]) -> Vec<PolicyChange> {
    let telling: BTreeSet<&str> = connections
        .iter()
        .flat_map(|line| &line.causes)
        .filter(|cause| cause.kind == "NetworkPolicy")
        .map(|cause| cause.name.as_str())
        .collect();
    let has_pods = |key: &ObjectKey| {
        let pods = old.pods.keys().chain(new.pods.keys());
        pods.into_iter().any(|pod| pod.namespace == key.namespace)
    };
    let changed = ends::changed_policies(old, new).into_iter();
    changed
        .filter(|key| !telling.contains(key.to_string().as_str()))
        .flat_map(|key| {
            let untold = !has_pods(key);
            let causes = cause::of_policy(old, new, key);
            causes.into_iter().map(move |cause| PolicyChange { cause, untold })
        })
        .collect()
}

/// The classes by the names that a person gives them.
struct Names<'a> {
    /// The new side.
    snapshot: &'a Snapshot,
    /// Its second replicas of templates, which have no names.
    added: &'a BTreeSet<ObjectKey>,
    classes: &'a [Class<'a>],
    /// What pods are called that stand for selectors.
    selectors: &'a BTreeMap<ObjectKey, String>,
}

impl Names<'_> {
    fn connections(
        &self,
        compared: &Compared<'_>,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Vec<ConnectionChange> {
        let places = |test: &dyn Fn(&Class<'_>) -> bool| -> BTreeSet<usize> {
            let classes = compared.classes.iter().enumerate();
            classes.filter(|(_, class)| test(class)).map(|(i, _)| i).collect()
        };
        let alone = places(&|class| matches!(class, Class::Pods(_)) && class.is_alone(old, new));
        let lines = fold::fold(&compared.rows, &alone);
        let mut connections: Vec<ConnectionChange> =
            lines.into_iter().map(|line| self.line(&line)).collect();
        connections.sort();
        connections
    }

    fn line(&self, line: &fold::Line) -> ConnectionChange {
        let Change { opened, closed, may_open, may_close, causes, undefined } = &line.change;
        ConnectionChange {
            change: match (opened.is_empty(), closed.is_empty()) {
                (false, true) => Becomes::Opened,
                (true, false) => Becomes::Closed,
                (false, false) => Becomes::Changed,
                (true, true) => Becomes::Unknown,
            },
            from: self.ends(&line.from),
            to: self.ends(&line.to),
            families: line.families.iter().map(ToString::to_string).collect(),
            partial: line.partial,
            opened: traffic(opened),
            closed: traffic(closed),
            may_open: traffic(may_open),
            may_close: traffic(may_close),
            certainty: if undefined.is_empty() {
                Certainty::Specified
            } else {
                Certainty::Undefined
            },
            undefined: traffic(undefined),
            causes: causes.clone(),
        }
    }

    /// The ends of some classes, those of one workload together, and the world as one where it is all
    /// there.
    fn ends(&self, classes: &BTreeSet<usize>) -> Vec<Ends> {
        let mut pods: BTreeMap<(String, String, String), BTreeSet<&ObjectKey>> = BTreeMap::new();
        let mut nodes: Vec<Ends> = Vec::new();
        let mut world: BTreeMap<Family, Vec<Ends>> = BTreeMap::new();
        for class in classes.iter().filter_map(|place| self.classes.get(*place)) {
            match class {
                Class::Pods(pairs) => {
                    for pod in pairs.iter().filter_map(|pair| self.snapshot.pods.get(pair.new)) {
                        pods.entry(phrase::workload_of(pod)).or_default().insert(&pod.key);
                    }
                }
                Class::Nodes(names) => nodes.extend(names.iter().map(|name| Ends {
                    kind: "Node".to_owned(),
                    name: name.to_string(),
                    count: 1,
                    of: 1,
                    members: vec![name.to_string()],
                    whole: false,
                })),
                Class::World(class) => world.entry(class.family()).or_default().push(Ends {
                    kind: "World".to_owned(),
                    name: class.to_string(),
                    count: 0,
                    of: 0,
                    members: class.networks().iter().map(ToString::to_string).collect(),
                    whole: class.is_whole_family(),
                }),
            }
        }
        let mut ends: Vec<Ends> =
            pods.into_iter().map(|(workload, pods)| self.workload(workload, &pods)).collect();
        nodes.sort();
        ends.extend(nodes);
        ends.extend(world.into_iter().flat_map(|(family, parts)| self.whole(family, parts)));
        ends
    }

    fn workload(
        &self,
        (namespace, name, kind): (String, String, String),
        pods: &BTreeSet<&ObjectKey>,
    ) -> Ends {
        let named = |pod: &&Pod| !self.added.contains(&pod.key);
        let all = || self.snapshot.pods.values().filter(named);
        let of = all().filter(|pod| pod.is_live()).filter(|pod| {
            phrase::workload_of(pod) == (namespace.clone(), name.clone(), kind.clone())
        });
        let meant: Vec<&Pod> =
            pods.iter().filter_map(|key| self.snapshot.pods.get(*key)).filter(named).collect();
        if let Some(text) = pods.iter().find_map(|key| self.selectors.get(*key)) {
            let name = text.clone();
            return Ends { kind, name, count: 0, of: 0, members: Vec::new(), whole: false };
        }
        Ends {
            of: of.map(instances).sum(),
            count: meant.iter().map(|pod| instances(pod)).sum(),
            members: meant
                .iter()
                .filter(|pod| !pod.template)
                .map(|pod| pod.key.to_string())
                .collect(),
            name: format!("{namespace}/{name}"),
            kind,
            whole: false,
        }
    }

    /// All of the world of a family as one.
    fn whole(&self, family: Family, parts: Vec<Ends>) -> Vec<Ends> {
        let of_family =
            |class: &&Class<'_>| matches!(class, Class::World(class) if class.family() == family);
        if parts.len() < self.classes.iter().filter(of_family).count() {
            return parts;
        }
        let members = parts.into_iter().flat_map(|part| part.members).collect();
        vec![Ends {
            kind: "World".to_owned(),
            name: format!("all of {family}"),
            count: 0,
            of: 0,
            members,
            whole: true,
        }]
    }
}

/// The workloads of `pods`, which one side lacks.
fn workloads(
    snapshot: &Snapshot,
    pods: &[&ObjectKey],
    change: &'static str,
) -> Vec<WorkloadChange> {
    let evaluator = Evaluator::new(snapshot);
    let mut workloads: BTreeMap<(String, String, String), Vec<&Pod>> = BTreeMap::new();
    for pod in pods.iter().filter_map(|key| snapshot.pods.get(*key)) {
        workloads.entry(phrase::workload_of(pod)).or_default().push(pod);
    }
    let isolating = |pods: &[&Pod], direction: Direction| -> Vec<String> {
        let policies = pods.iter().flat_map(|pod| evaluator.isolating(pod, direction));
        let names: BTreeSet<String> = policies.map(|policy| policy.key.to_string()).collect();
        names.into_iter().collect()
    };
    workloads
        .into_iter()
        .map(|((namespace, name, kind), pods)| WorkloadChange {
            change,
            kind,
            name: format!("{namespace}/{name}"),
            count: pods.iter().map(|pod| instances(pod)).sum(),
            ingress: isolating(&pods, Direction::Ingress),
            egress: isolating(&pods, Direction::Egress),
            place: pods.first().and_then(|pod| Place::of(&pod.location)),
        })
        .collect()
}

#[cfg(test)]
mod laws;
