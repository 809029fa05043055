//! The matrix for people: a grid where it fits, else a list of who reaches whom.

use std::collections::BTreeMap;

use anstyle::Style;
use policy_compiler::reach::{Party, TrafficSet, Who};

use crate::answer::Outcome;
use crate::can::Port;
use crate::text::{
    BAD, Column, DIM, DOUBT, GOOD, HEADING, Layout, Line, PLAIN, STRONG, Table, count, join, wrap,
};

use super::answer::folded;
use super::{Content, Grid};

/// The grid as text.
#[must_use]
pub fn text(grid: &Grid, layout: &Layout) -> String {
    let mut out = String::new();
    if grid.from.is_empty() || grid.to.is_empty() {
        wrap(&mut out, &Line::plain("There is nobody to ask about."), 0, 2, layout.width);
        return out;
    }
    if let Some(port) = &grid.port {
        let line = Line::of(HEADING, "PORT ").with(PLAIN, port.text());
        wrap(&mut out, &line, 0, 2, layout.width);
        out.push('\n');
    }
    // A column takes four places at least: a grid that cannot fit is not laid out to see that.
    let narrow = grid.to.len().saturating_mul(4) <= layout.width;
    let fits = |table: &Table| table.natural_width() <= layout.width;
    let table = narrow.then(|| square(grid)).filter(fits).unwrap_or_else(|| {
        let listed = listed(grid);
        let beside = beside(&listed);
        if fits(&beside) { beside } else { below(listed) }
    });
    table.write(&mut out, 0, layout.width);
    out.push('\n');
    summary(&mut out, grid, layout.width);
    let choices = grid.is_marked().then_some(CHOICES);
    for note in grid.notes.iter().map(String::as_str).chain(choices) {
        wrap(&mut out, &Line::of(DIM, format!("note: {note}")), 0, 2, layout.width);
    }
    out
}

/// What the mark behind traffic means.
pub(crate) const CHOICES: &str = "`*` is behind traffic of which some verdict rests on a choice that the \
    specification leaves open; `-o json` tells which, and of what.";

/// What stands in a cell: a line for each family that fares otherwise.
#[must_use]
pub(crate) fn brief(content: &Content, port: Option<&Port>) -> Vec<(Style, String)> {
    if content.itself {
        return vec![(DIM, "itself".to_owned())];
    }
    if content.families.is_empty() {
        return vec![(DIM, "-".to_owned())];
    }
    if let Some(port) = port {
        let (style, word) = match content.outcome_of(port) {
            Outcome::Allowed => (GOOD, "yes"),
            Outcome::Denied => (DIM, "·"),
            Outcome::Partly => (DOUBT, "partly"),
            Outcome::Unknown => (DOUBT, "unknown"),
        };
        let mark = if content.is_marked(Some(port)) { "*" } else { "" };
        return vec![(style, format!("{word}{mark}"))];
    }
    let folded = folded(content);
    let alone = folded.len() == 1;
    let mut lines = Vec::new();
    for (families, exchange) in &folded {
        let of = match (alone, families.as_slice()) {
            (false, [family]) => format!(" ({family})"),
            _ => String::new(),
        };
        let undefined = exchange.marked(None);
        let mark = |set: &TrafficSet| {
            if undefined.intersection(set).is_empty() { "" } else { "*" }
        };
        if exchange.all.is_all() {
            lines.push((GOOD, format!("all{}{of}", mark(&exchange.all))));
        } else if !exchange.all.is_empty() {
            lines.push((PLAIN, format!("{}{}{of}", exchange.all, mark(&exchange.all))));
        }
        for (set, word) in [(&exchange.partly, "partly"), (&exchange.unknown, "unknown")] {
            if set.is_all() {
                lines.push((DOUBT, format!("{word} all{}{of}", mark(set))));
            } else if !set.is_empty() {
                lines.push((DOUBT, format!("{word} {set}{}{of}", mark(set))));
            }
        }
        // What is dropped by choice is told, where everything else that is dropped is not.
        let dropped = exchange.possible().complement().intersection(&undefined);
        if !dropped.is_empty() {
            lines.push((DOUBT, format!("no {dropped}*{of}")));
        }
    }
    if lines.is_empty() {
        lines.push((DIM, "·".to_owned()));
    }
    lines
}

