//! `policyc matrix`: what everyone may send to everyone.
//!
//! A [`Grid`] holds the answer: parties, and for each pair of them one of not many different
//! [`Content`]s. All forms are written from it. Rows and columns are pods, folded as asked, and the
//! world; nodes where they are asked for. Between two parties that are no pods nothing is asked: no
//! policy has a say.

mod answer;
mod choose;
mod html;
mod table;
mod text;

use std::collections::HashMap;

use policy_compiler::cidr::Family;
use policy_compiler::flow::Traffic;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::reach::{Between, Group, Level, Party, Reach, TrafficSet};

use crate::answer::Outcome;
use crate::args::{self, MatrixFormat};
use crate::can::Port;
use crate::error::CommandError;
use crate::input;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::question;
use crate::status::Status;
use crate::text::Layout;

pub use answer::{FamilyTraffic, Matrix, PartyAnswer, Reached, Row, Traffics};
pub(crate) use answer::{Ids, traffic};
pub use choose::{Choice, choose};
pub use html::html;
pub use table::{csv, markdown};
pub use text::text;
pub(crate) use text::{alike, brief, names};

/// The answer: rows that ask columns.
#[derive(Clone, Debug)]
pub struct Grid {
    /// How pods are put together.
    pub level: Level,
    /// The families that were asked.
    pub families: Vec<Family>,
    /// The port, where one alone was asked about.
    pub port: Option<Port>,
    /// Who opens connections.
    pub from: Vec<Party>,
    /// To whom.
    pub to: Vec<Party>,
    /// What there is in cells, each once.
    pub contents: Vec<Content>,
    /// For each row each column's index in `contents`; none where no policy has a say.
    pub cells: Vec<Vec<Option<usize>>>,
}

impl Grid {
    /// What row `from` may send to column `to`; none where no policy has a say.
    #[must_use]
    pub fn content(&self, from: usize, to: usize) -> Option<&Content> {
        let index = self.cells.get(from)?.get(to).copied().flatten()?;
        self.contents.get(index)
    }
}

/// What one party may send to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Whether both are one single pod, which reaches itself whatever policies say.
    pub itself: bool,
    /// In each family that both have.
    pub families: Vec<(Family, Exchange)>,
}

/// What one party may send to another in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exchange {
    /// Allowed for every pair of pods.
    pub all: TrafficSet,
    /// Allowed for some pairs and not for all.
    pub partly: TrafficSet,
    /// Of what the input does not tell, for one pair at least.
    pub unknown: TrafficSet,
}

impl From<Between> for Exchange {
    fn from(between: Between) -> Self {
        let partly = if between.is_uniform() { TrafficSet::nothing() } else { between.partly() };
        Self { partly, all: between.all, unknown: between.unknown }
    }
}

impl Content {
    /// What it comes to: allowed where everything passes, denied where nothing does.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let all = |is: fn(&Exchange) -> bool| self.families.iter().all(|(_, of)| is(of));
        if all(|of| of.all.is_empty() && of.partly.is_empty() && of.unknown.is_empty()) {
            Outcome::Denied
        } else if all(|of| of.all.is_all()) {
            Outcome::Allowed
        } else if all(|of| of.all.is_empty() && of.partly.is_empty()) {
            Outcome::Unknown
        } else {
            Outcome::Partly
        }
    }

    /// What it comes to for one port alone.
    #[must_use]
    pub fn outcome_of(&self, port: &Port) -> Outcome {
        let of = |family: Family, exchange: &Exchange| {
            let traffic = match port {
                Port::Number(port, protocol) => Traffic::Port { protocol: *protocol, port: *port },
                Port::Name(..) | Port::Icmp => Traffic::ping(family),
            };
            if exchange.unknown.contains(traffic) {
                Outcome::Unknown
            } else if exchange.all.contains(traffic) {
                Outcome::Allowed
            } else if exchange.partly.contains(traffic) {
                Outcome::Partly
            } else {
                Outcome::Denied
            }
        };
        let outcomes = self.families.iter().map(|(family, exchange)| of(*family, exchange));
        let together = outcomes.reduce(|a, b| match (a, b) {
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
            (a, b) if a == b => a,
            _ => Outcome::Partly,
        });
        together.unwrap_or(Outcome::Denied)
    }
}

