//! The ports of a rule, strictly, and what ports have in common wherever they are written.

use std::num::NonZeroU16;

use super::report::{Field, Mapping, Report, Schema};
use super::suggest::nearest;
use crate::document::Value;
use crate::policy::{PortMatch, PortNumbers, Ports};
use crate::port::{PortName, PortRange, Protocol};

const PORT: Schema = Schema {
    what: "an item of `ports`",
    fields: &["protocol", "port", "endPort"],
    misplaced: &[
        ("containerPort", "write `port`"),
        ("targetPort", "write `port`: the one on the pod"),
        ("name", "write `port`: a name may stand there"),
        ("from", "put it beside `ports`"),
        ("to", "put it beside `ports`"),
    ],
};

/// The `ports` of a rule; `None` where they are invalid, which has then been reported.
pub(super) fn ports(rule: &Mapping<'_>, report: &mut Report<'_>) -> Option<Ports> {
    let Some(field) = rule.get("ports") else { return Some(Ports::Any) };
    let items = report.list(&field)?;
    if items.is_empty() {
        return Some(Ports::Any);
    }
    // Every item is looked at before the first failure counts, so that all are reported at once.
    let ports: Vec<Option<PortMatch>> = items.iter().map(|item| port(item, report)).collect();
    ports.into_iter().collect::<Option<Vec<PortMatch>>>().map(Ports::Listed)
}

fn port(field: &Field<'_>, report: &mut Report<'_>) -> Option<PortMatch> {
    if field.node.is_null() {
        let help = "write `{}` for every TCP port, or remove the item".to_owned();
        report.error(field, "an empty item is no port", Some(help));
        return None;
    }
    let mark = report.mark();
    let mapping = report.strict(field, &PORT)?;
    let protocol = protocol(&mapping, report);
    let numbers = numbers(&mapping, report);
    let location = report.location(field.node.position);
    if report.failed_since(mark) {
        return None;
    }
    Some(PortMatch { protocol: protocol?, numbers: numbers?, location })
}

/// The protocol of `mapping`, TCP where it is absent; `None` where it is invalid.
fn protocol(mapping: &Mapping<'_>, report: &mut Report<'_>) -> Option<Protocol> {
    let Some(field) = mapping.get("protocol") else { return Some(Protocol::Tcp) };
    let text = report.text(&field)?;
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == text);
    if known.is_none() {
        let help = nearest(text, &["TCP", "UDP", "SCTP"]).map_or_else(
            || "the protocols are `TCP`, `UDP` and `SCTP`".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        report.error(&field, format!("`{text}` is no protocol"), Some(help));
    }
    known
}

/// The protocol as objects other than policies have it: the empty text is absent too.
pub(super) fn declared_protocol(
    mapping: &Mapping<'_>,
    report: &mut Report<'_>,
) -> Option<Protocol> {
    let unset = mapping.get("protocol").is_none_or(|field| field.node.as_str() == Some(""));
    if unset { Some(Protocol::Tcp) } else { protocol(mapping, report) }
}

fn numbers(mapping: &Mapping<'_>, report: &mut Report<'_>) -> Option<PortNumbers> {
    let end = mapping.get("endPort");
    let Some(field) = mapping.get("port") else {
        let Some(end) = end else { return Some(PortNumbers::Any) };
        report.error(&end, "an endPort needs a numeric port to begin with", None);
        return None;
    };
    let port = number_or_name(&field, report);
    let Some(end) = end else { return port.map(NumberOrName::into_numbers) };
    let last = number(&end, report);
    let first = match port? {
        NumberOrName::Number(first) => first,
        NumberOrName::Name(name) => {
            let message = format!("an endPort needs a numeric port to begin with, not `{name}`");
            report.error(&end, message, None);
            return None;
        }
    };
    let range = PortRange::new(first, last?);
    if range.is_none() {
        report.error(&end, format!("must not be below the port, {first}"), None);
    }
    range.map(PortNumbers::Range)
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NumberOrName {
    Number(NonZeroU16),
    Name(PortName),
}

impl NumberOrName {
    fn into_numbers(self) -> PortNumbers {
        match self {
            NumberOrName::Number(number) => PortNumbers::single(number),
            NumberOrName::Name(name) => PortNumbers::Named(name),
        }
    }
}

/// A port that may be a number, or text and so a name.
pub(super) fn number_or_name(field: &Field<'_>, report: &mut Report<'_>) -> Option<NumberOrName> {
    let text = match &field.node.value {
        Value::String(text) => text,
        Value::Int(_) => return number(field, report).map(NumberOrName::Number),
        _ => {
            let message = format!("must be a whole number or a name, is {}", field.node.kind());
            report.error(field, message, None);
            return None;
        }
    };
    match PortName::new(text) {
        Ok(name) => Some(NumberOrName::Name(name)),
        Err(error) => {
            let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
            if plain {
                let message = format!(
                    "`\"{text}\"` in quotes is a port name, and a port name must have a letter"
                );
                report.error(field, message, Some(format!("write {text} without quotes")));
            } else {
                report.error(field, error, range_help(text));
            }
            None
        }
    }
}

/// What to write for `8000-8010`.
fn range_help(text: &str) -> Option<String> {
    let (first, last) = text.split_once(['-', ':'])?;
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    Some(format!("a range is `port: {first}` with `endPort: {last}`"))
}

/// A port number.
pub(super) fn number(field: &Field<'_>, report: &mut Report<'_>) -> Option<NonZeroU16> {
    let integer = report.integer(field)?;
    let number = u16::try_from(integer).ok().and_then(NonZeroU16::new);
    if number.is_none() {
        report.error(field, format!("{integer} is no port number: they go from 1 to 65535"), None);
    }
    number
}
