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
use std::num::NonZeroU16;

use policy_compiler::cidr::Family;
use policy_compiler::flow::Traffic;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::port::PortRange;
use policy_compiler::reach::{
    Between, Group, Level, Met, Partition, Party, PortSet, Reach, TrafficSet, Undefined,
};

use crate::answer::{Certainty, Outcome};
use crate::args::{self, MatrixFormat};
use crate::can::Port;
use crate::error::CommandError;
use crate::input;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::question;
use crate::scene::Scene;
use crate::status::Status;
use crate::text::Layout;

pub use answer::{FamilyTraffic, Matrix, PartyAnswer, Reached, Row, Traffics};
pub(crate) use answer::{Ids, traffic};
pub use choose::{Choice, choose};
pub use html::html;
pub use table::{csv, markdown};
pub use text::text;
pub(crate) use text::{CHOICES, alike, brief, names};

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
    /// What a reader has to know, in sentences.
    pub notes: Vec<String>,
}

impl Grid {
    /// What row `from` may send to column `to`; none where no policy has a say.
    #[must_use]
    pub fn content(&self, from: usize, to: usize) -> Option<&Content> {
        let index = self.cells.get(from)?.get(to).copied().flatten()?;
        self.contents.get(index)
    }

    /// Whether some pods of a row or column fare otherwise than others.
    fn is_partly(&self) -> bool {
        let mut exchanges = self.contents.iter().flat_map(|content| &content.families);
        self.level != Level::Namespace && exchanges.any(|(_, of)| !of.partly.is_empty())
    }

    /// Whether a text marks something.
    fn is_marked(&self) -> bool {
        self.contents.iter().any(|content| content.is_marked(self.port.as_ref()))
    }

    /// Whether the input does not tell of something.
    fn is_in_doubt(&self) -> bool {
        let mut exchanges = self.contents.iter().flat_map(|content| &content.families);
        self.is_partly() || exchanges.any(|(_, of)| !of.unknown.is_empty())
    }

    /// Whether the input does not tell of what was asked, for one pair of pods at least.
    fn is_unknown(&self) -> bool {
        let mut contents = self.contents.iter();
        contents.any(|content| match &self.port {
            Some(port) => content.outcome_of(port) == Outcome::Unknown,
            None => content.families.iter().any(|(_, of)| !of.unknown.is_empty()),
        })
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
    /// What a port's name means at the destinations, where one was asked: nothing else is in the others.
    pub named: TrafficSet,
    /// Of which traffic the specification leaves the verdict on one pair at least open.
    pub undefined: Undefined,
}

impl From<Between> for Exchange {
    fn from(between: Between) -> Self {
        let partly = if between.is_uniform() { TrafficSet::nothing() } else { between.partly() };
        let named = TrafficSet::nothing();
        let Between { all, unknown, undefined, .. } = between;
        Self { all, partly, unknown, named, undefined }
    }
}

/// Every port of every protocol that has ports.
fn every_port() -> TrafficSet {
    TrafficSet::new([(); 3].map(|()| PortSet::all()), false, false)
}

impl Exchange {
    /// The same of `named` alone.
    fn of_name(between: Between, named: &TrafficSet) -> Self {
        let Self { all, partly, unknown, undefined, .. } = Self::from(between);
        let [all, partly, unknown] = [all, partly, unknown].map(|set| set.intersection(named));
        Self { all, partly, unknown, named: named.clone(), undefined: undefined.within(named) }
    }

    /// With that of further destinations, which may mean another number by the name.
    fn and(&self, other: &Self) -> Self {
        let lacking = |of: &Self| of.named.difference(&of.all);
        let all = self.all.union(&other.all);
        let some = all.union(&self.partly).union(&other.partly);
        let all = all.difference(&lacking(self).union(&lacking(other)));
        Self {
            partly: some.difference(&all),
            unknown: self.unknown.union(&other.unknown),
            named: self.named.union(&other.named),
            undefined: self.undefined.union(&other.undefined),
            all,
        }
    }

    /// What passes, or may.
    #[must_use]
    pub fn possible(&self) -> TrafficSet {
        self.all.union(&self.partly).union(&self.unknown)
    }

