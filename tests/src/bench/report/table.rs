//! The table for a terminal.

use std::fmt::Write as _;

use super::{Report, Row};

const HEAD: [&str; 8] =
    ["figure", "backend", "measured", "quartiles", "control", "target", "", "against"];

/// The whole, with the machine first and what the verdicts mean last.
pub(super) fn table(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{}, {} processors, kernel {}, iptables {}, ipset {}\n\n",
        machine.processor, machine.processors, machine.kernel, machine.iptables, machine.ipset
    );
    let cells: Vec<[String; 8]> = report.rows.iter().map(cells).collect();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        let width = |row: &[String; 8]| row.get(column).map_or(0, |cell| cell.chars().count());
        let head = HEAD.get(column).map_or(0, |word| word.len());
        cells.iter().map(width).max().unwrap_or(0).max(head)
    });
    line(&mut text, &HEAD.map(str::to_owned), &widths);
    line(&mut text, &widths.map(|width| "-".repeat(width)), &widths);
    for row in &cells {
        line(&mut text, row, &widths);
    }
    text.push_str(
        "\nmeasured is the median of the ratios of neighbouring blocks; control is one arm against itself,\n\
         and beside one that strays more than 2 % from 1 nothing is proven. controller/docs/benchmarks.md\n\
         says what each figure is.\n",
    );
    if report.quick {
        text.push_str("QUICK: a first look, with too few samples to rely on.\n");
    }
    text
}

fn cells(row: &Row) -> [String; 8] {
    let spread = row.spread.map(|(low, high)| {
        let unit = row.unit;
        format!("{} .. {}", unit.show(low), unit.show(high))
    });
    let against = match (row.against.as_str(), row.absolute.as_str()) {
        (against, "") => against.to_owned(),
        ("", absolute) => absolute.to_owned(),
        (against, absolute) => format!("{against} ({absolute})"),
    };
    [
        row.title.clone(),
        row.backend_word().to_owned(),
        row.unit.show(row.figure),
        spread.unwrap_or_default(),
        row.control.map(|control| format!("{control:.3}")).unwrap_or_default(),
        row.target.map(|target| target.show(row.unit)).unwrap_or_default(),
        row.verdict().to_string(),
        against,
    ]
}

fn line(text: &mut String, cells: &[String; 8], widths: &[usize; 8]) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{cell:width$}  ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
