//! Diagnostics on standard error, with the line that they speak of.
//!
//! ```text
//! error: NetworkPolicy shop/web: spec.ingress[0].form: unknown field
//!   --> web.yaml:9:5
//!    |
//!  9 |   - form:
//!    |     ^^^^
//!    = help: did you mean `from`?
//! ```

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::Location;
use policy_compiler::lint::Related;
use policy_manifest::input::InputError;
use policy_manifest::source::{self, Sources};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::error::CommandError;
use crate::text::STRONG;

/// The margin with line numbers and bars.
const MARGIN: Style = AnsiColor::Blue.on_default().bold();

/// The style of a severity.
#[must_use]
pub fn style_of(severity: Severity) -> Style {
    match severity {
        Severity::Error => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
        Severity::Note => AnsiColor::Cyan.on_default().bold(),
    }
}

/// `diagnostic` as text with its source line, ending in a line end.
#[must_use]
pub fn diagnostic(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let mut message = String::new();
    if let Some(object) = &diagnostic.object {
        let _ = write!(message, "{object}: ");
    }
    if !diagnostic.field.is_empty() {
        let _ = write!(message, "{}: ", diagnostic.field);
    }
    message.push_str(&diagnostic.message);
    let place = quote(&diagnostic.location, style_of(diagnostic.severity), sources);
    entry(diagnostic.severity, &message, place.as_deref(), diagnostic.help.as_deref())
}

/// Why an input cannot be read, with the line that it speaks of.
#[must_use]
pub fn input_error(error: &InputError, sources: &Sources) -> String {
    let style = style_of(Severity::Error);
    match error {
        InputError::Yaml { error: yaml, .. } => {
            let place = match &yaml.line {
                Some(line) => quote_line(&error.location(), style, line),
                None => quote(&error.location(), style, sources),
            };
            entry(Severity::Error, &yaml.kind.to_string(), place.as_deref(), None)
        }
        InputError::NotAnObject { diagnostic: found } => diagnostic(found, sources),
        other => entry(Severity::Error, &other.to_string(), None, None),
    }
}

/// `error` with its causes as text, ending in a line end.
#[must_use]
pub fn command_error(error: &CommandError) -> String {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // Some libraries say in an error what its cause says.
        let cause_text = cause.to_string();
        if !message.ends_with(&cause_text) {
            let _ = write!(message, ": {cause_text}");
        }
        source = cause.source();
    }
    entry(Severity::Error, &message, None, error.help().as_deref())
}

/// A finding with the id of its rule: as a diagnostic, with other places that have a part in it below.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// How much it matters.
    pub severity: Severity,
    /// The id of the rule.
    pub code: Option<&'a str>,
    /// What is wrong.
    pub message: &'a str,
    /// Where.
    pub location: Option<&'a Location>,
    /// How to mend it.
    pub fix: Option<&'a str>,
}

impl Entry<'_> {
    /// The entry as text with its source line, ending in a line end.
    #[must_use]
    pub fn text(&self, sources: &Sources, related: &[Related]) -> String {
        let style = style_of(self.severity);
        let place = self.location.and_then(|location| quote(location, style, sources));
        let mut out = coded(self.severity, self.code, self.message, place.as_deref(), self.fix);
        let gutter = place.as_deref().map_or_else(|| "  ".to_owned(), gutter_of);
        for related in related.iter().take(RELATED) {
            let place = related.location.to_string();
            if !place.is_empty() {
                let _ = writeln!(
                    out,
                    "{gutter}{MARGIN}={MARGIN:#} {STRONG}see{STRONG:#}: {place}: {}",
                    related.message
                );
            }
        }
        out
    }
}

/// How many related places are shown to people.
const RELATED: usize = 3;

/// One entry: a headline, where it is, what to do about it.
#[must_use]
pub fn entry(severity: Severity, message: &str, place: Option<&str>, help: Option<&str>) -> String {
    coded(severity, None, message, place, help)
}

fn coded(
    severity: Severity,
    code: Option<&str>,
    message: &str,
    place: Option<&str>,
    help: Option<&str>,
) -> String {
    let style = style_of(severity);
    let code = code.map(|code| format!("[{code}]")).unwrap_or_default();
    let mut out = format!("{style}{severity}{code}{style:#}{STRONG}: {message}{STRONG:#}\n");
    if let Some(place) = place {
        out.push_str(place);
    }
    match (place, help) {
        (Some(place), Some(help)) => {
            let gutter = gutter_of(place);
            let _ = writeln!(out, "{gutter}{MARGIN}={MARGIN:#} {STRONG}help{STRONG:#}: {help}");
        }
        (None, Some(help)) => {
            let _ = writeln!(out, "  {MARGIN}={MARGIN:#} {STRONG}help{STRONG:#}: {help}");
        }
        (_, None) => {}
    }
    out
}