/// How a party is called where all pods are of the namespace `within`, if they are of one.
fn called(party: &Party, within: Option<&str>) -> String {
    let text = party.to_string();
    match within.and_then(|namespace| text.strip_prefix(namespace)?.strip_prefix('/')) {
        Some(short) => short.to_owned(),
        None => text,
    }
}

/// The one namespace that all pods are of.
fn one_namespace(grid: &Grid) -> Option<&str> {
    let mut names = grid.from.iter().chain(&grid.to).filter_map(|party| party.who.place());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// Rows and columns under the names of their namespaces, where there are several.
fn square(grid: &Grid) -> Table {
    let within = one_namespace(grid);
    let mut table = Table::new(vec![Column::fixed(""); grid.to.len() + 1]);
    let mut before = None;
    let titles = grid.to.iter().map(|party| {
        let own = party.who.place();
        let new = own.filter(|_| own != std::mem::replace(&mut before, own) && within.is_none());
        let namespace = new.map_or_else(Line::default, |name| Line::of(DIM, name));
        vec![namespace, Line::of(STRONG, short(party))]
    });
    let corner = vec![Line::default(), Line::of(DIM, "FROM \\ TO")];
    table.row(headed([corner].into_iter().chain(titles).collect()));
    let mut before = None;
    for (row, party) in grid.from.iter().enumerate() {
        let own = party.who.place();
        let new = own.filter(|_| own != std::mem::replace(&mut before, own) && within.is_none());
        if let Some(name) = new {
            table.row(vec![vec![Line::of(DIM, name)]]);
        }
        let cells = (0..grid.to.len()).map(|column| match grid.content(row, column) {
            Some(content) => lines(content, grid.port.as_ref()),
            None => Vec::new(),
        });
        let inset = if within.is_none() && own.is_some() { "  " } else { "" };
        let name = Line::of(STRONG, short(party)).between(inset, "");
        table.row([vec![name]].into_iter().chain(cells).collect());
    }
    table
}

/// The titles without the line of namespaces where there is none to tell.
fn headed(titles: Vec<Vec<Line>>) -> Vec<Vec<Line>> {
    if titles.iter().any(|title| title.first().is_some_and(|line| !line.is_empty())) {
        return titles;
    }
    titles.into_iter().map(|title| title.into_iter().skip(1).collect()).collect()
}

/// How a party is called where its namespace is told beside it.
fn short(party: &Party) -> String {
    let text = party.to_string();
    match (&party.who, party.who.place()) {
        (Who::Namespace(_), _) | (_, None) => text,
        (_, Some(place)) => called(party, Some(place)),
    }
}

/// What stands in a cell, each protocol on a line of its own.
fn lines(content: &Content, port: Option<&Port>) -> Vec<Line> {
    let parts = brief(content, port).into_iter().flat_map(|(style, text)| {
        let whole = text.contains("everything but");
        let parts: Vec<String> =
            if whole { vec![text] } else { text.split("; ").map(str::to_owned).collect() };
        parts.into_iter().map(move |part| Line::of(style, part))
    });
    parts.collect()
}

/// At most this many columns are named where many are sent the same.
const NAMED: usize = 5;

/// Who sends, and to whom what, those that are sent the same together.
type Listed = Vec<(Line, Vec<[Vec<Line>; 2]>)>;

/// Whom each row reaches with what.
fn listed(grid: &Grid) -> Listed {
    let within = one_namespace(grid);
    let naming = Naming::new(&grid.to, within);
    let denied = |content: &Content| match &grid.port {
        Some(port) => content.outcome_of(port) == Outcome::Denied,
        None => content.outcome() == Outcome::Denied,
    };
    let is_told = |content: &Content| {
        let undefined = content.certainty(grid.port.as_ref()).is_undefined();
        !content.itself && (undefined || !denied(content))
    };
    let told: Vec<bool> = grid.contents.iter().map(is_told).collect();
    let reaches = |cells: &Vec<Option<usize>>| {
        let told = alike(
            cells.iter().copied().enumerate().filter_map(|(column, index)| {
                let index = index.filter(|index| told.get(*index) == Some(&true))?;
                Some((column, grid.contents.get(index)?))
            }),
            grid.port.as_ref(),
        );
        let told = told.into_iter().map(|(traffic, columns)| {
            let to = naming.names(&columns).into_iter().map(Line::plain);
            [to.collect(), traffic]
        });
        let mut told: Vec<_> = told.collect();
        if told.is_empty() {
            told.push([vec![Line::of(DIM, "nobody")], Vec::new()]);
        }
        told
    };
    let rows = grid.from.iter().zip(&grid.cells);
    rows.map(|(from, cells)| (Line::of(STRONG, called(from, within)), reaches(cells))).collect()
}

/// Columns of which the same is to be said, with what that is, in the order in which they come.
#[must_use]
pub(crate) fn alike<'c>(
    contents: impl Iterator<Item = (usize, &'c Content)>,
    port: Option<&Port>,
) -> Vec<(Vec<Line>, Vec<usize>)> {
    let mut alike: Vec<(Vec<Line>, Vec<usize>)> = Vec::new();
    let mut known: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    // Many columns share one content, and words are made of it once.
    let mut places: BTreeMap<*const Content, usize> = BTreeMap::new();
    for (column, content) in contents {
        let at = *places.entry(std::ptr::from_ref(content)).or_insert_with(|| {
            let said = brief(content, port);
            let words = said.iter().map(|(_, text)| text.clone()).collect();
            let next = alike.len();
            let at = *known.entry(words).or_insert(next);
            if at == next {
                let lines = said.into_iter().map(|(style, text)| Line::of(style, text));
                alike.push((lines.collect(), Vec::new()));
            }
            at
        });
        if let Some((_, columns)) = alike.get_mut(at) {
            columns.push(column);
        }
    }
    alike
}

/// The list with who sends beside it.
fn beside(listed: &Listed) -> Table {
    let columns = ["FROM", "TO", "TRAFFIC"];
    let mut table = Table::new(columns.into_iter().map(Column::wrapping).collect());
    for (from, reaches) in listed {
        for (i, [to, traffic]) in reaches.iter().enumerate() {
            let from = if i == 0 { vec![from.clone()] } else { Vec::new() };
            table.row(vec![from, to.clone(), traffic.clone()]);
        }
    }
    table
}

/// The list below who sends, for narrow places.
fn below(listed: Listed) -> Table {
    let mut table = Table::new(vec![Column::wrapping(""), Column::wrapping("")]);
    for (from, reaches) in listed {
        table.row(vec![vec![from]]);
        for [to, traffic] in reaches {
            let to = to.into_iter().map(|line| line.between("  ", "")).collect();
            table.row(vec![to, traffic]);
        }
    }
    table
}

/// Parties in words, one a line: those `chosen` of `all` by name, or by namespace where they are many.
#[must_use]
pub(crate) fn names(all: &[Party], chosen: &[usize], within: Option<&str>) -> Vec<String> {
    Naming::new(all, within).names(chosen)
}

/// Parties, to be put into words again and again.
struct Naming<'p> {
    all: &'p [Party],
    /// How many there are of each kind.
    totals: BTreeMap<Kind<'p>, usize>,
    within: Option<&'p str>,
}

