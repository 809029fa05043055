//! The rules explained: one, all in a list, all in a page.

use std::fmt::Write as _;

use policy_compiler::lint::Rule;

use crate::error::CommandError;
use crate::text::{DIM, HEADING, STRONG};

/// What `--explain` without a rule stands for.
const LIST: &str = "list";

/// The explanation of the rule of that id, or the list of all.
///
/// # Errors
/// Where there is no such rule.
pub fn explain(id: &str) -> Result<String, CommandError> {
    if id == LIST {
        return Ok(list());
    }
    let rule = super::rule(id)?;
    let mut out = format!(
        "{STRONG}{rule}: {}{STRONG:#}  {}\n\n{}\n",
        rule.title(),
        rule.severity(),
        rule.page()
    );
    for (title, example) in [("Wrong", rule.wrong()), ("Right", rule.right())] {
        let _ = writeln!(out, "\n{HEADING}{title}{HEADING:#}\n");
        for line in example.lines() {
            let indented = format!("    {line}");
            let _ = writeln!(out, "{}", indented.trim_end());
        }
    }
    let _ = writeln!(
        out,
        "\n{DIM}To ignore a finding: `# policyc:ignore {rule} WHY` on its line or above it.{DIM:#}"
    );
    Ok(out)
}

fn list() -> String {
    let mut out = String::new();
    for rule in Rule::ALL {
        let _ = writeln!(
            out,
            "{STRONG}{rule}{STRONG:#}  {:<8} {}",
            rule.severity().to_string(),
            rule.title()
        );
    }
    out
}

/// The reference of all rules, as Markdown: `docs/lint.md` holds it.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(include_str!("reference.md"));
    out.push_str("\n| rule | severity | what it finds |\n| --- | --- | --- |\n");
    for rule in Rule::ALL {
        let _ = writeln!(
            out,
            "| [{rule}](#{}) | {} | {} |",
            anchor(*rule),
            rule.severity(),
            rule.title()
        );
    }
    for rule in Rule::ALL {
        let _ = write!(out, "\n{}", rule.explanation());
    }
    out
}

/// How a heading is linked to: its letters, digits and spaces.
fn anchor(rule: Rule) -> String {
    let heading = format!("{rule}: {}", rule.title()).to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
