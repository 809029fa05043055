//! From the command line to the exit status.

use policy_compiler::name::ObjectKey;
use policy_compiler::reach::{Level, Partition};
use serde::Serialize;

use crate::args::{
    self, Can, Cli, Command, Explain, ExplainPod, Format, Graph, GraphFormat, Render, Shell,
};
use crate::can::{self, Port};
use crate::described::Described;
use crate::error::CommandError;
use crate::explain::{self, PodExplanation};
use crate::input::{self, Input};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::question::{self, Questions};
use crate::scene::Scene;
use crate::status::Status;
use crate::text::Layout;
use crate::{
    complete, diff, graph as picture, lint, matrix, render, report, schema, subject, test, who_can,
};

/// Who started the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A shell, by the program's own name.
    Shell,
    /// kubectl, of which this is a plugin.
    Kubectl,
}

/// The command line as `caller` has it in help texts.
#[must_use]
pub fn command(caller: Caller) -> clap::Command {
    use clap::CommandFactory as _;
    let command = Cli::command();
    match caller {
        Caller::Shell => command,
        Caller::Kubectl => complete::of_plugin(command),
    }
}

/// The process, from its arguments to its exit status.
#[must_use]
pub fn main(caller: Caller) -> std::process::ExitCode {
    use clap::FromArgMatches as _;
    let parsed = command(caller).try_get_matches().map_err(args::with_hint);
    let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.unwrap_or_else(|error| error.exit());
    std::process::ExitCode::from(run(&cli).code())
}

/// Does what the command line asks; errors are reported on standard error.
#[must_use]
pub fn run(cli: &Cli) -> Status {
    let output = Output::new(cli.color);
    let result = match &cli.command {
        Command::Explain(Explain::Pod(args)) => explain_pod(args, cli.verbose, output),
        Command::Explain(Explain::Policy(args)) => explain::policy::run(args, cli.verbose, output),
        Command::Can(args) => can(args, cli.verbose, output),
        Command::WhoCan(args) => who_can::run(args, cli.verbose, output),
        Command::Matrix(args) => matrix::run(args, cli.verbose, output),
        Command::Render(args) => render_rules(args, cli.verbose, output),
        Command::Graph(args) => graph(args, cli.verbose, output),
        Command::Lint(args) => lint::run(args, cli.verbose, output),
        Command::Diff(args) => diff::run(args, cli.verbose, output),
        Command::Test(args) => test::run(args, output),
        Command::Schema { kind } => schema::text(kind.as_deref())
            .and_then(|text| output.result(&text).map(|()| Status::Fine)),
        Command::Completions { shell } => {
            output.result(&completions(*shell)).map(|()| Status::Fine)
        }
        Command::Complete { words } => {
            let command = command(Caller::Kubectl);
            output.result(&complete::answer(&command, words)).map(|()| Status::Fine)
        }
    };
    result.unwrap_or_else(|error| {
        output.diagnostic(&report::command_error(&error));
        Status::Failed
    })
}

fn explain_pod(args: &ExplainPod, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let input = input::read(&args.asked.input, verbose, output)?;
    let named = match (&args.pod, &args.selector) {
        (_, Some(selector)) => {
            let namespace = Some(&*input.namespace).filter(|_| !args.all_namespaces);
            subject::selected(selector, input.snapshot(), namespace)?
        }
        (pod, None) => {
            subject::pods(pod.as_deref().unwrap_or_default(), input.snapshot(), &input.namespace)?
        }
    };
    let questions = Questions::new(input.snapshot());
    let unbound = question::without_host_networks(input.snapshot());
    let unbound = Questions::new(&unbound);
    let families = question::asked(args.asked.families);
    let progress = Progress::start("explaining", named.pods.len());
    let mut explanations: Vec<PodExplanation> = Vec::new();
    for (done, key) in named.pods.iter().enumerate() {
        progress.at(done);
        let findings = input.findings();
        explanations.extend(explain::explain(&questions, &unbound, key, &families, findings));
    }
    drop(progress);
    let text = match args.asked.output {
        Format::Text => explain::text(&explanations, &layout(&input, output)),
        format if named.single => match explanations.first() {
            Some(one) => serialized(format, "PodExplanation", one),
            None => String::new(),
        },
        format => {
            let list = List { items: &explanations };
            serialized(format, "PodExplanationList", &list)
        }
    };
    output.result(&text)?;
    Ok(input.status().and(selecting(&input, &questions, &named.pods)))
}