    /// What of the verdicts that are told rests on choices: those on `port`, or on what passes or may and on
    /// every port. That what has no ports is denied is a choice wherever policies isolate, and is said
    /// where it was asked.
    #[must_use]
    pub fn undefined(&self, port: Option<&Port>) -> Undefined {
        let told = match port {
            Some(Port::Number(number, protocol)) => match NonZeroU16::new(*number) {
                Some(number) => TrafficSet::of_ports(*protocol, PortRange::single(number)),
                None => TrafficSet::nothing(),
            },
            Some(Port::Icmp) => TrafficSet::new(Default::default(), true, false),
            Some(Port::Name(..)) => self.named.clone(),
            None => self.possible().union(&every_port()),
        };
        self.undefined.within(&told)
    }

    /// Of that, what a text marks. That traffic without ports passes only by rules without ports is a choice
    /// as well, and would be marked wherever everything passes: it is where it was asked.
    #[must_use]
    pub fn marked(&self, port: Option<&Port>) -> TrafficSet {
        let undefined = self.undefined(port).traffic();
        if port.is_some() { undefined } else { undefined.intersection(&every_port()) }
    }

    /// What becomes of what the name means.
    fn outcome_of_name(&self) -> Outcome {
        if !self.unknown.is_empty() {
            Outcome::Unknown
        } else if self.all.is_empty() && self.partly.is_empty() {
            Outcome::Denied
        } else if self.named.is_within(&self.all) {
            Outcome::Allowed
        } else {
            Outcome::Partly
        }
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

    /// Whether the specification settles what is told, of one port alone if one was asked.
    #[must_use]
    pub fn certainty(&self, port: Option<&Port>) -> Certainty {
        let undefined = |(_, exchange): &(_, Exchange)| !exchange.undefined(port).is_empty();
        let open: Vec<_> = self.families.iter().filter(|family| undefined(family)).collect();
        Certainty::of(&open)
    }

    /// Whether a text marks something of it.
    #[must_use]
    pub fn is_marked(&self, port: Option<&Port>) -> bool {
        self.families.iter().any(|(_, exchange)| !exchange.marked(port).is_empty())
    }

    /// What it comes to for one port alone.
    #[must_use]
    pub fn outcome_of(&self, port: &Port) -> Outcome {
        let of = |family: Family, exchange: &Exchange| {
            let traffic = match port {
                Port::Number(port, protocol) => Traffic::Port { protocol: *protocol, port: *port },
                Port::Icmp => Traffic::ping(family),
                Port::Name(..) => return exchange.outcome_of_name(),
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
    let mut contents = Contents::default();
    let mut cells = Vec::with_capacity(from.len());
    let grouped = |party: &Party| -> Vec<Group<'_>> {
        families.iter().map(|family| reach.group(party, *family)).collect()
    };
    let column = |party: &Party| -> Column<'_> {
        let parts = match &port {
            Some(Port::Name(name, protocol)) => choose::calling(party, reach, name, *protocol)
                .into_iter()
                .map(|(named, part)| (Some(named), grouped(&part)))
                .collect(),
            _ => vec![(None, grouped(party))],
        };
        (party.who.is_pods(), parts)
    };
    let columns: Vec<Column<'_>> = to.iter().map(column).collect();
    for (done, source) in from.iter().enumerate() {
        let groups = grouped(source);
        let row = columns.iter().map(|(pods, column)| {
            if !source.who.is_pods() && !pods {
                return None;
            }
            Some(contents.of(reach, families, &groups, column))
        });
        cells.push(row.collect());
        step(done + 1);
    }
    let contents = contents.all;
    Grid { level, families: families.to_vec(), port, from, to, contents, cells, notes: Vec::new() }
}

/// Whether a column is pods, and its ends: in parts by what they call a port, where a name was asked.
type Column<'a> = (bool, Vec<(Option<TrafficSet>, Grouped<'a>)>);

/// The ends of a party that have each family, in the order of the families.
type Grouped<'a> = Vec<Group<'a>>;

/// What there is in cells, each once. Cells are many and their contents few: where groups meet as others
/// did, no set of traffic is made.
#[derive(Default)]
struct Contents {
    all: Vec<Content>,
    known: HashMap<Content, usize>,
    /// By how the groups of each family meet.
    by_meeting: HashMap<Vec<Met>, usize>,
    /// That of the pair at hand.
    meeting: Vec<Met>,
}

impl Contents {
    /// The index of what one party may send to the parts of another.
    fn of<'a>(
        &mut self,
        reach: &Reach<'a>,
        families: &[Family],
        from: &[Group<'a>],
        to: &[(Option<TrafficSet>, Grouped<'a>)],
    ) -> usize {
        // Where a name was asked, what is said depends on more than on how groups meet.
        let [(None, whole)] = to else {
            return self.number(content(reach, families, from, to));
        };
        self.meeting.clear();
        self.meeting.extend(from.iter().zip(whole).map(|(from, to)| reach.met(from, to)));
        if let Some(index) = self.by_meeting.get(&self.meeting) {
            return *index;
        }
        let index = self.number(content(reach, families, from, to));
        self.by_meeting.insert(self.meeting.clone(), index);
        index
    }

    fn number(&mut self, content: Content) -> usize {
        let next = self.all.len();
        let index = *self.known.entry(content.clone()).or_insert(next);
        if index == next {
            self.all.push(content);
        }
        index
    }
}

fn content<'a>(
    reach: &Reach<'a>,
    families: &[Family],
    from: &[Group<'a>],
    to: &[(Option<TrafficSet>, Grouped<'a>)],
) -> Content {
    let mut content = Content { itself: false, families: Vec::new() };
    for (n, (family, from)) in families.iter().zip(from).enumerate() {
        let mut together: Option<Exchange> = None;
        for (named, groups) in to {
            let Some(group) = groups.get(n) else { continue };
            let between = reach.among(from, group);
            if between.pairs == 0 {
                continue;
            }
            content.itself |= between.itself;
            let exchange = match named {
                Some(named) => Exchange::of_name(between, named),
                None => Exchange::from(between),
            };
            together = Some(match together {
                Some(others) => others.and(&exchange),
                None => exchange,
            });
        }
        content.families.extend(together.map(|exchange| (*family, exchange)));
    }
    content
}

/// Does what the command line asks.
///
/// # Errors
/// Where the input cannot be read, or lacks what is named.
pub fn run(args: &args::Matrix, verbose: bool, output: Output) -> Result<Status, CommandError> {
    let port = args.port.as_deref().map(Port::parse).transpose()?;
    let input = input::read(&args.asked.input, verbose, output)?;
    let scene = Scene::of(input.snapshot());
    let bounds = scene.bounds(scene.snapshot());
    let reach = bounds.reach(&Partition::of(&[bounds.sure()]));
    let level = Level::from(args.by);
    let choice = Choice::of(args, &scene, &input.namespace)?;
    let (from, to) = choose(&reach, scene.parties(&reach, level), &choice)?;
    if let Some(Port::Name(name, protocol)) = &port {
        choose::known_port(&to, &reach, name, *protocol)?;
    }
    let bearing: Vec<ObjectKey> = selecting(&reach, [&from, &to]);
    let progress = Progress::start("asking for everyone", from.len());
    let families = question::asked(args.asked.families);
    let mut grid = fill(&reach, level, &families, port, (from, to), |done| progress.at(done));
    drop(progress);
    let doubtful = scene.is_crowded() || scene.is_of_selectors() && grid.is_in_doubt();
    let untold = doubtful || grid.is_unknown();
    grid.notes = scene.notes();
    if doubtful && grid.is_partly() {
        grid.notes.push(PARTLY.to_owned());
    }
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
    let told = if untold { Status::Unknown } else { Status::Fine };
    Ok(input.status().and(input.status_of_policies(&bearing)).and(told))
}

/// What `partly` means of selectors.
const PARTLY: &str = "`partly` is said of what some of the pods that a selector would mean may send or \
    receive and others not: it depends on labels that the selector does not ask for.";

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
