//! The matrix for spreadsheets and for pages.

use std::fmt::Write as _;

use crate::answer::Outcome;

use super::answer::folded;
use super::text::brief;
use super::{Content, Grid};

/// One record a pair of parties and family, RFC 4180.
#[must_use]
pub fn csv(grid: &Grid) -> String {
    let mut out = "from,to,families,decision,allowed,partly,unknown\r\n".to_owned();
    for (row, from) in grid.from.iter().enumerate() {
        for (column, to) in grid.to.iter().enumerate() {
            let Some(content) = grid.content(row, column) else { continue };
            for (families, exchange) in folded(content) {
                let alone = Content {
                    itself: content.itself,
                    families: families.iter().map(|f| (*f, exchange.clone())).collect(),
                };
                let decision = match &grid.port {
                    Some(port) => alone.outcome_of(port),
                    None => alone.outcome(),
                };
                let families: Vec<String> = families.iter().map(ToString::to_string).collect();
                let fields = [
                    from.to_string(),
                    to.to_string(),
                    families.join(" "),
                    word(decision).to_owned(),
                    exchange.all.to_string(),
                    exchange.partly.to_string(),
                    exchange.unknown.to_string(),
                ];
                let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
                out.push_str(&fields.join(","));
                out.push_str("\r\n");
            }
        }
    }
    out
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
    for (row, party) in grid.from.iter().enumerate() {
        let _ = write!(out, "| **{}** |", escaped(&party.to_string()));
        for column in 0..grid.to.len() {
            let lines = match grid.content(row, column) {
                Some(content) => brief(content, grid.port.as_ref()),
                None => Vec::new(),
            };
            let lines: Vec<String> = lines.iter().map(|(_, text)| escaped(text)).collect();
            let _ = write!(out, " {} |", lines.join("<br>"));
        }
        out.push('\n');
    }
    for note in &grid.notes {
        let _ = write!(out, "\n{}\n", escaped(note));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('_', "\\_")
}
