//! `policyc who-can`: the allow list of a pod alone, for machines.
//!
//! Every connection that passes, both halves considered, with pods of one workload folded where they
//! fare alike, nodes, and the addresses outside as policies tell them apart. Reasons are for
//! `explain pod` and `can`.

mod text;

use std::collections::BTreeMap;

use policy_compiler::cidr::Family;
use policy_compiler::flow::End;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::reach::{Level, Party, Reach};
use serde::Serialize;

use crate::answer::{Certainty, Outcome};
use crate::args::{self, Format};
use crate::error::CommandError;
use crate::input;
use crate::matrix::{self, Content, FamilyTraffic, Grid, Ids, PartyAnswer};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::question::{self, Questions};
use crate::status::Status;
use crate::subject;
use crate::text::Layout;

pub use text::text;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The pods that were named, folded.
    pub subjects: Vec<Party>,
    /// Everybody else, and they.
    pub others: Vec<Party>,
    /// For each direction that was asked the grid of who sends to whom.
    pub directions: Vec<(Direction, Grid)>,
}

impl Found {
    /// Whom subject `subject` exchanges what with in `grid`: those of the others with one content
    /// together, none with whom nothing can pass, unless that is a choice.
    #[must_use]
    pub fn exchanges<'g>(
        &self,
        direction: Direction,
        grid: &'g Grid,
        subject: usize,
    ) -> Vec<(&'g Content, Vec<usize>)> {
        let mut alike: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for other in 0..self.others.len() {
            let (from, to) = match direction {
                Direction::Ingress => (other, subject),
                Direction::Egress => (subject, other),
            };
            let cell = grid.cells.get(from).and_then(|row| row.get(to)).copied().flatten();
            if let Some(index) = cell {
                alike.entry(index).or_default().push(other);
            }
        }
        let content =
            |(index, others): (usize, Vec<usize>)| Some((grid.contents.get(index)?, others));
        let told = |(content, _): &(&Content, _)| {
            let passes = content.outcome() != Outcome::Denied;
            !content.itself && (passes || content.certainty(None).is_undefined())
        };
        alike.into_iter().filter_map(content).filter(told).collect()
    }

    /// Whether a text marks something.
    fn is_marked(&self) -> bool {
        let mut contents = self.directions.iter().flat_map(|(_, grid)| &grid.contents);
        contents.any(|content| content.is_marked(None))
    }
}

/// The allow lists for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowList {
    /// The families that were asked.
    pub families: Vec<String>,
    /// Everyone who is named below.
    pub parties: Vec<PartyAnswer>,
    /// The pods that were asked about, those that fare alike together.
    pub pods: Vec<Allowances>,
}

/// The allow list of some pods that fare alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowances {
    /// The id of who it is of.
    pub pods: String,
    /// Who may reach them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<Allowance>>,
    /// Whom they may reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<Allowance>>,
}

/// What some may exchange with the pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowance {
    /// The ids of whom.
    pub peers: Vec<String>,
    /// `allowed` where everything passes, `partly` where something does, `denied` where nothing does and
    /// the specification does not say so.
    pub decision: Outcome,
    /// Whether the specification settles that.
    pub certainty: Certainty,
    /// By families, those that agree together.
    pub traffic: Vec<FamilyTraffic>,
}

impl AllowList {
    /// What was found, for programs.
    #[must_use]
    pub fn of(found: &Found, families: &[Family]) -> Self {
        let mut ids = Ids::default();
        let mut pods = Vec::new();
        for (number, subject) in found.subjects.iter().enumerate() {
            let mut allowances = Allowances { pods: ids.of(subject), ingress: None, egress: None };
            for (direction, grid) in &found.directions {
                let mut list = Vec::new();
                for (content, others) in found.exchanges(*direction, grid, number) {
                    let others = others.iter().filter_map(|other| found.others.get(*other));
                    list.push(Allowance {
                        peers: others.map(|party| ids.of(party)).collect(),
                        decision: content.outcome(),
                        certainty: content.certainty(None),
                        traffic: matrix::traffic(content, None),
                    });
                }
                match direction {
                    Direction::Ingress => allowances.ingress = Some(list),
                    Direction::Egress => allowances.egress = Some(list),
                }
            }
            pods.push(allowances);
        }
        let families = families.iter().map(ToString::to_string).collect();
        Self { families, parties: ids.answers(), pods }
    }
}

/// Asks for `pods`: one pod as it is, those of a workload folded.
#[must_use]
pub fn find(
    reach: &Reach<'_>,
    pods: &[ObjectKey],
    single: bool,
    directions: &[Direction],
    families: &[Family],
) -> Found {
    let others = reach.parties(Level::Workload);
    let named = |party: &Party| {
        party.members.iter().any(|end| matches!(end, End::Pod(key) if pods.contains(key)))
    };
    let level = if single { Level::Pod } else { Level::Workload };
    let subjects: Vec<Party> = reach.parties(level).into_iter().filter(named).collect();
    let fill = |direction: &Direction| {
        let sides = match direction {
            Direction::Ingress => (others.clone(), subjects.clone()),
            Direction::Egress => (subjects.clone(), others.clone()),
        };
        (*direction, matrix::fill(reach, Level::Workload, families, None, sides, |_| {}))
    };
    Found { directions: directions.iter().map(fill).collect(), subjects, others }
}

/// Does what the command line asks.
///
/// # Errors
/// Where the input cannot be read, or lacks what is named.
pub fn run(args: &args::WhoCan, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let input = input::read(&args.asked.input, verbose, output)?;
    let named = subject::pods(&args.pod, input.snapshot(), &input.namespace)?;
    let directions: Vec<Direction> = match (args.ingress, args.egress) {
        (true, false) => vec![Direction::Ingress],
        (false, true) => vec![Direction::Egress],
        _ => Direction::ALL.to_vec(),
    };
    let families = question::asked(args.asked.families);
    let progress = Progress::spin("asking for everyone");
    let reach = Reach::new(input.snapshot());
    let found = find(&reach, &named.pods, named.single, &directions, &families);
    drop(progress);
    if found.subjects.is_empty() {
        return Err(CommandError::usage(
            format!("no policy has a say about {}", named.text),
            "it has finished, or uses its node's network; ask about the node",
        ));
    }
    output.result(&match args.asked.output {
        Format::Text => text(&found, &Layout { width: output.width, directory: input.directory() }),
        Format::Json => {
            output::json(&output::document("AllowList", &AllowList::of(&found, &families)))
        }
        Format::Yaml => {
            output::yaml(&output::document("AllowList", &AllowList::of(&found, &families)))
        }
    })?;
    let questions = Questions::new(input.snapshot());
    let flawed = input.status_of_policies(&questions.selecting(&named.pods));
    Ok(input.status().and(flawed).and(status(&found)))
}

/// 3 where the input does not tell of some traffic.
fn status(found: &Found) -> Status {
    let contents = found.directions.iter().flat_map(|(_, grid)| &grid.contents);
    let unknown = contents
        .flat_map(|content| &content.families)
        .any(|(_, exchange)| !exchange.unknown.is_empty());
    if unknown { Status::Unknown } else { Status::Fine }
}