impl<'p> Naming<'p> {
    fn new(all: &'p [Party], within: Option<&'p str>) -> Self {
        let mut totals = BTreeMap::new();
        for party in all {
            *totals.entry(Kind::of(party)).or_default() += 1;
        }
        Self { all, totals, within }
    }

    fn names(&self, chosen: &[usize]) -> Vec<String> {
        let parties: Vec<&Party> =
            chosen.iter().filter_map(|number| self.all.get(*number)).collect();
        if parties.len() <= NAMED {
            return parties.into_iter().map(|party| called(party, self.within)).collect();
        }
        let mut kinds: BTreeMap<Kind<'_>, Vec<&Party>> = BTreeMap::new();
        for party in parties {
            kinds.entry(Kind::of(party)).or_default().push(party);
        }
        kinds.into_iter().flat_map(|(kind, parties)| self.of_kind(kind, &parties)).collect()
    }

    fn of_kind(&self, kind: Kind<'_>, parties: &[&Party]) -> Vec<String> {
        let of = self.totals.get(&kind).copied().unwrap_or_default();
        let named =
            || -> Vec<String> { parties.iter().map(|party| called(party, self.within)).collect() };
        let what = match kind {
            Kind::Pods(namespace) => format!("of {namespace}"),
            Kind::Nodes => "nodes".to_owned(),
            Kind::World => "classes of outside addresses".to_owned(),
        };
        match parties.len() {
            1 => named(),
            // Their names hold commas.
            n if n <= NAMED && matches!(kind, Kind::World) => named(),
            n if n == of => vec![format!("all {of} {what}")],
            n if n <= NAMED => vec![join(&named(), "and")],
            n => vec![format!("{n} of {of} {what}")],
        }
    }
}