/// The spaces before the bar of an already quoted place.
fn gutter_of(place: &str) -> String {
    let plain = anstream::adapter::strip_str(place).to_string();
    let arrow = plain.find("-->").unwrap_or(1);
    " ".repeat(arrow + 1)
}

/// ` --> file:line:column` and the line with what stands there underlined; nothing where the place
/// is not known.
fn quote(location: &Location, style: Style, sources: &Sources) -> Option<String> {
    let text = location.file.as_deref().and_then(|file| sources.text(file));
    let line = location.position.and_then(|p| source::line(text?, p.line));
    match line {
        Some(line) => quote_line(location, style, line),
        None => arrow(location),
    }
}

/// The arrow alone.
fn arrow(location: &Location) -> Option<String> {
    let shown = location.to_string();
    let digits = location.position.map_or(1, |p| p.line.to_string().len());
    let pad = " ".repeat(digits);
    (!shown.is_empty()).then(|| format!("{pad} {MARGIN}-->{MARGIN:#} {shown}\n"))
}

/// The arrow, then `line` with what stands at the place underlined.
fn quote_line(location: &Location, style: Style, line: &str) -> Option<String> {
    let mut out = arrow(location)?;
    let Some(position) = location.position else { return Some(out) };
    let number = position.line.to_string();
    let pad = " ".repeat(number.len());
    let column = usize::try_from(position.column).unwrap_or(1).saturating_sub(1);
    let before: String = line.chars().take(column).map(blank).collect();
    let carets = "^".repeat(token(line, column).width().max(1));
    let shown: String = line.trim_end().chars().map(source::printable).collect();
    let bar = format!("{MARGIN}|{MARGIN:#}");
    let _ = writeln!(out, "{pad}  {bar}");
    let _ = writeln!(out, " {MARGIN}{number}{MARGIN:#} {bar} {shown}");
    let _ = writeln!(out, "{pad}  {bar} {before}{style}{carets}{style:#}");
    Some(out)
}

/// As many spaces as `c` is wide; a tab is shown as one.
fn blank(c: char) -> &'static str {
    if c.width() == Some(2) { "  " } else { " " }
}

/// The key, quoted text or word that begins at `column` of `line`.
fn token(line: &str, column: usize) -> String {
    let rest: String = line.chars().skip(column).collect();
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let end = rest.chars().skip(1).position(|c| c == quote);
            rest.chars().take(end.map_or(1, |e| e + 2)).collect()
        }
        Some('{' | '[') => rest.trim_end().to_owned(),
        _ => {
            let end = rest.find(": ").or_else(|| rest.strip_suffix(':').map(str::len));
            let word = &rest[..end.unwrap_or(rest.len())];
            let word = word.split(" #").next().unwrap_or(word);
            word.split([',', '}', ']']).next().unwrap_or(word).trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::diagnostic::ObjectRef;
    use policy_compiler::document::Position;
    use std::sync::Arc;

    fn at(line: u32, column: u32) -> Location {
        Location { file: Some(Arc::from("web.yaml")), position: Some(Position { line, column }) }
    }

    fn shown(location: Location, text: &str) -> String {
        let mut sources = Sources::default();
        sources.insert(Arc::from("web.yaml"), Arc::from(text));
        let finding = Diagnostic {
            location,
            object: Some(ObjectRef {
                kind: "NetworkPolicy".into(),
                namespace: Some("shop".into()),
                name: "web".into(),
            }),
            field: "spec.ingress[0].form".into(),
            severity: Severity::Error,
            message: "unknown field".into(),
            help: Some("did you mean `from`?".into()),
        };
        anstream::adapter::strip_str(&diagnostic(&finding, &sources)).to_string()
    }

    #[test]
    fn the_line_is_quoted_and_the_key_underlined() {
        let text = "a: 1\n  - form: []\n";
        assert_eq!(
            shown(at(2, 5), text),
            "error: NetworkPolicy shop/web: spec.ingress[0].form: unknown field\n\
             \x20 --> web.yaml:2:5\n   |\n 2 |   - form: []\n   |     ^^^^\n\
             \x20  = help: did you mean `from`?\n"
        );
    }

    #[test]
    fn a_place_beyond_the_text_is_named_without_a_quotation() {
        assert_eq!(
            shown(at(9, 1), "a: 1\n"),
            "error: NetworkPolicy shop/web: spec.ingress[0].form: unknown field\n\
             \x20 --> web.yaml:9:1\n   = help: did you mean `from`?\n"
        );
    }

    #[test]
    fn a_token_ends_where_its_yaml_does() {
        for (line, column, token_there) in [
            ("key: value # why", 0, "key"),
            ("key: value # why", 5, "value"),
            ("key: \"a: b\" x", 5, "\"a: b\""),
            ("{a: 10.0.0.0/8, b: c}", 4, "10.0.0.0/8"),
            ("ports:", 0, "ports"),
            ("  - {}", 4, "{}"),
        ] {
            assert_eq!(token(line, column), token_there, "{line:?} at {column}");
        }
    }
}