/// Several answers of one kind.
#[derive(Serialize)]
struct List<'a> {
    items: &'a [PodExplanation],
}

/// 2 where an invalid policy selects one of `pods`.
fn selecting(input: &Input, questions: &Questions<'_>, pods: &[ObjectKey]) -> Status {
    input.status_of_policies(&questions.selecting(pods))
}

fn can(args: &Can, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let port = Port::parse(&args.port)?;
    let input = input::read(&args.asked.input, verbose, output)?;
    let described =
        Described::of(input.snapshot(), [&args.from, &args.to], &input.namespace, &port)?;
    let bounds = described.bounds();
    let questions = Questions::new(bounds.sure());
    let possible = bounds.possible().map(Questions::new);
    let [from, to] = &described.ends;
    let families = question::asked(args.asked.families);
    let mut connection =
        can::ask_within(&questions, possible.as_ref(), (from, to), &port, &families)?;
    connection.notes.extend(described.note());
    output.result(&match args.asked.output {
        Format::Text => can::text(&connection, &layout(&input, output)),
        format => serialized(format, "Connection", &connection),
    })?;
    let flawed = selecting(&input, &questions, &described.pods());
    Ok(input.status().and(flawed).and(connection.status()))
}

fn render_rules(args: &Render, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let input = input::read(&args.input, verbose, output)?;
    let rendered = match &args.pod {
        Some(pod) => render::of_pod(input.snapshot(), pod, &input.namespace)?,
        None => render::of_nodes(input.snapshot(), args.node.as_deref())?,
    };
    for diagnostic in rendered.iter().flat_map(|one| &one.diagnostics) {
        if !input.findings().contains(diagnostic) {
            output.diagnostic(&report::diagnostic(diagnostic, &input.loaded.sources));
        }
    }
    let families = question::asked(args.families);
    output.result(&match args.output {
        Format::Text => render::text(&rendered, &families),
        format => serialized(format, "Rulesets", &render::data(&rendered, &families)),
    })?;
    Ok(input.status())
}

fn graph(args: &Graph, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let input = input::read(&args.input, verbose, output)?;
    let scene = Scene::of(input.snapshot());
    let bounds = scene.bounds(scene.snapshot());
    let reach = bounds.reach(&Partition::of(&[bounds.sure()]));
    let parties = scene.parties(&reach, Level::from(args.by));
    let families = question::asked(args.families);
    let graph = picture::graph(&reach, parties, &families, scene.notes());
    output.result(&match args.output {
        GraphFormat::Dot => picture::dot(&graph),
        GraphFormat::Mermaid => picture::mermaid(&graph),
        GraphFormat::Html => picture::html(&graph),
        GraphFormat::Svg => picture::svg(&graph)?,
        GraphFormat::Json => serialized(Format::Json, "Graph", &graph),
        GraphFormat::Yaml => serialized(Format::Yaml, "Graph", &graph),
    })?;
    let all: Vec<ObjectKey> = input.snapshot().policies.keys().cloned().collect();
    let partly = scene.is_of_selectors() && graph.edges.iter().any(|edge| edge.partial);
    let untold = partly || scene.is_crowded();
    let told = if untold { Status::Unknown } else { Status::Fine };
    Ok(input.status().and(input.status_of_policies(&all)).and(told))
}

fn layout(input: &Input, output: Output) -> Layout {
    Layout { width: output.width, directory: input.directory() }
}

/// `body` in a form for programs.
fn serialized(format: Format, kind: &str, body: &impl Serialize) -> String {
    let document = output::document(kind, body);
    match format {
        Format::Yaml => output::yaml(&document),
        Format::Json | Format::Text => output::json(&document),
    }
}

fn completions(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Kubectl => return complete::SCRIPT.to_owned(),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(Caller::Shell), "policyc", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