/// Fills the grid; `step` is called after each row with how many are done.
#[must_use]
pub fn fill(
    reach: &Reach<'_>,
    level: Level,
    families: &[Family],
    port: Option<Port>,
    (from, to): (Vec<Party>, Vec<Party>),
    mut step: impl FnMut(usize),
) -> Grid {
    let mut contents: Vec<Content> = Vec::new();
    let mut known: HashMap<Content, usize> = HashMap::new();
    let mut cells = Vec::with_capacity(from.len());
    let grouped = |party: &Party| -> Vec<(Family, Group<'_>)> {
        families.iter().map(|family| (*family, reach.group(party, *family))).collect()
    };
    let columns: Vec<_> = to.iter().map(|party| (party.who.is_pods(), grouped(party))).collect();
    for (done, source) in from.iter().enumerate() {
        let groups = grouped(source);
        let row = columns.iter().map(|(pods, column)| {
            if !source.who.is_pods() && !pods {
                return None;
            }
            let content = content(reach, &groups, column);
            if let Some(index) = known.get(&content) {
                return Some(*index);
            }
            contents.push(content.clone());
            known.insert(content, contents.len() - 1);
            Some(contents.len() - 1)
        });
        cells.push(row.collect());
        step(done + 1);
    }
    Grid { level, families: families.to_vec(), port, from, to, contents, cells }
}

fn content<'a>(
    reach: &Reach<'a>,
    from: &[(Family, Group<'a>)],
    to: &[(Family, Group<'a>)],
) -> Content {
    let mut content = Content { itself: false, families: Vec::new() };
    for ((family, from), (_, to)) in from.iter().zip(to) {
        let between = reach.among(from, to);
        if between.pairs > 0 {
            content.itself |= between.itself;
            content.families.push((*family, Exchange::from(between)));
        }
    }
    content
}

/// Does what the command line asks.
///
/// # Errors
/// Where the input cannot be read, or lacks what is named.
pub fn run(args: &args::Matrix, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let port = args.port.as_deref().map(Port::parse).transpose()?;
    if let Some(Port::Name(name, _)) = &port {
        return Err(CommandError::usage(
            format!("`--port {name}`: the pods of a matrix may each call another port so"),
            "name it by its number",
        ));
    }
    let input = input::read(&args.asked.input, verbose, output)?;
    let snapshot = input.snapshot();
    let reach = Reach::new(snapshot);
    let level = Level::from(args.by);
    let choice = Choice::of(args, snapshot, &input.namespace)?;
    let (from, to) = choose(&reach, level, &choice);
    let bearing: Vec<ObjectKey> = selecting(&reach, [&from, &to]);
    let progress = Progress::start("asking for everyone", from.len());
    let families = question::asked(args.asked.families);
    let grid = fill(&reach, level, &families, port, (from, to), |done| progress.at(done));
    drop(progress);
    let serialized = |form: fn(&serde_json::Value) -> String| {
        form(&output::document("Matrix", &Matrix::of(&grid)))
    };
    let text = match args.asked.output {
        MatrixFormat::Text => {
            text(&grid, &Layout { width: output.width, directory: input.directory() })
        }
        MatrixFormat::Csv => csv(&grid),
        MatrixFormat::Markdown => markdown(&grid),
        MatrixFormat::Html => html(&grid, &reach),
        MatrixFormat::Json => serialized(output::json),
        MatrixFormat::Yaml => serialized(output::yaml),
    };
    output.result(&text)?;
    Ok(input.status().and(input.status_of_policies(&bearing)))
}

/// The policies that isolate a pod of some party.
fn selecting(reach: &Reach<'_>, parties: [&Vec<Party>; 2]) -> Vec<ObjectKey> {
    use policy_compiler::flow::End;
    let flawed: Vec<ObjectKey> = reach
        .snapshot()
        .policies
        .values()
        .filter(|policy| policy.flawed)
        .map(|policy| policy.key.clone())
        .collect();
    if flawed.is_empty() {
        return flawed;
    }
    let ends = parties.into_iter().flatten().flat_map(|party| &party.members);
    let pods = ends.filter_map(|end| match end {
        End::Pod(key) => reach.snapshot().pods.get(key),
        End::Node(_) | End::Address(_) => None,
    });
    let of_pod = |pod| {
        let evaluator = reach.evaluator();
        let both = move |direction| {
            let isolating = evaluator.isolating(pod, direction);
            isolating.into_iter().chain(evaluator.auditing(pod, direction))
        };
        Direction::ALL.into_iter().flat_map(both)
    };
    pods.flat_map(of_pod).map(|policy| policy.key.clone()).collect()
}

#[cfg(test)]
mod tests;
