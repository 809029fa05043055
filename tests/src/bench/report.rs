//! What was measured, and how it is shown: a table, JSON for programs, a chart for the README.
//!
//! A figure counts only beside a control that has come out near 1: otherwise the machine was too
//! busy to tell, and the row says so in the place of a verdict.

mod chart;
mod json;
mod machine;
mod markdown;
mod table;

use std::fmt;

use serde_json::Value;

pub use self::machine::Machine;
use super::duel::Duel;
use super::statistics::Spread;
use crate::enforcement::Backend;

/// With what the rows of packets are compared.
const WITHOUT: &str = "no policy engine";
/// How far a control may stray from 1.
pub const CONTROL: f64 = 0.02;

/// What a figure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Tested to base.
    Ratio,
    /// Base to tested: how many times less.
    Times,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// A number of things.
    Count,
}

impl Unit {
    /// Whether it compares two arms.
    #[must_use]
    pub fn compares(self) -> bool {
        matches!(self, Unit::Ratio | Unit::Times)
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Ratio => "ratio",
            Unit::Times => "times",
            Unit::Micros => "microseconds",
            Unit::Millis => "milliseconds",
            Unit::Count => "count",
        }
    }

    /// A figure of it, as a reader wants it.
    #[must_use]
    pub fn show(self, figure: f64) -> String {
        match self {
            Unit::Ratio => format!("{figure:.3}"),
            Unit::Times if figure < 10.0 => format!("{figure:.1} x"),
            Unit::Times => format!("{figure:.0} x"),
            Unit::Micros if figure < 10.0 => format!("{figure:.2} µs"),
            Unit::Micros => format!("{figure:.0} µs"),
            Unit::Millis => format!("{figure:.2} ms"),
            Unit::Count => format!("{figure:.0}"),
        }
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// No more.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
}

impl Target {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Target::AtMost(limit) => figure <= limit,
            Target::AtLeast(limit) => figure >= limit,
        }
    }

    fn show(self, unit: Unit) -> String {
        let limit = |figure: f64| match unit {
            Unit::Ratio => {
                let digits = format!("{figure:.3}");
                digits.strip_suffix('0').map_or(digits.clone(), str::to_owned)
            }
            Unit::Micros | Unit::Millis if figure.fract() == 0.0 => {
                format!("{figure:.0} {}", if unit == Unit::Micros { "µs" } else { "ms" })
            }
            _ => unit.show(figure),
        };
        match self {
            Target::AtMost(figure) => format!("<= {}", limit(figure)),
            Target::AtLeast(figure) => format!(">= {}", limit(figure)),
        }
    }
}

/// What there is to say of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Met,
    /// Not so.
    Missed,
    /// The control strayed: measure again on a machine at rest.
    Unproven,
    /// For comparison only.
    Shown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Unproven => "unproven",
            Verdict::Shown => "",
        })
    }
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// A word for programs, and for choosing rows: the same for all that are measured together.
    pub group: &'static str,
    /// What is measured.
    pub title: String,
    /// Under which backend, where that makes a difference.
    pub backend: Option<Backend>,
    /// What came of it.
    pub figure: f64,
    /// Its quartiles.
    pub spread: Option<(f64, f64)>,
    /// What it is in.
    pub unit: Unit,
    /// The ratio of an arm against itself.
    pub control: Option<f64>,
    /// What it should be.
    pub target: Option<Target>,
    /// What it was compared with.
    pub against: String,
    /// Both arms as they are, in words; figures of this machine.
    pub absolute: String,
}

impl Row {
    /// A line of two arms, in nanoseconds.
    #[must_use]
    pub fn of_duel(group: &'static str, title: &str, backend: Backend, duel: &Duel) -> Self {
        Self {
            group,
            title: title.to_owned(),
            backend: Some(backend),
            figure: duel.ratio.middle,
            spread: Some((duel.ratio.low, duel.ratio.high)),
            unit: Unit::Ratio,
            control: Some(duel.control.middle),
            target: None,
            against: WITHOUT.to_owned(),
            absolute: format!("{:.2} µs to {:.2} µs", duel.base / 1e3, duel.tested / 1e3),
        }
    }

    /// A line of one figure.
    #[must_use]
    pub fn of_figure(group: &'static str, title: &str, unit: Unit, figure: f64) -> Self {
        Self {
            group,
            title: title.to_owned(),
            backend: None,
            figure,
            spread: None,
            unit,
            control: None,
            target: None,
            against: String::new(),
            absolute: String::new(),
        }
    }

    /// The same under a backend.
    #[must_use]
    pub fn under(self, backend: Backend) -> Self {
        Self { backend: Some(backend), ..self }
    }

    /// The same with quartiles.
    #[must_use]
    pub fn within(self, spread: Spread) -> Self {
        Self { spread: Some((spread.low, spread.high)), ..self }
    }

    /// The same with what it should be.
    #[must_use]
    pub fn aiming(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// The same with what it was compared with.
    #[must_use]
    pub fn against(self, what: &str) -> Self {
        Self { against: what.to_owned(), ..self }
    }

    /// The same with its arms in words.
    #[must_use]
    pub fn showing(self, absolute: String) -> Self {
        Self { absolute, ..self }
    }

    /// What there is to say of it. Of a control of its own and a target that even the strayed control would
    /// not have changed nothing is made: unproven is unproven.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let strayed = self.control.is_some_and(|control| (control - 1.0).abs() > CONTROL);
        match self.target {
            _ if strayed || self.figure.is_nan() => Verdict::Unproven,
            None => Verdict::Shown,
            Some(target) if target.is_met_by(self.figure) => Verdict::Met,
            Some(_) => Verdict::Missed,
        }
    }

    /// What a reader of a list calls it.
    fn name(&self) -> String {
        match self.backend_word() {
            "" => self.title.trim().to_owned(),
            backend => format!("{}, {backend}", self.title.trim()),
        }
    }

    fn backend_word(&self) -> &'static str {
        match self.backend {
            Some(Backend::Nft) => "nft",
            Some(Backend::Legacy) => "legacy",
            None => "",
        }
    }
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// Whether little was measured, for a first look.
    pub quick: bool,
    /// In the order of measuring.
    pub rows: Vec<Row>,
}

impl Report {
    /// For a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        table::table(self)
    }

    /// For a document, with what was missed named beneath.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::markdown(self)
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json::json(self)
    }

    /// For the README.
    #[must_use]
    pub fn chart(&self) -> String {
        chart::chart(self)
    }

    /// The rows that came out so, each by its name, its figure and its target. The name of one that is
    /// shown beneath another begins with that one's.
    #[must_use]
    pub fn named(&self, verdict: Verdict) -> Vec<String> {
        let mut above = "";
        let mut named = Vec::new();
        for row in &self.rows {
            let beneath = row.title.starts_with(' ');
            if !beneath {
                above = &row.title;
            }
            if row.verdict() != verdict {
                continue;
            }
            let name = if beneath { format!("{above}: {}", row.name()) } else { row.name() };
            let target = row.target.map(|target| format!(" ({})", target.show(row.unit)));
            let figure = row.unit.show(row.figure);
            named.push(format!("{name} {figure}{}", target.unwrap_or_default()));
        }
        named
    }
}

#[cfg(test)]
mod tests;
