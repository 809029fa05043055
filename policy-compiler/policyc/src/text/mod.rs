//! Text for people: styled lines, tables that fit the terminal, and the styles that all commands
//! share.
//!
//! Everything is laid out with its styles; the stream that it is written to strips them where no
//! terminal would show them. So what a pipe gets and what a terminal shows differ in colour alone.

mod line;
mod table;

pub use line::{Line, wrap};
pub use table::{Column, Table};

use anstyle::{AnsiColor, Style};

use crate::answer::Place;
use crate::live::LIVE;

/// Names of objects, and what a person looks for first.
pub const STRONG: Style = Style::new().bold();
/// Places and other things that are there if needed.
pub const DIM: Style = Style::new().dimmed();
/// What is allowed, what passed.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What is denied, what failed.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What is uncertain or deserves a look.
pub const DOUBT: Style = AnsiColor::Yellow.on_default();
/// Headings of sections.
pub const HEADING: Style = AnsiColor::Cyan.on_default().bold();
/// No style at all.
pub const PLAIN: Style = Style::new();

/// How wide text may be where the output is no terminal.
pub const DEFAULT_WIDTH: usize = 100;

/// How an answer is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The columns that there are.
    pub width: usize,
    /// What file names begin with and need not show.
    pub directory: String,
}

impl Layout {
    /// `cart.yaml:52`; nothing where the place is not known, or is the cluster, which has no lines.
    #[must_use]
    pub fn place(&self, place: Option<&Place>) -> Line {
        place.filter(|place| place.line.is_some() || &*place.file != LIVE).map_or_else(
            Line::default,
            |place| {
                let file = place.file.strip_prefix(&self.directory).unwrap_or(&place.file);
                let file = straight(file);
                Line::of(
                    DIM,
                    match place.line {
                        Some(line) => format!("{file}:{line}"),
                        None => file,
                    },
                )
            },
        )
    }
}

/// A path without detours: `cases/../shop/a.yaml` is `shop/a.yaml`.
fn straight(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match (part, parts.last()) {
            ("..", Some(last)) if !matches!(*last, "" | "." | "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The width of the terminal that standard output is, or what `COLUMNS` says where it is none, or
/// [`DEFAULT_WIDTH`].
#[must_use]
pub fn width_of_stdout() -> usize {
    let wide = terminal_size::terminal_size_of(std::io::stdout()).map(|(w, _)| usize::from(w.0));
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    wide.or_else(said).map_or(DEFAULT_WIDTH, |w| w.clamp(40, 200))
}

/// `1 policy`, `2 policies`.
#[must_use]
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// `a`, `a and b`, `a, b and c`, with `last` as the last joint.
#[must_use]
pub fn join(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}