/// What parties have in common where they are many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind<'a> {
    Pods(&'a str),
    Nodes,
    World,
}

impl<'a> Kind<'a> {
    fn of(party: &'a Party) -> Self {
        match (&party.who, party.who.place()) {
            (_, Some(place)) => Kind::Pods(place),
            (Who::Node(_), None) => Kind::Nodes,
            (_, None) => Kind::World,
        }
    }
}

fn summary(out: &mut String, grid: &Grid, width: usize) {
    let mut cells: BTreeMap<usize, usize> = BTreeMap::new();
    for index in grid.cells.iter().flatten().flatten() {
        *cells.entry(*index).or_default() += 1;
    }
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    for (index, times) in cells {
        let content = grid.contents.get(index);
        let told = |content: &&Content| !content.itself && !content.families.is_empty();
        let Some(content) = content.filter(told) else { continue };
        let outcome = match &grid.port {
            Some(port) => content.outcome_of(port),
            None => content.outcome(),
        };
        *counts.entry(outcome).or_default() += times;
    }
    let asked = counts.values().sum::<usize>();
    let part = |outcome: Outcome, style: Style, words: &str| {
        let n = counts.get(&outcome).copied().unwrap_or_default();
        (n > 0).then(|| (style, format!("{n} {words}")))
    };
    let parts = [
        part(
            Outcome::Allowed,
            GOOD,
            if grid.port.is_some() { "allowed" } else { "for everything" },
        ),
        part(
            Outcome::Partly,
            DOUBT,
            if grid.port.is_some() { "partly allowed" } else { "for some traffic" },
        ),
        part(Outcome::Unknown, DOUBT, "of which the input does not tell"),
        part(Outcome::Denied, BAD, "denied"),
    ];
    let mut line = Line::of(PLAIN, format!("{}: ", count(asked, "pair", "pairs")));
    for (i, (style, text)) in parts.into_iter().flatten().enumerate() {
        line.push(PLAIN, if i == 0 { "" } else { ", " });
        line.push(style, text);
    }
    wrap(out, &line, 0, 2, width);
    let split = grid
        .from
        .iter()
        .chain(&grid.to)
        .any(|party| matches!(&party.who, Who::Workload { count, of, .. } if count != of));
    if split {
        let line =
            Line::of(DIM, "Replicas of one workload that fare differently stand apart: `1 of 3`.");
        wrap(out, &line, 0, 2, width);
    }
}
