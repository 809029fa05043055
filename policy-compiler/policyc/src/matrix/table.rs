//! The matrix for spreadsheets and for pages.

use std::fmt::Write as _;

use policy_compiler::cidr::Family;
use policy_compiler::reach::Party;

use crate::answer::Outcome;
use crate::can::Port;

use super::answer::folded;
use super::text::{CHOICES, brief};
use super::{Content, Exchange, Grid};

/// One record a pair of parties and family, RFC 4180.
#[must_use]
pub fn csv(grid: &Grid) -> String {
    let mut out = "from,to,families,decision,allowed,partly,unknown,certainty\r\n".to_owned();
    let names = |parties: &[Party]| -> Vec<String> {
        parties.iter().map(|party| quoted(&party.to_string())).collect()
    };
    let (from, to) = (names(&grid.from), names(&grid.to));
    // Many pairs have the same.
    let told: Vec<Vec<String>> =
        grid.contents.iter().map(|content| records(content, grid.port.as_ref())).collect();
    for (from, cells) in from.iter().zip(&grid.cells) {
        for (to, index) in to.iter().zip(cells) {
            let told = index.and_then(|index| told.get(index));
            for record in told.into_iter().flatten() {
                for part in [from.as_str(), ",", to.as_str(), ",", record.as_str(), "\r\n"] {
                    out.push_str(part);
                }
            }
        }
    }
    out
}

/// What is said of a pair, a record for the families that fare alike.
fn records(content: &Content, port: Option<&Port>) -> Vec<String> {
    let record = |(families, exchange): (Vec<Family>, &Exchange)| {
        let alone = Content {
            itself: content.itself,
            families: families.iter().map(|f| (*f, exchange.clone())).collect(),
        };
        let decision = match port {
            Some(port) => alone.outcome_of(port),
            None => alone.outcome(),
        };
        let families: Vec<String> = families.iter().map(ToString::to_string).collect();
        let fields = [
            families.join(" "),
            word(decision).to_owned(),
            exchange.all.to_string(),
            exchange.partly.to_string(),
            exchange.unknown.to_string(),
            if alone.certainty(port).is_undefined() { "undefined" } else { "specified" }.to_owned(),
        ];
        fields.map(|field| quoted(&field)).join(",")
    };
    folded(content).into_iter().map(record).collect()
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Partly => "partly",
        Outcome::Unknown => "unknown",
    }
}

/// A field, quoted where it must be. What a spreadsheet would take for a formula cannot come: names and
/// traffic begin with letters and digits.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// A table as GitHub reads it.
#[must_use]
pub fn markdown(grid: &Grid) -> String {
    let mut out = "| from \\ to |".to_owned();
    for party in &grid.to {
        let _ = write!(out, " {} |", escaped(&party.to_string()));
    }
    out.push_str("\n| :-- |");
    out.push_str(&" :-- |".repeat(grid.to.len()));
    out.push('\n');
    let told = |content: &Content| {
        let lines = brief(content, grid.port.as_ref());
        let lines: Vec<String> = lines.iter().map(|(_, text)| escaped(text)).collect();
        lines.join("<br>")
    };
    let told: Vec<String> = grid.contents.iter().map(told).collect();
    for (party, cells) in grid.from.iter().zip(&grid.cells) {
        let _ = write!(out, "| **{}** |", escaped(&party.to_string()));
        for index in cells {
            let told = index.and_then(|index| told.get(index)).map_or("", String::as_str);
            let _ = write!(out, " {told} |");
        }
        out.push('\n');
    }
    for note in &grid.notes {
        let _ = write!(out, "\n{}\n", escaped(note));
    }
    if grid.is_marked() {
        let _ = write!(out, "\n{CHOICES}\n");
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('_', "\\_")
}
