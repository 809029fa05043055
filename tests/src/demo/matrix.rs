//! Two matrices of who reaches whom, side by side.

use std::fmt::Write as _;

/// What came of a client and a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Connected, over every family.
    Open,
    /// Not connected, over none.
    Shut,
    /// Over one family alone.
    Partly,
    /// Client and service are one pod, or have no family in common.
    Itself,
}

impl Cell {
    /// The cell of what came of each family.
    pub(super) fn of(families: impl Iterator<Item = bool>) -> Self {
        let mut seen = [false; 2];
        for open in families {
            seen[usize::from(open)] = true;
        }
        match seen {
            [false, false] => Cell::Itself,
            [true, false] => Cell::Shut,
            [false, true] => Cell::Open,
            [true, true] => Cell::Partly,
        }
    }
}

/// Colours, or none.
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn cell(&self, cell: Cell) -> String {
        match cell {
            Cell::Open => self.green("✓"),
            Cell::Shut => self.red("✗"),
            Cell::Partly => self.with("33", "½"),
            Cell::Itself => self.faint("·"),
        }
    }

    /// The closing word on connections that were not as the policies say.
    pub(super) fn verdict(&self, wrong: &[String]) -> String {
        if wrong.is_empty() {
            return self.green("Every connection did what policyc says it would.");
        }
        self.red(&format!("Not as the policies say:\n  {}", wrong.join("\n  ")))
    }
}

/// What is drawn.
pub(super) struct Matrix<'a> {
    pub(super) rows: &'a [String],
    pub(super) columns: &'a [String],
    pub(super) before: &'a [Vec<Cell>],
    pub(super) after: &'a [Vec<Cell>],
}

/// Columns of characters that a cell takes.
const CELL: usize = 3;

impl Matrix<'_> {
    /// The text, every line ended.
    pub(super) fn draw(&self, paint: &Paint) -> String {
        let label = self.rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
        let width = CELL * self.columns.len();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:label$}  {}   {}",
            "",
            paint.bold(&format!("{:width$}", " BEFORE: nobody polices")),
            paint.bold(" AFTER: policyd does")
        );
        let numbers = (1..=self.columns.len()).fold(String::new(), |mut line, number| {
            let _ = write!(line, "{number:>CELL$}");
            line
        });
        let _ = writeln!(
            text,
            "{}  {}   {}",
            paint.faint(&format!("{:>label$}", "from \\ to")),
            paint.faint(&numbers),
            paint.faint(&numbers)
        );
        for ((row, before), after) in self.rows.iter().zip(self.before).zip(self.after) {
            let cells = |cells: &[Cell]| -> String {
                cells.iter().map(|cell| ["  ", &paint.cell(*cell)].concat()).collect()
            };
            let _ = writeln!(text, "{row:>label$}  {}   {}", cells(before), cells(after));
        }
        let _ = writeln!(text, "\n{}", self.legend(paint));
        text
    }

    fn legend(&self, paint: &Paint) -> String {
        let width = self.columns.iter().map(|column| column.chars().count()).max().unwrap_or(0);
        let half = self.columns.len().div_ceil(2);
        let entry = |index: usize| {
            let column = self.columns.get(index)?;
            Some(format!("{:>4} {column:width$}", index + 1))
        };
        let mut lines: Vec<String> = (0..half)
            .map(|index| {
                let pair = [entry(index), entry(index + half)];
                pair.into_iter().flatten().collect::<Vec<_>>().join(" ").trim_end().to_owned()
            })
            .collect();
        lines.push(format!(
            "   {} connected   {} not connected   {} over one of IPv4 and IPv6   {} itself",
            paint.cell(Cell::Open),
            paint.cell(Cell::Shut),
            paint.cell(Cell::Partly),
            paint.cell(Cell::Itself)
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_matrices_stand_side_by_side_over_a_legend() {
        let rows = ["x/a", "the node"].map(str::to_owned);
        let columns = ["x/a 80/TCP", "x/b 53/UDP", "x/b 80/TCP"].map(str::to_owned);
        let before =
            [vec![Cell::Itself, Cell::Open, Cell::Open], vec![Cell::Open, Cell::Open, Cell::Open]];
        let after = [
            vec![Cell::Itself, Cell::Shut, Cell::Partly],
            vec![Cell::Open, Cell::Open, Cell::Open],
        ];
        let drawn = Matrix { rows: &rows, columns: &columns, before: &before, after: &after };
        let expected = [
            "           BEFORE: nobody polices    AFTER: policyd does",
            "from \\ to    1  2  3     1  2  3",
            "     x/a    ·  ✓  ✓     ·  ✗  ½",
            "the node    ✓  ✓  ✓     ✓  ✓  ✓",
            "",
            "   1 x/a 80/TCP    3 x/b 80/TCP",
            "   2 x/b 53/UDP",
            "   ✓ connected   ✗ not connected   ½ over one of IPv4 and IPv6   · itself",
            "",
        ];
        assert_eq!(drawn.draw(&Paint { colour: false }), expected.join("\n"));
    }
}
